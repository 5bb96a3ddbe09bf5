"""One round of the daemon: what changed in the store, what is due, when to look again. Decides nothing about one run.

Reads the clock once a round, and when a code host reports something, and hands it to those who decide (scheduler,
dispatcher, supervisor, enforcer). Starts nothing, waits for nothing and knows no loop: a test that brings its own clock
and its own ``RunHosts`` lives through a week in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ...store.connection import Connection, data_version
from ...store.tables import events, runs
from ..control.answering import end_overdue
from ..control.reaping import lease_info
from ..system.clock import Clock, Now
from .agenda import Agenda
from .clock_changes import NOT_SET_BEFORE, ClockChanges
from .dispatcher import Dispatcher, RunHosts
from .endings import Endings
from .enforcing import Enforcer
from .scheduler import NO_DAEMON, Scheduler
from .supervisor import Supervisor

LONGEST_SLEEP_SECONDS: Final = 30.0
"""No look is put off further, so that a clock that jumps is noticed."""
ORPHAN_SECONDS: Final = 1.0
"""Between looks for runs that claim to run without a process."""
WARM_SECONDS: Final = 3.0
"""So long before its tick a file's host is made, where it was let go."""
AFTER_TROUBLE_SECONDS: Final = 0.5
EVENTS_AT_ONCE: Final = 2000


