"""Prefect 1's style: ``with Flow("ETL") as flow`` draws a graph of task calls, ``flow.run()`` runs it.

Inside the block a call of a task runs nothing: it adds a node. Running goes through the one engine path: the graph is
a flow whose function walks the nodes in order and submits our tasks with futures. Running while the block is open is
a RuntimeError, wrong parameters and cycles are ValueErrors, and a flow that fails is a returned state, never an
exception. Triggers, signals, ``case`` and clocks are not here.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from contextvars import ContextVar, Token
from copy import copy
from difflib import get_close_matches
from itertools import chain
from typing import Any, Self

from . import context
from .classic_graph import Edge, Graph, Node, Parameter, TaskNode, flatten, is_unmapped, nodes_in
from .errors import ParameterError
from .flows import Flow
from .futures import Future, FutureList
from .parameters import Parameters
from .states import State, aggregate

__all__ = ["Edge", "FlowState", "GraphFlow", "Node", "Parameter", "flatten"]

_COLOURS = {"COMPLETED": "#28a745", "FAILED": "#dc3545", "CRASHED": "#dc3545", "CANCELLED": "#6c757d"}
_collected: ContextVar[dict[Node, FlowState] | None] = ContextVar("flowdeck_node_states", default=None)
"""Where a walk leaves its nodes' states for the ``flow.run`` that waits for it."""


class FlowState(State):
    """A state as Prefect 1 shows it: ``is_successful()``, and ``result`` is a value, not a method.

    Of a flow ``result`` is ``{node: state}``; of a mapped node the list of results, beside ``map_states``.
    """

    __slots__ = ("map_states", "value")

    def __init__(self, state: State, value: Any = None, map_states: list[FlowState] | None = None) -> None:
        super().__init__(state.type, state.name, state.message, error=state.error)
        self.value = value
        self.map_states = map_states

    @property
    def result(self) -> Any:  # Prefect 3's method is Prefect 1's attribute
        """The value, the exception of what failed, or ``{node: state}`` of a flow."""
        return self.value

    def is_successful(self) -> bool:
        """Completed, or skipped."""
        return self.type == "COMPLETED" or self.name == "Skipped"

    def is_failed(self) -> bool:
        """Failed in any way: also crashed, or not started because something before it failed."""
        return self.type in ("FAILED", "CRASHED") or self.name == "NotReady"

    def is_finished(self) -> bool:
        """Nothing more happens."""
        return self.is_final()

    def is_mapped(self) -> bool:
        """Whether it sums up a mapped group."""
        return self.map_states is not None


