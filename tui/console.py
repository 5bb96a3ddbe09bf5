"""The console's app: places, what is said on top and at the bottom. ``app.run_console`` is its door.

Threads read, messages carry, handlers mutate: the feed and the asker post ``Arrived`` and ``Answered``, and everything
on the screen changes in their handlers. Quitting never stops the daemon or a run, and says so. SIGTERM and SIGHUP
leave the terminal as it was.

Longer than most: Textual finds its handlers in one class, and they are many and short.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import Key
from textual.scrollbar import ScrollBar

from . import actions, garbage, header_footer, verbs
from .actions import ACTIONS, Place
from .asks import Answer, Asker, Planned
from .clock import now_us
from .commands import Command, read
from .feed.thread import Feed
from .garbage import Garbage
from .hang_up import Terminal
from .look import theme
from .look.cells import safe
from .messages import Answered, Arrived, Asked
from .screens.page import Page
from .screens.runs import RunsPage
from .shell import InSight
from .text.waiting import Daemon
from .typed_ahead import TypedAhead
from .widgets.bars import Bar
from .wire import ThinApp

if TYPE_CHECKING:
    from textual import events

    from ..store.rows import InputRow, RunRow
    from .dialogs.form import Answered as Filled
    from .dialogs.form import Typed
    from .models.news import News
    from .screens.flows import FlowsPage
    from .screens.limits import LimitsPage
    from .screens.run import RunPage

LEAST_WIDTH, LEAST_HEIGHT = 60, 15
NOTICE_SECONDS = 5.0
REAP_SECONDS = 2.0
_SETTLED_SECONDS = 1.0
_SLICE = 500
"""Tasks taken in at once; some 5 ms."""
_BETWEEN_SLICES_SECONDS = 0.003
_LIVE_WITH_PROCESS = frozenset({"RUNNING", "PENDING", "CANCELLING", "PAUSED"})


class Console(ThinApp):
    """Everything on the screen."""

    ENABLE_COMMAND_PALETTE = False
    TITLE = "Flowdeck"
    CSS = """
    Screen { layers: base over; layout: vertical; }
    #pages { height: 1fr; width: 1fr; }
    #banner, #notice { display: none; }
    #banner.open, #notice.open { display: block; }
    #too-small { display: none; height: 1fr; }
    .small #pages, .small #header, .small #footer, .small #banner, .small #notice { display: none; }
    .small #too-small { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(action.keys, f"act('{action.id}')", action.label, id=action.id, show=False)
            for action in ACTIONS
            if action.id != "list.mark"
        ),
        Binding("ctrl+c", "leave_twice", "leave", show=False, priority=True),
    ]

    def __init__(
        self, feed: Feed, asker: Asker, *, read_only: bool = False, keymap: dict[str, str] | None = None,
        start: str | None = None,
    ) -> None:  # fmt: skip
        self.palette = theme.palette()
        super().__init__(ansi_color=self.palette.depth in ("ansi", "mono") or None)
        self._use_theme()
        if self.palette.ascii:
            from .look.scroll_bar import AsciiScrollBar

            ScrollBar.renderer = AsciiScrollBar
        self.feed = feed
        self.asker = asker
        self.read_only = read_only
        self.keymap = keymap or {}
        self.daemon = Daemon("unknown")
        self.header = Bar(id="header", raised=True)
        self.banner = Bar(id="banner")
        self.notices = Bar(id="notice", raised=True)
        self.footer = Bar(id="footer", raised=True)
        self.pages = Vertical(id="pages")
        self.too_small = Bar(id="too-small")
        self._typed_ahead = TypedAhead(self)
        self._start = read(start) if start else Command("runs")
        first = self._start.text if isinstance(self._start, Command) and self._start.kind == "runs" else ""
        self.runs_page = RunsPage(first)
        self.page: Page = self.runs_page
        self._run_page: RunPage | None = None
        self._flows_page: FlowsPage | None = None
        self._limits_page: LimitsPage | None = None
        self._slices: deque[News] = deque()
        self._terminal: Terminal | None = None
        """Of the news that were taken last, what is still to be passed on."""
        self._garbage = Garbage()
        self._notice_until: float | None = None
        self._reaped_at = 0.0
        self._leave_until = 0.0
        self._drafts: dict[int, dict[str, Typed]] = {}
        """What was typed into forms, by question."""

    # ---- what places and verbs ask of it ----------------------------------------------------------------------

    @property
    def in_sight(self) -> InSight:
        """The place that is shown."""
        return self.page

    def run_in_list(self, run_id: int) -> RunRow | None:
        """A run of the list, where it is loaded."""
        line = self.runs_page.view.records.get(run_id)
        return None if line is None else line.run

    def flows_in_list(self) -> Iterable[str]:
        """Flows and deployments of the runs that are loaded."""
        return (line.run.deployment or line.run.flow_name for line in self.runs_page.view.records.values())

    def neighbour(self, run_id: int, step: int) -> int | None:
        """The run before or after this one in the list."""
        return self.runs_page.neighbour(run_id, step)

    def clear_marks(self) -> None:
        """What was marked has been acted on."""
        self.runs_page.view.action_clear_marks()

    # ---- boot -------------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """Header, banner, the place, footer."""
        yield self.header
        yield self.banner
        with self.pages:
            yield self.runs_page
        yield self.notices
        yield self.footer
        yield self.too_small

    def _use_theme(self) -> None:
        """Before any style sheet is read: a theme set later has them all read twice."""
        self.register_theme(theme.textual_theme(self.palette))
        self.set_reactive(Console.theme, "flowdeck")
        self.add_class("-theme-flowdeck")
        self._refresh_truecolor_filter(self.ansi_theme)
        self.stylesheet.set_variables(self.get_css_variables())

    def on_mount(self) -> None:
        """Keys and signals; then listen to the feed."""
        self.animation_level = "none"
        if self.keymap:
            self.set_keymap(self.keymap)
        if not self.is_headless:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
                    loop.add_signal_handler(number, self._end)
            self._terminal = Terminal()
            self._terminal.watch(self._end)
        self.asker.tell = self._tell_answer
        self.asker.tell_questions = self._tell_questions
        self.feed.tell = self._tell_news
        self.app_resume_signal.subscribe(self, lambda _: self.repaint())
        self.set_interval(1.0, self._tick)
        self.set_timer(_SETTLED_SECONDS, garbage.start_over)
        self._say_header()
        self.say_footer()
        self.on_arrived()
        if isinstance(self._start, str):
            self.notice(self._start, good=False)
        elif self._start.kind != "runs":
            self.obey(self._start)

    def _end(self) -> None:
        """Somebody wants it ended, or its terminal is gone."""
        if self._terminal is not None:
            self._terminal.let_go()
        self.exit(0)

    def _tell_news(self) -> None:
        """On the feed's thread."""
        self.post_message(Arrived())

    def _tell_answer(self, answer: Answer | Planned) -> None:
        """On the asker's thread."""
        self.post_message(Answered(answer))

    def _tell_questions(self, run_id: int, requests: list[InputRow]) -> None:
        """On the asker's thread."""
        self.post_message(Asked(run_id, requests))

    # ---- news -------------------------------------------------------------------------------------------------

    def on_arrived(self) -> None:
        """Take what the feed has and pass it on, a slice at a time: keys that wait go between two slices."""
        goes_on = bool(self._slices)
        if not goes_on and (taken := self.feed.take()) is not None:
            self._slices.extend(taken.slices(_SLICE))
        if not self._slices:
            return
        news = self._slices.popleft()
        self._garbage.news_came()
        if goes_on or self._slices:
            asyncio.get_running_loop().call_later(_BETWEEN_SLICES_SECONDS, self.post_message, Arrived())
        if news.daemon is not None:
            self.daemon = news.daemon
            self._say_header()
        if news.trouble is not None:
            self._say_trouble(None if news.trouble == "none" else news.trouble.text)
        self.runs_page.receive(news)
        if self.page is not self.runs_page:
            self.page.receive(news)
        self.say_footer()
        if news.order is not None and not self.feed.painted:
            self.call_after_refresh(self._painted)

    def _painted(self) -> None:
        self.feed.painted = True

    def on_answered(self, event: Answered) -> None:
        """Say what became of a request, or offer what was planned."""
        answer = event.answer
        if isinstance(answer, Planned):
            from .parts import offer_retry

            offer_retry(self, answer)
            return
        prefix = f"#{answer.run_id} " if answer.run_id is not None and not answer.text.startswith("#") else ""
        self.notice(prefix + answer.text if answer.ok else answer.text, good=answer.ok)

    def on_asked(self, event: Asked) -> None:
        """Open the form that answers it."""
        from .dialogs.form import Form
        from .dialogs.form_fields import question_of

        question = question_of(event.run_id, event.requests)
        if question is None:
            self.notice(f"#{event.run_id} asks for nothing; p resumes a paused run", good=False)
            return
        line = self.runs_page.view.records.get(event.run_id)
        flow = f" {line.run.flow_name}" if line is not None else ""
        about = f"#{event.run_id}{flow} awaits input"
        drafts = self._drafts.get(question.request_id, {})

        def keep(typed: dict[str, Typed]) -> None:
            self._drafts[question.request_id] = typed

        self.push_screen(Form(question, about, drafts, keep), self._filled)

    def _filled(self, answer: Filled | None) -> None:
        if answer is not None:
            self.asker.answer(answer.run_id, answer.values)

    def _tick(self) -> None:
        """A second went by."""
        if self._terminal is not None and self._terminal.is_gone:
            self._end()
            return
        moment = now_us()
        if not self.screen.is_modal:
            self.page.tick(moment)
        if self._notice_until is not None and time.monotonic() > self._notice_until:
            self._notice_until = None
            self.notices.set_class(False, "open")
        self._garbage.tick()
        if self.daemon.state in ("none", "dead") and time.monotonic() - self._reaped_at > REAP_SECONDS:
            lines = self.runs_page.view.records.values()
            if any(line.run.state_type in _LIVE_WITH_PROCESS for line in lines):
                self._reaped_at = time.monotonic()
                self.asker.reap()

    # ---- what it says -----------------------------------------------------------------------------------------

    def say_all(self) -> None:
        """Header and footer."""
        self._say_header()
        self.say_footer()

    def _say_trouble(self, text: str | None) -> None:
        palette = self.palette
        if text:
            self.banner.say(((f"  {palette.glyph('▲', '!')} ", palette.warn), (safe(text), palette.text)))
        self.banner.set_class(text is not None, "open")

    def notice(self, text: str, *, good: bool = True) -> None:
        """Say this above the keys for some seconds."""
        palette = self.palette
        glyph = palette.look("COMPLETED" if good else "FAILED").glyph
        self.notices.say(((f" {glyph} ", palette.good if good else palette.bad), (safe(text), palette.bar_key)))
        self.notices.set_class(True, "open")
        self._notice_until = time.monotonic() + NOTICE_SECONDS

    def _say_header(self) -> None:
        self.header.say(*header_footer.header(self))

    def say_footer(self) -> None:
        """The keys that work here."""
        self.footer.say(header_footer.footer(self))

    # ---- places -----------------------------------------------------------------------------------------------

    def _show(self, page: Page) -> None:
        if page is self.page:
            return
        self.page.hidden()
        self.page.display = False
        self.page = page
        page.display = True
        page.shown()
        page.take_focus()
        if not page.is_mounted:  # made this moment: it cannot have the focus before it is there
            self.call_after_refresh(self._focus_on_page, page)
        self._say_header()
        self.say_footer()

    def _focus_on_page(self, page: Page) -> None:
        if page is self.page:
            page.take_focus()

    def go_runs(self, filter_text: str | None = None) -> None:
        """The list of runs, with a filter when one is given."""
        self._show(self.runs_page)
        if filter_text is not None:
            self.runs_page.set_filter(filter_text)

    def go_run(self, run_id: int, tab: str | None = None) -> None:
        """One run."""
        from .screens.run import RunPage

        if self._run_page is None:
            self._run_page = RunPage()
            self._run_page.display = False
            self.pages.mount(self._run_page)
        page = self._run_page
        if self.page is page and page.run_id is not None and page.run_id != run_id:
            page.came_from(page.run_id)
        self._show(page)
        page.open(run_id, tab)
        self._say_header()
        self.say_footer()

    def go_flows(self) -> None:
        """Flows and schedules."""
        from .screens.flows import FlowsPage

        if self._flows_page is None:
            self._flows_page = FlowsPage()
            self._flows_page.display = False
            self.pages.mount(self._flows_page)
        self._show(self._flows_page)

    def go_limits(self) -> None:
        """Concurrency limits."""
        from .screens.limits import LimitsPage

        if self._limits_page is None:
            self._limits_page = LimitsPage()
            self._limits_page.display = False
            self.pages.mount(self._limits_page)
        self._show(self._limits_page)

    # ---- doing ------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A key does something only in the places its action belongs to."""
        if action == "act" and parameters:
            places = actions.BY_ID[str(parameters[0])].places
            return self.page.place in places or "anywhere" in places
        return super().check_action(action, parameters)

    async def on_event(self, event: events.Event) -> None:
        """Keys on their way to what has the focus are remembered: see ``typed_ahead``."""
        if isinstance(event, Key) and not event.is_forwarded:
            self._typed_ahead.sent(event)
        await super().on_event(event)

    def on_key(self, event: Key) -> None:
        """A key that bubbled back: it is looked up, unless it is the text of a field that was opened meanwhile."""
        if self._typed_ahead.takes(event):
            event.stop()
            event.prevent_default()

    def action_act(self, action_id: str) -> None:
        """Do something from the registry."""
        action = actions.BY_ID[action_id]
        if action.opens_field and not (action.asks and self.read_only):
            self._typed_ahead.field_opens()
        if action.asks and self.read_only:
            self.notice("read-only: nothing is asked of any run; start the console without --read-only", good=False)
        elif action.verbs:
            verbs.ask_verbs(self, action)
        elif not self.page.perform(action_id):
            self._perform(action_id)

    def _perform(self, action_id: str) -> None:
        match action_id:
            case "app.quit":
                self.exit(0)
            case "app.back":
                self.back()
            case "app.help":
                self._help()
            case "app.palette":
                self._open_palette()
            case "app.repaint":
                self.feed.reload()
                self.repaint()
            case "app.suspend":
                self.action_suspend_process()
            case "go.runs":
                self.go_runs()
            case "go.flows":
                self.go_flows()
            case "go.limits":
                self.go_limits()
            case "run.logs":
                targets = self.page.targets()
                if targets:
                    self.go_run(targets[0].id, "logs")
            case "run.answer":
                verbs.answer(self)
            case "flow.trigger":
                verbs.trigger(self)
            case "app.filter":
                self.notice("nothing to filter here", good=False)
            case _:
                self.go_runs()
                self.page.perform(action_id)

    def back(self) -> None:
        """One step back: marks, filter, then the place."""
        if self.page.back() or self.page is self.runs_page:
            return
        self.go_runs()

    def _help(self) -> None:
        from .dialogs.confirm import Help

        place: Place = self.page.place
        self.push_screen(Help(place, actions.at_place(place), self.keymap))

    def _open_palette(self) -> None:
        from .dialogs.palette import Palette

        def obey(command: Command | None) -> None:
            if command is not None:
                self.obey(command)

        self.push_screen(Palette(actions.at_place(self.page.place), self.keymap), obey)

    def obey(self, command: Command) -> None:
        """Do what was typed."""
        match command.kind:
            case "runs":
                self.go_runs(command.text)
            case "flows":
                self.go_flows()
            case "limits":
                self.go_limits()
            case "run" if command.run_id is not None:
                self.go_run(command.run_id, command.text)
            case "verb":
                verbs.obey_verb(self, command)
            case "trigger":
                verbs.trigger(self, command.text)
            case "action":
                self.action_act(command.text)

    def action_leave_twice(self) -> None:
        """Ctrl+C: the second within two seconds closes the console."""
        if time.monotonic() < self._leave_until:
            self.exit(0)
            return
        self._leave_until = time.monotonic() + 2.0
        self.notice("once more, or q, closes the console; the daemon and all runs go on")

    # ---- the terminal -----------------------------------------------------------------------------------------

    def on_resize(self, event: events.Resize) -> None:
        """Too small for anything: say so."""
        width, height = event.size
        small = width < LEAST_WIDTH or height < LEAST_HEIGHT
        if small:
            text = f" {LEAST_WIDTH}x{LEAST_HEIGHT} needed, this is {width}x{height}"
            self.too_small.say(((text, self.palette.warn),))
        self.screen.set_class(small, "small")
        self.call_after_refresh(self._resized)

    def _resized(self) -> None:
        self._say_header()
        self.say_footer()
        self.page.shown()

def start(
    feed: Feed, asker: Asker, *, read_only: bool, wire: str, mouse: bool, keymap: dict[str, str], start: str | None
) -> tuple[int, Daemon]:
    """Run the app to its end: its exit code, and the daemon as it was last known."""
    app = Console(feed, asker, read_only=read_only, keymap=keymap, start=start)
    app.wire = wire
    app.run(mouse=mouse)
    return app.return_code or 0, app.daemon
