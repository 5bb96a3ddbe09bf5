"""The log of one root run as ``LogView`` wants it: pages at once, searches on other threads.

It has its own read-only connections, apart from the feed's: a page costs some 0.1 ms and is read while drawing, so it
must not wait for anybody. A store in trouble gives no lines; the feed says what the trouble is.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ...store.errors import StoreError
from ...store.patterns import Pattern
from ...store.reader import Reader
from ...store.rows import LogRow

SEARCH_LINES: Final = 2_000
"""Lines handed over by one piece of a search."""


class StoreLog:
    """Reads the lines of one root run."""

    def __init__(self, folder: Path, root_id: int) -> None:
        self.folder = folder
        self.root_id = root_id
        self._pages: Reader | None = None
        self._searches: Reader | None = None
        self._search_lock = threading.Lock()
        self._closed = False
        self._known = 0

    def count(self) -> int:
        """How many lines there are."""
        try:
            if self._pages is None:
                self._pages = Reader(self.folder)
            self._known = self._pages.log_count(self.root_id)
        except StoreError:
            self._drop_pages()
        return self._known

    def page(self, from_line: int, limit: int) -> Sequence[LogRow]:
        """Up to ``limit`` lines from this one on."""
        try:
            if self._pages is None:
                self._pages = Reader(self.folder)
            return self._pages.logs(self.root_id, from_line, limit)
        except StoreError:
            self._drop_pages()
            return ()

    def search(
        self, pattern: Pattern | None, min_level: int, task: tuple[int, int] | None, from_line: int, limit: int
    ) -> tuple[Sequence[int], int]:
        """The next lines that fit, and where to go on; for other threads than the two above."""
        with self._search_lock:
            if self._closed:
                return (), from_line
            try:
                if self._searches is None:
                    self._searches = Reader(self.folder)
                found = self._searches.search_logs(
                    self.root_id, min_level=min_level, run_id=task[0] if task else None,
                    task_seq=task[1] if task else None, pattern=pattern, from_line=from_line, limit=limit,
                )  # fmt: skip
            except StoreError:
                return (), from_line
        return [row.line for row in found.rows], found.next_line

    def close(self) -> None:
        """Close the connections."""
        self._drop_pages()
        with self._search_lock:
            self._closed = True
            if self._searches is not None:
                self._searches.close()
                self._searches = None

    def _drop_pages(self) -> None:
        if self._pages is not None:
            self._pages.close()
            self._pages = None