class GraphFlow(Flow[..., Any]):
    """What ``Flow("name")`` makes: a graph of task calls, run as one flow."""

    def __init__(self, name: str, schedule: Any = None, executor: Any = None, **options: Any) -> None:
        self.graph = Graph(name)
        self._opened: Token[Any] | None = None
        self._reference: list[Node] | None = None
        super().__init__(_walk_function(self.graph, self, name), name=name, schedule=schedule, **options)
        self.executor = executor

    # -- drawing -------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._opened is not None:
            raise RuntimeError(f"the block of flow {self.name!r} is open already")
        self._opened = context.current_graph.set(self.graph)
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._opened is not None
        context.current_graph.reset(self._opened)
        self._opened = None
        self._declare_parameters()

    def add_edge(
        self, upstream_task: Node, downstream_task: Node, key: str | None = None, mapped: bool = False
    ) -> Edge:
        """Run ``upstream_task`` before ``downstream_task``, whose argument ``key`` it then feeds."""
        return self.graph.add_edge(upstream_task, downstream_task, key, mapped)

    def set_reference_tasks(self, tasks: Iterable[Node]) -> None:
        """Let the states of these tasks decide the flow's, instead of those of the last ones."""
        chosen = list(tasks)
        strangers = [task for task in chosen if task not in self.graph.nodes]
        if strangers:
            raise ValueError(f"{strangers[0]!r} is not in flow {self.name!r}")
        self._reference = chosen or None

    # -- reading -------------------------------------------------------------------------------------------------

    @property
    def tasks(self) -> set[Node]:
        """Every node, parameters included."""
        return set(self.graph.nodes)

    @property
    def edges(self) -> set[Edge]:
        """Every edge."""
        return set(self.graph.edges())

    def sorted_tasks(self) -> tuple[Node, ...]:
        """Every node after what it needs; a cycle raises ``ValueError``."""
        return tuple(self.graph.in_order())

    def root_tasks(self) -> set[Node]:
        """The nodes nothing comes before."""
        return set(self.graph.roots())

    def terminal_tasks(self) -> set[Node]:
        """The nodes nothing comes after."""
        return set(self.graph.terminal())

    def reference_tasks(self) -> set[Node]:
        """The nodes whose states decide the flow's: the terminal ones, unless set otherwise."""
        return set(self._reference or self.graph.terminal())

    def get_tasks(self, name: str | None = None) -> list[Node]:
        """The nodes of that name, or all, in order."""
        return [node for node in self.graph.in_order() if name is None or node.name == name]

    def validate(self) -> None:
        """Raise ``ValueError`` naming the tasks of a cycle."""
        self.graph.in_order()

    def visualize(
        self, flow_state: FlowState | None = None, filename: str | None = None, format: str = "mermaid"  # noqa: A002
    ) -> str:
        """The graph as ``mermaid`` (coloured by ``flow_state``) or ``text``; also written to ``filename``."""
        if format not in ("mermaid", "text"):
            raise ValueError(f"format {format!r} is not known: use 'mermaid' or 'text'")
        states = flow_state.result if flow_state is not None else {}
        colours = {node: _COLOURS[state.type] for node, state in states.items() if state.type in _COLOURS}
        figure = self.graph.as_text() if format == "text" else self.graph.as_mermaid(colours)
        if filename is not None:
            with open(filename, "w", encoding="utf-8") as file:
                file.write(figure + "\n")
        return figure

    # -- running -------------------------------------------------------------------------------------------------

    def run(
        self,
        parameters: dict[str, Any] | None = None,
        executor: Any = None,
        run_on_schedule: bool | None = None,
        **kwargs: Any,
    ) -> FlowState:
        """Run once, here and now, and return the final state; keywords named like parameters are parameters.

        A flow with a schedule runs once too: ``flowdeck daemon`` is what runs flows on their schedules.
        """
        if self._opened is not None:
            raise RuntimeError(f"flow {self.name!r} is being drawn: run it after the `with` block")
        if run_on_schedule:
            raise ValueError(f"flow {self.name!r} runs on its schedule under `flowdeck daemon`, not by run()")
        self.validate()
        self._declare_parameters()
        values = {**(parameters or {}), **kwargs}
        self._check_given(values)
        if context.importing.get():
            return FlowState(State("PENDING", message="not run: its file is being loaded, not executed"), {})
        collected: dict[Node, FlowState] = {}
        token = _collected.set(collected)
        try:
            flow = self if executor is None else self._on(executor)
            state = flow(**values, return_state=True)
        finally:
            _collected.reset(token)
        return FlowState(state, collected)

    def _on(self, executor: Any) -> GraphFlow:
        """This flow, its tasks run by ``executor``."""
        flow = copy(self)
        flow.executor = executor
        return flow

    @property
    def executor(self) -> Any:
        """What its tasks run on; None is the default threads."""
        return self.task_runner

    @executor.setter
    def executor(self, executor: Any) -> None:
        self.task_runner = executor

    def _check_given(self, values: dict[str, Any]) -> None:
        known = {parameter.name: parameter for parameter in self.graph.parameters()}
        for name in values:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"its parameters are {', '.join(known) or 'none'}"
                raise ParameterError(f"flow {self.name!r} has no parameter {name!r}; {hint}")
        missing = [name for name, parameter in known.items() if parameter.required and name not in values]
        if missing:
            raise ParameterError(f"flow {self.name!r} needs {', '.join(missing)}: flow.run({missing[0]}=…)")

    def _declare_parameters(self) -> None:
        """Let the engine see the graph's parameters as those of the flow function."""
        walk: Any = self.fn
        kind = inspect.Parameter.KEYWORD_ONLY
        walk.__signature__ = inspect.Signature(
            [inspect.Parameter(one.name, kind, default=one.default) for one in self.graph.parameters()]
        )
        self.parameters = Parameters(walk, self.name)


def _walk_function(graph: Graph, flow: GraphFlow, name: str) -> Callable[..., State]:
    """The flow function of a graph; it counts as written in the module whose code made the flow."""

    def walk(**values: Any) -> State:
        states = _Walk(graph, values).to_the_end()
        collected = _collected.get()
        if collected is not None:
            collected.update(states)
        return _verdict([(node, states[node]) for node in flow._reference or graph.terminal()])

    walk.__name__ = walk.__qualname__ = name
    walk.__module__ = _module_of_caller()
    return walk


def _module_of_caller() -> str:
    ours = __name__.rpartition(".")[0]
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith(ours + "."):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "__main__"))


def _verdict(states: list[tuple[Node, FlowState]]) -> State:
    """Prefect 1's rule: the reference tasks decide, skipped ones count as successful."""
    bad = [(node, state) for node, state in states if not state.is_successful()]
    if not bad:
        return State("COMPLETED", message="All reference tasks succeeded.")
    node, first = next(((node, state) for node, state in bad if state.is_failed()), bad[0])
    text = f"{len(bad)} of {len(states)} reference tasks did not succeed: {node.name} ended {first.name}"
    text += f" ({first.message})" if first.message else ""
    return State("FAILED" if first.is_failed() else "CANCELLED", message=text, error=first.error)


