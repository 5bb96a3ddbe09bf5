"""The drawn graph says what the graph is: a reader of the glyphs alone finds exactly its edges."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from flowdeck.tui.models.graph import MAX_LABEL, Canvas, GraphError, Node, layout, topological
from flowdeck.tui.models.graph_fold import Folded, Group, Item, around, fold
from hypothesis import example, given, settings
from hypothesis import strategies as st

Edges = list[tuple[int, int]]

OPEN = {
    "─": "LR", "│": "UD", "╭": "RD", "╮": "LD", "╯": "LU", "╰": "UR",
    "├": "URD", "┤": "ULD", "┬": "LRD", "┴": "LRU", "┼": "LRUD", " ": "",
}  # fmt: skip
STEP = {"R": (0, 1), "U": (-1, 0), "D": (1, 0)}
AGAINST = {"R": "L", "U": "D", "D": "U"}


def trace(lines: list[str], ascii_only: bool = False) -> set[tuple[int, int]]:
    """Reads edges off the text as a person would: from each node to the right, at a junction on or round the corner,
    never back to the left, and straight on under a bar that cuts the line."""
    width = max(map(len, lines), default=0)
    grid = [line.ljust(width) for line in lines]
    glyph, arrow = ("*", ">") if ascii_only else ("●", "▶")

    def at(row: int, column: int) -> str:
        return grid[row][column] if 0 <= row < len(grid) and 0 <= column < width else " "

    def opens(row: int, column: int, side: str) -> bool:
        char = at(row, column)
        if not ascii_only:
            return side in OPEN.get(char, "L" if char == arrow else "")
        if char == "-":
            return side in "LR"
        if char == "|":
            return side in "UD"
        return char == "+" or (char == arrow and side == "L")

    def joined(row: int, column: int, way: str) -> bool:
        """Whether the line in this cell goes on that way: both cells must be open towards each other."""
        down, right = STEP[way]
        return opens(row, column, way) and opens(row + down, column + right, AGAINST[way])

    def number_at(row: int, column: int) -> tuple[int, int]:
        end = column + 2
        assert at(row, column) == glyph
        assert at(row, column + 1) == " "
        assert at(row, end) == "n"
        while at(row, end + 1).isdigit():
            end += 1
        return int(grid[row][column + 3 : end + 1]), end + 1

    def follow(row: int, column: int) -> set[int]:
        found: set[int] = set()
        todo, seen = [(row, column, "R")], set()
        while todo:
            step = todo.pop()
            if step in seen:
                continue
            seen.add(step)
            row, column, way = step
            if at(row, column) == arrow:
                found.add(number_at(row, column + 1)[0])
                continue
            for turn in "RUD":
                if turn == {"U": "D", "D": "U"}.get(way):
                    continue
                down, right = STEP[turn]
                to_row, to_column = row + down, column + right
                if turn == "R" and opens(row, column, "R"):
                    while at(to_row, to_column) in "│|":
                        to_column += 1
                    if opens(to_row, to_column, "L"):
                        todo.append((to_row, to_column, turn))
                elif turn != "R" and joined(row, column, turn):
                    todo.append((to_row, to_column, turn))
        return found

    edges = set()
    for row, line in enumerate(grid):
        for column, char in enumerate(line):
            if char == glyph:
                number, end = number_at(row, column)
                if opens(row, end + 1, "R") and opens(row, end + 1, "L"):
                    edges |= {(number, other) for other in follow(row, end + 1)}
    return edges


def draw(count: int, edges: Edges, *, ascii_only: bool = False) -> Canvas:
    return layout([Node(i, f"n{i}") for i in range(count)], edges, ascii_only=ascii_only)


@st.composite
def dags(draw_from: st.DrawFn) -> tuple[int, Edges]:
    count = draw_from(st.integers(1, 16))
    pairs = [(a, b) for b in range(count) for a in range(b)]
    edges = draw_from(st.lists(st.sampled_from(pairs), max_size=40, unique=True)) if pairs else []
    order = draw_from(st.permutations(range(count)))
    return count, [(order[a], order[b]) for a, b in edges]


SAMPLE: Edges = [
    (0, 1), (0, 6), (0, 4), (1, 2), (1, 3), (1, 4), (6, 4), (2, 8), (2, 3), (3, 5), (3, 7), (3, 9), (8, 7), (8, 9),
    (2, 7),
]  # fmt: skip
"""The ten nodes in which an earlier drawing could be read as two → nine."""


@settings(max_examples=400, deadline=None)
@given(dags(), st.booleans())
@example((10, SAMPLE), False)
@example((10, SAMPLE), True)
@example((4, [(0, 3), (1, 2)]), False)  # two rows that may have to swap
@example((4, [(0, 2), (1, 2), (1, 3)]), False)  # a cross edge between parallel lines
@example((6, [(0, 3), (0, 4), (1, 4), (1, 5), (2, 3), (2, 5)]), False)  # overlapping sets of targets, in a circle
def test_reading_the_glyphs_gives_back_exactly_the_edges(graph, ascii_only):
    """No edge is lost and none can be read that is not there, in box characters and in ASCII."""
    count, edges = graph
    lines = draw(count, edges, ascii_only=ascii_only).lines()
    assert trace(lines, ascii_only) == set(edges), "\n".join(lines)


@pytest.mark.parametrize("seed", range(6))
def test_large_and_dense_graphs_read_back_too(seed):
    """The same holds where channels are crowded and most rows are taken."""
    rng = random.Random(seed)
    count = 60
    edges = list({(a, b) for b in range(1, count) for a in rng.sample(range(b), min(b, rng.randint(1, 4)))})
    lines = draw(count, edges).lines()
    assert trace(lines) == set(edges)


def test_layers_that_are_fully_connected_share_one_trunk():
    """Three to three is one vertical line, not nine."""
    lines = draw(6, [(a, b) for a in range(3) for b in range(3, 6)]).lines()
    assert lines == ["● n0 ─┬──▶● n3", "● n1 ─┼──▶● n4", "● n2 ─┴──▶● n5"]


def test_fan_out_and_fan_in_look_as_people_draw_them():
    """The commonest shape stands in as many rows as it has branches."""
    assert draw(5, [(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4)]).lines() == [
        "      ╭──▶● n1 ─╮",
        "● n0 ─┼──▶● n2 ─┼──▶● n4",
        "      ╰──▶● n3 ─╯",
    ]


@settings(max_examples=100, deadline=None)
@given(dags())
def test_every_cell_knows_its_edges(graph):
    """Each cell with a line belongs to some edge, and an edge's cells lead from its source to its arrow."""
    count, edges = graph
    canvas = draw(count, edges)
    drawn = {
        (row, column) for row in range(canvas.height) for column, char in enumerate(canvas.line(row)) if char != " "
    }
    assert set(canvas.owners) == drawn
    assert {edge for owned in canvas.owners.values() for edge in owned} == set(edges)
    for start, end in edges:
        pieces = canvas.path((start, end))
        assert pieces[0].row0 == canvas.places[start].row
        assert (pieces[-1].row1, pieces[-1].column1) == (canvas.places[end].row, canvas.places[end].column - 1)
        assert all(a.row1 == b.row0 and a.column1 == b.column0 for a, b in pairwise(pieces))


