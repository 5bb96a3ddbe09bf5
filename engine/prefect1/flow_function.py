"""The function of a drawn flow, which the engine runs like any other: it walks the graph, then says how it ended."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from ..states.state import Cancelled, State
from .graph import Graph
from .parameters import Node
from .state_handlers import handled
from .states import Cancelled as CancelledState
from .states import FlowState, Pending, Running, from_engine

_collected: ContextVar[dict[Any, FlowState] | None] = ContextVar("flowdeck_node_states", default=None)
"""Where a walk leaves its nodes' states for the ``flow.run`` that waits for it."""
_given: ContextVar[dict[Any, FlowState] | None] = ContextVar("flowdeck_given_states", default=None)
"""States of tasks that ``flow.run(task_states=…)`` gives instead of having them run."""


class DrawnFlow(Protocol):
    """What the function asks of its flow once it runs: all of it may be changed until then."""

    state_handlers: list[Callable[..., Any]]
    terminal_state_handler: Callable[..., Any] | None

    def deciding_nodes(self) -> list[Node]:
        """Whose states decide the flow's."""


@contextmanager
def given_and_collected(given: dict[Node, FlowState]) -> Iterator[dict[Any, FlowState]]:
    """Around a run: these tasks have their states already; those of all are in the dict afterwards."""
    collected: dict[Any, FlowState] = {}
    tokens = _collected.set(collected), _given.set(given)
    try:
        yield collected
    finally:
        _collected.reset(tokens[0])
        _given.reset(tokens[1])


def walk_function(graph: Graph, flow: DrawnFlow, name: str, module: str | None = None) -> Callable[..., State]:
    """The flow function of a graph; it counts as written in the module whose code made the flow."""

    def walk(**values: Any) -> State:
        running = handled(flow, flow.state_handlers, Pending(), Running("Running flow."))
        if running.is_finished():
            return running.plain()
        try:
            states = _walked(graph, values)
        except Cancelled as error:
            handled(flow, flow.state_handlers, running, CancelledState(str(error)))
            raise
        state = _verdict([(node, states[node]) for node in flow.deciding_nodes()])
        if flow.terminal_state_handler is not None:
            chosen = flow.terminal_state_handler(flow, state, {states[node] for node in flow.deciding_nodes()})
            state = chosen if isinstance(chosen, FlowState) else from_engine(chosen) if chosen is not None else state
        return handled(flow, flow.state_handlers, running, state).plain()

    walk.__name__ = walk.__qualname__ = name
    walk.__module__ = module or _module_of_caller()
    return walk


def _walked(graph: Graph, values: dict[str, Any]) -> dict[Node, FlowState]:
    from .walk import Walk

    states = Walk(graph, values, _given.get() or {}).to_the_end()
    collected = _collected.get()
    if collected is not None:
        collected.update({node.shown: state for node, state in states.items()})
    return states


def _module_of_caller() -> str:
    ours = __name__.rpartition(".")[0]
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith(ours + "."):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "__main__"))


def _verdict(states: list[tuple[Node, FlowState]]) -> FlowState:
    """Prefect 1's rule: the reference tasks decide, skipped ones count as successful."""
    bad = [(node, state) for node, state in states if not state.is_successful()]
    if not bad:
        return from_engine(State("COMPLETED", message="All reference tasks succeeded."))
    node, first = next(((node, state) for node, state in bad if state.is_failed()), bad[0])
    text = f"{len(bad)} of {len(states)} reference tasks did not succeed: {node.name} ended {first.name}"
    text += f" ({first.message})" if first.message else ""
    return from_engine(State("FAILED" if first.is_failed() else "CANCELLED", message=text, error=first.error))
