"""Prefect 1's signals: exceptions that say how a task is to end, raised anywhere within it.

``raise SKIP("nothing new")``. ``RETRY`` tries again whatever ``max_retries`` says, ``LOOP`` runs again with a result to
go on from (recorded, so that a killed loop continues), ``PAUSE`` waits for a person.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from ..states.state import State
from ..system.clock import now_us
from . import states as states
from .context import context

__all__ = [
    "FAIL", "LOOP", "PAUSE", "RETRY", "SKIP", "SUCCESS", "TRIGGERFAIL", "VALIDATIONFAIL", "PrefectStateSignal",
    "Signal", "pause_task", "signal_from_state",
]


class Signal(Exception):
    """Ends the task with ``state``."""

    event: ClassVar[str] = "fail"
    kind: ClassVar[type[states.FlowState]] = states.Failed

    def __init__(self, message: str | None = None, *, result: Any = None, **more: Any) -> None:
        super().__init__(message if message is not None else "")
        self.message = message
        self.result = result
        self.more = more

    @property
    def state(self) -> states.FlowState:
        """The state it asks for."""
        failed = issubclass(self.kind, states.Failed)
        return self.kind(self.message, self if failed and self.result is None else self.result)

    def flowdeck_ending(self) -> tuple[str, State]:
        """For the engine: which event this is, and the state it leads to."""
        state = self.state.plain()
        if state.message is None:
            state.message = f"the task raised {type(self).__name__}"
        return self.event, state

    def __reduce__(self) -> Any:
        return _remade, (type(self), self.message, self.result, self.more)


def _remade(kind: type[Signal], message: str | None, result: Any, more: dict[str, Any]) -> Signal:
    return kind(message, result=result, **more)


PrefectStateSignal = Signal


class FAIL(Signal):
    """Failed; tried again while there are retries left."""


class TRIGGERFAIL(Signal):
    """Failed because its trigger was not met."""

    kind = states.TriggerFailed


class VALIDATIONFAIL(Signal):
    """Failed because its result is not as it should be."""

    kind = states.ValidationFailed


class SUCCESS(Signal):
    """Succeeded, with ``result`` as its value."""

    event = "complete"
    kind = states.Success


class SKIP(Signal):
    """Skipped: counts as success, and what comes after it is skipped as well."""

    event = "skip"
    kind = states.Skipped


class RETRY(Signal):
    """Tried again, now or at ``start_time``, however often that was."""

    kind = states.Retrying

    def __init__(self, message: str | None = None, start_time: datetime | None = None, **more: Any) -> None:
        super().__init__(message, **more)
        self.start_time = start_time

    @property
    def flowdeck_retry_seconds(self) -> float:
        """How long to wait."""
        if self.start_time is None:
            return 0.0
        start = self.start_time if self.start_time.tzinfo is not None else self.start_time.replace(tzinfo=UTC)
        return max(0.0, (start - datetime.fromtimestamp(now_us() / 1e6, UTC)) / timedelta(seconds=1))

    def flowdeck_ending(self) -> tuple[str, State]:
        """As a failure, which the engine then tries again after so many seconds."""
        return "fail", State("FAILED", None, self.message or "the task asked to be tried again", error=self)

    def __reduce__(self) -> Any:
        return _retry, (self.message, self.start_time)


def _retry(message: str | None, start_time: datetime | None) -> RETRY:
    return RETRY(message, start_time)


class LOOP(Signal):
    """Run again at once; ``result`` is then ``context.task_loop_result``, and ``context.task_loop_count`` goes up."""

    event = "loop"
    kind = states.Looped


class PAUSE(Signal):
    """Wait until a person resumes the run, then run again with ``context.resume`` set."""

    event = "pause"
    kind = states.Paused


def pause_task(message: str | None = None, duration: timedelta | None = None) -> None:
    """Wait here until a person resumes the run: the task then runs again and goes on past this line."""
    if duration is not None:
        raise ValueError("pause_task(duration=…) is not kept: a run that is paused waits for a person")
    if not context.get("resume"):
        raise PAUSE(message or "Pause signal raised during task execution.")


def signal_from_state(state: State) -> type[Signal]:
    """The signal that asks for such a state."""
    shown = state if isinstance(state, states.FlowState) else states.from_engine(state)
    for signal in (TRIGGERFAIL, VALIDATIONFAIL, FAIL, SKIP, SUCCESS, RETRY, PAUSE, LOOP):
        if isinstance(shown, signal.kind):
            return signal
    raise ValueError(f"no signal asks for {state!r}")


_remade.__module__ = _retry.__module__ = "flowdeck"
for _kind in tuple(vars().values()):
    if isinstance(_kind, type) and _kind.__module__ == __name__:
        _kind.__module__ = "flowdeck.signals"  # what is stored names it there, wherever this file stands