@settings(max_examples=100, deadline=None)
@given(dags())
def test_nodes_never_cover_each_other_or_a_line(graph):
    """Every node has its own cells."""
    count, edges = graph
    canvas = draw(count, edges)
    taken: set[tuple[int, int]] = set()
    for place in canvas.places.values():
        cells = {(place.row, place.column + x) for x in range(place.width)}
        assert not cells & taken
        assert not cells & canvas.owners.keys()
        taken |= cells


def random_pipeline(count: int) -> Edges:
    rng = random.Random(3)
    return list({(max(0, i - 1 - int(rng.expovariate(0.2))), i) for i in range(1, count) for _ in range(2)})


SHAPES = {
    "pipeline": random_pipeline,
    "fan out": lambda count: [(0, i) for i in range(1, count)],
    "fan in": lambda count: [(i, count - 1) for i in range(count - 1)],
    "chain": lambda count: [(i, i + 1) for i in range(count - 1)],
    "apart": lambda _: [],
}


def test_a_circle_is_refused_and_named():
    """The error says which nodes."""
    with pytest.raises(GraphError, match=r"circle: (1 → 2 → 3 → 1|2 → 3 → 1 → 2|3 → 1 → 2 → 3)$"):
        draw(5, [(0, 1), (1, 2), (2, 3), (3, 1), (3, 4)])
    with pytest.raises(GraphError, match="circle: 0 → 0"):
        draw(1, [(0, 0)])


def test_an_edge_to_nowhere_is_refused():
    """The error names the edge."""
    with pytest.raises(GraphError, match="0 → 7"):
        draw(2, [(0, 7)])


def test_an_empty_graph_is_empty():
    """Nothing to draw is not an error."""
    canvas = layout([], [])
    assert (canvas.width, canvas.height, canvas.lines()) == (0, 0, [])


def test_wide_characters_and_long_labels_keep_the_columns():
    """Cells are counted, not characters; long labels are cut."""
    canvas = layout([Node(0, "数据加载"), Node(1, "x" * 100), Node(2, "n2")], [(0, 2), (1, 2)])
    assert canvas.places[0].width == 2 + 8
    assert canvas.places[1].label == "x" * (MAX_LABEL - 1) + "…"
    assert canvas.places[0].column == canvas.places[1].column
    assert len({line.find("▶") for line in canvas.lines() if "▶" in line}) == 1


