"""What the feed tells about the run that stands open, its subflows included. It belongs to the feed's thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...store.rows import EventRow, RunRow, TaskRow
from ..models.news import Details, News, Opened, TaskRef
from .run_list import tries_of

if TYPE_CHECKING:
    from ...store.reader import Reader

ARTIFACTS_SECONDS = 0.5
"""Between looks at the artifacts of the open run."""
FIRST_EVENTS = 2_000
FIRST_TASKS = 500


class OpenRun:
    """The run that stands open, if one does."""

    def __init__(self, read: Callable[[], Reader], hand_over: Callable[[News], None]) -> None:
        self._read = read
        self._hand_over = hand_over
        self.run_id: int | None = None
        self.family: dict[int, RunRow] = {}
        """The run and its subflows."""
        self.events_behind = False
        """Whether there are older events that were not told yet."""
        self._tab = ""
        self._event_cursor = 0
        self._known_tasks: set[TaskRef] = set()
        self._edges_stale = False
        self._edges_due = 0.0
        self._artifacts_due = 0.0
        self._artifacts_marks: tuple[tuple[int, int | None, str | None], ...] = ()

    def open(self, run_id: int | None) -> None:
        """Tell everything about this run from now on; None closes it."""
        self.run_id = run_id
        self.family = {}
        self._event_cursor = 0
        self.events_behind = False
        if run_id is None:
            return
        run = self._read().run(run_id)
        if run is None:
            self._hand_over(News(opened=Opened(run_id, fresh=True, missing=True)))
            return
        first = self._read().tasks(run_id, limit=FIRST_TASKS)
        if many := len(first) == FIRST_TASKS:  # something to see while the others are read
            seen = {(row.run_id, row.seq): row for row in first}
            self._hand_over(News(opened=Opened(run_id, fresh=True, runs={run_id: run}, tasks=seen)))
        tasks = self._adopt(run)
        self._known_tasks = set(tasks)
        family = dict(self.family)
        tries = tries_of(self._read(), family)
        self._hand_over(News(opened=Opened(
            run_id, fresh=not many, runs=family, tries=tries, tasks=tasks, log_changed=True,
        )))  # fmt: skip
        self.show_tab(self._tab)

    def _adopt(self, run: RunRow) -> dict[TaskRef, TaskRow]:
        """Take a run and its subflows into the family; their tasks."""
        tasks: dict[TaskRef, TaskRow] = {}
        fresh = [run]
        while fresh:
            each = fresh.pop()
            if each.id in self.family:
                continue
            self.family[each.id] = each
            tasks.update({(row.run_id, row.seq): row for row in self._read().tasks(each.id)})
            fresh.extend(self._read().children(each.id))
        return tasks

    def update(
        self, rows: dict[int, RunRow], tasks: dict[int, set[int]], family_events: list[EventRow]
    ) -> None:
        """Tell what changed of it: runs, tasks by run and seq, events."""
        assert self.run_id is not None
        changed: dict[TaskRef, TaskRow] = {}
        runs: dict[int, RunRow] = {}
        for run_id, row in rows.items():
            if run_id in self.family:
                self.family[run_id] = runs[run_id] = row
            elif row.root_id is not None and row.parent_run_id in self.family:
                before = set(self.family)
                changed.update(self._adopt(row))
                runs.update({each: self.family[each] for each in self.family.keys() - before})
        for run_id in tasks.keys() & self.family.keys():
            changed.update({(row.run_id, row.seq): row for row in self._read().tasks_changed(run_id, tasks[run_id])})
        events = tuple(family_events) if self._event_cursor and not self.events_behind else ()
        if events:
            self._event_cursor = events[-1].id
        if runs or changed or events:
            tries = tries_of(self._read(), runs)
            self._hand_over(News(opened=Opened(self.run_id, runs=runs, tries=tries, tasks=changed, events=events)))
            self._edges_stale = self._edges_stale or not changed.keys() <= self._known_tasks
            self._known_tasks |= changed.keys()
            if self._tab == "details" and runs:
                self._tell_details()

    def show_tab(self, tab: str) -> None:
        """Read what only this tab needs."""
        self._tab = tab
        if self.run_id is None or not self.family:
            return
        if tab == "graph":
            self._edges_stale, self._edges_due = True, 0.0
            self.tell_edges()
        elif tab == "details":
            self._tell_details()
        elif tab == "events" and not self._event_cursor:
            self.events_behind = True
            self.more_events()

    def tell_edges(self) -> None:
        """What depends on what, when tasks were added and somebody sees it."""
        started = time.monotonic()
        if self.run_id is None or self._tab != "graph" or not self._edges_stale or started < self._edges_due:
            return
        self._edges_stale = False
        edges = tuple(edge for run_id in self.family for edge in self._read().edges(run_id))
        self._edges_due = time.monotonic() + max(0.2, (time.monotonic() - started) * 20)
        self._hand_over(News(opened=Opened(self.run_id, edges=edges)))

    def watch_artifacts(self) -> None:
        """What moves without an event: progress, and artifacts made meanwhile; only while somebody sees them."""
        now = time.monotonic()
        if self._tab != "details" or self.run_id is None or now < self._artifacts_due:
            return
        self._artifacts_due = now + ARTIFACTS_SECONDS
        live = [run_id for run_id, run in self.family.items() if run.ended_at_us is None]
        marks = tuple(self._read().artifacts_mark(run_id) for run_id in live)
        if marks != self._artifacts_marks:
            self._artifacts_marks = marks
            self._tell_details()

    def _tell_details(self) -> None:
        assert self.run_id is not None
        run = self.family[self.run_id]
        details = Details(
            self._read().lease_of(run.root_id or run.id),
            tuple(row for run_id in self.family for row in self._read().artifacts(run_id)),
            tuple(row for run_id in self.family for row in self._read().metrics(run_id)),
        )
        self._hand_over(News(opened=Opened(self.run_id, details=details)))

    def more_events(self) -> None:
        """One page of the open run's events, oldest first, until its present is reached."""
        assert self.run_id is not None
        page = self._read().events(self._event_cursor, FIRST_EVENTS, self.run_id)
        self.events_behind = len(page) == FIRST_EVENTS
        self._event_cursor = page[-1].id if page else max(1, self._event_cursor)
        if page:
            self._hand_over(News(opened=Opened(self.run_id, events=tuple(page))))
