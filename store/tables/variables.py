"""The ``variable`` table: named JSON values that flows and people share. Writes expect an open write transaction."""

from __future__ import annotations

from typing import Final

from ..connection import Connection
from ..rows import VariableRow
from . import events

VARIABLE_COLUMNS: Final = ", ".join(VariableRow._fields)
UPSERT: Final = (
    f"INSERT INTO variable ({VARIABLE_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?4, ?5) ON CONFLICT (name) DO UPDATE SET"
    " value = excluded.value, tags = excluded.tags, updated_at_us = excluded.updated_at_us, actor = excluded.actor"
)
SELECT_ONE: Final = f"SELECT {VARIABLE_COLUMNS} FROM variable WHERE name = ?"
SELECT_ALL: Final = f"SELECT {VARIABLE_COLUMNS} FROM variable ORDER BY name"
DELETE: Final = "DELETE FROM variable WHERE name = ?"


def put(
    connection: Connection, name: str, value: str, tags: str, *, at_us: int, actor: str,
    run_id: int | None = None,
) -> None:  # fmt: skip
    """Make or change a variable (JSON texts), with an event that names it but not its value."""
    known = get(connection, name) is not None
    connection.execute(UPSERT, (name, value, tags, at_us, actor))
    word = "changed" if known else "made"
    events.append(connection, at_us=at_us, kind="variable", actor=actor, run_id=run_id,
                  message=f"variable {name} {word}", data={"variable": name})


def delete(
    connection: Connection, name: str, *, at_us: int, actor: str, run_id: int | None = None
) -> bool:
    """Remove a variable, with its event; says whether there was one."""
    if connection.execute(DELETE, (name,)).rowcount == 0:
        return False
    events.append(connection, at_us=at_us, kind="variable", actor=actor, run_id=run_id,
                  message=f"variable {name} removed", data={"variable": name})
    return True


def get(connection: Connection, name: str) -> VariableRow | None:
    """One variable, or None."""
    row = connection.execute(SELECT_ONE, (name,)).fetchone()
    return VariableRow._make(row) if row else None


def all(connection: Connection) -> list[VariableRow]:  # noqa: A001 - read as variables.all
    """Every variable, by name."""
    return [VariableRow._make(row) for row in connection.execute(SELECT_ALL)]
