"""Watching run processes: each death is seen at once, and every cancellation is carried through.

The supervisor holds a pidfd for the process of every lease, whoever started it. A process that ends without having
ended its run is settled (``reaping``). A run that was asked to cancel gets its grace, then TERM, then KILL to its
process group, and whatever it left behind is killed; only then is it CANCELLED.

It reads no clock: it is told ``now``, keeps what is to be done later by its monotonic half, and does it in ``tick``.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import os
import signal
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from ...store import spool
from ...store.connection import Connection, transaction
from ...store.rows import LeaseRow, RunRow
from ...store.states import is_terminal
from ...store.tables import leases, runs, supervision
from ..control import reaping
from ..control.reaping import Settled, reap_dead_runs
from ..errors import NotAllowed, StaleState
from ..settings import cancel_grace_seconds
from ..states import exits as deaths
from ..states.asked import done_as_asked
from ..states.machine import RunEvent
from ..states.transitions import move_run
from ..system import processes
from ..system.clock import Now

__all__ = ["Settled", "Supervisor", "reap_dead_runs"]

RECORD_SECONDS: Final = 0.25
"""How long the code host may take to write down how a process ended."""
CRASHED: Final = frozenset({"Crashed", "OutOfMemory", "Rebooted"})
TERM_SECONDS: Final = 2.0
"""Between TERM and KILL."""
MARGIN_SECONDS: Final = 0.25
_POLL_SECONDS: Final = 0.1
"""Where there is no pidfd."""
_RECORD_LOOK_SECONDS: Final = 0.005


class Descriptors(Protocol):
    """Whoever says when a descriptor becomes readable: the daemon's loop, or what stands in for it."""

    def watch(self, descriptor: int, ready: Callable[[], None]) -> None:
        """Call back whenever the descriptor is readable."""

    def forget(self, descriptor: int) -> None:
        """Watch it no more."""


class Watched:
    """The process of one lease."""

    def __init__(self, lease: LeaseRow, pidfd: int | None) -> None:
        self.lease = lease
        self.pidfd = pidfd
        self.ended = False
        self.enforcing = False

    @property
    def identity(self) -> tuple[str, int, int]:
        """What names the process for ever."""
        return self.lease.boot_id, self.lease.pid, self.lease.pid_started_ticks


