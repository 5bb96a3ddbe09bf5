"""How a process leaves a run that goes on later: suspended by its code or a person, or asleep for a long time.

The gate breaks with ``Suspended``, user code unwinds, child processes are ended; then one transaction writes what the
run waits for and advances its attempt, which fences whatever this process might still write. A process that does not
unwind within the grace is ended all the same. Replay continues: finished work is not done again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ....store.connection import Connection
from ....store.errors import StaleState
from ....store.rows import RunRow
from ....store.states import is_terminal
from ....store.tables import events, inputs, runs, supervision
from ...control.questions import first_question, words_of
from ...errors import Suspended
from ...settings import cancel_grace_seconds, suspend_after_seconds
from ...states.asked import done_as_asked
from ...states.machine import RunEvent
from ...states.state import State
from ...states.transitions import move_run, move_task
from ...system.clock import in_words, now_us
from ..effects.interrupts import current_thread_slot

if TYPE_CHECKING:
    from ..calls.flow_run import FlowRun
    from ..calls.frame import Frame
    from .session import Session

_UNWIND_SECONDS: Final = 1.0
"""How long code that waits elsewhere than in the engine may take before it is interrupted."""


_CHILDREN_SECONDS: Final = 1.0
"""Between looks whether what a sleeping run has started still lives."""


class Sleeper(NamedTuple):
    """One durable sleep under way."""

    run: FlowRun
    wake_at_us: Callable[[], int]
    """When it ends, by the clock as it is now."""
    movable: bool
    """Whether the flow function itself sleeps, in its own thread or coroutine: replay comes here again."""
    loop: Any
    """The event loop it sleeps in, if any."""


class Plan(NamedTuple):
    """What leaving records."""

    runs: list[FlowRun]
    """Root first, as they were when it began."""
    wake_at_us: int | None
    """When the run goes on by itself; None when somebody must resume it."""
    cause: str


class Departure:
    """Whether and how the process of one session leaves its run."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._asked_by: str | None = None
        self._since_event: int | None = None
        self._sleepers: set[Sleeper] = set()
        self._begun = 0.0
        self._interrupted = False
        self._look_for_children_at = 0.0
        self.plan: Plan | None = None

    # -- why -----------------------------------------------------------------------------------------------------

    def ask(self, by: str) -> None:
        """Somebody wants the process to end as soon as nothing of the run executes."""
        self._asked_by = by

    def heed(self, connection: Connection) -> None:
        """The run was asked to pause: perhaps to leave, too."""
        if self._since_event is None:
            self._since_event = inputs.claimed_at_event(connection, self._session.root_id)
        if self._asked_by is None:
            self._asked_by = inputs.suspend_asked(connection, self._session.root_id, self._since_event)

    def resumed(self, connection: Connection) -> None:
        """Earlier requests are done with."""
        self._asked_by = None
        self._since_event = events.last_id(connection)

    @contextmanager
    def asleep(self, frame: Frame, wake_at_us: Callable[[], int], loop: Any) -> Iterator[None]:
        """Around a durable sleep."""
        own = frame.task is None and (loop is not None or current_thread_slot() is not None)
        sleeper = Sleeper(frame.run, wake_at_us, own, loop)
        self._sleepers.add(sleeper)
        try:
            yield
        finally:
            self._sleepers.discard(sleeper)

    # -- when ----------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Begin when it is time; see that it comes to an end."""
        session = self._session
        root = session.root
        if self.plan is not None:
            self._urge()
        elif root is None or session.gate.is_cancelled:
            return
        elif self._asked_by is not None and root.state_type == "PAUSED":
            by = "" if self._asked_by == "its code" else f" by {self._asked_by}"
            self._begin(None, f"suspended{by}; resume it to go on by replay")
        elif self._sleepers and (wake_at_us := self._end_of_sleep()) is not None:
            self._begin(wake_at_us, f"asleep until {in_words(wake_at_us)}")

    def _begin(self, wake_at_us: int | None, cause: str) -> None:
        session = self._session
        first = session.questions.first()
        if wake_at_us is None and first is not None and first.json_schema is not None:
            cause = words_of(first)
        self.plan = Plan(list(session.live_runs.values()), wake_at_us, cause)
        self._begun = time.monotonic()
        session.gate.break_off(cause)

    def _urge(self) -> None:
        """Code that waits outside the engine is interrupted; what does not end then ends with the process."""
        waited = time.monotonic() - self._begun
        if waited > _UNWIND_SECONDS and not self._interrupted:
            self._interrupted = True
            self._session.activations.interrupt_all(Suspended(self.plan.cause if self.plan is not None else ""))
        elif waited > _UNWIND_SECONDS + cancel_grace_seconds():
            from ...states.exits import SUSPENDED_EXIT

            record(self._session)
            os._exit(SUSPENDED_EXIT)

    def _end_of_sleep(self) -> int | None:
        """When the run goes on, if all of it sleeps for long and may leave; else None.

        Each frame of a run that sleeps waits once, and each that called a subflow once for it: any wait more is for
        something else, which must not be dropped.
        """
        session, sleepers = self._session, list(self._sleepers)
        wake_at_us = min((sleeper.wake_at_us() for sleeper in sleepers), default=0)
        live = list(session.live_runs.values())
        leaves = (
            session.ending.is_resumable
            and wake_at_us - now_us() > suspend_after_seconds() * 1e6
            and all(sleeper.movable for sleeper in sleepers)
            and session.gate.is_open()
            and session.gate.busy == 0
            and session.gate.waits == len(sleepers) + len(live) - 1
            and not session.pool.has_calls
            # The time a flow may take is counted by its process.
            and not any(run.timeout_seconds for run in live)
            and not _others(sleepers, live)
            and not self._has_children()
        )
        return wake_at_us if leaves else None

    def _has_children(self) -> bool:
        """Whether programs go on beside the sleep. A look goes through all processes of the machine: now and then."""
        if (now := time.monotonic()) < self._look_for_children_at:
            return True
        started, found = now, bool(self._session.ending.children())
        if found:
            now = time.monotonic()
            self._look_for_children_at = now + max(_CHILDREN_SECONDS, 200 * (now - started))
        return found


