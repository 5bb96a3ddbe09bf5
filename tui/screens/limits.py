"""Concurrency limits: how many slots each has, who holds them, and who waits in which order since when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult

from ..clock import now_us
from ..look import cells, theme
from ..look.spans import Span, Spans
from ..models.limit_lines import Key, LimitLine, lines_of, place_words
from ..models.news import Limits
from ..models.tree import guide
from ..text import times
from ..widgets.bars import Bar
from ..widgets.columns import Column
from ..widgets.rows import RowView
from .page import Page

if TYPE_CHECKING:
    from ..models.news import News

_BAR = 10


class LimitsView(RowView[Key, LimitLine]):
    """One line for each limit, and one for each who holds or waits."""


class LimitsPage(Page):
    """The list, and a word on all of it."""

    place = "limits"

    def __init__(self) -> None:
        super().__init__(id="limits-page")
        self.summary = Bar(id="limits-summary")
        self.view = LimitsView(_columns(), id="limits")
        self.limits: Limits | None = None
        self._folded: set[str] = set()

    def compose(self) -> ComposeResult:
        """How many there are; the list."""
        yield self.summary
        yield self.view

    def receive(self, news: News) -> None:
        """Mutate the lines."""
        if news.limits is not None:
            self.limits = news.limits
            self._show()

    def _show(self) -> None:
        if self.limits is None:
            return
        lines = lines_of(self.limits, self._folded)
        keys = {line.key for line in lines}
        for gone in self.view.records.keys() - keys:
            del self.view.records[gone]
        for line in lines:
            self.view.set(line.key, line)
        self.view.set_rows(tuple(line.key for line in lines))
        self._say_empty()
        self._say_summary(self.limits)
        self.shell.say_footer()

    def _say_summary(self, limits: Limits) -> None:
        palette = theme.palette()
        number = len(limits.usages)
        full = sum(usage.full for usage in limits.usages)
        waiting = sum(len(usage.waiting) for usage in limits.usages)
        spans: list[Span] = [(f"  {number} limit{'' if number == 1 else 's'}", palette.dim)]
        if full:
            spans.append((f"   {full} full", palette.warn))
        if waiting:
            spans.append((f"   {times.number(waiting)} waiting", palette.warn))
        self.summary.say(tuple(spans))

    def _say_empty(self) -> None:
        palette = theme.palette()
        self.view.say_when_empty((
            (),
            (("   No limits yet.", palette.strong),),
            (),
            (("   flowdeck limits set db 2", palette.accent), ("        two at once inside concurrency(\"db\")",
                                                              palette.dim)),
            (("   flowdeck limits set tag:db 2", palette.accent), ("    two tasks with the tag db at once",
                                                                  palette.dim)),
            (("   flowdeck limits set flow:etl 1", palette.accent), ("  one run of etl at a time", palette.dim)),
        ))  # fmt: skip

    def shown(self) -> None:
        """The feed reads it while it is in sight."""
        self.shell.feed.show_limits(True)

    def hidden(self) -> None:
        """The feed need not read it any more."""
        self.shell.feed.show_limits(False)

    def tick(self, now_us: int) -> None:
        """For how long."""
        del now_us
        self.view.redraw(self.view.visible_keys(), ("since",))

    def trail(self) -> Spans:
        """The limits."""
        return (("limits", theme.palette().bar_key),)

    def perform(self, action_id: str) -> bool:
        """Pause or resume the limit at the cursor."""
        line = self.view.cursor_record
        if action_id != "limit.pause":
            return False
        if line is None:
            self.shell.notice("no limit here", good=False)
        else:
            self.shell.asker.set_limit_active(line.usage.name, not line.usage.active)
        return True

    @on(RowView.Highlighted)
    def _highlighted(self) -> None:
        self.shell.say_footer()

    @on(RowView.Chosen)
    def _chosen(self) -> None:
        """Fold a limit or open it; else to the run."""
        line = self.view.cursor_record
        if line is None:
            return
        if line.kind == "limit":
            self._folded ^= {line.usage.name}
            self._show()
        elif line.who is not None and line.who.run is not None:
            self.shell.go_run(line.who.run)

    def take_focus(self) -> None:
        """The list."""
        self.view.focus()


def _who(line: LimitLine) -> Spans:
    palette = theme.palette()
    if line.kind == "limit":
        look = palette.look(*(("PAUSED", "Paused") if not line.usage.active else
                              ("SCHEDULED", "AwaitingSlot") if line.usage.waiting else
                              ("RUNNING", "Running") if line.usage.taken else ("PENDING", "Pending")))  # fmt: skip
        folded = () if line.open or not (line.usage.holders or line.usage.waiting) else (
            (palette.glyph(" ▸", " +"), palette.accent),
        )  # fmt: skip
        return ((f"{look.glyph} ", look.style), (cells.safe(line.usage.name), palette.strong), *folded)
    branch = (guide((not line.last,), ascii_only=palette.ascii), palette.faint)
    if line.who is None:
        return (branch, (line.name, palette.dim))
    state = ("RUNNING", "Running") if line.kind == "holds" else ("SCHEDULED", "AwaitingSlot")
    look = palette.look(*state)
    return (branch, (f"{look.glyph} ", look.style), (cells.safe(line.who.who), palette.text))


def _state(line: LimitLine) -> Spans:
    palette = theme.palette()
    usage = line.usage
    match line.kind:
        case "limit" if not usage.active:
            return (("paused", palette.warn),)
        case "limit" if usage.waiting:
            return ((f"{times.number(len(usage.waiting))} waiting", palette.warn),)
        case "limit":
            return (("full", palette.text) if usage.full else ("free", palette.dim),)
        case "holds":
            return (("holds", palette.good),)
        case "waits":
            words = place_words(line.place)
            return ((words if line.place == 1 else f"{words} in line", palette.warn),)
        case _:
            return ()


def _slots(line: LimitLine) -> Spans:
    palette = theme.palette()
    if line.kind == "limit":
        style = palette.warn if line.usage.full else palette.text
        return ((f"{line.usage.taken:.4g}/{line.usage.slots}", style),)
    return ((str(line.who.slots), palette.dim),) if line.who is not None else ()


def _bar(line: LimitLine) -> Spans:
    if line.kind != "limit" or not line.usage.slots:
        return ()
    taken = min(line.usage.slots, round(line.usage.taken))
    return cells.bar(taken, line.usage.slots, 0, _BAR, live=True)


def _since(line: LimitLine) -> Spans:
    if line.who is None:
        return ()
    style = theme.palette().text if line.kind == "waits" else theme.palette().dim
    return ((times.running_duration(max(0, now_us() - line.who.since_us)), style),)


def _what(line: LimitLine) -> Spans:
    palette = theme.palette()
    if line.kind == "limit":
        usage = line.usage
        words = f"{usage.decay:g} a second come back" if usage.decay is not None else ""
        return ((words, palette.faint),)
    return ((cells.safe(line.name), palette.text),) if line.who is not None else ()


def _columns() -> list[Column[LimitLine]]:
    return [
        Column("who", "LIMIT", _who, 20, flex=2, max_width=40),
        Column("state", "STATE", _state, 12),
        Column("slots", "SLOTS", _slots, 9, right=True),
        Column("bar", "", _bar, _BAR, priority=4),
        Column("since", "FOR", _since, 8, right=True),
        Column("what", "WHAT", _what, 16, flex=5, priority=1),
    ]
