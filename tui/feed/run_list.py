"""The feed's list of runs: what lives, then what ended, page by page, and from its end on where somebody went there.

It belongs to the feed's thread.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ...store.rows import RunRow
from ...store.states import STATE_TYPES, TERMINAL_TYPES
from ..clock import now_us
from ..models.news import News
from ..text import filter as filters

if TYPE_CHECKING:
    from ...store.reader import Reader

GAP_KEY = 0
"""Stands in the list's order for the runs between the newest and the oldest that are loaded."""
LIVE_TYPES = frozenset(STATE_TYPES) - TERMINAL_TYPES
PAGE = 200
"""Ended runs loaded at once."""
SCAN_PAGE = 500
MAX_LIVE = 2_000


class RunList:
    """Which runs the list shows, and in which order."""

    def __init__(self, read: Callable[[], Reader], hand_over: Callable[[News], None]) -> None:
        self._read = read
        self._hand_over = hand_over
        self.filter = filters.parse("")
        self.listed: dict[int, RunRow] = {}
        self._live: dict[int, RunRow] = {}
        self._ended: list[tuple[int, int]] = []
        """(-ended at, -id) of the ended runs of the list, sorted."""
        self._scan_from: int | None = None
        """Ended runs older than this id were not looked at; None when all were."""
        self._wanted_ended = PAGE
        self._tail: list[int] = []
        """Oldest runs, newest of them first; between them and the others is a gap while ``_scan_from`` is above."""
        self._tail_below = 0
        """Every run of the list with an id below this is in the tail."""
        self._order: tuple[int, ...] = ()

    def start(self, chosen: filters.Filter) -> None:
        """The runs that pass this filter, from the newest on."""
        self.filter = chosen
        self._wanted_ended = PAGE
        self._ended, self._tail, self._tail_below = [], [], 0
        moment = now_us()
        live_types = LIVE_TYPES if chosen.states is None else LIVE_TYPES & chosen.states
        rows = self._read().runs(states=live_types, limit=MAX_LIVE) if live_types else []
        self._live = {row.id: row for row in rows if chosen.matches(row, moment)}
        self.listed = dict(self._live)
        self._scan_from = 1 << 62
        if self._ended_types():
            self.scan(first=True)
        else:
            self._scan_from = None
        self._tell_list(dict(self.listed), whole=True)

    def _ended_types(self) -> frozenset[str]:
        chosen = self.filter
        return TERMINAL_TYPES if chosen.states is None else TERMINAL_TYPES & chosen.states

    def scanning(self) -> bool:
        """Whether there are more runs to look through."""
        return self._scan_from is not None and len(self._ended) < self._wanted_ended

    def scan(self, *, first: bool = False) -> None:
        """Look through one page of older runs."""
        limit = PAGE if not self.filter else SCAN_PAGE
        before = self._scan_from if self._scan_from is not None and self._scan_from < 1 << 62 else None
        rows = self._read().runs(states=self._ended_types(), limit=limit, before_id=before)
        moment = now_us()
        found = {row.id: row for row in rows if row.id not in self.listed and self.filter.matches(row, moment)}
        for row in found.values():
            insort(self._ended, _ended_key(row))
        self.listed.update(found)
        self._scan_from = min(row.id for row in rows) if len(rows) == limit else None
        self._close_gap()
        if not first:
            self._tell_list(found)

    def load_tail(self) -> None:
        """The oldest runs, leaving out what lies between."""
        if self._scan_from is None or self.filter or self._tail:
            return
        self._tail_below = 1
        self.grow_tail()

    def grow_tail(self) -> None:
        """Take the next runs above the tail into it: more ids at once where few of them are listed."""
        if self._scan_from is None or not self._tail_below:
            return
        found: dict[int, RunRow] = {}
        reach = PAGE
        while len(found) < PAGE // 2 and self._tail_below < self._scan_from:
            bound = min(self._tail_below + reach, self._scan_from)
            rows = self._read().runs(states=TERMINAL_TYPES, limit=reach, before_id=bound)
            found.update((row.id, row) for row in rows if row.id >= self._tail_below and row.id not in self.listed)
            self._tail_below = bound
            reach *= 2
        self._tail = [*sorted(found, reverse=True), *self._tail]
        self.listed.update(found)
        self._close_gap()
        self._tell_list(found)

    def _close_gap(self) -> None:
        """Nothing lies between the tail and the others any more: it is not a tail then."""
        if self._tail and (self._scan_from is None or self._tail_below >= self._scan_from):
            for run_id in self._tail:
                insort(self._ended, _ended_key(self.listed[run_id]))
            self._tail, self._tail_below, self._scan_from = [], 0, None

    def want_more(self) -> None:
        """Another page of ended runs."""
        if self._scan_from is not None:
            self._wanted_ended = len(self._ended) + PAGE
            self._hand_over(News(searching=True))

    def update(self, rows: dict[int, RunRow]) -> None:
        """These runs are new or changed."""
        changed: dict[int, RunRow] = {}
        moment = now_us()
        for run_id, row in rows.items():
            if row.root_id is not None:
                continue
            old = self.listed.pop(run_id, None)
            self._live.pop(run_id, None)
            if old is not None and old.ended_at_us is not None:
                if run_id < self._tail_below:
                    self._tail.remove(run_id)
                else:
                    self._ended.remove(_ended_key(old))
            if not self.filter.matches(row, moment):
                continue
            self.listed[run_id] = changed[run_id] = row
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
            order=order if whole or order != self._order else None, rows=changed, tries=tries_of(self._read(), changed),
            searching=self.scanning(), more=self._scan_from is not None,
        )
        self._order = order
        self._hand_over(news)


def tries_of(read: Reader, rows: Mapping[int, RunRow]) -> dict[int, int]:
    """How often these runs were tried, of those that may have been more than once."""
    return {run_id: read.tries(row) for run_id, row in rows.items() if row.attempt > 1}


def _ended_key(row: RunRow) -> tuple[int, int]:
    return -(row.ended_at_us or 0), -row.id
