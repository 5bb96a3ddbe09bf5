"""The ``concurrency_limit`` and ``slot`` tables: how many may do something at once, who does, and who waits.

Occupancy is never counted up or down: it is the rows of live holders. Each call that asks gets one row a limit, all
with one ``ask_id``; the rows' ids are the order of asking, and slots are given strictly in that order, all of a call's
at once, so that nobody is passed over and calls for several limits cannot block each other. Whoever gives slots back
hands them to the next in the same transaction, also to waiters of other processes. Slots of a process that is gone
are free; whoever waits looks. All writes expect an open write transaction.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Final, NamedTuple

from .. import judging
from ..connection import Connection, folder_of
from ..rows import LimitRow, SlotRow
from . import events, leases

LIMIT_COLUMNS: Final = ", ".join(LimitRow._fields)
SLOT_COLUMNS: Final = ", ".join(SlotRow._fields)
UPSERT: Final = (
    f"INSERT INTO concurrency_limit ({LIMIT_COLUMNS}) VALUES (?1, ?2, ?3, ?4, 0, ?5, ?5, ?5, ?6)"
    " ON CONFLICT (name) DO UPDATE SET slots = excluded.slots,"
    " slot_decay_per_second = excluded.slot_decay_per_second, active = excluded.active,"
    " updated_at_us = excluded.updated_at_us, actor = excluded.actor"
)
DELETE: Final = "DELETE FROM concurrency_limit WHERE name = ?"
SELECT_ONE: Final = f"SELECT {LIMIT_COLUMNS} FROM concurrency_limit WHERE name = ?"
SELECT_ALL: Final = f"SELECT {LIMIT_COLUMNS} FROM concurrency_limit ORDER BY name"
SELECT_TAGS: Final = "SELECT substr(name, 5) FROM concurrency_limit WHERE name >= 'tag:' AND name < 'tag;' AND active"
UPDATE_USED: Final = "UPDATE concurrency_limit SET used = ?, used_at_us = ? WHERE name = ?"
INSERT_SLOT: Final = (
    "INSERT INTO slot (ask_id, limit_name, kind, occupy, run_id, task_seq, host, boot_id, pid, pid_started_ticks,"
    " pid_namespace, asked_at_us, held_at_us, actor, within) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?, ?)"
)
UPDATE_ASK: Final = "UPDATE slot SET ask_id = id WHERE id = ?"
UPDATE_HELD: Final = "UPDATE slot SET held_at_us = ? WHERE ask_id = ?"
SELECT_ASK: Final = f"SELECT {SLOT_COLUMNS} FROM slot WHERE ask_id = ? ORDER BY id"
SELECT_HEAD: Final = (
    "SELECT id, ask_id FROM slot WHERE limit_name = ? AND held_at_us IS NULL ORDER BY id LIMIT 1"
)
SELECT_TAKEN: Final = (
    "SELECT coalesce(sum(occupy), 0) FROM slot WHERE limit_name = ? AND held_at_us > 0 AND kind = 'hold'"
)
SELECT_HOLDERS: Final = f"SELECT {SLOT_COLUMNS} FROM slot WHERE limit_name = ? AND held_at_us > 0 ORDER BY id"
SELECT_WAITING: Final = f"SELECT {SLOT_COLUMNS} FROM slot WHERE limit_name = ? AND held_at_us IS NULL ORDER BY id"
SELECT_SLOTS: Final = f"SELECT {SLOT_COLUMNS} FROM slot ORDER BY id"
SELECT_HELD_ASKS: Final = "SELECT ask_id FROM slot WHERE limit_name = ? AND held_at_us >= ?"
SELECT_PROCESSES: Final = (
    "SELECT DISTINCT host, boot_id, pid, pid_started_ticks, pid_namespace FROM slot"
    " WHERE limit_name = ? AND held_at_us > 0"
)
SELECT_OF_PROCESS: Final = (
    "SELECT DISTINCT limit_name FROM slot"
    " WHERE boot_id = ? AND pid = ? AND pid_started_ticks = ? AND pid_namespace IS ?"
)
SELECT_OF_RUN: Final = f"SELECT {SLOT_COLUMNS} FROM slot WHERE run_id = ? ORDER BY id"
DELETE_OF_PROCESS: Final = (
    "DELETE FROM slot WHERE boot_id = ? AND pid = ? AND pid_started_ticks = ? AND pid_namespace IS ?"
)
DELETE_ASK: Final = "DELETE FROM slot WHERE ask_id = ? RETURNING limit_name"
UPDATE_TASK_CAUSE: Final = (
    "UPDATE task_run SET cause = ?1 WHERE run_id = ?2 AND seq = ?3 AND state_type = 'RUNNING' AND cause IS NOT ?1"
)
UPDATE_RUN_CAUSE: Final = (
    "UPDATE flow_run SET cause = ?1 WHERE id = ?2 AND state_type = 'RUNNING' AND cause IS NOT ?1"
)


_CLOCK_SET_BACK_US: Final = 2_000_000
"""Clocks of two machines may differ by so much."""


class Process(NamedTuple):
    """The process that asks for slots."""

    host: str
    boot_id: str
    pid: int
    pid_started_ticks: int
    pid_namespace: str | None = None


class Queue(NamedTuple):
    """Who has slots of a limit and who waits for them, in the order of asking."""

    holders: list[SlotRow]
    waiting: list[SlotRow]

    @property
    def taken(self) -> int:
        """How many slots are held."""
        return sum(row.occupy for row in self.holders if row.kind == "hold")


# ------------------------------------------------------------------------------------------------------- limits


def put(
    connection: Connection, name: str, slots: int, decay: float | None, *, active: bool, at_us: int, actor: str
) -> None:
    """Make or change a limit; who waits for it gets what is free now."""
    connection.execute(UPSERT, (name, slots, decay, active, at_us, actor))
    words = f"limit {name}: {slots} slots" + (f", {decay:g} a second come back" if decay is not None else "")
    _say(connection, name, words + ("" if active else ", paused"), at_us, actor, {"slots": slots, "active": active})
    grant(connection, [name], at_us)


def delete(connection: Connection, name: str, *, at_us: int, actor: str) -> bool:
    """Remove a limit, so that nothing holds anybody back; says whether there was one."""
    if connection.execute(DELETE, (name,)).rowcount == 0:
        return False
    _say(connection, name, f"limit {name} removed", at_us, actor, {})
    grant(connection, [name], at_us)
    return True


def get(connection: Connection, name: str) -> LimitRow | None:
    """One limit, or None."""
    row = connection.execute(SELECT_ONE, (name,)).fetchone()
    return _limit(row) if row else None


def all(connection: Connection) -> list[LimitRow]:  # noqa: A001 - read as limits.all
    """Every limit, by name."""
    return [_limit(row) for row in connection.execute(SELECT_ALL)]


def tags(connection: Connection) -> frozenset[str]:
    """The tags that have a limit."""
    return frozenset(row[0] for row in connection.execute(SELECT_TAGS))


def queue(connection: Connection, name: str) -> Queue:
    """Who has slots of a limit, and who waits."""
    holders, waiting = connection.execute(SELECT_HOLDERS, (name,)), connection.execute(SELECT_WAITING, (name,))
    return Queue([SlotRow._make(row) for row in holders], [SlotRow._make(row) for row in waiting])


def head(connection: Connection, name: str) -> SlotRow | None:
    """The first who waits."""
    found = connection.execute(SELECT_HEAD, (name,)).fetchone()
    rows = connection.execute(SELECT_ASK, (found[1],)).fetchall() if found is not None else []
    return next((SlotRow._make(row) for row in rows), None)


def of_run(connection: Connection, run_id: int) -> list[SlotRow]:
    """What a run and its tasks hold and wait for."""
    return [SlotRow._make(row) for row in connection.execute(SELECT_OF_RUN, (run_id,))]


def every_slot(connection: Connection) -> list[SlotRow]:
    """All that is held and waited for."""
    return [SlotRow._make(row) for row in connection.execute(SELECT_SLOTS)]


def rate_used(limit: LimitRow, at_us: int) -> float:
    """How many slots ``rate_limit`` has taken that have not come back yet."""
    passed = max(0, at_us - limit.used_at_us) / 1e6
    if at_us < limit.used_at_us - _CLOCK_SET_BACK_US:
        return 0.0  # nobody knows how long ago that was; to wait until the clock is there again would be worse
    return max(0.0, limit.used - passed * (limit.slot_decay_per_second or 0.0))


def seconds_until_fits(limit: LimitRow, occupy: int, at_us: int) -> float:
    """How long until so many slots of a rate have come back."""
    missing = rate_used(limit, at_us) + occupy - limit.slots
    return max(0.0, missing / limit.slot_decay_per_second) if limit.slot_decay_per_second else 0.0


# -------------------------------------------------------------------------------------------------------- slots


_own: dict[int, Process] = {}
"""This process, by its number: after a fork it is another."""


@cache
def host_name() -> str:
    """This machine's name."""
    return os.uname().nodename


