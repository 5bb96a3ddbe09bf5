"""GraphView on runs: what it draws, what moving the cursor shows, what a change of state redraws."""

from __future__ import annotations

import random
import time

import pytest
from flowdeck.store.rows import EdgeRow, TaskRow
from flowdeck.tui.models.graph_fold import Group
from flowdeck.tui.models.graph_model import FOCUS_ABOVE, GraphModel
from flowdeck.tui.models.tree_parts import Counts, TaskKey
from flowdeck.tui.widgets.graph_view import GraphView
from textual import on
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.pilot import Pilot

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def task(seq: int, key: str, state: str = "COMPLETED", *, run_id: int = 1, **changes) -> TaskRow:
    ended = state in ("COMPLETED", "FAILED")
    row = TaskRow(
        run_id=run_id, seq=seq, key=key, scope_seq=0, call_index=0, map_group=None, map_index=None, name=key,
        kind="task", child_run_id=None, state_type=state, state_name=state.capitalize(), cause=None, attempt=1,
        run_attempt=1, created_at_us=seq, started_at_us=seq, ended_at_us=seq + 5 if ended else None,
        duration_us=5 if ended else None, cpu_us=None, peak_rss_bytes=None, tags="[]", inputs_hash=None,
        wake_at_us=None,
    )  # fmt: skip
    return row._replace(**changes)


def edge(start: int, end: int) -> EdgeRow:
    return EdgeRow(1, end, 1, start, "data")


class Owner(App[None]):
    """Shows one graph and notes what the view says."""

    def __init__(self) -> None:
        super().__init__()
        self.view = GraphView()
        self.chosen: list[TaskKey] = []
        self.highlighted: list[TaskKey | None] = []

    def compose(self) -> ComposeResult:
        yield self.view

    @on(GraphView.Chosen)
    def note_chosen(self, event: GraphView.Chosen) -> None:
        self.chosen.append(event.key)

    @on(GraphView.Highlighted)
    def note_highlighted(self, event: GraphView.Highlighted) -> None:
        self.highlighted.append(event.key)


def screen(app: Owner) -> list[str]:
    return ["".join(segment.text for segment in strip).rstrip() for strip in app.screen._compositor.render_strips()]


def colours(app: Owner, row: int) -> dict[str, str]:
    """Text → colour of the pieces in a row of the screen."""
    strip = app.screen._compositor.render_strips()[row]
    return {s.text.strip(): s.style.color.name for s in strip if s.style and s.style.color and s.text.strip()}


async def rest(pilot: Pilot, *keys: str) -> None:
    if keys:
        await pilot.press(*keys)
    await pilot.pause()


DIAMOND = (
    [task(1, "load"), task(2, "left"), task(3, "middle"), task(4, "right"), task(5, "join", "RUNNING")],
    [edge(1, 2), edge(1, 3), edge(1, 4), edge(2, 5), edge(3, 5), edge(4, 5)],
)


async def test_an_edge_that_joins_a_bright_one_still_ends_in_it():
    """The drawing is the same wherever the cursor stands: only colours change, and arrows of its edges."""
    app = Owner()
    async with app.run_test(size=(80, 24)) as pilot:
        app.view.show(*DIAMOND)
        await rest(pilot)
        drawn = set()
        for seq in range(1, 6):
            assert app.view.move_to(TaskKey(1, seq))
            await rest(pilot)
            lines = [line.replace("▶", "─") for line in screen(app)[:8]]
            drawn.add("".join(char for line in lines for char in line if char in "├┤┬┴┼"))
        assert len(drawn) == 1, drawn


async def test_it_draws_the_tasks_in_the_colours_of_their_states():
    """Glyph and colour say the state; the cursor starts on what runs."""
    app = Owner()
    async with app.run_test(size=(80, 24)) as pilot:
        app.view.show(*DIAMOND)
        await rest(pilot)
        assert screen(app)[1:4] == [
            "          ╭──▶✓ left ───╮",
            "  ✓ load ─┼──▶✓ middle ─┼──▶● join",
            "          ╰──▶✓ right ──╯",
        ]
        assert app.view.cursor == TaskKey(1, 5)
        assert "Running" in screen(app)[-1]
        assert "5 nodes  6 edges" in screen(app)[-1]
        assert colours(app, 2)["✓"] == "#7cc492"


