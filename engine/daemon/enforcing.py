"""What was asked of runs is done: a cancellation is carried through, and a request meets runs without a process too.

A run that was asked to cancel gets its grace to end by itself, then TERM, then KILL to its process group; what its end
means is the supervisor's and ``reaping``'s to say. Asks nothing of a run itself, and reads no clock.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Final
from weakref import WeakSet

from ...store import judging
from ...store.connection import Connection, folder_of, transaction
from ...store.rows import RunRow
from ...store.states import is_terminal
from ...store.tables import leases, runs, supervision
from ..control import reaping
from ..errors import NotAllowed, StaleState
from ..settings import cancel_grace_seconds
from ..states.asked import done_as_asked
from ..states.machine import RunEvent
from ..states.transitions import move_run
from ..system import processes
from ..system.clock import Now
from .agenda import Agenda
from .supervisor import Supervisor, Watched

TERM_SECONDS: Final = 2.0
"""Between TERM and KILL."""
MARGIN_SECONDS: Final = 0.25


class Enforcer:
    """The daemon's arm."""

    def __init__(self, state: Connection, supervisor: Supervisor, agenda: Agenda, say: Callable[[str], None]) -> None:
        self._state = state
        self._supervisor = supervisor
        self._agenda = agenda
        self._say = say
        self._enforcing: WeakSet[Watched] = WeakSet()
        """Processes that have been given their grace."""

    def obey(self, now: Now) -> None:
        """See that what was asked of runs happens, also where no process is left to do it."""
        for run in supervision.asked(self._state):
            watched = self._supervisor.process_of(run.id)
            if watched is not None:
                if run.intent == "cancel" and watched not in self._enforcing:
                    self._enforce_cancel(watched, now)
                elif run.intent != "cancel":
                    self._enforcing.discard(watched)  # should it be cancelled again, it gets its grace again
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
        if not is_terminal(moved.state_type):
            self._say(f"run #{run.id}: {moved.state_name} as asked {cause.partition(' ')[2]}".rstrip())

    def _enforce_cancel(self, watched: Watched, now: Now) -> None:
        """Its own process cancels it; this is for the case that it does not."""
        self._enforcing.add(watched)
        grace = cancel_grace_seconds()

        def terminate(now: Now) -> None:
            if not self._still_to_cancel(watched):
                return
            self._say(f"run #{watched.lease.run_id}: did not end within {grace:g} s of its cancellation: SIGTERM")
            self._note_cancelling(watched, now)
            self._signal(watched, signal.SIGTERM)
            self._signal(watched, signal.SIGCONT)  # a frozen process gets no other signal
            self._agenda.after(min(TERM_SECONDS, grace), now, kill)

        def kill(_now: Now) -> None:
            if self._still_to_cancel(watched):
                self._say(f"run #{watched.lease.run_id}: SIGKILL to its process group")
                self._signal(watched, signal.SIGKILL)

        # Its own process has the grace too; let it be the first to say how it ended.
        self._agenda.after(grace + MARGIN_SECONDS, now, terminate)

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
        reason = judging.why_not_signalled(lease, folder_of(self._state), lease.store)
        if reason is not None:
            self._say(f"run #{lease.run_id}: its process {lease.pid} cannot be signalled from here: {reason}")
            return
        if reaping.owns_group(lease):
            processes.send_to_group(lease.pid, number)
        else:
            processes.send([lease.pid], number)
