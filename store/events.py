"""The ``event`` table: audit log, change feed and export outbox at once. Rows are appended, never changed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from .rows import EventRow

EVENT_COLUMNS: Final = ", ".join(EventRow._fields)
INSERT: Final = (
    "INSERT INTO event (at_us, kind, run_id, task_seq, attempt, from_type, from_name, to_type, to_name, actor, message,"
    " data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
"""Also used by ``tasks`` and ``runs``, which append their event in the same transaction as their row."""
SELECT_AFTER: Final = f"SELECT {EVENT_COLUMNS} FROM event WHERE id > ? ORDER BY id LIMIT ?"
SELECT_OF_RUN: Final = f"SELECT {EVENT_COLUMNS} FROM event WHERE run_id = ? AND id > ? ORDER BY id LIMIT ?"
SELECT_LAST_ID: Final = "SELECT seq FROM sqlite_sequence WHERE name = 'event'"


def append(
    connection: sqlite3.Connection,
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


def after(connection: sqlite3.Connection, event_id: int, limit: int = 1000) -> list[EventRow]:
    """The events that came after one, oldest first."""
    return [EventRow._make(row) for row in connection.execute(SELECT_AFTER, (event_id, limit))]


def of_run(connection: sqlite3.Connection, run_id: int, after_id: int = 0, limit: int = 1000) -> list[EventRow]:
    """The events of one run and its tasks, oldest first."""
    return [EventRow._make(row) for row in connection.execute(SELECT_OF_RUN, (run_id, after_id, limit))]


def last_id(connection: sqlite3.Connection) -> int:
    """The id of the newest event ever appended, pruned or not; 0 when there was none."""
    row = connection.execute(SELECT_LAST_ID).fetchone()
    return int(row[0]) if row else 0