async def test_the_cursor_walks_and_its_edges_are_bright():
    """h and l along edges, j and k between siblings; what it does not touch is dim."""
    app = Owner()
    async with app.run_test(size=(80, 24)) as pilot:
        app.view.show(*DIAMOND)
        await rest(pilot, "h")
        assert app.view.cursor == TaskKey(1, 3)
        await rest(pilot, "k")
        assert app.view.cursor == TaskKey(1, 2)
        assert app.highlighted[-1] == TaskKey(1, 2)
        assert colours(app, 1)["▶"] == "#7fb4ff"
        assert colours(app, 3)["╰──▶"] == "#4d586a"
        assert screen(app)[2][10] == "┼", "a joint keeps the arms of the dim lines"
        await rest(pilot, "l")
        assert app.view.cursor == TaskKey(1, 5)
        await rest(pilot, "g")
        assert app.view.cursor == TaskKey(1, 1)
        await rest(pilot, "enter")
        assert app.chosen == [TaskKey(1, 1)]


async def test_a_change_of_state_recolours_and_lays_nothing_out(monkeypatch):
    """Only the node's own cells, and the status when the cursor stands on it, are redrawn."""
    app = Owner()
    async with app.run_test(size=(80, 24)) as pilot:
        app.view.show(*DIAMOND)
        await rest(pilot)
        layouts = app.view.model.layouts
        drawn: list[Region | None] = []
        refresh = app.view.refresh
        monkeypatch.setattr(app.view, "refresh", lambda *r, **k: (drawn.extend(r or [None]), refresh(*r, **k))[1])
        app.view.apply([task(2, "left", "FAILED")])
        place = app.view.canvas.places[TaskKey(1, 2)]
        assert drawn == [Region(place.column + 2, place.row + 1, place.width, 1)]
        await rest(pilot)
        assert "✗ left" in screen(app)[1]
        app.view._not_before = 0
        app.view.show([*DIAMOND[0][:4], task(5, "join")], DIAMOND[1])
        assert app.view.model.layouts == layouts


MAPPED = (
    [task(1, "load")]
    + [
        task(2 + i, "train", state, map_group=0, map_index=i, name=f"train[{i}]")
        for i, state in enumerate(["COMPLETED"] * 60 + ["FAILED"] * 4 + ["RUNNING"] * 36)
    ]
    + [task(200, "report", "PENDING")],
    [edge(1, 2 + i) for i in range(100)] + [edge(2 + i, 200) for i in range(100)],
)


async def test_a_map_is_one_node_with_its_progress():
    """Counts follow single changes; space opens it and folds it again."""
    app = Owner()
    async with app.run_test(size=(120, 34)) as pilot:
        app.view.show(*MAPPED)
        await rest(pilot)
        assert screen(app)[1] == "  ✓ load ──▶● train[×100] ━━━━━··· 64/100  ──▶◌ report"
        assert app.view.cursor == Group(TaskKey(1, 2))
        assert "4 failed  36 running  60 completed" in screen(app)[-1]
        app.view.apply([row._replace(state_type="COMPLETED", state_name="Completed") for row in MAPPED[0][65:75]])
        await rest(pilot)
        assert "74/100" in screen(app)[1]
        assert app.view.model.state(Group(TaskKey(1, 2))).counts == Counts(70, 4, 0, 26, 0)
        await rest(pilot, "space")
        assert len(app.view.canvas.places) == 102
        assert app.view.cursor == TaskKey(1, 2)
        await rest(pilot, "space")
        assert len(app.view.canvas.places) == 3


async def test_a_subflow_is_one_node():
    """Its own tasks are not drawn; its node is chosen like a task."""
    app = Owner()
    async with app.run_test(size=(80, 24)) as pilot:
        rows = [task(1, "child", kind="subflow", child_run_id=9), task(2, "after"), task(1, "inner", run_id=9)]
        app.view.show(rows, [edge(1, 2)])
        await rest(pilot)
        assert screen(app)[1] == "  ✓ child ──▶✓ after"


