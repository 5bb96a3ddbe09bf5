"""Going on with a large run: how fast its finished calls give back their results, and how long asking for it takes."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing

from flowdeck.engine.control.control import Control
from flowdeck.store.tables.nodes import Node

from .measure import FLOWDECK, REPORT, Bench, Measure, bench

SCRIPT = REPORT + """
import time
from flowdeck import flow, task

@task
def step(number):
    return number

@task
def last(how, rate):
    if not os.path.exists(os.path.join(os.environ["FLOWDECK_BENCH"], "mended")):
        raise RuntimeError("not yet")
    report(rate=rate, at=time.time())

@flow
def mapped(count: int):
    begun = time.perf_counter()
    step.map(range(count)).wait()
    last("mapped", count / (time.perf_counter() - begun))

@flow
def called(count: int):
    begun = time.perf_counter()
    for number in range(count):
        step(number)
    last("called", count / (time.perf_counter() - begun))
"""
MAKE = """
import sys
sys.path.insert(0, sys.argv[1])
import big
getattr(big, sys.argv[2])(int(sys.argv[3]), return_state=True)
"""


def by_hand(here: Bench, run_id: int) -> float:
    """Rows a second: each call's row and result read from the store, the result decoded."""
    begun, count = time.perf_counter(), 0
    with closing(sqlite3.connect(here.store / "state.db")) as connection:
        rows = connection.execute("SELECT * FROM task_run WHERE run_id = ? ORDER BY seq", (run_id,))
        data = [column[0] for column in rows.description].index("result_data")
        for row in rows:
            json.loads(row[data] or b"null")
            count += 1
    return count / (time.perf_counter() - begun)


def replayed(here: Bench, run_id: int) -> tuple[float, float, float]:
    """By hand and ours, calls a second; and seconds from the start of the command to the first new task."""
    floor = by_hand(here, run_id)
    begun = time.time()
    process = here.start([*FLOWDECK, "retry", "--here", str(run_id)])
    if process.wait() != 0:
        raise RuntimeError(f"the retry ended with {process.returncode}:\n{here.output()[-4000:]}")
    found = here.figures()
    return floor, found["rate"], found["at"] - begun


def asked(here: Bench, node: Node | None) -> float:
    """Seconds that a request to retry takes, on a copy of the store."""
    copy = here.root / "copy"
    shutil.copytree(here.store, copy)
    with closing(Control(copy, actor="bench")) as control:
        begun = time.perf_counter()
        control.retry([node] if node is not None else 1)
        seconds = time.perf_counter() - begun
    shutil.rmtree(copy)
    return seconds


def run(*, quick: bool) -> Iterator[Measure]:
    count = 10_000 if quick else 100_000
    with bench() as here:
        here.script("big.py", SCRIPT)
        maker = here.script("make.py", MAKE)
        for how, number in (("mapped", count), ("called", count // 5)):
            if here.start([*FLOWDECK[:2], str(maker), str(here.root), how, str(number)]).wait() != 0:
                raise RuntimeError(here.output()[-4000:])
        seconds = asked(here, None), asked(here, Node(1, None, 0, "step", 0))
        (here.root / "mended").touch()
        figures = {"mapped": replayed(here, 1), "called": replayed(here, 2)}
    for how, (floor, rate, _) in figures.items():
        yield Measure(
            "replay", f"finished calls on replay, {how}", rate, "/s", floor, "their rows read by hand", floor / rate,
            "≥ 20,000 /s", rate >= 20_000,
        )  # fmt: skip
    yield Measure("replay", f"retry --here of {count:,} finished calls → first new task", figures["mapped"][2], "s")
    for what, took in zip(("no call", "every call"), seconds, strict=True):
        yield Measure(
            "replay", f"retry of {count:,} calls, asked for; {what} given up", took, "s", budget="≤ 1.5 s",
            passed=took <= 1.5,
        )  # fmt: skip
