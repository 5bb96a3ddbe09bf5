"""``run_deployment``: have the daemon run a deployment, from a script or from within a run, and wait for its end.

Within a run the request is a task of the run: a retry or a resumed process finds the run it made, and makes no other.
A run that is waited for ends with the wait, when that is cancelled or timed out; it goes on when the one that waits
leaves its process to go on later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...store.errors import StoreError
from ...store.opening import own_store
from ...store.reader import Reader
from ...store.rows import RunRow
from ..errors import NotFound, Suspended, UsageError
from ..running.calls.frame import current_frame
from ..running.effects.interrupts import engine_code
from ..states.state import State, describe_exception

if TYPE_CHECKING:
    from ..running.calls.frame import Frame

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
    as_subflow: bool = True,
) -> DeployedRun:
    """Make a run of a deployment (``etl`` or ``flow/etl``) and wait until it ends.

    ``timeout`` in seconds: 0 returns at once, None waits for ever; a run that has not ended then goes on, and its
    state says so. Within a run it is shown as that run's, and ends with it when that is cancelled meanwhile, unless
    ``as_subflow=False``. ``scheduled_time``: when it starts, default now. Raises ``NotFound`` for an unknown
    deployment and ``ParameterError`` for wrong parameters. A failed run is returned, not raised.
    """
    at_us = _at_us(scheduled_time)
    frame = current_frame.get()
    if frame is None:
        folder = own_store()
        run_id = _trigger(str(folder), name, parameters or {}, at_us)
        return _wait(folder, run_id, name, timeout, time.sleep)
    from ..authoring.tasks import Task

    session = frame.run.session
    run_id = Task(_trigger, name=f"run_deployment {name}")(str(session.folder), name, parameters or {}, at_us)
    if as_subflow:
        with _awaited(frame, run_id, waits=timeout is None or timeout > 0):
            return _wait(session.folder, run_id, name, timeout, session.gate.sleep)
    return _wait(session.folder, run_id, name, timeout, session.gate.sleep)


def _wait(
    folder: Path, run_id: int, name: str, timeout: float | None, sleep: Callable[[float], None]
) -> DeployedRun:
    deadline = None if timeout is None else time.monotonic() + timeout
    with Reader(folder) as reader:
        while True:
            row = reader.run(run_id)
            if row is None:
                raise NotFound(f"run #{run_id} of {name} is gone from {folder}: somebody deleted it")
            if row.ended_at_us is not None or (deadline is not None and time.monotonic() >= deadline):
                return _shown(row)
            sleep(_LOOK_SECONDS)


@contextmanager
def _awaited(frame: Frame, run_id: int, *, waits: bool) -> Iterator[None]:
    """Around the wait of a run's code for a run that it asked for: what ends the wait with force ends that run, too."""
    from ..control import awaited

    run, session = frame.run, frame.run.session
    with engine_code():
        place = frame.scope_seq if waits else None
        session.writer.commit(lambda conn: awaited.begin(conn, run_id, run.id, place, session.folder))
    try:
        yield
    except Suspended:
        raise  # it goes on, and this wait with it
    except (NotFound, StoreError):
        raise
    except BaseException as error:
        if waits and not session.ending.will_be_resumed():
            why = f"cancelled with run #{run.id}, which waited for it: {describe_exception(error)}"
            session.writer.soon(lambda conn: awaited.end(conn, run_id, why, session.folder))
            session.writer.soon(lambda conn: awaited.let_go(conn, run_id, run.id))
        raise
    if waits:  # it has ended, or is waited for no longer
        with engine_code():
            session.writer.commit(lambda conn: awaited.let_go(conn, run_id, run.id))


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
