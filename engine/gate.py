"""The gate every task passes before it starts: shut while the run is paused, broken when it is cancelled.

It also counts who is busy, so that ``Paused`` is said only once nothing of the run executes any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .context import current_frame
from .errors import Cancelled
from .interrupts import woken_by

if TYPE_CHECKING:
    from .context import Frame


class Gate:
    """One per root run; safe from any thread."""

    def __init__(self) -> None:
        self._state_lock = threading.Lock()
        self._open = True
        self._cancelled: str | None = None
        self._lock = threading.Lock()
        self._busy = 0
        self._depths: dict[int, int] = {}
        self._waiting: list[Callable[[], None]] = []
        self._wakers: set[Callable[[], None]] = set()

    def is_open(self) -> bool:
        """Whether tasks may start (also once cancelled, where ``check`` then raises)."""
        return self._open

    @property
    def is_cancelled(self) -> bool:
        """Whether the run was told to end."""
        return self._cancelled is not None

    @property
    def busy(self) -> int:
        """How many activations of user code execute and are not blocked in the engine."""
        return self._busy

    def check(self) -> None:
        """Raise ``Cancelled`` once the run was told to end."""
        if self._cancelled is not None:
            raise Cancelled(self._cancelled)

    def shut(self) -> None:
        """No task starts until ``release``."""
        with self._state_lock:
            if self._cancelled is None:
                self._open = False

    def release(self) -> None:
        """Tasks may start again."""
        with self._state_lock:
            self._open = True
            waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()

    def cancel(self, reason: str) -> None:
        """Everybody who waits here, or comes here later, gets ``Cancelled(reason)``."""
        with self._state_lock:
            self._cancelled = reason
            wakers = list(self._wakers)
        self.release()
        for wake in wakers:
            wake()

    def wait_open(self) -> None:
        """Block while shut; raises Cancelled."""
        opened = threading.Event()
        if self.when_open(opened.set):
            with self.blocked(), woken_by(opened.set):
                opened.wait()
        self.check()

    def when_open(self, callback: Callable[[], None]) -> bool:
        """Call back at the release; False (and no call) when the gate is open now."""
        with self._state_lock:
            if self._open:
                return False
            self._waiting.append(callback)
            return True

    def sleep(self, seconds: float) -> None:
        """Sleep; ends early with Cancelled."""
        ended = threading.Event()
        with self.on_cancel(ended.set), self.blocked(), woken_by(ended.set):
            ended.wait(seconds)
        self.check()

    @contextmanager
    def on_cancel(self, wake: Callable[[], None]) -> Iterator[None]:
        """While inside, ``wake`` is called (from any thread) when the run is cancelled."""
        with self._state_lock:
            self._wakers.add(wake)
            cancelled = self._cancelled is not None
        try:
            if cancelled:
                wake()
            yield
        finally:
            with self._state_lock:
                self._wakers.discard(wake)

    def enter(self, frame: Frame) -> None:
        """User code of ``frame`` begins to execute."""
        with self._lock:
            self._depths[id(frame)] = 0
            self._busy += 1

    def leave(self, frame: Frame) -> None:
        """It ended."""
        with self._lock:
            if self._depths.pop(id(frame)) == 0:
                self._busy -= 1

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """Around waiting for something of this run: the current code is not busy meanwhile."""
        frame = current_frame.get()
        key = id(frame)
        self._shift(key, 1)
        try:
            yield
        finally:
            self._shift(key, -1)

    def _shift(self, key: int, by: int) -> None:
        with self._lock:
            depth = self._depths.get(key)
            if depth is None:
                return
            self._depths[key] = depth + by
            if depth == 0:
                self._busy -= 1
            elif depth + by == 0:
                self._busy += 1
