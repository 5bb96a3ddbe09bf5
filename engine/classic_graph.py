"""The graph that a ``with Flow("…")`` block draws: nodes, edges, order, cycles and figures.

It runs nothing and knows no store; ``classic`` runs it. A node is one task call, a parameter is a node too.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from . import context

if TYPE_CHECKING:
    from .tasks import Task

NO_DEFAULT: Final[Any] = inspect.Parameter.empty


class flatten:  # noqa: N801 - Prefect's name
    """In ``map``: run over the elements of the elements."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Edge(NamedTuple):
    """``upstream_task`` runs before ``downstream_task``; ``key`` is the argument it feeds, None when it only waits."""

    upstream_task: Node
    downstream_task: TaskNode
    key: str | None
    mapped: bool


class Node:
    """What a call inside the ``with`` block gives instead of a value."""

    def __init__(self, graph: Graph | None, name: str) -> None:
        self.graph = graph
        self.name = name

    def set_upstream(self, task: Node, key: str | None = None, mapped: bool = False) -> None:
        """Run after ``task``; with ``key``, take its result as that argument."""
        _graph_of(self).add_edge(task, self, key, mapped)

    def set_downstream(self, task: Node, key: str | None = None, mapped: bool = False) -> None:
        """Run before ``task``; with ``key``, give it the result as that argument."""
        _graph_of(task).add_edge(self, task, key, mapped)

    def __repr__(self) -> str:
        return f"<Task: {self.name}>"

    def __bool__(self) -> bool:
        raise TypeError(f"{self!r} has no value while its flow is drawn, so it cannot decide an if: decide in a task")

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(f"{self!r} has no value while its flow is drawn, so it cannot be gone through: use .map")


class Parameter(Node):
    """A value given at each run: ``Parameter("day", default=None)``; without a default each run must give it."""

    def __init__(self, name: str, default: Any = NO_DEFAULT, required: bool | None = None) -> None:
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"a parameter's name must be a Python name, not {name!r}")
        super().__init__(None, name)
        self.default = NO_DEFAULT if required else default
        drawn = context.current_graph.get()
        if drawn is not None:
            drawn.add_parameter(self)

    @property
    def required(self) -> bool:
        """Whether each run must give it."""
        return self.default is NO_DEFAULT

    def __call__(self) -> Parameter:
        """Itself, as part of the flow whose block is open."""
        drawn = context.current_graph.get()
        if drawn is None:
            raise ValueError(f'parameter {self.name!r} belongs to no flow: call it inside a `with Flow("…")` block')
        drawn.add_parameter(self)
        return self

    def __repr__(self) -> str:
        return f"<Parameter: {self.name}>"


class TaskNode(Node):
    """A call of a task, plain or mapped."""

    def __init__(
        self, graph: Graph, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], mapped: bool
    ) -> None:
        super().__init__(graph, task.name)
        self.task = task
        self.args = args
        self.kwargs = kwargs
        self.mapped = mapped
        self.waits_for: list[Node] = []
        parameters = task.signature.parameters.values()
        self._names = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_POSITIONAL]

    def arguments(self) -> Iterator[tuple[str, Any]]:
        """(name, value) of what is passed, positional ones by the name the task's function gives them."""
        yield from zip(itertools.chain(self._names, itertools.repeat("*args")), self.args, strict=False)
        yield from self.kwargs.items()

    def feed(self, key: str, source: Node, mapped: bool) -> None:
        """Take the result of ``source`` as argument ``key``, in the place of what stood there."""
        self.mapped = self.mapped or mapped
        position = self._names.index(key) if key in self._names else len(self.args)
        if position < len(self.args):
            self.args = (*self.args[:position], source, *self.args[position + 1 :])
        else:
            self.kwargs[key] = source

    def edges(self) -> list[Edge]:
        """What this node needs: what its arguments hold first, then what it only waits for."""
        found: dict[tuple[Node, str], Edge] = {}
        for key, value in self.arguments():
            for source in nodes_in(value):
                found.setdefault((source, key), Edge(source, self, key, self.mapped and not is_unmapped(value)))
        fed = {source for source, _ in found}
        return [*found.values(), *(Edge(source, self, None, False) for source in self.waits_for if source not in fed)]

    def upstream(self) -> list[Node]:
        """The nodes that come before this one, each once."""
        return list(dict.fromkeys(edge.upstream_task for edge in self.edges()))


