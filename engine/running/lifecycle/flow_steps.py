"""The steps of a flow run: its attempts from the gate to its durable end, the waits between them included."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ....store.tables import events, leases, results
from ...authoring.retries import Verdict
from ...errors import ParameterError, RunTimedOut, Suspended
from ...settings import cancel_grace_seconds
from ...states.state import Cancelled, State, describe_exception
from ...system.clock import now_us
from ..calls.flow_run import RESULT_SEQ, FlowRun
from ..calls.frame import Frame
from ..calls.hooks import RunHooks
from ..calls.outstanding import Outstanding
from ..effects.effects import Await, Call, Durable, EndEverything, Pass, Sleep, Steps
from .flow_endings import end_operation
from .holds import WHAT_HELPS, hold_steps
from .judging import judge_flow, judge_flow_value

if TYPE_CHECKING:
    from ....store.connection import Connection
    from ...authoring.flows import Flow


def flow_steps(run: FlowRun) -> Steps[State]:
    """The life of a flow run from RUNNING to its end; returns its final ``State``, which is durable then."""
    session = run.session
    while True:
        begun = session.gate.running_time()
        state = yield from _attempt(run, begun)
        verdict = _verdict(run, state, session.gate.running_time() - begun)
        if verdict.kind == "end":
            break
        try:
            if verdict.kind == "hold":
                yield from _hold(run, state)
            yield from _next_attempt(run, state, verdict.delay_seconds)
        except Cancelled as error:
            state = judge_flow(run, error)
            break
    if session.gate.is_leaving:
        raise Suspended(session.root_id)  # its code swallowed it
    if run.is_root:
        session.requests.heed_before_end()
        if session.gate.is_cancelled:
            yield EndEverything()
        session.capture.settle()
        if state.is_crashed() and session.ending.leaves_end_to_supervisor():
            return state
    return (yield from _end(run, state))


def _attempt(run: FlowRun, begun: float) -> Steps[State]:
    """One attempt, with all that it submitted; returns the state it leads to."""
    session, flow = run.session, run.flow
    try:
        if run.wake_at_us is not None:
            left_us, run.wake_at_us = run.wake_at_us - now_us(), None
            yield Sleep(max(0, left_us) / 1e6, run)
        if not session.gate.is_open() or session.gate.is_cancelled:
            yield Pass(run)
        session.nodes.check(run)
        run.check_stopped()
        if run.parameter_problem is not None:
            raise ParameterError(run.parameter_problem)
        values = flow.parameters.validate(run.parameters) if flow.validates else run.parameters
        args, kwargs = flow.parameters.call_arguments(values)
        run.start()
        if (hooks := flow.hooks["on_running"]) and run.decided is None:
            yield RunHooks(hooks, flow, run, State("RUNNING", run.state_name))
        if run.has_journal and not run.is_recovered:
            run.is_recovered = True
            yield from _recover(run)
        run.interruption = None
        value = run.decided or (yield Call(_body(flow), args, kwargs, Frame(run, None), run, flow.is_async))
        yield from _await_within_timeout(run, begun)
        return judge_flow_value(run, value)
    except (GeneratorExit, Suspended):
        raise
    except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
        session.gate.check_left(error)
        if isinstance(error, KeyboardInterrupt):
            session.requests.begin_cancel("interrupted from the keyboard (Ctrl-C)")
        session.ending.heed_termination()
        state = judge_flow(run, error)
        if not session.gate.is_cancelled and not run.outstanding.done():
            try:
                yield from _await_outstanding(run)
            except Cancelled as cancelled:
                state = judge_flow(run, cancelled)
        return state


def _end(run: FlowRun, state: State) -> Steps[State]:
    """Its durable end, and the hooks on it."""
    session, flow = run.session, run.flow
    try:
        end, state = end_operation(run, state)
    except KeyboardInterrupt as error:  # while its result was pickled
        session.requests.begin_cancel("interrupted from the keyboard (Ctrl-C)")
        end, state = end_operation(run, judge_flow(run, error))
    yield Durable(end)
    if not flow.keeps_value and state.is_completed():
        state = _without_value(run, state)
    if hooks := flow.hooks_for(state):
        yield RunHooks(hooks, flow, run, state)
    return state


def _without_value(run: FlowRun, state: State) -> State:
    """The state without its value, if that can be read from the store again."""
    from ...encoding.stored_state import StoredState

    folder = run.session.folder
    stored = run.session.read(lambda conn: results.get(conn, run.id, RESULT_SEQ))
    if stored is None or stored.codec == "none":
        return state
    return StoredState(state.name, state.message, folder, run.id, RESULT_SEQ)


def _recover(run: FlowRun) -> Steps[None]:
    """End what a process that is gone had begun to roll back."""
    from ..transactions.rollback import recover

    return recover(run)


def _body(flow: Flow[Any, Any]) -> Callable[..., Any]:
    if not flow.is_generator:
        return flow.fn
    from ..lifecycle.generators import collecting

    return collecting(flow.fn)


def _await_within_timeout(run: FlowRun, begun: float) -> Steps[None]:
    """Wait for what was submitted; the flow's timeout holds for it, too."""
    seconds = run.timeout_seconds
    if run.outstanding.done() or seconds is None:
        yield Await(run.outstanding)
        return
    running_time = run.session.gate.running_time
    while (left := begun + seconds - running_time()) > 0 and not run.outstanding.done():
        yield Await(run.outstanding, left)
    if not run.outstanding.done():
        run.interruption = RunTimedOut(f"took longer than {seconds:g} s")
        run.session.timeouts.stop_run(run, f"its flow {run.name} {run.interruption}")
        raise run.interruption


