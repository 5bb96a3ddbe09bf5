"""Calls that have begun, on their way into the store: written only of those that still run at the next tick.

Most have ended by then, and the record of their end says when they began.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ....store.connection import Connection
from ..calls.task_call import write_beginning

if TYPE_CHECKING:
    from ....store.writer import Writer
    from ..calls.task_call import TaskCall


class Beginnings:
    """Of the calls of one root run. Noted by any thread, written by the watcher's."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._unwritten: deque[TaskCall] = deque()
        self.note = self._unwritten.append

    def write(self) -> None:
        """Let the store know of the calls that began and have not ended."""
        running = []
        while self._unwritten:
            call = self._unwritten.popleft()
            if (beginning := call.beginning) is not None:
                running.append((call, beginning))

        def write(conn: Connection) -> None:
            for call, beginning in running:
                write_beginning(conn, call, beginning)

        if running:
            self._writer.soon(write)
