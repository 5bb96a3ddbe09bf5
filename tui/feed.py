"""The feed: one thread that reads the store and hands over what changed. Imports nothing of Textual.

Promises: widgets never touch the store; what is handed over is immutable and merged until it is taken, so a slow
screen gets fewer, larger pieces and never a queue of stale ones; the connection stays open and no transaction spans
two looks; the work done is bounded in share of time, however busy the store is. ``tell`` is called on this thread
when there are news and none were waiting; ``take`` may be called from any thread.
"""

from __future__ import annotations

import queue
import threading
import time
from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..store.errors import (
    StoreCorrupt,
    StoreError,
    StoreLocked,
    StoreMissing,
    StoreNewer,
    StoreReadOnly,
)
from ..store.rows import EventRow, RunRow, TaskRow
from ..store.states import STATE_TYPES, TERMINAL_TYPES
from . import filter as filters
from .feed_parts import FlowsPart, LimitsPart
from .news import Details, News, Opened, Progress, TaskRef, Trouble
from .waiting import Daemon

if TYPE_CHECKING:
    from ..store.changes import ChangeFeed, Changes
    from ..store.reader import Reader

GAP_KEY = 0
"""Stands in the list's order for the runs between the newest and the oldest that are loaded."""
LIVE_TYPES = frozenset(STATE_TYPES) - TERMINAL_TYPES
PAGE = 200
"""Ended runs loaded at once."""
SCAN_PAGE = 500
MAX_LIVE = 2_000
MANY_RUNS = 20_000
"""Counting more than these is noticed at the start."""
FAST_SECONDS = 0.05
SLOW_SECONDS = 0.25
"""How often to look: while something moves, and else."""
CALM_AFTER_SECONDS = 5.0
DAEMON_SECONDS = 1.0
ARTIFACTS_SECONDS = 0.5
"""Between looks at the artifacts of the open run."""
MAX_SHARE = 0.3
"""Of the time that may go into reading."""
EVENTS_AT_ONCE = 5_000
FIRST_EVENTS = 2_000

_TROUBLES: tuple[tuple[type[StoreError], str], ...] = (
    (StoreMissing, "missing"),
    (StoreLocked, "locked"),
    (StoreReadOnly, "readonly"),
    (StoreNewer, "newer"),
    (StoreCorrupt, "corrupt"),
)


def now_us() -> int:
    """This moment."""
    return time.time_ns() // 1_000


