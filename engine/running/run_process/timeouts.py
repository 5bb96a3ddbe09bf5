"""What follows when a task's or a flow's time is up: its calls end with it, and code that does not listen is told of.

A timeout interrupts the code itself (``interrupts``). Here: what a task called or submitted hears it, too, and code
that goes on all the same, because it is inside C code or swallows the exception, is *overdue*: its row and its log
say so while it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ....store.tables import runs, tasks
from ...errors import RunTimedOut
from ...states.state import Cancelled
from ...states.transitions import retell_run, retell_task
from ...system.clock import now_us
from ..effects.interrupts import ProcessSlot, Slot
from .timers import TICK_SECONDS, Timer

if TYPE_CHECKING:
    from ....store.connection import Connection
    from ..calls.flow_run import FlowRun
    from ..effects.host import Owner, Subject
    from .session import Session

FIRST_LOOK_SECONDS: Final = 1.0
"""How long after its deadline code is overdue."""
_LOOKS_SECONDS: Final = (1.0, 3.0, 10.0, 30.0, 60.0)
"""At these ages the row is told anew; then every minute."""


class Active:
    """Code whose time runs, where it runs, and the timer that is kept for it until it has ended."""

    __slots__ = ("_timer", "is_running", "owner", "slot")

    def __init__(self, owner: Owner, slot: Slot) -> None:
        self.owner = owner
        self.slot = slot
        self.is_running = True
        self._timer: Timer | None = None

    def wait_on(self, timer: Timer) -> None:
        """The next thing to come of it, by the clock."""
        self._timer = timer
        if not self.is_running:  # it ended in this moment
            timer.cancel()

    def end(self) -> None:
        """The code has ended: its timer goes now, and holds nothing of it until its time."""
        self.is_running = False
        if self._timer is not None:
            self._timer.cancel()


class Timeouts:
    """The timeouts of one root run; time in which it was paused counts for none."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def start(self, owner: Owner, slot: Slot, seconds: float) -> Active:
        """Have code interrupted when its time is up; what this gives is to be told when the code has ended."""
        active = Active(owner, slot)
        gate, timers = self._session.gate, self._session.timers
        held = gate.held_seconds

        def expire() -> None:
            nonlocal held
            held, owed = gate.held_seconds, gate.held_seconds - held
            if owed > 0:
                active.wait_on(timers.after(max(owed, TICK_SECONDS), expire))
                return
            if active.is_running:
                error = RunTimedOut(f"took longer than {seconds:g} s")
                self._interrupt(owner, slot, error)
                self._watch_overdue(active, error)

        active.wait_on(timers.after(seconds, expire))
        return active

    def stop_run(self, run: FlowRun, reason: str) -> None:
        """Make the tasks and subflows of one run end; those that have not begun do not begin."""
        session = self._session
        stopped = [live for live in list(session.live_runs.values()) if live.is_within(run)]
        for live in stopped:
            live.stop_reason = reason
        for slot, owner in session.activations.running():
            if owner is not run and owner.run in stopped:
                slot.interrupt(Cancelled(reason))
        session.pool.abandon_waiting(stopped, reason)

    def how_late(self, error: BaseException | None) -> str:
        """What to add to the cause of a timeout whose code went on."""
        since = error.__dict__.get("overdue_since") if error is not None else None
        return "" if since is None else f"; its code went on for {self._session.gate.running_time() - since:.0f} s"

    def _interrupt(self, late: Owner, slot: Slot, error: RunTimedOut) -> None:
        late.interruption = error
        if late.seq is None:
            slot.interrupt(error)
            self.stop_run(late.run, f"its flow {late.name} {error}")
        else:
            self._interrupt_task(late, slot, error)

    def _interrupt_task(self, task: Owner, slot: Slot, error: RunTimedOut) -> None:
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

    def _watch_overdue(self, active: Active, error: RunTimedOut) -> None:
        """From its deadline on, say of code that does not stop that it is overdue."""
        session = self._session
        asked_at = session.gate.running_time()

        def look() -> None:
            if not active.is_running or isinstance(active.slot, ProcessSlot):
                return
            owner = active.owner
            seconds = session.gate.running_time() - asked_at
            text = (
                f"overdue: asked to stop {seconds:.0f} s ago, its code does not yield; "
                'isolation="process" would be killed'
            )
            error.__dict__["overdue_since"] = asked_at
            session.log.line(owner.run.id, owner.seq, 30, text)
            session.writer.soon(_retold(owner, text))
            next_seconds = next((age - seconds for age in _LOOKS_SECONDS if age > seconds + 0.5), 60.0)
            active.wait_on(session.timers.after(next_seconds, look))

        active.wait_on(session.timers.after(FIRST_LOOK_SECONDS, look))


def is_below(subject: Subject, task: Subject) -> bool:
    """Whether a call or a run came about within a task."""
    place: Subject | None = subject
    while place is not None:
        run, scope = place.run, place.scope_seq
        while scope:
            if run is task.run and scope == task.seq:
                return True
            scope = run.callers.get(scope, 0)
        place = run.parent
    return False


def _retold(owner: Owner, text: str) -> Callable[[Connection], None]:
    """The write that says so in its row, if that still stands as it was."""
    run_id, seq, attempt = owner.run.id, owner.seq, owner.attempt

    def write(conn: Connection) -> None:
        if seq is None:
            run = runs.get(conn, run_id)
            if run is not None and run.state_type == "RUNNING" and run.attempt == attempt:
                retell_run(conn, run, text, at_us=now_us(), actor="engine")
            return
        task = tasks.get(conn, run_id, seq)
        if task is not None and task.state_type == "RUNNING" and task.attempt == attempt:
            retell_task(conn, task, text, at_us=now_us(), actor="engine")

    return write
