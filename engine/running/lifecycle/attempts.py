"""Between two attempts of a task: whether there is another, what is recorded of that, and what is waited for.

A failed attempt is followed by another after a delay, by a person's word (``on_exhausted="pause"``), or by the end. A
wait holds no thread unless a direct call has to block its caller. What was waited for when a process ended is waited
for in the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ....store.tables import tasks
from ....store.tables.events import CRASH_DATA, crashes_of_task
from ...authoring.retries import Verdict
from ...errors import WorkerDied
from ...states.state import Cancelled, State, describe_exception
from ...system.clock import now_us
from ..calls.task_call import cancelled_state
from ..effects.effects import Await, Durable, Pass, Sleep, Steps
from .holds import WHAT_HELPS, hold_steps, wait_operation

if TYPE_CHECKING:
    from ....store.connection import Connection
    from ...control.decisions import Decision
    from ..calls.task_call import TaskCall

FIRST_CRASH_DELAY_SECONDS = 0.1
"""Before a task whose worker process died is tried again; doubles with each death."""
LONGEST_CRASH_DELAY_SECONDS = 60.0


def go_on(call: TaskCall) -> Steps[None]:
    """Before the first attempt in this process of a call that an earlier process had begun: wait what is left."""
    session, wake_at_us, call.wake_at_us = call.run.session, call.wake_at_us or 0, None
    if call.attempt and call.task.retry_policy.crash_retries:
        call.crashes = call.uncounted = session.read(lambda conn: crashes_of_task(conn, call.run.id, call.seq))
    at_us = now_us()
    if wake_at_us <= at_us:
        return
    delay = (wake_at_us - at_us) / 1e6
    cause = f"attempt {call.attempt} had failed when the run was interrupted; next in {delay:.3g} s"
    session.writer.soon(wait_operation(call, "await_retry", cause, wake_at_us=wake_at_us))
    yield Sleep(delay, call)


def next_attempt(call: TaskCall, event: str, state: State, tried_seconds: float) -> Steps[tuple[str, State] | None]:
    """After an attempt that did not complete: (event, state) to end with, or None once it is to be tried again.

    ``tried_seconds`` is how long this process has been at it.
    """
    session = call.run.session
    asked = event in ("loop", "pause")  # by a signal of Prefect 1's
    verdict = Verdict("again") if asked else _verdict(call, event, state, tried_seconds)
    if verdict.kind == "end":
        return event, state
    try:
        if asked:
            from .repeats import again_steps

            yield from again_steps(call, event, state)
            if call.state_type == "PAUSED" and (decision := session.nodes.decided.get((call.run.id, call.seq))):
                return "decided", (yield from _decided(call, decision))
        elif verdict.kind == "hold":
            decided = yield from _hold(call, state)
            if decided is not None:
                return "decided", decided
        else:
            _await_retry(call, state, verdict.delay_seconds, is_crash=event == "crash")
            yield Sleep(verdict.delay_seconds, call)
        if call.run.has_scope(call.seq):
            for future in session.pool.submitted_by(call.run, call.seq):
                yield Await(future)
            call.run.reopen_scope(call.seq, call.again.calls if call.again is not None else None)
    except Cancelled as error:
        if call.told_to_end is not None:
            return "cancel", cancelled_state(call, call.told_to_end)
        return "cancel", State("CANCELLED", None, str(error), error=error)
    except KeyboardInterrupt as error:
        session.ending.note_exit(error)
        return "cancel", State("CANCELLED", None, "interrupted from the keyboard", error=error)
    return None


def is_left_waiting(call: TaskCall) -> bool:
    """Whether its wait goes on in the process that resumes the run: then this one records no end of it."""
    return call.state_type in ("SCHEDULED", "PAUSED") and call.run.session.ending.will_be_resumed()


def _verdict(call: TaskCall, event: str, state: State, tried_seconds: float) -> Verdict:
    policy = call.task.retry_policy
    if call.beginning is None:
        return Verdict("end")  # it never came to run
    if event == "crash" and isinstance(state.error, WorkerDied):
        call.uncounted += 1
        if call.crashes < policy.crash_retries:
            call.crashes += 1
            return Verdict("again", min(FIRST_CRASH_DELAY_SECONDS * 2 ** (call.crashes - 1),
                                        LONGEST_CRASH_DELAY_SECONDS))
        return Verdict("hold" if policy.pauses else "end")
    if (seconds := getattr(state.error, "flowdeck_retry_seconds", None)) is not None:
        return Verdict("again", seconds)  # RETRY of Prefect 1
    if not (policy.retries or policy.pauses) or event not in ("fail", "time_out"):
        return Verdict("end")
    error = state.error if isinstance(state.error, Exception) else RuntimeError(state.message or state.name)
    if call.is_replay and call.started_at_us is not None:  # an earlier process began, whose clock is gone
        tried_seconds = max(tried_seconds, (now_us() - call.started_at_us) / 1e6)
    try:
        return policy.verdict(call.attempt - call.uncounted, error, tried_seconds, (call.task, call, state))
    except Exception as broken:  # noqa: BLE001 - the user's condition or delay function
        call.run.session.log.task(
            call, 40, f"{call.name} is not retried: its retry condition raised {describe_exception(broken)}"
        )
        return Verdict("end")


def _await_retry(call: TaskCall, state: State, delay: float, *, is_crash: bool) -> None:
    """Record that the attempt failed and when the next one begins."""
    call.reason = f"attempt {call.attempt} {'crashed' if is_crash else 'failed'}: {state.message}"
    cause = f"{call.reason}; next in {delay:g} s"
    if is_crash:
        cause += f" ({call.crashes} of {call.task.retry_policy.crash_retries} crash retries)"
    waits = wait_operation(
        call, "await_retry", cause, wake_at_us=now_us() + int(delay * 1e6), data=CRASH_DATA if is_crash else None
    )
    call.run.session.writer.soon(waits)
    call.run.session.log.task(call, 30, f"{call.name} {cause}")


def _hold(call: TaskCall, state: State) -> Steps[State | None]:
    """Its retries have run out: the run is paused until a person says what to do; then it has them all again."""
    session, attempt = call.run.session, call.attempt
    tries = f"{attempt} attempts" if attempt > 1 else "its only attempt"
    reason = f"task {call.name} ({call.reference}) failed after {tries}: {state.message}; {WHAT_HELPS}"
    cause = f"attempt {attempt} failed: {state.message}; {WHAT_HELPS}"
    session.log.task(call, 40, f"{call.name}: {cause}")
    yield from hold_steps(session, reason, waits=wait_operation(call, "hold", cause), call=call)
    if (decision := session.nodes.decided.get((call.run.id, call.seq))) is not None:
        return (yield from _decided(call, decision))
    call.uncounted, call.crashes = call.attempt, 0
    call.reason = f"attempt {attempt} failed: {state.message}; a person had it tried again"
    return None


def _decided(call: TaskCall, decision: Decision) -> Steps[State]:
    """A call that waits for a person gets its end; returns the state."""
    run_id, seq, attempt = call.run.id, call.seq, call.run.attempt

    def write(conn: Connection) -> None:
        row = tasks.get(conn, run_id, seq)
        assert row is not None  # it waits by its row
        decision.write(conn, row, attempt)

    state = decision.state()
    yield Durable(write)
    call.move(decision.event)
    try:
        yield Pass(call)  # who called it goes on once the run does
    except Cancelled:
        return state  # recorded as decided; the code around it hears of the cancellation by itself
    except KeyboardInterrupt as error:
        call.run.session.ending.note_exit(error)
    return state
