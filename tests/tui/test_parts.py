"""Cancel and retry of a part of a run from the tree: the dialogs name it, count, and leave everything by default."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flowdeck.store.connection import connect, transaction
from flowdeck.store.reader import Reader
from flowdeck.store.tables.leases import acquire, run_owner, this_process
from flowdeck.tui.clock import now_us

pytestmark = pytest.mark.anyio


def alive(seeder: Any, run: int) -> None:
    """The run has a living process: this one."""
    connection = connect(seeder.folder, "state")
    lease = this_process(seeder.folder, run_owner(run), actor="tester", at_us=1, run_id=run, attempt=1, info="{}")
    acquire(connection, lease)
    connection.close()


def requests(seeder: Any) -> list[str]:
    with Reader(seeder.folder) as reader:
        return [str(event.data) for event in reader.events() if event.kind == "request"]


async def test_a_task_is_cancelled_from_the_tree(drive: Any, seeder: Any) -> None:
    """No is the default; y cancels the task at the cursor, a the whole run."""
    run = seeder.run("etl", ("RUNNING", "Running"))
    seeder.task(run, 1, "extract", ("COMPLETED", "Completed"))
    seeder.task(run, 2, "load", ("RUNNING", "Running"))
    alive(seeder, run)
    async with drive(seeder.folder, size=(80, 24), start=f"run {run}") as console:
        await console.shows("extract", "load")
        await console.press("down", "x")
        await console.shows(f"Cancel load ({run}/2)?", "No, leave it as it is", "Yes, only this", "it has not ended")
        box = console.app.screen.query_one(".dialog").region
        assert (box.x, box.y) > (3, 3)  # in the middle
        await console.press("enter")
        assert not console.app.screen.is_modal
        assert requests(seeder) == []
        await console.press("x", "y")
        await console.until(lambda: requests(seeder) == [f'{{"cancel":[{{"run":{run},"seq":2}}]}}'])
        await console.shows("cancelling load", "q quit")
        await console.press("x", "a")
        await console.until(lambda: len(requests(seeder)) == 2)
        await console.press("up", "x")
        await console.shows(f"Cancel run #{run}?")


async def test_a_task_is_cancelled_from_the_graph(drive: Any, seeder: Any) -> None:
    """The node under the cursor, as in the tree; in the other tabs the whole run."""
    run = seeder.run("etl", ("RUNNING", "Running"))
    seeder.task(run, 1, "extract", ("COMPLETED", "Completed"))
    seeder.task(run, 2, "load", ("RUNNING", "Running"), upstream=(1,))
    alive(seeder, run)
    async with drive(seeder.folder, start=f"run {run}") as console:
        await console.shows("extract", "load")
        await console.press("2")
        await console.shows("▶")
        await console.press("x")
        await console.shows(f"Cancel load ({run}/2)?")
        await console.press("escape", "3", "x")
        await console.shows(f"Cancel run #{run}?")


async def test_a_map_is_cancelled_with_its_count(drive: Any, seeder: Any) -> None:
    """The folded group under the cursor: how many of its calls have not ended."""
    run = seeder.run("etl", ("RUNNING", "Running"))
    for index in range(6):
        done = index < 2
        seeder.task(run, index + 1, "clean", ("COMPLETED", "Completed") if done else ("RUNNING", "Running"),
                    map_index=index, call_index=index)  # fmt: skip
    alive(seeder, run)
    async with drive(seeder.folder, start=f"run {run}") as console:
        await console.shows("×6")
        await console.press("x")
        await console.shows("Cancel clean[*]?", "4 unfinished calls")
        await console.press("down", "enter")
        await console.until(lambda: requests(seeder) == [
            f'{{"cancel":[{{"run":{run},"scope":0,"key":"clean","group":0}}]}}'])


async def test_retry_offers_its_ways_and_says_what_each_would_do(drive: Any, seeder: Any) -> None:
    """From the row at the cursor: counts and names; h asks for it; the daemon's absence is said."""
    run = seeder.run("etl", ("FAILED", "Failed"))
    seeder.task(run, 1, "extract", ("COMPLETED", "Completed"))
    seeder.task(run, 2, "load", ("FAILED", "Failed"))
    async with drive(seeder.folder, size=(80, 24), start=f"run {run}") as console:
        await console.shows("extract", "load")
        await console.press("r")
        await console.shows(f"Retry #{run} etl?", "Only what did not complete", f"From extract ({run}/1) on",
                            "2 calls again, 0 kept", "Everything", "With other parameters", "No daemon is running")
        await console.press("enter")
        assert not console.app.screen.is_modal
        await console.press("r")
        await console.shows("Everything")
        await console.press("h")
        with Reader(seeder.folder) as reader:
            await console.until(lambda: reader.run(run).attempt == 2)
            assert [task.state_name for task in reader.tasks(run)] == ["Pending", "Failed"]


