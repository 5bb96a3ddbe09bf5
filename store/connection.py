"""Connections to the store's two files, with the right pragmas; transactions; whether anybody else wrote.

Promises: a file is opened as it is or refused, never made or repaired here; whatever SQLite says while opening and
committing becomes a ``StoreError`` that names the file and the remedy. Imports neither SQLAlchemy nor SQLModel.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias
from urllib.parse import quote

from . import trust
from .checkpoint import AFFECTED
from .driver_errors import is_store_trouble, translate
from .errors import (
    StoreCorrupt,
    StoreError,
    StoreMissing,
    StoreNewer,
    StoreReadOnly,
    StoreUnsupported,
)
from .locking import begin_immediate

Connection: TypeAlias = sqlite3.Connection
"""What everything outside of the store calls a connection: it hands them on, and what they can do is the store's."""
Database = Literal["state", "telemetry"]

SCHEMA_VERSION: Final = 3
"""Held in ``PRAGMA user_version`` of both files; the number of the newest migration."""
APPLICATION_ID: Final = 0x464C444B
"""``FLDK``, held in ``PRAGMA application_id``: tells our files from other people's."""
DATABASES: Final[tuple[Database, ...]] = ("state", "telemetry")
FILE_ENDS: Final = ("", "-wal", "-shm", "-journal")
"""A database's own file, and those that SQLite keeps beside it."""
BUSY_TIMEOUT_MS: Final = 10_000
LOG_BYTES: Final[dict[str, int]] = {"state": 2 * 1024 * 1024, "telemetry": 32 * 1024 * 1024}
"""How large a write-ahead log is let grow. When it starts anew the file is cut to this, so its size tells its use.

Small for state: a commit into a log that starts anew costs about two thirds of one that makes the file longer."""
MISREADS_NUMBERS: Final = (3, 12, 0) <= sys.version_info[:3] <= (3, 12, 3)
"""Whether this Python takes the place ``?1`` in a statement for a name, and warns."""
SYNCHRONOUS: Final[dict[str, str]] = {"state": "FULL", "telemetry": "NORMAL"}


def database_path(folder: str | Path, database: Database) -> str:
    """The path of one of the store's two files."""
    return os.path.join(folder, f"{database}.db")


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


def look_at(path: str) -> os.stat_result | None:
    """What the operating system knows of a file of the store, or of a link in its place; None when there is none."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        owner = trust.owner_in_words(os.path.dirname(path))
        as_owner = f": sudo -u {owner} …" if owner else "."
        raise StoreReadOnly(
            f"{path} cannot be reached ({error.strerror}). Run as the owner of its folder{as_owner}"
        ) from error


def _is_empty(path: str) -> bool:
    return os.stat(path).st_size == 0


def folder_of(connection: Connection) -> str:
    """The folder of the store that a connection is to."""
    return os.path.dirname(str(connection.execute("PRAGMA database_list").fetchone()[2]))


def connect(folder: str | Path, database: Database, *, readonly: bool = False) -> Connection:
    """A connection in autocommit mode with the store's pragmas; write inside ``transaction`` or ``Writer`` only.

    It waits for locks as long as ``busy_timeout`` says. It may be handed from thread to thread, but not used by two at
    once.
    """
    path = database_path(folder, database)
    if look_at(path) is None and readonly:
        raise StoreMissing(f"no store at {os.path.abspath(folder)}: {path} not found.")
    check_trusted(folder, path)
    if readonly:
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


def check_trusted(folder: str | Path, path: str) -> None:
    """Refuse a database, and its files beside it, in a folder that somebody else could have written."""
    folder = os.path.abspath(folder)
    trust.check_store(folder)
    trust.check_files(folder, [path + end for end in FILE_ENDS])


def _connection_class() -> type[Connection]:
    if not MISREADS_NUMBERS:
        return sqlite3.Connection
    from .numbered import NamingConnection

    return NamingConnection


def _raw_connect(address: str) -> Connection:
    connection = sqlite3.connect(
        address, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=256, uri=True,
        factory=_connection_class(),
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


@contextmanager
def read_transaction(connection: Connection) -> Iterator[Connection]:
    """Run the block on one state of the store, whatever others commit meanwhile."""
    connection.execute("BEGIN")
    try:
        yield connection
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def data_version(connection: Connection) -> int:
    """A number that changes when another connection commits to the same file; costs some 5 µs and reads nothing."""
    version: int = connection.execute("PRAGMA data_version").fetchone()[0]
    return version


def own_changes(connection: Connection) -> int:
    """A number that grows when this connection changes rows, which its ``data_version`` does not tell; free."""
    return connection.total_changes


def _path_of(connection: Connection) -> str:
    try:
        return str(connection.execute("PRAGMA database_list").fetchone()[2])
    except sqlite3.DatabaseError:
        return "the store"