class Graph:
    """The nodes of one flow, in the order they were drawn."""

    def __init__(self, flow_name: str) -> None:
        self.flow_name = flow_name
        self.nodes: dict[Node, None] = {}
        self._uses: dict[str, int] = {}
        self._order: list[Node] | None = None

    # -- drawing -------------------------------------------------------------------------------------------------

    def add_call(self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> TaskNode:
        """What a task's call inside the block does; ``upstream_tasks``, ``mapped`` and ``task_args`` are ours."""
        given = dict(kwargs)
        return self._add(task, args, given, mapped=bool(given.pop("mapped", False)))

    def add_map(self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> TaskNode:
        """What a task's ``map`` inside the block does."""
        return self._add(task, args, dict(kwargs), mapped=True)

    def _add(self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, mapped: bool) -> TaskNode:
        upstream = kwargs.pop("upstream_tasks", None) or []
        options = dict(kwargs.pop("task_args", None) or {})
        kwargs.pop("flow", None)
        task.bind(args, kwargs)  # a TypeError belongs to the line that draws the call
        base = str(options.pop("name", None) or task.name)
        self._uses[base] = self._uses.get(base, 0) + 1
        # A name of its own for each call: what a retry remembers must not depend on the order calls get ready in.
        name = base if self._uses[base] == 1 else f"{base}-{self._uses[base]}"
        own = task if name == task.name and not options else task.with_options(name=name, **options)
        node = TaskNode(self, own, args, kwargs, mapped)
        for edge in node.edges():
            self._belongs(edge.upstream_task)
        self.nodes[node] = None
        for source in upstream:
            self.add_edge(source, node)
        self._order = None
        return node

    def add_parameter(self, parameter: Parameter) -> None:
        """Let each run give a value of this name; adding it again changes nothing."""
        if parameter in self.nodes:
            return
        if any(isinstance(node, Parameter) and node.name == parameter.name for node in self.nodes):
            raise ValueError(f"flow {self.flow_name!r} has a parameter {parameter.name!r} already")
        parameter.graph = self
        self.nodes[parameter] = None
        self._order = None

    def add_edge(self, upstream: Node, downstream: Node, key: str | None = None, mapped: bool = False) -> Edge:
        """Run ``upstream`` before ``downstream``, whose argument ``key`` it then feeds."""
        source, target = self._belongs(upstream), self._belongs(downstream)
        if not isinstance(target, TaskNode):
            raise ValueError(f"{target!r} is given from outside: nothing can come before it")  # noqa: TRY004
        if key is not None:
            target.feed(key, source, mapped)
        elif source not in target.waits_for:
            target.waits_for.append(source)
        self._order = None
        return Edge(source, target, key, mapped)

    def _belongs(self, node: Any) -> Node:
        if not isinstance(node, Node):
            where = f"flow {self.flow_name!r}"
            raise ValueError(f"{node!r} is no task call of {where}: call the task inside its block")  # noqa: TRY004
        if isinstance(node, Parameter):
            self.add_parameter(node)
        if node not in self.nodes:
            raise ValueError(f"{node!r} belongs to another flow than {self.flow_name!r}: call its task in this block")
        return node

    # -- reading -------------------------------------------------------------------------------------------------

    def parameters(self) -> list[Parameter]:
        """The parameters, in the order they were added."""
        return [node for node in self.nodes if isinstance(node, Parameter)]

    def calls(self) -> list[TaskNode]:
        """The task calls, in the order they were drawn."""
        return [node for node in self.nodes if isinstance(node, TaskNode)]

    def edges(self) -> list[Edge]:
        """Every edge."""
        return [edge for node in self.calls() for edge in node.edges()]

    def terminal(self) -> list[Node]:
        """The nodes nothing comes after."""
        sources = {edge.upstream_task for edge in self.edges()}
        return [node for node in self.nodes if node not in sources]

    def roots(self) -> list[Node]:
        """The nodes nothing comes before."""
        return [node for node in self.nodes if not isinstance(node, TaskNode) or not node.edges()]

    def in_order(self) -> list[Node]:
        """Every node after what it needs, else as drawn; a cycle raises ``ValueError`` naming its tasks."""
        if self._order is None:
            self._order = self._sorted()
        return self._order

    def _sorted(self) -> list[Node]:
        before = {node: node.upstream() if isinstance(node, TaskNode) else [] for node in self.nodes}
        after: dict[Node, list[Node]] = {node: [] for node in self.nodes}
        for node, sources in before.items():
            for source in sources:
                after[source].append(node)
        missing = {node: len(sources) for node, sources in before.items()}
        order = [node for node, count in missing.items() if count == 0]
        for node in order:  # grows while it is gone through
            for following in after[node]:
                missing[following] -= 1
                if missing[following] == 0:
                    order.append(following)
        if len(order) < len(self.nodes):
            raise ValueError(f"flow {self.flow_name!r} has a cycle: {_cycle(before, set(order))}")
        return order

    # -- figures -------------------------------------------------------------------------------------------------

    def as_text(self) -> str:
        """One line a node: its name, how often it runs, and what it needs."""
        lines = []
        for node in self.in_order():
            sources = node.upstream() if isinstance(node, TaskNode) else []
            needs = " ← " + ", ".join(source.name for source in sources) if sources else ""
            lines.append(f"{_label(node)}{needs}")
        return "\n".join(lines)

    def as_mermaid(self, colours: dict[Node, str] | None = None) -> str:
        """The graph in mermaid's words; ``colours`` fills nodes."""
        ids = {node: f"n{number}" for number, node in enumerate(self.in_order())}
        lines = ["graph TD"]
        for node, name in ids.items():
            label = _label(node).replace('"', "#quot;")
            lines.append(f'    {name}(["{label}"])' if isinstance(node, Parameter) else f'    {name}["{label}"]')
        for edge in self.edges():
            arrow = "-.->" if edge.mapped else "-->"
            key = f"|{edge.key}|" if edge.key else ""
            lines.append(f"    {ids[edge.upstream_task]} {arrow}{key} {ids[edge.downstream_task]}")
        lines += [f"    style {ids[node]} fill:{colour}" for node, colour in (colours or {}).items()]
        return "\n".join(lines)


def nodes_in(value: Any) -> Iterator[Node]:
    """The nodes among an argument: itself, in lists, tuples, sets and dicts, under ``unmapped`` and ``flatten``."""
    if isinstance(value, Node):
        yield value
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from nodes_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from nodes_in(item)
    elif isinstance(value, flatten) or hasattr(type(value), "flowdeck_wrapped"):
        yield from nodes_in(value.value)


def is_unmapped(value: Any) -> bool:
    """Whether an argument of ``map`` is passed whole to every call."""
    return getattr(type(value), "flowdeck_wrapped", None) == "unmapped"


def _graph_of(node: Node) -> Graph:
    if node.graph is None:
        raise ValueError(f"{node!r} is part of no flow yet")
    return node.graph


def _label(node: Node) -> str:
    return f"{node.name} (mapped)" if isinstance(node, TaskNode) and node.mapped else node.name


def _cycle(before: dict[Node, list[Node]], sorted_out: Iterable[Node]) -> str:
    """``a → b → a``: one cycle among the nodes that could not be sorted."""
    fine = set(sorted_out)
    node = next(node for node in before if node not in fine)
    path: list[Node] = []
    while node not in path:
        path.append(node)
        node = next(source for source in before[node] if source not in fine)
    loop = [*path[path.index(node) :], node]
    return " → ".join(one.name for one in reversed(loop))
