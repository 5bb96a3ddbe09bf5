"""Says how runs end: one line for each ending of a root run, whoever ran or settled it, with its cause.

Reads the endings in the store, so that there is one place for all of them and none is said twice. Decides nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from ...store.connection import Connection, data_version, own_changes
from ...store.rows import EventRow, RunRow
from ...store.tables import events, runs
from .saying import Line

_AT_ONCE: Final = 500
_LEVELS: Final = {"COMPLETED": logging.INFO, "CANCELLED": logging.INFO}


class Endings:
    """What is new of runs that ended."""

    def __init__(self, state: Connection, say: Callable[[str], None]) -> None:
        self._state = state
        self._say = say
        self._seen: tuple[int, int] | None = None
        self._event_id = events.last_id(state)

    def tick(self, now_us: int) -> None:
        """Say what ended since the last look."""
        seen = data_version(self._state), own_changes(self._state)
        if seen == self._seen:
            return
        self._seen = seen
        until = events.last_id(self._state)
        while found := events.run_endings(self._state, self._event_id, until, _AT_ONCE):
            for event in found:
                self._event_id = event.id
                run = runs.get(self._state, event.run_id or 0)
                if run is not None:
                    self._say(ending(run, event, now_us))
        self._event_id = until


def ending(run: RunRow, event: EventRow, now_us: int) -> Line:
    """The line of one ending; ``run`` is as it is now, and may have gone on meanwhile."""
    state_type, state_name = event.to_type or "", event.to_name or ""
    text = f"run #{run.id} ({run.flow_name}): {state_name}"
    facts: dict[str, Any] = {
        "event": "run_ended", "run": run.id, "flow": run.flow_name, "name": run.name, "attempt": event.attempt,
        "type": state_type, "state": state_name, "cause": event.message, "actor": event.actor,
    }
    goes_on = run.attempt > (event.attempt or 0)
    if run.state_type == state_type and not goes_on and run.duration_us is not None:
        facts["duration_seconds"] = run.duration_us / 1e6
        text += f" after {run.duration_us / 1e6:.3g} s"
    if event.message:
        text += f": {event.message}"
    if goes_on and state_type == "CRASHED":
        waits = run.wake_at_us is not None and run.state_type == "SCHEDULED"
        seconds = max(0, (run.wake_at_us or 0) - now_us) / 1e6 if waits else 0.0
        facts["goes_on_in_seconds"] = seconds
        text += f"; goes on in {seconds:.1f} s"
    return Line(text, _LEVELS.get(state_type, logging.ERROR), **facts)