class Feed(threading.Thread):
    """Reads the store until it is stopped."""

    def __init__(self, folder: Path) -> None:
        super().__init__(name="flowdeck-feed", daemon=True)
        self.folder = folder
        self.tell: Callable[[], None] | None = None
        """Set before or after the start; called on this thread."""
        self.painted = False
        """Set once the first screen was painted."""
        self._asked: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting: News | None = None
        self.failed: BaseException | None = None
        """What ended this thread, when something did that should not have."""
        # Everything below belongs to this thread alone.
        self._reader: Reader | None = None
        self._changes: ChangeFeed | None = None
        self._filter = filters.parse("")
        self._live: dict[int, RunRow] = {}
        self._ended: list[tuple[int, int]] = []
        """(-ended at, -id) of the ended runs of the list, sorted."""
        self._listed: dict[int, RunRow] = {}
        self._scan_from: int | None = None
        """Ended runs older than this id were not looked at; None when all were."""
        self._wanted_ended = PAGE
        self._tail: list[int] = []
        """Oldest runs, newest of them first; between them and the others is a gap while ``_scan_from`` is above."""
        self._tail_below = 0
        """Every run of the list with an id below this is in the tail."""
        self._order: tuple[int, ...] = ()
        self._in_sight: tuple[int, ...] = ()
        self._progress: dict[int, Progress] = {}
        self._progress_due: dict[int, float] = {}
        self._counts_due = 0.0
        self._counts_stale = True
        self._daemon = Daemon("unknown")
        self._daemon_due = 0.0
        self._artifacts_due = 0.0
        self._artifacts_marks: tuple[tuple[int, int | None, str | None], ...] = ()
        self._trouble: Trouble | None = None
        self._open_id: int | None = None
        self._family: dict[int, RunRow] = {}
        self._tab = ""
        self._event_cursor = 0
        self._events_behind = False
        self._known_tasks: set[TaskRef] = set()
        self._edges_stale = False
        self._edges_due = 0.0
        self._pages = FlowsPart(), LimitsPart()
        self._moved_at = 0.0

    # ---- asked from any thread --------------------------------------------------------------------------------

    def take(self) -> News | None:
        """The news that are waiting, if any."""
        with self._lock:
            news, self._waiting = self._waiting, None
            return news

    def stop(self) -> None:
        """End the thread; does not wait for it."""
        self._asked.put(None)

    def list_runs(self, filter_text: str) -> None:
        """Show the runs that pass this filter."""
        self._asked.put(lambda: self._start_list(filters.parse(filter_text)))

    def list_more(self) -> None:
        """Load older runs."""
        self._asked.put(self._want_more)

    def list_end(self) -> None:
        """Load the oldest runs, leaving out what lies between."""
        self._asked.put(self._load_tail)

    def list_more_from_end(self) -> None:
        """Load the runs just before the oldest ones that are loaded."""
        self._asked.put(self._grow_tail)

    def look_at(self, run_ids: Iterable[int]) -> None:
        """These runs are in sight: tell how far their tasks are."""
        ids = tuple(run_ids)
        self._asked.put(lambda: self._set_in_sight(ids))

    def open_run(self, run_id: int | None) -> None:
        """Tell everything about this run from now on; None closes it."""
        self._asked.put(lambda: self._open(run_id))

    def show_tab(self, tab: str) -> None:
        """This tab of the open run is shown: read what only it needs."""
        self._asked.put(lambda: self._show_tab(tab))

    def show_flows(self, shown: bool) -> None:
        """The flows screen is (not) shown."""
        self._asked.put(lambda: self._show_part(self._pages[0], shown))

    def show_limits(self, shown: bool) -> None:
        """The limits screen is (not) shown."""
        self._asked.put(lambda: self._show_part(self._pages[1], shown))

    def reload(self) -> None:
        """Read everything again."""
        self._asked.put(self._reload)

    # ---- the thread -------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Look, hand over, rest; a store in trouble is tried again."""
        pause = 0.0
        while True:
            try:
                ask = self._asked.get(timeout=pause) if pause > 0 else self._asked.get_nowait()
                while True:
                    if ask is None:
                        self._close()
                        return
                    self._guarded(ask)
                    ask = self._asked.get_nowait()
            except queue.Empty:
                pass
            started = time.monotonic()
            self._guarded(self._look)
            spent = time.monotonic() - started
            calm = started - self._moved_at > CALM_AFTER_SECONDS
            pause = max(SLOW_SECONDS if calm else FAST_SECONDS, spent * (1 / MAX_SHARE - 1))
            if self._scanning():
                pause = min(pause, 0.005)
            if self._trouble is not None:
                pause = 1.0

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do it; a store that cannot serve becomes news, and the connection is made anew."""
        try:
            if self._reader is None:
                self._connect()
            work()
        except StoreError as error:
            kind = next((kind for type_, kind in _TROUBLES if isinstance(error, type_)), "other")
            trouble = Trouble(kind, str(error))  # type: ignore[arg-type]  # one of the literals above
            if trouble != self._trouble:
                self._trouble = trouble
                self._hand_over(News(trouble=trouble))
            if not isinstance(error, StoreLocked):
                self._close()
            return
        if self._trouble is not None:
            self._trouble = None
            self._hand_over(News(trouble="none"))

    def _connect(self) -> None:
        from ..store.changes import ChangeFeed
        from ..store.reader import Reader

        self._reader = Reader(self.folder)
        self._changes = ChangeFeed(self.folder)
        self._reload()

    def _close(self) -> None:
        for each in (self._changes, self._reader):
            if each is not None:
                each.close()
        self._reader = self._changes = None

    @property
    def _read(self) -> Reader:
        if self._reader is None:
            raise StoreMissing(f"the store at {self.folder} is not open")
        return self._reader

    def _hand_over(self, news: News) -> None:
        with self._lock:
            first = self._waiting is None
            self._waiting = news if self._waiting is None else self._waiting.merged(news)
        if first and self.tell is not None:
            self.tell()

    def _reload(self) -> None:
        self._start_list(self._filter)
        self._counts_stale = True
        self._counts_due = self._daemon_due = 0.0
        for part in self._pages:
            part.forget()
        if self._open_id is not None:
            self._open(self._open_id)

    def _look(self) -> None:
        assert self._changes is not None
        changes = self._changes.poll()
        if changes.replaced:
            self._close()
            self._connect()
            return
        if changes.events:
            self._moved_at = time.monotonic()
            self._follow(changes)
        if changes.telemetry_changed and self._open_id is not None:
            self._moved_at = time.monotonic()
            self._hand_over(News(opened=Opened(self._open_id, log_changed=True)))
        if self._scanning():
            self._scan()
        if self._events_behind:
            self._more_events()
        self._tell_edges()
        self._watch_daemon()
        self._count()
        self._measure_progress()
        self._read_parts()
        self._watch_artifacts()

    def _follow(self, changes: Changes) -> None:
        """Read what these events are about."""
        runs: set[int] = set()
        tasks: dict[int, set[int]] = defaultdict(set)
        family_events: list[EventRow] = []
        for event in changes.events:
            if event.run_id is None:
                self._daemon_due = 0.0
                self._pages[0].stale = True
                continue
            if event.task_seq is None:
                runs.add(event.run_id)
            else:
                tasks[event.run_id].add(event.task_seq)
                self._progress.pop(event.run_id, None)
            if event.run_id in self._family:
                family_events.append(event)
        self._counts_stale = self._counts_stale or bool(runs)
        self._pages[0].stale = self._pages[0].stale or bool(runs)
        rows = {run_id: row for run_id in runs if (row := self._read.run(run_id)) is not None}
        self._update_list(rows)
        if self._open_id is not None:
            self._update_opened(rows, tasks, family_events)

    # ---- the list ---------------------------------------------------------------------------------------------

    def _start_list(self, chosen: filters.Filter) -> None:
        self._filter = chosen
        self._wanted_ended = PAGE
        self._ended, self._tail, self._tail_below = [], [], 0
        moment = now_us()
        live_types = LIVE_TYPES if chosen.states is None else LIVE_TYPES & chosen.states
        rows = self._read.runs(states=live_types, limit=MAX_LIVE) if live_types else []
        self._live = {row.id: row for row in rows if chosen.matches(row, moment)}
        self._listed = dict(self._live)
        self._scan_from = 1 << 62
        if self._ended_types():
            self._scan(first=True)
        else:
            self._scan_from = None
        self._tell_list(dict(self._listed), whole=True)

    def _ended_types(self) -> frozenset[str]:
        chosen = self._filter
        return TERMINAL_TYPES if chosen.states is None else TERMINAL_TYPES & chosen.states

    def _scanning(self) -> bool:
        return self._reader is not None and self._scan_from is not None and len(self._ended) < self._wanted_ended

    def _scan(self, *, first: bool = False) -> None:
        """Look through one page of older runs."""
        limit = PAGE if not self._filter else SCAN_PAGE
        before = self._scan_from if self._scan_from is not None and self._scan_from < 1 << 62 else None
        rows = self._read.runs(states=self._ended_types(), limit=limit, before_id=before)
        moment = now_us()
        found = {row.id: row for row in rows if row.id not in self._listed and self._filter.matches(row, moment)}
        for row in found.values():
            insort(self._ended, _ended_key(row))
        self._listed.update(found)
        self._scan_from = min(row.id for row in rows) if len(rows) == limit else None
        self._close_gap()
        if not first:
            self._tell_list(found)

    def _load_tail(self) -> None:
        if self._scan_from is None or self._filter or self._tail:
            return
        self._tail_below = 1
        self._grow_tail()

    def _grow_tail(self) -> None:
        """Take the next runs above the tail into it: more ids at once where few of them are listed."""
        if self._scan_from is None or not self._tail_below:
            return
        found: dict[int, RunRow] = {}
        reach = PAGE
        while len(found) < PAGE // 2 and self._tail_below < self._scan_from:
            bound = min(self._tail_below + reach, self._scan_from)
            rows = self._read.runs(states=TERMINAL_TYPES, limit=reach, before_id=bound)
            found.update((row.id, row) for row in rows if row.id >= self._tail_below and row.id not in self._listed)
            self._tail_below = bound
            reach *= 2
        self._tail = [*sorted(found, reverse=True), *self._tail]
        self._listed.update(found)
        self._close_gap()
        self._tell_list(found)

    def _tries(self, rows: Mapping[int, RunRow]) -> dict[int, int]:
        return {run_id: self._read.tries(row) for run_id, row in rows.items() if row.attempt > 1}

    def _close_gap(self) -> None:
        """Nothing lies between the tail and the others any more: it is not a tail then."""
        if self._tail and (self._scan_from is None or self._tail_below >= self._scan_from):
            for run_id in self._tail:
                insort(self._ended, _ended_key(self._listed[run_id]))
            self._tail, self._tail_below, self._scan_from = [], 0, None

    def _want_more(self) -> None:
        if self._scan_from is not None:
            self._wanted_ended = len(self._ended) + PAGE
            self._hand_over(News(searching=True))

    def _update_list(self, rows: dict[int, RunRow]) -> None:
        changed: dict[int, RunRow] = {}
        moment = now_us()
        for run_id, row in rows.items():
            if row.parent_run_id is not None:
                continue
            old = self._listed.pop(run_id, None)
            self._live.pop(run_id, None)
            if old is not None and old.ended_at_us is not None:
                if run_id < self._tail_below:
                    self._tail.remove(run_id)
                else:
                    self._ended.remove(_ended_key(old))
            self._progress.pop(run_id, None)
            if not self._filter.matches(row, moment):
                continue
            self._listed[run_id] = changed[run_id] = row
            if row.ended_at_us is None:
                self._live[run_id] = row
            elif run_id < self._tail_below:
                self._tail = sorted({*self._tail, run_id}, reverse=True)
            else:
                insort(self._ended, _ended_key(row))
        if rows:
            self._tell_list(changed)

    def _tell_list(self, changed: dict[int, RunRow], *, whole: bool = False) -> None:
        order = (*sorted(self._live, reverse=True), *(-key for _, key in self._ended))
        if self._tail:
            order = (*order, GAP_KEY, *self._tail)
        news = News(
            order=order if whole or order != self._order else None, rows=changed, tries=self._tries(changed),
            searching=self._scanning(), more=self._scan_from is not None,
        )
        self._order = order
        self._hand_over(news)

    # ---- counts, progress, daemon -----------------------------------------------------------------------------

    def _count(self) -> None:
        moment = time.monotonic()
        if not self._counts_stale or moment < self._counts_due or self._others_first():
            return
        counts = self._read.run_counts()
        spent = time.monotonic() - moment
        self._counts_stale = False
        self._counts_due = moment + max(0.2, spent * 20)
        self._hand_over(News(counts=dict(counts)))

    def _others_first(self) -> bool:
        """Counting many runs takes a processor for a while: the first screen is painted before."""
        return not self.painted and max(self._listed, default=0) > MANY_RUNS

    def _set_in_sight(self, run_ids: tuple[int, ...]) -> None:
        self._in_sight = run_ids
        self._measure_progress()

    def _measure_progress(self) -> None:
        """Count the tasks of the runs in sight whose tasks changed, each seldom enough for what it costs."""
        found: dict[int, Progress] = {}
        for run_id in self._in_sight:
            started = time.monotonic()
            if run_id in self._progress or started < self._progress_due.get(run_id, 0.0):
                continue
            progress = _progress(self._read.task_counts(run_id))
            self._progress[run_id] = found[run_id] = progress
            self._progress_due[run_id] = time.monotonic() + max(0.2, (time.monotonic() - started) * 20)
        if found:
            self._hand_over(News(progress=found))

    def _watch_daemon(self) -> None:
        moment = time.monotonic()
        if moment < self._daemon_due:
            return
        self._daemon_due = moment + DAEMON_SECONDS
        daemon = self._daemon_now()
        if daemon != self._daemon:
            self._daemon = daemon
            self._hand_over(News(daemon=daemon))

    def _daemon_now(self) -> Daemon:
        from ..store import leases

        lease = next((each for each in self._read.leases() if each.owner == leases.DAEMON), None)
        if lease is None:
            return Daemon("none")
        state = leases.process_state(lease)
        return Daemon("dead" if state == "gone" else state, lease.pid, lease.host)

    # ---- screens that are read while they are shown -------------------------------------------------------------

    def _show_part(self, part: FlowsPart | LimitsPart, shown: bool) -> None:
        part.show(shown)
        self._read_parts()

    def _read_parts(self) -> None:
        for part in self._pages:
            news = part.look(self._read)
            if news is not None:
                self._hand_over(news)

    # ---- one run ----------------------------------------------------------------------------------------------

    def _open(self, run_id: int | None) -> None:
        self._open_id = run_id
        self._family = {}
        self._event_cursor = 0
        self._events_behind = False
        if run_id is None:
            return
        run = self._read.run(run_id)
        if run is None:
            self._hand_over(News(opened=Opened(run_id, fresh=True, missing=True)))
            return
        tasks = self._adopt(run)
        self._known_tasks = set(tasks)
        family = dict(self._family)
        opened = Opened(
            run_id, fresh=True, runs=family, tries=self._tries(family), tasks=tasks, log_changed=True
        )
        self._hand_over(News(opened=opened))
        self._show_tab(self._tab)

    def _adopt(self, run: RunRow) -> dict[TaskRef, TaskRow]:
        """Take a run and its subflows into the family; their tasks."""
        tasks: dict[TaskRef, TaskRow] = {}
        fresh = [run]
        while fresh:
            each = fresh.pop()
            if each.id in self._family:
                continue
            self._family[each.id] = each
            tasks.update({(row.run_id, row.seq): row for row in self._read.tasks(each.id)})
            fresh.extend(self._read.children(each.id))
        return tasks

    def _update_opened(
        self, rows: dict[int, RunRow], tasks: dict[int, set[int]], family_events: list[EventRow]
    ) -> None:
        assert self._open_id is not None
        changed: dict[TaskRef, TaskRow] = {}
        runs: dict[int, RunRow] = {}
        for run_id, row in rows.items():
            if run_id in self._family:
                self._family[run_id] = runs[run_id] = row
            elif row.parent_run_id in self._family:
                before = set(self._family)
                changed.update(self._adopt(row))
                runs.update({each: self._family[each] for each in self._family.keys() - before})
        for run_id in tasks.keys() & self._family.keys():
            changed.update({(row.run_id, row.seq): row for row in self._read.tasks_changed(run_id, tasks[run_id])})
        events = tuple(family_events) if self._event_cursor and not self._events_behind else ()
        if events:
            self._event_cursor = events[-1].id
        if runs or changed or events:
            self._hand_over(News(opened=Opened(self._open_id, runs=runs, tries=self._tries(runs), tasks=changed,
                                               events=events)))  # fmt: skip
            self._edges_stale = self._edges_stale or not changed.keys() <= self._known_tasks
            self._known_tasks |= changed.keys()
            if self._tab == "details" and runs:
                self._tell_details()

    def _show_tab(self, tab: str) -> None:
        self._tab = tab
        if self._open_id is None or not self._family:
            return
        if tab == "graph":
            self._edges_stale, self._edges_due = True, 0.0
            self._tell_edges()
        elif tab == "details":
            self._tell_details()
        elif tab == "events" and not self._event_cursor:
            self._events_behind = True
            self._more_events()

    def _tell_edges(self) -> None:
        started = time.monotonic()
        if self._open_id is None or self._tab != "graph" or not self._edges_stale or started < self._edges_due:
            return
        self._edges_stale = False
        edges = tuple(edge for run_id in self._family for edge in self._read.edges(run_id))
        self._edges_due = time.monotonic() + max(0.2, (time.monotonic() - started) * 20)
        self._hand_over(News(opened=Opened(self._open_id, edges=edges)))

    def _watch_artifacts(self) -> None:
        """What moves without an event: progress, and artifacts made meanwhile; only while somebody sees them."""
        now = time.monotonic()
        if self._tab != "details" or self._open_id is None or now < self._artifacts_due:
            return
        self._artifacts_due = now + ARTIFACTS_SECONDS
        live = [run_id for run_id, run in self._family.items() if run.ended_at_us is None]
        marks = tuple(self._read.artifacts_mark(run_id) for run_id in live)
        if marks != self._artifacts_marks:
            self._artifacts_marks = marks
            self._tell_details()

    def _tell_details(self) -> None:
        assert self._open_id is not None
        run = self._family[self._open_id]
        details = Details(
            self._read.lease_of(run.root_id or run.id),
            tuple(row for run_id in self._family for row in self._read.artifacts(run_id)),
            tuple(row for run_id in self._family for row in self._read.metrics(run_id)),
        )
        self._hand_over(News(opened=Opened(self._open_id, details=details)))

    def _more_events(self) -> None:
        """One page of the open run's events, oldest first, until its present is reached."""
        assert self._open_id is not None
        page = self._read.events(self._event_cursor, FIRST_EVENTS, self._open_id)
        self._events_behind = len(page) == FIRST_EVENTS
        self._event_cursor = page[-1].id if page else max(1, self._event_cursor)
        if page:
            self._hand_over(News(opened=Opened(self._open_id, events=tuple(page))))


def _ended_key(row: RunRow) -> tuple[int, int]:
    return -(row.ended_at_us or 0), -row.id


def _progress(counts: dict[tuple[str, str], int]) -> Progress:
    """Sum the counts by state into how far the run is."""
    done = total = failed = running = 0
    for (state_type, state_name), number in counts.items():
        total += number
        if state_type in TERMINAL_TYPES or state_name == "NotReady":
            done += number
        if state_type in ("FAILED", "CRASHED"):
            failed += number
        if state_type == "RUNNING":
            running += number
    return Progress(done, total, failed, running)
