"""The runs list: what runs, what waits and for what, what ended and why. The console opens here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.strip import Strip

from ...store.rows import RunRow
from ..clock import now_us
from ..feed.run_list import GAP_KEY
from ..look import cells, theme
from ..look.cells import RunLine
from ..look.spans import Span, Spans, spans_width
from ..text import filter as filters
from ..text import times, waiting
from ..widgets.bars import Bar
from ..widgets.columns import Column
from ..widgets.rows import RowView, line_strip
from .page import Page

if TYPE_CHECKING:
    from ..models.news import News
    from ..widgets.filter_line import FilterLine

_SHOWN_TYPES = (
    ("RUNNING", "running"), ("PENDING", "pending"), ("PAUSED", "paused"), ("CANCELLING", "cancelling"),
    ("SCHEDULED", "waiting"), ("FAILED", "failed"), ("CRASHED", "crashed"), ("CANCELLED", "cancelled"),
    ("COMPLETED", "completed"),
)  # fmt: skip
_PROBLEMS = "state:problem"
_ID_WIDTH = 6
_NEAR_END = 60
"""Rows before the end of what is loaded when more are asked for."""
_FILTER_EXAMPLE = "state:failed flow:etl age:<1h !word, or a regular expression"


class RunsView(RowView[int, RunLine]):
    """The list itself; where runs are not loaded between the newest and the oldest, one line says so."""

    def __init__(self, page: RunsPage) -> None:
        super().__init__(_columns(page, _ID_WIDTH), id="runs")
        self.page = page
        self.id_width = _ID_WIDTH

    def draw_row(self, row: int, key: int, width: int) -> Strip:
        """One run, or the gap."""
        if key != GAP_KEY:
            return super().draw_row(row, key, width)
        palette = theme.palette()
        base = palette.base + palette.cursor if row == self.cursor else palette.base
        return line_strip((("     " + palette.glyph("⋯", "...") + "  older runs, not loaded yet", palette.faint),),
                          width, base)  # fmt: skip

    def action_edge(self, direction: int) -> None:
        """The last row is the oldest run there is, loaded or not."""
        super().action_edge(direction)
        if direction > 0:
            self.page.go_to_end()

    def widen(self, run_id: int) -> None:
        """Room for this number."""
        if len(str(run_id)) + 1 > self.id_width:
            self.id_width = len(str(run_id)) + 1
            self.set_columns(_columns(self.page, self.id_width))


class RunsPage(Page):
    """Counts by state, the list, the filter."""

    place = "runs"
    def __init__(self, filter_text: str = "") -> None:
        super().__init__(id="runs-page")
        self.filter_text = filter_text
        self._filter_before = filter_text
        self._counts: dict[str, int] = {}
        self._known = False
        self._searching = True
        self._asked_at = -1
        self._more = False
        self.counts_bar = Bar(id="counts")
        self.view = RunsView(self)
        self._to_end = False
        self.cursor_bar = Bar(id="cursor-line")
        self._filter_line: FilterLine | None = None

    def compose(self) -> ComposeResult:
        """Counts on top; the filter's line comes beneath the list."""
        yield self.counts_bar
        yield self.view
        yield self.cursor_bar

    def on_mount(self) -> None:
        """Ask for the list, unless it is the one that was asked for at the start."""
        self.view.focus()
        self._say_counts()

    # ---- news -------------------------------------------------------------------------------------------------

    def receive(self, news: News) -> None:
        """Mutate the list."""
        if news.searching is not None and news.searching != self._searching:
            self._searching = news.searching
        if news.more is not None:
            self._more = news.more
        if news.counts is not None:
            self._counts = dict(news.counts)
        records = self.view.records
        for run_id, row in news.rows.items():
            old = records.get(run_id)
            progress = news.progress.get(run_id, old.progress if old else None)
            self.view.set(run_id, RunLine(row, progress, news.tries.get(run_id, 1)))
        for run_id, progress in news.progress.items():
            line = records.get(run_id)
            if line is not None and line.progress != progress:
                self.view.set(run_id, line._replace(progress=progress))
        if news.order is not None:
            self._known = True
            if news.order:
                self.view.widen(max(news.order))
            self.view.set_rows(news.order)
            if self._to_end and GAP_KEY in news.order:
                self._to_end = False
                self.view.move_to(len(news.order) - 1)
            for gone in records.keys() - set(news.order):
                del records[gone]
            self._look_at()
        if news.daemon is not None:
            self.view.refresh()
        self._say_empty()
        self._say_counts()
        self._say_cursor()

    def _say_cursor(self) -> None:
        """The run under the cursor in full: its name, and why it is where it is."""
        line = self.view.cursor_record
        if line is None:
            self.cursor_bar.say(())
            return
        palette = theme.palette()
        run = line.run
        words = cells.safe(waiting.why(run, now_us(), self.shell.daemon))
        tags = " ".join(cells.tags(run.tags))
        self.cursor_bar.say(
            (("  ", None), (cells.safe(run.name), palette.text), ("  ", None), (words, palette.dim)),
            ((f"{tags}  ", palette.faint), (f"by {cells.safe(run.actor)}  ", palette.faint)),
        )

    def _say_counts(self) -> None:
        palette = theme.palette()
        right = self._list_words()
        room = self.app.size.width - spans_width(right) - 3
        for wordy in (True, False):
            spans: list[Span] = [("  ", None)]
            for kind, word in _SHOWN_TYPES:
                number = self._counts.get(kind, 0)
                if number:
                    look = palette.look(kind)
                    spans.append((f"{look.glyph} ", look.style))
                    spans.append((times.number(number), palette.text))
                    spans.append((f" {word}   " if wordy else "  ", palette.dim))
            if spans_width(tuple(spans)) <= room:
                break
        self.counts_bar.say(tuple(spans), right)

    def _list_words(self) -> Spans:
        palette = theme.palette()
        pieces: list[Span] = []
        if self.view.marks:
            pieces.append((f"{len(self.view.marks)} marked  ", palette.warn))
        if self.filter_text:
            parsed = filters.parse(self.filter_text)
            number = times.number(len(self.view.order))
            found = f"{number} found so far" if self._searching else f"{number} found"
            pieces.append((f"/{cells.safe(self.filter_text)}  ", palette.accent))
            pieces.append((cells.safe(parsed.problem) + "  " if parsed.problem else f"{found}  ", palette.dim))
        return tuple(pieces)

    def _say_empty(self) -> None:
        if self.view.order or not self._known:
            return
        palette = theme.palette()
        lines: list[Spans]
        if self.filter_text:
            words = "looking through older runs …" if self._searching else "No run passes this filter."
            lines = [(), ((f"   {words}", palette.dim),), (("   esc clears it.", palette.faint),)]
        else:
            lines = [
                (),
                (("   No runs yet.", palette.strong),),
                (),
                (("   flowdeck demo", palette.accent), ("         runs the examples, so that there is something to see",
                                                       palette.dim)),
                (("   flowdeck up FLOWS.PY", palette.accent), ("  schedules the flows of your files and runs them",
                                                              palette.dim)),
                (),
                (("   Or run a file of yours: ", palette.faint), ("python my_flow.py", palette.dim)),
            ]  # fmt: skip
        self.view.say_when_empty(lines)

    # ---- the list ---------------------------------------------------------------------------------------------

    @on(RowView.Wanted)
    def _wanted(self, event: RowView.Wanted) -> None:
        self._look_at()
        total = len(self.view.order)
        order = self.view.order
        gap = order.index(GAP_KEY) if GAP_KEY in order else None
        if gap is not None:
            if event.first - _NEAR_END <= gap < event.first:
                self.shell.feed.list_more_from_end()
            elif event.first <= gap <= event.last + _NEAR_END:
                self.shell.feed.list_more()
        elif event.last >= total - _NEAR_END and self._asked_at != total:
            self._asked_at = total
            self.shell.feed.list_more()

    def go_to_end(self) -> None:
        """Load the oldest runs, if they are not, and go there."""
        if self._more and not self.filter_text:
            self._to_end = True
            self.shell.feed.list_end()

    def hidden(self) -> None:
        """Nobody looks: the feed need not count the tasks of these runs any more."""
        self.shell.feed.look_at(())

    def _look_at(self) -> None:
        if self.shell.in_sight is not self:
            return
        self.shell.feed.look_at(self.view.visible_keys())

    @on(RowView.Highlighted)
    @on(RowView.Marked)
    def _selection_changed(self) -> None:
        self._say_counts()
        self._say_cursor()
        self.shell.say_footer()

    @on(RowView.Chosen)
    def _chosen(self, event: RowView.Chosen) -> None:
        if event.key == GAP_KEY:
            self.shell.feed.list_more()
            return
        self.shell.go_run(event.key)

    def tick(self, now_us: int) -> None:
        """Elapsed times of what runs, and how long the waiting ones still wait."""
        del now_us
        live = [
            key
            for key in self.view.visible_keys()
            if (line := self.view.record_of(key)) is not None and line.run.ended_at_us is None
        ]
        self.view.redraw(live, ("took", "why"))
        self._say_cursor()

    def targets(self) -> list[RunRow]:
        """The marked runs, else the one under the cursor."""
        lines = (self.view.record_of(key) for key in self.view.chosen_keys())
        return [line.run for line in lines if line is not None]

    def trail(self) -> Spans:
        """The runs."""
        return (("runs", theme.palette().bar_key),)

    def shown(self) -> None:
        """Progress of what is in sight is wanted again."""
        self._look_at()
        self._say_counts()

    def take_focus(self) -> None:
        """The list."""
        self.view.focus()

    # ---- the filter -------------------------------------------------------------------------------------------

    def perform(self, action_id: str) -> bool:
        """Filter and problems."""
        match action_id:
            case "app.filter":
                self._filter_before = self.filter_text
                self._open_filter()
            case "app.problems":
                self.set_filter("" if self.filter_text == _PROBLEMS else _PROBLEMS)
            case _:
                return False
        return True

    def set_filter(self, text: str) -> None:
        """Show only what passes."""
        text = text.strip()
        if text == self.filter_text:
            return
        self.filter_text = text
        self._searching = True
        self._asked_at = -1
        self.shell.feed.list_runs(text)
        self._say_counts()

    def _open_filter(self) -> None:
        from ..widgets.filter_line import FilterLine

        if self._filter_line is None:
            self._filter_line = FilterLine(_FILTER_EXAMPLE, self.set_filter, self._filter_entered)
            self.mount(self._filter_line)
        self._filter_line.open(self.filter_text)

    def _filter_entered(self, text: str) -> None:
        self._close_filter()
        self.set_filter(text)

    def _close_filter(self) -> None:
        if self._filter_line is not None:
            self._filter_line.close()
        self.view.focus()

    def back(self) -> bool:
        """Leave the filter's line, else clear marks, else clear the filter."""
        if self._filter_line is not None and self._filter_line.is_open:
            self._close_filter()
            self.set_filter(self._filter_before)
        elif self.view.marks:
            self.view.action_clear_marks()
        elif self.filter_text:
            self.set_filter("")
        else:
            return False
        return True

    def neighbour(self, run_id: int, step: int) -> int | None:
        """The run before or after this one in the list."""
        row = self.view.index_of(run_id)
        return None if row is None else self.view.key_at(row + step)


