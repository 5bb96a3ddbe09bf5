"""Moments that stand in rows for the end of a wait, over tables: found, and moved when the clock was set.

Whether such a moment is one of the calendar or the end of a duration is the engine's to say. Moves no state. All writes
expect an open write transaction.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ..connection import Connection
from ..rows import RunRow
from .runs import RUN_COLUMNS

MOMENT: Final = "a moment"
"""What stands as the description of a wait until a moment of the calendar, which no change of the clock moves."""
_LIVE_RUNS = "SELECT id FROM flow_run WHERE ended_at_us IS NULL"
SELECT_WAITING: Final = (
    f"SELECT {RUN_COLUMNS} FROM flow_run WHERE ended_at_us IS NULL AND state_type IN ('SCHEDULED', 'PAUSED')"
    " AND wake_at_us IS NOT NULL ORDER BY id"
)
SELECT_WRITTEN: Final = (
    "SELECT id, at_us FROM event WHERE run_id = ? AND task_seq IS NULL ORDER BY id DESC LIMIT 1"
)
SELECT_MOMENT: Final = (
    "SELECT 1 FROM run_input WHERE run_id IN (SELECT ?1 UNION ALL SELECT id FROM flow_run WHERE root_id = ?1)"
    " AND kind = 'wait' AND until_us = ?2 AND description = ?3 LIMIT 1"
)
SELECT_TASKS: Final = (
    "SELECT run_id, seq, wake_at_us FROM task_run WHERE ended_at_us IS NULL AND state_type = 'SCHEDULED'"
    f" AND wake_at_us IS NOT NULL AND run_id IN ({_LIVE_RUNS}) ORDER BY run_id, seq"
)
UPDATE_RUN: Final = "UPDATE flow_run SET wake_at_us = ?, cause = ? WHERE id = ? AND attempt = ? AND wake_at_us = ?"
UPDATE_TASK: Final = (
    "UPDATE task_run SET wake_at_us = wake_at_us + ? WHERE run_id = ? AND seq = ? AND wake_at_us = ?"
    " AND ended_at_us IS NULL"
)
_INPUTS = (
    f"until_us IS NOT NULL AND run_id IN ({_LIVE_RUNS}) AND (kind = 'request' OR kind = 'wait' AND description IS NULL)"
)
UPDATE_INPUTS: Final = (
    f"UPDATE run_input SET until_us = until_us + ?, created_at_us = created_at_us + ? WHERE {_INPUTS}"
)
UPDATE_INPUTS_AHEAD: Final = (
    "UPDATE run_input SET until_us = until_us - (created_at_us - ?), created_at_us = ?"
    f" WHERE {_INPUTS} AND created_at_us > ?"
)
SELECT_LIVE: Final = f"{_LIVE_RUNS} ORDER BY id"


class Written(NamedTuple):
    """When a run last changed: the event that says so, and its time."""

    event_id: int
    at_us: int


def waiting(connection: Connection) -> list[RunRow]:
    """Every run that waits for a time, with or without a process."""
    return [RunRow._make(row) for row in connection.execute(SELECT_WAITING)]


def written(connection: Connection, run_id: int) -> Written:
    """When the run was last written to: its wait, too."""
    found = connection.execute(SELECT_WRITTEN, (run_id,)).fetchone()
    return Written(0, 0) if found is None else Written._make(found)


def is_moment(connection: Connection, run: RunRow) -> bool:
    """Whether what the run sleeps until is a moment that its code named."""
    return connection.execute(SELECT_MOMENT, (run.id, run.wake_at_us, MOMENT)).fetchone() is not None


def tasks(connection: Connection) -> list[tuple[int, int, int]]:
    """Every task that waits to be tried again: run, number, when."""
    return [(run_id, seq, wake_at_us) for run_id, seq, wake_at_us in connection.execute(SELECT_TASKS)]


def move_run_to(connection: Connection, run: RunRow, wake_at_us: int, cause: str | None) -> bool:
    """Let its wait end then, unless it moved on meanwhile."""
    return connection.execute(UPDATE_RUN, (wake_at_us, cause, run.id, run.attempt, run.wake_at_us)).rowcount > 0


def move_task_by(connection: Connection, task: tuple[int, int, int], by_us: int) -> None:
    """Let its wait end so much later, unless it moved on meanwhile."""
    run_id, seq, wake_at_us = task
    connection.execute(UPDATE_TASK, (by_us, run_id, seq, wake_at_us))


def move_inputs_by(connection: Connection, by_us: int) -> None:
    """Let durable sleeps and the time for answers end so much later."""
    connection.execute(UPDATE_INPUTS, (by_us, by_us))


def begin_inputs_now(connection: Connection, now_us: int, after_us: int) -> None:
    """Those that are said to begin after a moment begin now."""
    connection.execute(UPDATE_INPUTS_AHEAD, (now_us, now_us, after_us))


def live_runs(connection: Connection) -> list[int]:
    """The numbers of all runs that have not ended."""
    return [number for (number,) in connection.execute(SELECT_LIVE)]
