"""Where code belongs that runs now: its run, and within it its task. Every thread and coroutine of a run has one.

The variables that hold it, and the transaction around it, stand in ``engine.context``, below everything that is
recorded of a run, where protocols say what the rooms there may ask; here they have their types, for those who may know
what a run is.
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

from ... import context

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...authoring.transaction import Transaction
    from ..slots.requests import Ask
    from .flow_run import FlowRun
    from .task_call import TaskCall


class Frame(NamedTuple):
    """The run, and within it the task, that the current code belongs to."""

    run: FlowRun
    task: TaskCall | None

    @property
    def scope_seq(self) -> int:
        """0 in the flow function, else the seq of the task: half of the identity of the calls made here."""
        return self.task.seq if self.task is not None else 0


current_frame: Final = cast("ContextVar[Frame | None]", context.current_frame)
current_transaction: Final = cast("ContextVar[Transaction | None]", context.current_transaction)
require_frame: Final = cast("Callable[[str], Frame]", context.require_frame)
holding: Final[ContextVar[tuple[Ask, ...]]] = ContextVar("flowdeck_holding_slots", default=())
"""What the present code holds slots by, outermost first. What it submits begins with none: it is not waited for."""


# ---- whose output it is that comes through the process's descriptors, which say nothing of who wrote ----------------

Speaker = tuple[int, int | None]
"""Run id, and seq of the task."""


class Slot(Protocol):
    """An activation of user code."""

    is_open: bool
    """Whether the code runs, or a program it waits for; not while it waits in the engine."""


class Speakers:
    """The code that runs in this process; from any thread. Whose output comes is known while one alone runs here.

    Between two looks at the descriptors everybody counts who ran.
    """

    def __init__(self, root_id: int) -> None:
        self._root_id = root_id
        self._slots: dict[Slot, Speaker] = {}
        self._coroutines: set[Slot] = set()
        self.since: set[Speaker] = set()
        """Who has run since the last look."""

    def enter(self, slot: Slot, frame: Frame, *, is_coroutine: bool) -> Callable[[], None]:
        """Code begins, just after a look; returns what it calls when it goes on."""
        speaker = (frame.run.id, frame.task.seq if frame.task is not None else None)
        if is_coroutine and speaker[1] is None:
            self._coroutines.add(slot)
        self._slots[slot] = speaker
        self.since = self._running() | {speaker}
        return partial(self._note, speaker)

    def _note(self, speaker: Speaker) -> None:
        self.since.add(speaker)

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
