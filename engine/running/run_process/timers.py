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


_FEW: Final = 64
"""So many that were taken back may stay until their time."""


class Timer:
    """One call to come; whoever does not need it any more takes it back, so that nothing of it is kept."""

    __slots__ = ("_timers", "callback")

    def __init__(self, timers: Timers, callback: Callable[[], None]) -> None:
        self._timers = timers
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Nothing is called, unless it has been."""
        self._timers.take_back(self)


class Timers:
    """The timers of one root run."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._heap: list[tuple[float, int, Timer]] = []
        self._taken_back = 0
        """Of those in the heap: they go once they are the greater part, or their time has come."""
        self._ids = itertools.count()

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Have ``callback`` called in ``seconds``."""
        timer = Timer(self, callback)
        with self._lock:
            heapq.heappush(self._heap, (time.monotonic() + seconds, next(self._ids), timer))
            is_first = self._heap[0][2] is timer
        if is_first and seconds < TICK_SECONDS:  # else the next tick comes before it
            self._wake()
        return timer

    def take_back(self, timer: Timer) -> None:
        """See ``Timer.cancel``."""
        with self._lock:
            if timer.callback is None:
                return
            timer.callback = None
            self._taken_back += 1
            if self._taken_back > _FEW and 2 * self._taken_back > len(self._heap):
                self._heap = [entry for entry in self._heap if entry[2].callback is not None]
                heapq.heapify(self._heap)
                self._taken_back = 0

    @property
    def pending(self) -> int:
        """How many are kept, those that were taken back and are still to be cleared away with them."""
        return len(self._heap)

    def take_due(self) -> list[Callable[[], None]]:
        """What is to be called now, the earliest first; they are no longer kept."""
        due: list[Callable[[], None]] = []
        with self._lock:
            now = time.monotonic()
            while self._heap and self._heap[0][0] <= now:
                timer = heapq.heappop(self._heap)[2]
                callback, timer.callback = timer.callback, None
                if callback is None:
                    self._taken_back -= 1
                else:
                    due.append(callback)
        return due

    def seconds_left(self) -> float:
        """How long until the next is due; a tick at most."""
        with self._lock:
            if not self._heap:
                return TICK_SECONDS
            return max(0.0, min(TICK_SECONDS, self._heap[0][0] - time.monotonic()))
