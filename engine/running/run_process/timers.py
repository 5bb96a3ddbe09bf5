"""What is to be called at a time: asked for by any thread, called by the watcher's, at the precision of its tick."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from typing import Final

TICK_SECONDS: Final = 0.04
"""How often the watcher looks when nothing is due before."""


class Timers:
    """The timers of one root run. They are never taken back: what is over by then does nothing."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._ids = itertools.count()

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Have ``callback`` called in ``seconds``."""
        with self._lock:
            heapq.heappush(self._heap, (time.monotonic() + seconds, next(self._ids), callback))
        self._wake()

    def take_due(self) -> list[Callable[[], None]]:
        """What is to be called now, the earliest first; they are no longer kept."""
        due = []
        with self._lock:
            now = time.monotonic()
            while self._heap and self._heap[0][0] <= now:
                due.append(heapq.heappop(self._heap)[2])
        return due

    def seconds_left(self) -> float:
        """How long until the next is due; a tick at most."""
        with self._lock:
            if not self._heap:
                return TICK_SECONDS
            return max(0.0, min(TICK_SECONDS, self._heap[0][0] - time.monotonic()))
