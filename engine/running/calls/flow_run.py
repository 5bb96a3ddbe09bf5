"""One run of a flow in this process: its journal, its numbering of calls, and the steps of its attempts.

The flow function runs again on retry, resume or crash recovery; finished calls then return what the journal holds.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ....store.tables import events, leases, results, runs, tasks
from ...authoring.retries import Verdict
from ...encoding import codec
from ...errors import ParameterError, RunTimedOut, Suspended
from ...settings import cancel_grace_seconds
from ...states.machine import next_run_state, next_task_state
from ...states.state import Cancelled, State, aggregate, as_state, describe_exception, exit_call
from ...system.clock import now_us
from ..effects.effects import Await, Call, Durable, EndEverything, Pass, Sleep, Steps
from ..effects.interrupts import is_coroutine_cancelled
from ..lifecycle.attempts import WHAT_HELPS, ask_for_pause
from .frame import Frame
from .futures import resolve_futures_to_states
from .hooks import RunHooks
from .journal import Journal, Recorded
from .outstanding import Outstanding
from .replay import again

if TYPE_CHECKING:
    from ....store.connection import Connection
    from ....store.rows import TaskRow
    from ...authoring.flows import Flow
    from ..run_process.session import Session
    from ..runners.threads import ProcessPoolTaskRunner
    from .subflow_call import SubflowCall
    from .task_call import TaskCall

RESULT_SEQ = 0
"""Where a run keeps its own result among its journalled results."""
PARAMETERS_SEQ = -1
"""Where a run keeps parameters that have no JSON form."""


class FlowRun:
    """A flow run this process owns."""

    def __init__(
        self,
        session: Session,
        flow: Flow[Any, Any],
        run_id: int,
        attempt: int,
        parameters: dict[str, Any],
        *,
        state: tuple[str, str],
        parent: SubflowCall | None = None,
    ) -> None:
        self.session = session
        self.flow = flow
        self.id = run_id
        self.attempt = attempt
        self.parameters = parameters
        self.parent = parent
        self.attempt_began_at_us = now_us()
        self.is_recovered = False
        """Whether what a process that is gone had begun to roll back was looked for."""
        self.name = f"{flow.name}-{run_id}"
        self.lineage = session.lineage
        self.interruption: BaseException | None = None
        self.is_partial = False
        """Its body yielded to a caller who stopped early: what it yielded is no result."""
        self.stop_reason: str | None = parent.run.stop_reason if parent is not None else None
        """Why nothing of this run begins any more, although its process goes on: a flow around it timed out, or it
        was cancelled by itself."""
        self.told_to_end: str | None = None
        self.wake_at_us: int | None = None
        """When its first attempt in this process begins: it had waited for it when its parent was interrupted."""
        """Who cancelled it, or what it is part of, by itself."""
        self.callers: dict[int, int] = {}
        """Of tasks that call others and were called by one themselves: which one."""
        self.timeout_seconds = flow.timeout_seconds
        runner = flow.task_runner
        self.process_runner: ProcessPoolTaskRunner | None = runner if hasattr(runner, "initializer") else None
        """Whose worker processes run what is submitted; a flow that names no runner has its caller's."""
        if runner is None and parent is not None:
            self.process_runner = parent.run.process_runner
        self.state_type, self.state_name = state
        self.outstanding = Outstanding()
        self.retries_made: int | None = 0 if attempt == 1 else None
        """Retries of the present set, also of earlier processes; None when the store has not been asked yet."""
        self.decided: State | None = None
        """How it ends without its code having begun."""
        self.parameter_problem: str | None = None
        """Why the stored parameters cannot be given to the flow; the run then fails with these words."""
        self.state_lock = threading.RLock()
        """Held from a change of state until its write is queued, so that both have the same order."""
        self._lock = threading.Lock()
        self._journal: Journal | None = None
        self._call_counts: dict[int, dict[str, int]] = {}
        self._seqs = itertools.count(1)
        self._begun = time.monotonic()

    # -- identity ------------------------------------------------------------------------------------------------

    def load_journal(self) -> None:
        """Read what earlier attempts recorded; call before user code of a later attempt runs."""
        journal = Journal(self.session, self.id)
        highest = journal.load()
        with self._lock:
            self._journal = journal
            self._call_counts.clear()
            self._seqs = itertools.count(highest + 1)

    def next_call_index(self, scope_seq: int, key: str) -> int:
        """How many calls of ``key`` this scope made before this one."""
        with self._lock:
            counts = self._call_counts.setdefault(scope_seq, {})
            count = counts.get(key, 0)
            counts[key] = count + 1
            return count

    @property
    def has_journal(self) -> bool:
        """Whether calls were recorded before this attempt."""
        return self._journal is not None and not self._journal.is_empty

    def has_scope(self, seq: int) -> bool:
        """Whether an earlier attempt of this task, in this process, called tasks itself."""
        return seq in self._call_counts

    def calls_made(self, seq: int) -> dict[str, int]:
        """How many calls of each key a task has made."""
        with self._lock:
            return dict(self._call_counts.get(seq, {}))

    def reopen_scope(self, seq: int, counts: dict[str, int] | None = None) -> None:
        """A task is tried again: its calls count anew (or on from ``counts``), and find what was recorded before."""
        with self._lock:
            journal = self._journal = self._journal or Journal(self.session, self.id)
        journal.reopen(seq)
        with self._lock:
            self._call_counts.pop(seq, None)
            if counts:
                self._call_counts[seq] = dict(counts)

    def place_of(self, scope_seq: int, key: str, call_index: int) -> tuple[int, bool]:
        """The number of this call, a new one unless an earlier attempt recorded it, and whether one did."""
        seq = self._journal.seq(scope_seq, key, call_index) if self._journal is not None else None
        return (next(self._seqs), False) if seq is None else (seq, True)

    def journalled(self, call: TaskCall | SubflowCall) -> TaskRow | None:
        """What earlier attempts recorded of this call."""
        recorded = self.recorded(call)
        return recorded.row if recorded is not None else None

    def recorded(self, call: TaskCall | SubflowCall) -> Recorded | None:
        """As ``journalled``, with its result if that stands in its row."""
        journal = self._journal
        seq = journal.seq(call.scope_seq, call.key, call.call_index) if journal is not None else None
        return journal.get(seq) if journal is not None and seq is not None else None

    def recall_at_once(self, call: TaskCall) -> State | None:
        """As ``recall`` where the recorded outcome counts; else None, and nothing has been recorded or said."""
        recorded = self._journal.get(call.seq) if self._journal is not None else None
        if recorded is None or recorded.row.state_type != "COMPLETED":
            return None
        if again(recorded.row, call.inputs_hash, call.task.code_hash, keeps_result=call.task.persist_result)[0]:
            return None
        state = self._stored_state(call, recorded)
        return state if isinstance(state, State) else None

    def recall(self, call: TaskCall) -> State | None:
        """The journalled outcome of a finished call; None when it has to run (the log then says why)."""
        recorded = self.recorded(call)
        if recorded is None:
            return None
        row = recorded.row
        if row.state_type == "CANCELLED" and self.session.nodes.is_told_to_end(call):
            text = row.cause or "cancelled"
            return State("CANCELLED", None, text, error=Cancelled(f"task {call.name} ({call.reference}): {text}"))
        decision = self.session.nodes.decided.get((self.id, call.seq)) if self.session.nodes.decided else None
        if decision is not None and row.state_type != "COMPLETED":
            self.session.writer.soon(lambda conn: decision.write(conn, row, self.attempt))
            return decision.state()
        why, level = again(row, call.inputs_hash, call.task.code_hash, keeps_result=call.task.persist_result)
        if why is None:
            state = self._stored_state(call, recorded)
            if isinstance(state, State):
                return state
            why, level = state, 30
        if level:
            self.session.log.task(call, level, f"{call.name} runs again: {why}")
        self._run_again(call, recorded, why)
        return None

    def forget(self, call: TaskCall) -> None:
        """A call that an earlier attempt recorded cannot begin in this one: its record is begun anew all the same."""
        recorded = self.recorded(call)
        if recorded is not None:
            self._run_again(call, recorded, "its upstream did not complete this time")

    def recall_subflow(self, call: SubflowCall) -> State | None:
        """As ``recall``, for a flow called within this run."""
        recorded = self.recorded(call)
        if recorded is None:
            return None
        why, level = again(recorded.row, call.inputs_hash, call.code_hash)
        if why is None:
            state = self._stored_state(call, recorded)
            if isinstance(state, State):
                return state
            why, level = state, 30
        call.why_again = why
        if level:
            self.session.log.task(call, level, f"{call.name} runs again: {why}")
        return None

    def _stored_state(self, call: TaskCall | SubflowCall, recorded: Recorded) -> State | str:
        """The recorded outcome, or why it cannot be used. It was committed before this attempt began."""
        stored = recorded.result or self.session.peek(lambda conn: results.get(conn, self.id, call.seq))
        if stored is None or stored.codec == "none":
            return "its result could not be journalled"
        try:
            value = self.session.results.value(stored)
        except Exception as error:  # noqa: BLE001 - a user class that no longer unpickles
            return f"its recorded result cannot be read: {describe_exception(error)}"
        self.lineage.track(value, (self.id, call.seq))
        return State("COMPLETED", recorded.row.state_name, recorded.row.cause, data=value)

    def _run_again(self, call: TaskCall, recorded: Recorded, why: str) -> None:
        """Record that an earlier attempt's call is made anew, and why."""
        at_us, attempt, row = now_us(), self.attempt, recorded.row
        if self._journal is not None:
            self._journal.keep(recorded)
        call.go_on_from(row)
        pending = call.row()._replace(attempt=row.attempt, run_attempt=attempt)
        from_ = (row.state_type, row.state_name)
        if from_ == ("PENDING", "Pending") and row.run_attempt == attempt:
            return  # a retry has said so already
        self.session.writer.soon(lambda conn: tasks.begin(conn, pending, at_us, "engine", why, from_=from_))

    # -- records -------------------------------------------------------------------------------------------------

    def transition(
        self, event: str, *, cause: str | None = None, actor: str = "engine", **more: Any
    ) -> Callable[[Connection], None]:
        """Move by the table and return the write that records it, guarded by state and attempt."""
        before = (self.state_type, self.state_name)
        target = next_run_state(self.state_type, event)
        self.state_type, self.state_name = target
        run_id, attempt, at_us = self.id, self.attempt, now_us()
        name = more.pop("name", None)
        to = (target.state_type, name or target.state_name)
        self.state_name = to[1]

        def write(conn: Connection) -> None:
            runs.transition(
                conn, run_id, attempt=attempt, from_=None, from_type=before[0], to=to, at_us=at_us, actor=actor,
                cause=cause, **more,
            )

        return write

    def start(self) -> None:
        """Say that the user's code begins; with the first attempt of this process only."""
        with self.state_lock:
            if self.state_type == "PENDING":
                again = self.attempt > 1 and self.session.read(lambda conn: runs.is_tried_again(conn, self.id))
                name = "Retrying" if again else None
                self.session.writer.soon(self.transition("start", started=True, name=name))

    @property
    def duration_us(self) -> int:
        """Time since this process took the run."""
        return int((time.monotonic() - self._begun) * 1e6)

    def is_within(self, other: FlowRun) -> bool:
        """Whether this run is the other, or a subflow of it at any depth."""
        run: FlowRun = self
        while run is not other and run.parent is not None:
            run = run.parent.run
        return run is other

    def check_stopped(self) -> None:
        """Raise Cancelled when nothing of this run may begin any more."""
        if self.stop_reason is not None:
            raise Cancelled(self.stop_reason)

    @property
    def is_root(self) -> bool:
        """Whether the process belongs to this run."""
        return self.parent is None


