"""The ``task_run`` table. ``begin`` and ``finish`` are the engine's hot path: two statements each.

Every write is fenced twice: by the attempt on the task's row, and by the attempt on its run's row. A process of an
older attempt changes nothing and gets ``StaleState``. All writes expect an open write transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ..connection import Connection
from ..errors import StaleState
from ..rows import CallRow, ResultRow, TaskRow
from ..states import is_terminal
from . import events

TASK_COLUMNS: Final = ", ".join(TaskRow._fields)
_KEY = ("run_id", "seq")
_WIDTH: Final = len(TaskRow._fields)
_NEW: Final = (None, None)
_NO_RESULT: Final = (None, None, None, None)
_PLACES = ", ".join(f"?{number}" for number in range(1, len(TaskRow._fields) + 1))
_RUN_ATTEMPT_PLACE = f"?{TaskRow._fields.index('run_attempt') + 1}"
_RUN_IS_NEWER = "EXISTS (SELECT 1 FROM flow_run WHERE id = {id} AND attempt > {attempt})"

BEGIN: Final = (
    f"INSERT INTO task_run ({TASK_COLUMNS}) SELECT {_PLACES}"
    f" WHERE NOT {_RUN_IS_NEWER.format(id='?1', attempt=_RUN_ATTEMPT_PLACE)}"
    " ON CONFLICT (run_id, seq) DO UPDATE SET "
    + ", ".join(f"{field} = excluded.{field}" for field in TaskRow._fields if field not in _KEY)
    + " WHERE task_run.run_attempt <= excluded.run_attempt"
)
_RESULT_COLUMNS: Final = "result_codec, result_checksum, result_data, result_preview"
ALL_COLUMNS: Final = f"{TASK_COLUMNS}, {_RESULT_COLUMNS}"
_RESULT_PLACES: Final = ", ".join(f"?{len(TaskRow._fields) + number}" for number in range(1, 5))
INSERT_ENDED: Final = (
    f"INSERT INTO task_run ({TASK_COLUMNS}, {_RESULT_COLUMNS}) SELECT {_PLACES}, {_RESULT_PLACES}"
    f" WHERE NOT {_RUN_IS_NEWER.format(id='?1', attempt=_RUN_ATTEMPT_PLACE)}"
)
END_WITH_RESULT: Final = (
    f"{INSERT_ENDED} ON CONFLICT (run_id, seq) DO UPDATE SET "
    + ", ".join(f"{field} = excluded.{field}" for field in ALL_COLUMNS.split(", ") if field not in _KEY)
    + " WHERE task_run.run_attempt <= excluded.run_attempt"
)
FINISH: Final = (
    "UPDATE task_run SET state_type = ?1, state_name = ?2, cause = ?3, attempt = ?4, run_attempt = ?5,"
    " ended_at_us = ?6, duration_us = ?7, cpu_us = ?8, peak_rss_bytes = ?9, wake_at_us = NULL"
    " WHERE run_id = ?10 AND seq = ?11 AND state_type = ?12 AND state_name = ?13 AND run_attempt <= ?5"
    f" AND NOT {_RUN_IS_NEWER.format(id='?10', attempt='?5')}"
)
UPDATE_STATE: Final = (
    "UPDATE task_run SET state_type = ?1, state_name = ?2, cause = ?3, attempt = coalesce(?4, attempt),"
    " run_attempt = ?5, wake_at_us = ?6,"
    " started_at_us = CASE WHEN ?7 THEN coalesce(started_at_us, ?8) ELSE started_at_us END,"
    " ended_at_us = CASE WHEN ?9 THEN ?8 END,"
    " duration_us = coalesce(?10, duration_us), cpu_us = coalesce(?11, cpu_us),"
    " peak_rss_bytes = coalesce(?12, peak_rss_bytes), child_run_id = coalesce(?13, child_run_id)"
    " WHERE run_id = ?14 AND seq = ?15 AND state_type = ?16 AND state_name = ?17 AND run_attempt <= ?5"
    f" AND NOT {_RUN_IS_NEWER.format(id='?14', attempt='?5')}"
)
SELECT_STATE: Final = "SELECT state_type, state_name, run_attempt, attempt FROM task_run WHERE run_id = ? AND seq = ?"
SELECT_RUN_ATTEMPT: Final = "SELECT attempt FROM flow_run WHERE id = ?"
SELECT_OF_RUN: Final = f"SELECT {TASK_COLUMNS} FROM task_run WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?"
SELECT_OF_SCOPE: Final = (
    f"SELECT {TASK_COLUMNS} FROM task_run WHERE run_id = ? AND scope_seq = ? AND scope_seq > 0 ORDER BY seq"
)
SELECT_ONE: Final = f"SELECT {TASK_COLUMNS} FROM task_run WHERE run_id = ? AND seq = ?"
SELECT_CALLS: Final = f"SELECT {', '.join(CallRow._fields)} FROM task_run WHERE run_id = ? ORDER BY seq"
SELECT_IDENTITIES: Final = "SELECT seq, scope_seq, key, call_index FROM task_run WHERE run_id = ? ORDER BY seq"
SELECT_IDENTITIES_OF_SCOPE: Final = (
    "SELECT seq, scope_seq, key, call_index FROM task_run WHERE run_id = ? AND scope_seq = ? AND scope_seq > 0"
    " ORDER BY seq"
)
SELECT_IDENTITIES_WITH_INPUTS: Final = (
    "SELECT seq, scope_seq, key, inputs_hash, state_type = 'COMPLETED' FROM task_run WHERE run_id = ?"
)
MOVE_SCOPE: Final = (
    "UPDATE task_run SET scope_seq = ?1, call_index = ?2 WHERE run_id = ?3 AND seq = ?4"
    f" AND NOT {_RUN_IS_NEWER.format(id='?3', attempt='?5')}"
)
SELECT_WITH_RESULTS: Final = (
    f"SELECT {TASK_COLUMNS}, {_RESULT_COLUMNS} FROM task_run WHERE run_id = ? AND seq >= ? ORDER BY seq LIMIT ?"
)
FORGET_INPUTS: Final = "UPDATE task_run SET inputs_hash = NULL WHERE run_id = ? AND seq = ?"
SELECT_UNREACHED: Final = (
    f"SELECT {TASK_COLUMNS} FROM task_run WHERE (run_id = ?1 OR run_id IN (SELECT id FROM flow_run WHERE root_id = ?1))"
    " AND state_type = 'PENDING' AND state_name = 'Pending' ORDER BY run_id, seq"
)
SELECT_COUNTS: Final = (
    "SELECT state_type, state_name, count(*) FROM task_run WHERE run_id = ? GROUP BY state_type, state_name"
)
SELECT_BY_NAME: Final = f"SELECT {TASK_COLUMNS} FROM task_run WHERE run_id = ? AND name = ? ORDER BY seq DESC LIMIT 1"
SELECT_BY_KEY: Final = (
    f"SELECT {TASK_COLUMNS} FROM task_run WHERE run_id = ?1 AND key = ?2 ORDER BY seq DESC LIMIT 1"
)
SELECT_BY_INDEX: Final = (
    f"SELECT {TASK_COLUMNS} FROM task_run WHERE run_id = ?1 AND key = ?2"
    " AND coalesce(map_index, call_index) = ?3 ORDER BY map_index IS NULL, seq DESC LIMIT 1"
)


def begin(
    connection: Connection,
    row: TaskRow,
    at_us: int,
    actor: str,
    message: str | None = None,
    from_: tuple[str, str] | None = None,
) -> None:
    """Write a task run as it is now (new, or again in a later attempt of its run), with its event.

    ``from_`` is the state it was in, for the event; None for a new one.
    """
    if connection.execute(BEGIN, row).rowcount == 0:
        raise _stale(connection, row.run_id, row.seq, f"attempt {row.run_attempt} of the run")
    connection.execute(
        events.INSERT,
        (
            at_us, "state", row.run_id, row.seq, row.attempt, *(from_ or _NEW), row.state_type, row.state_name, actor,
            row.cause if message is None else message, None,
        ),
    )  # fmt: skip


def finish(
    connection: Connection,
    run_id: int,
    seq: int,
    *,
    run_attempt: int,
    from_: tuple[str, str],
    to: tuple[str, str],
    at_us: int,
    actor: str,
    cause: str | None = None,
    duration_us: int | None = None,
    cpu_us: int | None = None,
    peak_rss_bytes: int | None = None,
    attempt: int = 1,
) -> None:
    """End a task run, with its event; ``to`` must be a final state."""
    to_type, to_name = to
    cursor = connection.execute(
        FINISH,
        (
            to_type, to_name, cause, attempt, run_attempt, at_us, duration_us, cpu_us, peak_rss_bytes,
            run_id, seq, from_[0], from_[1],
        ),
    )  # fmt: skip
    if cursor.rowcount == 0:
        raise _stale(connection, run_id, seq, f"{from_[0]} ({from_[1]}) in attempt {run_attempt} of the run")
    connection.execute(
        events.INSERT,
        (at_us, "state", run_id, seq, attempt, from_[0], from_[1], to_type, to_name, actor, cause, None),
    )


def record_start(connection: Connection, row: TaskRow, *, at_us: int, actor: str) -> None:
    """Write that an attempt of a task runs, unless that is written; the event says which state it came from."""
    found = connection.execute(SELECT_STATE, (row.run_id, row.seq)).fetchone()
    if found is None or found[:2] != (row.state_type, row.state_name):
        begin(connection, row, at_us, actor, from_=found[:2] if found is not None else None)


def record_new(
    connection: Connection,
    middle: tuple[str, str],
    ended: TaskRow,
    result: tuple[str, str, bytes | None, str] | None,
    *,
    started_at_us: int,
    ended_at_us: int,
    actor: str,
) -> bool:
    """As ``record_end`` for a call that most likely has no row yet; False, and nothing changed, when it has one.

    ``result``, when small, goes with the row: codec, checksum, data and preview.
    """
    try:
        written = connection.execute(INSERT_ENDED, (*ended, *(result or _NO_RESULT))).rowcount
    except sqlite3.IntegrityError:
        return False
    if written == 0:
        raise _stale(connection, ended.run_id, ended.seq, f"attempt {ended.run_attempt} of the run")
    run_id, seq, attempt, (type_, name) = ended.run_id, ended.seq, ended.attempt, middle
    connection.execute(
        events.INSERT_BEGUN_AND_ENDED,
        (
            started_at_us, ended_at_us, run_id, seq, attempt, type_, name, ended.state_type, ended.state_name, actor,
            ended.cause,
        ),
    )  # fmt: skip
    return True


def record_end(
    connection: Connection,
    middle: tuple[str, str],
    ended: TaskRow,
    result: tuple[str, str, bytes | None, str] | None = None,
    *,
    started_at_us: int,
    ended_at_us: int,
    actor: str,
) -> bool:
    """End a task run whose state before, ``middle``, may not have been written yet; both events either way.

    A call that ends within milliseconds is one write. ``result`` as in ``record_new``, if it can go with the row:
    returns whether it did.
    """
    found = connection.execute(SELECT_STATE, (ended.run_id, ended.seq)).fetchone()
    if found is not None and found[:2] == middle:
        finish(
            connection, ended.run_id, ended.seq, run_attempt=ended.run_attempt, from_=middle,
            to=(ended.state_type, ended.state_name), at_us=ended_at_us, actor=actor, cause=ended.cause,
            duration_us=ended.duration_us, cpu_us=ended.cpu_us, peak_rss_bytes=ended.peak_rss_bytes,
            attempt=ended.attempt,
        )  # fmt: skip
        return False
    ended_before = found is not None and is_terminal(found[0], found[1])
    statement, values = (BEGIN, ended) if result is None else (END_WITH_RESULT, (*ended, *result))
    if ended_before or connection.execute(statement, values).rowcount == 0:
        raise _stale(connection, ended.run_id, ended.seq, f"{middle[0]} in attempt {ended.run_attempt} of the run")
    run_id, seq, attempt, before = ended.run_id, ended.seq, ended.attempt, found[:2] if found is not None else _NEW
    connection.executemany(
        events.INSERT,
        (
            (started_at_us, "state", run_id, seq, attempt, *before, *middle, actor, None, None),
            (
                ended_at_us, "state", run_id, seq, attempt, *middle, ended.state_type, ended.state_name, actor,
                ended.cause, None,
            ),
        ),
    )  # fmt: skip
    return result is not None


def transition(
    connection: Connection,
    run_id: int,
    seq: int,
    *,
    run_attempt: int,
    from_: tuple[str, str],
    to: tuple[str, str],
    at_us: int,
    actor: str,
    cause: str | None = None,
    message: str | None = None,
    attempt: int | None = None,
    wake_at_us: int | None = None,
    started: bool = False,
    duration_us: int | None = None,
    cpu_us: int | None = None,
    peak_rss_bytes: int | None = None,
    child_run_id: int | None = None,
    data: Mapping[str, Any] | str | None = None,
) -> None:
    """Move a task run between any two states, with its event; ``StaleState`` when it is not in ``from_``.

    ``started`` sets the start time when there is none; a final state sets the end time, any other clears it.
    """
    to_type, to_name = to
    cursor = connection.execute(
        UPDATE_STATE,
        (
            to_type, to_name, cause, attempt, run_attempt, wake_at_us, started, at_us, is_terminal(to_type, to_name),
            duration_us, cpu_us, peak_rss_bytes, child_run_id, run_id, seq, from_[0], from_[1],
        ),
    )  # fmt: skip
    if cursor.rowcount == 0:
        raise _stale(connection, run_id, seq, f"{from_[0]} ({from_[1]}) in attempt {run_attempt} of the run")
    if data is not None and not isinstance(data, str):
        data = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    if attempt is None:
        attempt = connection.execute(SELECT_STATE, (run_id, seq)).fetchone()[3]
    connection.execute(
        events.INSERT,
        (
            at_us, "state", run_id, seq, attempt, from_[0], from_[1], to_type, to_name, actor,
            cause if message is None else message, data,
        ),
    )  # fmt: skip


def of_run(
    connection: Connection, run_id: int, after_seq: int = 0, limit: int | None = None
) -> list[TaskRow]:
    """The task runs of a run in their order; ``limit=None`` means all of them."""
    rows = connection.execute(SELECT_OF_RUN, (run_id, after_seq, -1 if limit is None else limit))
    return [TaskRow._make(row) for row in rows]


def of_scope(connection: Connection, run_id: int, scope_seq: int) -> list[TaskRow]:
    """What one task of a run called itself."""
    return [TaskRow._make(row) for row in connection.execute(SELECT_OF_SCOPE, (run_id, scope_seq))]


def calls(connection: Connection, run_id: int) -> list[CallRow]:
    """Every call of a run in their order, as far as plans need to know them."""
    return list(map(CallRow._make, connection.execute(SELECT_CALLS, (run_id,))))


def identities(
    connection: Connection, run_id: int, scope_seq: int | None = None
) -> list[tuple[int, int, str, int]]:
    """(seq, scope_seq, key, call_index) of every call of a run, or of those that one task of it made."""
    if scope_seq is None:
        return connection.execute(SELECT_IDENTITIES, (run_id,)).fetchall()
    return connection.execute(SELECT_IDENTITIES_OF_SCOPE, (run_id, scope_seq)).fetchall()


def identities_with_inputs(connection: Connection, run_id: int) -> list[tuple[int, int, str, str | None, int]]:
    """(seq, scope_seq, key, inputs_hash, whether it completed) of every call of a run."""
    return connection.execute(SELECT_IDENTITIES_WITH_INPUTS, (run_id,)).fetchall()


def move_scope(
    connection: Connection, run_id: int, seq: int, scope_seq: int, call_index: int, run_attempt: int
) -> None:
    """A recorded call is found again in another scope: that of the task that stands where its caller stood."""
    connection.execute(MOVE_SCOPE, (scope_seq, call_index, run_id, seq, run_attempt))


def with_results(
    connection: Connection, run_id: int, from_seq: int, limit: int
) -> list[tuple[TaskRow, ResultRow | None]]:
    """Calls from a number on, each with its result where that stands in its row."""
    found: list[tuple[TaskRow, ResultRow | None]] = []
    for values in connection.execute(SELECT_WITH_RESULTS, (run_id, from_seq, limit)):
        codec, checksum, data, preview = values[_WIDTH:]
        result = None
        if codec is not None:
            result = ResultRow(run_id, values[1], codec, checksum, len(data or b""), data, None, preview)
        found.append((TaskRow._make(values[:_WIDTH]), result))
    return found


def forget_inputs(connection: Connection, run_id: int, seq: int) -> None:
    """A call whose outcome a person gave by hand fits any inputs."""
    connection.execute(FORGET_INPUTS, (run_id, seq))


def unreached(connection: Connection, run_id: int) -> list[TaskRow]:
    """Calls of a run, of a root's whole tree, that are Pending: at its end those it did not come to again."""
    return [TaskRow._make(row) for row in connection.execute(SELECT_UNREACHED, (run_id,))]


