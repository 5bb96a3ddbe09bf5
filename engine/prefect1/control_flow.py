"""Prefect 1's control flow, drawn: ``case``, ``switch``, ``ifelse``, ``merge``, ``apply_map``, ``FilterTask``.

A branch that is not taken is skipped: a task that compares a value raises ``SKIP`` before it, and skips go on to what
comes after, up to a ``merge``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from .. import context
from ..authoring.annotations import unmapped
from ..authoring.drawable import Drawable
from ..authoring.tags import tags
from ..authoring.tasks import Task
from .graph import Graph, TaskNode, graph_for
from .parameters import Node, Parameter
from .signals import SKIP
from .triggers import all_finished, not_all_skipped
from .wiring import is_unmapped, is_wrapped, nodes_in, replaced_nodes

__all__ = ["Block", "FilterTask", "apply_map", "case", "ifelse", "merge", "switch"]


class Block:
    """A block within a flow's: told of each node that is drawn while it is open."""

    graph: Graph

    def __init__(self) -> None:
        self.nodes: dict[Node, None] = {}

    def open(self, graph: Graph) -> None:
        """From here on nodes are drawn in this block."""
        self.graph = graph
        graph.scopes.append(self)

    def close(self) -> None:
        """No further nodes are."""
        self.graph.scopes.remove(self)

    def drawn(self, node: Node) -> None:
        """A node was drawn."""
        self.nodes[node] = None

    def wire(
        self, _graph: Graph, args: tuple[Any, ...], kwargs: dict[str, Any], mapped: bool
    ) -> tuple[tuple[Any, ...], dict[str, Any], bool]:
        """What a call is given, as the block has it."""
        return args, kwargs, mapped

    def keeps_whole(self, _source: Any) -> bool:
        """Whether a mapped call that waits for this waits for all of it."""
        return False

    def first(self) -> list[Node]:
        """The nodes that nothing in the block comes before."""
        return [node for node in self.nodes if self.nodes.keys().isdisjoint(self.graph.upstream(node))]

    def last(self) -> list[Node]:
        """The nodes that nothing in the block comes after."""
        inner = {source for node in self.nodes for source in self.graph.upstream(node)}
        return [node for node in self.nodes if node not in inner]


def _compare(graph: Graph, condition: Any, value: Any, **options: Any) -> TaskNode:
    """Draw the task that skips what comes after it unless the condition has this value."""

    def compare(given: Any) -> None:
        if given != value:
            raise SKIP(f'Provided value "{given}" did not match "{value}"')

    return graph.add_call(Task(compare, name=f'CompareValue: "{value}"'), (condition,), options)


def _run_before(graph: Graph, condition: TaskNode, node: Node, mapped: bool = False) -> None:
    """With ``mapped`` each run of the condition decides for one of the node, which is mapped from then on."""
    each = mapped or (graph.nodes[condition].mapped and graph.nodes[node].mapped)
    graph.add_edge(condition, node, mapped=each)


class case(Block):  # noqa: N801 - Prefect's name
    """``with case(task, value): …``: what is drawn in the block runs only if the task's result is this value."""

    __module__ = "flowdeck"

    def __init__(self, task: Any, value: Any) -> None:
        super().__init__()
        if isinstance(value, Drawable):
            raise TypeError(f"case(task, value): the value must be known while the flow is drawn, and {value!r} is not")
        self.task = task
        self.value = value

    def __enter__(self) -> None:
        self.open(graph_for(self.task))

    def __exit__(self, kind: Any, *_: object) -> None:
        self.close()
        first = self.first() if kind is None else []
        if first:
            condition = _compare(self.graph, self.task, self.value)
            for node in first:
                _run_before(self.graph, condition, node)


def switch(condition: Any, cases: dict[Any, Any], mapped: bool = False) -> None:
    """Run the task whose key is the condition's result; skip the others, and what comes after those."""
    graph = graph_for(condition, *cases.values())
    for value, tasks in cases.items():
        with tags("switch"):
            compared = _compare(graph, condition, value, mapped=mapped)
        for task in tasks if isinstance(tasks, (list, tuple, set)) else [tasks]:
            _run_before(graph, compared, graph.add_task(task), mapped)