def chain_of(count: int) -> tuple[list[TaskRow], list[EdgeRow]]:
    rng = random.Random(2)
    tasks = [task(i + 1, f"step_{i}", "FAILED" if i == count // 2 else "COMPLETED") for i in range(count)]
    return tasks, [edge(i + 1, rng.randint(i + 2, min(count, i + 4))) for i in range(count - 1)]


async def test_large_graphs_open_on_what_is_near_the_failure():
    """Ancestors and descendants within a few edges; o draws everything, + and - look further or nearer."""
    app = Owner()
    async with app.run_test(size=(120, 34)) as pilot:
        app.view.show(*chain_of(FOCUS_ABOVE + 50))
        await rest(pilot)
        failed = TaskKey(1, (FOCUS_ABOVE + 50) // 2 + 1)
        assert app.view.cursor == failed
        near = len(app.view.canvas.places)
        assert near < 40
        assert f"within 3: {near} of 200 nodes" in screen(app)[-1]
        await rest(pilot, "plus")
        assert len(app.view.canvas.places) > near
        await rest(pilot, "l")
        assert app.view.model.focus == app.view.cursor != failed
        await rest(pilot, "o")
        assert len(app.view.canvas.places) == 200
        place, x = app.view.canvas.places[app.view.cursor], round(app.view.scroll_x)
        assert x <= place.column < x + 120


async def test_it_opens_with_the_node_of_interest_in_the_middle():
    """A long chain is scrolled to where it runs."""
    app = Owner()
    async with app.run_test(size=(80, 24)) as pilot:
        tasks = [task(i, f"n{i}", "RUNNING" if i == 50 else "COMPLETED") for i in range(1, 101)]
        app.view.show(tasks, [edge(i, i + 1) for i in range(1, 100)])
        await rest(pilot)
        line = screen(app)[1]
        assert 25 < line.index("● n50") < 50
        await rest(pilot, *["l"] * 8)
        assert "n58" in screen(app)[1]


async def test_new_tasks_keep_the_cursor_and_are_not_drawn_too_often(monkeypatch):
    """While a dear drawing rests, further tasks wait for the next one; none is forgotten."""
    app = Owner()
    async with app.run_test(size=(80, 24)) as pilot:
        app.view.show(*DIAMOND)
        await rest(pilot, "h")
        monkeypatch.setattr(app.view, "_not_before", time.monotonic() + 0.2)
        for seq in (6, 7, 8):
            app.view.show([*DIAMOND[0], *(task(i, f"more_{i}", "PENDING") for i in range(6, seq + 1))], DIAMOND[1])
        layouts = app.view.model.layouts
        assert len(app.view.canvas.places) == 5
        deadline = time.monotonic() + 5
        while len(app.view.canvas.places) < 8 and time.monotonic() < deadline:
            await pilot.pause(0.02)
        assert len(app.view.canvas.places) == 8
        assert app.view.model.layouts == layouts + 1
        assert app.view.cursor == TaskKey(1, 3)


async def test_e_goes_round_the_failures():
    """And says when there is none."""
    app = Owner()
    async with app.run_test(size=(80, 24)) as pilot:
        app.view.show(*DIAMOND)
        await rest(pilot, "e")
        assert "nothing failed" in screen(app)[-1]
        app.view.apply([task(2, "left", "FAILED", cause="ValueError: no"), task(4, "right", "FAILED")])
        await rest(pilot, "e")
        assert app.view.cursor == TaskKey(1, 2)
        assert "ValueError: no" in screen(app)[-1]
        await rest(pilot, "e", "e")
        assert app.view.cursor == TaskKey(1, 2)


async def test_names_from_data_are_only_text():
    """Escape sequences, markup and wide characters leave the drawing whole."""
    app = Owner()
    async with app.run_test(size=(80, 24)) as pilot:
        app.view.show([task(1, "a\x1b[31m[b]x"), task(2, "数据"), task(3, "z")], [edge(1, 3), edge(2, 3)])
        await rest(pilot)
        lines = screen(app)
        assert "a[b]x" in lines[1] + lines[2]
        assert not any("\x1b" in line for line in lines)
        assert {app.view.render_line(y).cell_length for y in range(24)} == {80}


async def test_no_tasks_and_tiny_screens():
    """Nothing to draw is said; every size works."""
    app = Owner()
    async with app.run_test(size=(80, 24)) as pilot:
        await rest(pilot, "h", "j", "enter", "space", "o", "e", "g")
        assert "No tasks yet." in screen(app)[1]
        app.view.show(*DIAMOND)
        for size in ((20, 2), (10, 5), (300, 100)):
            await pilot.resize_terminal(*size)
            await rest(pilot, "g", "G", "shift+right", "pagedown")
            assert {app.view.render_line(y).cell_length for y in range(size[1])} == {size[0]}


async def test_a_click_moves_the_cursor():
    """The mouse is not needed, but works."""
    app = Owner()
    async with app.run_test(size=(80, 24)) as pilot:
        app.view.show(*DIAMOND)
        await pilot.click(GraphView, offset=(4, 2))
        assert app.view.cursor == TaskKey(1, 1)


def test_tasks_called_in_a_loop_open_together():
    """Alike tasks fold as a map does, open as single nodes, and fold again."""
    model = GraphModel(str)
    tasks = [task(1, "load"), *(task(i, "ping", call_index=i) for i in range(2, 12))]
    model.load(tasks, [edge(1, i) for i in range(2, 12)])
    group = Group(TaskKey(1, 2))
    assert [node.id for node in model.folded.nodes] == [TaskKey(1, 1), group]
    assert model.toggle(group)
    assert len(model.folded.nodes) == 11
    assert model.toggle(TaskKey(1, 5))
    assert len(model.folded.nodes) == 2
    assert not model.toggle(TaskKey(1, 1))
