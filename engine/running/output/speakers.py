"""Whose output it is that comes through the process's descriptors, which say nothing of who wrote: known while one
task, or one flow, is the only code that runs here.

Each activation of user code is entered and left; between two looks at the descriptors everybody counts who ran.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..calls.frame import Frame

Speaker = tuple[int, int | None]
"""Run id, and seq of the task."""


class Slot(Protocol):
    """An activation of user code."""

    is_open: bool
    """Whether the code runs, or a program it waits for; not while it waits in the engine."""


class Speakers:
    """The code that runs in this process; from any thread."""

    def __init__(self, root_id: int) -> None:
        self._root_id = root_id
        self._slots: dict[Slot, Speaker] = {}
        self._coroutines: set[Slot] = set()
        self.since: set[Speaker] = set()
        """Who has run since the last look; whose slot opens again adds himself."""

    def enter(self, slot: Slot, frame: Frame, *, is_coroutine: bool) -> Speaker:
        """Code begins, just after a look."""
        speaker = (frame.run.id, frame.task.seq if frame.task is not None else None)
        if is_coroutine and speaker[1] is None:
            self._coroutines.add(slot)
        self._slots[slot] = speaker
        self.since = self._running() | {speaker}
        return speaker

    def leave(self, slot: Slot) -> None:
        """Code has ended, just after a look."""
        self._slots.pop(slot, None)
        self._coroutines.discard(slot)
        self.since = self._running()

    def is_alone(self, slot: Slot) -> bool:
        """Whether nobody else has run since the last look."""
        return (self.since | self._running()) <= {self._slots.get(slot)}

    def look(self) -> Speaker:
        """Whose the output is that has come since the last look."""
        found, self.since = self.since, self._running()
        found = found | self.since
        if not found:
            return self._root_id, None
        runs = {run_id for run_id, _ in found}
        return next(iter(found)) if len(found) == 1 else (runs.pop() if len(runs) == 1 else self._root_id, None)

    def _running(self) -> set[Speaker]:
        slots = [*self._slots.items()]
        open_ones = {speaker for slot, speaker in slots if slot.is_open and slot not in self._coroutines}
        # The coroutine of a flow counts while no task runs: it waits for them, and says so to nobody.
        return open_ones or {speaker for slot, speaker in slots if slot in self._coroutines}
