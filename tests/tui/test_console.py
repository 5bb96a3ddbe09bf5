"""The console driven by keys, on real stores."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from flowdeck.store.connection import transaction
from flowdeck.store.reader import Reader
from flowdeck.store.tables import leases, limits
from flowdeck.tui.clock import now_us
from flowdeck.tui.widgets.filter_line import DELAY_SECONDS
from textual.events import Key

pytestmark = pytest.mark.anyio


async def test_it_opens_on_the_runs_live_ones_first(drive: Any, filled: Any) -> None:
    """Live runs stand on top; each says its state by glyph and name, and why it is where it is."""
    folder, ids = filled
    async with drive(folder) as console:
        await console.shows("● Running", "waits for a slot", "✗ Failed", "8/10")
        rows = console.app.runs_page.view
        live = [rows.records[key].run.ended_at_us is None for key in rows.order]
        assert live == sorted(live, reverse=True)
        assert ids["parent"] in rows.order
        assert ids["child"] not in rows.order
        await console.shows("no daemon", "flowdeck daemon")


async def test_a_run_that_begins_and_ends_is_seen_without_a_key(drive: Any, seeder: Any) -> None:
    """The feed notices; the cursor stays with its run while others come."""
    first = seeder.run("etl", ("COMPLETED", "Completed"))
    seeder.run("etl", ("COMPLETED", "Completed"))
    async with drive(seeder.folder) as console:
        view = console.app.runs_page.view
        await console.until(lambda: len(view.order) == 2)
        await console.press("j")
        assert view.cursor_key == first
        new = seeder.run("nightly", ("RUNNING", "Running"), age_seconds=0)
        seeder.lease(new, f"run/{new}")
        await console.until(lambda: view.order[0] == new)
        assert view.cursor_key == first
        seeder.end(new, ("FAILED", "Failed"), cause="ValueError: no rows")
        await console.shows("ValueError: no rows")


async def test_an_empty_store_shows_how_to_fill_it(drive: Any, seeder: Any) -> None:
    """Two commands, ready to be typed."""
    async with drive(seeder.folder) as console:
        await console.shows("No runs yet", "flowdeck demo", "flowdeck up")


async def test_the_filter_narrows_stays_visible_and_is_cleared_by_escape(drive: Any, filled: Any) -> None:
    """Typed after a stroke; enter keeps it, escape takes it back."""
    folder, _ = filled
    async with drive(folder) as console:
        view = console.app.runs_page.view
        await console.until(lambda: len(view.order) > 30)
        everything = len(view.order)
        await console.press("slash")
        await console.type("state:failed flow:etl")
        await console.until(lambda: 0 < len(view.order) < 5)
        await console.press("enter")
        await console.shows("/state:failed flow:etl", "found")
        assert {view.records[key].run.flow_name for key in view.order} == {"etl"}
        await console.press("escape")
        await console.until(lambda: len(view.order) == everything)


async def test_escape_in_the_filter_line_puts_the_old_filter_back(drive: Any, filled: Any) -> None:
    """Nothing typed in vain, nothing lost."""
    folder, _ = filled
    async with drive(folder) as console:
        view = console.app.runs_page.view
        await console.press("z")
        await console.until(lambda: 0 < len(view.order) < 10)
        problems = len(view.order)
        await console.press("slash")
        await console.type(" flow:nothing")
        await console.until(lambda: not view.order)
        await console.press("escape")
        await console.until(lambda: len(view.order) == problems)
        assert console.app.runs_page.filter_text == "state:problem"


async def test_what_is_typed_just_before_escape_is_not_tried_after_it(drive: Any, filled: Any) -> None:
    """A filter that was left stays left, however quick the hand."""
    folder, _ = filled
    async with drive(folder) as console:
        page = console.app.runs_page
        await console.press("z")
        await console.until(lambda: page.filter_text == "state:problem")
        await console.press("slash")
        await console.type(" flow:nothing")
        await console.press("escape")
        rested = asyncio.Event()
        page.set_timer(DELAY_SECONDS, rested.set)  # after the rest that began with the last key
        await rested.wait()
        assert page.filter_text == "state:problem"


async def test_drilling_into_a_run_its_subflow_and_back(drive: Any, filled: Any) -> None:
    """Enter goes in, escape comes back, one step at a time; the cursor is where it was."""
    folder, ids = filled
    async with drive(folder) as console:
        view = console.app.runs_page.view
        await console.until(lambda: ids["parent"] in view.order)
        view.move_to_key(ids["parent"])
        await console.press("enter")
        await console.shows("orders of 22 November", "extract_orders", "enrich", "fetch_page", "×12")
        await console.press("G", "k")
        await console.press("enter")
        await console.shows(f"#{ids['child']}")
        await console.press("escape")
        await console.until(lambda: console.app.page.run_id == ids["parent"])
        await console.press("escape")
        assert console.app.page is console.app.runs_page
        assert view.cursor_key == ids["parent"]


async def test_a_run_without_tasks_and_a_run_that_is_not_there_say_so(drive: Any, seeder: Any) -> None:
    """Never an empty screen without a word."""
    run = seeder.run("etl", ("COMPLETED", "Completed"))
    for number, words in ((run, "No tasks yet."), (4711, "Run #4711 does not exist.")):
        async with drive(seeder.folder, start=f"run {number}") as console:
            await console.shows(words)


async def test_every_tab_of_a_run(drive: Any, filled: Any) -> None:
    """1 to 5: tree, graph, logs, events, details."""
    folder, ids = filled
    async with drive(folder, start=f"run {ids['parent']}") as console:
        await console.shows("extract_rates", "TASK")
        await console.press("2")
        await console.shows("read_config", "▶")
        await console.press("3")
        await console.shows("parquet", "following")
        await console.press("4")
        await console.shows("BECAME", "Scheduled", "ada@forge via cli")
        await console.press("5")
        await console.shows("Parameters", '"2026-11-22"', "Process", "Tags")
        await console.press("G")
        await console.shows("Artifact load-report", "Load report")


async def test_the_tree_follows_the_run_while_it_goes_on(drive: Any, seeder: Any) -> None:
    """New tasks appear, states change, without a key."""
    run = seeder.run("etl", ("RUNNING", "Running"), age_seconds=5)
    seeder.lease(run, f"run/{run}")
    seeder.task(run, 1, "extract", ("RUNNING", "Running"))
    async with drive(seeder.folder, start=f"run {run}") as console:
        await console.shows("extract", "0/1")
        seeder.task(run, 2, "transform", ("RUNNING", "Running"), upstream=(1,))
        await console.shows("transform", "0/2")
        seeder.task(run, 1, "extract", ("COMPLETED", "Completed"))
        await console.shows("✓ extract", "1/2")


async def test_pause_is_asked_of_control_and_answered(drive: Any, seeder: Any) -> None:
    """p on a waiting run pauses it, p again resumes it; the store says so and who asked."""
    run = seeder.run("etl", ("SCHEDULED", "Scheduled"), wake_in_seconds=600)
    async with drive(seeder.folder) as console:
        await console.shows("starts in 10 min")
        await console.press("p")
        await console.shows("‖ Paused")
        await console.press("p")
        await console.shows("Resuming")
    with Reader(seeder.folder) as reader:
        assert any("via console" in event.actor for event in reader.events(run_id=run))


async def test_cancel_asks_first_and_no_is_the_default(drive: Any, seeder: Any) -> None:
    """The dialog names the run; enter alone changes nothing, y does it."""
    run = seeder.run("etl", ("SCHEDULED", "Scheduled"), wake_in_seconds=600, name="quarterly")
    async with drive(seeder.folder) as console:
        await console.shows("Scheduled")
        await console.press("x")
        await console.shows(f"Cancel run #{run}?", "quarterly", "No", "Yes")
        await console.press("enter")
        assert not console.app.screen.is_modal
        await console.press("x", "y")
        await console.shows("⊘ Cancelled", "cancelled by")


async def test_verbs_act_on_all_marked_runs_and_many_want_their_number(drive: Any, seeder: Any) -> None:
    """Seven marked runs: the dialog counts them and goes on only when their number is typed."""
    for _ in range(7):
        seeder.run("etl", ("SCHEDULED", "Scheduled"), wake_in_seconds=600)
    async with drive(seeder.folder) as console:
        view = console.app.runs_page.view
        await console.until(lambda: len(view.order) == 7)
        await console.press(*["space"] * 7)
        await console.shows("7 marked")
        await console.press("x")
        await console.shows("Cancel these 7 runs?", "and 2 more", "Type 7")
        await console.press("6", "enter")
        await console.pilot.pause()
        assert all(view.records[key].run.state_type == "SCHEDULED" for key in view.order)
        await console.press("x", "7", "enter")
        await console.until(lambda: all(view.records[key].run.state_type == "CANCELLED" for key in view.order))
        assert not view.marks


async def test_what_is_not_allowed_is_said_not_done(drive: Any, seeder: Any) -> None:
    """A completed run cannot be paused: the footer's key is faint and the answer names run and state."""
    run = seeder.run("etl", ("COMPLETED", "Completed"))
    async with drive(seeder.folder) as console:
        await console.shows("✓ Completed")
        await console.press("p")
        await console.shows(f"#{run} is Completed: it cannot be asked to pause")


