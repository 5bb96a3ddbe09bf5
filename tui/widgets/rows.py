"""RowView: the one virtual list of the console, on Textual's line API.

Promises: only visible rows are ever drawn; a changed record redraws its changed columns and nothing else; the cursor
and the marks follow the row's key, not its number; nothing is redrawn without a change. Text that comes from data must
have passed ``sanitize`` before it gets here (column functions do that). Rows are records in a mapping, their order a
sequence of keys: an order may name keys whose records are not loaded yet, these draw as a placeholder and are asked
for with ``Wanted``.

Longer than most: what is in sight, the cursor and the marks are one state, and its methods are short.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from ..look import theme
from ..look.spans import Spans, fit_spans
from .columns import GAP, LATE, Column, share

if TYPE_CHECKING:
    from textual import events

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")

_EMPTY: Spans = ()
MARGIN = 2
"""Cells before the first column: the cursor bar and the mark."""


def line_strip(spans: Spans, width: int, base: Style) -> Strip:
    """A whole line as a strip of exactly ``width`` cells."""
    return Strip(fit_spans(spans, width, base), width)


class RowView(ScrollView, Generic[K, R], can_focus=True):
    """A list of records with columns, one cursor and any number of marks."""

    DEFAULT_CSS = """
    RowView { overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; height: 1fr; width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "cursor(1)", "down", id="list.down", show=False),
        Binding("up,k", "cursor(-1)", "up", id="list.up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "page down", id="list.page_down", show=False),
        Binding("pageup", "page(-1)", "page up", id="list.page_up", show=False),
        Binding("ctrl+d", "half_page(1)", "half a page down", id="list.half_down", show=False),
        Binding("ctrl+u", "half_page(-1)", "half a page up", id="list.half_up", show=False),
        Binding("home,g", "edge(-1)", "first", id="list.first", show=False),
        Binding("end,G", "edge(1)", "last", id="list.last", show=False),
        Binding("space", "mark", "mark", id="list.mark", show=False),
        Binding("ctrl+backslash", "clear_marks", "clear marks", id="list.clear_marks", show=False),
        Binding("enter", "choose", "open", id="list.open", show=False),
    ]

    class Highlighted(Message):
        """The cursor stands on another key, or on none."""

        def __init__(self, view: RowView[Any, Any], key: Any) -> None:
            super().__init__()
            self.view = view
            self.key = key

        @property
        def control(self) -> RowView[Any, Any]:
            """The list it came from."""
            return self.view

    class Chosen(Message):
        """Enter was pressed, or the row clicked twice."""

        def __init__(self, view: RowView[Any, Any], key: Any) -> None:
            super().__init__()
            self.view = view
            self.key = key

        @property
        def control(self) -> RowView[Any, Any]:
            """The list it came from."""
            return self.view

    class Marked(Message):
        """The set of marks changed."""

        def __init__(self, view: RowView[Any, Any]) -> None:
            super().__init__()
            self.view = view

        @property
        def control(self) -> RowView[Any, Any]:
            """The list it came from."""
            return self.view

    class Wanted(Message):
        """These rows are in sight (first and last, and how many there are): load what is missing around them."""

        def __init__(self, view: RowView[Any, Any], first: int, last: int) -> None:
            super().__init__()
            self.view = view
            self.first = first
            self.last = last

        @property
        def control(self) -> RowView[Any, Any]:
            """The list it came from."""
            return self.view

    def __init__(
        self,
        columns: Sequence[Column[R]],
        *,
        id: str | None = None,  # noqa: A002 - Textual's own name
        empty: Sequence[Spans] = (),
        titles: bool = True,
        row_style: Callable[[R], Style | None] | None = None,
    ) -> None:
        super().__init__(id=id)
        self.columns: tuple[Column[R], ...] = tuple(columns)
        self.order: Sequence[K] = ()
        self.records: dict[K, R] = {}
        self.marks: set[K] = set()
        self.empty_lines: tuple[Spans, ...] = tuple(empty)
        """Shown while there are no rows."""
        self.titles = titles
        self.row_style = row_style
        self.cursor: int = 0
        self._cursor_key: K | None = None
        self._index: dict[K, int] | None = None
        self._layout: tuple[tuple[Column[R], int, int], ...] = ()
        self._layout_width = -1
        self._wanted: tuple[int, int] = (-1, -1)

    # ---- data -------------------------------------------------------------------------------------------------

    def set_rows(self, order: Sequence[K], records: Mapping[K, R] | None = None) -> None:
        """Show these keys in this order. Cursor and marks stay with their keys; a vanished cursor row leaves the
        cursor at its place in the list."""
        if records is not None:
            self.records = dict(records)
        if records is None and len(order) == len(self.order) and list(order) == list(self.order):
            return
        self.order = order
        self.reordered()

    def reordered(self, *, draw: bool = True) -> None:
        """The order says something else now: keep cursor and marks with their keys, and draw anew.

        Without ``draw`` the caller knows better what is to be drawn.
        """
        order = self.order
        self._index = None
        if self.marks:
            gone = {key for key in self.marks if self.index_of(key) is None}
            if gone:
                self.marks -= gone
                self.post_message(self.Marked(self))
        old_cursor = self.cursor
        on_screen = old_cursor - round(self.scroll_y)
        found = self.index_of(self._cursor_key) if self._cursor_key is not None else None
        self.cursor = found if found is not None else max(0, min(old_cursor, len(order) - 1))
        self._resize()
        if found is not None and found != old_cursor and 0 <= on_screen < self._body_height():
            # Rows came or went above: keep the cursor's row where the eye is.
            self._scroll_rows(max(0, found - on_screen) if old_cursor else round(self.scroll_y))
        self._cursor_moved()
        if draw:
            self.refresh()

    def say_when_empty(self, lines: Sequence[Spans]) -> None:
        """Show this while there are no rows."""
        if tuple(lines) != self.empty_lines:
            self.empty_lines = tuple(lines)
            if not self.order:
                self.refresh()

    def set(self, key: K, record: R) -> None:
        """A record changed: redraw the columns of its row that look different now, if it is in sight."""
        old = self.records.get(key)
        if old == record:
            return
        self.records[key] = record
        row = self.index_of(key)
        if row is not None:
            self._refresh_changed(row, old, record)

    def redraw(self, keys: Iterable[K], column_keys: Sequence[str] = ()) -> None:
        """Draw these rows anew (elapsed times); only the named columns when given."""
        for key in keys:
            row = self.index_of(key)
            y = self._y_of(row) if row is not None else None
            if y is None:
                continue
            self._lay_out()
            for column, x, width in self._layout:
                if not column_keys or column.key in column_keys:
                    self.refresh(Region(x, y, width, 1))

    def index_of(self, key: K) -> int | None:
        """The row this key stands in."""
        if self._index is None:
            self._index = {each: row for row, each in enumerate(self.order)}
        return self._index.get(key)

    def record_of(self, key: K) -> R | None:
        """What this row shows; None while it is not loaded."""
        return self.records.get(key)

    def key_at(self, row: int) -> K | None:
        """The key of this row."""
        return self.order[row] if 0 <= row < len(self.order) else None

    @property
    def cursor_key(self) -> K | None:
        """The key the cursor stands on."""
        return self._cursor_key

    @property
    def cursor_record(self) -> R | None:
        """The record the cursor stands on."""
        return self.record_of(self._cursor_key) if self._cursor_key is not None else None

    def chosen_keys(self) -> list[K]:
        """What a verb acts on: the marks in list order, else the cursor's row."""
        if self.marks:
            return [key for key in self.order if key in self.marks]
        return [] if self._cursor_key is None else [self._cursor_key]

    def visible_keys(self) -> Sequence[K]:
        """The keys in sight."""
        first = round(self.scroll_y)
        return self.order[first : first + self._body_height()]

    # ---- movement ---------------------------------------------------------------------------------------------

    def move_to(self, row: int) -> None:
        """Put the cursor on this row and bring it into sight."""
        if not self.order:
            return
        row = max(0, min(row, len(self.order) - 1))
        if row != self.cursor:
            old, self.cursor = self.cursor, row
            self._refresh_row(old)
            self._refresh_row(row)
        self._reveal()
        self._cursor_moved()

    def move_to_key(self, key: K) -> bool:
        """Put the cursor on this key; False when it is not in the list."""
        row = self.index_of(key)
        if row is None:
            return False
        self.move_to(row)
        return True

    def action_cursor(self, step: int) -> None:
        """Move by rows."""
        self.move_to(self.cursor + step)

    def action_page(self, step: int) -> None:
        """Move by screenfuls."""
        self.move_to(self.cursor + step * max(1, self._body_height() - 1))

    def action_half_page(self, step: int) -> None:
        """Move by half screenfuls."""
        self.move_to(self.cursor + step * max(1, self._body_height() // 2))

    def action_edge(self, direction: int) -> None:
        """Go to the first or the last row."""
        self.move_to(0 if direction < 0 else len(self.order) - 1)

    def action_mark(self) -> None:
        """Mark or unmark the row under the cursor and go on to the next."""
        key = self._cursor_key
        if key is None:
            return
        self.marks.symmetric_difference_update({key})
        self._refresh_row(self.cursor)
        self.post_message(self.Marked(self))
        self.move_to(self.cursor + 1)

    def action_clear_marks(self) -> None:
        """Unmark everything."""
        if self.marks:
            self.marks.clear()
            self.post_message(self.Marked(self))
            self.refresh()

    def action_choose(self) -> None:
        """Open the row under the cursor."""
        if self._cursor_key is not None:
            self.post_message(self.Chosen(self, self._cursor_key))

    # ---- drawing ----------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """One line of the widget: the titles, a row, or nothing."""
        palette = theme.palette()
        width = self.size.width
        top = self._head_height()
        if y < top:
            return self._draw_titles(width)
        if not self.order:
            line = y - top
            spans = self.empty_lines[line] if line < len(self.empty_lines) else _EMPTY
            return line_strip(spans, width, palette.base)
        row = y - top + round(self.scroll_y)
        if row >= len(self.order):
            return Strip.blank(width, palette.base)
        return self.draw_row(row, self.order[row], width)

    def draw_row(self, row: int, key: K, width: int) -> Strip:
        """One row as a strip."""
        palette = theme.palette()
        base = palette.base
        record = self.record_of(key)
        marked = key in self.marks
        at_cursor = row == self.cursor
        if record is not None and self.row_style is not None and (style := self.row_style(record)):
            base = base + style
        if marked:
            base = base + palette.marked
        if at_cursor:
            base = base + (palette.cursor if self.has_focus else palette.cursor_blurred)
        bar = palette.glyph("▌", ">") if at_cursor else " "
        mark = palette.glyph("◆", "*") if marked else " "
        segments = [Segment(bar, base + palette.accent), Segment(mark, base + palette.warn)]
        if record is None:
            segments.extend(fit_spans(((palette.glyph("…", "..."), palette.faint),), width - MARGIN, base))
            return Strip(segments, width)
        self._lay_out()
        used = MARGIN
        ellipsis = palette.glyph("…", "~")
        for column, x, column_width in self._layout:
            if x > used:
                segments.append(Segment(" " * (x - used), base))
            segments.extend(fit_spans(column.draw(record), column_width, base, right=column.right, ellipsis=ellipsis))
            used = x + column_width
        if used < width:
            segments.append(Segment(" " * (width - used), base))
        if at_cursor and self.has_focus and palette.flat_cursor:
            segments = [Segment(text, palette.cursor) for text, _, _ in segments]
        return Strip(segments, max(width, used)).crop(0, width)

    def _draw_titles(self, width: int) -> Strip:
        self._lay_out()
        head = theme.palette().head
        segments: list[Segment] = [Segment(" " * MARGIN, head)]
        used = MARGIN
        for column, x, column_width in self._layout:
            if x > used:
                segments.append(Segment(" " * (x - used), head))
            segments.extend(fit_spans(((column.title, None),), column_width, head, right=column.right))
            used = x + column_width
        if used < width:
            segments.append(Segment(" " * (width - used), head))
        return Strip(segments, max(width, used)).crop(0, width)

    def _lay_out(self) -> None:
        """Give each column its place; the least important ones vanish when there is no room."""
        width = self.size.width
        if width == self._layout_width:
            return
        shown = list(self.columns)
        while len(shown) > 1:
            worst = max(shown, key=lambda column: column.priority)
            late = worst.priority >= LATE
            wanted = sum(max(column.width, column.wish) if late else column.width for column in shown)
            if worst.priority == 0 or MARGIN + wanted + GAP * (len(shown) - 1) <= width - 1:
                break
            shown.remove(worst)
        room = width - 1 - MARGIN - sum(column.width for column in shown) - GAP * (len(shown) - 1)
        widths = share(shown, max(0, room))
        places = []
        x = MARGIN
        for column, column_width in zip(shown, widths, strict=True):
            places.append((column, x, column_width))
            x += column_width + GAP
        self._layout = tuple(places)
        self._layout_width = width

    def set_columns(self, columns: Sequence[Column[R]]) -> None:
        """Show other columns."""
        self.columns = tuple(columns)
        self._layout_width = -1
        self.refresh()

    # ---- inside -----------------------------------------------------------------------------------------------

    def _head_height(self) -> int:
        return 1 if self.titles and self.order else 0

    def _body_height(self) -> int:
        return max(1, self.size.height - self._head_height())

    def _resize(self) -> None:
        """Tell Textual how long the list is; without a layout of the whole screen where the scroll bar stays."""
        size = Size(self.size.width, len(self.order) + self._head_height())
        least = min(size.height, self.virtual_size.height)
        if size.width == self.virtual_size.width and least > self.container_size.height > 0:
            self.set_reactive(RowView.virtual_size, size)
            self._scroll_update(size)
        else:
            self.virtual_size = size

    def _y_of(self, row: int) -> int | None:
        """The widget line this row is drawn in, if it is in sight."""
        y = row - round(self.scroll_y) + self._head_height()
        return y if self._head_height() <= y < self.size.height else None

    def _refresh_row(self, row: int) -> None:
        y = self._y_of(row)
        if y is not None:
            self.refresh(Region(0, y, self.size.width, 1))

    def _refresh_changed(self, row: int, old: R | None, new: R) -> None:
        y = self._y_of(row)
        if y is None:
            return
        if old is None or (self.row_style is not None and self.row_style(old) != self.row_style(new)):
            self._refresh_row(row)
            return
        self._lay_out()
        for column, x, width in self._layout:
            if column.draw(old) != column.draw(new):
                self.refresh(Region(x, y, width, 1))

    def _scroll_rows(self, first: int) -> None:
        if first != round(self.scroll_y):
            self.scroll_to(y=first, animate=False, immediate=True, force=True)

    def _reveal(self) -> None:
        first = round(self.scroll_y)
        height = self._body_height()
        if self.cursor < first:
            self._scroll_rows(self.cursor)
        elif self.cursor >= first + height:
            self._scroll_rows(self.cursor - height + 1)

    def _cursor_moved(self) -> None:
        key = self.key_at(self.cursor)
        if key != self._cursor_key:
            self._cursor_key = key
            self.post_message(self.Highlighted(self, key))
        self._ask()

    def _ask(self) -> None:
        """Say which rows are in sight, when that changed."""
        first = round(self.scroll_y)
        last = min(len(self.order), first + self._body_height()) - 1
        if (first, last) != self._wanted:
            self._wanted = (first, last)
            self.post_message(self.Wanted(self, first, last))

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Scrolled: other rows are in sight."""
        super().watch_scroll_y(old_value, new_value)
        self._ask()

    def on_resize(self, _: events.Resize) -> None:
        """Another width lays the columns out anew; the cursor stays in sight."""
        self._layout_width = -1
        self._resize()
        self._reveal()
        self._ask()
        self.refresh()

    def on_focus(self) -> None:
        """The cursor's row shows that the keys go here."""
        self._refresh_row(self.cursor)

    def on_blur(self) -> None:
        """The cursor's row shows that the keys go elsewhere."""
        self._refresh_row(self.cursor)

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor, a second one opens."""
        row = event.y - self._head_height() + round(self.scroll_y)
        if event.y < self._head_height() or not 0 <= row < len(self.order):
            return
        self.move_to(row)
        if event.chain == 2:
            self.action_choose()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel scrolls without moving the cursor."""
        self._wheel(event, 3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel scrolls without moving the cursor."""
        self._wheel(event, -3)

    def _wheel(self, event: events.MouseEvent, rows: int) -> None:
        event.stop()
        last = max(0, len(self.order) - self._body_height())
        self._scroll_rows(max(0, min(last, round(self.scroll_y) + rows)))
