"""Done callbacks of futures, on a thread of their own: what waits or fails in one holds up no thread of the engine.

They run one after the other, in the order in which their futures settled. What one raises is logged.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from ..calls.futures import call_back


class Callbacks:
    """Those of one root run. The thread starts with the first and ends with the run."""

    def __init__(self) -> None:
        self._handed_over: SimpleQueue[tuple[Callable[[Any], None], Any] | None] = SimpleQueue()
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, callback: Callable[[Any], None], future: Any) -> None:
        """Have it called with its future, which has settled; from any thread, never blocks."""
        self._handed_over.put((callback, future))
        with self._start_lock:
            if self._thread is None:
                thread = threading.Thread(target=self._serve, name="flowdeck-callbacks", daemon=True)
                thread.start()
                self._thread = thread

    def close(self, timeout_seconds: float) -> bool:
        """Wait for those handed over; False when one of them goes on, which ends with the process."""
        with self._start_lock:
            thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        self._handed_over.put(None)
        thread.join(timeout_seconds)
        return not thread.is_alive()

    def _serve(self) -> None:
        while (waiting := self._handed_over.get()) is not None:
            with suppress(Exception):  # a log handler of the user's that raises on the report; the rest are still owed
                call_back(*waiting)

