"""What a daemon costs while nothing is due: processor time and memory of it and its code host."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from .measure import Measure, bench

SCRIPT = """
from flowdeck import flow

@flow(schedule="0 6 * * *")
def daily():
    pass
"""


def family(pid: int) -> list[int]:
    """A process and everything below it."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found += family(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    """From the scheduler's own count of nanoseconds; the ticks in ``stat`` are too coarse for an idle process."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def kilobytes(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def run(*, quick: bool) -> Iterator[Measure]:
    seconds = 5 if quick else 30
    with bench() as here, here.daemon(here.script("daily.py", SCRIPT)) as process:
        time.sleep(1.0)
        pids = family(process.pid)
        before = [cpu_seconds(pid) for pid in pids]
        time.sleep(seconds)
        shares = [(cpu_seconds(pid) - old) / seconds * 100 for pid, old in zip(pids, before, strict=True)]
        parts = [(kilobytes(pid, "Rss") / 1024, kilobytes(pid, "Pss") / 1024) for pid in pids]
    each = ", ".join(f"{share:.2f}" for share in shares)
    yield Measure("daemon_idle", "idle daemon with its code host, processor", sum(shares), "%",
                  budget="≤ 0.3 % of a core", passed=sum(shares) <= 0.3, note=f"over {seconds} s, each {each} %")
    shown = ", ".join(f"{rss:.0f}/{pss:.0f}" for rss, pss in parts)
    daemon = parts[0][0]
    yield Measure("daemon_idle", "idle daemon, resident memory", daemon, "MB", budget="≤ 50 MB", passed=daemon <= 50,
                  note=f"each process, resident/proportional: {shown} MB")
