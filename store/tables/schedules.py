"""The ``schedule`` table: when deployments run. What a spec means is the engine's business."""

from __future__ import annotations

from typing import Final

from ..connection import Connection
from ..rows import ScheduleRow

SCHEDULE_COLUMNS: Final = ", ".join(ScheduleRow._fields)
UPSERT: Final = (
    "INSERT INTO schedule (deployment, slug, kind, spec, parameters, catchup, catchup_window_seconds, overlap, active,"
    " next_due_at_us, last_due_at_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (deployment, slug) DO UPDATE"
    " SET kind = excluded.kind, spec = excluded.spec, parameters = excluded.parameters, catchup = excluded.catchup,"
    " catchup_window_seconds = excluded.catchup_window_seconds, overlap = excluded.overlap,"
    " next_due_at_us = CASE WHEN schedule.spec = excluded.spec AND schedule.kind = excluded.kind"
    " THEN schedule.next_due_at_us ELSE excluded.next_due_at_us END RETURNING id"
)
"""Whether it is active, and how far it got, is kept: a person may have paused it, and a reload reruns nothing."""
SELECT_ALL: Final = f"SELECT {SCHEDULE_COLUMNS} FROM schedule ORDER BY deployment, slug"
SELECT_OF_DEPLOYMENT: Final = f"SELECT {SCHEDULE_COLUMNS} FROM schedule WHERE deployment = ? ORDER BY slug"
SELECT_ONE: Final = f"SELECT {SCHEDULE_COLUMNS} FROM schedule WHERE id = ?"
SET_ACTIVE: Final = "UPDATE schedule SET active = ?, next_due_at_us = coalesce(?, next_due_at_us) WHERE id = ?"
ADVANCE: Final = "UPDATE schedule SET next_due_at_us = ?, last_due_at_us = coalesce(?, last_due_at_us) WHERE id = ?"
DELETE: Final = "DELETE FROM schedule WHERE id = ?"


def upsert(connection: Connection, row: ScheduleRow) -> int:
    """Store a schedule by its deployment and slug (``row.id`` is not looked at) and return its id.

    An existing one keeps ``active`` and ``last_due_at_us``, and ``next_due_at_us`` too unless its spec changed.
    """
    found: tuple[int] = connection.execute(UPSERT, row[1:]).fetchone()
    return found[0]


def all(connection: Connection) -> list[ScheduleRow]:  # noqa: A001 - read as schedules.all
    """Every schedule, by deployment and slug."""
    return [_row(values) for values in connection.execute(SELECT_ALL)]


def of_deployment(connection: Connection, deployment: str) -> list[ScheduleRow]:
    """The schedules of a deployment."""
    return [_row(values) for values in connection.execute(SELECT_OF_DEPLOYMENT, (deployment,))]


def get(connection: Connection, schedule_id: int) -> ScheduleRow | None:
    """One schedule, or None."""
    values = connection.execute(SELECT_ONE, (schedule_id,)).fetchone()
    return _row(values) if values else None


def set_active(
    connection: Connection, schedule_id: int, active: bool, next_due_at_us: int | None = None
) -> bool:
    """Pause or resume a schedule; says whether it exists. A resumed one can be given its next tick."""
    return connection.execute(SET_ACTIVE, (active, next_due_at_us, schedule_id)).rowcount > 0


def advance(
    connection: Connection, schedule_id: int, next_due_at_us: int | None, last_due_at_us: int | None = None
) -> None:
    """Note that a tick was dealt with; ``next_due_at_us=None`` means the schedule never fires again."""
    connection.execute(ADVANCE, (next_due_at_us, last_due_at_us, schedule_id))


def delete(connection: Connection, schedule_id: int) -> None:
    """Forget a schedule; its runs stay."""
    connection.execute(DELETE, (schedule_id,))


def _row(values: tuple[object, ...]) -> ScheduleRow:
    row = ScheduleRow._make(values)
    return row._replace(active=bool(row.active))
