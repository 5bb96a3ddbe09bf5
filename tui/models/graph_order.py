"""Where every node of a layered drawing stands: its layer (column) and its row.

Pure arithmetic on small integers, no I/O. ``arrange`` takes one connected acyclic graph whose nodes are 0…count-1.
An edge that spans several layers gets one *bend* in each layer between; the bends of one source are shared, so that
a fan-out travels as a bundle. Lines are drawn later, in ``graph_routes``.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

ORDER_SWEEPS: Final = 8
ROW_SWEEPS: Final = 12
COUNT_CROSSINGS_UP_TO: Final = 6_000
"""Above so many line pieces the last order is taken instead of the best one seen: counting would cost more."""
_FAR: Final = 1 << 40


class Arrangement(NamedTuple):
    """Nodes are the first indices, as in the input; the indices after them are bends."""

    layers: list[list[int]]
    """Indices of each layer, from the top down."""
    down: list[list[int]]
    """For each index those it leads to, all in the next layer."""
    up: list[list[int]]
    row: list[int]
    bends: dict[tuple[int, int], int]
    """(source, layer) → the bend its long edges pass there."""
    layer_of: list[int]

    def chain(self, start: int, end: int) -> list[int]:
        """The indices the edge from ``start`` to ``end`` passes, both ends included."""
        between = range(self.layer_of[start] + 1, self.layer_of[end])
        return [start, *(self.bends[start, layer] for layer in between), end]


def arrange(count: int, after: Sequence[Sequence[int]], before: Sequence[Sequence[int]]) -> Arrangement:
    """Places the nodes of one connected acyclic graph; ``after`` and ``before`` list each node's neighbours."""
    layer_of = _layers(count, after, before)
    down, up, bends = _bend_long_edges(count, after, layer_of)
    layers: list[list[int]] = [[] for _ in range(max(layer_of) + 1)]
    for index in _depth_first(layer_of, down, up):
        layers[layer_of[index]].append(index)
    _reduce_crossings(layers, down, up)
    row = _rows(layers, down, up)
    _straighten(layers, down, bends, row)
    return Arrangement(layers, down, up, row, bends, layer_of)


def _layers(count: int, after: Sequence[Sequence[int]], before: Sequence[Sequence[int]]) -> list[int]:
    """Longest path from a source; then nodes with more edges out than in move right, to shorten those edges."""
    layer_of = [0] * count
    waits = [len(before[v]) for v in range(count)]
    order = [v for v in range(count) if not waits[v]]
    for v in order:
        for w in after[v]:
            layer_of[w] = max(layer_of[w], layer_of[v] + 1)
            waits[w] -= 1
            if not waits[w]:
                order.append(w)
    for v in reversed(order):
        if len(after[v]) > len(before[v]):
            layer_of[v] = min(layer_of[w] for w in after[v]) - 1
    return layer_of


def _bend_long_edges(
    count: int, after: Sequence[Sequence[int]], layer_of: list[int]
) -> tuple[list[list[int]], list[list[int]], dict[tuple[int, int], int]]:
    """Extends ``layer_of`` by the bends; returns neighbours in adjacent layers, and the bends."""
    down: list[list[int]] = [[] for _ in range(count)]
    up: list[list[int]] = [[] for _ in range(count)]
    bends: dict[tuple[int, int], int] = {}
    for v in range(count):
        for w in after[v]:
            here = v
            for layer in range(layer_of[v] + 1, layer_of[w]):
                bend = bends.get((v, layer))
                if bend is None:
                    bend = bends[v, layer] = len(layer_of)
                    layer_of.append(layer)
                    down.append([])
                    up.append([here])
                    down[here].append(bend)
                here = bend
            down[here].append(w)
            up[w].append(here)
    return down, up, bends


def _depth_first(layer_of: list[int], down: list[list[int]], up: list[list[int]]) -> list[int]:
    """A first order in which what belongs together stands together."""
    seen = [False] * len(layer_of)
    order: list[int] = []
    for start in sorted(range(len(layer_of)), key=lambda v: (bool(up[v]), layer_of[v], v)):
        stack = [start]
        while stack:
            v = stack.pop()
            if not seen[v]:
                seen[v] = True
                order.append(v)
                stack.extend(reversed(down[v]))
    return order


