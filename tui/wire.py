"""The thin wire: what goes to the terminal is what changed, cell by cell.

Textual repaints whole widgets; over SSH that is what makes a console feel slow. ``Cells`` remembers what every cell of
the terminal shows and turns a frame into the shortest writes that lead there: changed runs, and scrolled blocks as
scroll regions. Promises: after each frame the terminal shows exactly what Textual meant (tested against a terminal
emulator, cell by cell); a frame that changes nothing writes nothing; while the terminal is behind, frames are skipped
and one whole one is sent when it has caught up. It reads private parts of Textual (hence the pinned version): where
they are missing, ``ThinApp`` is Textual's own way of writing.

It is also the last border: whatever a widget draws, no control character, escape sequence or bidirectional control of
its text reaches the terminal, on the thin wire and on the stock one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.segment import Segment
from rich.style import Style
from textual.app import App
from textual.strip import Strip

from .text.sanitize import REPLACEMENT

if TYPE_CHECKING:
    from rich.console import RenderableType
    from textual.screen import Screen

try:
    from textual._compositor import ChopsUpdate, LayoutUpdate

    _HAS_PARTS = hasattr(App, "_display") and hasattr(App, "_begin_update") and hasattr(App, "_end_update")
except ImportError:  # another Textual than the one this was made for
    _HAS_PARTS = False

_RESET = "\x1b[0m"
_MAX_GAP = 3
"""Unchanged cells written again rather than jumped over: a jump costs four bytes or more."""
_MIN_SCROLL_LINES = 4
_MAX_STYLES = 4096
_ATTRIBUTES = (
    ("bold", "1"), ("dim", "2"), ("italic", "3"), ("underline", "4"), ("blink", "5"), ("reverse", "7"),
    ("conceal", "8"), ("strike", "9"), ("underline2", "21"), ("overline", "53"),
)  # fmt: skip
_QUEUED_WRITES_BEHIND = 4
"""A frame is up to three writes: more than one frame queued means that the terminal is behind."""
_CATCH_UP_SECONDS = 0.02


class Sgr(NamedTuple):
    """How a cell looks, as the codes that set it; empty where the terminal's default holds."""

    foreground: str = ""
    background: str = ""
    attributes: tuple[str, ...] = ()


_PLAIN = Sgr()
_UNKNOWN = Sgr("?")
Line = list[tuple[str, Sgr]]
"""Cells of a line: text (empty for the right half of a wide character) and look."""


