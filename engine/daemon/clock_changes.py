"""The clock was set, or was wrong while no daemon ran: a wait lasts as long as it was to, schedules go on from now.

A row holds the end of a wait as a moment of the wall clock, and when it was written. Rules:

* While a daemon lives, two clocks tell how far the wall clock was set (the machine's own sleep is no such change). The
  ends of all waits for a duration move with it: retries, ``sleep``, the time for an answer. Moments that somebody named
  (a scheduled time, ``sleep_until``) stay.
* At its start the store is looked at once: what was written later than now was written under a clock that was ahead,
  and a wait of it lasts no longer than it was given.
* A schedule whose next tick was counted from such a time goes on from now. A tick of the calendar that had its run has
  none again, as in an autumn's repeated hour; an interval shorter than a day is elapsed time and goes on at once.
* A clock that says less than ``NOT_SET_BEFORE`` was never set (no battery, no network yet): schedules wait for it.

Each of it is an event and a line of the daemon's. Reads no clock itself.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from logging import WARNING
from typing import Final, NamedTuple

from ...store.connection import Connection, transaction
from ...store.rows import RunRow, ScheduleRow
from ...store.tables import deployments, events, runs, schedules, waits
from ..errors import ScheduleError
from ..schedules.kinds import from_json
from ..schedules.schedule import Interval
from ..schedules.ticks import next_due_us, to_us
from ..system.clock import Now, in_words
from .saying import Line

JUMP_SECONDS: Final = 2.0
"""What is less is a clock being kept right."""
NOT_SET_BEFORE: Final = to_us(datetime(2024, 1, 1, tzinfo=UTC))
WRITTEN_AT_ONCE: Final = 500
_JUMP_US: Final = round(JUMP_SECONDS * 1e6)
_DAY_SECONDS: Final = 86_400.0


class Jump(NamedTuple):
    """How far the clocks parted since the last look."""

    set_us: int
    """The wall clock was set by so much; 0 when it was not."""
    slept_seconds: float
    """The machine slept for so long."""


class ClockChanges:
    """Notices that the clock was set, and puts what stands in the store right."""

    def __init__(self, state: Connection, say: Callable[[str], None], now: Now) -> None:
        self._state = state
        self._say = say
        self._set_us, self._slept_seconds = _apart(now)

    def look(self, now: Now) -> Jump | None:
        """How the clocks parted since the last look, said and recorded; None when they did not."""
        before_us, before_seconds = self._set_us, self._slept_seconds
        self._set_us, self._slept_seconds = _apart(now)
        jump = Jump(self._set_us - before_us, self._slept_seconds - before_seconds)
        if jump.slept_seconds >= JUMP_SECONDS:
            self._tell(now.us, f"the machine slept for {_span(jump.slept_seconds)}")
        if abs(jump.set_us) >= _JUMP_US:
            self._tell(now.us, f"the clock was set {_direction(jump.set_us)}, to {in_words(now.us)}")
        elif jump.slept_seconds < JUMP_SECONDS:
            return None
        return jump._replace(set_us=jump.set_us if abs(jump.set_us) >= _JUMP_US else 0)

    def begin(self, now: Now) -> None:
        """At the daemon's start: what was written under a clock that was ahead is put right."""
        if now.us < NOT_SET_BEFORE:
            self._tell(now.us, f"the clock says {in_words(now.us)}, which cannot be: it was not set yet; schedules "
                       "wait until it is", WARNING)
        else:
            self._schedules_from_now(now.us, [row for row in schedules.all(self._state) if row.next_due_at_us])
        with transaction(self._state):
            written = {number: waits.written(self._state, number).at_us for number in waits.live_runs(self._state)}
            ahead = {number: at_us for number, at_us in written.items() if at_us > now.us + _JUMP_US}
            for run in waits.waiting(self._state) if ahead else ():
                if (written_us := ahead.get(run.id)) is not None:
                    self._move(run, now.us - written_us, written_us, now.us)
            for task in waits.tasks(self._state) if ahead else ():
                if (written_us := ahead.get(task[0])) is not None:
                    waits.move_task_by(self._state, task, now.us - written_us)
            waits.begin_inputs_now(self._state, now.us, now.us + _JUMP_US)

    def was_set(self, jump_us: int, now_us: int, known_event: int) -> None:
        """Let all that lasts a while end as much later, or earlier, by the clock; ``known_event`` was before."""
        before_us = now_us - jump_us
        with transaction(self._state):
            for run in waits.waiting(self._state):
                written = waits.written(self._state, run.id)
                is_new = written.event_id > known_event and \
                    abs(written.at_us - now_us) < abs(written.at_us - before_us)
                if not is_new:
                    self._move(run, jump_us, before_us, now_us)
            for task in waits.tasks(self._state):
                waits.move_task_by(self._state, task, jump_us)
            waits.move_inputs_by(self._state, jump_us)

    def schedules_go_on(self, now_us: int, jump_us: int) -> None:
        """After the clock was set back, or set at all: ticks are counted from now."""
        was_set_first = now_us - jump_us < NOT_SET_BEFORE <= now_us
        rows = [row for row in schedules.all(self._state) if row.next_due_at_us is not None]
        if was_set_first:
            rows = [row for row in rows if row.next_due_at_us is not None and row.next_due_at_us < NOT_SET_BEFORE]
        self._count_anew(now_us, rows, abs(jump_us))

    # -- waits ---------------------------------------------------------------------------------------------------

    def _move(self, run: RunRow, by_us: int, then_us: int, now_us: int) -> None:
        """``then_us`` is what the clock said when the wait was written, or just before it was set."""
        wake_us = run.wake_at_us
        assert wake_us is not None
        was_due = wake_us <= then_us
        if not was_due and self._is_moment(run):
            return
        moved_us = wake_us + by_us
        cause = run.cause and run.cause.replace(in_words(wake_us), in_words(moved_us))
        if waits.move_run_to(self._state, run, moved_us, cause) and not was_due:
            events.append(self._state, at_us=now_us, kind="daemon", actor="engine", run_id=run.id, attempt=run.attempt,
                          message=f"the clock was set {_direction(by_us)}: it waits as long as it was to, until "
                          f"{in_words(moved_us)}")

    def _is_moment(self, run: RunRow) -> bool:
        """Whether the run waits for a moment that somebody named."""
        if run.state_type == "SCHEDULED" and run.started_at_us is None and run.state_name != "AwaitingRetry":
            return run.wake_at_us == run.scheduled_at_us
        return waits.is_moment(self._state, run)

    # -- schedules -----------------------------------------------------------------------------------------------

    def _schedules_from_now(self, now_us: int, rows: list[ScheduleRow]) -> None:
        """Those of which something stands in the store that lies ahead."""
        loaded_us = {row.name: row.updated_at_us for row in deployments.all(self._state)}
        ahead = {row.id: max(row.last_due_at_us or 0, loaded_us.get(row.deployment, 0)) - now_us for row in rows}
        found = [row for row in rows if ahead[row.id] > _JUMP_US]
        if found:
            by_us = max(ahead[row.id] for row in found)
            self._tell(now_us, f"the clock was ahead by {_span(by_us / 1e6)} or more when the store was last written: "
                       f"{len(found)} schedules go on from now", WARNING)
            self._count_anew(now_us, found, by_us)

    def _count_anew(self, now_us: int, rows: list[ScheduleRow], by_us: int) -> None:
        moved: list[tuple[ScheduleRow, int]] = []
        for row in rows:
            try:
                due_us = next_due_us(row.spec, now_us)
            except ScheduleError:
                continue  # whoever schedules it says so
            if due_us is not None and due_us != row.next_due_at_us:
                moved.append((row, due_us))
        for first in range(0, len(moved), WRITTEN_AT_ONCE):
            with transaction(self._state):
                for row, due_us in moved[first : first + WRITTEN_AT_ONCE]:
                    if _is_elapsed_within(row, by_us):
                        runs.free_ticks(self._state, row.id, now_us)
                    schedules.advance(self._state, row.id, due_us)

    def _tell(self, at_us: int, text: str, level: int | None = None) -> None:
        self._say(text if level is None else Line(text, level))
        with transaction(self._state):
            events.append(self._state, at_us=at_us, kind="daemon", actor="engine", message=text)


def _is_elapsed_within(row: ScheduleRow, by_us: int) -> bool:
    """Whether a schedule is elapsed time, and would be silent for longer than its own period."""
    found = from_json(row.spec)
    return isinstance(found, Interval) and found.seconds < _DAY_SECONDS and found.seconds * 1e6 <= by_us


def _apart(now: Now) -> tuple[int, float]:
    return now.us - round(now.elapsed * 1e6), now.elapsed - now.monotonic


def _direction(by_us: int) -> str:
    return f"{'forward' if by_us > 0 else 'back'} by {_span(abs(by_us) / 1e6)}"


def _span(seconds: float) -> str:
    for size, unit in ((_DAY_SECONDS, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            whole = int(seconds // size)
            rest, smaller = (seconds - whole * size), {"d": (3600.0, "h"), "h": (60.0, "min"), "min": (1.0, "s")}[unit]
            return f"{whole} {unit} {int(rest // smaller[0])} {smaller[1]}"
    return f"{seconds:.0f} s"