def _others(sleepers: list[Sleeper], live: list[FlowRun]) -> bool:
    """Whether threads or coroutines of the user's own go on beside the sleep."""
    if any(not thread.daemon and thread is not threading.main_thread() for thread in threading.enumerate()):
        return True
    loops = {sleeper.loop for sleeper in sleepers if sleeper.loop is not None}
    if not loops:
        return False
    import asyncio

    own = 1 + sum(run.flow.is_async for run in live)
    return any(len(asyncio.all_tasks(loop)) > own for loop in loops)


def record(session: Session) -> State:
    """Write that the run goes on later; returns its state. Once written nothing else of this process is kept."""
    session.ending.end_processes()
    session.beginnings.write()
    plan = session.departure.plan
    assert plan is not None
    state: State = session.writer.commit(lambda conn: _write(conn, plan))
    return state


def _write(conn: Connection, plan: Plan) -> State:
    """What was asked meanwhile counts: a cancellation ends the run here, a resume queues it."""
    root, at_us = plan.runs[0], now_us()
    row = runs.get(conn, root.id)
    if row is None or row.attempt != root.attempt:
        raise StaleState(f"run #{root.id} is not at attempt {root.attempt} any more")
    cancelled = row.intent == "cancel"
    for run in reversed(plan.runs):
        known = row if run is root else runs.get(conn, run.id)
        if known is None or is_terminal(known.state_type):
            continue
        _leave_tasks(conn, run, at_us, cancelled=cancelled)
        if run is not root:
            _move(conn, run, known, "cancel" if cancelled else "suspend", plan.cause, at_us)
    if cancelled:
        return _move(conn, root, row, "cancel", done_as_asked(conn, root.id, "cancel"), at_us)
    if plan.wake_at_us is not None:
        if row.intent == "pause":
            return _move(conn, root, row, "pause", done_as_asked(conn, root.id, "pause"), at_us, again=True)
        return _move(conn, root, row, "sleep", plan.cause, at_us, again=True, wake_at_us=plan.wake_at_us)
    return _write_suspended(conn, plan, row, at_us)


def _write_suspended(conn: Connection, plan: Plan, row: RunRow, at_us: int) -> State:
    from ...control.answering import until_us

    root = plan.runs[0]
    first = first_question(inputs.open_requests(conn, root.id))
    wants_input = first is not None and first.json_schema is not None
    state = _move(
        conn, root, row, "await_input" if wants_input else "suspend", plan.cause, at_us, again=True,
        wake_at_us=until_us(conn, root.id),
    )
    if row.intent != "none":
        return state
    left = runs.get(conn, root.id)
    assert left is not None
    queued = move_run(conn, left, "requeue", at_us=at_us, actor="engine", wake_at_us=at_us)
    return State(queued.state_type, queued.state_name, "resumed")


def _leave_tasks(conn: Connection, run: FlowRun, at_us: int, *, cancelled: bool) -> None:
    for task in supervision.live_tasks(conn, run.id):
        if task.state_type == "PENDING" and not cancelled:
            continue
        move_task(
            conn, task, "cancel" if cancelled else "run_again", run_attempt=run.attempt, at_us=at_us, actor="engine",
            cause="its run was cancelled" if cancelled else "begins anew when its run goes on",
            wake_at_us=None if cancelled else task.wake_at_us,
        )


def _move(
    conn: Connection, run: FlowRun, row: RunRow, event: RunEvent, cause: str, at_us: int, *, again: bool = False,
    wake_at_us: int | None = None,
) -> State:
    moved = move_run(
        conn, row, event, at_us=at_us, actor="engine", cause=cause, intent="none" if run.is_root else None,
        wake_at_us=wake_at_us, new_attempt=row.attempt + 1 if again else None, ended_duration_us=run.duration_us,
    )
    return State(moved.state_type, moved.state_name, cause)
