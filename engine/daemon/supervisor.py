"""Watching run processes: each death is seen at once, and what it means for its run is settled (``reaping``).

The supervisor holds a pidfd for the process of every lease, whoever started it. It starts no process and ends none,
does not decide what a death means, and reads no clock: it is told ``now`` and settles in ``tick``.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Protocol

from ...store import judging, spool
from ...store.connection import Connection
from ...store.rows import LeaseRow, RunRow
from ...store.states import is_terminal
from ...store.tables import leases, runs
from ..control import crash_counting, reaping
from ..control.reaping import Settled
from ..states import exits as deaths
from ..system import processes
from ..system.clock import Now
from .agenda import Agenda

RECORD_SECONDS: Final = 0.25
"""How long the code host may take to write down how a process ended."""
CRASHED: Final = frozenset({"Crashed", "OutOfMemory", "Rebooted"})
ENDED: Final = CRASHED | {"Cancelled", "Failed"}
"""What is said elsewhere, with all other endings."""
_UNSEEN_POLL_SECONDS: Final = 0.5
"""For a process that cannot be judged by its number: whether it still holds its lock."""
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

    @property
    def identity(self) -> tuple[str, int, int]:
        """What names the process for ever."""
        return self.lease.boot_id, self.lease.pid, self.lease.pid_started_ticks


class Supervisor:
    """The daemon's eyes on run processes."""

    def __init__(self, folder: str, state: Connection, telemetry: Connection, loop: Descriptors, agenda: Agenda,
                 say: Callable[[str], None], crash_retries: Callable[[str], int | None]) -> None:
        self._folder = folder
        self._state = state
        self._telemetry = telemetry
        self._loop = loop
        self._agenda = agenda
        self._say = say
        self._crash_retries = crash_retries
        self._watched: dict[int, Watched] = {}
        self._ended: deque[Watched] = deque()
        """Whose processes are gone, and what becomes of the run is not decided yet."""
        self.on_process_ended: Callable[[int, Now], None] = lambda _run_id, _now: None
        """Called with the run whose process is gone, settled or not."""
        self.on_process_begun: Callable[[int, int], None] = lambda _run_id, _attempt: None
        """Called with a run and its attempt when a process has taken it."""
        self._told: dict[tuple[int, int], deaths.Death] = {}
        """How processes ended, as their host said, by run and pid: there may be no room for a record."""
        self.on_crashed: Callable[[int], None] = lambda _run_id: None
        """Called with a run that crashed and is not resumed."""

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

    def look_for_orphans(self, now: Now, is_given: Callable[[int, int], bool] = lambda _run, _attempt: False) -> None:
        """Settle runs that claim to run although nobody holds their lease, and that no living host was given."""
        for settled in reaping.reap_without_process(self._state, self._telemetry, self._folder, now.us, is_given):
            if settled is not None:
                self._report(settled)
                self.on_process_ended(settled.run_id, now)

    def tick(self, now: Now) -> None:
        """Settle the runs whose processes have ended; those whose host has not written down how, in a moment."""
        while self._ended:
            self._begin_to_settle(self._ended.popleft(), now)

    def process_of(self, run_id: int) -> Watched | None:
        """The process that has the run, as far as is known; it may just have ended."""
        return self._watched.get(run_id)

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
        self.on_process_begun(run_id, lease.attempt or 1)
        pidfd: int | None = None
        verdict = leases.judge(lease, self._folder)
        if verdict.state == "unknown":
            self._say(f"run #{run_id}: its process {lease.pid} cannot be judged from here: {verdict.reason}; "
                      "it is left alone, and settled once it is gone")
            watched = self._watched[run_id] = Watched(lease, None)
            self._agenda.after(_UNSEEN_POLL_SECONDS, now, partial(self._poll, watched))
            return
        if not verdict.is_gone:
            try:
                pidfd = processes.open_pidfd(lease.pid, lease.pid_started_ticks)
            except OSError as error:
                if error.errno != errno.ENOSYS:
                    raise
                watched = self._watched[run_id] = Watched(lease, None)
                self._agenda.after(_POLL_SECONDS, now, partial(self._poll, watched))
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
        verdict = leases.judge(watched.lease, self._folder)
        if verdict.is_gone:
            self._process_ended(watched)
        else:
            seconds = _UNSEEN_POLL_SECONDS if verdict.state == "unknown" else _POLL_SECONDS
            self._agenda.after(seconds, now, partial(self._poll, watched))

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
        host_may_tell = lease.boot_id == judging.boot_id() and bool(reaping.lease_info(lease).get("resumable"))

        def settle(now: Now) -> None:
            assert lease.run_id is not None
            if self._watched.get(lease.run_id) is not watched:
                return
            told = (lease.run_id, lease.pid) in self._told
            told = told or deaths.read_exit(self._folder, lease.run_id, lease.pid) is not None
            if host_may_tell and not told and now.monotonic < deadline:
                self._agenda.after(_RECORD_LOOK_SECONDS, now, settle)
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
                                   self._crash_retries(run.flow_name), self._told.get((lease.run_id, lease.pid)))
            self._told.pop((lease.run_id, lease.pid), None)
            if settled is not None:
                self._report(settled)
        finally:
            self.on_process_ended(lease.run_id, now)

    def _clean_up(self, lease: LeaseRow, run: RunRow | None) -> None:
        """The run had ended by itself: only crumbs are left."""
        assert lease.run_id is not None
        attempt = lease.attempt or 1
        self._told.pop((lease.run_id, lease.pid), None)
        deaths.forget_exits(self._folder, lease.run_id, attempt)
        if run is not None and run.state_type == "CANCELLED":
            reaping.kill_leftovers(self._folder, lease)
        reaping.drain(self._folder, self._telemetry, lease.run_id, attempt)

    def host_says_ended(self, run_id: int, attempt: int, pid: int, death: Mapping[str, Any] | None, now: Now) -> bool:
        """A run process was reaped by its host. Matters when it died before it had taken its lease.

        True when it had only found the run in another state, and the run still waits for a process: that is no death.
        """
        if run_id not in self._watched:
            self.look(now)
        told = deaths.Death(**death) if death is not None else deaths.read_exit(self._folder, run_id, pid)
        if (watched := self._watched.get(run_id)) is not None:
            if told is not None and watched.lease.pid == pid:
                self._told[run_id, pid] = told
            return False
        run = runs.get(self._state, run_id)
        if run is None:
            return False
        if run.state_type != "PENDING" or run.attempt != attempt or leases.of_run(self._state, run_id) is not None:
            if is_terminal(run.state_type):
                deaths.forget_exits(self._folder, run_id)
            return False
        if told is not None and told.exit_code == deaths.STALE_EXIT:
            deaths.forget_exits(self._folder, run_id, attempt)
            return True
        fate = crash_counting.fate_of_death(told)
        reaping.drain(self._folder, self._telemetry, run_id, attempt)
        retries = self._crash_retries(run.flow_name)
        settled = reaping.settle(self._state, run_id, fate, at_us=now.us, resumable=True,
                                 crash_retries=reaping.DEFAULT_CRASH_RETRIES if retries is None else retries,
                                 attempt=attempt)
        deaths.forget_exits(self._folder, run_id, attempt)
        if settled is not None:
            self._report(settled)
        return False

    def _report(self, settled: Settled) -> None:
        if settled.state_name not in ENDED:
            self._say(f"run #{settled.run_id}: {settled.state_name}: {settled.cause}")
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
