"""The ``flow_run`` and ``flow`` tables: making runs, moving them by compare-and-set, claiming what is due.

Every change of state appends its event in the same transaction. Which state may follow which is not decided here.
All functions expect an open write transaction when they write.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Final

from ..connection import Connection
from ..errors import StaleState
from ..rows import FlowRow, RunRow
from ..states import TERMINAL_TYPES
from . import events
from .run_names import default_name

RUN_COLUMNS: Final = ", ".join(RunRow._fields)

INSERT_FLOW: Final = (
    "INSERT INTO flow (name, description, created_at_us) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE"
    " SET description = excluded.description"
    " WHERE excluded.description IS NOT NULL AND excluded.description IS NOT flow.description"
)
INSERT_RUN: Final = (
    "INSERT INTO flow_run (flow_name, name, deployment, schedule_id, due_at_us, entrypoint, parameters, tags,"
    " state_type, state_name, cause, intent, attempt, crash_count, created_at_us, scheduled_at_us, wake_at_us,"
    " started_at_us, ended_at_us, parent_run_id, parent_seq, root_id, retry_of, source_hash, actor,"
    " working_folder)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
SELECT_TICK: Final = "SELECT 1 FROM flow_run WHERE schedule_id = ? AND due_at_us = ?"
"""Asked before inserting, in its transaction: ON CONFLICT DO NOTHING would use up a number each time."""
FREE_TICKS: Final = "UPDATE flow_run SET due_at_us = NULL WHERE schedule_id = ? AND due_at_us > ?"
UPDATE_NAME: Final = "UPDATE flow_run SET name = ? WHERE id = ?"
UPDATE_STATE: Final = (
    "UPDATE flow_run SET state_type = ?1, state_name = ?2, cause = ?3, attempt = coalesce(?4, attempt),"
    " wake_at_us = ?5, started_at_us = CASE WHEN ?6 THEN coalesce(started_at_us, ?7) ELSE started_at_us END,"
    " ended_at_us = CASE WHEN ?8 THEN ?7 END,"
    " duration_us = CASE WHEN ?9 IS NULL THEN duration_us ELSE coalesce(duration_us, 0) + ?9 END,"
    " intent = coalesce(?10, intent), crash_count = coalesce(?11, crash_count)"
    " WHERE id = ?12 AND attempt = ?13 AND state_type = ?14 AND state_name = ?15"
)
UPDATE_WORKING_FOLDER: Final = "UPDATE flow_run SET working_folder = ? WHERE id = ?"
UPDATE_INTENT: Final = "UPDATE flow_run SET intent = ?1 WHERE id = ?2 AND (intent <> 'cancel' OR ?1 = 'cancel')"
UPDATE_RESULT_PREVIEW: Final = "UPDATE flow_run SET result_preview = ? WHERE id = ? AND attempt = ?"
SELECT_RUN: Final = f"SELECT {RUN_COLUMNS} FROM flow_run WHERE id = ?"
SELECT_INTENT: Final = "SELECT state_type, state_name, intent, attempt FROM flow_run WHERE id = ?"
_LIMITED_AS = "coalesce(deployment, flow_name)"
CLAIM_ONE: Final = (
    "UPDATE flow_run SET state_type = ?3, state_name = ?4, cause = NULL, wake_at_us = NULL"
    " WHERE id = ?1 AND state_type = 'SCHEDULED' AND state_name = ?2 AND intent = 'none' AND root_id IS NULL"
    f" AND NOT EXISTS (SELECT 1 FROM lease WHERE lease.run_id = flow_run.id) RETURNING {RUN_COLUMNS}"
)
SELECT_HOLDERS: Final = (
    f"SELECT id, {_LIMITED_AS} FROM flow_run WHERE ended_at_us IS NULL AND root_id IS NULL"
    " AND state_type IN ('PENDING', 'RUNNING', 'CANCELLING')"
    f" UNION SELECT id, {_LIMITED_AS} FROM lease JOIN flow_run ON flow_run.id = lease.run_id"
    " WHERE ended_at_us IS NULL AND root_id IS NULL ORDER BY 1"
)
SELECT_NEXT_WAKE: Final = (
    "SELECT min(wake_at_us) FROM flow_run WHERE ended_at_us IS NULL AND state_type = 'SCHEDULED' AND intent = 'none'"
    " AND root_id IS NULL AND wake_at_us IS NOT NULL"
)
SELECT_LEFT_FOR_SCHEDULED: Final = (
    "SELECT from_type FROM event WHERE run_id = ? AND task_seq IS NULL AND to_type = 'SCHEDULED'"
    " AND from_type NOT IN ('SCHEDULED', 'PENDING') ORDER BY id DESC LIMIT 1"
)
SELECT_LIVE: Final = (
    f"SELECT {RUN_COLUMNS} FROM flow_run INDEXED BY flow_run_live WHERE ended_at_us IS NULL ORDER BY id"
)
"""Left to itself SQLite prefers the order of the ids, and walks a million ended runs."""
SELECT_CHILDREN: Final = (
    f"SELECT {RUN_COLUMNS} FROM flow_run WHERE parent_run_id = ? AND root_id IS NOT NULL ORDER BY id"
)
SELECT_ASKED_FOR: Final = (
    f"SELECT {RUN_COLUMNS} FROM flow_run WHERE parent_run_id = ? AND root_id IS NULL ORDER BY id"
)
SET_PARENT: Final = "UPDATE flow_run SET parent_run_id = ?, parent_seq = ? WHERE id = ? AND root_id IS NULL"
SELECT_OF_ROOT: Final = f"SELECT {RUN_COLUMNS} FROM flow_run WHERE root_id = ? ORDER BY id"
SELECT_COUNTS: Final = "SELECT state_type, count(*) FROM flow_run GROUP BY state_type"
SELECT_NAMED: Final = f"SELECT {RUN_COLUMNS} FROM flow_run WHERE name = ? ORDER BY id DESC LIMIT 1"
SELECT_FLOWS: Final = (
    "SELECT name, description, created_at_us, (SELECT max(id) FROM flow_run WHERE flow_name = flow.name)"
    " FROM flow ORDER BY name"
)


def insert(
    connection: Connection,
    *,
    flow_name: str,
    name: str,
    state: tuple[str, str],
    actor: str,
    at_us: int,
    parameters: str = "{}",
    tags: str = "[]",
    deployment: str | None = None,
    schedule_id: int | None = None,
    due_at_us: int | None = None,
    entrypoint: str | None = None,
    scheduled_at_us: int | None = None,
    wake_at_us: int | None = None,
    parent_run_id: int | None = None,
    parent_seq: int | None = None,
    root_id: int | None = None,
    retry_of: int | None = None,
    source_hash: str | None = None,
    attempt: int = 1,
    intent: str = "none",
    flow_description: str | None = None,
    cause: str | None = None,
    working_folder: str | None = None,
) -> int:
    """Make a run, its flow if that is new, and its first event; return the run's id.

    An empty ``name`` becomes one made from the id. A run made SCHEDULED without ``wake_at_us`` wakes at its scheduled
    time. Returns 0 and changes nothing when the schedule's tick already has its run.
    """
    if schedule_id is not None and connection.execute(SELECT_TICK, (schedule_id, due_at_us)).fetchone():
        return 0
    state_type, state_name = state
    scheduled = at_us if scheduled_at_us is None else scheduled_at_us
    if state_type == "SCHEDULED" and wake_at_us is None:
        wake_at_us = scheduled
    connection.execute(INSERT_FLOW, (flow_name, flow_description, at_us))
    cursor = connection.execute(
        INSERT_RUN,
        (
            flow_name, name, deployment, schedule_id, due_at_us, entrypoint, parameters, tags,
            state_type, state_name, cause, intent, attempt, at_us, scheduled, wake_at_us,
            at_us if state_type == "RUNNING" else None, at_us if state_type in TERMINAL_TYPES else None,
            parent_run_id, parent_seq, root_id, retry_of, source_hash, actor,
            working_folder,
        ),
    )  # fmt: skip
    run_id = cursor.lastrowid or 0
    if not name:
        rename(connection, run_id, default_name(run_id))
    connection.execute(
        events.INSERT,
        (at_us, "state", run_id, None, attempt, None, None, state_type, state_name, actor, cause, None),
    )
    return run_id



def free_ticks(connection: Connection, schedule_id: int, after_us: int) -> None:
    """Ticks after a moment may have runs, though they had some under a clock that was ahead."""
    connection.execute(FREE_TICKS, (schedule_id, after_us))

def transition(
    connection: Connection,
    run_id: int,
    *,
    attempt: int,
    from_: tuple[str, str] | None = None,
    to: tuple[str, str],
    at_us: int,
    actor: str,
    cause: str | None = None,
    message: str | None = None,
    new_attempt: int | None = None,
    wake_at_us: int | None = None,
    started: bool = False,
    ended_duration_us: int | None = None,
    intent: str | None = None,
    crash_count: int | None = None,
    data: Mapping[str, Any] | str | None = None,
    from_type: str | None = None,
) -> None:
    """Move a run from one state to another, if it is still in the first and of this attempt; else ``StaleState``.

    ``from_`` names the exact state; ``from_type`` alone accepts any name of that type. ``wake_at_us`` and ``cause``
    are set to what is given, so leaving them out clears them. ``ended_duration_us`` is added to the run's duration.
    """
    if from_ is None:
        from_ = _present_state(connection, run_id, attempt, from_type)
    to_type, to_name = to
    cursor = connection.execute(
        UPDATE_STATE,
        (
            to_type, to_name, cause, new_attempt, wake_at_us, started, at_us, to_type in TERMINAL_TYPES,
            ended_duration_us, intent, crash_count, run_id, attempt, from_[0], from_[1],
        ),
    )  # fmt: skip
    if cursor.rowcount == 0:
        raise _stale(connection, run_id, f"{from_[0]} ({from_[1]}), attempt {attempt}")
    if data is None and intent is not None:
        data = f'{{"intent":"{intent}"}}'
    elif data is not None and not isinstance(data, str):
        data = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    connection.execute(
        events.INSERT,
        (
            at_us, "state", run_id, None, attempt if new_attempt is None else new_attempt, from_[0], from_[1],
            to_type, to_name, actor, cause if message is None else message, data,
        ),
    )  # fmt: skip


def set_intent(
    connection: Connection, run_id: int, intent: str, *, at_us: int, actor: str, message: str | None = None
) -> None:
    """Note what was asked of a run, with a ``request`` event saying who asked.

    ``StaleState`` when there is no such run, or when it is to be cancelled: nothing takes that back.
    """
    if connection.execute(UPDATE_INTENT, (intent, run_id)).rowcount == 0:
        if intent_of(connection, run_id) is None:
            raise StaleState(f"run #{run_id} does not exist")
        raise StaleState(f"run #{run_id} is to be cancelled; nothing else can be asked of it any more")
    events.append(
        connection, at_us=at_us, kind="request", actor=actor, run_id=run_id, message=message, data={"intent": intent}
    )


def set_working_folder(connection: Connection, run_id: int, folder: str | None) -> None:
    """Where a run runs, and goes back to."""
    connection.execute(UPDATE_WORKING_FOLDER, (folder, run_id))


def rename(connection: Connection, run_id: int, name: str) -> None:
    """Give a run another name."""
    connection.execute(UPDATE_NAME, (name, run_id))


def set_result_preview(connection: Connection, run_id: int, attempt: int, preview: str | None) -> None:
    """Note the text people see as the flow's result."""
    if connection.execute(UPDATE_RESULT_PREVIEW, (preview, run_id, attempt)).rowcount == 0:
        raise _stale(connection, run_id, f"attempt {attempt}")


