"""How the lines of a layered drawing run through the channel between two layers, so that the eye can trust them.

Pure. A drawing is read from left to right: along a line, at a junction (``├ ┬ ┴ ┼`` …) either on or round the corner,
never back to the left; a ``│`` that cuts a ``─`` passes over it. Read so, a channel must show exactly its edges.

Sources with the same targets share one *trunk*, a vertical line: ``sources ─┤├─ targets``. Two rules keep it exact:

1. A line that arrives in a row from which another trunk starts must do so to the right of that trunk.
2. Where lines meet before a target, whoever comes first can be read as also going up and down the later trunks; so
   the later trunk's targets must be among the earlier one's.

What cannot keep them (overlapping sets of targets, circles among the rules) takes a *detour*: from its trunk along a
row of its own, which is put in where none is free, to a second vertical line from which nothing else leaves.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

SPREAD: Final = 1 << 20
"""Rows are multiplied by this while rows are put in between them."""
WIDE_FROM: Final = 7
"""With so many tracks side by side they stand without space between."""
_LEAD: Final = 1
_ARROW: Final = 2


class Segment(NamedTuple):
    """A straight piece of a line, ends included."""

    row0: int
    column0: int
    row1: int
    column1: int

    def cells(self) -> Iterable[tuple[int, int]]:
        """Every (row, column) it covers."""
        low, high = sorted((self.row0, self.row1))
        return ((row, column) for row in range(low, high + 1) for column in range(self.column0, self.column1 + 1))


@dataclass(slots=True)
class Trunk:
    """One vertical line: from every source row to every target row."""

    sources: list[int]
    targets: list[int]
    """All rows it leads to, detours included."""
    detours: dict[int, int] = field(default_factory=dict)
    """Target row → the row by which it is reached."""
    track: int = -1

    def stops(self) -> list[int]:
        """The rows at which something meets this trunk."""
        return [*self.sources, *(self.detours.get(row, row) for row in self.targets)]

    def is_line(self) -> bool:
        """Whether it is only a line straight on, with nothing vertical."""
        first = self.sources[0]
        return all(row == first for row in self.stops())


@dataclass(slots=True)
class Channel:
    """All lines between one layer and the next."""

    trunks: list[Trunk]
    after: dict[int, set[int]]
    """Trunk → trunks that must stand to its left."""
    order: list[int]
    """In which the trunks are given their tracks."""
    by_source: dict[int, int] = field(default_factory=dict)
    collectors: dict[int, int] = field(default_factory=dict)
    """Target row → track of the second vertical line that gathers its detours."""

    def move_rows(self, new: dict[int, int]) -> None:
        """Names the rows anew."""
        for trunk in self.trunks:
            trunk.sources = [new[row] for row in trunk.sources]
            trunk.targets = [new[row] for row in trunk.targets]
            trunk.detours = {new[row]: new[by] for row, by in trunk.detours.items()}
        self.by_source = {new[row]: i for row, i in self.by_source.items()}

    def rows(self) -> Iterable[int]:
        """The rows of its detours."""
        return (by for trunk in self.trunks for by in trunk.detours.values())


def plan(lines: Iterable[tuple[int, Collection[int]]]) -> Channel:
    """Decides what runs where, as far as the rows: (source row, target rows) for every source."""
    bundles: dict[frozenset[int], list[int]] = defaultdict(list)
    for source, targets in lines:
        bundles[frozenset(targets)].append(source)
    trunks = [Trunk(sorted(sources), sorted(targets)) for targets, sources in bundles.items()]
    by_source = {row: i for i, trunk in enumerate(trunks) for row in trunk.sources}
    arrivals: dict[int, list[int]] = defaultdict(list)
    for i, trunk in enumerate(trunks):
        for row in trunk.targets:
            arrivals[row].append(i)
    detours: set[tuple[int, int]] = set()
    earlier: dict[tuple[int, int], frozenset[int]] = {}
    for row, who in arrivals.items():
        _meet(row, who, by_source.get(row), list(bundles), earlier, detours)
    order, after = _order(trunks, earlier, detours)
    taken = {*by_source, *arrivals}
    for i, row in sorted(detours, key=lambda d: (d[1], d[0])):
        trunks[i].detours[row] = _row_for_detour(trunks[i], row, arrivals.keys(), taken)
    return Channel(trunks, after, order, by_source)


def _meet(
    row: int,
    who: list[int],
    home: int | None,
    targets: list[frozenset[int]],
    earlier: dict[tuple[int, int], frozenset[int]],
    detours: set[tuple[int, int]],
) -> None:
    """Rules 1 and 2 for one target row: fills in which trunks must come before which, and who cannot stay.

    ``home`` is the trunk that has a source in this row. If it also leads to this row it is there first.
    """
    others = sorted((i for i in who if i != home), key=lambda i: (-len(targets[i]), i))
    kept = frozenset({home} if home is not None else ())
    last = targets[home] if home is not None and home in who else None
    for i in others:
        if last is not None and not targets[i] <= last:
            detours.add((i, row))
            continue
        earlier[i, row] = kept
        kept, last = kept | {i}, targets[i]


def _order(
    trunks: list[Trunk], earlier: dict[tuple[int, int], frozenset[int]], detours: set[tuple[int, int]]
) -> tuple[list[int], dict[int, set[int]]]:
    """An order of the trunks that keeps every rule; arrivals that stand in a circle are turned into detours.

    Trunks that lead down go from the lowest up, trunks that lead up from the highest down: fewest crossings.
    """
    waits: dict[int, dict[int, set[int]]] = defaultdict(dict)
    """Trunk → target row → trunks not placed yet that must come first."""
    blocks: dict[int, set[tuple[int, int]]] = defaultdict(set)
    after: dict[int, set[int]] = defaultdict(set)
    for (i, row), before in earlier.items():
        if before:
            waits[i][row] = set(before)
            for j in before:
                blocks[j].add((i, row))

    def priority(i: int) -> tuple[float, int]:
        trunk = trunks[i]
        start = sum(trunk.sources) / len(trunk.sources)
        falls = sum(trunk.targets) / len(trunk.targets) > start
        return (-start if falls else start, i)

    ready = [priority(i) for i in range(len(trunks)) if not waits.get(i)]
    heapq.heapify(ready)
    order: list[int] = []
    left = {i for i in waits if waits[i]}
    while ready or left:
        if not ready:
            stuck = min(left, key=lambda i: (len(waits[i]), i))
            detours.update((stuck, row) for row in waits[stuck])
            waits[stuck].clear()
            left.discard(stuck)
            ready.append(priority(stuck))
        i = heapq.heappop(ready)[1]
        order.append(i)
        for j, row in blocks[i]:
            # A row that is gone from ``waits`` became a detour: its rule no longer counts.
            if row in waits[j]:
                after[j].add(i)
                waits[j][row].discard(i)
                if not waits[j][row]:
                    del waits[j][row]
                if not waits[j] and j in left:
                    left.discard(j)
                    heapq.heappush(ready, priority(j))
    return order, after


def _row_for_detour(trunk: Trunk, target: int, arrivals: Collection[int], taken: set[int]) -> int:
    """A row nothing else uses in this channel: the source's own, a free one on the way, or a new one at the target."""
    own = [row for row in trunk.sources if row not in arrivals and row not in trunk.detours.values()]
    if own:
        return min(own, key=lambda row: abs(row - target))
    start = min(trunk.sources, key=lambda row: abs(row - target))
    step = SPREAD if start > target else -SPREAD
    for row in range(target + step, start, step):
        if row not in taken:
            taken.add(row)
            return row
    row = target - SPREAD if step < 0 else target
    while True:
        row += 1
        if row not in taken:
            taken.add(row)
            return row


