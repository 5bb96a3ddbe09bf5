"""A text to read: lines of styled pieces, scrolled, nothing else. The lines must have passed ``sanitize``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from ..look import theme
from ..look.spans import Spans
from .rows import line_strip

if TYPE_CHECKING:
    from textual import events


class TextView(ScrollView, can_focus=True):
    """Lines that scroll."""

    DEFAULT_CSS = """
    TextView { overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; height: 1fr; width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "by(1)", "down", id="text.down", show=False),
        Binding("up,k", "by(-1)", "up", id="text.up", show=False),
        Binding("pagedown,ctrl+f,ctrl+d", "by_page(1)", "page down", id="text.page_down", show=False),
        Binding("pageup,ctrl+u", "by_page(-1)", "page up", id="text.page_up", show=False),
        Binding("home,g", "edge(-1)", "start", id="text.first", show=False),
        Binding("end,G", "edge(1)", "end", id="text.last", show=False),
    ]

    def __init__(self, *, id: str | None = None, raised: bool = False) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self.raised = raised
        self.lines: Sequence[Spans] = ()

    def show_lines(self, lines: Sequence[Spans]) -> None:
        """Show these lines; the place scrolled to stays."""
        if list(lines) == list(self.lines):
            return
        self.lines = lines
        self._resize()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line of what is in sight."""
        palette = theme.palette()
        base = palette.raised if self.raised else palette.base
        at = y + round(self.scroll_y)
        return line_strip(self.lines[at] if at < len(self.lines) else (), self.size.width, base)

    def _resize(self) -> None:
        self.virtual_size = Size(self.size.width, len(self.lines))

    def on_resize(self, _: events.Resize) -> None:
        """Another size."""
        self._resize()

    def action_by(self, lines: int) -> None:
        """Scroll by lines."""
        self.scroll_to(y=round(self.scroll_y) + lines, animate=False, immediate=True, force=True)

    def action_by_page(self, pages: int) -> None:
        """Scroll by screenfuls."""
        self.action_by(pages * max(1, self.size.height - 1))

    def action_edge(self, direction: int) -> None:
        """Scroll to the start or the end."""
        self.scroll_to(y=0 if direction < 0 else len(self.lines), animate=False, immediate=True, force=True)
