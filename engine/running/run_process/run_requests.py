"""Requests to the whole run, as its process follows them: cancelled, paused, resumed, taken over by a newer attempt.

They are rows (the intent of the run, and who asked): the watcher's thread sees them and tells the gate, the pool and
the user code that runs. A request is not a state: Paused and Cancelled are recorded once it is true of all of it.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ....store import judging
from ....store.connection import Connection, connect, data_version, database_path
from ....store.driver_errors import store_errors
from ....store.errors import StoreError
from ....store.tables import leases, runs, supervision
from ...control.questions import words_of
from ...states.asked import done_by
from ...states.state import Cancelled

if TYPE_CHECKING:
    from ..calls.flow_run import FlowRun
    from .session import Session

_STORE_SECONDS: Final = 1.0
"""How often a paused run looks whether its store is still there."""
_NAME_SECONDS: Final = 0.5
"""How often a run looks whether it was cancelled although the store has no room for requests."""


class RunRequests:
    """What was asked of one root run. It looks on the watcher's thread; it may be told to end by any."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.cancel_reason: str | None = None
        """Why the run is to end; None while nobody cancelled it."""
        self.is_fenced = False
        """A newer attempt has the run; nothing this process writes is kept."""
        self._connection: Connection | None = None
        self._data_version = -1
        self._paused_ticks = 0
        self._reading = threading.Lock()
        """Around each use of the connection."""
        self._look_for_store_at = 0.0
        self._look_for_name_at = time.monotonic() + _NAME_SECONDS

    # -- looking -------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Follow what is new in the store; say Paused when it has become true, leave the run when it is time."""
        session = self._session
        self._give_up_without_store()
        self._look_without_room()
        with self._reading:
            connection = self._connected()
            version = data_version(connection)
            if version != self._data_version:
                self._data_version = version
                session.expectations.look(connection)
                found = runs.intent_of(connection, session.root_id)
                if found is not None:
                    self._obey(connection, found[2], found[3])
                session.nodes.look(connection)
            else:
                session.expectations.look_by_clock(connection)
            self._settle_pause(connection)
        session.departure.tick()

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = connect(self._session.folder, "state", readonly=True)
        return self._connection

    def _look_without_room(self) -> None:
        """A full disk takes no request: then a cancellation is a name in the store."""
        session, root, now = self._session, self._session.root, time.monotonic()
        if root is None or now < self._look_for_name_at or self.cancel_reason is not None:
            return
        self._look_for_name_at = now + _NAME_SECONDS
        from ...control import without_room

        if (reason := without_room.asked_of(session.folder, root.id, root.attempt)) is not None:
            self.begin_cancel(reason)

    def heed_before_end(self) -> None:
        """A cancellation that stands in the store counts, though no tick came to see it, as in a process that stood."""
        session = self._session
        if self.cancel_reason is not None:
            return
        with suppress(StoreError), store_errors(session.folder), self._reading:  # the write of the end tells of that
            connection = self._connected()
            if data_version(connection) == self._data_version:
                return
            found = runs.intent_of(connection, session.root_id)
            if found is not None and found[2] == "cancel":
                self.begin_cancel(self.who_asked(connection, "cancel"))

    def look_again(self) -> None:
        """Have the next tick look at the store, whether it changed or not."""
        self._data_version = -1

    def look_soon(self) -> None:
        """As ``look_again``, now."""
        self.look_again()
        self._session.watcher.wake()

    def close(self) -> None:
        """After the watcher's thread has ended."""
        if self._connection is not None:
            self._connection.close()

    def _obey(self, connection: Connection, intent: str, attempt: int) -> None:
        session, root = self._session, self._session.root
        if root is None:
            return
        if attempt > root.attempt and self._is_taken(connection, root.attempt, attempt):
            self.fence()
        elif intent == "cancel":
            self.begin_cancel(self.who_asked(connection, "cancel"))
        elif intent == "pause":
            if session.gate.is_open() and root.state_type == "RUNNING":
                self.hold(self._pause_words(connection))
            session.departure.heed(connection)
        elif intent == "none" and not session.gate.is_open():
            self._resume(connection)

    def _is_taken(self, connection: Connection, own: int, attempt: int) -> bool:
        """Whether the run went on without this process, which is ahead by one only where it leaves the run itself."""
        session = self._session
        if attempt > own + 1 or session.departure.plan is None:
            return True
        lease = leases.of_run(connection, session.root_id)
        return lease is not None and session.lease is not None and not judging.same(lease, session.lease)

    def who_asked(self, connection: Connection, intent: str) -> str:
        """Who asked for ``cancel`` or ``pause``, in words; what the run itself said of it when it asked."""
        asked = supervision.requester(connection, self._session.root_id)
        if asked is not None and asked[0] == "engine" and asked[1]:
            return asked[1]
        return done_by(intent, asked[0] if asked is not None else None)

    # -- to end --------------------------------------------------------------------------------------------------

    def begin_cancel(self, reason: str) -> None:
        """Tell everything of the run to end; the record follows once it has."""
        if self.cancel_reason is not None:
            return
        session = self._session
        self.cancel_reason = reason
        if session.root is not None:
            self.move_run(session.root, ("RUNNING", "PAUSED", "PENDING"), "begin_cancel", reason)
        session.gate.cancel(reason)
        session.pool.cancel()
        session.activations.interrupt_all(Cancelled(reason))

    def fence(self) -> None:
        """Another process has a newer attempt of this run: stop as fast as possible, record nothing."""
        if self.is_fenced or self._session.gate.is_leaving:
            return
        self.is_fenced = True
        self.begin_cancel("a newer attempt of this run is under way in another process")

    def _give_up_without_store(self) -> None:
        """A paused run whose store was removed: nobody can ask anything of it any more, so it would wait for ever."""
        session, now = self._session, time.monotonic()
        if session.gate.is_open() or self.cancel_reason is not None or now < self._look_for_store_at:
            return
        self._look_for_store_at = now + _STORE_SECONDS
        if not os.path.exists(database_path(session.folder, "state")):
            self.begin_cancel("its store was removed while it was paused")

    # -- to pause and to go on -----------------------------------------------------------------------------------

    def hold(self, cause: str) -> None:
        """Shut the gate; Paused is said once nothing executes. The store knows already that a pause was asked for."""
        if self._session.gate.shut():
            self._paused_ticks = 0
            for run in list(self._session.live_runs.values()):
                self.move_run(run, ("RUNNING",), "begin_pause", cause)

    def _resume(self, connection: Connection) -> None:
        session = self._session
        session.departure.resumed(connection)
        for run in list(session.live_runs.values()):
            if run.state_type == "PAUSED" or run.state_name == "Pausing":
                self.move_run(run, ("PAUSED", "RUNNING"), "resume", None)
        session.gate.release()

    def _settle_pause(self, connection: Connection) -> None:
        """Say Paused, or what is asked, once nothing has executed for two ticks in a row."""
        session, root = self._session, self._session.root
        if root is None or session.gate.is_open():
            return
        if root.state_name == "Pausing":
            self._paused_ticks = self._paused_ticks + 1 if session.gate.busy <= 0 else 0
            if self._paused_ticks >= 2:
                self._say_paused(connection, list(session.live_runs.values()), "RUNNING")
        elif root.state_type == "PAUSED" and session.questions.changed and session.questions.first() is not None:
            self._say_paused(connection, [root], "PAUSED")

    def _say_paused(self, connection: Connection, paused: list[FlowRun], from_type: str) -> None:
        questions = self._session.questions
        questions.changed = False
        cause = self._pause_words(connection)
        for run in paused:
            event = "await_input" if questions.wants_input(run) else "pause"
            self.move_run(run, (from_type,), event, cause)

    def _pause_words(self, connection: Connection) -> str:
        """What the paused run waits for."""
        question = self._session.questions.first()
        return words_of(question) if question is not None else self.who_asked(connection, "pause")

    def move_run(self, run: FlowRun, from_types: tuple[str, ...], event: str, cause: str | None) -> None:
        """A transition made from outside the run's own thread; nothing when the run has gone on meanwhile."""
        with run.state_lock:
            if run.state_type in from_types:
                self._session.writer.soon(run.transition(event, cause=cause))
