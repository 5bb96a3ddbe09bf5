"""What follows when a task's or a flow's time is up: its calls end with it, and code that does not listen is told of.

A timeout interrupts the code itself (``interrupts``). Here: what a task called or submitted hears it, too, and code
that goes on all the same, because it is inside C code or swallows the exception, is *overdue*: its row and its log
say so while it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ....store.tables import runs, tasks
from ...states.state import Cancelled
from ...system.clock import now_us
from ..effects.interrupts import ProcessSlot, Slot
from .node_requests import note

if TYPE_CHECKING:
    from ....store.connection import Connection
    from ..calls.task_call import TaskCall
    from .session import Session

FIRST_LOOK_SECONDS: Final = 1.0
"""How long after its deadline code is overdue."""
_LOOKS_SECONDS: Final = (1.0, 3.0, 10.0, 30.0, 60.0)
"""At these ages the row is told anew; then every minute."""


def interrupt_task(session: Session, task: TaskCall, slot: Slot, error: BaseException) -> None:
    """Interrupt a task's code, and make everything end that this attempt called or submitted, at any depth."""
    reason = f"its caller {task.name} {error}"
    below = [(place, owner) for place, owner in session.activations() if owner is not task and is_below(owner, task)]
    for _, owner in below:
        note(owner, reason)  # first: a coroutine hears of its caller's end through its own await
    slot.interrupt(error)
    for place, _ in below:
        place.interrupt(Cancelled(reason))
    for call in session.pool.waiting_calls():
        if is_below(call, task):
            note(call, reason)
            call.left_behind = reason
            if call.is_replay:
                call.run.forget(call)
            session.pool.leave_behind(call, reason)


def is_below(subject: Any, task: TaskCall) -> bool:
    """Whether a call or a run came about within a task."""
    run, scope = (subject.run, subject.scope_seq) if hasattr(subject, "seq") else (subject, 0)
    while True:
        while scope:
            if run is task.run and scope == task.seq:
                return True
            scope = run.callers.get(scope, 0)
        if run.parent is None:
            return False
        run, scope = run.parent.run, run.parent.scope_seq


def watch_overdue(session: Session, active: list[Any]) -> None:
    """From its deadline on, say of code that does not stop that it is overdue; ``active`` is emptied when it ends."""
    asked_at = session.gate.running_time()

    def look() -> None:
        if not active or isinstance(active[1], ProcessSlot):
            return
        owner = active[0]
        seconds = session.gate.running_time() - asked_at
        text = (
            f"overdue: asked to stop {seconds:.0f} s ago, its code does not yield; "
            'isolation="process" would be killed'
        )
        owner.interruption.__dict__["overdue_since"] = asked_at
        if getattr(owner, "seq", None) is None:
            session.run_log(owner, 30, text)
            session.writer.soon(lambda conn: _tell_of_run(conn, owner.id, owner.attempt, text))
        else:
            session.task_log(owner, 30, text)
            session.writer.soon(lambda conn: _tell_of_task(conn, owner.run.id, owner.seq, owner.attempt, text))
        session.after(next((age - seconds for age in _LOOKS_SECONDS if age > seconds + 0.5), 60.0), look)

    session.after(FIRST_LOOK_SECONDS, look)


def how_late(session: Session, error: BaseException | None) -> str:
    """What to add to the cause of a timeout whose code went on."""
    since = error.__dict__.get("overdue_since") if error is not None else None
    return "" if since is None else f"; its code went on for {session.gate.running_time() - since:.0f} s"


def _tell_of_task(conn: Connection, run_id: int, seq: int, attempt: int, text: str) -> None:
    row = tasks.get(conn, run_id, seq)
    if row is not None and row.state_type == "RUNNING" and row.attempt == attempt:
        state = (row.state_type, row.state_name)
        tasks.transition(
            conn, run_id, seq, run_attempt=row.run_attempt, from_=state, to=state, at_us=now_us(), actor="engine",
            cause=text,
        )  # fmt: skip


def _tell_of_run(conn: Connection, run_id: int, attempt: int, text: str) -> None:
    row = runs.get(conn, run_id)
    if row is not None and row.state_type == "RUNNING" and row.attempt == attempt:
        state = (row.state_type, row.state_name)
        runs.transition(
            conn, run_id, attempt=attempt, from_=state, to=state, at_us=now_us(), actor="engine", cause=text,
        )  # fmt: skip
