"""Filters of schedules that are functions of the user's own: asked in the run's process, which has them.

The daemon, which imports no user code, makes a run for each time that the other filters let through. A run whose time
such a function refuses ends as Skipped before its code begins.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....store.connection import connect
from ....store.tables import schedules
from ...states.state import State, describe_exception

if TYPE_CHECKING:
    from ....store.rows import RunRow
    from ...authoring.flows import Flow


def ask(folder: Path, row: RunRow, flow: Flow[Any, Any]) -> State | None:
    """How the run ends without having begun; None when it begins."""
    own = [schedule for schedule in flow.schedules if getattr(schedule, "has_own_filters", False)]
    if not own or row.schedule_id is None or row.due_at_us is None:
        return None
    from ...schedules.kinds import to_json

    connection = connect(folder, "state", readonly=True)
    try:
        found = schedules.get(connection, row.schedule_id)
    finally:
        connection.close()
    due = datetime.fromtimestamp(row.due_at_us / 1e6, UTC)
    for schedule in own:
        if found is not None and found.spec == to_json(schedule):
            try:
                refused = schedule.refuses(due)
            except Exception as error:  # noqa: BLE001 - the user's filter
                text = f"a filter of its schedule failed: {describe_exception(error)}"
                return State("FAILED", None, text, error=error)
            if refused is not None:
                return State("CANCELLED", "Skipped", f"left out by its schedule's filter {refused}")
    return None