async def test_retry_with_other_parameters_makes_a_new_run(drive: Any, seeder: Any) -> None:
    """The old ones stand there to be edited."""
    run = seeder.run("etl", ("FAILED", "Failed"), parameters={"n": 3, "city": "Oslo"})
    async with drive(seeder.folder) as console:
        await console.shows("Failed")
        await console.press("r")
        await console.shows("With other parameters")
        await console.press("w")
        await console.shows("n=3", 'city="Oslo"')
        await console.type(" n=4")
        await console.press("enter")
        with Reader(seeder.folder) as reader:
            await console.until(lambda: reader.run(run + 1) is not None)
            made = reader.run(run + 1)
        assert (made.parameters, made.retry_of) == ('{"n": 4, "city": "Oslo"}', run)


async def test_a_notice_leaves_the_keys_in_sight(drive: Any, seeder: Any) -> None:
    """It has a line of its own."""
    seeder.run("etl", ("COMPLETED", "Completed"))
    async with drive(seeder.folder, size=(80, 24)) as console:
        await console.shows("Completed")
        await console.press("p")
        await console.shows("it cannot be asked to pause", "x cancel", "q quit")


async def test_a_run_that_waits_for_its_retry_has_no_running_time(drive: Any, seeder: Any) -> None:
    """Nothing of it runs."""
    run = seeder.run("etl", ("SCHEDULED", "AwaitingRetry"), wake_in_seconds=600)
    connection = connect(seeder.folder, "state")
    connection.execute("UPDATE flow_run SET started_at_us = created_at_us - 90000000 WHERE id = ?", (run,))
    connection.close()
    async with drive(seeder.folder) as console:
        await console.shows("AwaitingRetry")
        assert not re.search(r"(?<![\d:])1:3\d", console.text())
        assert "–" in console.text()


async def test_only_real_tries_are_counted(drive: Any, seeder: Any) -> None:
    """A suspension makes another attempt, too, but nothing failed."""
    seeder.run("leaver", ("PAUSED", "Suspended"), attempt=2)
    failed = seeder.run("stumbler", ("SCHEDULED", "AwaitingRetry"), attempt=2, wake_in_seconds=600)
    with transaction(seeder.state) as connection:
        seeder.move(connection, failed, ("SCHEDULED", "AwaitingRetry"), ("RUNNING", "Running"), now_us(), attempt=2)
    alive(seeder, failed)
    async with drive(seeder.folder) as console:
        await console.shows("leaver", "stumbler ×2")
        assert "leaver ×" not in console.text()
        await console.press("colon")
        await console.type(f"run {failed}")
        await console.press("enter")
        await console.shows("try 2")


async def test_a_task_that_waits_for_its_retry_says_when(drive: Any, seeder: Any) -> None:
    """And shows no running time."""
    run = seeder.run("etl", ("RUNNING", "Running"))
    alive(seeder, run)
    seeder.task(run, 1, "load", ("SCHEDULED", "AwaitingRetry"), age_seconds=3000, cause="attempt 1 failed: no route")
    connection = connect(seeder.folder, "state")
    connection.execute("UPDATE task_run SET started_at_us = created_at_us, wake_at_us = ?", (now_us() + 600_500_000,))
    connection.close()
    async with drive(seeder.folder, start=f"run {run}") as console:
        await console.shows("AwaitingRetry", "retries in 10 min; attempt 1 failed")
        line = next(line for line in console.lines() if "load" in line)
        assert ":" not in line.split("AwaitingRetry")[1].split("retries")[0]


async def test_the_row_at_the_trees_cursor_stands_beneath_it_in_full(drive: Any, seeder: Any) -> None:
    """Its reason needs more room than a column of a narrow screen has."""
    run = seeder.run("etl", ("FAILED", "Failed"))
    seeder.task(run, 1, "extract", ("COMPLETED", "Completed"))
    seeder.task(run, 2, "load", ("FAILED", "Failed"), cause="ValueError: column 'sku' is empty in 3 rows")
    async with drive(seeder.folder, size=(80, 24), start=f"run {run}") as console:
        await console.shows("extract", "load")
        await console.press("j")
        await console.shows("load  ValueError: column 'sku' is empty in 3 rows", f"{run}/2")
        await console.press("2")
        await console.until(lambda: "in 3 rows  " not in console.text() or not console.app.page.at_cursor.display)


async def test_lines_too_long_for_a_dialog_go_on_in_the_next(drive: Any, seeder: Any) -> None:
    """Nothing of what is to be cancelled is cut."""
    name = "a-run-with-a-long-name " * 4 + "and-an-end"
    seeder.run("a_flow_with_a_long_name", ("SCHEDULED", "Scheduled"), wake_in_seconds=600, name=name)
    for size in ((120, 32), (80, 24)):
        async with drive(seeder.folder, size=size) as console:
            await console.shows("Scheduled")
            await console.press("x")
            await console.shows("Cancel run #1?", "and-an-end  (Scheduled)")
