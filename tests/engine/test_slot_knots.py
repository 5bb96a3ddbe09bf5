"""Slots of limits that would be waited for for ever: found, ended for one, and nobody else is disturbed."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from flowdeck import concurrency, flow, task, upsert_global_concurrency_limit_by_name
from flowdeck.engine.running.slots.deadlocks import find_knot
from flowdeck.store.reader import Reader
from flowdeck.store.rows import SlotRow

set_limit = upsert_global_concurrency_limit_by_name

OPPOSITE = """
first, second = sys.argv[1:3]
@flow
def nested():
    with concurrency(first):
        effect("in " + first)
        wait_for("go")
        with concurrency(second):
            effect("both " + first)
sys.exit(0 if nested(return_state=True).is_completed() else 3)
"""


def test_limits_taken_in_opposite_order_end_for_one_in_words(
    store: Path, script: Any, reader: Reader, effects: Any, eventually: Any
) -> None:
    """Two processes would wait for each other for ever: the later one fails, the other goes on."""
    set_limit("left", 1)
    set_limit("right", 1)
    runs = [script.start(OPPOSITE, "left", "right"), script.start(OPPOSITE, "right", "left")]
    eventually(lambda: {"in left", "in right"} <= set(effects.lines))
    script.touch("go")
    assert sorted(process.wait(60) for process in runs) == [0, 3]
    causes = {run.state_name: run.cause or "" for run in reader.runs()}
    assert set(causes) == {"Completed", "Failed"}
    assert causes["Failed"].startswith("ConcurrencySlotAcquisitionError: deadlock: it holds slots of")
    assert "concurrency(['left', 'right'])" in causes["Failed"]
    assert len([line for line in effects.lines if line.startswith("both")]) == 1


def test_a_task_called_within_a_block_counts_as_what_the_block_waits_for(store: Path, reader: Reader) -> None:
    """The flow holds the only slot of the tag's limit; its own task would never get it."""
    set_limit("tag:db", 1)

    @task(tags=["db"])
    def inner() -> int:
        return 1

    @task(tags=["db"])
    def outer() -> int:
        return inner()

    @flow
    def main() -> int:
        return outer()

    began = time.monotonic()
    state = main(return_state=True)
    assert "deadlock: it holds slots of tag:db and waits for tag:db, held by 1/1" in (state.message or "")
    assert time.monotonic() - began < 30


def test_the_same_limit_twice(store: Path) -> None:
    """A block within a block of one slot."""
    set_limit("one", 1)

    @flow
    async def main() -> str:
        async with concurrency("one"):
            with pytest.raises(Exception, match="deadlock: it holds slots of one and waits for one"):
                async with concurrency("one"):
                    return "in"
        async with concurrency("one"):
            return "afterwards"

    assert asyncio.run(main()) == "afterwards"


def test_what_only_takes_long_is_no_deadlock(store: Path) -> None:
    """Coroutines that hold while others wait, nested in one order, and a submitted task that outlives the block."""
    set_limit("a", 2)
    set_limit("b", 1)
    set_limit("tag:b", 1)

    @task
    def late() -> None:
        with concurrency("a", occupy=2):
            pass

    @flow
    async def main() -> int:
        async def one() -> int:
            async with concurrency("a"), concurrency("b"):
                await asyncio.sleep(1.2)
            return 1

        done = sum(await asyncio.gather(one(), one(), one()))
        async with concurrency("a"):
            future = late.submit()
            await asyncio.sleep(3.5)
        future.result()
        return done

    assert asyncio.run(main()) == 3


def _row(ask: int, limit: str, *, held: bool, within: str | None = None, occupy: int = 1) -> SlotRow:
    held_at_us = 1 if held else None
    return SlotRow(ask, ask, limit, "hold", occupy, ask, None, "host", "boot", 1, 1, 0, held_at_us, "x", within)


def test_the_order_of_asking_may_be_what_ties_a_knot() -> None:
    """1 holds a slot of L and waits for K; 2 holds K and waits for L behind 3, who wants two of L: nobody goes on."""
    rows = [
        _row(1, "L", held=True), _row(2, "K", held=True), _row(3, "L", held=False, occupy=2),
        _row(4, "K", held=False, within="1"), _row(5, "L", held=False, within="2"),
    ]  # fmt: skip
    knot = find_knot(rows, {"L": 2, "K": 1})
    assert knot is not None
    assert knot.last == 5
    assert find_knot(rows, {"L": 3, "K": 1}) is None
    assert find_knot(rows, {"L": 2, "K": 2}) is None
    assert find_knot([row for row in rows if row.ask_id != 3], {"L": 2, "K": 1}) is None