class Rounds:
    """Drives those who decide, round by round."""

    def __init__(self, state: Connection, hosts: RunHosts, dispatcher: Dispatcher, scheduler: Scheduler,
                 supervisor: Supervisor, agenda: Agenda, say: Callable[[str], None], clock: Clock) -> None:
        self._state = state
        self._hosts = hosts
        self._dispatcher = dispatcher
        self._scheduler = scheduler
        self._supervisor = supervisor
        self._enforcer = Enforcer(state, supervisor, agenda, say)
        self._endings = Endings(state, say)
        self._agenda = agenda
        self._say = say
        self._clock = clock
        self._is_scheduling = False
        self._data_version = -1
        self._event_id = 0
        self._next_pump: float | None = 0.0
        self._next_look_for_orphans = 0.0
        now = clock()
        self._clock_changes = ClockChanges(state, say, now)
        self._changed: set[str | None] = set()
        """Files whose schedules are to be read anew; None for all."""
        hosts.on_refused = self._refused
        hosts.on_ended = self._reaped
        hosts.on_room = self._pump_soon
        hosts.on_stuck = self._stuck
        supervisor.on_process_ended = self._process_ended
        supervisor.on_process_begun = self._process_begun
        supervisor.on_crashed = self._crashed

    def begin(self) -> None:
        """At the daemon's start: adopt what goes on, settle what does not. Events from now on are news."""
        now = self._clock()
        self._clock_changes.begin(now)
        self._supervisor.adopt(now)
        for lease in self._supervisor.adopted():
            if lease.run_id is not None and lease_info(lease).get("resumable"):
                self._dispatcher.adopt(lease.run_id)
        self._enforcer.obey(now)

    def skip_old_events(self) -> None:
        """What other processes wrote before now is no news."""
        self._event_id = events.last_id(self._state)

    def schedule(self, path: str | None = None) -> None:
        """What is deployed or served of a file (of any) has changed: its schedules are read anew, at the next tick."""
        self._is_scheduling = True
        self._changed.add(path)

    def look_at_everything(self) -> None:
        """Something went wrong: take nothing for known, soon."""
        self._data_version = -1
        self._next_pump = self._clock().monotonic + AFTER_TROUBLE_SECONDS

    def tick(self) -> float:
        """Do what is to be done now; returns when to look again at the latest, by the monotonic clock."""
        now = self._clock()
        self._check_clock(now)
        self._agenda.tick(now)
        self._supervisor.tick(now)
        self._read_news(now)
        if now.monotonic >= self._next_look_for_orphans:
            self._next_look_for_orphans = now.monotonic + ORPHAN_SECONDS
            self._look_for_orphans(now)
        self._reload(now)
        due_us = self._next_due_us(now)
        if due_us is not None and due_us <= now.us:
            self._scheduler.tick(now.us)
            self._pump_soon()
        elif due_us is not None:
            self._scheduler.missed_while = NO_DAEMON  # what it was told of is made up for
        if self._next_pump is not None and now.monotonic >= self._next_pump:
            wait_seconds = self._dispatcher.pump(now.us)
            self._next_pump = None if wait_seconds is None else now.monotonic + wait_seconds
        self._endings.tick(now.us)
        return self._next_look(now)

    def _reload(self, now: Now) -> None:
        changed, self._changed = self._changed, set()
        if None in changed:
            self._scheduler.reload(now.us)
        elif changed:
            self._scheduler.reload(now.us, {path for path in changed if path is not None})

    def _next_look(self, now: Now) -> float:
        """Exactly at what is due first, when that comes before the next look anyway."""
        times = [now.monotonic + LONGEST_SLEEP_SECONDS, self._next_look_for_orphans]
        due_us = self._next_due_us(now)
        if due_us is not None:
            times.append(now.monotonic + (due_us - now.us) / 1e6)
        if self._next_pump is not None:
            times.append(self._next_pump)
        if (step_at := self._agenda.next_at()) is not None:
            times.append(step_at)
        return min(times)

    def _next_due_us(self, now: Now) -> int | None:
        """When the next tick is due; none is while the clock was never set."""
        return self._scheduler.next_due_us() if self._is_scheduling and now.us >= NOT_SET_BEFORE else None

    # -- looking -------------------------------------------------------------------------------------------------

    def _read_news(self, now: Now) -> None:
        """Other processes wrote something: act on what concerns us."""
        version = data_version(self._state)
        if version == self._data_version:
            return
        self._data_version = version
        schedules_changed = runs_changed = asked = False
        while True:
            found = events.after(self._state, self._event_id, EVENTS_AT_ONCE)
            for event in found:
                self._event_id = event.id
                if event.task_seq is None and event.actor != "engine":
                    schedules_changed |= event.kind == "schedule"
                    asked |= event.kind == "request"
                if event.task_seq is None:
                    runs_changed |= event.kind in ("state", "limit")
            if len(found) < EVENTS_AT_ONCE:
                break
        if schedules_changed and self._is_scheduling:
            self._changed.add(None)
        if runs_changed or asked:
            self._supervisor.look(now)
            self._enforcer.obey(now)
            self._scheduler.release_queued(now.us)
            self._next_pump = now.monotonic

    def _look_for_orphans(self, now: Now) -> None:
        self._supervisor.look(now)
        self._supervisor.look_for_orphans(now, self._hosts.holds)
        for run_id in end_overdue(self._state, now.us):
            self._say(f"run #{run_id}: nobody answered in time: it goes on to hear of it")
        self._dispatcher.recount(self._supervisor.is_watched)
        for path in self._scheduler.files_due(now.us + round(WARM_SECONDS * 1e6)) if self._is_scheduling else ():
            self._hosts.need(path)
        self._next_pump = now.monotonic

    def _check_clock(self, now: Now) -> None:
        """Somebody set the time, or the machine slept."""
        jump = self._clock_changes.look(now)
        if jump is None:
            return
        if jump.set_us:
            self._clock_changes.was_set(jump.set_us, now.us, self._event_id)
            if jump.set_us < 0 or now.us - jump.set_us < NOT_SET_BEFORE:
                self._clock_changes.schedules_go_on(now.us, jump.set_us)
            if self._is_scheduling:
                self._changed.add(None)
        self._scheduler.missed_while = "the clock was set forward" if jump.set_us > 0 else "the machine slept"
        self._next_pump = now.monotonic

    # -- runs ----------------------------------------------------------------------------------------------------

    def _refused(self, run_id: int, attempt: int, why: str, again: bool) -> None:
        self._dispatcher.refused(run_id, attempt, why, again, self._clock().us)

    def _reaped(self, run_id: int, attempt: int, pid: int, death: dict[str, object] | None) -> None:
        now = self._clock()
        is_stale = self._supervisor.host_says_ended(run_id, attempt, pid, death, now)
        if self._hosts.holds(run_id, attempt):
            return  # it was given anew meanwhile
        if is_stale:
            self._refused(run_id, attempt, "its process found it in another state", True)
        if not self._supervisor.is_watched(run_id):
            self._process_ended(run_id, now)

    def _process_begun(self, run_id: int, attempt: int) -> None:
        if self._hosts.begun(run_id, attempt):
            self._dispatcher.adopt(run_id)

    def _stuck(self, given: list[tuple[int, int]]) -> None:
        for run_id, _ in given:
            self._dispatcher.ended(run_id)
        self._pump_soon()

    def _pump_soon(self) -> None:
        self._next_pump = self._clock().monotonic

    def _process_ended(self, run_id: int, now: Now) -> None:
        self._dispatcher.ended(run_id)
        self._scheduler.release_queued(now.us)
        self._next_pump = now.monotonic

    def _crashed(self, run_id: int) -> None:
        run = runs.get(self._state, run_id)
        path, flow = self._dispatcher.place(run) if run is not None else (None, "")
        if run is not None and path is not None:
            self._hosts.tell_crashed(path, run.id, run.attempt, flow)