def flow_steps(run: FlowRun) -> Steps:
    """The life of a flow run from RUNNING to its end; returns its final ``State``, which is durable then."""
    session, flow = run.session, run.flow
    while True:
        attempt_begun = session.gate.running_time()
        try:
            if run.wake_at_us is not None:
                left_us, run.wake_at_us = run.wake_at_us - now_us(), None
                yield Sleep(session, max(0, left_us) / 1e6, run)
            if not session.gate.is_open() or session.gate.is_cancelled:
                yield Pass(session, run)
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
            yield from _await_within_timeout(run, attempt_begun)
            state = _final_state(run, value)
        except (GeneratorExit, Suspended):
            raise
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
            session.gate.check_left(error)
            if isinstance(error, KeyboardInterrupt):
                session.requests.begin_cancel("interrupted from the keyboard (Ctrl-C)")
            session.ending.heed_termination()
            state = _judge(run, error)
            if not session.gate.is_cancelled and not run.outstanding.done():
                try:
                    yield from _await_outstanding(run)
                except Cancelled as cancelled:
                    state = _judge(run, cancelled)
        verdict = _verdict(run, state, session.gate.running_time() - attempt_begun)
        if verdict.kind == "end":
            break
        try:
            if verdict.kind == "hold":
                yield from _hold(run, state)
            yield from _next_attempt(run, state, verdict.delay_seconds)
        except Cancelled as error:
            state = _judge(run, error)
            break
    if session.gate.is_leaving:
        raise Suspended(session.root_id)  # its code swallowed it
    if run.is_root:
        if session.gate.is_cancelled:
            yield EndEverything(session)
        session.capture.settle()
        if state.is_crashed() and session.ending.leaves_end_to_supervisor():
            return state
    try:
        end, state = _end_operation(run, state)
    except KeyboardInterrupt as error:  # while its result was pickled
        session.requests.begin_cancel("interrupted from the keyboard (Ctrl-C)")
        end, state = _end_operation(run, _judge(run, error))
    yield Durable(session, end)
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


