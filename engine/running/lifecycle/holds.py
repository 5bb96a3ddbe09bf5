"""What waits for a time or a person: the write that says so of a task, and the run's pause until somebody resumes it.

A pause that code of the run asks for is a request like a person's: it is in the store before anything waits for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ....store.tables import runs, tasks
from ...states.transitions import record_task_move
from ...system.clock import now_us
from ..effects.effects import Durable, Operation, Pass, Steps

if TYPE_CHECKING:
    from ....store.connection import Connection
    from ..calls.task_call import TaskCall
    from ..run_process.session import Session

WHAT_HELPS = "held for a person: resume tries it again, cancel ends the run"


def wait_operation(
    call: TaskCall, event: str, cause: str, *, wake_at_us: int | None = None, data: str | None = None
) -> Operation:
    """The write that says that a task waits, and for what; an attempt that began is recorded, its slots are given back.

    The call is moved by ``event`` here and now.
    """
    beginning, (from_, to) = call.beginning, call.move(event)
    run_id, seq, run_attempt, attempt, at_us = call.run.id, call.seq, call.run.attempt, call.attempt, now_us()
    slots, call.slots, call.beginning = call.slots, None, None

    def write(conn: Connection) -> None:
        if beginning is not None:
            tasks.record_start(conn, beginning.row, at_us=beginning.at_us, actor="engine")
        record_task_move(
            conn, run_id, seq, run_attempt=run_attempt, from_=from_, to=to, at_us=at_us, actor="engine", cause=cause,
            attempt=attempt, wake_at_us=wake_at_us, data=data,
        )
        if slots is not None:
            slots.give_back(conn)

    return write


def hold_steps(
    session: Session, reason: str, *, waits: Operation | None = None, call: TaskCall | None = None
) -> Steps[None]:
    """Pause the run, for ``reason``, and wait until a person lets it go on, or until ``call`` is told to end.

    ``waits`` is written in the same transaction.
    """

    def write(conn: Connection) -> None:
        if waits is not None:
            waits(conn)
        _ask_for_pause(conn, session, reason)

    yield Durable(write)
    session.requests.hold(reason)
    yield Pass(call)


def _ask_for_pause(conn: Connection, session: Session, reason: str) -> None:
    """Note that the run itself asks for the pause, unless something else was asked of it."""
    found: Any = runs.intent_of(conn, session.root_id)
    if found is not None and found[2] == "none":
        runs.set_intent(conn, session.root_id, "pause", at_us=now_us(), actor="engine", message=reason)
