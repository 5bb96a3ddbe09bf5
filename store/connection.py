"""Opening the store: its files, their permissions, their version, and connections with the right pragmas.

Promises: a file is complete or absent (made under another name, synced, renamed); a damaged, foreign or newer file is
refused and never written to; whatever SQLite says becomes a ``StoreError`` that names the file and the remedy.
Imports neither SQLAlchemy nor SQLModel; Alembic is only imported when an older store has to be migrated.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias
from urllib.parse import quote

from .checkpoint import AFFECTED
from .errors import (
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreMissing,
    StoreNewer,
    StoreReadOnly,
    StoreUnsupported,
)
from .location import NETWORK_FILE_SYSTEMS, filesystem_type
from .locking import begin_immediate

Connection: TypeAlias = sqlite3.Connection
"""What everything outside of the store calls a connection: it hands them on, and what they can do is the store's."""
Database = Literal["state", "telemetry"]

SCHEMA_VERSION: Final = 2
"""Held in ``PRAGMA user_version`` of both files; the number of the newest migration."""
APPLICATION_ID: Final = 0x464C444B
"""``FLDK``, held in ``PRAGMA application_id``: tells our files from other people's."""
DATABASES: Final[tuple[Database, ...]] = ("state", "telemetry")
SCHEMA_FILES: Final[dict[str, str]] = {"state": "schema.sql", "telemetry": "telemetry.sql"}
BUSY_TIMEOUT_MS: Final = 10_000
LOG_BYTES: Final[dict[str, int]] = {"state": 2 * 1024 * 1024, "telemetry": 32 * 1024 * 1024}
"""How large a write-ahead log is let grow. When it starts anew the file is cut to this, so its size tells its use.

Small for state: a commit into a log that starts anew costs about two thirds of one that makes the file longer."""
PAGE_BYTES: Final[dict[str, int]] = {"state": 1024, "telemetry": 4096}
"""A task's record touches six pages, and all of them go to the log before its call returns: small ones take half the
time (measured: 224 instead of 344 µs a commit, reading a million runs as before). Lines come in groups."""
AUTO_VACUUM: Final[dict[str, str]] = {"state": "NONE", "telemetry": "INCREMENTAL"}
"""Keeping track of who uses which page, to give free ones back piece by piece, costs every task 5 %: in ``state`` free
pages are used again, and only a VACUUM makes the file smaller. Lines, which are most of a store, come in groups."""
SYNCHRONOUS: Final[dict[str, str]] = {"state": "FULL", "telemetry": "NORMAL"}

_STORE_CODES = frozenset(
    {
        sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_NOLFS,
    }
)  # fmt: skip


def database_path(folder: str | Path, database: Database) -> str:
    """The path of one of the store's two files."""
    return os.path.join(folder, f"{database}.db")


# ---------------------------------------------------------------------------------------------------- opening


def open_store(folder: str | Path, *, create: bool = True) -> None:
    """Make sure a usable store of this version is in ``folder``: make it, migrate it, or say why not.

    With ``create=False`` a missing store raises ``StoreMissing``. Safe to call from any number of processes at once.
    """
    folder = os.path.abspath(folder)
    versions = [_version(folder, database) for database in DATABASES]
    if None in versions:
        if not create:
            raise StoreMissing(f"no store at {folder}: {_absent(folder, versions)}. Run a flow or `flowdeck init`.")
        _make_folder(folder)
        with folder_lock(folder):
            for database in DATABASES:
                if _version(folder, database) is None:
                    _make_database(folder, database)
        versions = [_version(folder, database) for database in DATABASES]
    if any(version is not None and version < SCHEMA_VERSION for version in versions):
        from .migrate import migrate  # Alembic costs 0.3 s, and this happens once per upgrade

        migrate(Path(folder))


def check_version(connection: Connection, path: str) -> int:
    """The schema version of an open database; raises when the file is foreign, newer or unreadable."""
    try:
        application_id = connection.execute("PRAGMA application_id").fetchone()[0]
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.DatabaseError as error:
        raise translate(error, path) from error
    if application_id != APPLICATION_ID:
        if version == 0 and _is_empty(path):
            raise StoreCorrupt(
                f"{path} is empty. Flowdeck never leaves it so: restore it from a backup, "
                "or move the folder away to start afresh."
            )
        raise StoreUnsupported(f"{path} is not one of Flowdeck's databases; name another folder for the store.")
    if version > SCHEMA_VERSION:
        raise StoreNewer(
            f"{path} was made by a newer Flowdeck (schema {version}, this one knows {SCHEMA_VERSION}). "
            "Upgrade: pip install -U flowdeck."
        )
    return version


