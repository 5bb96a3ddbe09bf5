"""What follows when a task's or a flow's time is up: its calls end with it, and code that does not listen is told of.

A timeout interrupts the code itself (``interrupts``). Here: what a task called or submitted hears it, too, and code
that goes on all the same, because it is inside C code or swallows the exception, is *overdue*: its row and its log
say so while it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ....store.tables import runs, tasks
from ...errors import RunTimedOut
from ...states.state import Cancelled
from ...states.transitions import retell_run, retell_task
from ...system.clock import now_us
from ..effects.interrupts import ProcessSlot, Slot
from .timers import TICK_SECONDS

if TYPE_CHECKING:
    from ....store.connection import Connection
    from ..calls.flow_run import FlowRun
    from ..calls.task_call import TaskCall
    from .session import Session

FIRST_LOOK_SECONDS: Final = 1.0
"""How long after its deadline code is overdue."""
_LOOKS_SECONDS: Final = (1.0, 3.0, 10.0, 30.0, 60.0)
"""At these ages the row is told anew; then every minute."""


class Timeouts:
    """The timeouts of one root run; time in which it was paused counts for none."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def start(self, owner: Any, slot: Slot) -> list[Any]:
        """Have a call or a run interrupted when its time is up; the list is to be emptied when its code has ended."""
        # The timer itself stays until its time and must not hold the call.
        active = [owner, slot]
        gate, timers = self._session.gate, self._session.timers
        held = gate.held_seconds

        def expire() -> None:
            nonlocal held
            held, owed = gate.held_seconds, gate.held_seconds - held
            if active and owed > 0:
                timers.after(max(owed, TICK_SECONDS), expire)
                return
            for late, its_slot in (tuple(active),) if active else ():
                self._interrupt(late, its_slot)
                self._watch_overdue(active)

        timers.after(owner.timeout_seconds, expire)
        return active

    def stop_run(self, run: FlowRun, reason: str) -> None:
        """Make the tasks and subflows of one run end; those that have not begun do not begin."""
        session = self._session
        stopped = [live for live in list(session.live_runs.values()) if live.is_within(run)]
        for live in stopped:
            live.stop_reason = reason
        for slot, owner in session.activations.running():
            if owner is not run and getattr(owner, "run", owner) in stopped:
                slot.interrupt(Cancelled(reason))
        session.pool.abandon_waiting(stopped, reason)

    def how_late(self, error: BaseException | None) -> str:
        """What to add to the cause of a timeout whose code went on."""
        since = error.__dict__.get("overdue_since") if error is not None else None
        return "" if since is None else f"; its code went on for {self._session.gate.running_time() - since:.0f} s"

    def _interrupt(self, late: Any, slot: Slot) -> None:
        error = RunTimedOut(f"took longer than {late.timeout_seconds:g} s")
        late.interruption = error
        if late is getattr(late, "run", late):
            slot.interrupt(error)
            self.stop_run(late, f"its flow {late.name} {error}")
        else:
            self._interrupt_task(late, slot, error)

    def _interrupt_task(self, task: TaskCall, slot: Slot, error: BaseException) -> None:
        """Interrupt a task's code, and make everything end that this attempt called or submitted, at any depth."""
        activations, pool = self._session.activations, self._session.pool
        reason = f"its caller {task.name} {error}"
        below = [(at, owner) for at, owner in activations.running() if owner is not task and is_below(owner, task)]
        for _, owner in below:
            owner.tell_to_end(reason)  # first: a coroutine hears of its caller's end through its own await
        slot.interrupt(error)
        for at, _ in below:
            at.interrupt(Cancelled(reason))
        for call in pool.waiting_calls():
            if is_below(call, task):
                call.tell_to_end(reason)
                call.left_behind = reason
                if call.is_replay:
                    call.run.forget(call)
                pool.leave_behind(call, reason)

    def _watch_overdue(self, active: list[Any]) -> None:
        """From its deadline on, say of code that does not stop that it is overdue."""
        session = self._session
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
                session.log.run(owner, 30, text)
                session.writer.soon(lambda conn: _tell_of_run(conn, owner.id, owner.attempt, text))
            else:
                session.log.task(owner, 30, text)
                session.writer.soon(lambda conn: _tell_of_task(conn, owner.run.id, owner.seq, owner.attempt, text))
            session.timers.after(next((age - seconds for age in _LOOKS_SECONDS if age > seconds + 0.5), 60.0), look)

        session.timers.after(FIRST_LOOK_SECONDS, look)


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


def _tell_of_task(conn: Connection, run_id: int, seq: int, attempt: int, text: str) -> None:
    row = tasks.get(conn, run_id, seq)
    if row is not None and row.state_type == "RUNNING" and row.attempt == attempt:
        retell_task(conn, row, text, at_us=now_us(), actor="engine")


def _tell_of_run(conn: Connection, run_id: int, attempt: int, text: str) -> None:
    row = runs.get(conn, run_id)
    if row is not None and row.state_type == "RUNNING" and row.attempt == attempt:
        retell_run(conn, row, text, at_us=now_us(), actor="engine")
