"""100 000 runs of one file due at once: how fast they drain, in which order, and what other files notice of it.

Only the first of them are waited for; the rest stay queued, so that each claim is made beside a hundred thousand.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from flowdeck.store.connection import connect, transaction
from flowdeck.store.reader import Reader
from flowdeck.store.tables import deployments, runs

from .measure import Bench, Measure, bench, median, percentile, proportional_megabytes

FLOOD = """
from flowdeck import flow

@flow
def flood():
    pass
"""
TICK = """
import os, time
from flowdeck import Interval, flow

@flow(schedule=Interval(1, overlap="allow"))
def tick():
    at = time.time()
    with open(os.path.join(os.environ["FLOWDECK_BENCH"], "lines"), "a") as file:
        file.write(f"{at}\\n")
"""
IN_ONE_TRANSACTION = 10_000


def queue(here: Bench, count: int) -> list[int]:
    """So many runs of ``flood``, due now and one after the other; in this order."""
    at_us = time.time_ns() // 1000
    numbers: list[int] = []
    with closing(connect(here.store, "state")) as state:
        flood = deployments.get(state, "flood")
        assert flood is not None
        while len(numbers) < count:
            with transaction(state):
                numbers += [
                    runs.insert(
                        state, flow_name="flood", name="", state=("SCHEDULED", "Scheduled"), actor="bench", at_us=at_us,
                        deployment="flood", entrypoint=flood.entrypoint, scheduled_at_us=at_us + number,
                    )
                    for number in range(len(numbers), min(count, len(numbers) + IN_ONE_TRANSACTION))
                ]  # fmt: skip
    return numbers


def children_of(pid: int) -> list[int]:
    """Of its main thread."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def run(*, quick: bool) -> Iterator[Measure]:
    queued, drained = (20_000, 1000) if quick else (100_000, 3000)
    with bench() as here:
        lines = here.root / "lines"
        lines.touch()
        files = here.script("flood.py", FLOOD), here.script("tick.py", TICK)
        with here.daemon(*files) as daemon, closing(Reader(here.store)) as reader:
            here.wait(lambda: len(lines.read_text().splitlines()) > 2)
            nursery = children_of(daemon.pid)
            parts = [daemon.pid, *nursery, *(host for pid in nursery for host in children_of(pid))]
            numbers = queue(here, queued)
            here.wait(lambda: ended(reader) > 50, seconds=120)
            begun, before, at_first = time.monotonic(), ended(reader), sum(map(proportional_megabytes, parts))
            since = time.time()
            here.wait(lambda: ended(reader) >= before + drained, seconds=600, step_seconds=0.25)
            until, seconds = time.time(), time.monotonic() - begun
            rate = (ended(reader) - before) / seconds - 1
            grown = sum(map(proportional_megabytes, parts)) - at_first
            events = reader.events(limit=10_000_000)
            queued_runs = set(numbers)
            claimed = [event.run_id for event in events if event.to_type == "PENDING" and event.run_id in queued_runs]
        late = [(at - int(at)) * 1000 for at in map(float, lines.read_text().splitlines()) if since < at < until]
    in_order = claimed == numbers[: len(claimed)]
    note = f"{drained:,} of {queued:,} were waited for; in the order of their due times: {'yes' if in_order else 'NO'}"
    yield Measure("burst", f"{queued:,} runs due at once, drained", rate, "runs/s", budget="≥ 50 runs/s",
                  passed=rate >= 50, note=note)
    worst = percentile(late, 0.95)
    yield Measure("burst", "another file's tick meanwhile: due → first line, p95", worst, "ms", budget="≤ 100 ms",
                  passed=worst <= 100, note=f"p50 {median(late):.1f}, max {max(late):.1f}, n={len(late)}")
    yield Measure("burst", "daemon, nursery, code hosts: memory (PSS) grown by", grown, "MB", budget="≤ 10 MB",
                  passed=grown <= 10, note=f"over those {drained:,} runs; {at_first:.0f} MB at their beginning")


def ended(reader: Reader) -> int:
    """How many runs have ended; of the ticks there is one a second."""
    counts = reader.run_counts()
    return sum(counts.get(state, 0) for state in ("COMPLETED", "CRASHED", "FAILED"))
