"""The ``cache_entry`` and ``cache_lock`` tables: results by cache key, and who computes one right now.

A lock names its holder's process for ever, as a lease does: the lock of a process that is gone holds nobody up.
Bytes go in and come out; nothing here decodes them. All writes expect an open write transaction.
"""

from __future__ import annotations

from typing import Final

from ..connection import Connection, folder_of
from ..judging import same, show_presence
from ..rows import CacheLockRow, CacheRow
from .leases import is_alive

_AHEAD_US: Final = 60_000_000
CACHE_COLUMNS: Final = ", ".join(CacheRow._fields)
LOCK_COLUMNS: Final = ", ".join(CacheLockRow._fields)
PUT: Final = f"INSERT OR REPLACE INTO cache_entry ({CACHE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
SELECT_ONE: Final = f"SELECT {CACHE_COLUMNS} FROM cache_entry WHERE key = ?"
SELECT_OF_TASK: Final = f"SELECT {CACHE_COLUMNS} FROM cache_entry WHERE run_id = ?1 AND (?2 IS NULL OR task_seq = ?2)"
SELECT_PATH: Final = "SELECT path FROM cache_entry WHERE key = ?"
SELECT_EXPIRED: Final = "SELECT path FROM cache_entry WHERE expires_at_us <= ?"
DELETE_ENTRY: Final = "DELETE FROM cache_entry WHERE key = ?1 AND run_id IS ?2 AND task_seq IS ?3"
DELETE_EXPIRED: Final = "DELETE FROM cache_entry WHERE expires_at_us <= ?"
INSERT_LOCK: Final = f"INSERT OR REPLACE INTO cache_lock ({LOCK_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
SELECT_LOCK: Final = f"SELECT {LOCK_COLUMNS} FROM cache_lock WHERE key = ?"
DELETE_LOCK: Final = (
    "DELETE FROM cache_lock WHERE key = ? AND run_id IS ? AND task_seq IS ? AND boot_id = ? AND pid = ?"
    " AND pid_started_ticks = ? AND acquired_at_us = ? AND pid_namespace IS ?"
)


def put(connection: Connection, row: CacheRow) -> str | None:
    """Store an entry in place of an older one; returns the older one's file, which nothing names any more."""
    older = connection.execute(SELECT_PATH, (row.key,)).fetchone()
    connection.execute(PUT, row)
    return older[0] if older is not None and older[0] != row.path else None


def get(connection: Connection, key: str) -> CacheRow | None:
    """The entry of a key, expired or not, or None."""
    row = connection.execute(SELECT_ONE, (key,)).fetchone()
    return CacheRow._make(row) if row else None


def is_stale(entry: CacheRow, now_us: int) -> bool:
    """Whether an entry that is good for a while is good no more.

    One that says it was made later than now was made under a clock that was ahead: how old it is nobody knows.
    """
    if entry.expires_at_us is None:
        return False
    return entry.expires_at_us <= now_us or entry.created_at_us > now_us + _AHEAD_US


def of_run(connection: Connection, run_id: int, task_seq: int | None = None) -> list[CacheRow]:
    """The entries that a run made, or one of its tasks."""
    return [CacheRow._make(row) for row in connection.execute(SELECT_OF_TASK, (run_id, task_seq))]


def remove(connection: Connection, key: str, run_id: int | None, task_seq: int | None) -> None:
    """Take back the entry that this task made, unless another one has replaced it."""
    connection.execute(DELETE_ENTRY, (key, run_id, task_seq))


def remove_expired(connection: Connection, now_us: int) -> list[str]:
    """Remove what may not be used any more; returns the files that nothing names any more."""
    paths = [path for (path,) in connection.execute(SELECT_EXPIRED, (now_us,)) if path is not None]
    connection.execute(DELETE_EXPIRED, (now_us,))
    return paths


def lock(connection: Connection, wanted: CacheLockRow, *, again: bool = False) -> CacheLockRow | None:
    """Take a key's lock; returns None when it is ours now, else the live holder.

    Locks of one process are told apart by when they were asked for. With ``again`` what the same call of the same
    process has is its own, too: one that is made again takes it over.
    """
    holder = lock_holder(connection, wanted.key)
    if holder is not None and not (same(holder, wanted) and (
        holder.acquired_at_us == wanted.acquired_at_us or (again and holder[1:3] == wanted[1:3])
    )):
        return holder
    show_presence(folder_of(connection), None if wanted.run_id is not None else "locks")
    connection.execute(INSERT_LOCK, wanted)
    return None


def lock_holder(connection: Connection, key: str) -> CacheLockRow | None:
    """Who computes what the key stands for, if that process lives."""
    row = connection.execute(SELECT_LOCK, (key,)).fetchone()
    if row is None:
        return None
    holder = CacheLockRow._make(row)
    return holder if is_alive(holder, connection) else None


def unlock(connection: Connection, held: CacheLockRow) -> None:
    """Give a lock back; nothing when somebody else has it."""
    connection.execute(DELETE_LOCK, (held.key, held.run_id, held.task_seq, *held[4:9]))