async def test_read_only_asks_for_nothing(drive: Any, seeder: Any) -> None:
    """It says so on top, and when somebody tries."""
    seeder.run("etl", ("SCHEDULED", "Scheduled"), wake_in_seconds=600)
    async with drive(seeder.folder, read_only=True) as console:
        await console.shows("read-only", "Scheduled")
        await console.press("x")
        assert not console.app.screen.is_modal
        await console.shows("read-only: nothing is asked")


async def test_flows_schedules_and_problems(drive: Any, filled: Any) -> None:
    """Next runs, last runs, and the file that does not load with its traceback; p pauses a schedule."""
    folder, _ = filled
    async with drive(folder) as console:
        await console.press("F")
        await console.shows("0 6 * * *", "every 60 s", "pandsa", "Traceback", "1 flow file does not load")
        await console.press("p")
        await console.shows("the schedule is paused", "‖ paused")
        await console.press("escape")
        assert console.app.page is console.app.runs_page


async def test_limits_with_their_queues(drive: Any, seeder: Any) -> None:
    """Slots held, who holds, who waits in which order; enter goes to the run, p pauses the limit; keys move at once."""
    one, two, three = (seeder.run("etl", ("RUNNING", "Running"), name=name) for name in ("a", "b", "c"))
    process = leases.this_process(seeder.folder, "run/0", actor="tester", at_us=1, run_id=one, attempt=1, info="{}")
    here = limits.Process(process.host, process.boot_id, process.pid, process.pid_started_ticks)
    with transaction(seeder.state) as connection:
        for name, slots in (("db", 1), ("idle", 3)):
            limits.put(connection, name, slots, None, active=True, at_us=now_us(), actor="tester")
        for run in (one, two, three):
            leases.acquire(connection, process._replace(owner=leases.run_owner(run), run_id=run))
            limits.ask(connection, ["db"], kind="hold", occupy=1, process=here, at_us=now_us(), actor="t", run_id=run)
    async with drive(seeder.folder, size=(80, 24)) as console:
        await console.press("C")
        await console.shows("2 limits", "1 full", "2 waiting", "db", "1/1", "holds", "next", "2nd in line", "0/3")
        order = [line.split()[2] for line in console.lines() if "─ " in line]
        assert order == [f"#{one}", f"#{two}", f"#{three}"]
        await console.press("p")
        await console.shows("paused")
        await console.press("p")
        await console.shows("1 full")
        await console.press("enter")
        await console.until(lambda: "2nd in line" not in console.text())
        await console.press("enter", "j", "j", "enter")
        await console.shows(f"runs › #{two}")