def _reduce_crossings(layers: list[list[int]], down: list[list[int]], up: list[list[int]]) -> None:
    """Barycentre sweeps, there and back; keeps the order with the fewest crossings."""
    place = [0] * len(down)
    for layer in layers:
        for i, v in enumerate(layer):
            place[v] = i
    counting = sum(map(len, down)) <= COUNT_CROSSINGS_UP_TO
    best, fewest = [layer[:] for layer in layers], _crossings(layers, down, place) if counting else _FAR
    for sweep in range(ORDER_SWEEPS):
        if not fewest:
            break
        forward = sweep % 2 == 0
        neighbours = up if forward else down
        for layer in layers[1:] if forward else layers[-2::-1]:
            centre = {v: sum(place[u] for u in n) / len(n) if (n := neighbours[v]) else place[v] for v in layer}
            layer.sort(key=centre.__getitem__)
            for i, v in enumerate(layer):
                place[v] = i
        crossings = _crossings(layers, down, place) if counting else 0
        if not counting or crossings < fewest:
            best, fewest = [layer[:] for layer in layers], crossings if counting else _FAR
    layers[:] = best


def _crossings(layers: list[list[int]], down: list[list[int]], place: list[int]) -> int:
    total = 0
    for layer in layers[:-1]:
        ends: list[int] = []
        for v in layer:
            here = sorted(place[w] for w in down[v])
            total += sum(len(ends) - bisect_right(ends, end) for end in here)
            for end in here:
                insort(ends, end)
    return total


def _rows(layers: list[list[int]], down: list[list[int]], up: list[list[int]]) -> list[int]:
    """Rows from 0: each index as near to the median of its neighbours as the order within its layer lets it."""
    row = [0] * len(down)
    for layer in layers:
        for i, v in enumerate(layer):
            row[v] = i
    for sweep in range(ROW_SWEEPS):
        forward = sweep % 2 == 0
        neighbours = up if forward else down
        for layer in layers if forward else reversed(layers):
            _settle(layer, [_median(row, neighbours[v], row[v]) for v in layer], row)
    return row


def _median(row: list[int], neighbours: list[int], otherwise: int) -> int:
    if not neighbours:
        return otherwise
    rows = sorted(row[u] for u in neighbours)
    return rows[(len(rows) - 1) // 2]


def _settle(layer: list[int], wanted: list[int], row: list[int]) -> None:
    """Gives the layer rows in order, a row each: half way between pushing everything down and pushing it up."""
    pushed_down: list[int] = []
    last = -_FAR
    for want in wanted:
        last = max(want, last + 1)
        pushed_down.append(last)
    last = _FAR
    pushed_up = [0] * len(layer)
    for i in range(len(layer) - 1, -1, -1):
        last = pushed_up[i] = min(wanted[i], last - 1)
    last = -_FAR
    for v, low, high in zip(layer, pushed_up, pushed_down, strict=True):
        last = row[v] = max((low + high) // 2, last + 1)


def _straighten(
    layers: list[list[int]], down: list[list[int]], bends: dict[tuple[int, int], int], row: list[int]
) -> None:
    """Puts all bends of a source into one row where the order within their layers leaves room for it."""
    chains: dict[int, list[int]] = defaultdict(list)
    for (source, _), bend in sorted(bends.items()):
        chains[source].append(bend)
    above: dict[int, int] = {}
    below: dict[int, int] = {}
    for layer in layers:
        for first, second in pairwise(layer):
            above[second], below[first] = first, second
    for source, chain in chains.items():
        ends = [source, *down[chain[-1]]]
        lowest = max((row[above[v]] + 1 for v in chain if v in above), default=-_FAR)
        highest = min((row[below[v]] - 1 for v in chain if v in below), default=_FAR)
        if lowest > highest:
            continue
        wanted = sorted((row[v] for v in (*ends, *chain)), key=lambda r: -sum(row[v] == r for v in (*ends, *chain)))
        best = min((min(max(r, lowest), highest) for r in wanted), key=lambda r: sum(row[v] != r for v in ends))
        for v in chain:
            row[v] = best
