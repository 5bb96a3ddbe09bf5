"""LogView on logs of every length: what it shows, what it reads, what it redraws."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

import pytest
from flowdeck.store.rows import LogRow
from flowdeck.tui.models.log_lines import MAX_READY
from flowdeck.tui.models.log_search import LogSource, Query, Searches, compile_pattern
from flowdeck.tui.widgets.log_view import LogView
from textual import on, work
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.pilot import Pilot

AT_US = 1_790_000_000_000_000


pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def log_row(line: int, message: str | None = None, *, level=20, seq: int | None = 1, stream="log") -> LogRow:
    text = f"line {line}" if message is None else message
    return LogRow(1, line, 1, seq, 1, AT_US + line * 250_000, level, "flow", stream, text)


class Lines(LogSource):
    """Stored lines, or lines made when asked for; notes what is read."""

    def __init__(self, rows: list[LogRow] | int, make: Callable[[int], LogRow] = log_row) -> None:
        self.rows = rows
        self.make = make
        self.pages: list[tuple[int, int]] = []
        self.searched: list[int] = []
        self.scan = 1_000

    def count(self) -> int:
        return self.rows if isinstance(self.rows, int) else len(self.rows)

    def _row(self, line: int) -> LogRow:
        return self.make(line) if isinstance(self.rows, int) else self.rows[line]

    def page(self, from_line: int, limit: int) -> Sequence[LogRow]:
        self.pages.append((from_line, limit))
        return [self._row(line) for line in range(from_line, min(from_line + limit, self.count()))]

    def search(self, pattern, min_level, task, from_line, limit):
        self.searched.append(from_line)
        found = []
        for line in range(from_line, min(from_line + self.scan, self.count())):
            row = self._row(line)
            if row.level < min_level or (task is not None and (row.run_id, row.task_seq) != task):
                continue
            if pattern is None or pattern.search(row.message):
                found.append(line)
                if len(found) == limit:
                    return found, line + 1
        return found, min(from_line + self.scan, self.count())


class Owner(App[None]):
    """An owner as the console is one: it searches in a thread and hands the pieces over."""

    def __init__(self, source: LogSource, **options) -> None:
        super().__init__()
        self.view = LogView(source, **options)
        self.hold = False
        self.asked: list[LogView.SearchWanted] = []

    def compose(self) -> ComposeResult:
        yield self.view

    @on(LogView.SearchWanted)
    def answer(self, wanted: LogView.SearchWanted) -> None:
        self.asked.append(wanted)
        if not self.hold:
            self.look(wanted)

    @work(thread=True)
    def look(self, wanted: LogView.SearchWanted) -> None:
        assert wanted.view.source is not None
        lines, next_from = wanted.view.source.search(*wanted.query, wanted.from_line, 10_000)
        self.call_from_thread(wanted.view.take_found, wanted.query, lines, next_from)


def screen(app: Owner) -> list[str]:
    """The text of every line of the terminal."""
    return ["".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips()]


def messages(app: Owner) -> list[str]:
    """The messages in sight, without what stands before them."""
    width = app.view._margin.width(app.view.size.width)
    return [line[width:-1].rstrip() for line in screen(app)[:-1] if line.strip(" ▐")]


async def settle(pilot: Pilot, *keys: str) -> None:
    """Presses keys, and waits until searches and drawing have come to rest."""
    if keys:
        await pilot.press(*keys)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()
        if not any(scan.asked for scan in pilot.app.view._searches._scans.values()) or pilot.app.hold:
            await pilot.pause()
            return
    raise AssertionError("the searches never came to rest")


async def test_a_million_lines_cost_what_is_in_sight():
    """It opens at the end, and wherever one goes only near lines are read."""
    source = Lines(1_000_000)
    app = Owner(source)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert messages(app)[-1] == "line 999999"
        await settle(pilot, "g")
        assert messages(app)[0] == "line 0"
        for _ in range(30):
            app.view.action_half_page(1)
        await settle(pilot, *["ctrl+d"] * 3, *["k"] * 4, "G")
        assert sum(limit for _, limit in source.pages) < 2_000
        assert len(app.view._lines._ready) <= MAX_READY
        assert not source.searched


async def test_scrolling_reads_each_block_once():
    """Up and down line by line reads no line twice."""
    source = Lines(10_000)
    app = Owner(source)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot, "k")
        for step in [-1] * 300 + [1] * 300:
            app.view.action_by(step)
            app.view.window.rows()
        read = [line for first, limit in source.pages for line in range(first, first + limit) if line < 10_000]
        assert len(read) == len(set(read))


async def test_following_shows_new_lines_and_scrolling_up_ends_it():
    """As with tail -f; G and f begin it again."""
    source = Lines([log_row(i) for i in range(100)])
    app = Owner(source)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert "following" in screen(app)[-1]
        source.rows.append(log_row(100))
        app.view.grew()
        await settle(pilot)
        assert messages(app)[-1] == "line 100"
        await settle(pilot, "k")
        assert "following" not in screen(app)[-1]
        source.rows.append(log_row(101))
        app.view.grew()
        await settle(pilot)
        assert messages(app)[-1] == "line 99"
        await settle(pilot, "f")
        assert messages(app)[-1] == "line 101"
        await settle(pilot, "g", "G")
        assert app.view.window.following


async def test_growth_redraws_only_what_is_new_in_sight(monkeypatch):
    """A line below those in sight is drawn alone; one out of sight draws nothing but the status."""
    source = Lines([log_row(i) for i in range(3)])
    app = Owner(source)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        drawn: list[Region | None] = []
        refresh = app.view.refresh
        monkeypatch.setattr(app.view, "refresh", lambda *r, **k: (drawn.extend(r or [None]), refresh(*r, **k))[1])
        status = Region(0, 23, 80, 1)
        source.rows.append(log_row(3))
        app.view.grew()
        assert drawn == [Region(0, 3, 80, 1), status]
        await settle(pilot)
        assert messages(app) == ["line 0", "line 1", "line 2", "line 3"]
        source.rows += [log_row(i) for i in range(4, 100)]
        app.view.grew()
        await settle(pilot, "g")
        drawn.clear()
        source.rows.append(log_row(100))
        app.view.grew()
        assert drawn == [status]
        app.view.grew()
        assert drawn == [status]


LEVELS = [10, 20, 30, 40]


def varied(line: int) -> LogRow:
    return log_row(line, level=LEVELS[line % 4], seq=line % 3 or None)


async def test_the_level_filter_shows_matching_lines_as_they_are_found():
    """v cycles through the levels; what is found first is shown first."""
    source = Lines(5_000, varied)
    app = Owner(source)
    app.hold = True
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot, "v", "v")
        assert "≥ warning" in screen(app)[-1]
        assert "looked at 0 %" in screen(app)[-1]
        app.view.take_found(Query(None, 30, None), [2, 3, 6, 7], 8)
        await settle(pilot)
        assert messages(app) == ["line 2", "line 3", "line 6", "line 7"]
        app.hold = False
        app.look(app.asked[-1])
        await settle(pilot)
        assert messages(app)[-1] == "line 4999"
        assert "2 500 / 2 500 of 5 000" in screen(app)[-1].replace("\u202f", " ")
        await settle(pilot, "v")
        assert messages(app)[-2:] == ["line 4995", "line 4999"]
        await settle(pilot, "v")
        assert messages(app)[-2:] == ["line 4998", "line 4999"]


async def test_a_filter_keeps_the_place():
    """Where one was reading, the next line that passes stands first."""
    app = Owner(Lines(20_000, varied))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot, "g")
        app.view.window.place(9_001)
        await settle(pilot, "v", "v", "v")
        assert messages(app)[0] == "line 9003"


async def test_filtered_lines_grow_with_the_log():
    """New lines are searched, and only they."""
    source = Lines([varied(i) for i in range(50)])
    app = Owner(source)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot, "v", "v", "v")
        assert messages(app)[-1] == "line 47"
        source.searched.clear()
        source.rows += [varied(i) for i in range(50, 60)]
        app.view.grew()
        await settle(pilot)
        assert messages(app)[-1] == "line 59"
        assert source.searched == [50]


async def test_one_task_alone_and_all_again():
    """= filters for the task of the line one stands on."""
    app = Owner(Lines(3_000, varied))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot, "equals_sign")
        assert "only task 1/2" in screen(app)[-1]
        assert messages(app)[-2:] == ["line 2996", "line 2999"]
        await settle(pilot, "equals_sign")
        assert messages(app)[-2:] == ["line 2998", "line 2999"]


async def test_search_highlights_and_walks_through_the_hits():
    """/ text enter, n, N; the hit is marked and brought into sight; escape ends it."""
    app = Owner(Lines(5_000, lambda i: log_row(i, f"row {i} needle here" if i % 700 == 0 else f"row {i}")))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot, "g", "slash", *"NEEDLE")
        assert screen(app)[-1].startswith(" /NEEDLE")
        await settle(pilot, *["backspace"] * 6, *"needle", "enter")
        assert "/needle 8 hits" in screen(app)[-1]
        assert app.view.current == 0
        await settle(pilot, "n")
        assert app.view.current == 700
        assert "row 700 needle here" in messages(app)
        hit = next(
            segment
            for strip in app.screen._compositor.render_strips()
            for segment in strip
            if segment.text == "needle" and segment.style and segment.style.bgcolor
        )
        assert hit.style.bgcolor.name == "#e3b768"
        await settle(pilot, "n", "N", "N", "N")
        assert app.view.current == 0
        assert "no hit above" in screen(app)[-1]
        await settle(pilot, "escape")
        assert app.view.pattern is None
        assert "hit" not in screen(app)[-1]


async def test_a_search_while_following_goes_to_the_last_hit_above():
    """The end is in sight and the hits are not: the nearest one is, and following ends."""
    app = Owner(Lines(5_000, lambda i: log_row(i, f"row {i} needle here" if i in (70, 700) else f"row {i}")))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert app.view.window.following
        await settle(pilot, "slash", *"needle", "enter")
        assert app.view.current == 700
        assert "row 700 needle here" in messages(app)
        assert not app.view.window.following
        await settle(pilot, "N")
        assert app.view.current == 70
        await settle(pilot, "G", "slash", *"nothing", "enter")
        assert "no hit above" in screen(app)[-1]


async def test_next_error_waits_for_its_search_and_then_jumps():
    """e and E go from error to error, also where the search had not been yet."""
    app = Owner(Lines(50_000, lambda i: log_row(i, level=40 if i in (7, 41_000) else 20)))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot, "g", "e")
        assert app.view.current == 7
        await settle(pilot, "e")
        assert app.view.current == 41_000
        assert "line 41000" in messages(app)
        await settle(pilot, "e")
        assert "no error below" in screen(app)[-1]
        await settle(pilot, "E")
        assert app.view.current == 7


async def test_a_search_given_up_takes_no_late_answer():
    """The answer to an old filter changes nothing."""
    app = Owner(Lines(3_000, varied))
    app.hold = True
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot, "v")
        late = app.asked[-1].query
        await settle(pilot, "v", "v", "v")
        before = screen(app)
        app.view.take_found(late, [1, 2], 3_000)
        await settle(pilot)
        assert screen(app) == before


async def test_wrapped_lines_take_the_rows_they_need():
    """w shows every character, the last one at the end; scrolling goes by rows."""
    long = "".join(chr(97 + i % 26) for i in range(300))
    app = Owner(Lines([log_row(i, long if i % 2 else f"line {i}") for i in range(40)]))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot, "w")
        shown = messages(app)
        assert "".join(shown[-5:]) == long
        assert shown[-6] == "line 38"
        await settle(pilot, "k")
        assert messages(app)[1:] == shown[:-1]
        await settle(pilot, "g")
        top = messages(app)
        assert top[0] == "line 0"
        assert "".join(top[1:6]) == long
        await settle(pilot, *["j"] * 3)
        assert messages(app)[0] == top[3]


async def test_one_line_longer_than_the_screen_can_be_read_to_its_end():
    """Wrapped, it scrolls within itself."""
    app = Owner(Lines([log_row(0, "x" * 5_000 + "END"), log_row(1, "after")]))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot, "w")
        assert messages(app)[-2].endswith("END")
        await settle(pilot, "g")
        assert "END" not in "".join(messages(app))
        await settle(pilot, *["pagedown"] * 6)
        assert messages(app)[-1] == "after"


async def test_wide_characters_wrap_whole():
    """No character is cut in two."""
    text = "数据" * 60
    app = Owner(Lines([log_row(0, text)]))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot, "w")
        assert "".join(messages(app)) == text


async def test_sideways_scrolling_moves_the_text_only():
    """Times stay where they are."""
    app = Owner(Lines([log_row(0, "".join(str(i % 10) for i in range(200)))]))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot, "l")
        assert messages(app)[0].startswith("6789012")
        assert ":" in screen(app)[0][:10]
        await settle(pilot, *["h"] * 3)
        assert messages(app)[0].startswith("0123")


async def test_times_by_the_clock_since_the_line_before_and_off():
    """T cycles."""
    app = Owner(Lines(3))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert re.match(r" \d\d:\d\d:\d\d\.\d\d\d I line 0", screen(app)[0])
        await settle(pilot, "T")
        assert screen(app)[1].startswith("    +0.250 I line 1")
        await settle(pilot, "T")
        assert screen(app)[0].startswith(" I line 0")


HOSTILE = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07after",
    "[bold]not markup[/bold] [@click=app.quit]x[/]",
    "tab\tand\rreturn",
    "\x9b31m c1",
    "a\u202eb",
]


async def test_nothing_in_a_line_is_more_than_text():
    """Colours are dropped, escape sequences and markup are shown as text, no control byte is left."""
    app = Owner(Lines([log_row(i, text) for i, text in enumerate(HOSTILE)]), task_label=lambda _: "\x1b[2Jt[b]k")
    async with app.run_test(size=(120, 24)) as pilot:
        await settle(pilot)
        shown = "\n".join(screen(app))
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", shown)
        assert messages(app)[0] == "red"
        assert messages(app)[2] == HOSTILE[2]
        assert "t[b]k" in screen(app)[0]


async def test_tasks_are_named_and_what_was_printed_is_marked():
    """Name and level stand before the text."""
    app = Owner(Lines([log_row(0, level=40), log_row(1, stream="stdout")]), task_label=lambda r: f"task-{r.task_seq}")
    async with app.run_test(size=(120, 24)) as pilot:
        await settle(pilot)
        assert screen(app)[0][14:].startswith("E task-1             line 0")
        assert screen(app)[1][14:].startswith("› task-1")


async def test_an_empty_log_says_so_and_another_log_can_be_shown():
    """The same widget serves run after run."""
    app = Owner(Lines([]))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert screen(app)[0].startswith(" No output yet.")
        app.view.show(Lines(500))
        await settle(pilot)
        assert messages(app)[-1] == "line 499"
        app.view.show(None)
        await settle(pilot)
        assert screen(app)[0].startswith(" No output yet.")


@pytest.mark.parametrize("size", [(40, 5), (20, 2), (300, 100)])
async def test_it_fits_every_size(size):
    """Every line is exactly as wide as the widget, also after a resize."""
    app = Owner(Lines(1_000), task_label=lambda _: "a-rather-long-name")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.resize_terminal(*size)
        for keys in ((), ("w",), ("slash",)):
            await settle(pilot, *keys)
            assert {app.view.render_line(y).cell_length for y in range(size[1])} == {size[0]}


async def test_the_wheel_and_a_click_on_the_bar_scroll():
    """The mouse is not needed, but works."""
    app = Owner(Lines(1_000))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.click(LogView, offset=(79, 0))
        await settle(pilot)
        assert messages(app)[0] == "line 0"
        await pilot.click(LogView, offset=(30, 4))
        assert app.view.current == 4


def test_a_typed_text_is_a_pattern_if_it_is_one():
    """Capitals make case matter; what is no regular expression is searched as it stands."""
    assert compile_pattern("a.c").search("xABCx")
    assert not compile_pattern("A.C").search("abc")
    assert compile_pattern("f(").search("call f(1)")


def test_a_search_asks_for_one_piece_at_a_time():
    """Until the answer came nothing more is asked; a source that could not look is left alone until there is news."""
    asked: list[int] = []
    searches = Searches(lambda _, line: asked.append(line))
    query = Query(None, 40, None)
    searches.grew(100)
    searches.scan(query)
    searches.grew(200)
    assert asked == [0]
    assert searches.take(query, [], 50)
    assert asked == [0, 50]
    assert searches.find(query, 10, -1) == (None, True)
    assert searches.find(query, 10, 1) == (None, False)
    assert searches.take(query, [60], 200)
    assert searches.find(query, 10, 1) == (60, True)
    assert not searches.take(query, [61], 200)
    assert asked == [0, 50]
    searches.grew(300)
    assert searches.take(query, [], 200)
    assert asked == [0, 50, 200]
    searches.grew(300)
    assert asked == [0, 50, 200, 200]


async def test_lines_get_the_name_of_their_task_when_it_comes():
    """They may be there before its row; only its lines in sight are drawn anew."""
    names: dict[int, str] = {}
    source = Lines(10, lambda line: log_row(line, seq=line % 2))
    app = Owner(source, task_label=lambda row: names.get(row.task_seq or 0, ""))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert not any("late" in line for line in screen(app))
        names[1] = "late"
        drawn: list[Region] = []
        refresh = app.view.refresh
        app.view.refresh = lambda *regions, **more: (drawn.extend(regions), refresh(*regions, **more))[1]
        app.view.named({(1, 1), (2, 0)})
        await settle(pilot)
        assert [("late" in line) for line in screen(app)[:10]] == [bool(line % 2) for line in range(10)]
        assert [region.y for region in drawn] == [1, 3, 5, 7, 9]
