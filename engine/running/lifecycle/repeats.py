"""A task that runs again without having failed: Prefect 1's loops and pauses, recorded step by step.

How far a loop is and what it goes on from stands in the store before the next turn begins, so that a killed run
continues its loops where they were. A pause is a request like any other; the task goes on once a person resumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ....store.connection import Connection
from ....store.tables import events, results, tasks
from ...encoding import codec
from ...states.state import State
from ...states.transitions import record_task_move
from ...system.clock import now_us
from ..calls.call_parts import Again
from ..effects.effects import Durable, Steps
from .holds import hold_steps, wait_operation

if TYPE_CHECKING:
    from ..calls.task_call import TaskCall

_MARK = "flowdeck loop"
_WAITS = "waits for a person"


def again_steps(call: TaskCall, event: str, state: State) -> Steps[None]:
    """Deal with a LOOP or a PAUSE; the call then runs again."""
    before = call.again or Again()
    if event == "pause":
        yield from pause_steps(call, state.message or "")
        call.again = Again(before.count, before.result, before.calls, resumed=True)
        return
    again = Again((before.count or 1) + 1, state.data, call.run.calls_made(call.seq))
    yield Durable(_turn_operation(call, again, state.message))
    call.again, call.uncounted = again, call.attempt


def _turn_operation(call: TaskCall, again: Again, message: str | None) -> Any:
    """The write that says which turn of its loop a task is at, and what that goes on from."""
    session, beginning = call.run.session, call.beginning
    assert beginning is not None
    encoded = codec.encode([_MARK, again.count, again.result, again.calls])
    if encoded.codec == "none":
        session.log.task(call, 30, f"the loop of {call.name} begins anew after a crash: {encoded.reason}")
    stored = session.results.store(call.run.id, call.seq, encoded)
    from_, to = call.move("loop")
    call.beginning = None
    run_id, seq, run_attempt, attempt, at_us = call.run.id, call.seq, call.run.attempt, call.attempt, now_us()
    text = f"turn {again.count} of its loop" + (f": {message}" if message else "")

    def write(conn: Connection) -> None:
        tasks.record_start(conn, beginning.row, at_us=beginning.at_us, actor="engine")
        record_task_move(
            conn, run_id, seq, run_attempt=run_attempt, from_=from_, to=to, at_us=at_us, actor="engine", message=text,
            attempt=attempt,
        )
        results.put(conn, stored)

    return write


def recall_turn(call: TaskCall) -> None:
    """Go on with the turn that an earlier attempt of the run was at, if this task loops and its inputs are the same."""
    session, recorded = call.run.session, call.run.recorded(call)
    if recorded is None or recorded.row.started_at_us is None:
        return
    if recorded.row.state_type == "COMPLETED" or recorded.row.inputs_hash != call.inputs_hash:
        return
    stored = recorded.result or session.peek(lambda conn: results.get(conn, call.run.id, call.seq))
    if stored is None or stored.codec == "none" or (stored.data is not None and _MARK.encode() not in stored.data):
        return
    try:
        value = codec.decode(stored.codec, session.results.data(stored), stored.checksum)
    except Exception as error:  # noqa: BLE001 - a user class that no longer unpickles
        session.log.task(call, 30, f"the loop of {call.name} begins anew: its record cannot be read: {error}")
        return
    if isinstance(value, list) and len(value) == 4 and value[0] == _MARK:
        call.again = Again(value[1], value[2], value[3])
        call.uncounted = call.attempt
        call.run.reopen_scope(call.seq, call.again.calls)
        session.log.task(call, 20, f"{call.name} goes on with turn {value[1]} of its loop")


def _was_resumed(call: TaskCall) -> bool:
    """Whether a person let this task go on, and the process of then is gone."""
    session = call.run.session
    text = f"({call.reference}) {_WAITS}"
    return session.read(lambda conn: events.was_resumed_after(conn, session.root_id, text))


def pause_steps(call: TaskCall, why: str) -> Steps[None]:
    """Pause the run and wait until a person resumes it."""
    session = call.run.session
    if call.is_replay and (call.again is None or not call.again.resumed) and _was_resumed(call):
        call.again = call.again or Again()
        call.again.resumed = True
        return
    reason = f"task {call.name} ({call.reference}) {_WAITS}: {why}".rstrip(": ")
    session.log.task(call, 30, f"{reason}; `flowdeck resume {session.root_id}` lets it go on")
    waits = wait_operation(call, "hold", why) if call.beginning is not None else None
    yield from hold_steps(session, reason, waits=waits)
    call.again = call.again or Again()
    call.again.resumed = True
    call.uncounted = call.attempt