def _assign_tracks(channel: Channel, *, apart: bool) -> tuple[int, int]:
    """Gives every vertical line a track; returns how many tracks trunks and collectors take."""
    used: list[list[tuple[int, int]]] = []
    slack = 1 if apart else 0
    for i in channel.order:
        trunk = channel.trunks[i]
        if trunk.is_line():
            continue
        stops = trunk.stops()
        first = max((channel.trunks[j].track + 1 for j in channel.after.get(i, ())), default=0)
        trunk.track = _fit(used, min(stops) - slack, max(stops), first)
    first_width = len(used)
    used = []
    gathered: dict[int, list[int]] = defaultdict(list)
    for trunk in channel.trunks:
        for target, by in trunk.detours.items():
            gathered[target].append(by)
    for target, rows in sorted(gathered.items(), key=lambda item: -min(item[1]) if min(item[1]) < item[0] else 0):
        channel.collectors[target] = _fit(used, min(*rows, target) - slack, max(*rows, target), 0)
    return first_width, len(used)


def _fit(used: list[list[tuple[int, int]]], low: int, high: int, first: int) -> int:
    track = first
    while track < len(used) and any(low <= other_high and other_low <= high for other_low, other_high in used[track]):
        track += 1
    while track >= len(used):
        used.append([])
    used[track].append((low, high))
    return track


class Geometry:
    """The columns of one channel from ``start`` to ``end``: says by which segments each edge runs.

    ``apart`` keeps vertical lines from touching each other, for glyphs that show no direction (ASCII).
    """

    def __init__(self, channel: Channel, start: int, *, apart: bool) -> None:
        self._channel = channel
        self._first_width, second_width = _assign_tracks(channel, apart=apart)
        tracks = self._first_width + second_width
        self._step = 2 if apart or tracks < WIDE_FROM else 1
        self.start = start
        self.end = start + _LEAD + tracks * self._step + _ARROW - 1

    def _column(self, track: int) -> int:
        return self.start + _LEAD + track * self._step

    def _turn(self, target: int) -> int:
        return self._column(self._first_width + self._channel.collectors[target])

    def edge(self, source: int, target: int) -> list[Segment]:
        """From the source's row to the target's row."""
        channel = self._channel
        trunk = channel.trunks[channel.by_source[source]]
        by = trunk.detours.get(target, target)
        pieces: list[Segment] = []
        column = self.start
        if source != by:
            column = self._column(trunk.track)
            pieces += [Segment(source, self.start, source, column), Segment(source, column, by, column)]
        if by != target:
            turn = self._turn(target)
            pieces += [Segment(by, column, by, turn), Segment(by, turn, target, turn)]
            column = turn
        return [*pieces, Segment(target, column, target, self.end)]

    def drawing(self) -> Iterable[tuple[Segment, list[tuple[int, int]]]]:
        """Every line once, with the cells (row, column) at which it truly joins others."""
        channel = self._channel
        for trunk in channel.trunks:
            column = self.start
            stops = trunk.stops()
            if trunk.track >= 0:
                column = self._column(trunk.track)
                yield Segment(min(stops), column, max(stops), column), [(row, column) for row in stops]
            for source in trunk.sources:
                yield Segment(source, self.start, source, column), []
            for target in trunk.targets:
                by = trunk.detours.get(target, target)
                end = self.end
                if by != target:
                    end = self._turn(target)
                    low, high = sorted((by, target))
                    yield Segment(low, end, high, end), [(by, end), (target, end)]
                    yield Segment(target, end, target, self.end), []
                yield Segment(by, column, by, end), []
