"""How a process ends what runs in it: after a cancellation, after a signal, and when it cannot go on at all.

Who is told first, who is waited for and how long, who is killed: user code has the grace to end, then the processes it
started, and what is left is left behind. Whether a run that was ended by a signal is recorded as ended is decided
here, too: one that a supervisor resumes is not.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ....store import judging
from ....store.errors import StoreError
from ....store.tables import runs
from ...settings import cancel_grace_seconds
from ...states.exits import CANCELLED_EXIT, note_told_to_end
from ...states.state import Cancelled
from ...system import processes
from ..effects.interrupts import TerminationHandler
from . import guarding, marks

if TYPE_CHECKING:
    from .session import Session

_CHILDREN_AFTER_SECONDS: Final = 0.5
"""How long user code may take to end by itself before its child processes are told to."""
_AFTER_KILL_SECONDS: Final = 0.5
_TRANSACTION_SECONDS: Final = 2.0
"""How long Ctrl-Z may wait for the end of a transaction."""
_GONE_SECONDS: Final = 5.0
"""How long killed processes may take to be gone (an uninterruptible one may take for ever)."""
_NO_DESCRIPTORS_EXIT: Final = 70


class Ending:
    """The end of one root run's process."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.termination = TerminationHandler()
        self.is_resumable = False
        """Whether a supervisor resumes the run when this process dies."""
        self.guard: int | None = None
        """The parent of this process, where that guards it."""
        self.is_by_signal = False
        """The run's end was left to the supervisor."""
        self.left_by: SystemExit | None = None
        """A task called ``sys.exit``."""
        self._trouble_since: float | None = None

    # -- why -----------------------------------------------------------------------------------------------------

    @property
    def was_terminated(self) -> bool:
        """Whether a signal to end came from outside."""
        return self.termination.received is not None

    @property
    def by_signal(self) -> str:
        """Which signal ended it, in words."""
        return f"the process received {(self.termination.received or signal.SIGTERM).name}"

    @property
    def exit_code_by_signal(self) -> int | None:
        """As a shell says it of a process that the signal ended; None when none came."""
        return None if self.termination.received is None else 128 + self.termination.received

    def reason_to_end(self) -> str | None:
        """Why the run is cancelled, if somebody asked for it; None when its process was merely told to end."""
        session, requests = self._session, self._session.requests
        if requests.cancel_reason is None and self.was_terminated:
            # The signal may come before the request was seen here.
            found = session.read(lambda conn: runs.intent_of(conn, session.root_id))
            if found is not None and found[2] == "cancel":
                requests.cancel_reason = session.read(lambda conn: requests.who_asked(conn, "cancel"))
        return requests.cancel_reason

    def will_be_resumed(self) -> bool:
        """Whether this process was told to end by a signal, nobody cancelled the run, and a supervisor resumes it."""
        return self.is_resumable and self.was_terminated and self.reason_to_end() is None

    def leaves_end_to_supervisor(self) -> bool:
        """Whether this process, told to end by a signal, records no end of its run: who watches it then resumes it.

        So a machine that shuts down ends no run for good. A script that a person started has nobody to resume it.
        """
        self.is_by_signal = self.will_be_resumed()
        return self.is_by_signal

    def die_of_signal(self) -> None:
        """As the signal would have ended this process: whoever watches sees which, and resumes the run."""
        number = self.termination.received or signal.SIGTERM
        if number == signal.SIGQUIT:
            import resource

            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # its code has unwound: there is nothing to look into
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def note_exit(self, error: BaseException) -> None:
        """A task called ``sys.exit`` or was interrupted from the keyboard: the latter ends the run."""
        if isinstance(error, SystemExit):
            self.left_by = error
        if isinstance(error, KeyboardInterrupt):
            self._session.requests.begin_cancel("interrupted from the keyboard (Ctrl-C)")

    # -- who is told ---------------------------------------------------------------------------------------------

    def look(self) -> None:
        """On the watcher's thread: signals to stop and to end, and an end that cannot be recorded."""
        self._stop_if_asked()
        self.heed_termination()
        self._give_up_on_full_disk()
        guarding.reap_orphans()

    def _stop_if_asked(self) -> None:
        """Ctrl-Z: stop where this process holds no lock of the store, or everybody else would stand still, too."""
        if not self.termination.stop_asked:
            return
        self.termination.stop_asked = False
        resting = [writer for writer in self._session.writers() if writer.turn.acquire(timeout=_TRANSACTION_SECONDS)]
        try:
            os.kill(os.getpid(), signal.SIGSTOP)
        finally:
            for writer in resting:
                writer.turn.release()

    def heed_termination(self) -> None:
        """After a signal to end: everything ends as after a cancellation; nothing when none came."""
        session = self._session
        if not self.was_terminated or session.gate.is_cancelled:
            return
        if self.is_resumable:
            note_told_to_end(str(session.folder), session.root_id, session.attempt, os.getpid())
        session.gate.cancel(self.by_signal)
        session.pool.cancel()
        for slot, _ in session.activations.running():
            if not slot.heard_end:  # what was not open when the signal came may be by now
                slot.interrupt(Cancelled(self.by_signal))

    # -- who is waited for, who is killed ------------------------------------------------------------------------

    def end_everything(self) -> None:
        """After a cancellation: see to it that nothing of the run is left, within the grace."""
        self.end_processes()
        reason = self._session.requests.cancel_reason or self.by_signal
        cause = f"did not end within {cancel_grace_seconds():g} s of the cancellation"
        self._session.pool.abandon(cause, reason)

    def end_processes(self) -> None:
        """Wait for user code that was told to end, and end the processes it started.

        User code first; child processes are told to end when it has ended or hangs (on them, mostly), then killed.
        """
        gate, now = self._session.gate, time.monotonic()
        deadline = now + cancel_grace_seconds()
        _wait_until(lambda: gate.busy <= 0, min(deadline, now + _CHILDREN_AFTER_SECONDS))
        refused = processes.send(self.children(), signal.SIGTERM)
        _wait_until(lambda: gate.busy <= 0 and not set(self.children()).difference(refused), deadline)
        if left := processes.kill_all(self.children, _GONE_SECONDS):
            root_id = self._session.root_id
            text = f"run #{root_id} ends, and these go on: {processes.named(left)}; end them as their user, or as root"
            self._session.log.line(root_id, None, 30, text)
        _wait_until(lambda: gate.busy <= 0, max(deadline, time.monotonic() + _AFTER_KILL_SECONDS))

    def children(self) -> list[int]:
        """Live processes that this run started, at any depth, also those that made a session of their own."""
        session, own = self._session, os.getpid()
        mark = marks.mark_of(session)
        if self.guard is not None:
            # Its session is its own, and its guard, unless somebody killed that, has all that it started.
            family = processes.Family(self.guard) if os.getppid() == self.guard else None
            return processes.of_run(own, judging.own_identity().started_ticks, mark, family)
        # Its group is the shell's, and the process may have more runs and more children than this run's.
        return processes.of_run(None, 0, mark, guarding.family_of(session.folder, session.root_id))

    # -- when nothing can be recorded ----------------------------------------------------------------------------

    def give_up_without_descriptors(self) -> None:
        """User code closed descriptors that are the run's: what is opened next would be mistaken for the store.

        Nothing more can be recorded; whoever finds the run dead settles it.
        """
        self._session.capture.tell(f"run #{self._session.root_id} ends: its code closed files of the run's own")
        os._exit(_NO_DESCRIPTORS_EXIT)

    def _give_up_on_full_disk(self) -> None:
        """A run that was told to end, but cannot write its end within the grace, leaves it to who finds it dead."""
        session = self._session
        trouble = session.writer.trouble or session.capture.trouble
        if trouble is None or not session.gate.is_cancelled:
            self._trouble_since = None
        elif self._trouble_since is None:
            self._trouble_since = time.monotonic()
        elif time.monotonic() - self._trouble_since > cancel_grace_seconds():
            session.capture.tell(f"run #{session.root_id} ends without its last records: {trouble}")
            processes.send(self.children(), signal.SIGKILL)
            if session.requests.cancel_reason is not None:
                os._exit(CANCELLED_EXIT)
            os._exit(self.exit_code_by_signal or StoreError.exit_code)


def _wait_until(condition: Callable[[], bool], deadline: float) -> None:
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
