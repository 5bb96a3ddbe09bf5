"""The lines of a log, read in blocks and kept ready to draw: times, level, task and sanitised, highlighted text.

A bounded number stays ready, whatever the length of the log. Every text passes the sanitiser here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from ..look import theme
from ..look.spans import fit_spans
from ..text import times
from ..text.sanitize import clean, to_ascii

if TYPE_CHECKING:
    from ...store.patterns import Pattern
    from ...store.rows import LogRow
    from .log_search import LogSource

Clock = Literal["clock", "delta", "off"]
CLOCKS: Final[tuple[Clock, ...]] = ("clock", "delta", "off")
_CLOCK_CELLS: Final[dict[Clock, int]] = {"clock": 13, "delta": 10, "off": 0}
BLOCK: Final = 128
"""Lines read at once."""
MAX_READY: Final = 1_024
"""Lines kept ready to draw."""
_LABEL_CELLS: Final = 18
_NARROW: Final = 100
"""Below this width the names of tasks get less room."""
_NARROW_LABEL_CELLS: Final = 10


class Line(NamedTuple):
    """A line that was read and styled; the background is added when it is drawn."""

    row: LogRow
    body: Strip
    text: str


class Lines:
    """Reads lines of a source and keeps them ready."""

    def __init__(self) -> None:
        self.source: LogSource | None = None
        self.pattern: Pattern | None = None
        self._ready: OrderedDict[int, Line] = OrderedDict()

    def forget(self) -> None:
        """Lines are to be read and styled anew."""
        self._ready.clear()

    def get(self, line: int) -> Line | None:
        """This line; None when the source does not have it."""
        if line not in self._ready:
            self.read([line], alone=False)
        return self._ready.get(line)

    def read(self, lines: Sequence[int], *, alone: bool) -> None:
        """Makes these lines ready, in few reads. ``alone``: what lies between and after them is not wanted."""
        missing = [line for line in lines if line not in self._ready]
        start = 0
        while start < len(missing) and self.source is not None:
            end = start + 1
            while end < len(missing) and missing[end] - missing[start] < BLOCK:
                end += 1
            first, after = missing[start], missing[end - 1] + 1
            if not alone:
                # Whole blocks, so that scrolling reads once a block; of a growing last block only what is new.
                first = first if first - first % BLOCK in self._ready else first - first % BLOCK
                after += -after % BLOCK
            for row in self.source.page(first, after - first):
                if row.line not in self._ready:
                    self._ready[row.line] = self._style(row)
            start = end
        for line in lines:
            if line in self._ready:
                self._ready.move_to_end(line)
        while len(self._ready) > MAX_READY:
            self._ready.popitem(last=False)

    def _style(self, row: LogRow) -> Line:
        palette = theme.palette()
        text = clean(row.message)
        if palette.ascii:
            text = to_ascii(text)
        style = level_style(row.level)
        segments: list[Segment] = []
        end = 0
        for first, after in self.pattern.spans(text) if self.pattern is not None else ():
            segments += [Segment(text[end:first], style), Segment(text[first:after], palette.hit)]
            end = after
        segments.append(Segment(text[end:], style))
        return Line(row, Strip([segment for segment in segments if segment.text]), text)


class Margin:
    """What stands before the text of each line."""

    def __init__(self, task_label: Callable[[LogRow], str] | None) -> None:
        self.task_label = task_label
        self.clock: Clock = "clock"
        self.labels = True
        """Whether names of tasks are shown at all: a run without tasks has better use for the room."""

    def width(self, view_width: int) -> int:
        """Cells it takes in a view of that width."""
        label = self._label_cells(view_width) + 1 if self.task_label is not None and self.labels else 0
        return 1 + _CLOCK_CELLS[self.clock] + 2 + label

    def draw(self, row: LogRow, before: LogRow | None, view_width: int, base: Style, *, at_cursor: bool) -> Strip:
        """Mark, time (or time since the row before), level and task."""
        palette = theme.palette()
        segments = [Segment(palette.glyph("▌", ">") if at_cursor else " ", base + palette.accent)]
        if self.clock == "clock":
            at = times.local(row.at_us)
            segments.append(Segment(f"{at:%H:%M:%S}.{at.microsecond // 1000:03} ", base + palette.faint))
        elif self.clock == "delta":
            text = _delta(row.at_us - before.at_us) if before is not None else ""
            segments.append(Segment(f"{text:>9} ", base + palette.faint))
        segments.append(Segment(f"{_level_letter(row)} ", base + level_style(row.level) + Style(bold=row.level >= 40)))
        if self.task_label is not None and self.labels:
            label = clean(self.task_label(row))
            spans = ((to_ascii(label) if palette.ascii else label, palette.dim),)
            segments += fit_spans(spans, self._label_cells(view_width), base, ellipsis=palette.glyph("…", "~"))
            segments.append(Segment(" ", base))
        return Strip(segments)

    def blank(self, view_width: int, base: Style, *, at_cursor: bool) -> Strip:
        """Before the further rows of a wrapped line."""
        palette = theme.palette()
        mark = palette.glyph("▌", ">") if at_cursor else " "
        return Strip([Segment(mark, base + palette.accent), Segment(" " * (self.width(view_width) - 1), base)])

    @staticmethod
    def _label_cells(view_width: int) -> int:
        return _LABEL_CELLS if view_width >= _NARROW else _NARROW_LABEL_CELLS


def cuts(line: Line, width: int) -> list[int]:
    """Where the rows of a line end, in cells, when it is wrapped to this width."""
    if line.body.cell_length <= width:
        return [line.body.cell_length]
    if line.text.isascii():
        return [*range(width, len(line.text), width), len(line.text)]
    ends, end = [], 0
    for piece in chop_cells(line.text, width):
        end += cell_len(piece)
        ends.append(end)
    return ends


def level_style(level: int) -> Style:
    """The colour of a line of this level."""
    palette = theme.palette()
    if level >= 40:
        return palette.bad
    if level >= 30:
        return palette.warn
    return palette.text if level >= 20 else palette.dim


def _level_letter(row: LogRow) -> str:
    """One letter for the level; what was printed has a mark of its own."""
    if row.stream != "log":
        return theme.palette().glyph("›", ">")
    return "C" if row.level >= 50 else "DIWE"[max(0, min(3, row.level // 10 - 1))]


def _delta(us: int) -> str:
    seconds = us / 1_000_000
    return f"{seconds:+.3f}" if abs(seconds) < 1_000 else f"{seconds:+.0f}"