def _recover(run: FlowRun) -> Steps:
    """End what a process that is gone had begun to roll back."""
    from ..transactions.rollback import recover

    return recover(run)


def _body(flow: Flow[Any, Any]) -> Callable[..., Any]:
    if not flow.is_generator:
        return flow.fn
    from ..lifecycle.generators import collecting

    return collecting(flow.fn)


def _await_within_timeout(run: FlowRun, begun: float) -> Steps:
    """Wait for what was submitted; the flow's timeout holds for it, too."""
    seconds = run.timeout_seconds
    if run.outstanding.done() or seconds is None:
        yield Await(run.session, run.outstanding)
        return
    running_time = run.session.gate.running_time
    while (left := begun + seconds - running_time()) > 0 and not run.outstanding.done():
        yield Await(run.session, run.outstanding, left)
    if not run.outstanding.done():
        run.interruption = RunTimedOut(f"took longer than {seconds:g} s")
        run.session.timeouts.stop_run(run, f"its flow {run.name} {run.interruption}")
        raise run.interruption


def _await_outstanding(run: FlowRun) -> Steps:
    """Wait for what was submitted; after a timeout of the flow, no longer than the grace."""
    if run.stop_reason is None:
        yield Await(run.session, run.outstanding)
        return
    yield Await(run.session, run.outstanding, cancel_grace_seconds())
    if not run.outstanding.done():
        run.session.pool.abandon_run(run, f"{run.stop_reason}; it did not end within {cancel_grace_seconds():g} s")


