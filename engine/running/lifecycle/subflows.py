"""A flow called within a run: recorded as a run of its own and as a task run of its parent, in the same process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ....store.connection import Connection
from ....store.states import TERMINAL_TYPES
from ....store.tables import edges, runs, tasks
from ...authoring.parameters import preview_json
from ...errors import UpstreamFailed
from ...states.machine import RunEvent
from ...states.state import State
from ...states.transitions import move_run
from ...system.clock import now_us
from ..calls.dependencies import replace_futures
from ..calls.flow_run import FlowRun, tags_of
from ..calls.frame import current_transaction
from ..calls.subflow_call import SubflowCall
from ..calls.task_call import record_caller
from ..effects.effects import Await, Durable, Steps, drive, drive_async
from ..effects.interrupts import engine_code
from . import generators
from .flow_steps import flow_steps

if TYPE_CHECKING:
    from ...authoring.flows import Flow
    from ..calls.frame import Frame


def call_flow(frame: Frame, flow: Flow[Any, Any], args: Any, kwargs: Any, return_state: bool, wait_for: Any) -> Any:
    """Run a subflow in this thread."""
    with engine_code(), frame.run.session.gate.blocked():
        state = drive(frame.run.session, _steps(frame, flow, args, kwargs, wait_for))
    return state if return_state else state.result()


async def call_flow_async(
    frame: Frame, flow: Flow[Any, Any], args: Any, kwargs: Any, return_state: bool, wait_for: Any
) -> Any:
    """Run an async subflow in the running event loop."""
    with frame.run.session.gate.blocked():
        state = await drive_async(frame.run.session, _steps(frame, flow, args, kwargs, wait_for))
    return state if return_state else state.result()


def iterate_flow(frame: Frame, flow: Flow[Any, Any], args: Any, kwargs: Any, wait_for: Any) -> Any:
    """A generator over what a subflow's body yields, sync or async as the body is."""
    go = generators.iterate_async if flow.is_async else generators.iterate
    return go(frame.run.session, flow.fn, _steps(frame, flow, args, kwargs, wait_for))


def _steps(frame: Frame, flow: Flow[Any, Any], args: Any, kwargs: Any, wait_for: Any) -> Steps[State]:
    parent, session = frame.run, frame.run.session
    if frame.task is not None:
        record_caller(frame.task)
    bound = flow.parameters.bind(args, kwargs)
    # Numbered before it waits: the order of calls must not hang on which future ends first.
    subflow = SubflowCall(parent, flow, frame.scope_seq, (bound, wait_for))
    for future in subflow.note_upstream():
        subflow.has_waited = True
        yield Await(future)
    parameters, broken = replace_futures(bound, wait_for)
    if broken:
        text = f"upstream {broken[0]}"
        return State("PENDING", "NotReady", text, error=UpstreamFailed(f"{subflow.name} did not start: {text}"))
    parent.settle(subflow, parameters)
    recalled = parent.recall_subflow(subflow)
    if recalled is not None:
        _settle_transaction(subflow, recalled)
        return recalled
    run = yield from _begin(session, subflow, parameters)
    session.live_runs[run.id] = run
    try:
        state = yield from flow_steps(run)
    finally:
        session.live_runs.pop(run.id, None)
    if subflow.flow.keeps_value:
        parent.lineage.track(state.data, (parent.id, subflow.seq))
    _settle_transaction(subflow, state)
    return state


def _settle_transaction(subflow: SubflowCall, state: State) -> None:
    if (block := current_transaction.get()) is not None:
        from ..transactions.steps import after_subflow

        after_subflow(subflow, state, block)


def _begin(session: Any, subflow: SubflowCall, parameters: dict[str, Any]) -> Steps[FlowRun]:
    """Record the child run and its place in the parent; the child's earlier run when there was one."""
    parent, flow, at_us = subflow.run, subflow.flow, now_us()
    row = parent.journalled(subflow)
    subflow.child_run_id = row.child_run_id if row is not None else None
    name, shown, tags = flow.run_name(parameters), preview_json(parameters), tags_of(flow)

    def begin(conn: Connection) -> tuple[int, int, int | None]:
        child, attempt, wake_at_us = subflow.child_run_id, 1, None
        if child is None:
            child = runs.insert(
                conn, flow_name=flow.name, name=name, state=("PENDING", "Pending"), actor="engine", at_us=at_us,
                parameters=shown, tags=tags, parent_run_id=parent.id, parent_seq=subflow.seq,
                root_id=session.root_id, flow_description=flow.description,
            )
        else:
            wake_at_us = _wake_of(conn, child)
            attempt = _queue_again(conn, child, at_us)
        subflow.child_run_id = child
        from_ = (row.state_type, row.state_name) if row is not None else None
        if from_ is not None:
            tasks.begin(conn, subflow.row(("PENDING", "Pending")), at_us, "engine", subflow.why_again, from_=from_)
            from_ = ("PENDING", "Pending")
        why = subflow.why_again if from_ is None else None
        tasks.begin(conn, subflow.row(("RUNNING", "Running")), at_us, "engine", why, from_=from_)
        if subflow.upstream:
            edges.add(conn, parent.id, subflow.seq, subflow.upstream)
        return child, attempt, wake_at_us

    run_id, attempt, wake_at_us = yield Durable(begin)
    again = attempt > 1
    run = FlowRun(
        session, flow, run_id, attempt, parameters,
        state=("SCHEDULED", "Scheduled") if again else ("PENDING", "Pending"), parent=subflow,
    )
    if session.nodes.is_told_to_end(run):
        run.told_to_end = run.stop_reason = session.nodes.told.reason(run)
    if again:
        run.load_journal()
        waits_us = max(0, (wake_at_us or 0) - now_us())
        cause = None
        if waits_us:
            run.wake_at_us = wake_at_us
            cause = f"its last attempt had failed when the run was interrupted; next in {waits_us / 1e6:.3g} s"
        with run.state_lock:
            session.writer.soon(run.transition("claim", cause=cause))
    return run


def _wake_of(conn: Connection, run_id: int) -> int | None:
    """When a child run wanted to begin its next attempt, that was interrupted while it waited for it."""
    found = runs.get(conn, run_id)
    return found.wake_at_us if found is not None and found.state_type == "CRASHED" else None


def _queue_again(conn: Connection, run_id: int, at_us: int) -> int:
    """Bring a child run's earlier record back to SCHEDULED with a new attempt; returns that attempt."""
    found = runs.get(conn, run_id)
    assert found is not None  # its row is referenced by the parent's
    again = found.attempt + 1
    if found.state_type == "PAUSED":
        # Its process left it to go on later; so it does.
        move_run(conn, found, "requeue", at_us=at_us, actor="engine", new_attempt=again,
                 message="goes on with its parent")
        return again
    if found.state_type not in TERMINAL_TYPES:
        ends: RunEvent = "cancel" if found.state_type == "CANCELLING" else "crash"
        found = move_run(conn, found, ends, at_us=at_us, actor="engine", cause="its process ended before it did")
    move_run(conn, found, "retry", at_us=at_us, actor="engine", new_attempt=again, message="run again by its parent",
             intent="none")
    return again