class _Walk:
    """One walk through the graph: every node is submitted as soon as what it needs has been."""

    def __init__(self, graph: Graph, values: dict[str, Any]) -> None:
        self.graph = graph
        self.outcomes: dict[Node, Any] = {node: values[node.name] for node in graph.parameters()}
        """Of a parameter its value, of a call its future, of a mapped call its futures."""

    def to_the_end(self) -> dict[Node, FlowState]:
        """Submit everything, wait for everything."""
        waiting = [node for node in self.graph.in_order() if isinstance(node, TaskNode)]
        while waiting:
            left = [node for node in waiting if not self._submit_if_ready(node)]
            if len(left) == len(waiting):
                self._unfinished(left[0])[0].wait()
            waiting = left
        return {node: _node_state(self.outcomes[node]) for node in self.graph.in_order()}

    def _submit_if_ready(self, node: TaskNode) -> bool:
        if any(source not in self.outcomes for source in node.upstream()) or self._unfinished(node):
            return False
        waits_for = [self.outcomes[source] for source in node.waits_for if not isinstance(source, Parameter)]
        self.outcomes[node] = (self._map if node.mapped else self._submit)(node, waits_for)
        return True

    def _unfinished(self, node: TaskNode) -> list[Future[Any]]:
        """What has to end before it is known how often a mapped node runs."""
        if not node.mapped:
            return []
        sources = [
            self.outcomes.get(source)
            for _, value in node.arguments()
            if not is_unmapped(value)
            for source in nodes_in(value)
            if isinstance(value, flatten) or not isinstance(self.outcomes.get(source), FutureList)
        ]
        futures = chain.from_iterable(found if isinstance(found, FutureList) else [found] for found in sources)
        return [future for future in futures if isinstance(future, Future) and not future.done()]

    def _submit(self, node: TaskNode, waits_for: list[Any]) -> Future[Any]:
        args = [self._filled(value) for value in node.args]
        kwargs = {name: self._filled(value) for name, value in node.kwargs.items()}
        future: Future[Any] = node.task.submit(*args, **kwargs, wait_for=waits_for)
        return future

    def _map(self, node: TaskNode, waits_for: list[Any]) -> Any:
        """Run over the elements, as many as the shortest argument has; an argument that failed fails the node."""
        sources = [self.outcomes[edge.upstream_task] for edge in node.edges() if edge.mapped]
        whole = [source for source in sources if isinstance(source, Future)]
        if any(not _is_fine(future) for future in chain(whole, self._flattened(node))):
            return self._submit(node, waits_for)
        args = [self._elements(value) for value in node.args]
        kwargs = {name: self._elements(value) for name, value in node.kwargs.items()}
        shortest = min((len(value) for value in chain(args, kwargs.values()) if isinstance(value, list)), default=0)
        args = [value[:shortest] if isinstance(value, list) else value for value in args]
        kwargs = {name: value[:shortest] if isinstance(value, list) else value for name, value in kwargs.items()}
        return node.task.map(*args, **kwargs, wait_for=[*waits_for, *whole])

    def _flattened(self, node: TaskNode) -> list[Future[Any]]:
        values = (value for _, value in node.arguments() if isinstance(value, flatten))
        found = [self.outcomes[source] for value in values for source in nodes_in(value)]
        return [future for one in found if isinstance(one, FutureList) for future in one]

    def _elements(self, value: Any) -> Any:
        """What to map over as a list; ``unmapped`` values and what cannot be gone through stay as they are."""
        if is_unmapped(value):
            return self._filled(value)
        if isinstance(value, flatten):
            return list(chain.from_iterable(_result(item) for item in _result(self._filled(value.value))))
        filled = self._filled(value)
        return list(_result(filled)) if isinstance(value, Node) or isinstance(filled, (list, tuple, set)) else filled

    def _filled(self, value: Any) -> Any:
        """``value`` with every node in it replaced by its future, or by the parameter's value."""
        if isinstance(value, Node):
            return self.outcomes[value]
        if isinstance(value, (list, tuple, set, frozenset)) and next(nodes_in(value), None) is not None:
            return type(value)(self._filled(item) for item in value)
        if isinstance(value, dict) and next(nodes_in(value), None) is not None:
            return {key: self._filled(item) for key, item in value.items()}
        if hasattr(type(value), "flowdeck_wrapped") and next(nodes_in(value), None) is not None:
            return type(value)(self._filled(value.value))
        return value


def _is_fine(future: Future[Any]) -> bool:
    return future.outcome is not None and future.outcome.is_completed()


def _result(value: Any) -> Any:
    return value.result() if isinstance(value, Future) else value


def _node_state(outcome: Any) -> FlowState:
    """The final state of a node; waits for it."""
    if isinstance(outcome, FutureList):
        states = [_node_state(future) for future in outcome]
        return FlowState(aggregate(list(states)), [state.result for state in states], states)
    if isinstance(outcome, Future):
        outcome.wait()
        state = outcome.state
        return FlowState(state, state.result(raise_on_failure=False))
    return FlowState(State("COMPLETED"), outcome)
