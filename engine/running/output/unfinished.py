"""Lines that were begun and not ended, as who looks at the run sees them: written a few times a second, not kept.

A file of its own holds them, all anew each time: so a line that is drawn for hours takes no room, and is there when the
process is killed. A line that ends is gone from there before it is kept.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Final

from ....store.spool_lines import DRAWN_LEVEL, record
from ...secrets.masking import decided_text, mask
from ...system.clock import now_us

if TYPE_CHECKING:
    from ....store.spool import SpoolWriter
    from .streams import Unfinished

_SECONDS: Final = 0.1
"""Between two writes, however fast somebody draws."""
_MOST_LINES: Final = 64
_MOST_CHARACTERS: Final = 4096


class UnfinishedLines:
    """The unfinished lines of one process; from any thread."""

    def __init__(self, spool: SpoolWriter) -> None:
        self._spool = spool
        self._lines: dict[Unfinished, tuple[int, int | None, str]] = {}
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._written: set[Unfinished] = set()
        self._next = 0.0
        self.is_stale = False
        """Whether something has changed since they were written."""

    def add(self, line: Unfinished, run_id: int, task_seq: int | None, stream: str) -> None:
        """Show this one, too."""
        self._lines[line] = (run_id, task_seq, stream)
        self.is_stale = True

    def end(self, line: Unfinished) -> None:
        """It is over; what is seen of it goes at once, for it is kept as a whole line now."""
        self._lines.pop(line, None)
        if line in self._written:
            self.write()
        elif not self._lines:
            self.is_stale = False

    def tick(self) -> None:
        """Write what has changed, now and then."""
        if self.is_stale and time.monotonic() >= self._next:
            self.write()

    def write(self) -> None:
        """Write what there is."""
        if self._spool.whose is None or self._pid != os.getpid():
            return  # the file is of the run's own process
        with self._lock:
            if not self._lines and not self._written:
                return
            self.is_stale = False
            self._next = time.monotonic() + _SECONDS
            at_us = now_us()
            records: list[bytes] = []
            lines = list(self._lines.items())
            self._written = {line for line, _ in lines}
            for line, (run_id, seq, stream) in lines:
                for text in line.rows():
                    text = mask(text[: decided_text(text)])[:_MOST_CHARACTERS]
                    if text and len(records) < _MOST_LINES:
                        records.append(record(at_us, run_id, seq, DRAWN_LEVEL, stream, stream, text))
            self._spool.show(records)
