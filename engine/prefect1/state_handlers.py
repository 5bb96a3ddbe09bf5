"""Prefect 1's state handlers: told of each change of a task or flow, they may put another state in its place.

Around a task's function they stand as a function of their own, which knows nothing of the run and so can be sent to a
worker process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..errors import RunTimedOut
from ..states.state import State, describe_exception
from . import states as classic_states
from .signals import Signal
from .states import FlowState, from_engine

if TYPE_CHECKING:
    from ..authoring.tasks import Task

Handler = Callable[[Any, FlowState, FlowState], Any]


def handlers_around(
    fn: Callable[..., Any], task: Task[..., Any], attempt: int, handlers: tuple[Handler, ...]
) -> Callable[..., Any]:
    """The function with these handlers around it."""
    return (_handled_async if task.is_async else _handled)(fn, task, attempt, handlers)


def refused_after_handlers(task: Task[..., Any], handlers: Iterable[Handler], new: FlowState) -> FlowState:
    """What the handlers make of a task's not beginning; what one of them raises fails it."""
    try:
        return handled(task, handlers, classic_states.Pending(), new)
    except Signal as signal:
        return signal.state
    except Exception as error:  # noqa: BLE001 - the user's state handler
        text = f"Exception raised while calling state handlers: {describe_exception(error)}"
        return classic_states.Failed(text, error)


def handled(subject: Any, handlers: Iterable[Handler], old: FlowState, new: FlowState) -> FlowState:
    """Each handler in turn is told of the change, and may put another state in the place of the new one."""
    for handler in handlers:
        changed = handler(subject, old, new)
        if changed is None:
            continue
        if not isinstance(changed, State):
            name = getattr(handler, "__name__", repr(handler))
            raise TypeError(f"state handler {name} returned {changed!r}, which is no state: return the new state")
        new = changed if isinstance(changed, FlowState) else from_engine(changed)
    return new


def on_failure_handler(on_failure: Callable[[Any, FlowState], Any]) -> Handler:
    """Prefect 1's ``on_failure``: called with the task or flow and the state, at each failure."""

    def handler(subject: Any, _old: FlowState, new: FlowState) -> None:
        if new.is_failed():
            on_failure(subject, new)

    return handler


def _handled(
    fn: Callable[..., Any], task: Task[..., Any], attempt: int, handlers: tuple[Handler, ...]
) -> Callable[..., Any]:
    """The function between its handlers; it knows nothing of the run, so that it can be sent to a worker process."""

    def function(*args: Any, **kwargs: Any) -> Any:
        running = _started(task, attempt, handlers)
        if not running.is_running():
            return running.plain()
        try:
            value = fn(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - handlers are told of it, then it goes on
            return _ended(task, attempt, handlers, running, *_state_of_error(error), error)
        return _ended(task, attempt, handlers, running, *_state_of_value(value), None)

    return function


def _handled_async(
    fn: Callable[..., Any], task: Task[..., Any], attempt: int, handlers: tuple[Handler, ...]
) -> Callable[..., Any]:
    async def function(*args: Any, **kwargs: Any) -> Any:
        running = _started(task, attempt, handlers)
        if not running.is_running():
            return running.plain()
        try:
            value = await fn(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - handlers are told of it, then it goes on
            return _ended(task, attempt, handlers, running, *_state_of_error(error), error)
        return _ended(task, attempt, handlers, running, *_state_of_value(value), None)

    return function


def _started(task: Task[..., Any], attempt: int, handlers: tuple[Handler, ...]) -> FlowState:
    """Running, or what a handler put in its place: the function is then not called."""
    old = classic_states.Pending() if attempt <= 1 else classic_states.Retrying()
    return handled(task, handlers, old, classic_states.Running("Starting task run."))


def _state_of_value(value: Any) -> tuple[FlowState, Any]:
    if isinstance(value, State):
        return (value if isinstance(value, FlowState) else from_engine(value)), value.plain()
    return classic_states.Success("Task run succeeded.", value), value


def _state_of_error(error: BaseException) -> tuple[FlowState, Any]:
    if isinstance(error, Signal):
        return error.state, None
    if isinstance(error, RunTimedOut):
        return classic_states.TimedOut(str(error), error), None
    if isinstance(error, Exception):
        return classic_states.Failed(describe_exception(error), error), None
    return classic_states.Cancelled(str(error) or type(error).__name__, error), None


def _ended(
    task: Task[..., Any], attempt: int, handlers: tuple[Handler, ...], running: FlowState, new: FlowState,
    outcome: Any, error: BaseException | None,
) -> Any:
    """Tell the handlers how the function ended; what they leave unchanged stays the value or exception it was."""
    changed = handled(task, handlers, running, new)
    if changed is new:
        if new.is_failed() and attempt <= task.retry_policy.retries:
            again = handled(task, handlers, new, classic_states.Retrying(new.message))
            if again.is_finished():
                return again.plain()
        if error is not None:
            raise error
        return outcome
    if error is not None and not isinstance(error, Exception):
        raise error  # told to end: no handler changes that
    return changed.plain()