def _next_attempt(run: FlowRun, state: State, delay: float) -> Steps:
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
    yield Sleep(session, delay, run)
    lease, attempt = session.lease if run.is_root else None, run.attempt + 1
    with run.state_lock:
        start = run.transition("start", new_attempt=attempt, name="Retrying", cause=text.rpartition("; next in ")[0])

        def begin(conn: Connection) -> None:
            start(conn)
            if lease is not None:
                leases.acquire(conn, lease._replace(attempt=attempt))

        session.writer.soon(begin)
        run.attempt, run.attempt_began_at_us = attempt, now_us()
        run.retries_made = (run.retries_made or 0) + 1
        run.stop_reason = run.parent.run.stop_reason if run.parent is not None else None
    run.outstanding = Outstanding()
    run.load_journal()


def _final_state(run: FlowRun, value: Any) -> State:
    """Prefect's rule: a returned state or states decide; else an unseen failure of a submitted task; else Completed."""
    value = as_state(resolve_futures_to_states(value))
    if issubclass(type(value), State):  # not isinstance: that asks a proxy for its __class__, which may raise
        return value if value.is_final() else State("FAILED", None, f"the flow returned {value!r}, which is not final")
    states = list(value.values()) if type(value) is dict else value
    if type(states) in (list, tuple, set):
        states = [as_state(item) for item in states]
    if type(states) in (list, tuple, set) and states and all(issubclass(type(item), State) for item in states):
        if any(not state.is_final() for state in states):
            return State("FAILED", None, "the flow returned states of which some are not final", data=value)
        together = aggregate(list(states))
        return State(together.type, together.name, together.message, data=value, error=together.error)
    verdict = run.outstanding.verdict()
    return verdict if verdict is not None else State("COMPLETED", data=value)


