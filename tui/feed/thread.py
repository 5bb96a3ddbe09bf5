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
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ...store.errors import StoreCorrupt, StoreError, StoreLocked, StoreMissing, StoreNewer, StoreReadOnly
from ...store.rows import EventRow
from ...store.states import TERMINAL_TYPES
from ..models.news import News, Opened, Trouble
from ..text import filter as filters
from ..text.progress import Progress
from ..text.waiting import Daemon, daemon_seen
from .open_run import OpenRun
from .parts import FlowsPart, LimitsPart
from .run_list import RunList

if TYPE_CHECKING:
    from ...store.changes import ChangeFeed, Changes
    from ...store.reader import Reader

MANY_RUNS = 20_000
"""Counting more than these is noticed at the start."""
FAST_SECONDS = 0.05
SLOW_SECONDS = 0.25
"""How often to look: while something moves, and else."""
CALM_AFTER_SECONDS = 5.0
DAEMON_SECONDS = 1.0
MAX_SHARE = 0.3
"""Of the time that may go into reading."""
EVENTS_AT_ONCE = 5_000

_TROUBLES: tuple[tuple[type[StoreError], str], ...] = (
    (StoreMissing, "missing"),
    (StoreLocked, "locked"),
    (StoreReadOnly, "readonly"),
    (StoreNewer, "newer"),
    (StoreCorrupt, "corrupt"),
)


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
        """What went wrong last that never should."""
        # Everything below belongs to this thread alone.
        self._reader: Reader | None = None
        self._changes: ChangeFeed | None = None
        self._list = RunList(lambda: self._read, self._hand_over)
        self._run = OpenRun(lambda: self._read, self._hand_over)
        self._in_sight: tuple[int, ...] = ()
        self._progress: dict[int, Progress] = {}
        self._progress_due: dict[int, float] = {}
        self._counts_due = 0.0
        self._counts_stale = True
        self._daemon = Daemon("unknown")
        self._daemon_due = 0.0
        self._trouble: Trouble | None = None
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
        self._asked.put(lambda: self._list.start(filters.parse(filter_text)))

    def list_more(self) -> None:
        """Load older runs."""
        self._asked.put(self._list.want_more)

    def list_end(self) -> None:
        """Load the oldest runs, leaving out what lies between."""
        self._asked.put(self._list.load_tail)

    def list_more_from_end(self) -> None:
        """Load the runs just before the oldest ones that are loaded."""
        self._asked.put(self._list.grow_tail)

    def look_at(self, run_ids: Iterable[int]) -> None:
        """These runs are in sight: tell how far their tasks are."""
        ids = tuple(run_ids)
        self._asked.put(lambda: self._set_in_sight(ids))

    def open_run(self, run_id: int | None) -> None:
        """Tell everything about this run from now on; None closes it."""
        self._asked.put(lambda: self._run.open(run_id))

    def show_tab(self, tab: str) -> None:
        """This tab of the open run is shown: read what only it needs."""
        self._asked.put(lambda: self._run.show_tab(tab))

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
            if self._list.scanning():
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
            self._say_trouble(error)
            return
        except Exception as error:  # noqa: BLE001 - this thread's border: the screen says it, and it looks again
            self.failed = error
            self._say_trouble(StoreError(f"reading the store failed: {type(error).__name__}: {error}"))
            return
        if self._trouble is not None:
            self._trouble = None
            self._hand_over(News(trouble="none"))

    def _say_trouble(self, error: StoreError) -> None:
        kind = next((kind for type_, kind in _TROUBLES if isinstance(error, type_)), "other")
        trouble = Trouble(kind, str(error))  # type: ignore[arg-type]  # one of the literals above
        if trouble != self._trouble:
            self._trouble = trouble
            self._hand_over(News(trouble=trouble))
        if not isinstance(error, StoreLocked):
            self._close()

    def _connect(self) -> None:
        from ...store.changes import ChangeFeed
        from ...store.reader import Reader

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
        self._list.start(self._list.filter)
        self._counts_stale = True
        self._counts_due = self._daemon_due = 0.0
        for part in self._pages:
            part.forget()
        if self._run.run_id is not None:
            self._run.open(self._run.run_id)

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
        if changes.telemetry_changed and self._run.run_id is not None:
            self._moved_at = time.monotonic()
            self._hand_over(News(opened=Opened(self._run.run_id, log_changed=True)))
        if self._list.scanning():
            self._list.scan()
        if self._run.events_behind:
            self._run.more_events()
        self._run.tell_edges()
        self._watch_daemon()
        self._count()
        self._measure_progress()
        self._read_parts()
        self._run.watch_artifacts()

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
            if event.run_id in self._run.family:
                family_events.append(event)
        self._counts_stale = self._counts_stale or bool(runs)
        self._pages[0].stale = self._pages[0].stale or bool(runs)
        rows = {run_id: row for run_id in runs if (row := self._read.run(run_id)) is not None}
        for run_id in rows:
            self._progress.pop(run_id, None)
        self._list.update(rows)
        if self._run.run_id is not None:
            self._run.update(rows, tasks, family_events)

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
        return not self.painted and max(self._list.listed, default=0) > MANY_RUNS

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
        from ...store.tables import leases

        lease = next((each for each in self._read.leases() if each.owner == leases.DAEMON), None)
        if lease is None:
            return Daemon("none")
        return daemon_seen(leases.judge(lease, self.folder).state, lease.pid, lease.host)

    # ---- screens that are read while they are shown -------------------------------------------------------------

    def _show_part(self, part: FlowsPart | LimitsPart, shown: bool) -> None:
        part.show(shown)
        self._read_parts()

    def _read_parts(self) -> None:
        for part in self._pages:
            news = part.look(self._read)
            if news is not None:
                self._hand_over(news)


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
