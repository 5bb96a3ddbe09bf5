"""A run's dependency graph as a drawing in box characters, layered from left to right.

Pure: no I/O, no clock, nothing of Textual; labels must have passed ``sanitize`` already. ``layout`` promises that the
drawing, read as ``graph_routes`` says, shows exactly the given edges, and knows for every edge the cells it runs
through. It is made once per shape of the graph: a change of state only recolours. ``graph_fold`` makes large graphs
readable before they are laid out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size

from .graph_order import Arrangement, arrange
from .graph_routes import SPREAD, Channel, Geometry, Segment, plan

NodeId = Hashable
Edge = tuple[NodeId, NodeId]

MAX_LABEL: Final = 32
_UP, _RIGHT, _DOWN, _LEFT, _JOIN = 1, 2, 4, 8, 16
# Indexed by the bits above: first cells where lines pass over each other, then cells where they truly meet.
_BOX: Final = " │─╰││╭├─╯─┴╮┤┬│" + " │─╰││╭├─╯─┴╮┤┬┼"
_ASCII: Final = " |-+||++-+-++++|" + " |-+||++-+-+++++"


class GraphError(ValueError):
    """The input is not an acyclic graph over the given nodes; the text says where."""


class Node(NamedTuple):
    """One node to draw: ``label`` stands after a one-cell state glyph, ``extra`` more cells stay free behind it."""

    id: NodeId
    label: str
    extra: int = 0


class Place(NamedTuple):
    """Where a node was drawn: ``column`` is its state glyph, the label starts two cells later."""

    row: int
    column: int
    width: int
    """Of glyph, label and extra together."""
    label: str


@dataclass(slots=True)
class _Part:
    """One connected piece, laid out on its own."""

    ids: list[NodeId]
    index: dict[NodeId, int]
    arrangement: Arrangement
    channels: list[Channel]
    row: list[int]
    """Within the part."""
    top: int = 0
    starts: list[int] = field(default_factory=list)
    """Column of each layer."""
    geometries: list[Geometry] = field(default_factory=list)


class Canvas:
    """A finished drawing: where the nodes stand, the lines as text, and by which cells each edge runs."""

    def __init__(self, edges: list[Edge], *, ascii_only: bool) -> None:
        self.ascii = ascii_only
        self.width = 0
        self.height = 0
        self.edges = edges
        self.places: dict[NodeId, Place] = {}
        self.after: dict[NodeId, list[NodeId]] = defaultdict(list)
        self.before: dict[NodeId, list[NodeId]] = defaultdict(list)
        for start, end in edges:
            self.after[start].append(end)
            self.before[end].append(start)
        self._lines: list[str] = []
        self._part_of: dict[NodeId, _Part] = {}

    def line(self, row: int) -> str:
        """The lines and arrows of one row, blank where nodes stand; exactly ``width`` cells, one character each."""
        return self._lines[row]

    @cached_property
    def nodes_in_row(self) -> list[list[NodeId]]:
        """For every row its nodes from left to right."""
        rows: list[list[NodeId]] = [[] for _ in range(self.height)]
        for node, place in sorted(self.places.items(), key=lambda item: item[1].column):
            rows[place.row].append(node)
        return rows

    def lines(self, glyph: str = "") -> list[str]:
        """The whole drawing as plain text, with one glyph for every node."""
        glyph = glyph or ("*" if self.ascii else "●")
        drawn = []
        for row, line in enumerate(self._lines):
            end, text = 0, ""
            for node in self.nodes_in_row[row]:
                place = self.places[node]
                text += line[end : place.column] + set_cell_size(f"{glyph} {place.label}", place.width)
                end = place.column + place.width
            drawn.append((text + line[end:]).rstrip())
        return drawn

    def path(self, edge: Edge) -> list[Segment]:
        """The straight pieces by which an edge runs, from its source's label to its arrow."""
        start, end = edge
        part = self._part_of[start]
        column = self.places[start].column + self.places[start].width + 1
        pieces: list[Segment] = []
        chain = part.arrangement.chain(part.index[start], part.index[end])
        for v, w in pairwise(chain):
            geometry = part.geometries[part.arrangement.layer_of[v]]
            row = part.row[v]
            pieces.append(Segment(row, column, row, geometry.start))
            pieces += geometry.edge(row, part.row[w])
            column = geometry.end
        return [Segment(s.row0 + part.top, s.column0, s.row1 + part.top, s.column1) for s in pieces]

    @cached_property
    def owners(self) -> Mapping[tuple[int, int], frozenset[Edge]]:
        """For every (row, column) with a line the edges that run through it."""
        owned: dict[tuple[int, int], set[Edge]] = defaultdict(set)
        for edge in self.edges:
            for segment in self.path(edge):
                for cell in segment.cells():
                    owned[cell].add(edge)
        return {cell: frozenset(edges) for cell, edges in owned.items()}

    def beside(self, node: NodeId, step: int) -> NodeId:
        """The next node down (1) or up (-1): in the same column if there is one, else the nearest row that has one."""
        here = self.places[node]
        best: tuple[bool, int, int] | None = None
        found = node
        for other, place in self.places.items():
            distance = (place.row - here.row) * step
            if distance > 0:
                score = (place.column != here.column, distance, abs(place.column - here.column))
                if best is None or score < best:
                    best, found = score, other
        return found

    def along(self, node: NodeId, step: int) -> NodeId:
        """The nearest node downstream (1) or upstream (-1) along an edge; the node itself where none is left."""
        here = self.places[node]

        def far(other: NodeId) -> tuple[int, int]:
            there = self.places[other]
            return abs(there.row - here.row), abs(there.column - here.column)

        return min(self.after[node] if step > 0 else self.before[node], key=far, default=node)