def get(connection: Connection, run_id: int) -> RunRow | None:
    """One run, or None."""
    row = connection.execute(SELECT_RUN, (run_id,)).fetchone()
    return RunRow._make(row) if row else None


def intent_of(connection: Connection, run_id: int) -> tuple[str, str, str, int] | None:
    """``(state_type, state_name, intent, attempt)`` of a run, or None: what its process polls."""
    row: tuple[str, str, str, int] | None = connection.execute(SELECT_INTENT, (run_id,)).fetchone()
    return row


def is_tried_again(connection: Connection, run_id: int) -> bool:
    """Whether the attempt that begins comes after one that ended; not after a pause or a sleep without a process."""
    row = connection.execute(SELECT_LEFT_FOR_SCHEDULED, (run_id,)).fetchone()
    return row is None or row[0] in TERMINAL_TYPES


def claim_these(
    connection: Connection, run_ids: Collection[int], now_us: int, actor: str, *, to: tuple[str, str]
) -> list[RunRow]:
    """Move root runs that were found to be due (``due``) to the state of claimed ones and return them, in that order.

    Those that have moved on since, that somebody asked something of, or that have a process (a lease) are left alone.
    """
    claimed = []
    for run_id in run_ids:
        present = connection.execute(SELECT_INTENT, (run_id,)).fetchone()
        found = None if present is None else connection.execute(CLAIM_ONE, (run_id, present[1], *to)).fetchone()
        if found is None:
            continue
        run = RunRow._make(found)
        connection.execute(
            events.INSERT,
            (now_us, "state", run.id, None, run.attempt, "SCHEDULED", present[1], *to, actor, None, None),
        )
        claimed.append(run)
    return claimed


