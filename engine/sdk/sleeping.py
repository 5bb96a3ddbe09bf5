"""Durable sleep: the time to wake is journalled, so that a run that was killed meanwhile waits only the rest.

A run of the daemon whose flow function sleeps for longer than ``FLOWDECK_SUSPEND_AFTER_SECONDS`` (60), while nothing
else of it goes on, lets its process go and is brought back in time. A sleep in a task holds its process: a task that
left would begin anew.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ...store.tables import inputs, waits
from ..control.questions import left_us
from ..errors import UsageError
from ..running.calls.frame import current_frame
from ..running.calls.task_call import record_caller
from ..running.effects.effects import Await, Durable, Pass, Steps, drive, drive_async
from ..running.effects.interrupts import engine_code
from ..running.lifecycle.asking import Expected
from ..system.clock import elapsed, now_us
from .in_coroutines import is_awaited

if TYPE_CHECKING:
    from ...store.connection import Connection
    from ..running.calls.frame import Frame

_LOOK_AT_CLOCK_SECONDS = 60.0
"""A machine that was asleep itself is noticed within this time."""


def sleep(seconds: float) -> Coroutine[Any, Any, None] | None:
    """Sleep; in an async flow or task ``await sleep(5)``. Survives a crash: the rest is slept after it."""
    if not seconds >= 0:
        raise UsageError(f"sleep({seconds!r}): give a number of seconds, 0 or more")
    return _sleep(seconds, None)


def sleep_until(when: datetime) -> Coroutine[Any, Any, None] | None:
    """Sleep until a moment; a time without a zone is local time. In async code ``await sleep_until(…)``."""
    return _sleep(None, when)


def _sleep(seconds: float | None, when: datetime | None) -> Coroutine[Any, Any, None] | None:
    frame = current_frame.get()
    until_us = None if seconds is not None else _moment(when)
    if frame is None:
        return _outside(max(0.0, (until_us - now_us()) / 1e6) if until_us is not None else seconds or 0.0)
    if is_awaited(frame):
        return _in_coroutine(frame, seconds, until_us)
    with engine_code():
        drive(frame.run.session, _steps(frame, seconds, until_us, None))
    return None


def _moment(when: Any) -> int:
    if not isinstance(when, datetime):
        raise UsageError(f"sleep_until({when!r}): give a datetime")
    return round(when.timestamp() * 1e6)


def _outside(seconds: float) -> Coroutine[Any, Any, None] | None:
    """Outside of runs there is nothing to journal."""
    if is_awaited(None):
        import asyncio

        return asyncio.sleep(seconds)
    time.sleep(seconds)
    return None


async def _in_coroutine(frame: Frame, seconds: float | None, until_us: int | None) -> None:
    import asyncio

    await drive_async(frame.run.session, _steps(frame, seconds, until_us, asyncio.get_running_loop()))


def _steps(frame: Frame, seconds: float | None, moment_us: int | None, loop: Any) -> Steps[None]:
    run, session, task = frame.run, frame.run.session, frame.task
    if task is not None:
        record_caller(task)
    # A task that is tried again sleeps again; a flow that is tried again has done its sleeping.
    attempt = f"{task.attempt}/" if task is not None else ""
    key = f"sleep/{frame.scope_seq}/{attempt}{run.next_call_index(frame.scope_seq, 'sleep()')}"

    def note(conn: Connection) -> float:
        """For how long it sleeps from now on."""
        known = inputs.newest(conn, run.id, key, "wait")
        at_us = now_us()
        if known is None or known.until_us is None:
            until_us = at_us + round((seconds or 0) * 1e6) if moment_us is None else moment_us
            inputs.insert(conn, run.id, key, "wait", sender="engine", at_us=at_us, until_us=until_us,
                          description=None if moment_us is None else waits.MOMENT)
            return (until_us - at_us) / 1e6
        return left_us(known, at_us) / 1e6

    latest = elapsed() + (yield Durable(note))

    def wake_at_us() -> int:
        """A moment is the wall clock's; a while is not made longer or shorter by setting that."""
        return now_us() + round((latest - elapsed()) * 1e6) if moment_us is None else moment_us

    with session.departure.asleep(frame, wake_at_us, loop):
        while (left := (wake_at_us() - now_us()) / 1e6) > 0:
            yield Await(_NEVER, min(left, _LOOK_AT_CLOCK_SECONDS))
    if not session.gate.is_open():
        yield Pass()


class _Never(Expected):
    """Only time ends the wait for it."""

    def when_done(self, callback: Any) -> None:
        """It never is."""


_NEVER = _Never(lambda _connection: None)