@contextmanager
def folder_lock(folder: str | Path) -> Iterator[None]:
    """Hold the store folder for making or migrating its files; other processes wait."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise translate_os(error, str(folder)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _version(folder: str, database: Database) -> int | None:
    """The version of a file that exists, checked; None when there is none."""
    path = database_path(folder, database)
    information = _look_at(path)
    if information is None:
        return None
    if not stat.S_ISREG(information.st_mode):
        raise StoreUnsupported(f"{path} is not a file; name another folder for the store.")
    connection = _connect_readonly(path)
    try:
        return check_version(connection, path)
    finally:
        connection.close()


def _look_at(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise StoreReadOnly(f"{path} cannot be reached ({error.strerror}). Run as the owner of its folder.") from error


def _is_empty(path: str) -> bool:
    return os.stat(path).st_size == 0


def _absent(folder: str, versions: list[int | None]) -> str:
    if not os.path.isdir(folder):
        return "there is no such folder"
    missing = [f"{name}.db" for name, version in zip(DATABASES, versions, strict=True) if version is None]
    return f"{' and '.join(missing)} not found"


def _make_folder(folder: str) -> None:
    kind = filesystem_type(Path(folder))
    if kind in NETWORK_FILE_SYSTEMS:
        raise StoreUnsupported(
            f"{folder} is on a network file system ({kind}), where SQLite's locks do not hold. "
            "Name a folder on a local disk with --store or FLOWDECK_STORE."
        )
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise StoreUnsupported(f"{folder} is a file; a store is a folder. Name another place.") from None
        else:
            os.chmod(folder, 0o700)  # whatever the umask says
    except OSError as error:
        raise translate_os(error, folder) from error


def _make_database(folder: str, database: Database) -> None:
    """Build a new file under another name, then rename it: a crash leaves all of it or nothing."""
    path = database_path(folder, database)
    if os.path.exists(path + "-wal") and os.path.getsize(path + "-wal") > 0:
        raise StoreCorrupt(
            f"{path} is missing, but its log {path}-wal is there. Restore the database from a backup, "
            "or move the log away to start afresh."
        )
    building = path + ".new"
    script = (Path(__file__).parent / SCHEMA_FILES[database]).read_text(encoding="utf-8")
    try:
        for leftover in (building, building + "-journal", building + "-wal", building + "-shm"):
            if os.path.exists(leftover):
                os.unlink(leftover)
        descriptor = os.open(building, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        os.fchmod(descriptor, 0o600)  # whatever the umask says
        os.close(descriptor)
        connection = sqlite3.connect(building, isolation_level=None)
        try:
            connection.executescript(
                f"PRAGMA page_size={PAGE_BYTES[database]};"
                f"PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY; PRAGMA auto_vacuum={AUTO_VACUUM[database]};"
                f"BEGIN; {script} PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
            )
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            if mode != "wal":
                raise StoreUnsupported(
                    f"{folder} is on a file system without shared memory ({filesystem_type(Path(folder)) or 'unknown'}"
                    f", SQLite offers journal mode {mode}). Name a folder on a local disk."
                )
        finally:
            connection.close()
        _sync(building)
        os.rename(building, path)
        _sync(folder)
    except sqlite3.DatabaseError as error:
        raise translate(error, path) from error
    except OSError as error:
        raise translate_os(error, path) from error


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------------------------------------------- connections


def connect(folder: str | Path, database: Database, *, readonly: bool = False) -> Connection:
    """A connection in autocommit mode with the store's pragmas; write inside ``transaction`` or ``Writer`` only.

    It may be handed from thread to thread, but not used by two at once.
    """
    path = database_path(folder, database)
    if readonly:
        if _look_at(path) is None:
            raise StoreMissing(f"no store at {os.path.abspath(folder)}: {path} not found.")
        return _connect_readonly(path)
    try:
        connection = _raw_connect(f"file:{quote(path)}?mode=rw")
    except sqlite3.DatabaseError as error:
        raise translate(error, path) from error
    try:
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise StoreUnsupported(f"{path}: no write-ahead log here (journal mode {mode}). Use a local disk.")
        connection.execute(f"PRAGMA synchronous={SYNCHRONOUS[database]}")
        connection.execute("PRAGMA foreign_keys=ON")
        if AFFECTED:
            connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute(f"PRAGMA journal_size_limit={LOG_BYTES[database]}")
        connection.execute("PRAGMA cache_size=-16000")
        connection.execute("PRAGMA temp_store=MEMORY")
        if sys.platform == "darwin":
            # There fsync leaves the data in the drive's cache.
            connection.execute("PRAGMA fullfsync=ON")
            connection.execute("PRAGMA checkpoint_fullfsync=ON")
    except sqlite3.DatabaseError as error:
        connection.close()
        raise translate(error, path) from error
    except StoreError:
        connection.close()
        raise
    return connection


def _raw_connect(address: str) -> Connection:
    connection = sqlite3.connect(
        address, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=256, uri=True
    )
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    return connection


def _connect_readonly(path: str) -> Connection:
    """Read-only; falls back to an immutable view only where nobody at all could write."""
    try:
        return _prepare_reader(_raw_connect(f"file:{quote(path)}?mode=ro"))
    except sqlite3.DatabaseError as error:
        code = error.sqlite_errorcode & 0xFF
        if code not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise translate(error, path) from error
        if not os.access(path, os.R_OK):
            raise StoreReadOnly(f"{path} cannot be read by this user. Run as the user who owns it.") from error
        if not _nobody_can_write(path):
            raise StoreReadOnly(
                f"{path} cannot be read safely: its folder is not writable for this user, so SQLite's shared memory "
                f"file {path}-shm cannot be made, and its owner may be writing. Read it as its owner, or from a copy."
            ) from error
    try:
        return _prepare_reader(_raw_connect(f"file:{quote(path)}?mode=ro&immutable=1"))
    except sqlite3.DatabaseError as error:
        raise translate(error, path) from error


def _prepare_reader(connection: Connection) -> Connection:
    try:
        connection.execute("PRAGMA query_only=ON")
        if AFFECTED:
            connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("PRAGMA cache_size=-16000")
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()  # opens the file for real
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _nobody_can_write(path: str) -> bool:
    """Whether no process of any user but root could be writing: then a view without locks is safe."""
    folder = os.path.dirname(path)
    wal = path + "-wal"
    if os.path.exists(wal) and os.path.getsize(wal) > 0:
        return False  # commits live in the log, which an immutable view would not see
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return True
    writable = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
    return not (os.stat(path).st_mode & writable and os.stat(folder).st_mode & writable)


@contextmanager
def transaction(connection: Connection) -> Iterator[Connection]:
    """Run the block in one write transaction: committed at its end, rolled back on any exception.

    Waits for the write lock as long as the connection's ``busy_timeout`` says.
    """
    try:
        wait_ms = connection.execute("PRAGMA busy_timeout").fetchone()[0]
        connection.execute("PRAGMA busy_timeout=0")
        try:
            begin_immediate(connection, wait_ms / 1000)
        finally:
            connection.execute(f"PRAGMA busy_timeout={wait_ms}")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    except sqlite3.DatabaseError as error:
        if is_store_trouble(error):
            raise translate(error, _path_of(connection)) from error
        raise


def _path_of(connection: Connection) -> str:
    try:
        return str(connection.execute("PRAGMA database_list").fetchone()[2])
    except sqlite3.DatabaseError:
        return "the store"


# ---------------------------------------------------------------------------------------------------- errors


def is_store_trouble(error: sqlite3.Error) -> bool:
    """Whether the error is about the file and its surroundings, not about the statement or its values."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in _STORE_CODES


