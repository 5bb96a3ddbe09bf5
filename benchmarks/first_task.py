"""``python my_flow.py`` in a cold process: from its start to the first line of the first task, recorded in a store."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from .measure import PYTHON, Bench, Measure, bench, median, percentile, spread

SCRIPT = """
import os, time
from flowdeck import flow, task

@task
def step():
    with open(os.path.join(os.environ["FLOWDECK_BENCH"], "figures"), "w") as file:
        file.write(str(time.time()))

@flow
def one():
    step()

if __name__ == "__main__":
    one()
"""
BARE = """
import os, sqlite3, time
raw = sqlite3.connect(os.path.join(os.environ["FLOWDECK_BENCH"], "raw.db"), isolation_level=None)
raw.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                  "CREATE TABLE IF NOT EXISTS run (id INTEGER PRIMARY KEY);")
raw.execute("INSERT INTO run DEFAULT VALUES")
with open(os.path.join(os.environ["FLOWDECK_BENCH"], "figures"), "w") as file:
    file.write(str(time.time()))
"""


def milliseconds(here: Bench, path: str) -> tuple[float, float]:
    """To the first line, and to the end of the process."""
    begun = time.time()
    process = here.start([*PYTHON, path])
    code = process.wait()
    ended = time.time()
    if code != 0:
        raise RuntimeError(here.output()[-2000:])
    first = json.loads((here.root / "figures").read_text())
    return (first - begun) * 1000, (ended - begun) * 1000


def run(*, quick: bool) -> Iterator[Measure]:
    with bench() as here:
        bare, ours = str(here.script("bare.py", BARE)), str(here.script("one.py", SCRIPT))
        fresh = milliseconds(here, ours)[0]
        floors, firsts, wholes = [], [], []
        for _ in range(5 if quick else 20):
            floors.append(milliseconds(here, bare)[0])
            first, whole = milliseconds(here, ours)
            firsts.append(first)
            wholes.append(whole)
    yield Measure(
        "first_task", "python my_flow.py → first task body, recorded", median(firsts), "ms", median(floors),
        "python, sqlite3, one durable row", median([a / b for a, b in zip(firsts, floors, strict=True)]), "≤ 250 ms",
        median(firsts) <= 250, f"p95 {percentile(firsts, 0.95):.0f}; with a new store {fresh:.0f}; {spread(firsts)}",
    )  # fmt: skip
    yield Measure("first_task", "the whole process of a run with one task", median(wholes), "ms", note=spread(wholes))
