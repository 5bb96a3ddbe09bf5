"""One-line widgets: the header, the footer, the lines between. They redraw only when what they say changed."""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from ..look import theme
from ..look.spans import Spans, fit_spans, spans_width


class Bar(Widget):
    """A line with something at its left end and something at its right; the right end is kept when room is short."""

    DEFAULT_CSS = "Bar { height: 1; width: 1fr; }"

    def __init__(self, *, id: str | None = None, raised: bool = False) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._left: Spans = ()
        self._right: Spans = ()
        self._raised = raised

    def say(self, left: Spans, right: Spans = ()) -> None:
        """Show this from now on."""
        if (left, right) != (self._left, self._right):
            self._left, self._right = left, right
            self.refresh()

    def text(self) -> str:
        """What it says, without styles."""
        return "".join(text for text, _ in (*self._left, *self._right))

    def render_line(self, y: int) -> Strip:
        """The line."""
        palette = theme.palette()
        base: Style = palette.bar if self._raised else palette.base
        width = self.size.width
        if y:
            return Strip.blank(width, base)
        right = spans_width(self._right)
        if right + 4 > width:
            right = 0
        room = width - right - (2 if right else 0)
        segments: list[Segment] = fit_spans(self._left, room, base, ellipsis=palette.glyph("…", "~"))
        if right:
            segments.append(Segment("  ", base))
            segments += fit_spans(self._right, right, base)
        return Strip(segments, width)
