"""Making sure that a usable store is where one is named: made, brought up to date, or refused in words.

Promises: a file is complete or absent (made under another name, synced, renamed); a damaged, foreign or newer file is
refused and never written to. Safe from any number of processes at once. Alembic is only imported when an older store
has to be migrated.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path
from typing import Final

from . import files, trust
from .connection import (
    APPLICATION_ID,
    DATABASES,
    SCHEMA_VERSION,
    Database,
    check_version,
    connect,
    database_path,
    look_at,
)
from .driver_errors import translate, translate_os
from .errors import StoreCorrupt, StoreFull, StoreMissing, StoreUnsupported
from .location import NETWORK_FILE_SYSTEMS, filesystem_type, find_store, settle
from .locking import folder_lock

SCHEMA_FILES: Final[dict[str, str]] = {"state": "schema.sql", "telemetry": "telemetry.sql"}
PAGE_BYTES: Final[dict[str, int]] = {"state": 1024, "telemetry": 4096}
"""A task's record touches six pages, and all of them go to the log before its call returns: small ones take half the
time (measured: 224 instead of 344 µs a commit, reading a million runs as before). Lines come in groups."""
AUTO_VACUUM: Final[dict[str, str]] = {"state": "NONE", "telemetry": "INCREMENTAL"}
"""Keeping track of who uses which page, to give free ones back piece by piece, costs every task 5 %: in ``state`` free
pages are used again, and only a VACUUM makes the file smaller. Lines, which are most of a store, come in groups."""


def open_store(folder: str | Path, *, create: bool = True) -> None:
    """Make sure a usable store of this version is in ``folder``: make it, migrate it, or say why not.

    With ``create=False`` a missing store raises ``StoreMissing``. Safe to call from any number of processes at once.
    """
    folder = os.path.abspath(folder)
    versions = [_version(folder, database) for database in DATABASES]
    if None in versions:
        if not create:
            absent = _absent(folder, versions)
            raise StoreMissing(f"no store at {folder}: {absent}. The first run makes it: `flowdeck run FILE`.")
        trust.check_store(folder)
        _make_folder(folder)
        with folder_lock(folder):
            for database in DATABASES:
                if _version(folder, database) is None:
                    _make_database(folder, database)
        versions = [_version(folder, database) for database in DATABASES]
    if any(version is not None and version < SCHEMA_VERSION for version in versions):
        from .migrate import migrate  # Alembic costs 0.3 s, and this happens once per upgrade

        migrate(Path(folder))


def own_store() -> Path:
    """The store that is found, usable, and from now on that of this process and of all that it starts."""
    folder = find_store()
    open_store(folder)
    settle(folder)
    return folder


def _version(folder: str, database: Database) -> int | None:
    """The version of a file that exists, checked; None when there is none."""
    path = database_path(folder, database)
    information = look_at(path)
    if information is None:
        return None
    if not stat.S_ISREG(information.st_mode) and not stat.S_ISLNK(information.st_mode):
        raise StoreUnsupported(f"{path} is not a file; name another folder for the store.")
    try:
        connection = connect(folder, database, readonly=True)
    except StoreFull:
        if database == "state":
            raise
        return SCHEMA_VERSION  # whoever reads it is told; runs can be looked at and cancelled without it
    try:
        return check_version(connection, path)
    finally:
        connection.close()


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
        files.make_store(folder)
    except FileExistsError:
        if not os.path.isdir(folder):
            raise StoreUnsupported(f"{folder} is a file; a store is a folder. Name another place.") from None
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
    name = f"{database}.db"
    building = path + ".new"
    script = (Path(__file__).parent / SCHEMA_FILES[database]).read_text(encoding="utf-8")
    try:
        for end in ("", "-journal", "-wal", "-shm"):
            files.remove(folder, f"{name}.new{end}")
        os.close(files.make(folder, f"{name}.new"))
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
        descriptor = files.open_to_read(folder, f"{name}.new")
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        files.rename(folder, f"{name}.new", name)
        files.sync_folder(folder)
    except sqlite3.DatabaseError as error:
        raise translate(error, path) from error
    except OSError as error:
        raise translate_os(error, path) from error