def holders(connection: Connection) -> list[tuple[int, str]]:
    """Each root run that lives or has a process, and the deployment or flow for whose limit it counts; by number."""
    return connection.execute(SELECT_HOLDERS).fetchall()


def next_wake(connection: Connection) -> int | None:
    """When the next waiting run is due, or None when none waits for a time."""
    row = connection.execute(SELECT_NEXT_WAKE).fetchone()
    return None if row is None or row[0] is None else int(row[0])


def live(connection: Connection) -> list[RunRow]:
    """Every run that has not ended."""
    return [RunRow._make(row) for row in connection.execute(SELECT_LIVE)]


def children(connection: Connection, run_id: int) -> list[RunRow]:
    """The subflow runs a run made itself, oldest first."""
    return [RunRow._make(row) for row in connection.execute(SELECT_CHILDREN, (run_id,))]


def asked_for(connection: Connection, run_id: int) -> list[RunRow]:
    """The runs with processes of their own that a run had deployments make, oldest first."""
    return [RunRow._make(row) for row in connection.execute(SELECT_ASKED_FOR, (run_id,))]


def set_parent(connection: Connection, run_id: int, parent_run_id: int, parent_seq: int | None) -> None:
    """A run with a process of its own was asked for by another, which waits at ``parent_seq``, or does not (None)."""
    connection.execute(SET_PARENT, (parent_run_id, parent_seq, run_id))