def _columns(page: RunsPage, id_width: int) -> Sequence[Column[RunLine]]:
    def why(line: RunLine) -> Spans:
        palette = theme.palette()
        words = cells.safe(waiting.why(line.run, now_us(), page.shell.daemon))
        if line.run.state_type in ("FAILED", "CRASHED"):
            return ((words, palette.text),)
        return ((words, palette.dim),)

    return (
        Column("id", "RUN", lambda line: cells.run_id(line.run), id_width, right=True),
        Column("state", "STATE", lambda line: cells.state(line.run.state_type, line.run.state_name), 15,
               wish=15, max_width=15, flex=1),
        Column("flow", "FLOW", cells.flow_name, 12, flex=2, wish=14, max_width=24),
        Column("name", "NAME", lambda line: ((cells.safe(line.run.name), theme.palette().dim),), 14, flex=2,
               max_width=28, priority=5),
        Column("started", "STARTED", lambda line: cells.started(line.run, now_us()), 9, priority=4),
        Column("took", "TIME", lambda line: cells.took(line.run, now_us()), 8, right=True),
        Column("tasks", "TASKS", lambda line: cells.tasks_done(line.progress), 7, right=True, priority=2),
        Column("bar", "", lambda line: cells.progress_bar(line, 8), 8, priority=3),
        Column("why", "WHY", why, 16, flex=6, wish=28),
    )  # fmt: skip