async def test_what_cannot_be_read_is_said(drive: Any, seeder: Any) -> None:
    """A screen never stays empty in silence; the others go on."""
    seeder.run("etl", ("COMPLETED", "Completed"))
    with transaction(seeder.state) as connection:
        limits.put(connection, "db", 1, None, active=True, at_us=now_us(), actor="tester")
        connection.execute("DROP TABLE slot")
    async with drive(seeder.folder, start="limits") as console:
        await console.shows("no such table: slot")
        await console.press("R")
        await console.shows("etl")


async def test_no_limits_says_how_to_make_one(drive: Any, seeder: Any) -> None:
    """The palette leads there, too."""
    async with drive(seeder.folder, start="limits") as console:
        await console.shows("No limits yet", "flowdeck limits set db 2")


async def test_keys_move_in_a_place_that_was_never_seen_before(drive: Any, filled: Any) -> None:
    """The list has the focus as soon as it is there."""
    folder, _ = filled
    async with drive(folder) as console:
        await console.press("F")
        await console.shows("0 6 * * *")
        await console.press("j")
        assert console.app.page.view.cursor == 1


async def test_trigger_makes_a_run_with_parameters(drive: Any, filled: Any) -> None:
    """t on a schedule asks for parameters and says the number of the new run."""
    folder, _ = filled
    async with drive(folder) as console:
        await console.press("F")
        await console.shows("0 6 * * *")
        await console.press("t")
        await console.shows("Run a flow now", "etl")
        await console.type("source=us")
        await console.press("enter")
        await console.shows("is on its way")
    with Reader(folder) as reader:
        newest = reader.runs(limit=1)[0]
        assert newest.parameters == '{"source": "us"}'
        assert newest.flow_name == "etl"


