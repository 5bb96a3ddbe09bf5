"""What the daemon asks across tables: who is live, who was asked something, who waits. Reads only.

Each statement walks the small index of runs that have not ended, never a schedule's or a store's whole past.
"""

from __future__ import annotations

from typing import Final

from ..connection import Connection
from ..rows import RunRow, TaskRow
from .runs import RUN_COLUMNS
from .tasks import TASK_COLUMNS

SELECT_LIVE_TASKS: Final = (
    f"SELECT {TASK_COLUMNS} FROM task_run WHERE run_id = ? AND ended_at_us IS NULL ORDER BY seq"
)
SELECT_LAST_CHANGE: Final = "SELECT at_us FROM event WHERE run_id = ? AND task_seq IS NULL ORDER BY id DESC LIMIT 1"
SELECT_ASKED: Final = (
    f"SELECT {RUN_COLUMNS} FROM flow_run INDEXED BY flow_run_asked WHERE ended_at_us IS NULL AND intent <> 'none'"
    " AND root_id IS NULL ORDER BY id"
)
_OF_SCHEDULE = "flow_run INDEXED BY flow_run_of_schedule WHERE ended_at_us IS NULL AND schedule_id = ?1"
"""Left to itself SQLite may walk every run the schedule ever made."""
_HELD = "state_name = 'AwaitingSlot' AND wake_at_us IS NULL"
_NOT_HELD = ("state_name < 'AwaitingSlot'", "state_name > 'AwaitingSlot'",
             "state_name = 'AwaitingSlot' AND wake_at_us IS NOT NULL")
SELECT_LIVE_OF_SCHEDULE: Final = f"SELECT {RUN_COLUMNS} FROM {_OF_SCHEDULE} ORDER BY id"
SELECT_FREE_OF_SCHEDULE: Final = (
    f"SELECT {RUN_COLUMNS} FROM flow_run WHERE id IN ("
    + " UNION ALL ".join(f"SELECT * FROM (SELECT id FROM {_OF_SCHEDULE} AND {which} LIMIT 1)" for which in _NOT_HELD)
    + ") ORDER BY id LIMIT 1"
)
SELECT_FIRST_HELD: Final = f"SELECT {RUN_COLUMNS} FROM {_OF_SCHEDULE} AND {_HELD} ORDER BY id LIMIT 1"
SELECT_LAST_HELD: Final = f"SELECT {RUN_COLUMNS} FROM {_OF_SCHEDULE} AND {_HELD} ORDER BY id DESC LIMIT 1"
SELECT_HOLDING_SCHEDULES: Final = (
    "SELECT DISTINCT schedule_id FROM flow_run INDEXED BY flow_run_live WHERE ended_at_us IS NULL"
    " AND state_type = 'SCHEDULED' AND wake_at_us IS NULL AND state_name = 'AwaitingSlot' AND schedule_id IS NOT NULL"
)
SELECT_WITHOUT_PROCESS: Final = (
    f"SELECT {RUN_COLUMNS} FROM flow_run WHERE ended_at_us IS NULL AND root_id IS NULL AND state_type IN (?, ?, ?)"
    " AND NOT EXISTS (SELECT 1 FROM lease WHERE lease.run_id = flow_run.id) ORDER BY id"
)
SELECT_ANYTHING_DUE: Final = (
    "SELECT 1 FROM flow_run WHERE ended_at_us IS NULL AND state_type = 'SCHEDULED' AND wake_at_us <= ?"
    " AND intent = 'none' AND root_id IS NULL"
    " AND NOT EXISTS (SELECT 1 FROM lease WHERE lease.run_id = flow_run.id) LIMIT 1"
)
SELECT_REQUESTER: Final = (
    "SELECT actor, message FROM event WHERE run_id = ? AND task_seq IS NULL AND kind = 'request'"
    " AND data LIKE '{\"intent\":%'"
    " ORDER BY id DESC LIMIT 1"
)
SELECT_LAST_CRASH: Final = (
    "SELECT to_type, data FROM event WHERE run_id = ? AND task_seq IS NULL AND kind = 'state' AND (to_type = 'CRASHED'"
    " OR to_name = 'Scheduled' AND from_type IN ('COMPLETED', 'FAILED', 'CRASHED', 'CANCELLED'))"
    " ORDER BY id DESC LIMIT 1"
)
SELECT_COMPLETED_TASKS: Final = (
    "SELECT count(*) FROM task_run WHERE state_type = 'COMPLETED' AND run_id IN"
    " (SELECT ?1 UNION ALL SELECT id FROM flow_run WHERE root_id = ?1)"
)
SELECT_DAEMON_STOPPED: Final = (
    "SELECT 1 FROM event WHERE run_id = ? AND task_seq IS NULL AND kind = 'daemon' AND id > coalesce("
    "(SELECT max(id) FROM event WHERE run_id = ? AND task_seq IS NULL AND kind = 'state' AND to_type = 'PENDING'), 0)"
    " LIMIT 1"
)
SELECT_AT_ONCE: Final = (
    "SELECT 1 FROM event WHERE run_id = ? AND task_seq IS NULL AND kind = 'request' AND message = ? AND id > COALESCE("
    "(SELECT max(id) FROM event WHERE run_id = ? AND task_seq IS NULL AND kind = 'state' AND to_type = 'PENDING'), 0)"
    " LIMIT 1"
)
"""Since a process last took it."""
AT_ONCE: Final = "cancel now"
"""The words of a request to end a run without any grace."""


