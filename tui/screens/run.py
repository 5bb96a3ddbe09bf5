"""One run: its state and why, and five tabs: tree, graph, logs, events, details."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widget import Widget

from ...store.rows import EdgeRow, EventRow, LogRow, RunRow, TaskRow
from ...store.tables.nodes import Node
from ..actions import TABS
from ..clock import now_us
from ..feed.log_source import SEARCH_LINES, StoreLog
from ..look import cells, theme
from ..look.spans import Spans
from ..models import details
from ..models.news import Details, Opened, TaskRef
from ..models.tree_parts import GroupKey, TaskKey, TreeKey
from ..shell import NodeAt
from ..widgets.bars import Bar
from ..widgets.rows import RowView
from ..widgets.text_view import TextView
from ..widgets.tree_view import TreeView
from .page import Page
from .run_events import EventsView, event_columns
from .run_head import head_of, line_at_cursor, node_of, tabs_of, why_of

if TYPE_CHECKING:
    from ..models.news import News
    from ..widgets.graph_view import GraphView
    from ..widgets.log_view import LogView


class RunPage(Page):
    """One run and everything below it."""

    place = "run"
    DEFAULT_CSS = """
    RunPage #tab-body { height: 1fr; width: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__(id="run-page")
        self.run_id: int | None = None
        self.tab = "tree"
        self.missing = False
        self.loaded = False
        self.runs: dict[int, RunRow] = {}
        self.tries: dict[int, int] = {}
        self.tasks: dict[TaskRef, TaskRow] = {}
        self._named: set[TaskRef] = set()
        self.edges: tuple[EdgeRow, ...] | None = None
        self.events: list[EventRow] = []
        self.details: Details | None = None
        self.head = Bar(id="run-head")
        self.why = Bar(id="run-why")
        self.tabs = Bar(id="run-tabs")
        self.body = Vertical(id="tab-body")
        self.at_cursor = Bar(id="run-cursor")
        self._views: dict[str, Widget] = {}
        self._total = self._done = self._failed = 0
        self._before: list[int] = []
        """Runs that led to this one (a parent to its subflow)."""
        self._log: StoreLog | None = None
        self._log_task: TaskRef | None = None

    def compose(self) -> ComposeResult:
        """Two lines about the run, the tabs, the tab's body; beneath the tree the row at its cursor in full."""
        yield self.head
        yield self.why
        yield self.tabs
        yield self.body
        yield self.at_cursor

    # ---- opening ----------------------------------------------------------------------------------------------

    def open(self, run_id: int, tab: str | None = None) -> None:
        """Show this run."""
        if run_id != self.run_id:
            self.run_id = run_id
            self.loaded = self.missing = False
            self.runs, self.tasks, self.edges, self.events, self.details = {}, {}, None, [], None
            self.shell.feed.open_run(run_id)
            self._total = self._done = self._failed = 0
            self._close_log()
            self._empty_views()
        self.tab = tab or self.tab
        if self.is_mounted:
            self.show_tab(self.tab)
            self._say()

    def on_mount(self) -> None:
        """Show what was opened before there was anything to show it in."""
        if self.run_id is not None:
            self.show_tab(self.tab)
            self._say()

    def _empty_views(self) -> None:
        """Another run: nothing of the last one is to be seen."""
        for view in self._views.values():
            if isinstance(view, TreeView) and self.run_id is not None:
                view.load(self.run_id, ())
            elif isinstance(view, EventsView):
                view.show_events(())
            elif isinstance(view, TextView):
                view.show_lines(())
                view.action_edge(-1)

    def came_from(self, run_id: int) -> None:
        """Esc leads back to this run."""
        self._before.append(run_id)

    def back(self) -> bool:
        """To the run that led here, if one did."""
        if not self._before:
            return False
        run_id = self._before.pop()
        self.open(run_id)
        self.shell.say_all()
        return True

    def hidden(self) -> None:
        """Nobody looks: the feed need not read it any more."""
        if self.run_id is not None:
            self.shell.feed.open_run(None)
            self.run_id = None
            self._before.clear()
            self._close_log()

    def _close_log(self) -> None:
        self._log_task = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def show_tab(self, tab: str) -> None:
        """Show this tab; made when it is first wanted."""
        self.tab = tab
        view = self._views.get(tab)
        if view is None:
            view = self._views[tab] = self._make(tab)
            self.body.mount(view)
        for name, each in self._views.items():
            each.display = name == tab
        self.at_cursor.display = tab == "tree"
        self.shell.feed.show_tab(tab)
        self._fill(tab)
        self._say_tabs()
        self.call_after_refresh(view.focus)

    def _make(self, tab: str) -> Widget:
        match tab:
            case "tree":
                assert self.run_id is not None
                return TreeView(self.run_id, now_us, id="tree")
            case "graph":
                from ..widgets.graph_view import GraphView

                return GraphView(id="graph")
            case "logs":
                from ..widgets.log_view import LogView

                return LogView(id="logs", task_label=self._task_label)
            case "events":
                return EventsView(event_columns(lambda: self.tasks, lambda: self.run_id))
            case _:
                return TextView(id="details")

    # ---- news -------------------------------------------------------------------------------------------------

    def receive(self, news: News) -> None:
        """Mutate what is shown."""
        if news.daemon is not None:
            self._say()
        opened = news.opened
        if opened is None or opened.run_id != self.run_id:
            return
        if opened.fresh:
            self.runs, self.tasks, self.events = dict(opened.runs), {}, []
            self._total = self._done = self._failed = 0
            self.missing = opened.missing
            self.loaded = True
            self.details = None
        else:
            self.runs.update(opened.runs)
        self.tries.update(opened.tries)
        before = self.tasks
        self._named = {key for key, row in opened.tasks.items() if key not in before or before[key].name != row.name}
        for key, row in opened.tasks.items():
            self._tally(key, row)
            self.tasks[key] = row
        self.events.extend(opened.events)
        if opened.edges is not None:
            self.edges = opened.edges
        if opened.details is not None:
            self.details = opened.details
        self._pass_on(opened)
        self._say()
        self._say_cursor()

    def _pass_on(self, opened: Opened) -> None:
        """Tell the tabs that are made."""
        tree = self._views.get("tree")
        if isinstance(tree, TreeView):
            rows: list[RunRow | TaskRow] = [*opened.runs.values(), *opened.tasks.values()]
            if opened.fresh:
                tree.load(opened.run_id, rows)
                self._fill("tree")
            else:
                tree.apply(rows)
            tree.tell_tries(self.tries)
        if opened.edges is not None:
            self._fill("graph")
        elif opened.tasks and self.tab == "graph":
            self._recolour_graph(opened)
        if opened.fresh or opened.events:
            self._fill("events")
        if self.tab == "details":
            self._fill("details")
        if opened.log_changed or self._named:
            self._fill("logs")

    def _recolour_graph(self, opened: Opened) -> None:
        from ..widgets.graph_view import GraphView

        view = self._views.get("graph")
        if isinstance(view, GraphView):
            view.apply(opened.tasks.values())

    def _fill(self, tab: str) -> None:
        """Give a made tab what there is to show."""
        view = self._views.get(tab)
        if view is None or not self.loaded or self.run_id is None:
            return
        fill: dict[str, Callable[[Widget], None]] = {
            "tree": self._fill_tree,
            "graph": self._fill_graph,
            "logs": self._fill_logs,
            "events": self._fill_events,
            "details": self._fill_details,
        }
        fill[tab](view)

    def _fill_tree(self, view: Widget) -> None:
        assert isinstance(view, TreeView)
        assert self.run_id is not None
        if not len(view.model):
            view.load(self.run_id, [*self.runs.values(), *self.tasks.values()])
            view.tell_tries(self.tries)
        palette = theme.palette()
        words = f"Run #{self.run_id} does not exist." if self.missing else "No tasks yet."
        view.say_when_empty(((), ((f"   {words}", palette.dim),)))

    def _fill_graph(self, view: Widget) -> None:
        from ..widgets.graph_view import GraphView

        assert isinstance(view, GraphView)
        if self.edges is not None:
            view.show(self.tasks.values(), self.edges)

    def _fill_logs(self, view: Widget) -> None:
        from ..widgets.log_view import LogView

        assert isinstance(view, LogView)
        run = self.run
        if run is None:
            return
        view.about(tasks=bool(self.tasks), ended=run.ended_at_us is not None)
        root = run.root_id or run.id
        if self._log is None or self._log.root_id != root:
            if self._log is not None:
                self._log.close()
            self._log = StoreLog(self.shell.feed.folder, root)
            view.show(self._log, task=self._log_task)
        elif view.source is not self._log:
            view.show(self._log, task=self._log_task)
        view.grew()
        view.named(self._named)  # lines may be there before the rows of their tasks

    def _task_label(self, row: LogRow) -> str:
        task = self.tasks.get((row.run_id, row.task_seq)) if row.task_seq is not None else None
        return cells.safe(task.name) if task is not None else ""

    def on_log_view_search_wanted(self, event: LogView.SearchWanted) -> None:
        """Search on another thread, and hand over what was found."""
        view, query, source = event.view, event.query, self._log
        if source is None:
            return

        def work() -> None:
            lines, next_from = source.search(
                query.pattern, query.min_level, query.task, event.from_line, SEARCH_LINES
            )
            self.app.call_from_thread(view.take_found, query, lines, next_from)

        self.run_worker(work, thread=True, group="search", exit_on_error=False)

    def _fill_events(self, view: Widget) -> None:
        assert isinstance(view, EventsView)
        view.show_events(self.events)

    def _fill_details(self, view: Widget) -> None:
        assert isinstance(view, TextView)
        run = self.run
        if run is not None:
            tries = self.tries.get(run.id, 1)
            view.show_lines(details.lines_of(run, tries, self.details, self.shell.daemon, now_us()))

    # ---- what it says -----------------------------------------------------------------------------------------

    @property
    def run(self) -> RunRow | None:
        """The run that is shown."""
        return self.runs.get(self.run_id) if self.run_id is not None else None

    def _say(self) -> None:
        run = self.run
        palette = theme.palette()
        if run is None:
            self.head.say((("  ", None), (f"#{self.run_id}", palette.strong)))
            self.why.say(())
            return
        left, right = head_of(run, self.tries.get(run.id, 1), (self._done, self._total, self._failed))
        self.head.say(left, right)
        self.why.say(*why_of(run, self.shell.daemon))

    def _say_cursor(self) -> None:
        """The row of the tree at the cursor, its name and its reason at full length."""
        view = self._views.get("tree")
        line = view.cursor_record if isinstance(view, TreeView) else None
        if line is None:
            self.at_cursor.say(())
            return
        self.at_cursor.say(*line_at_cursor(line))

    def _tally(self, key: TaskRef, row: TaskRow) -> None:
        """Keep count of the run's own tasks, one change at a time."""
        if row.run_id != self.run_id:
            return
        old = self.tasks.get(key)
        for each, step in ((old, -1), (row, 1)):
            if each is not None:
                self._total += step
                self._done += step * (each.ended_at_us is not None)
                self._failed += step * (each.state_type in ("FAILED", "CRASHED"))

    def _say_tabs(self) -> None:
        self.tabs.say(tabs_of(self.tab))

    def trail(self) -> Spans:
        """The run."""
        palette = theme.palette()
        return (("runs › " if not palette.ascii else "runs > ", palette.bar_text), (f"#{self.run_id}", palette.bar_key))

    # ---- doing ------------------------------------------------------------------------------------------------

    def tick(self, now_us: int) -> None:
        """Elapsed times."""
        del now_us
        run = self.run
        if run is None or run.ended_at_us is not None:
            return
        self._say()
        view = self._views.get(self.tab)
        if isinstance(view, TreeView):
            view.tick()
            self._say_cursor()

    def targets(self) -> list[RunRow]:
        """This run."""
        return [self.run] if self.run is not None else []

    def node(self) -> NodeAt | None:
        """The task, subflow or map at the cursor of the tree or the graph."""
        view = self._views.get(self.tab)
        if self.tab == "graph" and view is not None:
            at = getattr(view, "cursor", None)
            drawn = self.tasks.get((at.run_id, at.seq)) if isinstance(at, TaskKey) else None
            return None if drawn is None else node_of(drawn, drawn.name, 0)
        if self.tab != "tree" or not isinstance(view, TreeView) or (key := view.cursor_key) is None:
            return None
        line = view.record_of(key)
        if line is None:
            return None
        waiting_for = line.counts.running + line.counts.waiting if line.counts is not None else 0
        if isinstance(key, GroupKey):
            node = Node(key.run_id, None, key.scope_seq, key.key, key.map_group)
            return NodeAt(node, f"{key.key}[*]", waiting_for)
        task = self.tasks.get((key.run_id, key.seq)) or line.task
        if task is None:
            return None
        return node_of(task, line.label, waiting_for)

    def perform(self, action_id: str) -> bool:
        """Tabs and neighbours."""
        kind, _, name = action_id.partition(".")
        if kind == "tab":
            step = {"next": 1, "previous": -1}.get(name)
            self.show_tab(name if step is None else TABS[(TABS.index(self.tab) + step) % len(TABS)])
            return True
        if action_id in ("run.next", "run.previous") and self.run_id is not None:
            other = self.shell.neighbour(self.run_id, 1 if name == "next" else -1)
            if other is not None:
                self.shell.go_run(other, self.tab)
            return True
        return False

    def on_graph_view_chosen(self, event: GraphView.Chosen) -> None:
        """Enter on a node: its log, or the subflow it stands for."""
        self._open_task(event.key)

    @on(RowView.Highlighted)
    def _highlighted(self) -> None:
        self._say_cursor()
        self.shell.say_footer()

    @on(RowView.Chosen)
    def _chosen(self, event: RowView.Chosen) -> None:
        key: TreeKey | int = event.key
        if isinstance(key, TaskKey):
            self._open_task(key)

    def _open_task(self, key: TaskKey) -> None:
        child = self.tasks[key].child_run_id
        if child is not None:
            self.shell.go_run(child)
        else:
            self.show_task_log(key)

    def show_task_log(self, key: TaskKey) -> None:
        """The log, of this task only."""
        from ..widgets.log_view import LogView

        self._log_task = (key.run_id, key.seq)
        self.show_tab("logs")
        view = self._views["logs"]
        if isinstance(view, LogView):
            view.set_task(self._log_task)

    def take_focus(self) -> None:
        """The tab's body."""
        view = self._views.get(self.tab)
        if view is not None:
            view.focus()