async def test_the_palette_goes_places_and_says_what_is_wrong(drive: Any, filled: Any) -> None:
    """: run 31 opens it; nonsense gets an answer; runs with a filter applies it."""
    folder, ids = filled
    async with drive(folder) as console:
        await console.press("colon")
        await console.type("xyzzy")
        await console.press("enter")
        await console.shows("no command 'xyzzy'")
        await console.press("escape", "colon")
        await console.type(f"run {ids['failed']}")
        await console.press("enter")
        await console.shows("3 rows have no", "NotReady")
        await console.press("colon")
        await console.type("runs state:crashed")
        await console.press("enter")
        await console.shows("/state:crashed", "OutOfMemory")


async def test_help_comes_from_the_registry_and_overrides_show(drive: Any, seeder: Any) -> None:
    """? lists the keys of the place; a key from the keys file works and is shown."""
    seeder.run("etl", ("SCHEDULED", "Scheduled"), wake_in_seconds=600)
    async with drive(seeder.folder, keymap={"run.cancel": "D"}) as console:
        await console.shows("Scheduled", "D cancel")
        await console.press("question_mark")
        await console.shows("Keys: runs", "Cancel the run", "state:failed")
        await console.press("escape", "D")
        await console.shows("Cancel run #1?")


async def test_n_walks_through_the_list_from_inside_a_run(drive: Any, filled: Any) -> None:
    """Next and previous run without going back."""
    folder, ids = filled
    async with drive(folder) as console:
        view = console.app.runs_page.view
        await console.until(lambda: len(view.order) > 30)
        await console.press("enter")
        first = view.order[0]
        await console.until(lambda: console.app.page.run_id == first)
        await console.press("n")
        await console.until(lambda: console.app.page.run_id == view.order[1])
        await console.press("N")
        await console.until(lambda: console.app.page.run_id == first)
        assert ids


@pytest.mark.parametrize("size", [(80, 24), (60, 15), (200, 50), (300, 100)])
async def test_every_place_fits_every_size(drive: Any, filled: Any, size: tuple[int, int]) -> None:
    """No line is longer or shorter than the terminal, in any place."""
    folder, ids = filled
    async with drive(folder, size=size) as console:
        await console.shows("Running")
        for keys in (["enter"], ["2"], ["3"], ["4"], ["5"], ["escape", "F"], ["question_mark"], ["escape", "colon"]):
            await console.press(*keys)
            lines = console.lines()
            assert len(lines) == size[1]
            assert all(len(line) <= size[0] for line in lines)
        assert ids


async def test_too_small_a_terminal_is_told_so(drive: Any, seeder: Any) -> None:
    """No garbage: one sentence; it comes back when there is room."""
    seeder.run("etl", ("COMPLETED", "Completed"))
    async with drive(seeder.folder, size=(50, 10)) as console:
        await console.shows("60x15 needed, this is 50x10")
        await console.pilot.resize_terminal(100, 30)
        await console.shows("✓ Completed")


@pytest.mark.parametrize("depth", ["256", "ansi", "mono"])
async def test_fewer_colours_and_ascii_say_the_same(drive: Any, filled: Any, depth: Any) -> None:
    """Without colour and without Unicode: letters for the states, names beside them, nothing beyond ASCII."""
    folder, _ = filled
    async with drive(folder, depth=depth, ascii_only=True) as console:
        await console.shows("R Running", "F Failed", "C Completed", "H Paused")
        assert console.text().isascii()
        await console.press("enter")
        await console.shows("C extract_orders")
        assert console.text().replace("▁", "").isascii()


