"""What the daemon has set itself to do later, each at an instant of the monotonic clock. Reads no clock itself."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from ..system.clock import Now


class Agenda:
    """Steps that are done when their time has come, the earliest first."""

    def __init__(self) -> None:
        self._steps: list[tuple[float, int, Callable[[Now], None]]] = []
        self._numbers = itertools.count()

    def after(self, seconds: float, now: Now, step: Callable[[Now], None]) -> None:
        """Do something so long after ``now``, told what time it is then."""
        heapq.heappush(self._steps, (now.monotonic + seconds, next(self._numbers), step))

    def tick(self, now: Now) -> None:
        """Do what is due."""
        while self._steps and self._steps[0][0] <= now.monotonic:
            heapq.heappop(self._steps)[2](now)

    def next_at(self) -> float | None:
        """When something is due first; None when nothing is to be done."""
        return self._steps[0][0] if self._steps else None