def _database_in(path: str | Path) -> str:
    """The file that processes have open, also when only the store's folder is known."""
    return os.path.join(path, "state.db") if os.path.isdir(path) else str(path)


def translate(error: sqlite3.Error, path: str | Path) -> StoreError:
    """What SQLite said about the file at ``path``, as an error that tells a person what to do."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    said = f"{error}, {name}"
    match code & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            return StoreLocked(
                f"{path} is locked: another process has held the write lock for too long ({said}). "
                f"See who has it open with `fuser {_database_in(path)}`, then try again."
            )
        case sqlite3.SQLITE_FULL:
            return StoreFull(f"{path}: the disk is full ({said}). Free some space; nothing was changed.")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return StoreReadOnly(f"{path} cannot be written ({said}). Run as its owner, or name another --store.")
        case sqlite3.SQLITE_NOTADB:
            return StoreCorrupt(
                f"{path} is not a database ({said}). It was left as it is: restore it from a backup, "
                "or move it away to start afresh."
            )
        case sqlite3.SQLITE_CORRUPT:
            return StoreCorrupt(
                f"{path} is damaged ({said}). It was left as it is: run `flowdeck doctor`, then restore it from a "
                f"backup or save what can be read with `sqlite3 {path} .recover`."
            )
        case sqlite3.SQLITE_CANTOPEN:
            return _translate_cannot_open(path, said)
        case sqlite3.SQLITE_IOERR:
            if free_bytes(path) < 1024 * 1024:
                return StoreFull(f"{path}: the disk is full ({said}). Free some space; nothing was changed.")
            return StoreError(f"{path}: the disk does not read or write ({said}). Look at `dmesg` and the disk.")
    return StoreError(f"{path}: {said}")


def _translate_cannot_open(path: str | Path, said: str) -> StoreError:
    if not os.path.exists(path):
        return StoreMissing(f"no store: {path} not found ({said}).")
    return StoreReadOnly(
        f"{path} cannot be opened ({said}). Its folder must be writable: run as its owner, or name another --store."
    )


def translate_os(error: OSError, path: str) -> StoreError:
    """What the operating system said about making ``path``, as an error that tells a person what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"{path}: the disk is full ({error.strerror}). Free some space; nothing was changed.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StoreReadOnly(f"{path} cannot be made ({error.strerror}). Name a writable folder with --store.")
    return StoreError(f"{path} cannot be made: {error.strerror or error}.")


def free_bytes(path: str | Path) -> int:
    """What this user may still write on the disk that holds ``path``."""
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    figures = os.statvfs(folder)
    return figures.f_bavail * figures.f_frsize
