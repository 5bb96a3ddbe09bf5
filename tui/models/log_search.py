"""What is searched in a log, and what of it was found so far. Pure: it asks, others search, it takes the answers.

Every filter, every search text and the jump to the next error is one ``Query``; what was found of it is an array of
line numbers that grows from the first line on, in pieces, and goes on growing with the log.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ...store.patterns import Pattern
from ...store.patterns import pattern_of as compile_pattern

if TYPE_CHECKING:
    from ...store.rows import LogRow

__all__ = ["Found", "LogSource", "Query", "Scan", "Searches", "TaskRef", "compile_pattern"]

TaskRef = tuple[int, int]
"""Run id and seq."""


class LogSource(Protocol):
    """Where the lines come from. ``search`` may be called on another thread than the two others."""

    def count(self) -> int:
        """How many lines there are; they are numbered from 0 without gaps."""

    def page(self, from_line: int, limit: int) -> Sequence[LogRow]:
        """Up to ``limit`` lines from a line on; at once, for it is called while drawing."""

    def search(
        self, pattern: Pattern | None, min_level: int, task: TaskRef | None, from_line: int, limit: int
    ) -> tuple[Sequence[int], int]:
        """Numbers of the next lines that fit, and where to go on. It may look at few lines only and find none."""


class Query(NamedTuple):
    """What a line must be to be found."""

    pattern: Pattern | None = None
    min_level: int = 0
    task: TaskRef | None = None

    @property
    def everything(self) -> bool:
        """Whether every line fits."""
        return self.pattern is None and not self.min_level and self.task is None


@dataclass(slots=True)
class Scan:
    """The lines found for a query so far: all that fit below ``next_from``."""

    lines: array[int] = field(default_factory=lambda: array("q"))
    next_from: int = 0
    asked: bool = False


class Found(NamedTuple):
    """The answer to where the next line is."""

    line: int | None
    certain: bool
    """False while the search has not come far enough to know."""


class Searches:
    """All searches in one log. ``ask`` is called for the next piece of one, at most once until its answer came."""

    def __init__(self, ask: Callable[[Query, int], None]) -> None:
        self._ask = ask
        self._scans: dict[Query, Scan] = {}
        self.count = 0
        """Lines of the log."""

    def clear(self) -> None:
        """Another log: forgets everything; answers that are under way are not taken."""
        self._scans.clear()
        self.count = 0

    def grew(self, count: int) -> None:
        """The log has so many lines now: searches on in the new ones."""
        self.count = count
        for query in self._scans:
            self._go_on(query)

    def scan(self, query: Query) -> Scan:
        """What was found of this query; starts its search if it is new."""
        scan = self._scans.get(query)
        if scan is None:
            scan = self._scans[query] = Scan()
            self._go_on(query)
        return scan

    def take(self, query: Query, lines: Iterable[int], next_from: int) -> bool:
        """An answer; False when nobody waits for it any more."""
        scan = self._scans.get(query)
        if scan is None or not scan.asked:
            return False
        scan.asked = False
        scan.lines.extend(lines)
        if next_from > scan.next_from:
            scan.next_from = next_from
            self._go_on(query)
        # Else the source could not look (a store in trouble): it is asked again when the log is said to have grown.
        return True

    def keep(self, queries: Iterable[Query]) -> None:
        """Ends all other searches."""
        self._scans = {query: self._scans[query] for query in queries if query in self._scans}

    def complete(self, query: Query) -> bool:
        """Whether every line was looked at."""
        return query.everything or self.scan(query).next_from >= self.count

    def find(self, query: Query, start: int, step: int) -> Found:
        """The next line that fits below (1) or above (-1) a line."""
        if query.everything:
            line = start + step
            return Found(line if 0 <= line < self.count else None, True)
        scan = self.scan(query)
        if step > 0:
            at = bisect_right(scan.lines, start)
            certain = at < len(scan.lines) or scan.next_from >= self.count
        else:
            at = bisect_left(scan.lines, start) - 1
            certain = scan.next_from >= min(start, self.count)
        return Found(scan.lines[at] if 0 <= at < len(scan.lines) else None, certain)

    def _go_on(self, query: Query) -> None:
        scan = self._scans[query]
        if not scan.asked and scan.next_from < self.count and not query.everything:
            scan.asked = True
            self._ask(query, scan.next_from)
