"""Moving the write-ahead log into the database without the WAL-reset bug.

SQLite 3.7.0 to 3.51.2 can corrupt a database when one connection checkpoints while another commits and restarts the
log. On an affected library every connection sets ``wal_autocheckpoint=0``, and a checkpoint runs only here: on a second
connection while the first one holds the write lock, so that nobody can commit meanwhile. ``wal_checkpoint(FULL)`` or
``(TRUNCATE)`` would not do: when it cannot get the write lock it silently becomes passive.
"""

from __future__ import annotations

import os
import sqlite3
from typing import NamedTuple

from .locking import begin_immediate

FIXED_IN: tuple[tuple[int, int, int], ...] = ((3, 44, 6), (3, 50, 7))
"""Maintenance lines that got the fix; every release from 3.51.3 on has it."""


def wal_reset_bug(sqlite_version: tuple[int, int, int]) -> bool:
    """Whether this SQLite library can corrupt a database when a checkpoint and a commit meet."""
    if sqlite_version < (3, 7, 0) or sqlite_version >= (3, 51, 3):
        return False
    return not any(sqlite_version[:2] == fixed[:2] and sqlite_version >= fixed for fixed in FIXED_IN)


LOCK_WAIT_SECONDS = 0.25

AFFECTED: bool = wal_reset_bug(sqlite3.sqlite_version_info[:3])
"""Whether the library this process runs on is affected."""


class CheckpointResult(NamedTuple):
    """What a checkpoint did."""

    ran: bool
    """False when the write lock could not be had in time."""
    log_pages: int
    moved_pages: int
    """Fewer than ``log_pages`` when a reader still looks at an older state."""


def checkpoint(writer: sqlite3.Connection, second: sqlite3.Connection) -> CheckpointResult:
    """Move what the log holds into the database, with commits of all processes shut out while it runs.

    ``writer`` must not be in a transaction; ``second`` is another connection to the same file. It does not wait long
    for the write lock, whatever the ``busy_timeout``. An error of SQLite's passes through, with the lock given back.
    """
    wait_ms = writer.execute("PRAGMA busy_timeout").fetchone()[0]
    try:
        writer.execute("PRAGMA busy_timeout=0")
        try:
            begin_immediate(writer, LOCK_WAIT_SECONDS)
        finally:
            writer.execute(f"PRAGMA busy_timeout={wait_ms}")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            return CheckpointResult(False, 0, 0)
        raise
    try:
        busy, log_pages, moved_pages = second.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    finally:
        if writer.in_transaction:
            writer.execute("ROLLBACK")
    return CheckpointResult(not busy, log_pages, moved_pages)


def wal_size(database_path: str) -> int:
    """Bytes in the database's write-ahead log; 0 when there is none."""
    try:
        return log_size(database_path + "-wal")
    except FileNotFoundError:
        return 0


def log_size(path: str) -> int:
    """Bytes in a write-ahead log; FileNotFoundError when there is none. Does not look at the file's times.

    Since Linux 6.13 a file whose times were asked for gets finer ones with its next write, and the sync of that write
    waits for the file system's journal as well: ``stat`` after each commit made each commit 90 µs slower, of 280.
    """
    # SQLite takes its locks on another file: this one may be closed.
    log = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return os.lseek(log, 0, os.SEEK_END)
    finally:
        os.close(log)
