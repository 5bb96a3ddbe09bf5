"""Flows called within a flow: each is a run of its own, durable when it begins and when it ends."""

from __future__ import annotations

from collections.abc import Iterator

from .measure import REPORT, Measure, bench, median, spread

SCRIPT = REPORT + """
import sqlite3, sys, time
from flowdeck import flow, task

@task
def step(number):
    return number

@flow
def empty(number):
    return number

@flow
def one_task(number):
    return step(number)

@flow
def parent(rounds: int, count: int):
    raw = sqlite3.connect(os.path.join(os.environ["FLOWDECK_BENCH"], "raw.db"), isolation_level=None)
    raw.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE row (id INTEGER PRIMARY KEY)")
    floors, plain, with_task = [], [], []
    for number in range(rounds + 1):
        begun = time.perf_counter()
        for _ in range(2 * count):
            raw.execute("INSERT INTO row DEFAULT VALUES")
        floors.append(count / (time.perf_counter() - begun))
        for flow_, rates in ((empty, plain), (one_task, with_task)):
            begun = time.perf_counter()
            for index in range(count):
                flow_(index)
            rates.append(count / (time.perf_counter() - begun))
    report(floors=floors[1:], plain=plain[1:], with_task=with_task[1:])

parent(int(sys.argv[1]), int(sys.argv[2]))
"""


def run(*, quick: bool) -> Iterator[Measure]:
    with bench() as here:
        found = here.run(here.script("parent.py", SCRIPT), *(("2", "100") if quick else ("5", "1000")))
    for key, what in (("plain", "empty subflows, in sequence"), ("with_task", "subflows of one task, in sequence")):
        yield Measure(
            "subflows", what, median(found[key]), "/s", median(found["floors"]), "two commits of one row each",
            median([floor / ours for floor, ours in zip(found["floors"], found[key], strict=True)]), "",
            None, spread(found[key]),
        )  # fmt: skip
