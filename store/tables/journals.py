"""The journal of a run, many calls at a time: given up when a retry runs them again, copied when a run is forked.

A stretch is the calls of one run from one seq to another. Which calls those are, and which states they get, is said by
the caller; each call that changes or is made has its event, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..connection import Connection
from . import events, tasks

GIVE_UP_EVENTS: Final = (
    f"INSERT INTO event ({events.COLUMNS_OF_NEW}) SELECT ?1, 'state', run_id, seq, attempt, state_type, state_name,"
    " ?2, ?3, ?4, ?5, NULL FROM task_run WHERE run_id = ?6 AND seq BETWEEN ?7 AND ?8 AND state_type = 'COMPLETED'"
    " AND (?9 IS NULL OR run_attempt < ?9) ORDER BY seq"
)
GIVE_UP: Final = (
    "UPDATE task_run SET state_type = ?1, state_name = ?2, cause = NULL, wake_at_us = NULL, ended_at_us = NULL,"
    " run_attempt = max(run_attempt, ?3) WHERE run_id = ?4 AND seq BETWEEN ?5 AND ?6 AND state_type = 'COMPLETED'"
    " AND (?7 IS NULL OR run_attempt < ?7)"
)
_COPIED = {"run_id": "?2", "run_attempt": "coalesce(?3, run_attempt)"}
COPY_CALLS: Final = (
    f"INSERT INTO task_run ({tasks.ALL_COLUMNS})"
    f" SELECT {', '.join(_COPIED.get(name, name) for name in tasks.ALL_COLUMNS.split(', '))} FROM task_run"
    " WHERE run_id = ?1 AND seq BETWEEN ?4 AND ?5 ORDER BY seq"
)
COPY_EVENTS: Final = (
    f"INSERT INTO event ({events.COLUMNS_OF_NEW}) SELECT ?4, 'state', ?2, seq, attempt, NULL, NULL, state_type,"
    " state_name, ?5, ?6, NULL FROM task_run WHERE run_id = ?1 AND seq BETWEEN ?3 AND ?7 ORDER BY seq"
)
SELECT_SEQS_OF_RESULTS: Final = "SELECT seq FROM result WHERE run_id = ? AND seq BETWEEN ? AND ?"
SELECT_WHOLE_RUN: Final = "SELECT * FROM flow_run WHERE id = ?"
SELECT_WHOLE_CALL: Final = "SELECT * FROM task_run WHERE run_id = ? AND seq = ?"


def give_up(
    connection: Connection, run_id: int, first: int, last: int, to: tuple[str, str], *, run_attempt: int, at_us: int,
    actor: str, cause: str, below_attempt: int | None = None,
) -> None:
    """Move the completed calls of a stretch to ``to``, to be made in an attempt from ``run_attempt`` on.

    With ``below_attempt`` only those of earlier attempts: what has run again since then stays.
    """
    connection.execute(GIVE_UP_EVENTS, (at_us, *to, actor, cause, run_id, first, last, below_attempt))
    connection.execute(GIVE_UP, (*to, run_attempt, run_id, first, last, below_attempt))


def copy_calls(
    connection: Connection, run_id: int, first: int, last: int, into: int, *, run_attempt: int | None, at_us: int,
    actor: str, cause: str,
) -> list[int]:
    """Copy a stretch, with the results in its rows, to another run; ``run_attempt`` None: that of each call.

    Returns the seqs of calls whose results have rows of their own, which are not copied.
    """
    connection.execute(COPY_CALLS, (run_id, into, run_attempt, first, last))
    connection.execute(COPY_EVENTS, (run_id, into, first, at_us, actor, cause, last))
    return [seq for (seq,) in connection.execute(SELECT_SEQS_OF_RESULTS, (run_id, first, last)).fetchall()]


def copy_run(
    connection: Connection, run_id: int, changes: Mapping[str, Any], *, at_us: int, actor: str, cause: str
) -> int:
    """A new run with the values of one, but for ``changes``; returns its id."""
    values = {**_values(connection, SELECT_WHOLE_RUN, (run_id,)), **changes}
    del values["id"]
    copied = _insert(connection, "flow_run", values)
    to = (values["state_type"], values["state_name"])
    events.append(
        connection, at_us=at_us, kind="state", run_id=copied, attempt=values["attempt"], to=to, actor=actor,
        message=cause,
    )  # fmt: skip
    return copied


def copy_call(
    connection: Connection, run_id: int, seq: int, changes: Mapping[str, Any], *, with_result: bool, at_us: int,
    actor: str, cause: str,
) -> None:
    """A call with the values of one, but for ``changes``, which name its run; what its row holds of a result, too."""
    values = {**_values(connection, SELECT_WHOLE_CALL, (run_id, seq)), **changes}
    if not with_result:
        values |= {name: None for name in values if name.startswith("result_")}
    _insert(connection, "task_run", values)
    to = (values["state_type"], values["state_name"])
    events.append(
        connection, at_us=at_us, kind="state", run_id=values["run_id"], task_seq=seq, attempt=values["attempt"], to=to,
        actor=actor, message=cause,
    )  # fmt: skip


def _values(connection: Connection, query: str, key: tuple[int, ...]) -> dict[str, Any]:
    cursor = connection.execute(query, key)
    return dict(zip((column[0] for column in cursor.description), cursor.fetchone(), strict=True))


def _insert(connection: Connection, table: str, values: Mapping[str, Any]) -> int:
    places = ", ".join("?" * len(values))
    cursor = connection.execute(
        f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})", tuple(values.values())
    )
    return cursor.lastrowid or 0
