"""The ``artifact`` table: what runs, and code outside of them, make for people to read."""

from __future__ import annotations

from typing import Final

from ..connection import Connection
from ..rows import ArtifactRow

ARTIFACT_COLUMNS: Final = ", ".join(ArtifactRow._fields)
INSERT: Final = (
    "INSERT INTO artifact (run_id, task_seq, key, kind, description, data, created_at_us) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
UPDATE_PROGRESS: Final = (
    "UPDATE artifact SET data = ?2, description = coalesce(?3, description) WHERE id = ?1 AND kind = 'progress'"
)
SELECT_MARK: Final = (
    "SELECT count(*), max(id), group_concat(CASE WHEN kind = 'progress' THEN data || coalesce(description, '') END)"
    " FROM artifact WHERE run_id = ?"
)
SELECT_OF_RUN: Final = f"SELECT {ARTIFACT_COLUMNS} FROM artifact WHERE run_id = ? ORDER BY id"
SELECT_OF_KEY: Final = f"SELECT {ARTIFACT_COLUMNS} FROM artifact WHERE key = ? ORDER BY id DESC LIMIT ?"
SELECT_NEWEST: Final = f"SELECT {ARTIFACT_COLUMNS} FROM artifact ORDER BY id DESC LIMIT 1"
SELECT_NEWEST_OF_EACH: Final = (
    f"SELECT {ARTIFACT_COLUMNS} FROM artifact WHERE id IN (SELECT max(id) FROM artifact GROUP BY key)"
    " ORDER BY id DESC LIMIT ?"
)


def insert(connection: Connection, row: ArtifactRow) -> int:
    """Store an artifact (``row.id`` is not looked at) and return its id."""
    return connection.execute(INSERT, row[1:]).lastrowid or 0


def move_progress(connection: Connection, artifact_id: int, data: str, description: str | None) -> None:
    """Change how far a progress artifact is, in its row."""
    connection.execute(UPDATE_PROGRESS, (artifact_id, data, description))


def mark(connection: Connection, run_id: int) -> tuple[int, int | None, str | None]:
    """Something that changes when an artifact of the run is made or moved."""
    row: tuple[int, int | None, str | None] = connection.execute(SELECT_MARK, (run_id,)).fetchone()
    return row


def of_run(connection: Connection, run_id: int) -> list[ArtifactRow]:
    """The artifacts of a run, oldest first."""
    return [ArtifactRow._make(row) for row in connection.execute(SELECT_OF_RUN, (run_id,))]


def of_key(connection: Connection, key: str, limit: int = 100) -> list[ArtifactRow]:
    """The versions of an artifact over all runs, newest first."""
    return [ArtifactRow._make(row) for row in connection.execute(SELECT_OF_KEY, (key, limit))]


def newest(connection: Connection) -> ArtifactRow | None:
    """The newest of all, or None."""
    row = connection.execute(SELECT_NEWEST).fetchone()
    return ArtifactRow._make(row) if row else None


def newest_of_each(connection: Connection, limit: int = 1000) -> list[ArtifactRow]:
    """The newest version of each key, newest first."""
    return [ArtifactRow._make(row) for row in connection.execute(SELECT_NEWEST_OF_EACH, (limit,))]