def this_process() -> Process:
    """What names the calling process for ever."""
    known = _own.get(os.getpid())
    if known is not None:
        return known
    identity = judging.own_identity()
    _own.clear()
    _own[os.getpid()] = process = Process(host_name(), *identity)
    return process


def ask(
    connection: Connection,
    names: Sequence[str],
    *,
    kind: str,
    occupy: int,
    process: Process,
    at_us: int,
    actor: str,
    run_id: int | None = None,
    task_seq: int | None = None,
    within: str | None = None,
) -> tuple[int, bool]:
    """Queue for slots of all these limits at once; the number of the request, and whether it has them already."""
    if process == _own.get(os.getpid()):
        judging.show_presence(folder_of(connection), None if run_id is not None else "slots")
    ask_id = 0
    for name in sorted(set(names)):
        values = (name, kind, occupy, run_id, task_seq, *process, at_us, actor, within)
        row_id = connection.execute(INSERT_SLOT, (ask_id, *values)).lastrowid or 0
        if not ask_id:
            ask_id = row_id
            connection.execute(UPDATE_ASK, (row_id,))
    return ask_id, ask_id in grant(connection, names, at_us)


def release(connection: Connection, ask_id: int, at_us: int) -> None:
    """Give back, or stop waiting for, what one call asked for, and hand it to the next."""
    names = [row[0] for row in connection.execute(DELETE_ASK, (ask_id,)).fetchall()]
    if names:
        grant(connection, names, at_us)


