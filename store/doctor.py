"""Examining a store: what is right, what is doubtful, what is wrong, and what to do about each.

Reads only, with nothing but the driver; a store that cannot be opened is a finding, never an exception.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

from . import files, spool, spool_lines, trust
from .checkpoint import wal_reset_bug, wal_size
from .connection import (
    DATABASES,
    LOG_BYTES,
    SCHEMA_VERSION,
    Connection,
    Database,
    check_version,
    connect,
    database_path,
)
from .driver_errors import free_bytes, translate
from .errors import StoreError
from .location import NETWORK_FILE_SYSTEMS, filesystem_type
from .lock_holder import lock_holder, named
from .states import RUNNING
from .tables import leases, runs

Level = Literal["ok", "warn", "bad"]

LOW_SPACE_BYTES: Final = 1024**3
NO_SPACE_BYTES: Final = 64 * 1024**2
_MIGRATION: Final = "start any flow or the daemon: it backs the store up and migrates it"
DOUBTFUL_FILE_SYSTEMS: Final = frozenset({"9p", "drvfs", "vboxsf", "fuse", "fuseblk", "fuse.gvfsd-fuse", "overlay"})


class Finding(NamedTuple):
    """One thing looked at."""

    level: Level
    subject: str
    text: str
    remedy: str
    """What to do; empty when there is nothing to do."""


def examine(folder: str | Path) -> list[Finding]:
    """Everything that can be told about a store, in the order it was looked at."""
    folder = os.path.abspath(folder)
    findings = [_library()]
    if not os.path.isdir(folder):
        return [*findings, Finding("bad", "folder", f"{folder} does not exist",
                                   "the first run makes it: `flowdeck run FILE`")]
    findings += [*_permissions(folder), _file_system(folder), _space(folder)]
    for database in DATABASES:
        findings += _database(folder, database)
    findings += _spools(folder)
    return findings


def is_older(findings: Iterable[Finding]) -> bool:
    """Whether the store has to be migrated before its rows can be read."""
    return any(finding.remedy == _MIGRATION for finding in findings)


def _library() -> Finding:
    version = sqlite3.sqlite_version
    if wal_reset_bug(sqlite3.sqlite_version_info[:3]):
        return Finding(
            "ok", "sqlite", f"SQLite {version} has the WAL-reset bug (fixed in 3.51.3); Flowdeck's guarded checkpoint"
            " avoids it", "let no other program checkpoint or write these files while Flowdeck runs",
        )  # fmt: skip
    return Finding("ok", "sqlite", f"SQLite {version}, without the WAL-reset bug", "")


def _permissions(folder: str) -> Iterator[Finding]:
    paths = [(folder, 0o700)]
    for database in DATABASES:
        paths += [(database_path(folder, database) + end, 0o600) for end in ("", "-wal", "-shm")]
    paths.append((os.path.join(folder, spool_lines.FOLDER), 0o700))
    wide = []
    for path, expected in paths:
        try:
            mode = stat.S_IMODE(os.stat(path).st_mode)
        except FileNotFoundError:
            continue
        if mode & ~expected:
            wide.append(path)
            yield Finding(
                "warn", "permissions", f"{path} is open to others (mode {mode:o}, should be {expected:o})",
                f"chmod {expected:o} {path}",
            )  # fmt: skip
    strange = list(_strangers(folder))
    yield from strange
    if not wide and not strange:
        yield Finding("ok", "permissions", "only the owner can read the store", "")
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        yield Finding(
            "warn", "file system", f"{folder} is mounted read-only: it can be looked at, nothing can run on it",
            "mount it for writing, or name another store with --store",
        )  # fmt: skip
    elif not os.access(folder, os.W_OK):
        yield Finding("warn", "permissions", f"{folder} is not writable for this user", "run as its owner to write")


def _strangers(folder: str) -> Iterator[Finding]:
    """What in the store belongs to another user than the store, cannot be read, or is a link."""
    owner = os.stat(folder).st_uid
    foreign, links, unreadable = [], [], []
    for place, folders, names in os.walk(folder):
        for path in (os.path.join(place, name) for name in (*folders, *names)):
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue  # it has ended meanwhile
            if stat.S_ISLNK(status.st_mode):
                links.append(path)
            elif status.st_uid != owner:
                foreign.append(path)
            elif not os.access(path, os.R_OK):
                unreadable.append(path)
    whose = trust.owner_in_words(folder)
    if foreign:
        named = trust.owner_in_words(foreign[0])
        yield Finding("warn", "permissions", f"{_some(foreign)} belongs to {named}, the store to {whose}",
                      f"sudo chown -R {whose} {folder}")  # fmt: skip
    if unreadable:
        yield Finding("warn", "permissions", f"{_some(unreadable)} cannot be read by this user",
                      f"run as {whose}, or chmod -R u+rwX {folder}")  # fmt: skip
    if links:
        yield Finding("bad", "permissions", f"{_some(links)} is a link, and nothing of a store is",
                      "find out who made it, then remove it")  # fmt: skip


def _some(paths: list[str]) -> str:
    more = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
    return f"{paths[0]}{more}"


def _file_system(folder: str) -> Finding:
    kind = filesystem_type(Path(folder))
    if kind in NETWORK_FILE_SYSTEMS:
        return Finding(
            "bad", "file system", f"{folder} is on a network file system ({kind}), where SQLite's locks do not hold",
            "move the store to a local disk and name it with --store",
        )  # fmt: skip
    if kind in DOUBTFUL_FILE_SYSTEMS:
        return Finding(
            "warn", "file system", f"{folder} is on {kind}, which may not honour locks or fsync",
            "prefer a local disk (ext4, xfs, btrfs, zfs, apfs)",
        )  # fmt: skip
    return Finding("ok", "file system", f"{folder} is on {kind or 'a file system of unknown type'}", "")


def _space(folder: str) -> Finding:
    free = free_bytes(os.path.join(folder, "x"))
    text = f"{_size(free)} free on the disk of {folder}"
    if free < NO_SPACE_BYTES:
        return Finding("bad", "disk", text, "free some space: writing stops when none is left")
    return Finding("warn" if free < LOW_SPACE_BYTES else "ok", "disk", text, "free some space soon" if free <
                   LOW_SPACE_BYTES else "")  # fmt: skip


def _database(folder: str, database: Database) -> Iterator[Finding]:
    path = database_path(folder, database)
    subject = f"{database}.db"
    is_write_ahead = _is_write_ahead(folder, subject)
    yield from _stopped_holder(path, subject)
    try:
        connection = connect(folder, database, readonly=True)
    except StoreError as error:
        yield Finding("bad", subject, str(error), _remedy(error))
        return
    try:
        version = _version(connection, path, subject)
        yield version
        yield from _integrity(connection, subject, path, is_write_ahead=is_write_ahead)
        yield _sizes(connection, path, subject, LOG_BYTES[database])
        if database == "state" and version.level == "ok":  # rows of an older schema are read once it is migrated
            yield from _leases(connection)
    except StoreError as error:
        yield Finding("bad", subject, str(error), _remedy(error))
    except sqlite3.DatabaseError as error:
        yield Finding("bad", subject, str(translate(error, path)), _remedy(translate(error, path)))
    finally:
        connection.close()


def _stopped_holder(path: str, subject: str) -> Iterator[Finding]:
    holder = lock_holder(path)
    if holder is not None and holder.is_stopped:
        yield Finding(
            "bad", subject, f"nobody can write: {named(holder)} holds the lock and is stopped",
            f"let it go on with `kill -CONT {holder.pid}`, or end it",
        )  # fmt: skip


def _remedy(error: StoreError) -> str:
    """The last sentence of the error's text: there the remedy stands."""
    return str(error).rstrip(".").rsplit(". ", 1)[-1]