def layout(nodes: Sequence[Node], edges: Iterable[Edge], *, ascii_only: bool = False) -> Canvas:
    """Draws an acyclic graph; parts that are not connected stand below each other. Raises ``GraphError``."""
    by_id = {node.id: node for node in nodes}
    if len(by_id) != len(nodes):
        raise GraphError("two nodes have the same id")
    canvas = Canvas(list(dict.fromkeys(edges)), ascii_only=ascii_only)
    topological(by_id, canvas.edges)
    parts = [_place(ids, canvas) for ids in _connected(by_id, canvas)]
    alone = True
    for part in parts:
        width = _set_columns(part, by_id, ascii_only)
        part.top = canvas.height + (1 if canvas.height and not (alone and len(part.ids) == 1) else 0)
        alone = len(part.ids) == 1
        canvas.height = part.top + max(part.row) + 1
        canvas.width = max(canvas.width, width)
        for i, node in enumerate(part.ids):
            label, cells = _label(by_id[node])
            canvas._part_of[node] = part
            canvas.places[node] = Place(
                part.top + part.row[i], part.starts[part.arrangement.layer_of[i]], cells, label
            )
    canvas._lines = _draw(canvas, parts)
    return canvas


def topological(nodes: Iterable[NodeId], edges: Iterable[Edge]) -> list[NodeId]:
    """The nodes, each after all that lead to it; raises ``GraphError`` naming a circle or an unknown node."""
    waits: dict[NodeId, int] = dict.fromkeys(nodes, 0)
    after: dict[NodeId, list[NodeId]] = {node: [] for node in waits}
    for start, end in edges:
        if start not in waits or end not in waits:
            raise GraphError(f"the edge {start} → {end} names a node that is not there")
        after[start].append(end)
        waits[end] += 1
    order = [node for node, count in waits.items() if not count]
    for node in order:
        for other in after[node]:
            waits[other] -= 1
            if not waits[other]:
                order.append(other)
    if len(order) < len(waits):
        circle = _circle({node for node, count in waits.items() if count}, after)
        raise GraphError("the edges form a circle: " + " → ".join(map(str, circle)))
    return order


def _circle(stuck: set[NodeId], after: Mapping[NodeId, list[NodeId]]) -> list[NodeId]:
    """One circle among nodes that each have an edge in from the others: walk backwards until a node comes again."""
    before = {end: start for start in stuck for end in after[start] if end in stuck}
    walk = [next(iter(before))]
    while (node := before[walk[-1]]) not in walk:
        walk.append(node)
    return [node, *reversed(walk[walk.index(node) :])]


def _label(node: Node) -> tuple[str, int]:
    """The label as drawn, and the cells of glyph, label and extra."""
    cells = cell_len(node.label)
    label = node.label if cells <= MAX_LABEL else set_cell_size(node.label, MAX_LABEL - 1).rstrip() + "…"
    return label, 2 + cell_len(label) + node.extra


