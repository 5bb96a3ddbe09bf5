"""From the moment a scheduled run is due to the first line of its flow, under a real daemon with a warm code host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from flowdeck.store.reader import Reader

from .measure import Measure, bench, median, percentile

SCRIPT = """
import os, time
from flowdeck import Interval, flow

@flow(schedule=Interval(1, overlap="allow"))
def tick():
    at = time.time()
    with open(os.path.join(os.environ["FLOWDECK_BENCH"], "lines"), "a") as file:
        file.write(f"{at}\\n")
"""


def run(*, quick: bool) -> Iterator[Measure]:
    wanted = 10 if quick else 60
    with bench() as here:
        path = here.root / "lines"
        path.touch()
        with here.daemon(here.script("ticking.py", SCRIPT)):
            here.wait(lambda: len(path.read_text().splitlines()) > wanted, seconds=wanted + 30, step_seconds=0.2)
        lines = [float(line) for line in path.read_text().splitlines()]
        with closing(Reader(here.store)) as reader:
            due = sorted(row.due_at_us / 1e6 for row in reader.runs(limit=10_000) if row.due_at_us is not None)
            made = [(row.created_at_us - row.due_at_us) / 1e3 for row in reader.runs(limit=10_000) if row.due_at_us]
    # A run starts within a second of its due time, else this would not find its own.
    late = [(at - max(moment for moment in due if moment <= at)) * 1000 for at in lines[1:]]
    early = [at for at, moment in zip(lines, due, strict=False) if at < moment]
    half, most = median(late), percentile(late, 0.95)
    note = f"max {max(late):.1f}, n={len(late)}, before its time: {len(early)}; row made p50 {median(made):.1f}"
    for word, figure, budget, text in (("p50", half, 20, note), ("p95", most, 50, "")):
        yield Measure(
            "schedule_latency", f"due → first line of the flow, {word}", figure, "ms", budget=f"≤ {budget} ms",
            passed=figure <= budget, note=text,
        )  # fmt: skip
