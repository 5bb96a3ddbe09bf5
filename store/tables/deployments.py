"""The ``deployment`` and ``flow_file`` tables: what the daemon can run by name, and the files it comes from."""

from __future__ import annotations

from typing import Final

from ..connection import Connection
from ..rows import DeploymentRow, FlowFileRow

DEPLOYMENT_COLUMNS: Final = ", ".join(DeploymentRow._fields)
FLOW_FILE_COLUMNS: Final = ", ".join(FlowFileRow._fields)
INSERT_FLOW: Final = "INSERT INTO flow (name, description, created_at_us) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
UPSERT: Final = (
    f"INSERT INTO deployment ({DEPLOYMENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (name) DO UPDATE SET "
    + ", ".join(f"{field} = excluded.{field}" for field in DeploymentRow._fields[1:])
)
SELECT_ALL: Final = f"SELECT {DEPLOYMENT_COLUMNS} FROM deployment ORDER BY name"
SELECT_LIMITED: Final = f"SELECT {DEPLOYMENT_COLUMNS} FROM deployment WHERE concurrency_limit IS NOT NULL"
SELECT_ONE: Final = f"SELECT {DEPLOYMENT_COLUMNS} FROM deployment WHERE name = ?"
SELECT_OF_FILE: Final = f"SELECT {DEPLOYMENT_COLUMNS} FROM deployment WHERE path = ? ORDER BY name"
DELETE: Final = "DELETE FROM deployment WHERE name = ?"
UPSERT_FILE: Final = (
    f"INSERT INTO flow_file ({FLOW_FILE_COLUMNS}) VALUES (?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET "
    + ", ".join(f"{field} = excluded.{field}" for field in FlowFileRow._fields[1:])
)
SELECT_FILES: Final = f"SELECT {FLOW_FILE_COLUMNS} FROM flow_file ORDER BY path"
SELECT_FILE: Final = f"SELECT {FLOW_FILE_COLUMNS} FROM flow_file WHERE path = ?"
SELECT_PROBLEMS: Final = f"SELECT {FLOW_FILE_COLUMNS} FROM flow_file WHERE error IS NOT NULL ORDER BY path"
DELETE_FILE: Final = "DELETE FROM flow_file WHERE path = ?"


def upsert(connection: Connection, row: DeploymentRow) -> None:
    """Store a deployment by its name, and its flow if that is new."""
    connection.execute(INSERT_FLOW, (row.flow_name, row.description, row.updated_at_us))
    connection.execute(UPSERT, row)


def all(connection: Connection) -> list[DeploymentRow]:  # noqa: A001 - read as deployments.all
    """Every deployment, by name."""
    return [DeploymentRow._make(row) for row in connection.execute(SELECT_ALL)]


def limited(connection: Connection) -> list[DeploymentRow]:
    """The deployments that say how many of their runs may live at once."""
    return [DeploymentRow._make(row) for row in connection.execute(SELECT_LIMITED)]


def get(connection: Connection, name: str) -> DeploymentRow | None:
    """One deployment, or None."""
    row = connection.execute(SELECT_ONE, (name,)).fetchone()
    return DeploymentRow._make(row) if row else None


def of_file(connection: Connection, path: str) -> list[DeploymentRow]:
    """The deployments a flow file makes."""
    return [DeploymentRow._make(row) for row in connection.execute(SELECT_OF_FILE, (path,))]


def delete(connection: Connection, name: str) -> None:
    """Forget a deployment and its schedules; its runs stay."""
    connection.execute(DELETE, (name,))


def upsert_file(connection: Connection, row: FlowFileRow) -> None:
    """Note that a flow file was loaded, or why it could not be."""
    connection.execute(UPSERT_FILE, row)


def files(connection: Connection) -> list[FlowFileRow]:
    """Every flow file the daemon knows."""
    return [FlowFileRow._make(row) for row in connection.execute(SELECT_FILES)]


def get_file(connection: Connection, path: str) -> FlowFileRow | None:
    """One flow file, or None."""
    row = connection.execute(SELECT_FILE, (path,)).fetchone()
    return FlowFileRow._make(row) if row else None


def problems(connection: Connection) -> list[FlowFileRow]:
    """The flow files that could not be imported."""
    return [FlowFileRow._make(row) for row in connection.execute(SELECT_PROBLEMS)]


def delete_file(connection: Connection, path: str) -> None:
    """Forget a flow file."""
    connection.execute(DELETE_FILE, (path,))