def _connected(nodes: Iterable[NodeId], canvas: Canvas) -> list[list[NodeId]]:
    """The connected parts, and the nodes within each, in the order of the input."""
    position = {node: i for i, node in enumerate(nodes)}
    seen: set[NodeId] = set()
    parts: list[list[NodeId]] = []
    for start in position:
        if start in seen:
            continue
        seen.add(start)
        part = [start]
        for node in part:
            for other in (*canvas.after[node], *canvas.before[node]):
                if other not in seen:
                    seen.add(other)
                    part.append(other)
        parts.append(sorted(part, key=position.__getitem__))
    return parts


def _place(ids: list[NodeId], canvas: Canvas) -> _Part:
    """Rows and channels of one connected part; rows are put in where lines need one of their own."""
    index = {node: i for i, node in enumerate(ids)}
    arrangement = arrange(
        len(ids),
        [[index[other] for other in canvas.after[node]] for node in ids],
        [[index[other] for other in canvas.before[node]] for node in ids],
    )
    row = [r * SPREAD for r in arrangement.row]
    channels = [
        plan((row[v], {row[w] for w in arrangement.down[v]}) for v in layer if arrangement.down[v])
        for layer in arrangement.layers[:-1]
    ]
    new = {old: i for i, old in enumerate(sorted({*row, *(r for channel in channels for r in channel.rows())}))}
    for channel in channels:
        channel.move_rows(new)
    return _Part(ids, index, arrangement, channels, [new[r] for r in row])


def _set_columns(part: _Part, nodes: Mapping[NodeId, Node], ascii_only: bool) -> int:
    """Gives every layer and channel its columns; returns the width of the part."""
    column = 0
    for number, layer in enumerate(part.arrangement.layers):
        part.starts.append(column)
        column += max((_label(nodes[part.ids[v]])[1] for v in layer if v < len(part.ids)), default=0)
        if number < len(part.channels):
            geometry = Geometry(part.channels[number], column + 1, apart=ascii_only)
            part.geometries.append(geometry)
            column = geometry.end + 1
    return column


def _draw(canvas: Canvas, parts: Iterable[_Part]) -> list[str]:
    """Turns every line into cells: bits for the four directions, and one where lines truly meet."""
    grid = [bytearray(canvas.width) for _ in range(canvas.height)]
    arrows: list[tuple[int, int]] = []
    for part in parts:
        rows = grid[part.top :]
        for v, row in enumerate(part.row):
            layer = part.arrangement.layer_of[v]
            real = v < len(part.ids)
            if part.arrangement.down[v]:
                place = canvas.places[part.ids[v]] if real else None
                column = place.column + place.width + 1 if place else part.geometries[layer - 1].end
                _rule(rows, Segment(row, column, row, part.geometries[layer].start))
            if real and part.arrangement.up[v]:
                arrows.append((part.top + row, part.geometries[layer - 1].end))
        for geometry in part.geometries:
            for segment, joins in geometry.drawing():
                _rule(rows, segment)
                for row, column in joins:
                    rows[row][column] |= _JOIN
    lines = [bytes(cells).decode("latin-1").translate(_ASCII if canvas.ascii else _BOX) for cells in grid]
    for row, column in arrows:
        lines[row] = f"{lines[row][:column]}{'>' if canvas.ascii else '▶'}{lines[row][column + 1 :]}"
    return lines


def strokes(segments: Iterable[Segment], *, ascii_only: bool = False) -> dict[tuple[int, int], str]:
    """What some lines look like with no others in the way: the glyph of every cell they run through."""
    bits: dict[tuple[int, int], int] = defaultdict(int)
    for row, column, last_row, last_column in segments:
        low, high = sorted((row, last_row))
        for x in range(column, last_column):
            bits[row, x] |= _RIGHT
            bits[row, x + 1] |= _LEFT
        for y in range(low, high):
            bits[y, column] |= _DOWN
            bits[y + 1, column] |= _UP
    glyphs = _ASCII if ascii_only else _BOX
    return {cell: glyphs[_JOIN | mask] for cell, mask in bits.items()}


def _rule(rows: list[bytearray], segment: Segment) -> None:
    row, column, last_row, last_column = segment
    for x in range(column, last_column):
        rows[row][x] |= _RIGHT
        rows[row][x + 1] |= _LEFT
    for y in range(row, last_row):
        rows[y][column] |= _DOWN
        rows[y + 1][column] |= _UP