def _await_outstanding(run: FlowRun) -> Steps[None]:
    """Wait for what was submitted; after a timeout of the flow, no longer than the grace."""
    if run.stop_reason is None:
        yield Await(run.outstanding)
        return
    yield Await(run.outstanding, cancel_grace_seconds())
    if not run.outstanding.done():
        run.session.pool.abandon_run(run, f"{run.stop_reason}; it did not end within {cancel_grace_seconds():g} s")


def _next_attempt(run: FlowRun, state: State, delay: float) -> Steps[None]:
    """Wait, then begin the next attempt in this process; finished tasks will return their recorded results."""
    session = run.session
    text = f"attempt {run.attempt} failed: {state.message}; next in {delay:g} s"
    session.log.run(run, 30, text)
    with run.state_lock:
        if run.state_type == "CANCELLING":
            raise Cancelled(session.requests.cancel_reason or run.stop_reason or "cancelled")
        if run.state_type == "PAUSED":
            session.writer.soon(run.transition("resume", cause="its code ended while it was paused"))
        session.writer.soon(run.transition("await_retry", cause=text, wake_at_us=now_us() + int(delay * 1e6)))
    yield Sleep(delay, run)
    lease, attempt = session.lease if run.is_root else None, run.attempt + 1
    with run.state_lock:
        start = run.transition("start", new_attempt=attempt, name="Retrying", cause=text.rpartition("; next in ")[0])

        def begin(conn: Connection) -> None:
            start(conn)
            if lease is not None:
                leases.acquire(conn, lease._replace(attempt=attempt))

        run.attempt, run.attempt_began_at_us = attempt, now_us()  # before it shows: it is no other process's
        session.writer.soon(begin)
        run.retries_made = (run.retries_made or 0) + 1
        run.stop_reason = run.parent.run.stop_reason if run.parent is not None else None
    run.outstanding = Outstanding()
    run.load_journal()


def _verdict(run: FlowRun, state: State, elapsed_seconds: float) -> Verdict:
    policy = run.flow.retry_policy
    if not (policy.retries or policy.pauses) or state.type != "FAILED" or isinstance(state.error, ParameterError):
        return Verdict("end")
    error = state.error if isinstance(state.error, Exception) else RuntimeError(state.message or state.name)
    if run.retries_made is None:
        run.retries_made = run.session.read(lambda conn: events.retries_made(conn, run.id))
    try:
        return policy.verdict(run.retries_made + 1, error, elapsed_seconds, (run.flow, run, state))
    except Exception as broken:  # noqa: BLE001 - the user's condition or delay function
        text = f"flow {run.flow.name} is not retried: its retry condition raised {describe_exception(broken)}"
        run.session.log.run(run, 40, text)
        return Verdict("end")


def _hold(run: FlowRun, state: State) -> Steps[None]:
    """Its retries have run out: the root run is paused until a person says what to do; then it has them all again."""
    session = run.session
    reason = f"flow {run.flow.name} failed in attempt {run.attempt}: {state.message}; {WHAT_HELPS}"
    session.log.run(run, 40, reason)
    yield from hold_steps(session, reason)
    run.retries_made = -1  # the attempt that follows is the first of a new set
