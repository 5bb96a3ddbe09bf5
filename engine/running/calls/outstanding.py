"""What a run submitted and has not ended yet, and which failures among it nobody has looked at."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ...states.state import State, aggregate
from .futures import Future


class Outstanding:
    """Submitted calls that have not ended, and the failures nobody has looked at."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._total = 0
        self._idle: list[Callable[[], None]] = []
        self._unhandled: list[Future[Any]] = []
        self._callbacks = (self._ended,)

    def add(self, future: Future[Any]) -> None:
        """Count a submitted call until its future settles."""
        with self._lock:
            self._count += 1
            self._total += 1
        future.tell_first(self._callbacks)

    def _ended(self, future: Future[Any]) -> None:
        completed = future.has_completed
        with self._lock:
            self._count -= 1
            if not completed:
                self._unhandled.append(future)
            idle, self._idle = (self._idle, []) if self._count == 0 else ([], self._idle)
        for callback in idle:
            callback()

    def done(self) -> bool:
        """Whether every submitted call has ended."""
        return self._count == 0

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call back once every submitted call has ended; at once when that is so."""
        with self._lock:
            if self._count:
                self._idle.append(callback)
                return
        callback()

    def verdict(self) -> State | None:
        """Failed when a submitted call ended badly and no user code looked at its outcome."""
        with self._lock:
            ended = [(f, f.outcome) for f in self._unhandled if not f.handled and f.outcome is not None]
            total = self._total
        bad = [state for _, state in ended if state.name != "Skipped"]
        if not bad or all(future.passed_on for future, _ in ended):
            return None
        state = aggregate(bad)
        # What failed by itself comes before what did not start because of it.
        own = [(f, s) for f, s in ended if s.is_failed() or s.is_crashed()] or ended
        first = next((f"{f.call.name}: {s.message}" for f, s in own if s.message and f.call is not None), None)
        word = "failed" if state.type == "FAILED" else "cancelled"
        text = f"{len(bad)}/{total} states {word}." + (f" First: {first}" if first else "")
        return State(state.type, None, text, data=bad, error=next((s.error for _, s in own if s.error), state.error))
