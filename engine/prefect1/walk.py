"""One walk through the graph of a Prefect 1 flow: its calls are submitted as our tasks, as soon as may be.

The walk is the body of the flow's function, so it runs again when the run continues; finished calls then come from the
journal. How often a mapped call runs is known once what it maps over has ended; elsewhere calls are submitted at once
and wait for each other as futures do.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Any

from ..running.calls.frame import require_frame
from ..running.calls.futures import Future, FutureList, as_completed
from ..running.effects.interrupts import engine_code
from ..running.lifecycle import calling as calls
from ..states.state import State, describe_exception
from .graph import Graph, TaskNode
from .parameters import Node
from .rules import Upstream, rules_of_task
from .states import FlowState, Success, from_engine, of_group
from .triggers import all_successful
from .wiring import Edge, flatten, is_unmapped, is_wrapped, nodes_in


class Walk:
    """Submits every node and knows how each ended."""

    def __init__(self, graph: Graph, values: dict[str, Any], given: dict[Node, FlowState]) -> None:
        self.graph = graph
        self.outcomes: dict[Node, Any] = {
            node: node.convert(values[node.name]) for node in graph.parameters() if node not in given
        }
        """Of a parameter its value, of a call its future, of a mapped call its futures."""
        self._runs_of_elements: dict[Node, list[Any]] = {}
        for node, state in given.items():
            future: Future[Any] = Future(None)
            future.resolve(state.plain())
            self.outcomes[node] = future

    def to_the_end(self) -> dict[Node, FlowState]:
        """Submit everything, wait for everything."""
        waiting = [node for node in self.graph.in_order() if isinstance(node, TaskNode) and node not in self.outcomes]
        while waiting:
            left = [node for node in waiting if not self._submit_if_ready(node)]
            if len(left) == len(waiting):
                unfinished = list(chain.from_iterable(self._unfinished(node) for node in left))
                next(as_completed(unfinished))
            waiting = left
        return {node: state_of(self.outcomes[node]) for node in self.graph.in_order()}

    def _submit_if_ready(self, node: TaskNode) -> bool:
        edges = self.graph.edges_to(node)
        if any(edge.upstream_task not in self.outcomes for edge in edges) or self._unfinished(node):
            return False
        self.outcomes[node] = (self._map if self.graph.nodes[node].mapped else self._submit)(node, edges)
        return True

    def _unfinished(self, node: TaskNode) -> list[Future[Any]]:
        """What has to end before it is known how often a mapped node runs, if it does, and what a flat list holds."""
        is_mapped = self.graph.nodes[node].mapped
        sources = [
            self.outcomes.get(edge.upstream_task)
            for edge in self.graph.edges_to(node)
            if edge.flattened or (is_mapped and not _is_run_by_run(edge, self.outcomes.get(edge.upstream_task)))
        ]
        futures = chain.from_iterable(found if isinstance(found, FutureList) else [found] for found in sources)
        return [future for future in futures if isinstance(future, Future) and not future.done()]

    # -- plain calls ---------------------------------------------------------------------------------------------

    def _submit(self, node: TaskNode, edges: list[Edge], refusal: State | None = None) -> Future[Any]:
        wiring = self.graph.nodes[node]
        upstream = Upstream(
            [self.outcomes[source] for source in wiring.waits_for if _has_future(self.outcomes[source])],
            lambda: {edge: self.outcomes[edge.upstream_task] for edge in edges},
        )
        upstream.refusal = refusal
        # One that is not to begin is not given anything, and one that is flat no future; it comes after all of them, as
        # the graph says.
        unseen = edges if refusal is not None else [edge for edge in edges if edge.flattened]
        upstream.extend(out for edge in unseen if _has_future(out := self.outcomes[edge.upstream_task]))
        args = [self._filled(value) for value in wiring.args]
        kwargs = {name: self._filled(value) for name, value in wiring.kwargs.items()}
        frame = require_frame(node.name)
        future: Future[Any] = calls.submit(frame, node.task, tuple(args), kwargs, False, upstream)
        return future

    def _filled(self, value: Any) -> Any:
        """An argument with nodes replaced by their values or futures."""
        if isinstance(value, Node):
            return self.outcomes[value]
        if next(nodes_in(value), None) is None and not is_wrapped(value):
            return value
        if isinstance(value, dict):
            return {key: self._filled(item) for key, item in value.items()}
        if isinstance(value, flatten):
            return [element for element, _ in _flat(self._filled(value.value))]
        if is_wrapped(value):
            return type(value)(self._filled(value.value))
        items = [self._filled(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)

    # -- mapped calls --------------------------------------------------------------------------------------------

    def _map(self, node: TaskNode, edges: list[Edge]) -> Any:
        """Run over the elements, as many as the shortest argument has; what keeps all of them from it comes first."""
        refusal = self._refusal(node, edges)
        if refusal is not None:
            return self._submit(node, edges, refusal)
        wiring = self.graph.nodes[node]
        try:
            args = [self._elements(value) for value in wiring.args]
            kwargs = {name: self._elements(value) for name, value in wiring.kwargs.items()}
        except Exception as error:  # noqa: BLE001 - the user's iterable, or a failed task's exception
            return self._submit(node, edges, _unmappable(error))
        waits = [(self.outcomes[source], each) for source, each in wiring.waits_for.items()]
        groups = [out if isinstance(out, FutureList) else _result(out) for out, each in waits if each]
        columns = [value for value in chain(args, kwargs.values()) if isinstance(value, _Each)]
        lengths = [*map(len, columns), *(len(group) for group in groups if isinstance(group, (list, tuple, set)))]
        if not lengths:
            return self._submit(node, edges, _unmappable(None))
        frame = require_frame(node.name)
        whole = [out for edge in edges if edge.mapped and isinstance(out := self.outcomes[edge.upstream_task], Future)]
        with engine_code():
            containers = calls.origins_of_containers(frame, whole)
            rows = self._rows(node, edges, args, kwargs, waits, min(lengths))
            return calls.submit_each(frame, node.task, rows, containers)

    def _rows(
        self, node: TaskNode, edges: list[Edge], args: list[Any], kwargs: dict[str, Any],
        waits: list[tuple[Any, bool]], length: int,
    ) -> Iterator[tuple[dict[str, Any], Upstream]]:
        for place in range(length):
            bound = node.task.arguments(
                tuple(_at(value, place) for value in args), {name: _at(value, place) for name, value in kwargs.items()}
            )
            own = [
                out[place] if each and isinstance(out, FutureList) and place < len(out) else out
                for out, each in waits if _has_future(out)
            ]  # fmt: skip
            yield bound, Upstream(own, partial(self._edges_of_run, edges, place))

    def _edges_of_run(self, edges: list[Edge], place: int) -> dict[Edge, Any]:
        """What came before one run of a mapped node."""
        found = {}
        for edge in edges:
            outcome = self.outcomes[edge.upstream_task]
            runs = self._flat_runs(edge.upstream_task) if edge.flattened else outcome
            run_by_run = _is_run_by_run(edge, outcome) and place < len(runs)
            found[edge] = runs[place] if run_by_run else outcome
        return found

    def _flat_runs(self, source: Node) -> Any:
        """Of each element of what a mapped node came to, made flat, the run that it comes from."""
        outcome = self.outcomes[source]
        if source not in self._runs_of_elements and isinstance(outcome, FutureList):
            self._runs_of_elements[source] = [run for _, run in _flat(outcome)]
        return self._runs_of_elements.get(source, outcome)

    def _refusal(self, node: TaskNode, edges: list[Edge]) -> State | None:
        """Why no run of a mapped node starts, as far as that is decided for all of them together."""
        rules = rules_of_task(node.task)
        outcomes = {edge: self.outcomes[edge.upstream_task] for edge in edges}
        together = {edge: state_of(out) for edge, out in outcomes.items() if not _is_run_by_run(edge, out)}
        if rules.skip_on_upstream_skip:
            for edge, state in together.items():
                if state.is_skipped() or any(one.is_skipped() for one in state.map_states or ()):
                    text = f"Upstream task was skipped: {edge.upstream_task.name}"
                    return State("CANCELLED", "Skipped", text, data=None)
        if len(together) == len(edges) or rules.trigger is all_successful:
            refusal = rules.verdict(None, together)
            if refusal is not None and not refusal.is_paused():
                return refusal
        bad = next((one for edge, one in together.items() if edge.mapped and not one.is_successful()), None)
        return _unmappable(bad.error) if bad is not None else None

    def _elements(self, value: Any) -> Any:
        """What to map over; ``unmapped`` values and what cannot be gone through stay as they are."""
        if is_unmapped(value):
            return self._filled(value.value)
        if isinstance(value, flatten):
            return _Each([element for element, _ in _flat(self._filled(value.value))])
        filled = self._filled(value)
        is_many = hasattr(filled, "__iter__") and not isinstance(filled, (str, bytes, dict))
        if isinstance(value, Node) or is_many:
            return _Each(filled if isinstance(filled, FutureList) else list(_result(filled)))
        return filled


class _Each:
    """The elements of a mapped argument."""

    __slots__ = ("items",)

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)


def _at(value: Any, place: int) -> Any:
    return value.items[place] if isinstance(value, _Each) else value


def _is_run_by_run(edge: Edge, outcome: Any) -> bool:
    """Whether each run of a mapped node needs its own run of that one only."""
    return edge.mapped and isinstance(outcome, FutureList)


def _has_future(outcome: Any) -> bool:
    return isinstance(outcome, (Future, FutureList))


def _unmappable(error: BaseException | None) -> State:
    what = "nothing was given to map over" if error is None else describe_exception(error)
    return State("FAILED", None, f"At least one upstream state has an unmappable result: {what}", error=error)


def _flat(value: Any) -> Iterator[tuple[Any, Any]]:
    """The elements of the elements, each with the run it comes from; a bare one, and a run without a result, is one."""
    for item in _result(value):
        if isinstance(item, Future) and not item.has_completed:
            yield item, item
            continue
        elements = _result(item)
        if isinstance(elements, (str, bytes)) or not hasattr(elements, "__iter__"):
            elements = (elements,)
        for element in elements:
            yield element, item


def _result(value: Any) -> Any:
    return value.result() if isinstance(value, Future) else value


def state_of(outcome: Any) -> FlowState:
    """The final state of a node; waits for it."""
    if isinstance(outcome, FutureList):
        return of_group([state_of(future) for future in outcome])
    if isinstance(outcome, Future):
        outcome.wait()
        return from_engine(outcome.state)
    return Success(result=outcome)