def ifelse(condition: Any, true_task: Any, false_task: Any, mapped: bool = False) -> None:
    """Run one task or the other, by whether the condition's result counts as true."""

    def as_bool(x: Any) -> bool:
        return bool(x)

    graph = graph_for(condition, true_task, false_task)
    cases = {value: task for value, task in ((True, true_task), (False, false_task)) if task is not None}
    switch(graph.add_call(Task(as_bool, name="as_bool"), (condition,), {"mapped": mapped}), cases, mapped)


def merge(*tasks: Any, flow: Any = None, mapped: bool = False, **options: Any) -> Any:
    """The result of the branch that was taken: the first that is not None. Skipped when all of them were."""

    def first_result(*results: Any) -> Any:
        return next((result for result in results if result is not None), None)

    options = {"name": "Merge", "trigger": not_all_skipped, "skip_on_upstream_skip": False, **options}
    return graph_for(*tasks, flow=flow).add_call(Task(first_result, **options), tasks, {"mapped": mapped})


class FilterTask(Task[..., Any]):
    """Those results of a list that pass: by default what is neither None nor an exception."""

    __module__ = "flowdeck"

    def __init__(self, filter_func: Callable[[Any], bool] | None = None, **options: Any) -> None:
        self.filter_func = filter_func or (lambda result: result is not None and not isinstance(result, Exception))
        super().__init__(**{"trigger": all_finished, "skip_on_upstream_skip": False, **options})

    def run(self, task_results: Iterable[Any]) -> list[Any]:
        """What passes, in order."""
        return [result for result in task_results if self.filter_func(result)]


# -- apply_map ---------------------------------------------------------------------------------------------------------


def _element(element: Any) -> Any:
    return element


_ELEMENT: Final[Task[..., Any]] = Task(_element, name="element")


class _Mapping(Block):
    """While the function of an ``apply_map`` draws: what depends on an element is mapped, all else passed whole."""

    def __init__(self, elements: Iterable[Node]) -> None:
        super().__init__()
        self.each = set(elements)

    def drawn(self, node: Node) -> None:
        super().drawn(node)
        if self.graph.nodes[node].mapped:
            self.each.add(node)

    def keeps_whole(self, source: Any) -> bool:
        return source not in self.each

    def wire(
        self, graph: Graph, args: tuple[Any, ...], kwargs: dict[str, Any], mapped: bool
    ) -> tuple[tuple[Any, ...], dict[str, Any], bool]:
        if not any(node in self.each for value in (*args, *kwargs.values()) for node in nodes_in(value)):
            return args, kwargs, mapped
        return (
            tuple(self._each_or_whole(graph, value) for value in args),
            {key: self._each_or_whole(graph, value) for key, value in kwargs.items()},
            True,
        )

    def _each_or_whole(self, graph: Graph, value: Any) -> Any:
        if isinstance(value, Node) or is_wrapped(value):
            return value if is_wrapped(value) or value in self.each else unmapped(value)
        nodes = list(dict.fromkeys(nodes_in(value)))
        if not any(node in self.each for node in nodes):
            return unmapped(value)

        def collect(*items: Any) -> Any:
            return replaced_nodes(value, dict(zip(nodes, items, strict=True)))

        return graph.add_call(Task(collect, name=type(value).__name__.capitalize()), tuple(nodes), {})


def apply_map(func: Callable[..., Any], *args: Any, flow: Any = None, **kwargs: Any) -> Any:
    """Have ``func`` draw its tasks once, and run them for each element of the arguments (``unmapped`` ones whole)."""
    graph = graph_for(*args, *kwargs.values(), flow=flow)
    elements: list[Node] = []

    def placed(value: Any) -> Any:
        if is_unmapped(value):
            return value.value
        if isinstance(value, Drawable):
            node: Node = graph.add_task(value)
        else:
            node = graph.add_map(_ELEMENT, (value,), {})
        elements.append(node)
        return node

    given = [placed(value) for value in args], {key: placed(value) for key, value in kwargs.items()}
    mapping = _Mapping(elements)
    token = context.current_graph.set(graph)
    mapping.open(graph)
    try:
        drawn = func(*given[0], **given[1])
    finally:
        mapping.close()
        context.current_graph.reset(token)
    for node in nodes_in(drawn):
        if node not in graph.nodes and not isinstance(node, Parameter):
            raise ValueError(f"{func!r} returned {node!r}, which it drew in another flow")
    return drawn