class Supervisor:
    """The daemon's eyes on run processes."""

    def __init__(self, folder: str, state: Connection, telemetry: Connection, loop: Descriptors,
                 say: Callable[[str], None], crash_retries: Callable[[str], int | None]) -> None:
        self._folder = folder
        self._state = state
        self._telemetry = telemetry
        self._loop = loop
        self._say = say
        self._crash_retries = crash_retries
        self._watched: dict[int, Watched] = {}
        self._ended: deque[Watched] = deque()
        """Whose processes are gone, and what becomes of the run is not decided yet."""
        self._steps: list[tuple[float, int, Callable[[Now], None]]] = []
        """What is to be done at an instant of the monotonic clock: a heap."""
        self._numbers = itertools.count()
        self.on_process_ended: Callable[[int, Now], None] = lambda _run_id, _now: None
        """Called with the run whose process is gone, settled or not."""
        self.on_crashed: Callable[[int], None] = lambda _run_id: None
        """Called with a run that crashed and is not resumed."""

    # -- time ----------------------------------------------------------------------------------------------------

    def tick(self, now: Now) -> None:
        """Settle runs whose processes have ended, and do what is due."""
        while True:
            if self._ended:
                self._begin_to_settle(self._ended.popleft(), now)
            elif self._steps and self._steps[0][0] <= now.monotonic:
                heapq.heappop(self._steps)[2](now)
            else:
                return

    def next_step_at(self) -> float | None:
        """When ``tick`` has something to do, by the monotonic clock; None when nothing is waited for."""
        if self._ended:
            return 0.0
        return self._steps[0][0] if self._steps else None

    def _after(self, seconds: float, now: Now, step: Callable[[Now], None]) -> None:
        heapq.heappush(self._steps, (now.monotonic + seconds, next(self._numbers), step))

    # -- watching ------------------------------------------------------------------------------------------------

    def adopt(self, now: Now) -> None:
        """At the daemon's start: watch what lives, settle what does not, clear what was left lying."""
        for run_id in deaths.recorded_runs(self._folder):
            run = runs.get(self._state, run_id)
            if run is None or is_terminal(run.state_type):
                deaths.forget_exits(self._folder, run_id)
        self.look(now)
        self.look_for_orphans(now)
        self._clear_spools()
        for run_id in self._watched:
            self._say(f"run #{run_id}: adopted its process {self._watched[run_id].lease.pid}")

    def look(self, now: Now) -> None:
        """Watch the process of every lease that is not watched yet; settle those whose process is gone already."""
        for lease in leases.all(self._state):
            if lease.run_id is None:
                continue
            known = self._watched.get(lease.run_id)
            if known is None or known.identity != (lease.boot_id, lease.pid, lease.pid_started_ticks):
                self._watch(lease, now)
            else:
                known.lease = lease
        self.tick(now)

    def look_for_orphans(self, now: Now) -> None:
        """Settle runs that claim to run although nobody holds their lease."""
        for settled in reaping.reap_without_process(self._state, self._telemetry, self._folder, now.us):
            if settled is not None:
                self._report(settled, now)
                self.on_process_ended(settled.run_id, now)

    def is_watched(self, run_id: int) -> bool:
        """Whether a live process has the run, as far as is known."""
        return run_id in self._watched and not self._watched[run_id].ended

    def adopted(self) -> list[LeaseRow]:
        """The leases whose processes are watched."""
        return [watched.lease for watched in self._watched.values()]

    def _watch(self, lease: LeaseRow, now: Now) -> None:
        assert lease.run_id is not None
        run_id = lease.run_id
        old = self._watched.pop(run_id, None)
        if old is not None:
            self._let_go(old)
        pidfd: int | None = None
        if lease.boot_id == leases.boot_id():
            try:
                pidfd = processes.open_pidfd(lease.pid, lease.pid_started_ticks)
            except OSError as error:
                if error.errno != errno.ENOSYS:
                    raise
                if leases.is_alive(lease):
                    watched = self._watched[run_id] = Watched(lease, None)
                    self._after(_POLL_SECONDS, now, partial(self._poll, watched))
                    return
        watched = self._watched[run_id] = Watched(lease, pidfd)
        if pidfd is None:
            self._process_ended(watched)
        else:
            self._loop.watch(pidfd, partial(self._process_ended, watched))

    def _poll(self, watched: Watched, now: Now) -> None:
        """Stands in for the pidfd where the kernel has none."""
        if watched.ended:
            return
        if leases.is_alive(watched.lease):
            self._after(_POLL_SECONDS, now, partial(self._poll, watched))
        else:
            self._process_ended(watched)

    def _let_go(self, watched: Watched) -> None:
        watched.ended = True
        if watched.pidfd is not None:
            self._loop.forget(watched.pidfd)
            os.close(watched.pidfd)
            watched.pidfd = None

    # -- deaths --------------------------------------------------------------------------------------------------

    def _process_ended(self, watched: Watched) -> None:
        """The kernel says it; what becomes of the run is decided at the next ``tick``."""
        self._let_go(watched)
        self._ended.append(watched)

    def _begin_to_settle(self, watched: Watched, now: Now) -> None:
        """The process is gone; its host may need a moment to write down how."""
        lease = watched.lease
        deadline = now.monotonic + RECORD_SECONDS
        host_may_tell = lease.boot_id == leases.boot_id() and bool(reaping.lease_info(lease).get("resumable"))

        def settle(now: Now) -> None:
            assert lease.run_id is not None
            if self._watched.get(lease.run_id) is not watched:
                return
            told = deaths.read_exit(self._folder, lease.run_id, lease.pid) is not None
            if host_may_tell and not told and now.monotonic < deadline:
                self._after(_RECORD_LOOK_SECONDS, now, settle)
                return
            del self._watched[lease.run_id]
            self._settle(lease, now)

        settle(now)

    def _settle(self, lease: LeaseRow, now: Now) -> None:
        assert lease.run_id is not None
        run = runs.get(self._state, lease.run_id)
        try:
            if run is None or leases.of_run(self._state, lease.run_id) is None:
                self._clean_up(lease, run)
                return
            settled = reaping.reap(self._state, self._telemetry, self._folder, lease, now.us,
                                   self._crash_retries(run.flow_name))
            if settled is not None:
                self._report(settled, now)
        finally:
            self.on_process_ended(lease.run_id, now)

    def _clean_up(self, lease: LeaseRow, run: RunRow | None) -> None:
        """The run had ended by itself: only crumbs are left."""
        assert lease.run_id is not None
        deaths.forget_exits(self._folder, lease.run_id)
        if run is not None and run.state_type == "CANCELLED":
            reaping.kill_leftovers(self._folder, lease)
        reaping.drain(self._folder, self._telemetry, lease.run_id)

    def host_says_ended(self, run_id: int, attempt: int, pid: int, now: Now) -> None:
        """A run process was reaped by its host. Matters when it died before it had taken its lease."""
        if run_id in self._watched:
            return
        self.look(now)
        run = runs.get(self._state, run_id)
        if run_id in self._watched or run is None:
            return
        if run.state_type != "PENDING" or run.attempt != attempt or leases.of_run(self._state, run_id) is not None:
            if is_terminal(run.state_type):
                deaths.forget_exits(self._folder, run_id)
            return
        fate = reaping.fate_of_process(self._folder, run_id, pid)
        reaping.drain(self._folder, self._telemetry, run_id)
        retries = self._crash_retries(run.flow_name)
        settled = reaping.settle(self._state, run_id, fate, at_us=now.us, resumable=True,
                                 crash_retries=reaping.DEFAULT_CRASH_RETRIES if retries is None else retries,
                                 attempt=attempt)
        deaths.forget_exits(self._folder, run_id)
        if settled is not None:
            self._report(settled, now)

    def _report(self, settled: Settled, now: Now) -> None:
        again = ""
        if settled.resumes_at_us is not None:
            again = f"; goes on in {max(0, settled.resumes_at_us - now.us) / 1e6:.1f} s"
        self._say(f"run #{settled.run_id}: {settled.state_name}: {settled.cause}{again}")
        if settled.resumes_at_us is None and settled.state_name in CRASHED:
            self.on_crashed(settled.run_id)

    def _clear_spools(self) -> None:
        """Output of runs that ended while no daemon was there."""
        for root_id, attempt, _ in spool.leftovers(self._folder):
            if self.is_watched(root_id):
                continue
            run = runs.get(self._state, root_id)
            if run is not None and (is_terminal(run.state_type) or run.attempt > attempt):
                spool.drain(self._folder, self._telemetry, root_id, attempt, final=True)

    # -- requests ------------------------------------------------------------------------------------------------

    def obey(self, now: Now) -> None:
        """See that what was asked of runs happens, also where no process is left to do it."""
        for run in supervision.asked(self._state):
            watched = self._watched.get(run.id)
            if watched is not None:
                if run.intent == "cancel" and not watched.enforcing:
                    self._enforce_cancel(watched, now)
            elif run.state_type == "SCHEDULED":
                self._obey_without_process(run, now)

    def _obey_without_process(self, run: RunRow, now: Now) -> None:
        """The request met the run while nothing of it lived."""
        if leases.of_run(self._state, run.id) is not None:
            return
        event: RunEvent = "cancel" if run.intent == "cancel" else "pause"
        cause = done_as_asked(self._state, run.id, event)
        try:
            with transaction(self._state):
                moved = move_run(self._state, run, event, at_us=now.us, actor=reaping.ACTOR, cause=cause,
                                 intent="none")
        except (StaleState, NotAllowed):
            return  # it moved meanwhile; whoever moved it looks at the request
        self._say(f"run #{run.id}: {moved.state_name} as asked {cause.partition(' ')[2]}".rstrip())

    def _enforce_cancel(self, watched: Watched, now: Now) -> None:
        """Its own process cancels it; this is for the case that it does not."""
        watched.enforcing = True
        grace = cancel_grace_seconds()

        def terminate(now: Now) -> None:
            if not self._still_to_cancel(watched):
                return
            self._say(f"run #{watched.lease.run_id}: did not end within {grace:g} s of its cancellation: SIGTERM")
            self._note_cancelling(watched, now)
            self._signal(watched, signal.SIGTERM)
            self._signal(watched, signal.SIGCONT)  # a frozen process gets no other signal
            self._after(min(TERM_SECONDS, grace), now, kill)

        def kill(_now: Now) -> None:
            if self._still_to_cancel(watched):
                self._say(f"run #{watched.lease.run_id}: SIGKILL to its process group")
                self._signal(watched, signal.SIGKILL)

        # Its own process has the grace too; let it be the first to say how it ended.
        self._after(grace + MARGIN_SECONDS, now, terminate)

    def _still_to_cancel(self, watched: Watched) -> bool:
        if watched.ended:
            return False
        run = runs.get(self._state, watched.lease.run_id or 0)
        return run is not None and (run.intent == "cancel" or run.state_type in ("CANCELLING", "CANCELLED"))

    def _note_cancelling(self, watched: Watched, now: Now) -> None:
        run = runs.get(self._state, watched.lease.run_id or 0)
        if run is None or run.state_type not in ("RUNNING", "PENDING", "PAUSED"):
            return
        cause = done_as_asked(self._state, run.id, "cancel")
        try:
            with transaction(self._state):
                move_run(self._state, run, "begin_cancel", at_us=now.us, actor=reaping.ACTOR, cause=cause)
        except StaleState:
            return  # its process did it at the same moment

    def _signal(self, watched: Watched, number: signal.Signals) -> None:
        lease = watched.lease
        if lease.process_group == lease.pid:
            processes.send_to_group(lease.pid, number)
        else:
            processes.send([lease.pid], number)