async def test_nothing_from_data_is_markup_or_an_escape(drive: Any, seeder: Any) -> None:
    """Hostile names, causes, parameters and log lines show as text, in every place."""
    hostile = "[@click=app.exit]x[/] \x1b]52;c;QQ==\x07 \x1b[2J \x9b31m \u202eabc\x00"
    run = seeder.run(hostile, ("FAILED", "Failed"), cause=hostile, name=hostile, parameters={hostile: hostile})
    seeder.task(run, 1, hostile, ("FAILED", "Failed"), cause=hostile)
    seeder.log(run, 20, hostile=True)
    async with drive(seeder.folder) as console:
        for keys in ([], ["enter"], ["2"], ["3"], ["4"], ["5"], ["escape", "x"], ["r"],
                     ["escape", "escape", "escape", "t"]):
            await console.press(*keys)
            await console.pilot.pause(0.1)
            for line in console.lines():
                assert line.isprintable(), repr(line)
        assert console.app.is_running


async def test_a_hostile_name_is_shown_safe_and_asked_as_it_is(drive: Any, seeder: Any) -> None:
    """A field begins with what can be shown; left alone it stands for the name as the store has it."""
    hostile = "etl\x1b[2J\u202e"
    seeder.run(hostile, ("COMPLETED", "Completed"))
    async with drive(seeder.folder) as console:
        await console.shows("Completed")
        asked = []
        console.app.asker.trigger = lambda name, parameters: asked.append((name, parameters))
        await console.press("t")
        await console.shows("Run a flow now")
        assert all(line.isprintable() for line in console.lines())
        await console.press(*"n=1", "enter")
        await console.until(lambda: asked)
        assert asked == [(hostile, {"n": 1})]


async def test_a_store_that_vanishes_and_comes_back(drive: Any, seeder: Any, tmp_path: Path) -> None:
    """A banner says what is wrong; when the files are there again, everything goes on."""
    seeder.run("etl", ("COMPLETED", "Completed"))
    async with drive(seeder.folder) as console:
        await console.shows("✓ Completed")
        away = tmp_path / "away"
        seeder.folder.rename(away)
        await console.shows("no store at")
        away.rename(seeder.folder)
        seeder.run("comes-back", ("COMPLETED", "Completed"))
        await console.shows("comes-back")
        await console.until(lambda: "no store at" not in console.text())


def at_once(console: Any, *keys: tuple[str, str | None]) -> None:
    """Keys as they come in one read: none waits for what the one before it does."""
    for name, character in keys:
        console.app.post_message(Key(name, character))


def letters(text: str) -> list[tuple[str, str | None]]:
    """The keys of plain letters."""
    return [(letter, letter) for letter in text]


async def test_what_comes_with_the_key_that_opens_a_field_is_its_text(drive: Any, seeder: Any) -> None:
    """``/prod`` pasted over a live run filters, and asks nothing of it; so with palette, trigger and search."""
    run = seeder.run("etl", ("RUNNING", "Running"))
    seeder.lease(run, f"run/{run}")
    seeder.run("prod", ("COMPLETED", "Completed"))
    seeder.log(run, 20)
    async with drive(seeder.folder) as console:
        await console.shows("Running")
        asked: list[Any] = []
        console.app.asker.ask = lambda *what: asked.append(what)
        at_once(console, ("slash", "/"), *letters("prod"))
        await console.until(lambda: getattr(console.app.focused, "value", "") == "prod")
        await console.press("escape", "escape")
        at_once(console, ("colon", ":"), *letters("xprf"))
        await console.until(lambda: getattr(console.app.focused, "value", "") == "xprf")
        await console.press("escape")
        at_once(console, ("t", "t"), *letters("xprf"))
        await console.until(lambda: "xprf" in str(getattr(console.app.focused, "value", "")))
        await console.press("escape")
        console.app.go_run(run, "logs")
        await console.until(lambda: type(console.app.focused).__name__ == "LogView")
        at_once(console, ("slash", "/"), *letters("xprf"))
        await console.shows("/xprf")
        await console.press("escape")
        assert asked == []
        assert not console.app.screen.is_modal
        await console.press("p")
        await console.until(lambda: asked)
