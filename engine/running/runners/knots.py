"""Threads that wait for each other for ever: one waits for a call that cannot go on before that thread does.

An event loop carries many calls; one of them that waits without ``await`` holds up all. Who would close such a circle
is told so, instead of hanging. Waits that have a limit, and those of coroutines, end by themselves.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...errors import UsageError

if TYPE_CHECKING:
    from ..calls.task_call import TaskCall


class Knots:
    """Which thread of one root run waits for which call; ``thread_of`` says which thread has a call now, if any."""

    def __init__(self, thread_of: Callable[[TaskCall], int | None]) -> None:
        self._thread_of = thread_of
        self._waits: dict[int, TaskCall] = {}

    def begin(self, call: TaskCall) -> TaskCall | None:
        """Before a wait without a limit; raises ``UsageError`` where it would never end. Hand what it gives to ``end``.
        """
        own = threading.get_ident()
        outer = self._waits.get(own)
        self._waits[own] = call  # first: of two that begin at once the later one sees the other
        try:
            self._check(own, call)
        except UsageError:
            self.end(outer)
            raise
        return outer

    def end(self, outer: TaskCall | None) -> None:
        """The wait is over; ``outer`` is what the same thread waits for around it."""
        if outer is None:
            self._waits.pop(threading.get_ident(), None)
        else:
            self._waits[threading.get_ident()] = outer

    def _check(self, own: int, call: TaskCall) -> None:
        awaited: TaskCall | None = call
        seen: set[int] = set()
        while awaited is not None:
            thread = self._thread_of(awaited)
            if thread == own:
                raise UsageError(
                    f"waiting for {call.name} ({call.reference}) here would never end: {awaited.name} "
                    f"({awaited.reference}) goes on only once this wait is over; hand the future to the task as an "
                    "argument, or, in async code, wait with await asyncio.to_thread(future.result)"
                )
            if thread is None or thread in seen:
                return
            seen.add(thread)
            awaited = self._waits.get(thread)
