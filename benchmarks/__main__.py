"""``python -m benchmarks [NAME…] [--quick] [--json]``: measure and print one table."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sqlite3
import sys
import time

from .measure import Measure

NAMES = (
    "sequential_tasks", "mapped_tasks", "memory", "crowded_run", "subflows", "task_chain", "import_time",
    "first_task", "command_line", "console_start", "log_lines", "masking", "schedule_latency", "cancel_latency",
    "crash_resume", "guard", "replay", "daemon_idle", "worker_processes", "burst", "hanging_files", "waiting",
)  # fmt: skip


def main() -> int:
    """Exit code 0 when every budget is met, 1 when one is missed, 2 for a wrong name, 3 when a benchmark broke."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all when none is given")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a first look, not figures to quote")
    parser.add_argument("--json", action="store_true", help="an array of measures to stdout")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}")
    # An installed Flowdeck has its bytecode beside it; without this each start would compile its modules anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    measures: list[Measure] = []
    broken = False
    for name in arguments.names or NAMES:
        begun = time.perf_counter()
        try:
            found = list(importlib.import_module(f"benchmarks.{name}").run(quick=arguments.quick))
        except Exception as error:
            print(f"{name}: broke: {type(error).__name__}: {error}", file=sys.stderr)
            broken = True
            continue
        print(f"{name}: {time.perf_counter() - begun:.1f} s", file=sys.stderr)
        measures += found
        if not arguments.json:
            for measure in found:
                print(line(measure), flush=True)
    if arguments.json:
        print(json.dumps([measure.as_json() for measure in measures], indent=1))
    else:
        print(machine())
    if broken:
        return 3
    return 1 if any(measure.passed is False for measure in measures) else 0


def line(measure: Measure) -> str:
    """One row: what, floor, ours, ratio, budget, verdict, note."""
    floor = "" if measure.floor is None else f"{number(measure.floor)} {measure.unit}"
    ratio = "" if measure.ratio is None else f"{measure.ratio:.2f}×"
    verdict = {None: "", True: "pass", False: "MISS"}[measure.passed]
    note = "; ".join(text for text in (measure.floor_what and f"floor: {measure.floor_what}", measure.note) if text)
    return (
        f"{measure.what:<52} {floor:>14} {number(measure.ours) + ' ' + measure.unit:>15} {ratio:>8}"
        f"  {measure.budget:<22} {verdict:<4}  {note}"
    )


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def machine() -> str:
    """Where it was measured."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    load = os.getloadavg()[0]
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {memory_gb:.0f} GB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, load {load:.1f}"
    )


if __name__ == "__main__":
    sys.exit(main())
