"""How a process comes to a run, and gives it up when it cannot go on: the run's row, its lease, its parameters.

Whoever holds the lease is the process of the run. Each step is one transaction, durable before anything of the run
happens here; of several processes that want the same run one gets it. Nothing here knows a session.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....store import judging
from ....store.connection import connect, transaction
from ....store.driver_errors import store_errors
from ....store.errors import StaleState, StoreError
from ....store.rows import LeaseRow, ResultRow, RunRow
from ....store.tables import inputs, leases, results, runs
from ....store.tables.results import PARAMETERS_SEQ
from ...authoring.parameters import preview_json, to_json
from ...encoding import codec
from ...errors import FlowdeckError, NotAllowed, NotFound, UsageError
from ...secrets.secret import conceal_known
from ...states.state import describe_exception
from ...states.transitions import move_run
from ...system.actors import actor_name
from ...system.clock import now_us
from ..calls.flow_run import tags_of

if TYPE_CHECKING:
    from ...authoring.flows import Flow


def lease_of(
    folder: Path, run_id: int, attempt: int, actor: str, *, resumable: bool, crash_retries: int = 0,
    guard: int | None = None,
) -> LeaseRow:
    """This process's lease on a run, not taken yet; ``resumable``: whether a supervisor resumes it.

    ``guard``: its parent, which adopts what it starts; None in a process that a person started.
    """
    return leases.this_process(
        folder, leases.run_owner(run_id), actor=actor, at_us=now_us(), run_id=run_id, attempt=attempt,
        info=json.dumps({"resumable": resumable, "crash_retries": crash_retries, "guard": guard}),
    )


def make_run(folder: Path, flow: Flow[Any, Any], parameters: dict[str, Any], via: str) -> int:
    """The run's row (PENDING) and this process's lease on it, durable before anything of it runs."""
    at_us, actor = now_us(), actor_name(via)
    conceal_known()
    flow.parameters.conceal(parameters)
    text = to_json(parameters)
    # What JSON would change (a tuple, a date without a hint) must be the same in every attempt.
    encoded = codec.encode(parameters)
    kept = encoded if encoded.codec != "json" else None
    connection = connect(folder, "state")
    try:
        with store_errors(folder), transaction(connection):
            run_id = runs.insert(
                connection, flow_name=flow.name, name=flow.run_name(parameters), state=("PENDING", "Pending"),
                actor=actor, at_us=at_us, parameters=text if text is not None else preview_json(parameters),
                tags=tags_of(flow), entrypoint=entrypoint_of(flow), flow_description=flow.description,
                working_folder=standing_in(),
            )
            leases.acquire(connection, lease_of(folder, run_id, 1, actor, resumable=False))
            if kept is not None and kept.data is not None:
                results.put(connection, _parameters_row(run_id, kept))
    finally:
        connection.close()
    return run_id


def _parameters_row(run_id: int, kept: codec.Encoded) -> ResultRow:
    size = len(kept.data or b"")
    return ResultRow(run_id, PARAMETERS_SEQ, kept.codec, kept.checksum, size, kept.data, None, kept.preview)


def take(
    folder: Path, run_id: int, attempt: int, *, resumable: bool, crash_retries: int, guard: int | None = None
) -> tuple[RunRow, LeaseRow]:
    """Take the lease on a claimed run; only one process can. Raises NotFound or StaleState."""
    connection = connect(folder, "state")
    try:
        with transaction(connection):
            row = runs.get(connection, run_id)
            if row is None:
                raise NotFound(f"there is no run #{run_id} in {folder}")
            if (row.state_type, row.attempt) != ("PENDING", attempt):
                raise StaleState(
                    f"run #{run_id} is {row.state_name}, attempt {row.attempt}; expected Pending, attempt {attempt}"
                )
            lease = lease_of(
                folder, run_id, attempt, actor_name("engine"), resumable=resumable, crash_retries=crash_retries,
                guard=guard,
            )
            leases.acquire(connection, lease)
            if row.working_folder is None:
                runs.set_working_folder(connection, run_id, standing_in())
            if attempt > 1:
                inputs.lay_aside(connection, run_id, now_us())
    finally:
        connection.close()
    return row, lease


def standing_in() -> str | None:
    """The working folder of this process; None when it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return None


def go_back(row: RunRow) -> str | None:
    """Stand where the run began; returns in words why that is not possible, and stays then."""
    if row.working_folder is None or row.working_folder == standing_in():
        return None
    try:
        os.chdir(row.working_folder)
    except OSError as error:
        here = standing_in() or "a folder that was removed"
        return f"it ran in {row.working_folder}, which cannot be gone back to ({error.strerror}): it runs in {here}"
    return None


def claim_here(folder: Path, run_id: int) -> int:
    """Claim a SCHEDULED run for this process (``flowdeck retry --here``); returns its attempt."""
    connection = connect(folder, "state")
    try:
        with transaction(connection):
            row = runs.get(connection, run_id)
            if row is None:
                raise NotFound(f"there is no run #{run_id} in {folder}")
            if row.state_type != "SCHEDULED":
                raise NotAllowed(f"run #{run_id} is {row.state_name}; only a scheduled run can be claimed")
            move_run(connection, row, "claim", at_us=now_us(), actor=actor_name("cli"))
    finally:
        connection.close()
    return row.attempt


def settle_broken(folder: Path, lease: LeaseRow, attempt: int, error: BaseException) -> None:
    """End the record of a run whose process lives and does not go on with it.

    Nothing when it has ended, or when a newer attempt of it is somebody else's.
    """
    if isinstance(error, StaleState):
        return
    try:
        from ...control.crash_counting import Fate
        from ...control.reaping import settle
    except OSError:  # not one more file can be opened
        return
    fate = Fate("crash", f"the engine could not go on with it: {describe_exception(error)}")
    if isinstance(error, KeyboardInterrupt):
        fate = Fate("cancel", "interrupted from the keyboard (Ctrl-C)")
    with suppress(StoreError), store_errors(folder):  # the store is gone or full: whoever finds the run dead settles it
        connection = connect(folder, "state")
        try:
            with transaction(connection):
                leases.release(connection, lease.owner, lease)
                row = runs.get(connection, lease.run_id or 0)
            if row is None or row.attempt != attempt:
                return
            settle(connection, lease.run_id or 0, fate, at_us=now_us(), resumable=False, attempt=attempt)
        finally:
            connection.close()
            judging.end_presence(folder, lease.owner)


def stored_parameters(folder: Path, row: RunRow, flow: Flow[Any, Any]) -> tuple[dict[str, Any], str | None]:
    """The run's parameters as they were given, and what is wrong with them."""
    connection = connect(folder, "state", readonly=True)
    try:
        kept = results.get(connection, row.id, PARAMETERS_SEQ)
    finally:
        connection.close()
    try:
        if kept is None:
            values = json.loads(row.parameters)
        else:
            values = codec.decode(kept.codec, kept.data or b"", kept.checksum)
        flow.parameters.check_names(values)
        return flow.parameters.bind((), values), flow.parameters.lost(values)
    except UsageError as error:
        return {}, str(error)
    except FlowdeckError as error:
        return {}, f"the run's parameters cannot be read: {error}"


def entrypoint_of(flow: Flow[Any, Any]) -> str | None:
    """``/absolute/file.py:name``, or None for a flow that no file holds."""
    module = sys.modules.get(flow.fn.__module__ or "")
    path = getattr(module, "__file__", None)
    if path is None or not os.path.isfile(path):
        return None
    return f"{os.path.abspath(path)}:{flow.name}"