def live_tasks(connection: Connection, run_id: int) -> list[TaskRow]:
    """The task runs of a run that have not ended."""
    return [TaskRow._make(row) for row in connection.execute(SELECT_LIVE_TASKS, (run_id,))]


def last_change_us(connection: Connection, run_id: int) -> int:
    """When something last happened to a run itself; 0 when nothing is known."""
    row = connection.execute(SELECT_LAST_CHANGE, (run_id,)).fetchone()
    return int(row[0]) if row else 0


def asked(connection: Connection) -> list[RunRow]:
    """Root runs of which something was asked that is not done yet."""
    return [RunRow._make(row) for row in connection.execute(SELECT_ASKED)]


def live_of_schedule(connection: Connection, schedule_id: int) -> list[RunRow]:
    """The runs of a schedule that have not ended, oldest first."""
    return [RunRow._make(row) for row in connection.execute(SELECT_LIVE_OF_SCHEDULE, (schedule_id,))]


def free_of_schedule(connection: Connection, schedule_id: int) -> RunRow | None:
    """A run of a schedule that has not ended and waits for no other run of it, if there is one."""
    return _one(connection, SELECT_FREE_OF_SCHEDULE, schedule_id)


def first_held(connection: Connection, schedule_id: int) -> RunRow | None:
    """The oldest run of a schedule that waits for an earlier one to end."""
    return _one(connection, SELECT_FIRST_HELD, schedule_id)


def last_held(connection: Connection, schedule_id: int) -> RunRow | None:
    """The newest run of a schedule that waits for an earlier one to end."""
    return _one(connection, SELECT_LAST_HELD, schedule_id)


def holding_schedules(connection: Connection) -> list[int]:
    """The schedules with runs that wait for an earlier one to end."""
    return [row[0] for row in connection.execute(SELECT_HOLDING_SCHEDULES)]


def _one(connection: Connection, statement: str, schedule_id: int) -> RunRow | None:
    row = connection.execute(statement, (schedule_id,)).fetchone()
    return RunRow._make(row) if row else None


def without_process(connection: Connection) -> list[RunRow]:
    """Root runs whose state speaks of a process although nobody holds their lease."""
    return [RunRow._make(row)
            for row in connection.execute(SELECT_WITHOUT_PROCESS, ("PENDING", "RUNNING", "CANCELLING"))]


def anything_due(connection: Connection, now_us: int) -> bool:
    """Whether a claim would find a run: asked without the write lock."""
    return connection.execute(SELECT_ANYTHING_DUE, (now_us,)).fetchone() is not None


def is_asked_at_once(connection: Connection, run_id: int) -> bool:
    """Whether anybody who asked for the end of what runs of it wants no grace given."""
    return connection.execute(SELECT_AT_ONCE, (run_id, AT_ONCE, run_id)).fetchone() is not None


def requester(connection: Connection, run_id: int) -> tuple[str, str | None] | None:
    """Who asked something of the run last, and in which words."""
    row: tuple[str, str | None] | None = connection.execute(SELECT_REQUESTER, (run_id,)).fetchone()
    return row


def last_crash_data(connection: Connection, run_id: int) -> str | None:
    """What the event of a run's last crash carries; None when a person had it begin again since."""
    row = connection.execute(SELECT_LAST_CRASH, (run_id,)).fetchone()
    return row[1] if row is not None and row[0] == "CRASHED" else None


def completed_tasks(connection: Connection, run_id: int) -> int:
    """How many tasks of a root run and its subflows are completed."""
    return int(connection.execute(SELECT_COMPLETED_TASKS, (run_id,)).fetchone()[0])


def has_daemon_stopped(connection: Connection, run_id: int) -> bool:
    """Whether a daemon was stopped in order since a process last took the run."""
    return connection.execute(SELECT_DAEMON_STOPPED, (run_id, run_id)).fetchone() is not None
