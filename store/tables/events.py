"""The ``event`` table: audit log, change feed and export outbox at once. Rows are appended, never changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ..connection import Connection
from ..rows import EventRow

EVENT_COLUMNS: Final = ", ".join(EventRow._fields)
COLUMNS_OF_NEW: Final = (
    "at_us, kind, run_id, task_seq, attempt, from_type, from_name, to_type, to_name, actor, message, data"
)
INSERT: Final = (
    f"INSERT INTO event ({COLUMNS_OF_NEW}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
"""Also used by ``tasks`` and ``runs``, which append their event in the same transaction as their row."""
INSERT_BEGUN_AND_ENDED: Final = (
    f"INSERT INTO event ({COLUMNS_OF_NEW}) VALUES"
    " (?1, 'state', ?3, ?4, ?5, NULL, NULL, ?6, ?7, ?10, NULL, NULL),"
    " (?2, 'state', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, NULL)"
)
"""Both events of a task that ended before anybody heard of its beginning: values said once cost half."""
SELECT_AFTER: Final = f"SELECT {EVENT_COLUMNS} FROM event WHERE id > ? ORDER BY id LIMIT ?"
SELECT_BOUNDS_OF_RUN: Final = "SELECT min(id), max(id) FROM event WHERE run_id = ? AND task_seq IS NULL"
SELECT_ENDED: Final = "SELECT ended_at_us IS NOT NULL FROM flow_run WHERE id = ?"
SELECT_OF_RUN: Final = (
    f"SELECT {EVENT_COLUMNS} FROM event NOT INDEXED WHERE id > ?1 AND id <= ?2 AND run_id = ?3 ORDER BY id LIMIT ?4"
)
SELECT_RETRIES: Final = (
    "SELECT count(*) FROM event WHERE run_id = ?1 AND task_seq IS NULL AND to_name = 'AwaitingRetry' AND id > coalesce("
    "(SELECT max(id) FROM event WHERE run_id = ?1 AND task_seq IS NULL AND from_type IN"
    " ('FAILED', 'COMPLETED', 'CANCELLED')), 0)"
)
SELECT_AGAIN: Final = (
    "SELECT count(*) FROM event WHERE run_id = ?1 AND task_seq IS NULL AND kind = 'state'"
    " AND (to_name = 'AwaitingRetry'"
    " OR from_type IN ('FAILED', 'CRASHED', 'CANCELLED', 'COMPLETED') AND to_type = 'SCHEDULED')"
)
SELECT_CRASHES: Final = (
    "SELECT count(*) FROM event NOT INDEXED WHERE id >= ?1 AND run_id = ?2 AND task_seq = ?3 AND data = ?4"
)
CRASH_DATA: Final = '{"crash":true}'
"""The ``data`` of a task's AwaitingRetry when its worker process died."""
SELECT_MADE_ANEW: Final = (
    "SELECT task_seq, message FROM event NOT INDEXED WHERE id > ?1 AND id <= ?2 AND run_id = ?3"
    " AND task_seq IS NOT NULL AND from_type IS NOT NULL AND to_type = 'PENDING' AND message IS NOT NULL ORDER BY id"
)
RESUMED_AFTER: Final = (
    "SELECT EXISTS (SELECT 1 FROM event AS asked JOIN event AS resumed ON resumed.run_id = asked.run_id"
    " AND resumed.id > asked.id WHERE asked.run_id = ?1 AND asked.task_seq IS NULL AND asked.kind = 'request'"
    " AND instr(asked.message, ?2) > 0 AND resumed.task_seq IS NULL AND resumed.from_type = 'PAUSED'"
    " AND resumed.to_type IN ('RUNNING', 'SCHEDULED'))"
)
SELECT_ENTERED: Final = (
    "SELECT id, at_us FROM event NOT INDEXED WHERE id >= ?1 AND id <= ?2 AND run_id = ?3 AND task_seq IS ?4"
    " AND kind = 'state' AND to_type = ?5 ORDER BY id DESC LIMIT 1"
)
SELECT_RUN_ENDINGS: Final = (
    f"SELECT {', '.join(f'event.{name}' for name in EventRow._fields)} FROM event JOIN flow_run"
    " ON flow_run.id = event.run_id WHERE event.id > ?1 AND event.id <= ?2 AND event.kind = 'state'"
    " AND event.task_seq IS NULL AND event.to_type IN ('COMPLETED', 'FAILED', 'CRASHED', 'CANCELLED')"
    " AND event.from_type IS NOT event.to_type AND flow_run.root_id IS NULL ORDER BY event.id LIMIT ?3"
)
SELECT_LAST_ID: Final = "SELECT max(id) FROM event"


