"""What of the ``flow_run`` table is due: by group, so that no group's queue stands before another's. Reads only.

A group is the runs of one deployment, or of one script's flow. Each statement walks the index ``flow_run_due`` and
costs what it gives back, however many runs wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

from ..connection import Connection
from ..rows import RunRow
from .runs import RUN_COLUMNS

Group: TypeAlias = tuple[str | None, str | None]
"""A deployment's name, and where its runs were said to be found."""

_WAITS = "flow_run INDEXED BY flow_run_due WHERE ended_at_us IS NULL AND state_type = 'SCHEDULED' AND root_id IS NULL"
SELECT_FIRST_GROUP: Final = f"SELECT deployment, entrypoint FROM {_WAITS} ORDER BY deployment, entrypoint LIMIT 1"
SELECT_NEXT_ENTRYPOINT: Final = (
    f"SELECT deployment, entrypoint FROM {_WAITS} AND deployment IS ?1 AND entrypoint > coalesce(?2, '')"
    " ORDER BY entrypoint LIMIT 1"
)
SELECT_NEXT_DEPLOYMENT: Final = (
    f"SELECT deployment, entrypoint FROM {_WAITS} AND deployment > coalesce(?1, '')"
    " ORDER BY deployment, entrypoint LIMIT 1"
)
SELECT_DUE_OF_GROUP: Final = (
    f"SELECT {RUN_COLUMNS} FROM {_WAITS} AND deployment IS ?1 AND entrypoint IS ?2 AND wake_at_us <= ?3"
    " AND intent = 'none' AND NOT EXISTS (SELECT 1 FROM lease WHERE lease.run_id = flow_run.id)"
    " ORDER BY wake_at_us, id LIMIT ?4"
)
"""A run somebody asked something of, and a run that still has a process (a lease), is left alone."""


def groups(connection: Connection) -> Iterator[Group]:
    """Every group with runs that wait, for a time that has come or not."""
    group = connection.execute(SELECT_FIRST_GROUP).fetchone()
    while group is not None:
        yield group
        deployment, entrypoint = group
        group = connection.execute(SELECT_NEXT_ENTRYPOINT, (deployment, entrypoint)).fetchone()
        if group is None:
            group = connection.execute(SELECT_NEXT_DEPLOYMENT, (deployment,)).fetchone()


def of_group(connection: Connection, group: Group, now_us: int, limit: int) -> list[RunRow]:
    """The first of a group whose time has come, the longest waiting first."""
    return [RunRow._make(row) for row in connection.execute(SELECT_DUE_OF_GROUP, (*group, now_us, limit))]
