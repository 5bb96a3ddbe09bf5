"""User code that runs now, each activation of it with its slot: what can be interrupted, timed out and counted as busy.

The only place that knows whose code runs where. It interrupts; why, and what is recorded of it, others decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..calls.frame import Frame
    from ..effects.gate import Gate
    from ..effects.host import Owner
    from ..effects.interrupts import Slot
    from .node_requests import NodeRequests
    from .timeouts import Active, Timeouts


class Activations:
    """The user code of one root run. Changed without a lock: who ends them first breaks the gate, then reads them."""

    def __init__(self, gate: Gate, nodes: NodeRequests, timeouts: Timeouts) -> None:
        self.gate = gate
        self.nodes = nodes
        self.timeouts = timeouts
        self.slots: dict[Slot, Owner] = {}
        """The call or run whose code runs in each."""

    def interruptible(self, frame: Frame, owner: Owner, slot: Slot) -> _Activation:
        """Around an activation of user code: it can be cancelled and timed out, and counts as busy."""
        return _Activation(self, frame, owner, slot)

    @contextmanager
    def listed(self, slot: Slot, owner: Owner) -> Iterator[None]:
        """Around what comes before an activation: who is told to end hears it there, too."""
        self.slots[slot] = owner
        try:
            yield
        finally:
            self.slots.pop(slot, None)

    def running(self) -> list[tuple[Slot, Owner]]:
        """User code that runs now: where, and of which call or run."""
        return list(self.slots.copy().items())

    def interrupt_all(self, error: BaseException) -> None:
        """Raise ``error`` in all of it."""
        for slot in self.slots.copy():
            slot.interrupt(error)


class _Activation:
    """One activation of user code, known to the run while it lasts."""

    __slots__ = ("_activations", "_frame", "_owner", "_slot", "_timer")

    def __init__(self, activations: Activations, frame: Frame, owner: Owner, slot: Slot) -> None:
        self._activations = activations
        self._frame = frame
        self._owner = owner
        self._slot = slot
        self._timer: Active | None = None

    def __enter__(self) -> None:
        activations, owner, slot = self._activations, self._owner, self._slot
        activations.slots[slot] = owner
        activations.gate.enter(self._frame)
        try:
            if seconds := owner.timeout_seconds:
                self._timer = activations.timeouts.start(owner, slot, seconds)
            if activations.gate.is_cancelled:
                activations.gate.check()
            if activations.nodes.told is not None:
                activations.nodes.told.check(owner)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        self._activations.gate.leave(self._frame)
        if self._timer is not None:
            self._timer.end()
        del self._activations.slots[self._slot]