class Cells:
    """What the terminal shows, and how to get from there to a new frame."""

    def __init__(self, color_system: ColorSystem | None) -> None:
        self._color_system = color_system
        self._lines: list[Line] = []
        self._width = 0
        self._styles: dict[tuple[object, ...], Sgr] = {}

    def resize(self, width: int, height: int) -> None:
        """Forget everything when the terminal has another size now."""
        if width != self._width or height != len(self._lines):
            self._width = width
            self._lines = [self._unknown_line() for _ in range(height)]

    def forget(self) -> None:
        """The terminal may show anything: the next frame is sent whole."""
        self._lines = [self._unknown_line() for _ in self._lines]

    def update(self, pieces: Iterable[tuple[int, int, Strip]]) -> str:
        """The writes that make the terminal show these strips, each given with its line and column."""
        new: dict[int, Line] = {}
        for y, x, strip in pieces:
            if 0 <= y < len(self._lines):
                line = new.get(y)
                if line is None:
                    line = new[y] = list(self._lines[y])
                self._put(line, x, strip)
        changed = {y: line for y, line in new.items() if line != self._lines[y]}
        if not changed:
            return ""
        out: list[str] = []
        if len(changed) >= _MIN_SCROLL_LINES:
            self._scroll(changed, out)
        style = _PLAIN
        for y in sorted(changed):
            style = self._write_line(y, self._lines[y], changed[y], style, out)
            self._lines[y] = changed[y]
        if style is not _PLAIN:
            out.append(_RESET)
        return "".join(out)

    # ---- inside -----------------------------------------------------------------------------------------------

    def _unknown_line(self) -> Line:
        return [("", _UNKNOWN)] * self._width

    def _blank_line(self) -> Line:
        return [(" ", _PLAIN)] * self._width

    def _put(self, line: Line, x: int, strip: Strip) -> None:
        width = self._width
        if 0 < x < width and line[x][0] == "" and line[x][1] is not _UNKNOWN:
            line[x - 1] = (" ", line[x - 1][1])  # half of a wide character was covered
        for raw, style, control in strip:
            if control:
                continue
            sequence = self._sequence(style)
            text = raw if raw.isprintable() else shown(raw)
            if text.isascii():
                cells = [(char, sequence) for char in text]
            else:
                cells = []
                for char in text:
                    wide = cell_len(char)
                    if wide == 0:
                        if cells:
                            cells[-1] = _combine(cells, char)
                        continue
                    cells.append((char, sequence))
                    if wide == 2:
                        cells.append(("", sequence))
            room = width - x
            if room <= 0:
                return
            if len(cells) > room:
                del cells[room:]
                if cells and cell_len(cells[-1][0]) == 2:
                    cells[-1] = (" ", sequence)
            line[x : x + len(cells)] = cells
            x += len(cells)
        if x < width and line[x][0] == "" and line[x][1] is not _UNKNOWN:
            line[x] = (" ", line[x][1])

    def _sequence(self, style: Style | None) -> Sgr:
        if style is None:
            return _PLAIN
        # Equal look, equal key: Textual hangs selection offsets on styles, which the terminal never sees.
        key = (style._color, style._bgcolor, style._attributes & style._set_attributes)
        sequence = self._styles.get(key)
        if sequence is None:
            if len(self._styles) > _MAX_STYLES:
                self._styles.clear()
            sequence = self._styles[key] = self._make_sgr(style)
        return sequence

    def _make_sgr(self, style: Style) -> Sgr:
        if self._color_system is None:
            return _PLAIN
        codes = []
        for color, is_text in ((style.color, True), (style.bgcolor, False)):
            default = color is None or color.is_default
            codes.append(
                "" if default or color is None
                else ";".join(color.downgrade(self._color_system).get_ansi_codes(foreground=is_text))
            )  # fmt: skip
        attributes = tuple(code for name, code in _ATTRIBUTES if getattr(style, name))
        sgr = Sgr(codes[0], codes[1], attributes)
        return sgr if sgr != _PLAIN else _PLAIN

    def _write_line(self, y: int, old: Line, new: Line, style: Sgr, out: list[str]) -> Sgr:
        """Write the runs of cells that differ; returns the style that is set afterwards."""
        at = -1  # column the terminal's cursor is in, when it is in this line
        column = 0
        width = min(len(old), len(new))
        while column < width:
            if old[column] == new[column]:
                column += 1
                continue
            start = column
            if 0 <= at <= start and start - at <= _MAX_GAP and at > 0:
                start = at
            while start > 0 and new[start][0] == "":
                start -= 1
            end = column + 1
            while end < width and (old[end] != new[end] or new[end][0] == ""):
                end += 1
            if at != start:
                out.append(f"\x1b[{start - at}C" if 0 < at < start else f"\x1b[{y + 1};{start + 1}H")
            for text, sequence in new[start:end]:
                if sequence is not style and sequence != style:
                    out.append(_change(style, sequence))
                    style = sequence
                out.append(text)
            # In the last column terminals wait with wrapping: the cursor's place is not certain there.
            at = end if end < width else -1
            column = end
        return style

    def _scroll(self, changed: dict[int, Line], out: list[str]) -> None:
        """Where a block of lines only moved up or down, let the terminal move it."""
        lines = sorted(changed)
        start = 0
        while start < len(lines):
            stop = start
            while stop + 1 < len(lines) and lines[stop + 1] == lines[stop] + 1:
                stop += 1
            if stop - start + 1 >= _MIN_SCROLL_LINES:
                self._scroll_block(lines[start], lines[stop], changed, out)
            start = stop + 1

    def _scroll_block(self, top: int, bottom: int, changed: dict[int, Line], out: list[str]) -> None:
        # The scroll bar's column does not move with the text.
        text = self._width - 2
        places: dict[tuple[tuple[str, Sgr], ...], int] = {}
        for y in range(top, bottom + 1):
            places.setdefault(tuple(self._lines[y][:text]), y)
        blank = tuple(self._blank_line()[:text])
        votes: dict[int, int] = {}
        for y in range(top, bottom + 1):
            line = tuple(changed[y][:text])
            from_y = places.get(line)
            if from_y is not None and from_y != y and line != blank:
                votes[from_y - y] = votes.get(from_y - y, 0) + 1
        if not votes:
            return
        shift, count = max(votes.items(), key=lambda item: item[1])
        height = bottom - top + 1
        if count * 2 < height:
            return
        block = self._lines[top : bottom + 1]
        region = f"{_RESET}\x1b[{top + 1};{bottom + 1}r"
        blanks = [self._blank_line() for _ in range(abs(shift))]
        if shift > 0:
            out.append(f"{region}\x1b[{bottom + 1};1H" + "\n" * shift + "\x1b[r")
            block = block[shift:] + blanks
        else:
            out.append(f"{region}\x1b[{top + 1};1H" + "\x1bM" * -shift + "\x1b[r")
            block = blanks + block[:shift]
        self._lines[top : bottom + 1] = block


def shown(text: str) -> str:
    """The text without anything that a terminal would obey or that turns its order: in as many cells as it was."""
    return "".join(
        char if char.isprintable() else REPLACEMENT * min(cell_len(char), 1) for char in text
    )  # fmt: skip


