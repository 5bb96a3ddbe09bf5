"""A root run in this process from its beginning to its end: for who calls a flow, and for a code host.

The same path serves a person's ``python my_flow.py`` and a run that the daemon's code host forked: the run is taken
(``claiming``), its session opened, its steps driven, and who started it answered (``answers``). What becomes of the
flow the steps decide; here is only what holds however they are driven.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....store.location import settle
from ....store.opening import open_store, own_store
from ....store.rows import RunRow
from ....store.tables import nodes, runs
from ....store.tables.run_names import default_name
from ...authoring.task_runners import place_of
from ...errors import FlowdeckError, Suspended
from ...secrets.secret import conceal_known
from ...states.state import State
from ...system.actors import actor_name
from ..calls.flow_run import FlowRun
from ..effects.effects import drive, drive_async
from ..lifecycle.flow_steps import flow_steps
from . import forks
from .answers import answer, exit_code, explain_uncaught
from .claiming import go_back, lease_of, make_run, settle_broken, stored_parameters, take
from .guarding import guard_run
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
            state: State = drive(session, flow_steps(run))
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
            state: State = await drive_async(session, flow_steps(run))
        except Suspended:
            state = await _record_in_thread(session)
    return answer(session, state, return_state)


def iterate_here(flow: Flow[Any, Any], parameters: dict[str, Any]) -> Iterator[Any]:
    """As ``run_here``, for a flow whose function yields: its items as they come."""
    from ..lifecycle import generators

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
    from ..lifecycle import generators

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


def execute_run(
    folder: Path, run_id: int, attempt: int, flow: Flow[Any, Any], *, echo: bool = False,
    given: dict[str, Any] | None = None, resumable: bool | None = None, guard: int | None = None,
    at_end: Callable[[Session, int], None] | None = None,
) -> int:  # fmt: skip
    """Run an existing, claimed (PENDING) run in this process; returns the exit code.

    ``given`` are the parameters where the caller has just made the run of them: what is secret in them is not stored.

    0 completed · 1 failed or crashed · 75 goes on later · 130 cancelled · 128 + n ended by signal n. Raises NotFound,
    NotAllowed or StaleState when the run is not this process's to take. ``guard`` is this process's parent, where that
    is the run's guard; then session and group are the run's own. ``resumable``: whether a supervisor resumes it; by
    default what is not shown to anybody. ``at_end`` is called with the exit code when the end is recorded and the
    session still open.
    """
    is_resumable = not echo if resumable is None else resumable
    row, lease = take(
        folder, run_id, attempt, resumable=is_resumable, crash_retries=flow.crash_retries, guard=guard
    )
    if guard is None:
        guard_run(folder, run_id, attempt)
    settle(folder)
    elsewhere = go_back(row)
    session = Session(folder, run_id, attempt, echo=echo)
    session.ending.is_resumable = is_resumable
    session.ending.guard = guard
    try:
        session.lease = lease
        conceal_known()
        parameters, problem = (given, None) if given is not None else stored_parameters(folder, row, flow)
        run = FlowRun(session, flow, run_id, attempt, parameters, state=("PENDING", "Pending"))
        if attempt > 1:
            session.read(session.nodes.recall)
        _begin(session, run)
        if problem is not None:
            run.parameter_problem = problem
        elif flow.flow_run_name is not None:
            _name(session, row, flow, parameters)
        if row.schedule_id is not None and attempt == 1:
            from . import schedule_filters as own_filters

            run.decided = own_filters.ask(folder, row, flow)
        if elsewhere is not None:
            session.log.line(row.id, None, 30, elsewhere)
        if attempt > 1:
            _finish_retry(session)
        if attempt > 1 or row.retry_of is not None:
            run.load_journal()
        try:
            state = drive(session, flow_steps(run))
        except Suspended:
            state = record(session)
        if at_end is not None and not session.ending.is_by_signal:
            at_end(session, exit_code(session, state))
    finally:
        session.close()
    if session.ending.is_by_signal:
        session.ending.die_of_signal()
    return exit_code(session, state)


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
        where = own_store() if folder is None else _usable(folder)
        run_id = make_run(where, flow, parameters, via)
        guard_run(where, run_id, 1)
    except (FlowdeckError, KeyboardInterrupt) as error:
        explain_uncaught(error)
        raise
    lease = lease_of(where, run_id, 1, actor_name(via), resumable=False)
    try:
        session = Session(where, run_id, 1, echo=True)
        session.lease = lease
        run = FlowRun(session, flow, run_id, 1, parameters, state=("PENDING", "Pending"))
        others = forks.live_sessions()
        _begin(session, run)
        _tell_stray(session, others)
    except BaseException as error:
        settle_broken(where, lease, 1, error)
        raise
    return session, run


def _tell_stray(session: Session, others: list[Session]) -> None:
    """A task that is a run of its own although a flow runs here was meant to be the flow's, most likely."""
    if threading.current_thread() is threading.main_thread() or not _is_of_task(session):
        return
    beside = sorted(other.root_id for other in others if other.root is not None and not _is_of_task(other))
    if beside:
        known = ", ".join(f"#{run_id}" for run_id in beside)
        session.log.line(
            session.root_id, None, 30,
            f"it is a run of its own, for its thread was started outside of {known}: to make it a task of that run, "
            "hand the thread's work over as with_context(function), made in the flow or task",
        )  # fmt: skip


def _is_of_task(session: Session) -> bool:
    return session.root is not None and getattr(session.root.flow.fn, "__module__", None) is None


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


def _usable(folder: Path) -> Path:
    open_store(folder)
    settle(folder)
    return folder


def _begin(session: Session, run: FlowRun) -> None:
    session.root = run
    session.live_runs[run.id] = run
    session.pool.limit(place_of(run.flow.task_runner).threads)
    session.start()
    if run.process_runner is not None:
        session.workers.prepare()


def _finish_retry(session: Session) -> None:
    """A retry of very many calls leaves most of them for the process that takes the run."""
    words = session.read(lambda conn: nodes.words_of_retry(conn, session.root_id))
    if words is not None and '"left"' in words[1]:
        from ...control.retrying import given_up_later

        for write in session.read(lambda conn: given_up_later(conn, session.root_id)):
            session.writer.commit(write)


async def _record_in_thread(session: Session) -> State:
    """Code that still unwinds may need the event loop."""
    import asyncio

    return await asyncio.to_thread(record, session)
