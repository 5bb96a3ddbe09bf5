"""What a guard guards, and what it sees of it: the runs, and with a connection of its own what was asked of them.

Nothing here signals or waits. A store that cannot be read at this moment is looked at again.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from ....store import judging, spool
from ....store.connection import Connection, connect, data_version
from ....store.driver_errors import store_errors
from ....store.errors import StoreError
from ....store.states import is_terminal
from ....store.tables import leases, runs, supervision
from ...secrets.masking import mask
from ...settings import cancel_grace_seconds
from ...system import processes

_NAMES_SECONDS: Final = 0.5
"""How often is looked for cancellations that a store has no room for."""


class Ward:
    """One run that is guarded."""

    def __init__(
        self, folder: str, run_id: int, attempt: int, process: judging.ProcessIdentity, since: int,
        before: tuple[int, ...] = (),
    ) -> None:
        self.folder = folder
        self.run_id = run_id
        self.attempt = attempt
        self.attempt_now = attempt
        """The attempt that its process is at: a flow is tried again in it."""
        self.process = process
        self.since_ticks = since
        """When it began: what its process had started before is not the run's."""
        self.before = before
        """Of those that began in the same tick: what was there before the run."""
        self.asked_at: float | None = None
        """When a cancellation was seen that is not carried out yet."""
        self.is_at_once = False
        """Whoever asked wants no grace given."""
        self.is_named = False
        """The cancellation is the name of a file, in a store that had no room for it."""
        self.was_told = False
        self.has_ended = False
        """Its record says so."""
        self.was_cancelled = False
        """Its record says so, or that it is to be."""
        self.said: set[str] = set()

    @property
    def mark(self) -> str:
        """What its processes carry in their environment."""
        return processes.run_mark(self.folder, self.run_id, self.attempt)

    @property
    def grace(self) -> float:
        """Seconds that its code has to end by itself."""
        return 0.0 if self.is_at_once else cancel_grace_seconds()

    def say(self, text: str) -> None:
        """Once, into the run's log: whoever reads it next finds it there."""
        if text not in self.said:
            self.said.add(text)
            tell(self.folder, self.run_id, self.attempt, text)


def tell(folder: str, run_id: int, attempt: int, text: str) -> None:
    """Leave word in a run's spool, for its log. What cannot be written (a full disk) is not worth the guard's end."""
    with contextlib.suppress(OSError):
        descriptor = spool.open_append(folder, run_id, attempt, "err")
        os.write(descriptor, mask(f"{text}\n").encode("utf-8", "replace"))
        os.close(descriptor)


class Eyes:
    """What a guard sees of one store: with a connection of its own, opened when it first looks."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._connection: Connection | None = None
        self._version = -1
        self._look_for_names_at = 0.0

    def look(self, wards: list[Ward], now: float) -> None:
        """See what was asked of them; a store that cannot be read now is looked at again."""
        if now >= self._look_for_names_at:
            self._look_for_names_at = now + _NAMES_SECONDS
            self._look_for_names(wards, now)
        self._look_at_rows(wards, now)

    def _look_for_names(self, wards: list[Ward], now: float) -> None:
        from ...control import without_room

        for ward in wards:
            name = ward.folder, ward.run_id, ward.attempt_now
            if not ward.is_named and without_room.asked_of(*name) is not None:
                ward.is_named = ward.was_cancelled = True
                if ward.asked_at is None and not ward.has_ended:
                    ward.asked_at = now
            if ward.is_named and without_room.is_asked_at_once(*name):
                ward.is_at_once = True

    def _look_at_rows(self, wards: list[Ward], now: float) -> None:
        with contextlib.suppress(StoreError), store_errors(self.folder):
            if self._connection is None:
                self._connection = connect(self.folder, "state", readonly=True)
            version = data_version(self._connection)
            if version == self._version:
                return
            for ward in wards:
                _see(self._connection, ward, now)
            self._version = version

    def close(self) -> None:
        """Give the connection back, for whoever wants to be the last that has the store open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._version = -1

    def forget(self) -> None:
        """The next look reads, whether anything changed or not."""
        self._version = -1
        self._look_for_names_at = 0.0


def _see(connection: Connection, ward: Ward, now: float) -> None:
    found = runs.intent_of(connection, ward.run_id)
    if found is None:
        return
    state_type, state_name, intent, attempt = found
    ward.has_ended = is_terminal(state_type, state_name)
    lease = leases.of_run(connection, ward.run_id) if attempt > ward.attempt else None
    # Another process has the run now: this one works in vain.
    is_taken = lease is not None and not judging.same(lease, ward.process)
    if lease is not None and not is_taken:
        ward.attempt_now = attempt
    is_named = ward.is_named and not is_taken
    ward.was_cancelled = state_type in ("CANCELLED", "CANCELLING") or intent == "cancel" or is_named
    is_asked = not ward.has_ended and ward.was_cancelled
    if not is_asked and not is_taken:
        ward.asked_at = None
        ward.was_told = False
        return
    if ward.asked_at is None:
        ward.asked_at = now
    if not ward.is_named:
        ward.is_at_once = is_asked and supervision.is_asked_at_once(connection, ward.run_id)