def append(
    connection: Connection,
    *,
    at_us: int,
    kind: str,
    actor: str,
    run_id: int | None = None,
    task_seq: int | None = None,
    attempt: int | None = None,
    from_: tuple[str, str] | None = None,
    to: tuple[str, str] | None = None,
    message: str | None = None,
    data: Mapping[str, Any] | str | None = None,
) -> int:
    """Append one event and return its id. ``data`` is a JSON object, as text or as a mapping."""
    from_type, from_name = from_ if from_ is not None else (None, None)
    to_type, to_name = to if to is not None else (None, None)
    if data is not None and not isinstance(data, str):
        data = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    cursor = connection.execute(
        INSERT,
        (at_us, kind, run_id, task_seq, attempt, from_type, from_name, to_type, to_name, actor, message, data),
    )
    return cursor.lastrowid or 0


def after(connection: Connection, event_id: int, limit: int = 1000) -> list[EventRow]:
    """The events that came after one, oldest first."""
    return [EventRow._make(row) for row in connection.execute(SELECT_AFTER, (event_id, limit))]


def run_endings(connection: Connection, after_id: int, until_id: int, limit: int) -> list[EventRow]:
    """The ends of root runs among the events after one up to another, oldest first."""
    return [EventRow._make(row) for row in connection.execute(SELECT_RUN_ENDINGS, (after_id, until_id, limit))]


def of_run(connection: Connection, run_id: int, after_id: int = 0, limit: int = 1000) -> list[EventRow]:
    """The events of one run and its tasks, oldest first.

    Only a run's own events are indexed. Those of its tasks lie after its first one, and before its last once it ended.
    """
    first, until = _bounds(connection, run_id)
    rows = connection.execute(SELECT_OF_RUN, (max(after_id, first - 1), until, run_id, limit))
    return [EventRow._make(row) for row in rows]


def made_anew(connection: Connection, run_id: int) -> list[tuple[int, str]]:
    """Calls of a run that a later attempt of it made again, (seq, why) each, oldest first."""
    first, until = _bounds(connection, run_id)
    return connection.execute(SELECT_MADE_ANEW, (first - 1, until, run_id)).fetchall()


def entered(
    connection: Connection, run_id: int, task_seq: int | None, to_type: str
) -> tuple[int, int] | None:
    """The last time a run, or a task of it, came to a state of this type: id and time of the event."""
    first, until = _bounds(connection, run_id)
    found: tuple[int, int] | None = connection.execute(
        SELECT_ENTERED, (first, until, run_id, task_seq, to_type)
    ).fetchone()
    return found


def _bounds(connection: Connection, run_id: int) -> tuple[int, int]:
    """The ids between which all events of a run and its tasks lie; (1, 0) when there are none."""
    first, last = connection.execute(SELECT_BOUNDS_OF_RUN, (run_id,)).fetchone()
    if first is None:
        return 1, 0
    ended = connection.execute(SELECT_ENDED, (run_id,)).fetchone()
    return first, last if ended is not None and ended[0] else last_id(connection)


def retries_made(connection: Connection, run_id: int) -> int:
    """How often a run was tried again by itself since it was made, or since somebody had it begin anew."""
    return int(connection.execute(SELECT_RETRIES, (run_id,)).fetchone()[0])


def times_again(connection: Connection, run_id: int) -> int:
    """How often a run was tried again: after a failure or crash by itself, or by a person. Suspensions do not count."""
    return int(connection.execute(SELECT_AGAIN, (run_id,)).fetchone()[0])


def crashes_of_task(connection: Connection, run_id: int, seq: int) -> int:
    """How often a task was tried again because its worker process died."""
    first = connection.execute(SELECT_BOUNDS_OF_RUN, (run_id,)).fetchone()[0] or 0
    return int(connection.execute(SELECT_CRASHES, (first, run_id, seq, CRASH_DATA)).fetchone()[0])


def last_id(connection: Connection) -> int:
    """The id of the newest event; 0 when there is none. (Upkeep never prunes the newest one, so ids only grow.)"""
    return int(connection.execute(SELECT_LAST_ID).fetchone()[0] or 0)


def was_resumed_after(connection: Connection, run_id: int, text: str) -> bool:
    """Whether a run left Paused after it had asked for a pause with words that hold this text."""
    return bool(connection.execute(RESUMED_AFTER, (run_id, text)).fetchone()[0])
