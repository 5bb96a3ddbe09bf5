"""Bringing an older store up to date: a backup first, then one transaction per step, with the folder locked.

Forward only. A crash at any point leaves a store of some version between the old and the new, which the next start
takes further. Alembic and SQLAlchemy are imported here and nowhere on the way to a store that is up to date.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any, Final

import alembic.command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import create_engine, event
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import StaticPool

from . import files, judging
from .connection import DATABASES, SCHEMA_VERSION, Connection, Database, check_version, connect, database_path
from .driver_errors import translate
from .errors import StoreError, StoreLocked
from .locking import folder_lock
from .rows import LeaseRow
from .tables import leases

MIGRATIONS: Final = Path(__file__).parent / "migrations"
BACKUP_FOLDER: Final = "backup"
BACKUP_PAGES: Final = 1024


def migrate(folder: Path, *, scripts: Path = MIGRATIONS, target: int = SCHEMA_VERSION) -> list[Path]:
    """Migrate both files to ``target``; return the backups made. Safe when several processes call it at once."""
    backups: list[Path] = []
    with folder_lock(folder):
        for database in DATABASES:
            connection = connect(folder, database)
            try:
                # Read under the lock: another process may have done the work meanwhile.
                version = check_version(connection, database_path(folder, database))
                if version >= target:
                    continue
                if database == "state":
                    _refuse_live_processes(folder, connection)
                if version > 0:
                    backups.append(_back_up(folder, database, connection, version))
                _run_steps(connection, database, scripts, version, target, database_path(folder, database))
            finally:
                connection.close()
    return backups


def _refuse_live_processes(folder: Path, connection: Connection) -> None:
    """Processes of the older version would write rows of the older kind."""
    held = _leases_of_any_version(connection)
    own = judging.own_identity()
    alive = [lease for lease in held if leases.is_alive(lease, folder) and not _is_own(lease, own)]
    if alive:
        who = ", ".join(f"{lease.owner} (process {lease.pid})" for lease in alive)
        raise StoreLocked(
            f"{folder} must be migrated to schema {SCHEMA_VERSION}, but processes of the older Flowdeck still use it: "
            f"{who}. Stop them, then try again."
        )


def _is_own(lease: LeaseRow, own: judging.ProcessIdentity) -> bool:
    """Whether it is this very process: another namespace may have one of its number; older rows name no namespace."""
    numbers = (lease.boot_id, lease.pid, lease.pid_started_ticks)
    return numbers == own[:3] and lease.pid_namespace in (None, own.pid_namespace)


def _leases_of_any_version(connection: Connection) -> list[LeaseRow]:
    """Every lease of a store that may be of an older version: what that one did not write is None."""
    there = {column[1] for column in connection.execute("PRAGMA table_info(lease)")}
    if not there.issuperset(LeaseRow._fields[:9]):
        return []
    columns = ", ".join(name if name in there else f"NULL AS {name}" for name in LeaseRow._fields)
    return [LeaseRow._make(row) for row in connection.execute(f"SELECT {columns} FROM lease ORDER BY owner")]


def _back_up(folder: Path, database: Database, connection: Connection, version: int) -> Path:
    """A complete, synced copy beside the store; it has its name only when it is whole."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name = f"{BACKUP_FOLDER}/{database}-schema{version}-{moment}.db"
    files.remove(folder, f"{name}.new")
    descriptor = files.make(folder, f"{name}.new")
    building = str(folder / f"{name}.new")
    try:
        copy = sqlite3.connect(building, isolation_level=None)
        try:
            connection.backup(copy, pages=BACKUP_PAGES)
            copy.execute("PRAGMA journal_mode=DELETE")
        finally:
            copy.close()
        os.fsync(descriptor)
    except sqlite3.DatabaseError as error:
        raise translate(error, building) from error
    finally:
        os.close(descriptor)
    files.rename(folder, f"{name}.new", name)
    files.sync_folder(folder, BACKUP_FOLDER)
    return folder / name


def _run_steps(
    connection: Connection, database: Database, scripts: Path, version: int, target: int, path: str
) -> None:
    # Tables are made anew and renamed by some steps: with foreign keys on that would delete what refers to them.
    connection.execute("PRAGMA foreign_keys=OFF")
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    event.listen(engine, "begin", _begin_immediate)
    try:
        with engine.connect() as handed:
            configuration = Config()
            configuration.set_main_option("script_location", str(scripts).replace("%", "%%"))
            configuration.attributes.update(connection=handed, database=database)
            if version > 0:
                # A new store is made from schema.sql and has no table of Alembic's: its version says where it is.
                alembic.command.stamp(configuration, f"{version:04d}", purge=True)
            alembic.command.upgrade(configuration, f"{target:04d}")
        broken = connection.execute("PRAGMA foreign_key_check").fetchone()
        if broken is not None:
            raise StoreError(f"{path}: after the migration a row of {broken[0]} refers to nothing. Restore the backup.")
    except DatabaseError as error:
        if isinstance(error.orig, sqlite3.DatabaseError):
            raise translate(error.orig, path) from error
        raise
    except CommandError as error:
        raise StoreError(f"{path} (schema {version}) cannot be migrated to {target}: {error}") from error


def _begin_immediate(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