def get(connection: Connection, run_id: int, seq: int) -> TaskRow | None:
    """One task run, or None."""
    row = connection.execute(SELECT_ONE, (run_id, seq)).fetchone()
    return TaskRow._make(row) if row else None


def by_seq(connection: Connection, run_id: int, seqs: Iterable[int]) -> list[TaskRow]:
    """The named task runs that exist, in their order."""
    wanted = sorted(set(seqs))
    found: list[TaskRow] = []
    for start in range(0, len(wanted), 500):
        chunk = wanted[start : start + 500]
        rows = connection.execute(
            f"SELECT {TASK_COLUMNS} FROM task_run WHERE run_id = ? AND seq IN ({','.join('?' * len(chunk))})"
            " ORDER BY seq",
            (run_id, *chunk),
        )
        found += map(TaskRow._make, rows)
    return found


def counts(connection: Connection, run_id: int) -> dict[tuple[str, str], int]:
    """How many task runs a run has in each ``(state_type, state_name)``; states without any are absent."""
    return {(kind, name): number for kind, name, number in connection.execute(SELECT_COUNTS, (run_id,))}


def find(connection: Connection, run_id: int, name: str, index: int | None = None) -> TaskRow | None:
    """A task run by its name, or by its key and the place in its map (or among its calls); the newest that fits."""
    if index is not None:
        row = connection.execute(SELECT_BY_INDEX, (run_id, name, index)).fetchone()
    else:
        row = (
            connection.execute(SELECT_BY_NAME, (run_id, name)).fetchone()
            or connection.execute(SELECT_BY_KEY, (run_id, name)).fetchone()
        )
    return TaskRow._make(row) if row else None


def _stale(connection: Connection, run_id: int, seq: int, wanted: str) -> StaleState:
    row = connection.execute(SELECT_STATE, (run_id, seq)).fetchone()
    run = connection.execute(SELECT_RUN_ATTEMPT, (run_id,)).fetchone()
    newer = f"; its run is at attempt {run[0]}" if run else "; its run does not exist"
    if row is None:
        return StaleState(f"task {run_id}/{seq} does not exist, expected {wanted}{newer}")
    return StaleState(
        f"task {run_id}/{seq} is {row[0]} ({row[1]}), written by attempt {row[2]}; expected {wanted}{newer}"
    )
