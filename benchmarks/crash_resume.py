"""``kill -9`` of a run under a daemon: until its death is recorded with the cause, and until it goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing

from flowdeck.engine.control.control import Control
from flowdeck.store.reader import Reader
from flowdeck.store.rows import EventRow

from .measure import Measure, bench, median, percentile

SCRIPT = """
import os, time
from flowdeck import flow, task

@task
def step(number):
    return number

@flow
def steps(count: int = 200):
    with open(os.path.join(os.environ["FLOWDECK_BENCH"], "lines"), "a") as file:
        file.write(f"{time.time()}\\n")
    for number in range(count):
        step(number)
    while not os.path.exists(os.path.join(os.environ["FLOWDECK_BENCH"], "go")):
        time.sleep(0.01)
"""


def death(reader: Reader, last: int, run_id: int) -> EventRow | None:
    """The event that says the run does not run any more."""
    found = (event for event in reader.events(last, run_id=run_id) if event.task_seq is None)
    return next((event for event in found if event.from_type == "RUNNING"), None)


def run(*, quick: bool) -> Iterator[Measure]:
    recorded, resumed = [], []
    with bench() as here:
        lines = here.root / "lines"
        with here.daemon(here.script("steps.py", SCRIPT)), closing(Reader(here.store)) as reader:
            for _ in range(3 if quick else 12):
                lines.write_text("")
                (here.root / "go").unlink(missing_ok=True)
                with closing(Control(here.store, actor="bench")) as control:
                    run_id = control.trigger("steps")
                here.wait(lambda run_id=run_id: reader.task_counts(run_id).get(("COMPLETED", "Completed"), 0) == 200)
                lease = here.wait(lambda run_id=run_id: reader.lease_of(run_id))
                last = reader.last_event_id()
                killed = time.time()
                os.kill(lease.pid, signal.SIGKILL)
                event = here.wait(lambda last=last, run_id=run_id: death(reader, last, run_id), step_seconds=0.001)
                recorded.append((event.at_us / 1e6 - killed) * 1000)
                here.wait(lambda: len(lines.read_text().splitlines()) >= 2, step_seconds=0.001)
                resumed.append((float(lines.read_text().splitlines()[1]) - killed) * 1000)
                cause = event.message
                (here.root / "go").touch()
                here.wait(lambda run_id=run_id: reader.run(run_id).state_name == "Completed")
    worst = percentile(recorded, 0.95)
    yield Measure(
        "crash_resume", "kill -9 of a run → recorded with cause, p95", worst, "ms", budget="≤ 20 ms",
        passed=worst <= 20, note=f"p50 {median(recorded):.1f}, n={len(recorded)}; “{cause}”",
    )  # fmt: skip
    worst = percentile(resumed, 0.95)
    yield Measure(
        "crash_resume", "kill -9 of a run → its flow runs again, p95", worst, "ms", budget="≤ 300 ms",
        passed=worst <= 300, note=f"p50 {median(resumed):.1f}; 200 finished tasks kept",
    )  # fmt: skip