def _version(connection: Connection, path: str, subject: str) -> Finding:
    version = check_version(connection, path)
    if version < SCHEMA_VERSION:
        return Finding(
            "warn", subject, f"schema {version}, older than this Flowdeck's {SCHEMA_VERSION}",
            _MIGRATION,
        )  # fmt: skip
    return Finding("ok", subject, f"schema {version}", "")


def _integrity(connection: Connection, subject: str, path: str, *, is_write_ahead: bool) -> Iterator[Finding]:
    said = [row[0] for row in connection.execute("PRAGMA quick_check(10)")]
    if said == ["ok"]:
        yield Finding("ok", subject, "structure intact", "")
    else:
        yield Finding(
            "bad", subject, f"damaged: {'; '.join(said)}",
            f"stop everything, copy the folder, restore a backup or save what can be read: sqlite3 {path} .recover",
        )  # fmt: skip
    dangling = connection.execute("PRAGMA foreign_key_check").fetchmany(10)
    if dangling:
        tables = ", ".join(sorted({row[0] for row in dangling}))
        yield Finding("bad", subject, f"rows of {tables} refer to rows that do not exist", "restore a backup")
    if not is_write_ahead:
        yield Finding("warn", subject, "its journal mode is not wal", "let Flowdeck open it for writing once")


