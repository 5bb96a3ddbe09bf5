"""``run_deployment``: have the daemon run a deployment, from a script or from within a run, and wait for its end.

Within a run the request is a task of the run: a retry or a resumed process finds the run it made, and makes no other.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from ...store.opening import own_store
from ...store.reader import Reader
from ...store.rows import RunRow
from .. import context
from ..errors import NotFound, UsageError
from ..states.state import State

_LOOK_SECONDS = 0.05


class DeployedRun(NamedTuple):
    """A run that ``run_deployment`` made, as it was when last looked at."""

    id: int
    name: str
    flow_name: str
    state: State
    tags: tuple[str, ...]


def run_deployment(
    name: str,
    parameters: dict[str, Any] | None = None,
    scheduled_time: datetime | timedelta | None = None,
    timeout: float | None = None,
    poll_interval: float | None = None,  # noqa: ARG001 - Prefect's; changes are noticed at once here
    as_subflow: bool = True,  # noqa: ARG001 - Prefect's; the run is always one of its own
) -> DeployedRun:
    """Make a run of a deployment (``etl`` or ``flow/etl``) and wait until it ends.

    ``timeout`` in seconds: 0 returns at once, None waits for ever; a run that has not ended then goes on, and its
    state says so. ``scheduled_time``: when it starts, default now. Raises ``NotFound`` for an unknown deployment and
    ``ParameterError`` for wrong parameters. A failed run is returned, not raised.
    """
    at_us = _at_us(scheduled_time)
    frame = context.current_frame.get()
    if frame is None:
        folder = own_store()
        run_id = _trigger(str(folder), name, parameters or {}, at_us)
    else:
        from ..authoring.tasks import Task

        folder = frame.run.session.folder
        run_id = Task(_trigger, name=f"run_deployment {name}")(str(folder), name, parameters or {}, at_us)
    deadline = None if timeout is None else time.monotonic() + timeout
    with Reader(folder) as reader:
        while True:
            row = reader.run(run_id)
            if row is None:
                raise NotFound(f"run #{run_id} of {name} is gone from {folder}: somebody deleted it")
            if row.ended_at_us is not None or (deadline is not None and time.monotonic() >= deadline):
                return _shown(row)
            if frame is None:
                time.sleep(_LOOK_SECONDS)
            else:
                frame.run.session.gate.sleep(_LOOK_SECONDS)


def _trigger(folder: str, name: str, parameters: dict[str, Any], at_us: int | None) -> int:
    from ..control.control import Control, actor

    control = Control(folder, actor=actor("run_deployment"))
    try:
        return control.trigger(name.rpartition("/")[2], parameters, scheduled_at_us=at_us)
    finally:
        control.close()


def _at_us(when: datetime | timedelta | None) -> int | None:
    if when is None:
        return None
    if isinstance(when, timedelta):
        return int((time.time() + when.total_seconds()) * 1e6)
    if when.tzinfo is None:
        raise UsageError(f"run_deployment: scheduled_time {when} has no time zone; give it one, as datetime.now(UTC)")
    return int(when.timestamp() * 1e6)


def _shown(row: RunRow) -> DeployedRun:
    import json

    state = State(row.state_type, row.state_name, row.cause)
    return DeployedRun(row.id, row.name, row.flow_name, state, tuple(json.loads(row.tags)))
