"""The process of a root run: takes the run, runs the flow's function, records how it ended.

The same path serves a person's ``python my_flow.py`` and a run the daemon's code host forked. What a process of an
older attempt still writes is refused by the store.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....store.connection import connect, transaction
from ....store.driver_errors import store_errors
from ....store.errors import StaleState, StoreError
from ....store.location import find_store
from ....store.opening import open_store
from ....store.rows import LeaseRow, RunRow
from ....store.tables import inputs, leases, results, runs
from ....store.tables.run_names import default_name
from ...authoring.parameters import preview_json, to_json
from ...encoding import codec
from ...errors import FlowdeckError, NotAllowed, NotFound, Suspended, UsageError
from ...secrets.secret import conceal_known
from ...settings import pool_size
from ...states.state import State, describe_exception
from ...system.actors import actor_name
from ...system.clock import now_us
from ..calls.flow_run import PARAMETERS_SEQ, FlowRun
from ..effects.effects import drive, drive_async
from ..lifecycle import generators
from ..lifecycle.flow_steps import flow_steps
from ..lifecycle.subflows import tags_of
from . import schedule_filters as own_filters
from .answers import answer, exit_code, explain_uncaught
from .session import Session
from .suspending import record

if TYPE_CHECKING:
    from ...authoring.flows import Flow

def run_here(
    flow: Flow[Any, Any],
    parameters: dict[str, Any],
    return_state: bool,
    folder: Path | None = None,
    via: str = "script",
) -> Any:
    """Make a run of ``flow`` and run it in this process; returns its value or raises what ended it."""
    session, run = _open_new(flow, parameters, folder, via)
    with _closing(session):
        try:
            state: State = drive(flow_steps(run))
        except Suspended:
            state = record(session)
    return answer(session, state, return_state)


async def run_here_async(
    flow: Flow[Any, Any], parameters: dict[str, Any], return_state: bool, folder: Path | None = None
) -> Any:
    """As ``run_here``, in the running event loop."""
    session, run = _open_new(flow, parameters, folder, "script")
    with _closing(session):
        try:
            state: State = await drive_async(flow_steps(run))
        except Suspended:
            state = await _record_in_thread(session)
    return answer(session, state, return_state)


def iterate_here(flow: Flow[Any, Any], parameters: dict[str, Any]) -> Iterator[Any]:
    """As ``run_here``, for a flow whose function yields: its items as they come."""
    session, run = _open_new(flow, parameters, None, "script")
    left: State | None = None
    try:
        yield from generators.iterate(session, flow.fn, flow_steps(run))
    except Suspended:
        left = record(session)
    finally:
        session.close()
    if left is not None:
        answer(session, left, False)


async def iterate_here_async(flow: Flow[Any, Any], parameters: dict[str, Any]) -> AsyncIterator[Any]:
    """As ``iterate_here``, in the running event loop."""
    session, run = _open_new(flow, parameters, None, "script")
    items = generators.iterate_async(session, flow.fn, flow_steps(run))
    left: State | None = None
    try:
        async for item in items:
            yield item
    except Suspended:
        left = await _record_in_thread(session)
    finally:
        await items.aclose()
        session.close()
    if left is not None:
        answer(session, left, False)


def execute_run(folder: Path, run_id: int, attempt: int, flow: Flow[Any, Any], *, echo: bool = False) -> int:
    """Run an existing, claimed (PENDING) run in this process; returns the exit code.

    0 completed · 1 failed or crashed · 75 goes on later · 130 cancelled. Raises NotFound, NotAllowed or StaleState
    when the run is not this process's to take.
    """
    row = _take(folder, run_id, attempt, resumable=not echo, crash_retries=flow.crash_retries)
    session = Session(folder, run_id, attempt, echo=echo)
    session.ending.is_resumable = not echo
    try:
        session.lease = row[1]
        conceal_known()
        parameters, problem = stored_parameters(folder, row[0], flow)
        run = FlowRun(session, flow, run_id, attempt, parameters, state=("PENDING", "Pending"))
        if attempt > 1:
            session.read(session.nodes.recall)
        _begin(session, run)
        if problem is not None:
            run.parameter_problem = problem
        elif flow.flow_run_name is not None:
            _name(session, row[0], flow, parameters)
        if row[0].schedule_id is not None and attempt == 1:
            run.decided = own_filters.ask(folder, row[0], flow)
        if attempt > 1 or row[0].retry_of is not None:
            run.load_journal()
        state = drive(flow_steps(run))
    except Suspended:
        state = record(session)
    finally:
        session.close()
    if session.ending.is_by_signal:
        # As the signal would have ended it: whoever watches sees which, and resumes the run.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    return exit_code(state)


def _name(session: Session, row: RunRow, flow: Flow[Any, Any], parameters: dict[str, Any]) -> None:
    """Give a run the name its flow makes, unless it has one: who queued it did not have the flow's code."""
    if row.name != default_name(row.id):
        return
    try:
        name = flow.run_name(flow.parameters.bind((), parameters))
    except FlowdeckError as error:
        text = f"{error}; the run keeps the name {row.name}"
        session.log.line(row.id, None, 30, text)
        return
    session.writer.commit(lambda connection: runs.rename(connection, row.id, name))


