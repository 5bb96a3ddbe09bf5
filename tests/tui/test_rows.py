"""RowView: cursor and marks follow keys; only what changed in sight is drawn."""

from __future__ import annotations

import time
from typing import NamedTuple

import pytest
from flowdeck.tui.look.spans import fit_spans, spans_width
from flowdeck.tui.widgets.columns import Column
from flowdeck.tui.widgets.rows import RowView
from rich.style import Style
from textual.app import App, ComposeResult
from textual.geometry import Region

pytestmark = pytest.mark.anyio


class Item(NamedTuple):
    name: str
    state: str


class Counting(RowView[int, Item]):
    """Counts what it draws and what it is asked to redraw."""

    drawn = 0
    regions: list[Region]

    def draw_row(self, row, key, width):
        self.drawn += 1
        return super().draw_row(row, key, width)

    def refresh(self, *regions, **more):
        if not hasattr(self, "regions"):
            self.regions = []
        self.regions += regions or [Region(0, 0, 999, 999)]
        return super().refresh(*regions, **more)


class Host(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.view: Counting = Counting(
            [
                Column("name", "NAME", lambda item: ((item.name, None),), 10, flex=1),
                Column("state", "STATE", lambda item: ((item.state, None),), 8),
                Column("extra", "EXTRA", lambda item: ((item.name.upper(), None),), 20, priority=3),
            ]
        )

    def compose(self) -> ComposeResult:
        yield self.view


def items(count: int) -> dict[int, Item]:
    return {key: Item(f"item {key}", "new") for key in range(count)}


async def test_the_cursor_and_the_marks_follow_their_keys() -> None:
    """Rows come in above, the order turns round, rows vanish: the cursor stands on the same thing."""
    app = Host()
    async with app.run_test(size=(60, 12)) as pilot:
        view = app.view
        view.set_rows(range(20), items(20))
        view.focus()
        await pilot.press("j", "j", "j", "space")
        assert (view.cursor_key, view.marks) == (4, {3})
        view.set_rows([100, 101, *range(20)], items(102))
        assert view.cursor_key == 4
        view.set_rows(list(reversed(range(20))))
        assert (view.cursor_key, view.marks) == (4, {3})
        assert view.chosen_keys() == [3]
        view.set_rows([0, 1, 2, 5, 6])
        assert view.marks == set()
        assert view.cursor_key in (5, 6)


async def test_a_changed_record_redraws_its_changed_columns_only() -> None:
    """set() with the same record draws nothing; with another state only that column's cells."""
    app = Host()
    async with app.run_test(size=(60, 12)) as pilot:
        view = app.view
        view.set_rows(range(500), items(500))
        await pilot.pause()
        view.regions.clear()
        view.set(2, Item("item 2", "new"))
        view.set(400, Item("item 400", "done"))
        assert view.regions == []
        view.set(2, Item("item 2", "done"))
        assert [(region.y, region.height) for region in view.regions] == [(3, 1)]
        assert view.regions[0].width == 8


async def test_a_million_rows_cost_what_a_screenful_costs() -> None:
    """Jumping about in a million rows draws screenfuls; no record is needed for what is not in sight."""
    app = Host()
    async with app.run_test(size=(60, 30)) as pilot:
        view = app.view
        view.set_rows(range(1_000_000), {})
        view.index_of(0)
        await pilot.pause()
        view.drawn = 0
        begun = time.process_time()
        for row in (999_999, 5, 500_000, 0):
            view.move_to(row)
            await pilot.pause()
        assert view.drawn <= 4 * 60
        assert time.process_time() - begun < 5
        assert view.record_of(3) is None


async def test_what_is_in_sight_is_asked_for() -> None:
    """Wanted names the first and last row in sight, each time it changes."""
    asked: list[tuple[int, int]] = []

    class Asking(Host):
        def on_row_view_wanted(self, event: RowView.Wanted) -> None:
            asked.append((event.first, event.last))

    app = Asking()
    async with app.run_test(size=(60, 11)) as pilot:
        app.view.set_rows(range(100), items(100))
        app.view.focus()
        await pilot.press("G")
        await pilot.pause()
        assert (0, 9) in asked
        assert asked[-1] == (90, 99)


async def test_columns_give_way_when_there_is_no_room() -> None:
    """The least important column vanishes first, the first ones never."""
    app = Host()
    async with app.run_test(size=(60, 5)) as pilot:
        app.view.set_rows(range(3), items(3))
        await pilot.pause()
        assert "EXTRA" in app.view.render_line(0).text
        await pilot.resize_terminal(34, 5)
        await pilot.pause()
        assert "EXTRA" not in app.view.render_line(0).text
        assert app.view.render_line(0).cell_length <= 34


def test_spans_are_fitted_to_the_cell() -> None:
    """Wide characters, cuts and padding: always exactly the width."""
    base = Style()
    for text in ("abc", "宽字符宽字符", "", "x" * 50, "a宽b宽c"):
        for width in range(12):
            fitted = fit_spans(((text, None),), width, base)
            assert spans_width(tuple((segment.text, None) for segment in fitted)) == width