def _judge(run: FlowRun, error: BaseException) -> State:
    if isinstance(error, Cancelled):
        reason = run.session.ending.reason_to_end()
        if reason is None and run.session.ending.was_terminated:
            return State("CRASHED", None, f"{error}", error=error)
        text = reason or str(error) or run.stop_reason or "cancelled"
        return State("CANCELLED", None, text, error=error if str(error) else Cancelled(text))
    if isinstance(error, RunTimedOut) and run.interruption is not None:
        text = f"took longer than {run.timeout_seconds:g} s" + run.session.timeouts.how_late(run.interruption)
        return State("FAILED", "TimedOut", text, error=RunTimedOut(f"flow {run.flow.name} {text}"))
    if isinstance(error, KeyboardInterrupt):
        return State("CANCELLED", None, "interrupted from the keyboard (Ctrl-C)", error=error)
    if isinstance(error, SystemExit):
        return State("CRASHED", None, f"the flow called {exit_call(error)}", error=error)
    if is_coroutine_cancelled(error):
        if (left := run.session.ending.left_by) is not None:  # asyncio ends everything in its loop after a ``sys.exit``
            return State("CRASHED", None, f"a task called {exit_call(left)}", error=error)
        return State("CANCELLED", None, "its coroutine was cancelled", error=error)
    run.session.log.run_exception(run, error)
    return State("FAILED", None, describe_exception(error), error=error)


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


def _hold(run: FlowRun, state: State) -> Steps:
    """Its retries have run out: the root run is paused until a person says what to do; then it has them all again."""
    session = run.session
    reason = f"flow {run.flow.name} failed in attempt {run.attempt}: {state.message}; {WHAT_HELPS}"
    session.log.run(run, 40, reason)
    yield Durable(session, lambda conn: ask_for_pause(conn, session, reason))
    session.requests.hold(reason)
    yield Pass(session)
    run.retries_made = -1  # the attempt that follows is the first of a new set


_END_EVENTS = {"COMPLETED": "complete", "FAILED": "fail", "CANCELLED": "cancel", "CRASHED": "crash"}


def _end_operation(run: FlowRun, state: State) -> tuple[Callable[[Any], None], State]:
    """The write that ends the run and its place in its parent in one transaction, and the state it then has."""
    with run.state_lock:
        if run.state_type == "CANCELLING":
            text = run.session.requests.cancel_reason or run.told_to_end or state.message or "cancelled"
            error = state.error if isinstance(state.error, Cancelled) else Cancelled(text)
            if run.session.requests.cancel_reason is None and run.told_to_end is not None:
                error = Cancelled(f"subflow {run.flow.name} (#{run.id}): {text}")
            state = State("CANCELLED", None, text, error=error)
        return _end_write(run, state), state


def _end_write(run: FlowRun, state: State) -> Callable[[Any], None]:
    session, parent = run.session, run.parent
    event = "time_out" if state.name == "TimedOut" else _END_EVENTS[state.type]
    resume = None
    if run.state_type == "PAUSED" and event in ("complete", "time_out"):
        resume = run.transition("resume", cause="its code ended while it was paused")
    encoded = codec.encode(state.data) if state.is_completed() and not run.is_partial else None
    stored = session.results.store(run.id, RESULT_SEQ, encoded) if encoded is not None else None
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
    """What a retry was to run again and the flow did not come to: it has no result and waits for nothing."""
    target = next_task_state("PENDING", "skip")
    for row in tasks.unreached(conn, run_id):
        own = attempt if row.run_id == run_id else row.run_attempt
        tasks.transition(
            conn, row.run_id, row.seq, run_attempt=own, from_=(row.state_type, row.state_name), to=target, at_us=at_us,
            actor="engine", cause="the run was to do it again and did not come to it",
        )


def _target_type(run: FlowRun, event: str) -> str:
    return next_run_state(run.state_type, event).state_type