def release_process(connection: Connection, process: judging.NamesProcess, at_us: int) -> None:
    """A process is gone: everything it held and waited for."""
    identity = (process.boot_id, process.pid, process.pid_started_ticks, process.pid_namespace)
    names = [row[0] for row in connection.execute(SELECT_OF_PROCESS, identity).fetchall()]
    if names:
        connection.execute(DELETE_OF_PROCESS, identity)
        grant(connection, names, at_us)


def held_asks(connection: Connection, name: str, since_us: int) -> list[int]:
    """The requests that got their slots of this limit since then."""
    return [row[0] for row in connection.execute(SELECT_HELD_ASKS, (name, since_us))]


def gone_holders(connection: Connection, names: Iterable[str]) -> set[Process]:
    """The processes that hold slots of these limits and live no more."""
    holders = {Process._make(row) for name in names for row in connection.execute(SELECT_PROCESSES, (name,))}
    return {process for process in holders if is_gone(process, connection)}


def is_gone(process: Process, connection: Connection) -> bool:
    """Whether that process surely lives no more; of another namespace nobody here may be able to say so."""
    return process != _own.get(os.getpid()) and not leases.is_alive(process, connection)


def reap(connection: Connection, names: Iterable[str], at_us: int) -> None:
    """Remove what processes that are gone held of these limits, and anything else of theirs, and hand it on."""
    for process in gone_holders(connection, names):
        release_process(connection, process, at_us)


