"""The part of a log that is in sight: which line stands in which row, with a filter, wrapped or not, following or not.

Knows nothing of the screen but its size. A place is the index of a line among those that pass the filter, and how many
of its rows are above the first row in sight; so no place costs more than the rows of one screen.
"""

from __future__ import annotations

from bisect import bisect_left

from .log_lines import Line, Lines, cuts
from .log_search import Query, Searches


class LogWindow:
    """A window of ``height`` rows, each ``width`` cells of text."""

    def __init__(self, lines: Lines, searches: Searches) -> None:
        self._lines = lines
        self._searches = searches
        self.width = 1
        self.height = 1
        self.filter = Query()
        self.following = True
        self.wrap = False
        self.top = 0
        """Index of the first line in sight among those that pass the filter."""
        self.skip = 0
        """Rows of that line above the first in sight, when lines are wrapped."""
        self._rows: tuple[tuple[int, int], ...] | None = None

    @property
    def shown(self) -> int:
        """How many lines pass the filter, as far as is known."""
        return self._searches.count if self.filter.everything else len(self._searches.scan(self.filter).lines)

    def line_at(self, index: int) -> int:
        """The number of a line that passes the filter."""
        return index if self.filter.everything else self._searches.scan(self.filter).lines[index]

    def index_of(self, line: int) -> int:
        """Where this line, or the next one that passes the filter, stands."""
        return line if self.filter.everything else bisect_left(self._searches.scan(self.filter).lines, line)

    def ready(self, index: int) -> Line | None:
        """The line at this index, styled."""
        return self._lines.get(self.line_at(index))

    def in_sight(self, line: int) -> bool:
        """Whether some row of this line can be seen."""
        return any(self.line_at(index) == line for index, _ in self.rows())

    def rows(self) -> tuple[tuple[int, int], ...]:
        """For each row in sight the index of its line, and which row of that line it is."""
        if self._rows is None:
            index, skip, last = self.top, self.skip, min(self.top + self.height, self.shown)
            self._lines.read([self.line_at(i) for i in range(index, last)], alone=not self.filter.everything)
            rows: list[tuple[int, int]] = []
            while len(rows) < self.height and index < last:
                rows += ((index, part) for part in range(skip, self.height_of(index)))
                index, skip = index + 1, 0
            self._rows = tuple(rows[: self.height])
        return self._rows

    def height_of(self, index: int) -> int:
        """Rows this line takes."""
        line = self.ready(index) if self.wrap else None
        return len(cuts(line, self.width)) if line is not None else 1

    # ---- moving -----------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Lines changed: find the rows anew."""
        self._rows = None

    def settle(self) -> None:
        """Goes to the end when following, and never beyond it."""
        self.place(*(self._end() if self.following else (self.top, self.skip)))

    def place(self, index: int, skip: int = 0) -> None:
        """Puts this line first, or as far up as the last line lets it."""
        self.top, self.skip = min((max(0, index), skip if index >= 0 else 0), self._end())
        self._rows = None

    def go_to(self, line: int) -> bool:
        """Brings a line into sight, a third down; False while the filter has not reached it."""
        if not self.in_sight(line):
            index = self.index_of(line)
            if index >= self.shown:
                return False
            self.place(index - self.height // 3)
        return True

    def move(self, rows: int) -> bool:
        """Scrolls by rows; scrolling up ends following. Says whether anything is other than before."""
        before = self.top, self.skip, self.following
        self.following = self.following and rows > 0
        index, skip = (self.top, self.skip + rows) if self.wrap else (self.top + rows, 0)
        while skip < 0 and index > 0:
            index -= 1
            skip += self.height_of(index)
        while self.wrap and index < self.shown - 1 and skip >= self.height_of(index):
            skip -= self.height_of(index)
            index += 1
        self.place(index, max(0, skip))
        return before != (self.top, self.skip, self.following)

    def _end(self) -> tuple[int, int]:
        """The place from which the last line is the last in sight."""
        room, index = self.height, self.shown
        if not self.wrap:
            return max(0, index - room), 0
        while index > 0 and room > 0:
            index -= 1
            room -= self.height_of(index)
        return index, max(0, -room)

    def thumb(self) -> tuple[int, int]:
        """First row of the scroll bar's thumb and the one after it; both 0 when everything is in sight."""
        if self.shown <= self.height and not self.top:
            return 0, 0
        size = max(1, self.height * self.height // max(self.shown, self.height))
        room = self.height - size
        start = min(room, round(room * self.top / max(1, self.shown - self.height)))
        return start, start + size