def _is_write_ahead(folder: str, name: str) -> bool:
    """By the file itself: where nobody can write, SQLite answers for its view of the file.

    To be asked before a connection is opened: closing the file gives up this process's locks on it.
    """
    try:
        with open(files.open_to_read(folder, name), "rb") as file:
            return file.read(20)[18:20] == b"\x02\x02"
    except (OSError, StoreError):
        return False  # why it cannot be read is said when it is opened


def _sizes(connection: Connection, path: str, subject: str, log_bytes: int) -> Finding:
    unused = connection.execute("PRAGMA freelist_count").fetchone()[0]
    page_size = connection.execute("PRAGMA page_size").fetchone()[0]
    log = wal_size(path)
    text = f"{_size(os.stat(path).st_size)}, of which {_size(unused * page_size)} unused; log {_size(log)}"
    if log > 4 * log_bytes:
        return Finding(
            "warn", subject, f"{text}: the log is not being moved into the database",
            f"a program keeps an old view of the store open: find it with `fuser {path}` and end it",
        )  # fmt: skip
    return Finding("ok", subject, text, "")


def _leases(connection: Connection) -> Iterator[Finding]:
    held = leases.all(connection)
    verdicts = {lease.owner: leases.judge(lease, connection) for lease in held}
    owners = {lease.run_id for lease in held if not verdicts[lease.owner].is_gone}
    for lease in held:
        if verdicts[lease.owner].state == "unknown":
            yield Finding("ok", "leases", f"{lease.owner}: process {lease.pid} cannot be judged from here: "
                          f"{verdicts[lease.owner].reason}", "look where it runs")  # fmt: skip
        elif verdicts[lease.owner].is_gone:
            yield Finding(
                "warn", "leases", f"{lease.owner} is held by process {lease.pid}, which is gone",
                "start the daemon, or retry the run: either takes it over",
            )  # fmt: skip
    for run in runs.live(connection):
        if run.state_type == RUNNING and run.root_id is None and run.id not in owners:
            yield Finding(
                "warn", "runs", f"run #{run.id} ({run.name}) is {run.state_name} without a live process",
                "start the daemon: it records the crash and resumes what may be resumed",
            )  # fmt: skip
    daemon = next((lease for lease in held if lease.owner == leases.DAEMON), None)
    if daemon is not None and not verdicts[daemon.owner].is_gone:
        verdict = verdicts[daemon.owner]
        yield Finding("ok", "daemon", f"process {daemon.pid} on {daemon.host} ({verdict.reason or verdict.state})", "")
    else:
        yield Finding("ok", "daemon", "not running; schedules do not fire without it", "`flowdeck daemon PATH…`")


def _spools(folder: str) -> Iterator[Finding]:
    waiting = [entry for entry in spool.leftovers(folder) if entry[2] > 0]
    if not waiting:
        return
    total = sum(size for _, _, size in waiting)
    names = ", ".join(f"#{root_id}" for root_id, _, _ in waiting[:5]) + (" …" if len(waiting) > 5 else "")
    yield Finding(
        "ok", "spool", f"output files of {len(waiting)} attempts ({names}), {_size(total)}",
        "nothing, if those runs live; else the daemon or `flowdeck logs` stores them",
    )  # fmt: skip


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
