"""100,000 mapped tasks in one run while somebody reads along: the console on the unfolded tree of that very run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from .measure import FLOWDECK, PYTHON, REPORT, Bench, Measure, bench, median, percentile, spread
from .terminal import Terminal

SCRIPT = REPORT + """
import sys, time
from flowdeck import flow, task

@task
def step(number):
    return number

@flow
def mapping(count: int):
    step.map(range(200)).wait()
    begun = time.perf_counter()
    step.map(range(count)).wait()
    return count / (time.perf_counter() - begun)

report(rate=mapping(int(sys.argv[1])))
"""
CURSOR = "▌"
KEY_SECONDS = 0.25


def cursor(display: list[str]) -> object:
    """Where the cursor is: its line on the screen and what that line names."""
    return next(((number, line[:30]) for number, line in enumerate(display) if CURSOR in line[:2]), None)


def watched(here: Bench, count: int) -> tuple[float, list[float], float]:
    """While the console is open on the run: tasks a second, milliseconds from keys to paint, kilobytes a second."""
    process = here.start([*PYTHON, str(here.script("mapping.py", SCRIPT)), str(count)])
    here.wait(lambda: (here.store / "state.db").exists())
    terminal = Terminal([*FLOWDECK, "tui"], {**os.environ, **here.environment}, here.root)
    try:
        # Into the run, to the group of the mapped tasks, unfolded.
        for seen, key in (("mapping", b"\r"), ("×200", b"j"), ("step", b"\x1b[C")):
            terminal.see(seen)
            terminal.look(0.5)
            terminal.press(key)
        terminal.see("├─")
        terminal.look(0.5)
        number, since = 0, time.perf_counter()
        while process.poll() is None:
            terminal.press(b"j" if number // 25 % 2 == 0 else b"k")
            number += 1
            terminal.look(KEY_SECONDS)
    finally:
        terminal.close()
        process.wait()
    waits = [1000 * wait for wait in terminal.waits(since, cursor)]
    came = sum(len(data) for at, data in terminal.came if at >= since)
    return here.figures()["rate"], waits, came / 1000 / (number * KEY_SECONDS)


def run(*, quick: bool) -> Iterator[Measure]:
    count = 30_000 if quick else 100_000
    with bench() as here:
        alone = here.run(here.script("mapping.py", SCRIPT), str(count))["rate"]
        here.store.rename(here.root / "before")
        rate, waits, kilobytes = watched(here, count)
    slow = percentile(waits, 0.95)
    yield Measure(
        "crowded_run", f"console on {count:,} tasks that run: key → paint", slow, "ms", None, "", None, "p95 ≤ 150 ms",
        slow <= 150, f"p50 {median(waits):.0f} ms, {spread(waits)}; {kilobytes:.1f} KB/s to the terminal",
    )  # fmt: skip
    yield Measure(
        "crowded_run", f"{count:,} mapped tasks in one run, looked at", rate, "/s", alone, "the same, nobody looking",
        alone / rate, "≥ 5,000 /s", rate >= 5000,
    )  # fmt: skip
