"""From a request to the running process acting on it: a run a person started with ``python f.py``, no daemon."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

from flowdeck.engine.control.control import Control
from flowdeck.store.reader import Reader

from .measure import PYTHON, Bench, Measure, bench, median, percentile

SCRIPT = """
import os, sys, time
from flowdeck import flow, task

def note(name):
    at = time.time()
    with open(os.path.join(os.environ["FLOWDECK_BENCH"], name), "w") as file:
        file.write(f"{at}\\n")

@task
def busy():
    note("started")
    try:
        while True:
            time.sleep(0.005)
    finally:
        note("acted")

@task
def blocked():
    note("started")
    try:
        time.sleep(60)
    finally:
        note("acted")

@flow
def called(): busy()

@flow
def sleeping(): blocked()

@flow
def mapped(): busy.submit().wait()

globals()[sys.argv[1]]()
"""


WAYS = {"called": "in a called task", "sleeping": "in sleep(60)", "mapped": "in a pool's thread"}


def once(here: Bench, name: str) -> tuple[float, float, float]:
    """Milliseconds from the request to user code, to the record, and to the end of the process."""
    path = here.script("waiting.py", SCRIPT)
    for left in ("started", "acted"):
        (here.root / left).unlink(missing_ok=True)
    process = here.start([*PYTHON, str(path), name])
    here.wait(lambda: (here.root / "started").exists() and (here.root / "started").read_text())
    with closing(Reader(here.store)) as reader, closing(Control(here.store, actor="bench")) as control:
        run_id = reader.runs(limit=1)[0].id
        here.wait(lambda: reader.run(run_id).state_name == "Running", step_seconds=0.001)
        time.sleep(0.0007 * (run_id * 37 % 40))  # anywhere between two looks of the process
        asked = time.time()
        control.cancel(run_id)
        here.wait(lambda: reader.run(run_id).state_name == "Cancelled", step_seconds=0.001)
        recorded = time.time()
        process.wait()
        ended = time.time()
    acted = float((here.root / "acted").read_text())
    return (acted - asked) * 1000, (recorded - asked) * 1000, (ended - asked) * 1000


def run(*, quick: bool) -> Iterator[Measure]:
    with bench() as here:
        for name, what in WAYS.items():
            rounds = [once(here, name) for _ in range(5 if quick else 20)]
            acted = [figures[0] for figures in rounds]
            worst = percentile(acted, 0.95)
            yield Measure(
                "cancel_latency", f"cancel → user code acts, {what}, p95", worst, "ms", budget="≤ 150 ms",
                passed=worst <= 150,
                note=f"p50 {median(acted):.1f}; recorded p50 {median([r for _, r, _ in rounds]):.1f}; "
                f"process gone p50 {median([e for _, _, e in rounds]):.1f}; n={len(acted)}",
            )  # fmt: skip
