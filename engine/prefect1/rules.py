"""Whether a call of a task may begin, by Prefect 1's rules: its trigger, skips before it, and its state handlers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from ..running.calls.dependencies import replace_futures
from ..running.calls.futures import Future, FutureList
from ..running.effects.effects import Steps
from ..running.lifecycle.repeats import pause_steps
from ..states.state import State, describe_exception
from . import states as classic_states
from .context import context
from .signals import Signal
from .state_handlers import Handler, handlers_around, refused_after_handlers
from .states import FlowState, from_engine
from .triggers import all_successful
from .wiring import Edge

if TYPE_CHECKING:
    from ..authoring.tasks import Task
    from ..running.calls.task_call import TaskCall


class Upstream(list[Any]):
    """What a call drawn in a graph waits for, and the edges through which all of it reaches the call."""

    __slots__ = ("edges", "refusal")

    def __init__(self, waits_for: Iterable[Any], edges: Callable[[], dict[Edge, Any]]) -> None:
        super().__init__(waits_for)
        self.edges = edges
        self.refusal: State | None = None
        """Why the call does not start, when that is known before."""


class Rules(NamedTuple):
    """Whether a call may start, and what stands around its function."""

    trigger: Callable[[dict[Any, FlowState]], Any] = all_successful
    skip_on_upstream_skip: bool = True
    state_handlers: tuple[Handler, ...] = ()

    def admission(self, call: TaskCall) -> Steps[tuple[dict[str, Any], State | None]]:
        """Steps to (arguments, None), or to (arguments, the state in which the call ends without having begun)."""
        upstream = call.wait_for
        while True:
            if call.run.session.gate.is_cancelled:
                return call.resolve_inputs()
            refused = upstream.refusal if isinstance(upstream, Upstream) else None
            if refused is None:
                refused = self._refusal(call)
            if refused is None or not refused.is_paused():
                break
            yield from pause_steps(call, refused.message or "")
        values, _ = replace_futures(call.parameters, call.wait_for, forgiving=True)
        if refused is not None and self.state_handlers:
            refused = refused_after_handlers(call.task, self.state_handlers, from_engine(refused)).plain()
        return values, refused

    def admits_at_once(self, call: TaskCall) -> bool:
        """Whether ``admission`` would let it start and do nothing else: usual rules, and all before it completed."""
        refusal = call.wait_for.refusal if isinstance(call.wait_for, Upstream) else None
        return refusal is None and not call.run.session.gate.is_cancelled and self._is_plainly_met(call)

    def _is_plainly_met(self, call: TaskCall) -> bool:
        return self.trigger is all_successful and not self.state_handlers and _all_completed(call)

    def _refusal(self, call: TaskCall) -> State | None:
        if self._is_plainly_met(call):
            return None
        states = {edge: _shown(outcome) for edge, outcome in _edges_of(call).items()}
        if self.skip_on_upstream_skip:
            skipped = next((edge for edge, state in states.items() if _has_skipped(state)), None)
            if skipped is not None:
                name = getattr(skipped.upstream_task, "name", "a task")
                text = f"Upstream task was skipped: {name} (with skip_on_upstream_skip=False it would run)"
                return State("CANCELLED", "Skipped", text, data=None)
        return self.verdict(call, states)

    def verdict(self, call: TaskCall | None, states: dict[Any, FlowState]) -> State | None:
        """What the trigger says of these states: None to run."""
        resumed = call is not None and call.again is not None and call.again.resumed
        try:
            with context(**({"resume": True} if resumed else {})):
                met = self.trigger(states)
        except Signal as signal:
            _, state = signal.flowdeck_ending()
            if state.error is None and state.type == "FAILED":
                state.error = signal
            return state
        except Exception as error:  # noqa: BLE001 - the user's trigger
            text = f"Unexpected error while checking task trigger: {describe_exception(error)}"
            return State("FAILED", "TriggerFailed", text, error=error)
        if met:
            return None
        name = getattr(self.trigger, "__name__", repr(self.trigger))
        return State("FAILED", "TriggerFailed", f'Trigger "{name}" was not met')

    def around(self, fn: Callable[..., Any], call: TaskCall) -> Callable[..., Any]:
        """The function with its state handlers around it; itself when there are none."""
        return handlers_around(fn, call.task, call.attempt, self.state_handlers) if self.state_handlers else fn


def _edges_of(call: TaskCall) -> dict[Any, Any]:
    """Everything before a call, by edge; outside a graph the futures among its arguments stand for edges."""
    if isinstance(call.wait_for, Upstream):
        return call.wait_for.edges()
    found: dict[Any, Any] = {}
    for key, value in [*call.parameters.items(), (None, call.wait_for)]:
        for future in _futures_in(value):
            found[Edge(future.call.task if future.call is not None else None, call.task, key, False)] = future
    return found


def _futures_in(value: Any, depth: int = 0) -> Iterator[Future[Any]]:
    if isinstance(value, Future):
        yield value
    elif isinstance(value, (list, tuple, set, frozenset, dict)) and depth < 6:
        for item in value.values() if isinstance(value, dict) else value:
            yield from _futures_in(item, depth + 1)


def _all_completed(call: TaskCall) -> bool:
    """The common case, seen without making a state for each edge."""
    outcomes = call.wait_for.edges().values() if isinstance(call.wait_for, Upstream) else _edges_of(call).values()
    for outcome in outcomes:
        for future in outcome if isinstance(outcome, FutureList) else (outcome,):
            if isinstance(future, Future) and not future.has_completed:
                return False
    return True


@lru_cache(maxsize=1)
def _success() -> FlowState:
    return classic_states.Success()


def _shown(outcome: Any) -> FlowState:
    """What a trigger sees of a future, a mapped group, or a value that was given."""
    if isinstance(outcome, FutureList):
        return classic_states.of_group([_shown(future) for future in outcome])
    if isinstance(outcome, Future):
        outcome.handled = True
        return from_engine(outcome.outcome) if outcome.outcome is not None else classic_states.Pending()
    return _success() if outcome is None else classic_states.Success(result=outcome)


def _has_skipped(state: FlowState) -> bool:
    return state.is_skipped() or any(one.is_skipped() for one in state.map_states or ())


def rules_of_task(task: Task[..., Any]) -> Rules:
    """A task's rules; Prefect 1's usual ones for a task that has none."""
    return task.rules if isinstance(task.rules, Rules) else Rules()