def _guarded(strip: Strip) -> Strip:
    """The same strip, its texts as ``shown``; Textual's own control segments are none of data's."""
    if all(segment.control or segment.text.isprintable() for segment in strip):
        return strip
    return Strip(
        Segment(text if control or text.isprintable() else shown(text), style, control)
        for text, style, control in strip
    )


def _guard_stock(renderable: RenderableType | None) -> RenderableType | None:
    """A frame of Textual's own way of writing, guarded as the thin one is."""
    if not _HAS_PARTS:
        return renderable
    if isinstance(renderable, LayoutUpdate):
        renderable.strips = [[_guarded(strip) for strip in line] for line in renderable.strips]
    elif isinstance(renderable, ChopsUpdate):
        renderable.chops = [
            {x: strip if strip is None else _guarded(strip) for x, strip in line.items()} for line in renderable.chops
        ]
    return renderable


def _change(old: Sgr, new: Sgr) -> str:
    """The shortest sequence that leads from one look to another."""
    if new is _PLAIN:
        return _RESET
    codes = []
    lost = (old.foreground and not new.foreground) or (old.background and not new.background)
    if lost or any(code not in new.attributes for code in old.attributes):
        codes.append("0")
        old = _PLAIN
    codes += [code for code in new.attributes if code not in old.attributes]
    if new.foreground != old.foreground:
        codes.append(new.foreground)
    if new.background != old.background:
        codes.append(new.background)
    return f"\x1b[{';'.join(codes)}m"


def _combine(cells: Line, char: str) -> tuple[str, Sgr]:
    """Hang a mark on the last character; on its left half when that is a wide one."""
    text, sequence = cells[-1]
    if text == "" and len(cells) > 1:
        base, base_sequence = cells[-2]
        cells[-2] = (base + char, base_sequence)
        return text, sequence
    return text + char, sequence


class ThinApp(App[int]):
    """An app that writes to the terminal through ``Cells``."""

    wire: str = "thin"
    _cells: Cells | None = None
    _behind = False

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        driver = self._driver
        pieces = (
            _pieces(renderable)
            if _HAS_PARTS and self.wire == "thin" and driver is not None and not driver.is_inline
            else None
        )
        if (
            pieces is None
            or driver is None
            or self._batch_count
            or not self._running
            or self._closed
            or self.is_headless
        ):
            super()._display(screen, _guard_stock(renderable))
            return
        if self._writes_queued() >= _QUEUED_WRITES_BEHIND:
            if not self._behind:
                self._behind = True
                self.set_timer(_CATCH_UP_SECONDS, self._catch_up)
            return
        if self._cells is None:
            self._cells = Cells(self.console._color_system)
        self._cells.resize(*self.size)
        sequence = self._cells.update(pieces)
        cursor = self.screen.outer_size.clamp_offset(self.cursor_position)
        if sequence or cursor != self._previous_cursor_position:
            self._previous_cursor_position = cursor
            self._begin_update()
            try:
                driver.write(f"{sequence}\x1b[{cursor.y + 1};{cursor.x + 1}H")
            finally:
                self._end_update()
            driver.flush()
        self.post_display_hook()

    def repaint(self) -> None:
        """Send the whole screen again: something else may have written to the terminal."""
        if self._cells is not None:
            self._cells.forget()
        self._repaint_screen()

    def _repaint_screen(self) -> None:
        if self._running and not self._closed:
            screen = self.screen
            self._display(screen, screen._compositor.render_update(full=True, screen_stack=self._background_screens))

    def _catch_up(self) -> None:
        """The terminal was behind: send what it missed, once it has read the rest."""
        if self._writes_queued() >= _QUEUED_WRITES_BEHIND:
            self.set_timer(_CATCH_UP_SECONDS, self._catch_up)
            return
        self._behind = False
        self._repaint_screen()

    def _writes_queued(self) -> int:
        writer = getattr(self._driver, "_writer_thread", None)
        queue = getattr(writer, "_queue", None)
        return queue.qsize() if queue is not None else 0


def _pieces(renderable: object) -> list[tuple[int, int, Strip]] | None:
    """A frame as (line, column, strip), or None when it is none that we know."""
    if isinstance(renderable, LayoutUpdate):
        pieces = []
        for y, strips in enumerate(renderable.strips, renderable.region.y):
            x = renderable.region.x
            for strip in strips:
                pieces.append((y, x, strip))
                x += strip.cell_length
        return pieces
    if isinstance(renderable, ChopsUpdate):
        return list(_chopped(renderable.chops, renderable.spans, renderable.chop_ends))
    return None


def _chopped(
    chops: Sequence[Any], spans: list[tuple[int, int, int]], chop_ends: list[list[int]]
) -> Iterable[tuple[int, int, Strip]]:
    for y, x1, x2 in spans:
        for end, (x, strip) in zip(chop_ends[y], chops[y].items(), strict=False):
            if strip is not None and x <= x2 and end > x1:
                yield y, x, strip