def grant(connection: Connection, names: Iterable[str], at_us: int) -> set[int]:
    """Give what is free of these limits to those who wait, in the order of asking; returns whose turn it was."""
    granted: set[int] = set()
    look = sorted(set(names))
    while look:
        name = look.pop()
        while (head := connection.execute(SELECT_HEAD, (name,)).fetchone()) is not None:
            rows = [SlotRow._make(row) for row in connection.execute(SELECT_ASK, (head[1],))]
            others = [row.limit_name for row in rows if row.limit_name != name]
            if is_gone(_process_of(rows[0]), connection):
                connection.execute(DELETE_ASK, (head[1],)).fetchall()
            elif all_fit(connection, rows, at_us):
                connection.execute(UPDATE_HELD, (at_us, head[1]))
                granted.add(head[1])
            else:
                break
            look += others
    return granted


def _process_of(row: SlotRow) -> Process:
    return Process(row.host, row.boot_id, row.pid, row.pid_started_ticks, row.pid_namespace)


def all_fit(connection: Connection, rows: Iterable[SlotRow], at_us: int) -> bool:
    """Whether a request is the first of all its queues and everything it wants is free; a rate is then counted."""
    used: list[tuple[float, int, str]] = []
    for row in rows:
        limit = get(connection, row.limit_name)
        if limit is None or not limit.active:
            continue
        if connection.execute(SELECT_HEAD, (row.limit_name,)).fetchone()[0] < row.id:
            return False
        taken = connection.execute(SELECT_TAKEN, (row.limit_name,)).fetchone()[0]
        rate = rate_used(limit, at_us)
        if taken + rate + row.occupy > limit.slots + 1e-9:
            return False
        if row.kind == "rate":
            used.append((rate + row.occupy, at_us, row.limit_name))
    connection.executemany(UPDATE_USED, used)
    return True


# --------------------------------------------------------------------------------------------------- in words


def waits_in_words(name: str, queue: Queue, limit: LimitRow | None, place: int) -> str:
    """``waiting for slot db, position 3 of 5, held by 41/7``."""
    holders = list(dict.fromkeys(holder_in_words(row) for row in queue.holders if row.kind == "hold"))
    held = ", ".join(holders[:3]) + (f" and {len(holders) - 3} more" if len(holders) > 3 else "")
    words = f"waiting for slot {name}, position {place} of {len(queue.waiting)}"
    if held:
        return f"{words}, held by {held}"
    if limit is not None and limit.slot_decay_per_second:
        return f"{words}, {limit.slot_decay_per_second:g} a second come free"
    return words


def holder_in_words(row: SlotRow) -> str:
    """``41/7``, ``#41``, or the process of a script outside any run."""
    if row.run_id is None:
        return f"process {row.pid}"
    return f"#{row.run_id}" if row.task_seq is None else f"{row.run_id}/{row.task_seq}"


def note_wait(
    connection: Connection, run_id: int, task_seq: int | None, words: str | None, *, at_us: int
) -> bool:
    """Say in the row of running code what it waits for, or that it waits no more; says whether that was news."""
    if task_seq is None:
        changed = connection.execute(UPDATE_RUN_CAUSE, (words, run_id)).rowcount > 0
    else:
        changed = connection.execute(UPDATE_TASK_CAUSE, (words, run_id, task_seq)).rowcount > 0
    if changed:
        events.append(
            connection, at_us=at_us, kind="limit", actor="engine", run_id=run_id, task_seq=task_seq,
            message=words or "has its slots",
        )  # fmt: skip
    return changed


def _limit(row: tuple[object, ...]) -> LimitRow:
    limit = LimitRow._make(row)
    return limit._replace(active=bool(limit.active))


def _say(
    connection: Connection, name: str, message: str, at_us: int, actor: str, data: dict[str, object]
) -> None:
    events.append(connection, at_us=at_us, kind="limit", actor=actor, message=message, data={"limit": name, **data})
