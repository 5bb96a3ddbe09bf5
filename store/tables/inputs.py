"""The ``run_input`` table: what runs ask people for, the answers, messages sent to runs, and durable waits.

A request stays open until a response with its key stands beside it. A message is taken once, by one call of one run,
and keeps the name of that call. All writes expect an open write transaction.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from ..connection import Connection
from ..rows import InputRow

INPUT_COLUMNS: Final = ", ".join(InputRow._fields)
INSERT: Final = (
    "INSERT INTO run_input (run_id, key, kind, json_schema, description, value, sender, created_at_us, until_us)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
SELECT_NEWEST: Final = (
    f"SELECT {INPUT_COLUMNS} FROM run_input WHERE run_id = ? AND key = ? AND kind = ? ORDER BY id DESC LIMIT 1"
)
SELECT_OPEN: Final = (
    f"SELECT {INPUT_COLUMNS} FROM run_input AS asked WHERE kind = 'request' AND taken_at_us IS NULL AND run_id IN"
    " (SELECT ?1 UNION ALL SELECT id FROM flow_run WHERE root_id = ?1) AND NOT EXISTS (SELECT 1 FROM run_input AS said"
    " WHERE said.run_id = asked.run_id AND said.key = asked.key AND said.kind = 'response') ORDER BY id"
)
SELECT_OF_RUN: Final = f"SELECT {INPUT_COLUMNS} FROM run_input WHERE run_id = ? ORDER BY id"
SELECT_TAKEN: Final = f"SELECT {INPUT_COLUMNS} FROM run_input WHERE run_id = ? AND taken_by = ? ORDER BY id"
SELECT_UNTAKEN: Final = (
    f"SELECT {INPUT_COLUMNS} FROM run_input WHERE run_id = ? AND kind = 'message' AND taken_at_us IS NULL ORDER BY id"
)
SELECT_SUSPEND_ASKED: Final = (
    "SELECT actor FROM event WHERE run_id = ? AND task_seq IS NULL AND kind = 'request' AND message = 'suspend'"
    " AND id > ? ORDER BY id DESC LIMIT 1"
)
SELECT_CLAIMED: Final = (
    "SELECT max(id) FROM event WHERE run_id = ? AND task_seq IS NULL AND to_type = 'PENDING'"
)
UPDATE_REQUEST: Final = (
    "UPDATE run_input SET json_schema = ?, description = ?, taken_at_us = NULL WHERE id = ?"
)
UPDATE_LAID_ASIDE: Final = (
    "UPDATE run_input SET taken_at_us = ?2 WHERE kind = 'request' AND taken_at_us IS NULL AND run_id IN"
    " (SELECT ?1 UNION ALL SELECT id FROM flow_run WHERE root_id = ?1)"
)
UPDATE_SET_ASIDE: Final = "UPDATE run_input SET taken_at_us = ?2 WHERE id = ?1"
UPDATE_TAKEN: Final = "UPDATE run_input SET taken_at_us = ?, taken_by = ? WHERE id = ? AND taken_at_us IS NULL"
DELETE: Final = "DELETE FROM run_input WHERE id = ?"
UPDATE_HELD: Final = "UPDATE flow_run SET intent = 'pause' WHERE id = ? AND intent = 'none'"
UPDATE_LET_GO: Final = "UPDATE flow_run SET intent = 'none' WHERE id = ? AND intent = 'pause'"
SELECT_OVERDUE: Final = (
    "SELECT id FROM flow_run WHERE ended_at_us IS NULL AND state_type = 'PAUSED' AND wake_at_us <= ?"
    " AND root_id IS NULL AND NOT EXISTS (SELECT 1 FROM lease WHERE lease.run_id = flow_run.id)"
)


def insert(
    connection: Connection,
    run_id: int,
    key: str,
    kind: str,
    *,
    sender: str,
    at_us: int,
    json_schema: str | None = None,
    description: str | None = None,
    value: str | None = None,
    until_us: int | None = None,
) -> int:
    """Add a row and return its id."""
    cursor = connection.execute(
        INSERT, (run_id, key, kind, json_schema, description, value, sender, at_us, until_us)
    )
    return cursor.lastrowid or 0


def newest(connection: Connection, run_id: int, key: str, kind: str) -> InputRow | None:
    """The last row of this key and kind, or None."""
    row = connection.execute(SELECT_NEWEST, (run_id, key, kind)).fetchone()
    return InputRow._make(row) if row else None


def open_requests(connection: Connection, root_id: int) -> list[InputRow]:
    """What a root run and its subflows ask for now, oldest first."""
    return [InputRow._make(row) for row in connection.execute(SELECT_OPEN, (root_id,))]


def ask_again(
    connection: Connection, request_id: int, json_schema: str | None, description: str | None
) -> None:
    """A later attempt reached the same call: its request counts again, as the code of now words it."""
    connection.execute(UPDATE_REQUEST, (json_schema, description, request_id))


def lay_aside(connection: Connection, root_id: int, at_us: int) -> None:
    """A new attempt begins: what earlier ones asked counts only once it is asked again."""
    connection.execute(UPDATE_LAID_ASIDE, (root_id, at_us))


def set_aside(connection: Connection, request_id: int, at_us: int) -> None:
    """As ``lay_aside``, for one request."""
    connection.execute(UPDATE_SET_ASIDE, (request_id, at_us))


def remove(connection: Connection, row_id: int) -> None:
    """Take a row away: an answer that the run's own code refused."""
    connection.execute(DELETE, (row_id,))


def of_run(connection: Connection, run_id: int) -> list[InputRow]:
    """Everything of one run, in the order it came."""
    return [InputRow._make(row) for row in connection.execute(SELECT_OF_RUN, (run_id,))]


def taken_by(connection: Connection, run_id: int, place: str) -> list[InputRow]:
    """The messages of a run that one call took, in order, and the waits in vain among them."""
    return [InputRow._make(row) for row in connection.execute(SELECT_TAKEN, (run_id, place))]


def first_untaken(
    connection: Connection, run_id: int, prefix: str, without: Collection[str] = ()
) -> InputRow | None:
    """The oldest message of this kind nobody has taken."""
    for row in connection.execute(SELECT_UNTAKEN, (run_id,)):
        message = InputRow._make(row)
        if message.key.startswith(f"{prefix}-") and message.key not in without:
            return message
    return None


def take(connection: Connection, message_id: int, place: str, at_us: int) -> bool:
    """Take a message for a call; False when another call was first."""
    return connection.execute(UPDATE_TAKEN, (at_us, place, message_id)).rowcount > 0


def suspend_asked(connection: Connection, run_id: int, after_event: int) -> str | None:
    """Who asked, since that event, that the run's process leaves it."""
    row = connection.execute(SELECT_SUSPEND_ASKED, (run_id, after_event)).fetchone()
    return row[0] if row else None


def hold(connection: Connection, root_id: int) -> None:
    """The run's own code asks that the run pauses; what people asked of it before stays."""
    connection.execute(UPDATE_HELD, (root_id,))


def let_go(connection: Connection, root_id: int) -> None:
    """Nothing holds the run any more."""
    connection.execute(UPDATE_LET_GO, (root_id,))


def overdue(connection: Connection, now_us: int) -> list[int]:
    """Root runs without a process that wait for an answer whose time is over."""
    return [row[0] for row in connection.execute(SELECT_OVERDUE, (now_us,))]


def claimed_at_event(connection: Connection, run_id: int) -> int:
    """The event with which the process that has the run was to be made; what was asked before is done with."""
    return int(connection.execute(SELECT_CLAIMED, (run_id,)).fetchone()[0] or 0)
