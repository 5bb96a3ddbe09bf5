"""What user code came to: the state that an exception out of it, or what it returned, leads to.

Nothing is recorded or moved here, and nothing waits; of tracebacks and exits the run's log and the session are told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ....store.states import TERMINAL_TYPES
from ...errors import RunTimedOut, WorkerDied
from ...states.state import Cancelled, State, aggregate, as_state, describe_exception, exit_call
from ..calls.futures import resolve_futures_to_states
from ..calls.task_call import cancelled_state
from ..effects.interrupts import is_coroutine_cancelled

if TYPE_CHECKING:
    from ..calls.flow_run import FlowRun
    from ..calls.task_call import TaskCall


def judge_task(call: TaskCall, error: BaseException) -> tuple[str, State]:
    """Which event an exception out of the user's code is, and the state it leads to."""
    if call.told_to_end is not None:
        return "cancel", _told_to_end(call, error)
    if isinstance(error, Cancelled):
        return "cancel", State("CANCELLED", None, _cancel_text(call, error), error=error)
    if isinstance(error, RunTimedOut) and call.interruption is not None:
        text = f"took longer than {call.timeout_seconds:g} s"
        if call.interruption.__dict__:
            text += call.run.session.timeouts.how_late(call.interruption)
        return "time_out", State("FAILED", "TimedOut", text, error=RunTimedOut(f"{call.name} {text}"))
    if isinstance(error, WorkerDied):
        call.run.session.log.task(call, 40, str(error))
        return "crash", State("CRASHED", None, str(error), error=error)
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        call.run.session.ending.note_exit(error)
        if isinstance(error, KeyboardInterrupt):
            return "cancel", State("CANCELLED", None, "interrupted from the keyboard", error=error)
        return "crash", State("CRASHED", None, f"the task called {exit_call(error)}", error=error)
    if is_coroutine_cancelled(error):
        return "cancel", State("CANCELLED", None, "its coroutine was cancelled", error=error)
    if hasattr(type(error), "flowdeck_ending"):  # one of Prefect 1's signals
        asked: tuple[str, State] = error.flowdeck_ending()  # type: ignore[attr-defined]
        return asked
    call.run.session.log.task_exception(call, error)
    return "fail", State("FAILED", None, describe_exception(error), error=error)


def _told_to_end(call: TaskCall, error: BaseException) -> State:
    """It was cancelled by itself: whatever its code then raised, and who waits for it hears which call it was."""
    text = str(call.told_to_end)
    if not isinstance(error, Cancelled) and not is_coroutine_cancelled(error):
        call.run.session.log.task_exception(call, error)
        text = f"{text}; ending, its code raised {describe_exception(error)}"
    return cancelled_state(call, text)


def _cancel_text(call: TaskCall, error: Cancelled) -> str:
    """Why; an exception raised in a worker thread from outside has no text of its own."""
    return str(error) or call.run.session.requests.cancel_reason or call.run.stop_reason or "cancelled"


END_EVENTS: Final = {"COMPLETED": "complete", "FAILED": "fail", "CANCELLED": "cancel", "CRASHED": "crash"}
"""Which event a final state is, of a task and of a flow."""
_REFUSALS = {"NotReady": "not_ready", "TriggerFailed": "trigger_fail", "Skipped": "skip"}
_REFUSAL_TYPES = {"FAILED": "fail", "CANCELLED": "cancel", "CRASHED": "crash", "COMPLETED": "use_cached"}


def event_of_refusal(state: State) -> str:
    """How a call ends that does not begin."""
    return _REFUSALS.get(state.name) or _REFUSAL_TYPES.get(state.type, "fail")


def judge_task_value(call: TaskCall, value: Any) -> tuple[str, State]:
    """As ``judge_task``, of what the code returned: a state decides, any other value completes."""
    if issubclass(type(value), (State, Cancelled)):  # not isinstance: it asks a proxy for its class, which may raise
        value = as_state(value)
        events = {"COMPLETED": "complete", "FAILED": "fail", "CANCELLED": "cancel", "CRASHED": "crash"}
        value = value.plain()
        if value.type in events:
            if value.message:
                call.run.session.log.task(call, _level_of(value), f"{call.name} returned {value.name}: {value.message}")
            return events[value.type], value
        return "fail", State("FAILED", None, f"the task returned the state {value!r}, which is not final")
    return "complete", State("COMPLETED", data=value)


def _level_of(state: State) -> int:
    """How grave what a returned state says is."""
    return {"COMPLETED": 20, "CANCELLED": 30}.get(state.type, 40)


def judge_flow_value(run: FlowRun, value: Any) -> State:
    """Prefect's rule: a returned state or states decide; else an unseen failure of a submitted task; else Completed."""
    value = as_state(resolve_futures_to_states(value))
    if issubclass(type(value), State):  # not isinstance: that asks a proxy for its __class__, which may raise
        if value.type not in TERMINAL_TYPES:
            return _not_final(value)
        if value.message:
            run.session.log.run(run, _level_of(value), f"flow {run.flow.name} returned {value.name}: {value.message}")
        returned: State = value
        return returned
    states = list(value.values()) if type(value) is dict else value
    if type(states) in (list, tuple, set):
        states = [as_state(item) for item in states]
    if type(states) in (list, tuple, set) and states and all(issubclass(type(item), State) for item in states):
        if any(not state.is_final() for state in states):
            return State("FAILED", None, "the flow returned states of which some are not final", data=value)
        together = aggregate(list(states))
        return State(together.type, together.name, together.message, data=value, error=together.error)
    verdict = run.outstanding.verdict()
    return verdict if verdict is not None else State("COMPLETED", data=value)


def _not_final(state: State) -> State:
    """A flow does not end as something that goes on, nor as a task that could not start; in Prefect's words."""
    reason = f": {state.name}" + (f", {state.message}" if state.message else "")
    return State("FAILED", None, f"1/1 states are not final{reason}", data=[state], error=state.error)


def judge_flow(run: FlowRun, error: BaseException) -> State:
    """The state an exception out of the flow's code, or out of what the run waited for, leads to."""
    if isinstance(error, Cancelled):
        reason = run.session.ending.reason_to_end()
        if reason is None and run.session.ending.was_terminated:
            return State("CRASHED", None, f"{error}", error=error)
        text = reason or str(error) or run.stop_reason or "cancelled"
        return State("CANCELLED", None, text, error=error if str(error) else Cancelled(text))
    if isinstance(error, RunTimedOut) and run.interruption is not None:
        text = f"took longer than {run.timeout_seconds:g} s" + run.session.timeouts.how_late(run.interruption)
        return State("FAILED", "TimedOut", text, error=RunTimedOut(f"flow {run.flow.name} {text}"))
    if isinstance(error, KeyboardInterrupt):
        return State("CANCELLED", None, "interrupted from the keyboard (Ctrl-C)", error=error)
    if isinstance(error, SystemExit):
        return State("CRASHED", None, f"the flow called {exit_call(error)}", error=error)
    if is_coroutine_cancelled(error):
        if (left := run.session.ending.left_by) is not None:  # asyncio ends everything in its loop after a ``sys.exit``
            return State("CRASHED", None, f"a task called {exit_call(left)}", error=error)
        return State("CANCELLED", None, "its coroutine was cancelled", error=error)
    run.session.log.run_exception(run, error)
    return State("FAILED", None, describe_exception(error), error=error)
