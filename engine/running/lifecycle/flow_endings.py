"""The write that ends a flow run, with its result and its place in its parent, in one transaction.

Making it moves the run by the table of states and pickles its result; a result that is a file is durable by then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ....store.tables import results, runs, tasks
from ...encoding import codec
from ...states.machine import next_run_state
from ...states.state import Cancelled, State
from ...states.transitions import move_task
from ...system.clock import now_us
from ..calls.flow_run import RESULT_SEQ, FlowRun
from .judging import END_EVENTS

if TYPE_CHECKING:
    from ....store.connection import Connection
    from ....store.rows import ResultRow



def end_operation(run: FlowRun, state: State) -> tuple[Callable[[Any], None], State]:
    """The write that ends the run and its place in its parent in one transaction, and the state it then has."""
    # Code of the user's classes pickles it: whoever cancels the run meanwhile must not have to wait for that.
    stored = _store(run, state)
    with run.state_lock:
        if run.state_type == "CANCELLING":
            text = run.session.requests.cancel_reason or run.told_to_end or state.message or "cancelled"
            error = state.error if isinstance(state.error, Cancelled) else Cancelled(text)
            if run.session.requests.cancel_reason is None and run.told_to_end is not None:
                error = Cancelled(f"subflow {run.flow.name} (#{run.id}): {text}")
            state = State("CANCELLED", None, text, error=error)
            if stored is not None and stored.path is not None:
                run.session.results.remove([stored.path])
            stored = None
        return _end_write(run, state, stored), state


def _store(run: FlowRun, state: State) -> ResultRow | None:
    """The row of the run's result, if it has one; its file, if that is one, is durable."""
    if run.state_type == "CANCELLING" or not state.is_completed() or run.is_partial:
        return None
    return run.session.results.store(run.id, RESULT_SEQ, codec.encode(state.data))


def _end_write(run: FlowRun, state: State, stored: ResultRow | None) -> Callable[[Any], None]:
    parent = run.parent
    event = "time_out" if state.name == "TimedOut" else END_EVENTS[state.type]
    resume = None
    if run.state_type == "PAUSED" and event in ("complete", "time_out"):
        resume = run.transition("resume", cause="its code ended while it was paused")
    cause = state.message if not state.is_completed() else None
    move = run.transition(
        event, cause=cause, ended_duration_us=run.duration_us, intent="none",
        name=state.name if state.type == _target_type(run, event) else None,
    )
    at_us, duration_us, run_id, attempt = now_us(), run.duration_us, run.id, run.attempt
    is_again = run.has_journal
    shown = stored.preview if stored is not None and state.data is not None else None

    def end(conn: Connection) -> None:
        if resume is not None:
            resume(conn)
        move(conn)
        if is_again:
            _settle_unreached(conn, run_id, attempt, at_us)
        if stored is not None:
            results.put(conn, stored)
        if shown is not None:
            runs.set_result_preview(conn, run_id, attempt, shown)
        if parent is not None:
            tasks.finish(
                conn, parent.run.id, parent.seq, run_attempt=parent.run.attempt, from_=("RUNNING", "Running"),
                to=(run.state_type, run.state_name), at_us=at_us, actor="engine", cause=cause,
                duration_us=duration_us, cpu_us=None, peak_rss_bytes=None, attempt=1,
            )
            if stored is not None:
                results.put(conn, stored._replace(run_id=parent.run.id, seq=parent.seq))

    return end


def _settle_unreached(conn: Connection, run_id: int, attempt: int, at_us: int) -> None:
    """What a retry was to run again and the flow did not come to: it has no result and waits for nothing.

    A row of a subflow may be of an earlier attempt of that: it is ended at the one its run is at.
    """
    attempts = {run_id: attempt}
    for row in tasks.unreached(conn, run_id):
        if row.run_id not in attempts:
            child = runs.get(conn, row.run_id)
            attempts[row.run_id] = child.attempt if child is not None else row.run_attempt
        move_task(
            conn, row, "skip", run_attempt=max(row.run_attempt, attempts[row.run_id]), at_us=at_us, actor="engine",
            cause="the run was to do it again and did not come to it",
        )


def _target_type(run: FlowRun, event: str) -> str:
    return next_run_state(run.state_type, event).state_type
