"""The gate every task passes before it starts: shut while the run is paused, broken when it is cancelled or left.

It also counts who is busy, so that ``Paused`` is said only once nothing of the run executes any more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...context import current_frame
from ...errors import Suspended
from ...states.state import Cancelled
from .interrupts import current_thread_slot, wait_set, woken_by

if TYPE_CHECKING:
    from ..calls.frame import Frame
    from .interrupts import ThreadSlot


class Gate:
    """One per root run; safe from any thread."""

    def __init__(self) -> None:
        self._state_lock = threading.Lock()
        self._open = True
        self._cancelled: str | None = None
        self.is_leaving = False
        """The process leaves a run that goes on later: everybody gets ``Suspended`` instead of ``Cancelled``."""
        self._shut_at: float | None = None
        self._held = 0.0
        self._lock = threading.Lock()
        self._depths: dict[int, list[int]] = {}
        """By activation of user code, in how many waits it is. Entered and left without a lock: tens of thousands of
        times a second, by threads that would queue up behind whoever holds it without having the interpreter."""
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
        return sum(1 for depth in tuple(self._depths.values()) if depth[0] == 0)

    @property
    def waits(self) -> int:
        """In how many waits activations of user code are, those within waits counted each."""
        return sum(depth[0] for depth in tuple(self._depths.values()))

    @property
    def held_seconds(self) -> float:
        """How long it has been shut in all: time that counts for no timeout."""
        with self._state_lock:
            since = time.monotonic() - self._shut_at if self._shut_at is not None else 0.0
            return self._held + since

    def running_time(self) -> float:
        """A monotonic clock that stands still while the run is paused."""
        return time.monotonic() - self.held_seconds

    def check(self) -> None:
        """Raise ``Cancelled`` once the run was told to end, ``Suspended`` once its process leaves it."""
        if self._cancelled is not None:
            raise (Suspended if self.is_leaving else Cancelled)(self._cancelled)

    def shut(self) -> bool:
        """No task starts until ``release``; False when it was shut, or is broken for good."""
        with self._state_lock:
            if self._cancelled is not None or not self._open:
                return False
            self._open = False
            self._shut_at = time.monotonic()
            return True

    def release(self) -> None:
        """Tasks may start again."""
        with self._state_lock:
            self._open = True
            if self._shut_at is not None:
                self._held += time.monotonic() - self._shut_at
                self._shut_at = None
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

    def break_off(self, reason: str) -> None:
        """As ``cancel``, with ``Suspended(reason)``."""
        self.is_leaving = True
        self.cancel(reason)

    def check_left(self, error: BaseException) -> None:
        """Raise ``Suspended`` when the process leaves: whatever code raised then, it raised while it unwound."""
        if self.is_leaving:
            raise Suspended(self._cancelled) from error

    def wait_open(self, opened: threading.Event | None = None) -> None:
        """Block while shut, or until ``opened`` is set by somebody else; raises Cancelled."""
        opened = opened or threading.Event()
        if self.when_open(opened.set):
            with self.blocked(), woken_by(opened.set):
                wait_set(opened)
        self.check()

    def when_open(self, callback: Callable[[], None]) -> bool:
        """Call back at the release; False (and no call) when the gate is open now."""
        with self._state_lock:
            if self._open:
                return False
            self._waiting.append(callback)
            return True

    def sleep(self, seconds: float, ended: threading.Event | None = None) -> None:
        """Sleep, or until ``ended`` is set by somebody else; ends early with Cancelled."""
        ended = ended or threading.Event()
        with self.on_cancel(ended.set), self.blocked(), woken_by(ended.set):
            wait_set(ended, seconds)
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
        self._depths[id(frame)] = [0]

    def leave(self, frame: Frame) -> None:
        """It ended."""
        self._depths.pop(id(frame), None)

    def in_engine(self) -> _InEngine:
        """Around a call of this run's code into the engine that waits there: it is not interrupted, nor busy."""
        return _InEngine(self._lock, self._depths.get(id(current_frame.get())))

    def blocked(self) -> _Blocked:
        """Around waiting for something of this run: the current code is not busy meanwhile."""
        return _Blocked(self._lock, self._depths.get(id(current_frame.get())))


class _Blocked:
    """A block in which an activation of user code waits. Blocks nest; threads of the user's own may share a frame."""

    __slots__ = ("_depth", "_lock")

    def __init__(self, lock: threading.Lock, depth: list[int] | None) -> None:
        self._lock = lock
        self._depth = depth

    def __enter__(self) -> None:
        if self._depth is not None:
            with self._lock:
                self._depth[0] += 1

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._depth is not None:
            with self._lock:
                self._depth[0] -= 1


class _InEngine(_Blocked):
    """``engine_code`` and ``blocked`` in one, for what runs with every task."""

    __slots__ = ("_slot",)

    def __enter__(self) -> None:
        slot = current_thread_slot()
        self._slot: ThreadSlot | None = slot if slot is not None and slot.is_open else None
        if self._slot is not None:
            self._slot.close()
        _Blocked.__enter__(self)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        _Blocked.__exit__(self, kind, error, trace)
        if self._slot is not None:
            self._slot.open()
