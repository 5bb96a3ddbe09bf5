"""Flows and schedules: what runs when, how the last runs went, and flow files that do not load."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult

from ...store.rows import FlowFileRow, ScheduleRow
from ..clock import now_us
from ..look import cells, theme
from ..look.spans import Spans
from ..models.news import FlowLine
from ..text import times
from ..text.sanitize import clean_lines
from ..widgets.bars import Bar
from ..widgets.columns import Column
from ..widgets.rows import RowView
from ..widgets.text_view import TextView
from .page import Page

if TYPE_CHECKING:
    from ..models.news import News

_TICKS = 20


class FlowsView(RowView[str, FlowLine]):
    """One line per schedule."""


class FlowsPage(Page):
    """Schedules above, problems beneath."""

    place = "flows"
    DEFAULT_CSS = """
    FlowsPage #problems-title { display: none; }
    FlowsPage #problems { height: 9; display: none; }
    FlowsPage.troubled #problems-title, FlowsPage.troubled #problems { display: block; }
    """

    def __init__(self) -> None:
        super().__init__(id="flows-page")
        self.summary = Bar(id="flows-summary")
        self.view = FlowsView(_columns(), id="flows")
        self.problems_title = Bar(id="problems-title")
        self.problems = TextView(id="problems")
        self.lines: tuple[FlowLine, ...] = ()

    def compose(self) -> ComposeResult:
        """Schedules, then problems."""
        yield self.summary
        yield self.view
        yield self.problems_title
        yield self.problems

    def receive(self, news: News) -> None:
        """Mutate the lines."""
        if news.flows is None:
            return
        self.lines = news.flows.lines
        for line in self.lines:
            self.view.set(line.key, line)
        self.view.set_rows(tuple(line.key for line in self.lines))
        palette = theme.palette()
        self.view.say_when_empty((
            (),
            (("   No flows yet.", palette.strong),),
            (),
            (("   flowdeck up FLOWS.PY", palette.accent), ("  loads the flows of your files and schedules them",
                                                          palette.dim)),
        ))  # fmt: skip
        schedules = sum(1 for line in self.lines if line.schedule is not None)
        number = len({line.flow_name for line in self.lines})
        self.summary.say(((f"  {number} flows, {schedules} schedules", palette.dim),))
        self._show_problems(news.flows.problems)

    def _show_problems(self, problems: tuple[FlowFileRow, ...]) -> None:
        palette = theme.palette()
        self.set_class(bool(problems), "troubled")
        if not problems:
            return
        noun = "flow file does" if len(problems) == 1 else "flow files do"
        self.problems_title.say(
            ((f"  {palette.look('FAILED').glyph} {len(problems)} {noun} not load", palette.bad),
             ("   the last good version stays scheduled; tab moves here", palette.faint)),
        )  # fmt: skip
        lines: list[Spans] = []
        for problem in problems:
            lines.append(((f"  {cells.safe(problem.error or problem.path)}", palette.text),))
            lines += [((f"    {cells.safe(line)}", palette.dim),) for line in clean_lines(problem.traceback or "")]
            lines.append(())
        self.problems.show_lines(lines)

    def shown(self) -> None:
        """The feed reads it while it is in sight."""
        self.shell.feed.show_flows(True)

    def hidden(self) -> None:
        """The feed need not read it any more."""
        self.shell.feed.show_flows(False)

    def tick(self, now_us: int) -> None:
        """How long until the next run."""
        del now_us
        self.view.redraw(self.view.visible_keys(), ("next",))

    def trail(self) -> Spans:
        """The flows."""
        return (("flows", theme.palette().bar_key),)

    @property
    def line(self) -> FlowLine | None:
        """The line under the cursor."""
        return self.view.cursor_record

    def perform(self, action_id: str) -> bool:
        """Pause or resume the schedule under the cursor."""
        line = self.line
        if action_id == "schedule.pause":
            if line is None or line.schedule is None:
                self.shell.notice("this line has no schedule", good=False)
            else:
                self.shell.asker.set_schedule(line.schedule.id, not line.schedule.active)
            return True
        return False

    @on(RowView.Highlighted)
    def _highlighted(self) -> None:
        self.shell.say_footer()

    @on(RowView.Chosen)
    def _chosen(self) -> None:
        line = self.line
        if line is not None:
            self.shell.go_runs(f"flow:^{line.flow_name}$" if " " not in line.flow_name else "")

    def flow_at_cursor(self) -> str:
        """The deployment of the line, or its flow."""
        line = self.line
        return "" if line is None else line.deployment.name if line.deployment else line.flow_name

    def take_focus(self) -> None:
        """The schedules."""
        self.view.focus()


def schedule_words(schedule: ScheduleRow) -> str:
    """``0 6 * * *`` or ``every 5 min``; raw text from the store."""
    try:
        spec = json.loads(schedule.spec)
    except ValueError:
        return schedule.spec
    if schedule.kind == "cron":
        zone = spec.get("timezone")
        return f"{spec.get('cron', '?')}" + (f" {zone}" if zone and zone not in ("UTC", "local") else "")
    seconds = spec.get("seconds")
    return f"every {times.span_words(int(seconds * 1_000_000))}" if isinstance(seconds, int | float) else schedule.spec


def _next(line: FlowLine) -> Spans:
    palette = theme.palette()
    schedule = line.schedule
    if schedule is None:
        return ()
    if not schedule.active:
        return ((f"{palette.look('PAUSED').glyph} paused", palette.warn),)
    if schedule.next_due_at_us is None:
        return (("never", palette.faint),)
    moment = now_us()
    away = schedule.next_due_at_us - moment
    words = f"in {times.span_words(away)}" if away > 0 else f"{times.span_words(away)} ago"
    return ((words, palette.text if away > 0 else palette.warn),)


def _schedule(line: FlowLine) -> Spans:
    palette = theme.palette()
    if line.schedule is not None:
        return ((cells.safe(schedule_words(line.schedule)), palette.text),)
    return (("by hand" if line.deployment else "from its file", palette.faint),)


def _rate(line: FlowLine) -> Spans:
    ended = [run for run in line.recent if run.ended_at_us is not None and run.state_type != "CANCELLED"]
    if not ended:
        return ()
    good = sum(1 for run in ended if run.state_type == "COMPLETED")
    palette = theme.palette()
    return ((f"{100 * good // len(ended)}%", palette.dim if good == len(ended) else palette.warn),)


def _median(line: FlowLine) -> Spans:
    spans = sorted(run.duration_us for run in line.recent if run.duration_us is not None)
    return ((times.duration(spans[len(spans) // 2]), theme.palette().dim),) if spans else ()


def _columns() -> list[Column[FlowLine]]:
    def policy(line: FlowLine) -> Spans:
        schedule = line.schedule
        words = f"overlap {schedule.overlap}, catch up {schedule.catchup}" if schedule else ""
        return ((words, theme.palette().faint),)

    def deployment(line: FlowLine) -> Spans:
        name = line.deployment.name if line.deployment and line.deployment.name != line.flow_name else ""
        return ((cells.safe(name), theme.palette().dim),)

    return [
        Column("flow", "FLOW", lambda line: ((cells.safe(line.flow_name), theme.palette().strong),), 14, flex=2,
               max_width=32),
        Column("deployment", "DEPLOYMENT", deployment, 10, flex=1, max_width=24, priority=6),
        Column("schedule", "SCHEDULE", _schedule, 14, flex=2, max_width=30),
        Column("next", "NEXT", _next, 9),
        Column("recent", "LAST RUNS", lambda line: cells.ticks(line.recent, _TICKS), _TICKS, right=True),
        Column("rate", "GOOD", _rate, 4, right=True, priority=3),
        Column("median", "MEDIAN", _median, 7, right=True, priority=4),
        Column("policy", "WHEN LATE OR BUSY", policy, 20, flex=1, wish=34, priority=5),
    ]  # fmt: skip