def test_the_cursor_walks_along_edges_and_between_siblings():
    """Downstream and upstream follow edges; up and down go to the neighbours of the column."""
    canvas = draw(5, [(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4)])
    assert canvas.along(0, 1) == 2
    assert canvas.along(4, 1) == 4
    assert canvas.along(1, -1) == 0
    assert canvas.beside(2, 1) == 3
    assert canvas.beside(2, -1) == 1
    assert canvas.beside(3, 1) == 3


def mapped(first: int, count: int, key: str, group: str) -> list[Item]:
    return [Item(first + i, key, f"{key}[{i}]", group) for i in range(count)]


def test_mapped_groups_are_one_node():
    """128 elements and their element-wise edges are two nodes and one edge."""
    items = [Item(0, "load", "load"), *mapped(1, 128, "train", "a"), *mapped(200, 128, "score", "b")]
    edges = [(0, i) for i in range(1, 129)] + [(i, i + 199) for i in range(1, 129)]
    folded = fold(items, edges)
    assert [node.label for node in folded.nodes] == ["load", "train[×128]", "score[×128]"]
    assert folded.edges == [(0, Group(1)), (Group(1), Group(200))]
    assert folded.members[Group(1)] == list(range(1, 129))
    assert folded.node_of[5] == Group(1)
    assert layout(folded.nodes, folded.edges).height == 1


def test_a_group_of_one_keeps_its_name():
    """One element is shown as itself."""
    assert [node.label for node in fold(mapped(0, 1, "t", "a"), []).nodes] == ["t[0]"]


def test_parallel_chains_made_in_a_loop_fold_like_maps():
    """Forty times extract → clean → load, all into one report, is a chain of four nodes."""
    items = [Item((i, k), k, f"{k}-{i}") for i in range(40) for k in ("extract", "clean", "load")]
    edges = [((i, a), (i, b)) for i in range(40) for a, b in (("extract", "clean"), ("clean", "load"))]
    items.append(Item("report", "report", "report"))
    edges += [((i, "load"), "report") for i in range(40)]
    folded = fold(items, edges)
    assert [node.label for node in folded.nodes] == ["extract[×40]", "clean[×40]", "load[×40]", "report"]
    assert len(folded.edges) == 3


def test_a_loop_that_feeds_itself_stays_a_chain():
    """Equal keys alone do not fold: each step depends on the last."""
    folded = fold([Item(i, "step", f"step-{i}") for i in range(20)], [(i, i + 1) for i in range(19)])
    assert len(folded.nodes) == 20


def test_few_like_tasks_stay_apart():
    """Five branches are worth seeing."""
    items = [Item(0, "a", "a"), *(Item(i, "b", f"b-{i}") for i in range(1, 6))]
    assert len(fold(items, [(0, i) for i in range(1, 6)]).nodes) == 6


def test_nested_tasks_are_drawn_as_their_caller():
    """What a task calls within itself is a part of it."""
    folded = fold([Item(0, "outer", "outer"), Item(1, "inner", "inner", parent=0), Item(2, "next", "next")], [(1, 2)])
    assert [node.id for node in folded.nodes] == [0, 2]
    assert folded.edges == [(0, 2)]
    assert folded.node_of[1] == 0


def test_a_group_that_would_close_a_circle_stays_open():
    """a[0] → x → a[1] cannot be drawn as one node a."""
    folded = fold([*mapped(0, 2, "a", "g"), Item(9, "x", "x")], [(0, 9), (9, 1)])
    assert not folded.members
    assert layout(folded.nodes, folded.edges).lines() == ["● a[0] ──▶● x ──▶● a[1]"]


@st.composite
def item_graphs(draw_from: st.DrawFn) -> tuple[list[Item], Edges]:
    count, edges = draw_from(dags())
    items = [
        Item(i, draw_from(st.sampled_from("ab")), f"n{i}", draw_from(st.sampled_from([None, "g", "h"])))
        for i in range(count)
    ]
    return items, edges


@settings(max_examples=200, deadline=None)
@given(item_graphs())
def test_a_folded_graph_is_acyclic_and_keeps_every_dependency(graph):
    """Each edge survives between the nodes that stand for its ends, unless both ends are one node; none is invented."""
    items, edges = graph
    folded: Folded = fold(items, edges, fanout_from=2)
    topological([node.id for node in folded.nodes], folded.edges)
    lifted = {(folded.node_of[a], folded.node_of[b]) for a, b in edges}
    assert {(a, b) for a, b in lifted if a != b} == set(folded.edges)
    assert sorted(t for node in folded.nodes for t in folded.members.get(node.id, [node.id])) == [i.id for i in items]


def test_around_shows_what_leads_to_a_node_and_what_follows_from_it():
    """Neither siblings nor what is further than so many edges."""
    edges = [(0, 1), (1, 2), (2, 3), (3, 4), (1, 9), (8, 3)]
    assert around(2, edges, 1) == {1, 2, 3}
    assert around(2, edges, 2) == {0, 1, 2, 3, 4}