def of_root(connection: Connection, root_id: int) -> list[RunRow]:
    """Every run that lives in the process of a root run, at any depth, without the root itself."""
    return [RunRow._make(row) for row in connection.execute(SELECT_OF_ROOT, (root_id,))]


def counts(connection: Connection) -> dict[str, int]:
    """How many runs there are of each state type; types without runs are absent."""
    return dict(connection.execute(SELECT_COUNTS).fetchall())


def flows(connection: Connection) -> list[FlowRow]:
    """Every flow ever run or deployed, by name."""
    return [FlowRow._make(row) for row in connection.execute(SELECT_FLOWS)]


def listing(
    connection: Connection,
    *,
    flow: str | None = None,
    states: Collection[str] | None = None,
    limit: int = 200,
    before_id: int | None = None,
    search: str | None = None,
    roots_only: bool = True,
) -> list[RunRow]:
    """Runs, newest first: of a flow, in some state types, older than one, with a text in name, flow or cause.

    One indexed walk per state type, merged: a rare state is found at once among a million runs.
    """
    conditions: list[str] = []
    values: list[str | int] = []
    if flow is not None:
        conditions.append("flow_name = ?")
        values.append(flow)
    if before_id is not None:
        conditions.append("id < ?")
        values.append(before_id)
    if search:
        like = "%" + search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        conditions.append(
            "(name LIKE ? ESCAPE '\\' OR flow_name LIKE ? ESCAPE '\\' OR cause LIKE ? ESCAPE '\\'"
            " OR tags LIKE ? ESCAPE '\\' OR id = ?)"
        )
        number = search.removeprefix("#")
        values += [like, like, like, like, int(number) if number.isdecimal() and len(number) < 19 else -1]
    if roots_only:
        conditions.append("root_id IS NULL")
    found: list[RunRow] = []
    for state in sorted(set(states)) if states is not None else (None,):
        of_state = [*conditions, "state_type = ?"] if state is not None else conditions
        where = f" WHERE {' AND '.join(of_state)}" if of_state else ""
        rows = connection.execute(
            f"SELECT {RUN_COLUMNS} FROM flow_run{where} ORDER BY id DESC LIMIT ?",
            [*values, *([state] if state is not None else []), limit],
        )
        found += map(RunRow._make, rows)
    if states is not None:
        found.sort(key=lambda run: -run.id)
    return found[:limit]


def _present_state(
    connection: Connection, run_id: int, attempt: int, from_type: str | None
) -> tuple[str, str]:
    if from_type is None:
        raise ValueError("a transition needs the state it starts from: from_ or from_type")
    row = connection.execute(SELECT_INTENT, (run_id,)).fetchone()
    if row is None or row[0] != from_type or row[3] != attempt:
        raise _stale(connection, run_id, f"{from_type}, attempt {attempt}")
    return row[0], row[1]


def _stale(connection: Connection, run_id: int, wanted: str) -> StaleState:
    row = connection.execute(SELECT_INTENT, (run_id,)).fetchone()
    if row is None:
        return StaleState(f"run #{run_id} does not exist")
    return StaleState(f"run #{run_id} is {row[0]} ({row[1]}), attempt {row[3]}; expected {wanted}")
