"""Where a run's flow is found: a deployment's file of today, else where the run was started from. Reads only."""

from __future__ import annotations

from typing import NamedTuple

from ...store.connection import Connection
from ...store.rows import RunRow
from ...store.tables import deployments


class Place(NamedTuple):
    """A file, and the flow's name in it; an empty path where nobody knows."""

    path: str
    flow: str


def place_of(state: Connection, run: RunRow) -> Place:
    """The place of a run."""
    if run.deployment is not None and (known := deployments.get(state, run.deployment)) is not None:
        return Place(known.path, known.flow_name)
    if run.entrypoint is None:
        return Place("", run.flow_name)
    path, _, flow = run.entrypoint.rpartition(":")
    return Place(path, flow) if path else Place(run.entrypoint, run.flow_name)
