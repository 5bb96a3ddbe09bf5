"""LogView: the output of a run, of whatever length, on Textual's line API.

Promises: only lines in sight are read and drawn; no search ever runs in the widget: it asks its owner with
``SearchWanted`` and takes the line numbers in pieces; while lines arrive nothing is redrawn but what changed in sight.

It keeps its own place instead of Textual's scroll offset: a growing log would otherwise lay the screen out anew with
every line, and the rows of wrapped lines are not countable without reading all of them.

Longer than most: the place, the filter and the jump that waits are one state, and its methods are short.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from ..look import theme
from ..look.spans import Span, fit_spans
from ..models.log_lines import CLOCKS, Line, Lines, Margin, cuts
from ..models.log_search import LogSource, Query, Searches, TaskRef, compile_pattern
from ..models.log_window import LogWindow
from ..text import times
from ..text.sanitize import clean, to_ascii

if TYPE_CHECKING:
    from textual import events

    from ...store.patterns import Pattern
    from ...store.rows import LogRow

LEVELS: Final = (0, 20, 30, 40)
_LEVEL_NAMES: Final = {20: "info", 30: "warning", 40: "error"}
_SIDE_STEP: Final = 16
_GAP: Final[Span] = ("   ", None)


class _Jump(NamedTuple):
    """A jump that waits for its search."""

    query: Query
    step: int
    start: int
    what: str


class LogView(Widget, can_focus=True):
    """The log of a run; see the module's text. The last line of the widget is its status, and its prompt."""

    DEFAULT_CSS = """
    LogView { height: 1fr; width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "by(1)", "down", id="log.down", show=False),
        Binding("up,k", "by(-1)", "up", id="log.up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "page down", id="log.page_down", show=False),
        Binding("pageup", "page(-1)", "page up", id="log.page_up", show=False),
        Binding("ctrl+d", "half_page(1)", "half a page down", id="log.half_down", show=False),
        Binding("ctrl+u", "half_page(-1)", "half a page up", id="log.half_up", show=False),
        Binding("home,g", "edge(-1)", "first line", id="log.first", show=False),
        Binding("end,G", "edge(1)", "last line", id="log.last", show=False),
        Binding("right,l", "aside(1)", "right", id="log.right", show=False),
        Binding("left,h", "aside(-1)", "left", id="log.left", show=False),
        Binding("f", "follow", "follow", id="log.follow"),
        Binding("v", "level", "level", id="log.level"),
        Binding("slash", "search", "search", id="log.search"),
        Binding("n", "hit(1)", "next hit", id="log.next_hit", show=False),
        Binding("N", "hit(-1)", "previous hit", id="log.previous_hit", show=False),
        Binding("e", "error(1)", "next error", id="log.next_error"),
        Binding("E", "error(-1)", "previous error", id="log.previous_error", show=False),
        Binding("w", "wrap", "wrap", id="log.wrap"),
        Binding("T", "clock", "times", id="log.times"),
        Binding("equals_sign", "task", "this task", id="log.task"),
    ]

    class SearchWanted(Message):
        """Search on from this line, on another thread, and answer with ``view.take_found``."""

        def __init__(self, view: LogView, query: Query, from_line: int) -> None:
            super().__init__()
            self.view = view
            self.query = query
            self.from_line = from_line

        @property
        def control(self) -> LogView:
            """The view it came from."""
            return self.view

    def __init__(
        self,
        source: LogSource | None = None,
        *,
        task_label: Callable[[LogRow], str] | None = None,
        empty: str = "No output yet.",
        id: str | None = None,  # noqa: A002 - Textual's own name
    ) -> None:
        """``task_label`` names the task of a line in a few letters; without it no names are shown."""
        super().__init__(id=id)
        self.empty = empty
        self.current: int | None = None
        """The line a jump or a click led to."""
        self._searches = Searches(lambda query, line: self._want(query, line))
        self._lines = Lines()
        self._lines.source = source
        self._margin = Margin(task_label)
        self.window = LogWindow(self._lines, self._searches)
        self._aside = 0
        self._anchor: int | None = None
        """A line to bring into sight as soon as the filter has reached it."""
        self._jump: _Jump | None = None
        self._prompt: str | None = None
        self._notice = ""
        self._thumb = (0, 0)
        """The scroll bar's thumb as it was drawn last."""

    # ---- the owner's side -------------------------------------------------------------------------------------

    @property
    def source(self) -> LogSource | None:
        """Where the lines come from."""
        return self._lines.source

    @property
    def pattern(self) -> Pattern | None:
        """What is searched for."""
        return self._lines.pattern

    def show(self, source: LogSource | None, *, task: TaskRef | None = None) -> None:
        """Shows another log from its end on, of one task only when given."""
        self._lines.source = source
        self._searches.clear()
        self.window.filter = self.window.filter._replace(task=task)
        self.window.following, self.current, self._notice = True, None, ""
        self._jump = self._anchor = None
        self.window.place(0)
        self.relabel()
        self.grew()

    def grew(self) -> None:
        """There may be more lines: shows them when they are in sight, searches on in them."""
        count = self.source.count() if self.source is not None else 0
        before, grown = self.window.shown, count != self._searches.count
        self._searches.grew(count)
        if grown:
            self._shown_grew(before)

    def take_found(self, query: Query, lines: Sequence[int], next_from: int) -> None:
        """The owner's answer to ``SearchWanted``."""
        before = self.window.shown
        if not self._searches.take(query, lines, next_from):
            return  # asked for by a filter or a search that was given up since
        if query == self.window.filter:
            self._shown_grew(before)
        if self._jump is not None and self._jump.query == query:
            self._try_jump()
        self._refresh_status()

    def relabel(self) -> None:
        """Names of tasks, or colours, changed."""
        self._lines.forget()
        self.window.forget()
        self.refresh()

    def named(self, tasks: Collection[TaskRef]) -> None:
        """These tasks have a name now: their first lines, which were there before, are drawn anew in sight."""
        for y, (index, _) in enumerate(self.window.rows()):
            line = self.window.ready(index)
            if line is not None and line.row.task_seq is not None and (line.row.run_id, line.row.task_seq) in tasks:
                self.refresh(Region(0, y, self.size.width, 1))

    def about(self, *, tasks: bool, ended: bool) -> None:
        """Whether the run has tasks, whose names are shown then, and whether more output may come."""
        self.empty = "No output." if ended else "No output yet."
        if tasks != self._margin.labels:
            self._margin.labels = tasks
            self._measure()

    def set_task(self, task: TaskRef | None) -> None:
        """Shows the lines of one task only, or of all."""
        self._set_filter(self.window.filter._replace(task=task))

    @property
    def takes_text(self) -> bool:
        """Whether a pattern is being typed."""
        return self._prompt is not None

    def search(self, text: str) -> None:
        """Highlights this text and goes to its first hit in sight or below (following: the last); empty ends that."""
        self._lines.pattern = compile_pattern(text) if text else None
        self._notice, self._jump = "", None
        self._searches.keep({self.window.filter, self._errors(), self._hits()})
        self.relabel()
        if text:
            self.current = None
            if self.window.following:  # at the end: the hits are above
                self._jump = _Jump(self._hits(), -1, self._searches.count, "hit")
                self._try_jump()
            else:
                self._start_jump(self._hits(), 1, "hit")

    def _want(self, query: Query, from_line: int) -> None:
        self.post_message(self.SearchWanted(self, query, from_line))

    # ---- filter and jumps -------------------------------------------------------------------------------------

    def _hits(self) -> Query:
        return self.window.filter._replace(pattern=self.pattern)

    def _errors(self) -> Query:
        return self.window.filter._replace(min_level=max(40, self.window.filter.min_level))

    def _set_filter(self, chosen: Query) -> None:
        window = self.window
        if chosen == window.filter:
            return
        anchor = self.current
        if anchor is None and window.top < window.shown:
            anchor = window.line_at(window.top)
        window.filter = chosen
        self._anchor = None if window.following else anchor
        self._jump = None
        self._searches.keep({chosen, self._hits(), self._errors()})
        window.place(0)
        self._shown_grew(0)

    def _start_jump(self, query: Query, step: int, what: str) -> None:
        window, start = self.window, self.current
        if start is None or not window.in_sight(start):
            at_top = window.line_at(window.top) if window.top < window.shown else 0
            start = at_top - 1 if step > 0 else at_top
        self._jump = _Jump(query, step, start, what)
        self._try_jump()

    def _try_jump(self) -> None:
        """Jumps if its search knows where to, gives up if there is nothing, else waits for more of it."""
        jump = self._jump
        if jump is None:
            return
        found = self._searches.find(jump.query, jump.start, jump.step)
        if not found.certain:
            self._notice = "searching…"
        else:
            self._jump = None
            self._notice = "" if found.line is not None else f"no {jump.what} {'below' if jump.step > 0 else 'above'}"
            if found.line is not None:
                self._go_to(found.line)
        self._refresh_status()

    def _go_to(self, line: int) -> None:
        """Makes this the current line and brings it into sight."""
        self.window.following = False
        self.current = line
        if not self.window.go_to(line):
            self._anchor = line
        self.refresh()

    def _shown_grew(self, before: int) -> None:
        """More lines pass the filter than before: redraws no more than is new in sight."""
        window = self.window
        if self._anchor is not None:
            reached = window.filter.everything or self._searches.scan(window.filter).next_from > self._anchor
            if reached or self._searches.complete(window.filter):
                line, self._anchor = self._anchor, None
                window.place(window.index_of(line))
                self.refresh()
                return
        place, rows, thumb = (window.top, window.skip), len(window.rows()) if before else 0, self._thumb
        window.settle()
        if not before or place != (window.top, window.skip):
            self.refresh()
            return
        fresh = len(window.rows()) - rows
        if fresh > 0:
            self.refresh(Region(0, rows, self.size.width, fresh))
        if thumb != window.thumb():
            self.refresh(Region(self.size.width - 1, 0, 1, window.height))
        self._refresh_status()

    def _measure(self) -> None:
        """Tells the window its size."""
        self.window.height = max(1, self.size.height - 1)
        self.window.width = max(1, self.size.width - 1 - self._margin.width(self.size.width))
        self.window.settle()
        self.refresh()

    # ---- drawing ----------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """One row of the widget."""
        width, window = self.size.width, self.window
        self._thumb = window.thumb()
        if y >= window.height:
            return self._status(width)
        rows = window.rows()
        line = window.ready(rows[y][0]) if y < len(rows) else None
        if line is None:
            palette = theme.palette()
            text = clean(self.empty) if y == 0 and not rows and self._searches.complete(window.filter) else ""
            blank = Strip(fit_spans(((" " + text, palette.faint),), max(0, width - 1), palette.base))
            return Strip.join([blank, self._bar(y)])
        return Strip.join([*self._line_strips(line, *rows[y]), self._bar(y)]).crop(0, width)

    def _line_strips(self, line: Line, index: int, part: int) -> tuple[Strip, Strip]:
        palette = theme.palette()
        width, room = self.size.width, self.window.width
        at_cursor = line.row.line == self.current
        base = palette.base + palette.cursor if at_cursor else palette.base
        start, end = self._aside, self._aside + room
        if self.window.wrap:
            ends = cuts(line, room)
            start, end = ends[part - 1] if part else 0, ends[part]
        body = line.body.crop(start, end).apply_style(base).adjust_cell_length(room, base)
        if part:
            return self._margin.blank(width, base, at_cursor=at_cursor), body
        before = self.window.ready(index - 1) if index and self._margin.clock == "delta" else None
        margin = self._margin.draw(
            line.row, before.row if before is not None else None, width, base, at_cursor=at_cursor
        )
        return margin, body

    def _bar(self, y: int) -> Strip:
        palette = theme.palette()
        first, end = self._thumb
        return Strip([Segment(palette.glyph("▐", "#") if first <= y < end else " ", palette.base + palette.faint)])

    def _status(self, width: int) -> Strip:
        """The last line: the prompt while one types, else what is shown and where in it one is."""
        palette = theme.palette()
        if self._prompt is not None:
            spans: list[Span] = [(" /", palette.accent), (clean(self._prompt), palette.strong)]
            spans += [(" ", Style(reverse=True)), ("   enter: search   esc: never mind", palette.faint)]
            return Strip(fit_spans(tuple(spans), width, palette.bar, ellipsis=""))
        right = "  " + self._position()
        room = max(0, width - cell_len(right))
        left = fit_spans(tuple(self._facts()), room, palette.bar, ellipsis=palette.glyph("…", "~"))
        return Strip([*left, Segment(right, palette.bar_text)]).crop(0, width)

    def _facts(self) -> list[Span]:
        palette = theme.palette()
        facts: list[Span] = [(" ", None)]
        if self.window.following:
            facts += [(palette.glyph("▼", "v") + " following", palette.good), _GAP]
        if self.window.filter.min_level:
            level = f"{palette.glyph('≥', '>=')} {_LEVEL_NAMES[self.window.filter.min_level]}"
            facts += [(level, palette.warn), _GAP]
        if self.window.filter.task is not None:
            facts += [("only task {}/{}".format(*self.window.filter.task), palette.warn), _GAP]
        if self.pattern is not None:
            hits = len(self._searches.scan(self._hits()).lines)
            more = "" if self._searches.complete(self._hits()) else "+"
            pattern = clean(re.sub(r"\\(\W)", r"\1", self.pattern.pattern))
            facts.append((f"/{to_ascii(pattern) if palette.ascii else pattern}", palette.accent))
            facts += [(f" {times.number(hits)}{more} hit{'' if hits == 1 else 's'}", None), _GAP]
        if self.window.wrap:
            facts += [("wrapped", None), _GAP]
        if self._notice:
            facts += [(to_ascii(self._notice) if palette.ascii else self._notice, palette.warn), _GAP]
        return facts

    def _position(self) -> str:
        count = self._searches.count
        if not self._searches.complete(self.window.filter):
            return f"looked at {100 * self._searches.scan(self.window.filter).next_from // count} % "
        last = self.window.rows()[-1][0] + 1 if self.window.rows() else 0
        shown = f"{times.number(last)} / {times.number(self.window.shown)}"
        return f"{shown} " if self.window.filter.everything else f"{shown} of {times.number(count)} "

    def _refresh_status(self) -> None:
        self.refresh(Region(0, self.window.height, self.size.width, 1))

    def notify_style_update(self) -> None:
        """Another theme: lines are styled anew."""
        self._lines.forget()
        super().notify_style_update()

    # ---- keys and mouse ---------------------------------------------------------------------------------------

    def _move(self, rows: int) -> None:
        self._anchor = None
        if self.window.move(rows):
            self.refresh()

    def action_by(self, rows: int) -> None:
        """Scroll by rows."""
        self._move(rows)

    def action_page(self, pages: int) -> None:
        """Scroll by screenfuls."""
        self._move(pages * max(1, self.window.height - 1))

    def action_half_page(self, pages: int) -> None:
        """Scroll by half screenfuls."""
        self._move(pages * max(1, self.window.height // 2))

    def action_edge(self, direction: int) -> None:
        """Go to the first line, or to the last one and follow what comes."""
        self.window.following = direction > 0
        self._anchor = self.current = None
        self.window.place(0)
        self.window.settle()
        self.refresh()

    def action_aside(self, direction: int) -> None:
        """Scroll sideways."""
        ready = [self.window.ready(index) for index, _ in self.window.rows()]
        widest = max((line.body.cell_length for line in ready if line is not None), default=0)
        aside = max(0, self._aside + direction * _SIDE_STEP)
        if not self.window.wrap and (direction < 0 or aside < widest):
            self._aside = aside
            self.refresh()

    def action_follow(self) -> None:
        """Stay at the end while lines arrive, or stop that."""
        self.window.following = not self.window.following
        self._anchor = None
        self.window.settle()
        self.refresh()

    def action_level(self) -> None:
        """Show only lines from the next higher level on; after errors, all again."""
        level = LEVELS[(LEVELS.index(self.window.filter.min_level) + 1) % len(LEVELS)]
        self._set_filter(self.window.filter._replace(min_level=level))

    def action_task(self) -> None:
        """Show only the lines of the current line's task, or all again."""
        if self.window.filter.task is not None:
            self.set_task(None)
            return
        line = None
        if self.window.rows():
            current = self.current if self.current is not None and self.window.in_sight(self.current) else None
            line = self._lines.get(self.window.line_at(self.window.rows()[-1][0]) if current is None else current)
        if line is None or line.row.task_seq is None:
            self._notice = "this line belongs to no task"
            self._refresh_status()
        else:
            self.set_task((line.row.run_id, line.row.task_seq))

    def action_wrap(self) -> None:
        """Show long lines in several rows, or cut."""
        self.window.wrap = not self.window.wrap
        self._aside = self.window.skip = 0
        self.window.settle()
        self.refresh()

    def action_clock(self) -> None:
        """Times as the clock shows them, since the line before, or none."""
        self._margin.clock = CLOCKS[(CLOCKS.index(self._margin.clock) + 1) % len(CLOCKS)]
        self._measure()

    def action_search(self) -> None:
        """Ask for a text to search."""
        self._prompt = ""
        self._refresh_status()

    def action_hit(self, step: int) -> None:
        """Go to the next or the previous hit of the search."""
        if self.pattern is None:
            self.action_search()
        else:
            self._start_jump(self._hits(), step, "hit")

    def action_error(self, step: int) -> None:
        """Go to the next or the previous error."""
        self._start_jump(self._errors(), step, "error")

    def on_key(self, event: events.Key) -> None:
        """While the prompt is open every key goes there; escape also ends a search."""
        if self._prompt is None:
            if event.key != "escape" or self.pattern is None:
                return
            self.search("")
        elif event.key == "enter":
            text, self._prompt = self._prompt, None
            self.search(text)
        elif event.key == "escape" or (event.key in ("backspace", "ctrl+h") and not self._prompt):
            self._prompt = None
        elif event.key in ("backspace", "ctrl+h"):
            self._prompt = self._prompt[:-1]
        elif event.key == "ctrl+u":
            self._prompt = ""
        elif event.is_printable and event.character:
            self._prompt += event.character
        elif event.key.startswith("ctrl+"):
            return
        event.stop()
        event.prevent_default()
        self._refresh_status()

    def on_paste(self, event: events.Paste) -> None:
        """Pasted text goes into the prompt."""
        if self._prompt is not None:
            event.stop()
            self._prompt += clean(event.text.strip().partition("\n")[0])
            self._refresh_status()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel scrolls."""
        event.stop()
        self._move(3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel scrolls."""
        event.stop()
        self._move(-3)

    def on_click(self, event: events.Click) -> None:
        """A click makes a line the current one; on the scroll bar it goes there."""
        rows = self.window.rows()
        if event.x >= self.size.width - 1:
            self.window.following = False
            self.window.place(self.window.shown * event.y // self.window.height)
        elif event.y < len(rows):
            self.current = self.window.line_at(rows[event.y][0])
        self.refresh()

    def on_resize(self, _: events.Resize) -> None:
        """Another size: the first line in sight stays, or the last when following."""
        self._measure()

    def on_mount(self) -> None:
        """Show what is there."""
        self.grew()