def _open_new(
    flow: Flow[Any, Any], parameters: dict[str, Any], folder: Path | None, via: str
) -> tuple[Session, FlowRun]:
    try:
        where = find_store() if folder is None else folder
        open_store(where)
        run_id = make_run(where, flow, parameters, via)
    except (FlowdeckError, KeyboardInterrupt) as error:
        explain_uncaught(error)
        raise
    lease = _lease(run_id, 1, actor_name(via), resumable=False)
    try:
        session = Session(where, run_id, 1, echo=True)
        session.lease = lease
        run = FlowRun(session, flow, run_id, 1, parameters, state=("PENDING", "Pending"))
        _begin(session, run)
    except BaseException as error:
        settle_broken(where, lease, 1, error)
        raise
    return session, run


@contextmanager
def _closing(session: Session) -> Iterator[None]:
    """Close the session; a run that the engine itself could not bring to its end is not left as if it went on."""
    try:
        try:
            yield
        finally:
            session.close()
    except BaseException as error:
        if session.lease is not None and session.root is not None and not session.requests.is_fenced:
            settle_broken(session.folder, session.lease, session.root.attempt, error)
        explain_uncaught(error)
        raise


def settle_broken(folder: Path, lease: LeaseRow, attempt: int, error: BaseException) -> None:
    """End the record of a run whose process lives and does not go on with it.

    Nothing when it has ended, or when a newer attempt of it is somebody else's.
    """
    if isinstance(error, StaleState):
        return
    try:
        from ...control.reaping import Fate, settle
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
            settle(connection, lease.run_id or 0, fate, at_us=now_us(), resumable=False)
        finally:
            connection.close()


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
            )
            leases.acquire(connection, _lease(run_id, 1, actor, resumable=False))
            if kept is not None and kept.data is not None:
                results.put(connection, _parameters_row(run_id, kept))
    finally:
        connection.close()
    return run_id


def _parameters_row(run_id: int, kept: codec.Encoded) -> Any:
    from ....store.rows import ResultRow

    size = len(kept.data or b"")
    return ResultRow(run_id, PARAMETERS_SEQ, kept.codec, kept.checksum, size, kept.data, None, kept.preview)


def _begin(session: Session, run: FlowRun) -> None:
    session.root = run
    session.live_runs[run.id] = run
    runner = run.flow.task_runner
    session.pool.limit(pool_size("THREAD", None) if runner is None else getattr(runner, "max_workers", None))
    session.start()
    if run.process_runner is not None:
        session.workers.prepare()


def _lease(run_id: int, attempt: int, actor: str, *, resumable: bool, crash_retries: int = 0) -> LeaseRow:
    return leases.this_process(
        leases.run_owner(run_id), actor=actor, at_us=now_us(), run_id=run_id, attempt=attempt,
        info=json.dumps({"resumable": resumable, "crash_retries": crash_retries}),
    )


def _take(
    folder: Path, run_id: int, attempt: int, *, resumable: bool, crash_retries: int
) -> tuple[RunRow, LeaseRow]:
    """Take the lease on a claimed run; only one process can."""
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
            lease = _lease(
                run_id, attempt, actor_name("engine"), resumable=resumable, crash_retries=crash_retries
            )
            leases.acquire(connection, lease)
            if attempt > 1:
                inputs.lay_aside(connection, run_id, now_us())
    finally:
        connection.close()
    return row, lease


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
            runs.transition(
                connection, run_id, attempt=row.attempt, from_type="SCHEDULED", to=("PENDING", "Pending"),
                at_us=now_us(), actor=actor_name("cli"),
            )
    finally:
        connection.close()
    return row.attempt


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


async def _record_in_thread(session: Session) -> State:
    """Code that still unwinds may need the event loop."""
    import asyncio

    return await asyncio.to_thread(record, session)
