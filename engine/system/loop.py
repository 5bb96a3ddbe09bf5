"""The daemon's one loop: readable descriptors, timers, signals and a look at the store, all in one thread.

While nobody writes to the store the loop sleeps: inotify on the database's log wakes it.

Callbacks run one after the other and must not block. ``post`` and ``stop`` may be called from other threads and from
signal handlers; everything else belongs to the loop's thread.
"""

from __future__ import annotations

import heapq
import itertools
import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from .dispositions import is_ignored
from .inotify import FileWrites

LOOK_SECONDS: Final = 0.025
"""How often the store is looked at while others write to it."""
FIRST_LOOK_SECONDS: Final = 0.001
"""After the first write of a quiet time: its commit follows the write by a moment, so looks come soon, then less so."""
OFTEN_SECONDS: Final = 1.0
"""How long looking often goes on after a write."""
REST_SECONDS: Final = 1.0
"""Between looks while nobody writes."""


class Watched:
    """What is called of one descriptor."""

    def __init__(self, readable: Callable[[], None]) -> None:
        self.readable = readable
        self.writable: Callable[[], None] | None = None


class Loop:
    """Runs until ``stop``."""

    def __init__(self, look: Callable[[], None], trouble: Callable[[Exception], None]) -> None:
        self._look = look
        self._trouble = trouble
        self._selector = selectors.DefaultSelector()
        self._watched: dict[int, Watched] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._posted: deque[Callable[[], None]] = deque()
        self._stopping = False
        self._wake_at = 0.0
        self._writes: FileWrites | None = None
        self._resting = False
        self._often_until = 0.0
        self._look_after = LOOK_SECONDS
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watch(self._wake_read, self._drain_wake)
        self._signals: dict[int, Any] = {}

    def watch(self, descriptor: int, ready: Callable[[], None]) -> None:
        """Call back whenever the descriptor is readable."""
        watched = self._watched[descriptor] = Watched(ready)
        self._selector.register(descriptor, selectors.EVENT_READ, watched)

    def watch_writable(self, descriptor: int, ready: Callable[[], None] | None) -> None:
        """Also whenever a watched descriptor is writable; None ends that."""
        watched = self._watched[descriptor]
        if (watched.writable is None) != (ready is None):
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if ready is not None else 0)
            self._selector.modify(descriptor, events, watched)
        watched.writable = ready

    def forget(self, descriptor: int) -> None:
        """Watch it no more; call before closing it. Nothing of it is called any more, from now on."""
        del self._watched[descriptor]
        self._selector.unregister(descriptor)

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back once, so much later."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), callback))

    def rest_between(self, writes: FileWrites) -> None:
        """Look only now and then while nobody writes."""
        self._writes = writes
        self._rest()

    def wake_at(self, monotonic: float) -> None:
        """Look again at this instant of the monotonic clock at the latest; said anew at each look."""
        self._wake_at = monotonic

    def post(self, callback: Callable[[], None]) -> None:
        """Call back in the loop's thread, soon."""
        self._posted.append(callback)
        self._wake()

    def stop(self) -> None:
        """End the loop after the callbacks at hand."""
        self._stopping = True
        self._wake()

    def on_signal(self, number: signal.Signals, callback: Callable[[], None]) -> None:
        """Call back in the loop when the signal comes; ``close`` puts the old handler back. Ignored stays ignored."""
        if is_ignored(number):
            return
        self._signals[number] = signal.signal(number, lambda *_: self.post(callback))

    def run(self) -> None:
        """Until ``stop``."""
        while not self._stopping:
            for key, mask in self._selector.select(self._wait_seconds()):
                watched: Watched = key.data
                # One called before may have forgotten this descriptor, closed it, and opened another of its number.
                if mask & selectors.EVENT_READ and self._watched.get(key.fd) is watched:
                    self._call(watched.readable)
                if mask & selectors.EVENT_WRITE and self._watched.get(key.fd) is watched:
                    self._call(watched.writable)
            while self._posted:
                self._call(self._posted.popleft())
            self._run_timers()
            self._call(self._look)
            if self._writes is not None and not self._resting and time.monotonic() > self._often_until:
                self._rest()

    def close(self) -> None:
        """Put signal handlers back and close what is the loop's own."""
        for number, handler in self._signals.items():
            signal.signal(number, handler)
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _wait_seconds(self) -> float:
        first = min(self._wake_at, self._timers[0][0]) if self._timers else self._wake_at
        look = REST_SECONDS if self._resting else self._look_after
        self._look_after = min(2 * self._look_after, LOOK_SECONDS)
        return max(0.0, min(look, first - time.monotonic()))

    def _rest(self) -> None:
        assert self._writes is not None
        if self._writes.drain():
            self._often_until = time.monotonic() + OFTEN_SECONDS
        else:
            self._resting = True
            self.watch(self._writes.fileno(), self._wake_up)

    def _wake_up(self) -> None:
        """Somebody writes: not to be woken by each write, look at intervals until it is quiet again."""
        assert self._writes is not None
        self.forget(self._writes.fileno())
        self._writes.drain()
        self._resting = False
        self._look_after = FIRST_LOOK_SECONDS
        self._often_until = time.monotonic() + OFTEN_SECONDS

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            self._call(heapq.heappop(self._timers)[2])

    def _call(self, callback: Callable[[], None] | None) -> None:
        try:
            if callback is not None:
                callback()
        except Exception as error:  # noqa: BLE001 - one failed step must not take the daemon down; it is said and retried
            self._trouble(error)

    def _drain_wake(self) -> None:
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            return

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"x")
        except (BlockingIOError, OSError):
            return  # full: it will wake anyway; closed: nobody is there to wake
