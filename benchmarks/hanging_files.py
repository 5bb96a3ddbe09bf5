"""1,000 flow files of which 10 hang at import: how soon the schedules of the others fire, and what a new one waits.

A daemon knows its files from the store: what is unchanged is scheduled at once, and its host is made in the background
or when a run of it is due. The store is filled as a daemon of before would have left it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from flowdeck.engine.daemon.registration import Found, register
from flowdeck.engine.schedules.kinds import to_json
from flowdeck.engine.schedules.schedule import Interval
from flowdeck.engine.system.flow_files import source_hash
from flowdeck.store.connection import connect
from flowdeck.store.opening import open_store

from .measure import FLOWDECK, Bench, Measure, bench

GOOD = """
import os, time
from flowdeck import Interval, flow

@flow(schedule=Interval({seconds}, slug="often"))
def good{number}():
    with open(os.path.join(os.environ["FLOWDECK_BENCH"], "lines"), "a") as file:
        file.write(f"{{time.time()}} {number}\\n")
"""
HANGING = """
import time
from flowdeck import Interval, flow
time.sleep(10**6)

@flow(schedule=Interval({seconds}, slug="often"))
def bad{number}():
    pass
"""


OFTEN = 5
"""So many of the good files have a tick each second; the others, as those that hang, once a day."""


def fill(here: Bench, files: dict[Path, int]) -> None:
    """The rows of these files, each with one schedule of so many seconds."""
    open_store(here.store)
    with closing(connect(here.store, "state")) as state:
        for path, seconds in files.items():
            register(
                state, [Found(str(path), source_hash(str(path)), [{
                    "name": path.stem, "description": None, "parameters": "{}", "parameters_schema": "{}", "tags": "[]",
                    "concurrency_limit": None, "collision_strategy": None,
                    "schedules": [{
                        "slug": "often", "kind": "interval", "spec": to_json(Interval(seconds)), "parameters": "{}",
                        "catchup": "latest", "catchup_window_seconds": 86400.0, "overlap": "skip", "active": True,
                    }],
                }])], {}, time.time_ns() // 1000,
            )  # fmt: skip


def run(*, quick: bool) -> Iterator[Measure]:
    count, hanging = (100, 10) if quick else (1000, 10)
    for known in (True, False):
        yield from serve(count, hanging, known=known)


def serve(count: int, hanging: int, *, known: bool) -> Iterator[Measure]:
    """A daemon's first moments with so many files, which the store knows from before or not."""
    with bench() as here:
        lines = here.root / "lines"
        lines.touch()
        folder = here.root / "flows"
        folder.mkdir()
        files: dict[Path, int] = {}
        for number in range(count):
            name, text = ("bad", HANGING) if number < hanging else ("good", GOOD)
            path = folder / f"{name}{number}.py"
            files[path] = 1 if number >= count - OFTEN else 86_400
            path.write_text(text.format(number=number, seconds=files[path]))
        if known:
            fill(here, files)
        begun = time.monotonic()
        process = here.start([*FLOWDECK, "daemon", str(folder)])
        try:
            if not known:
                here.wait(lambda: loaded(here, folder) == count - hanging, seconds=600, step_seconds=0.05)
                all_loaded = time.monotonic() - begun
            here.wait(lambda: "ready:" in here.output() or process.poll() is not None, step_seconds=0.01)
            ready = time.monotonic() - begun
            here.wait(lambda: len({line.split()[1] for line in lines.read_text().splitlines()}) == OFTEN,
                      step_seconds=0.01)
            fired = time.monotonic() - begun
            new = folder / "anew.py"
            new.write_text(GOOD.format(number=count, seconds=86_400))
            added = time.monotonic()
            here.wait(lambda: f"loaded {new}" in here.output(), seconds=600, step_seconds=0.02)
            seen = time.monotonic() - added
            had = loaded(here, folder)
        finally:
            process.terminate()
            process.wait()
    what = f"{count:,} {'known' if known else 'new'} files, {hanging} hang at import"
    if known:
        yield Measure("hanging_files", f"{what}: ready after", ready, "s", budget="≤ 3 s", passed=ready <= 3,
                      note="from the daemon's start; all that are unchanged are scheduled, hosts are made when needed")
    else:
        yield Measure("hanging_files", f"{what}: the others are loaded after", all_loaded, "s", budget="≤ 3 s",
                      passed=all_loaded <= 3, note="from the daemon's start; each imported in a process of its own")
    yield Measure("hanging_files", f"{what}: {OFTEN} due each second have run after", fired, "s",
                  budget="≤ 3 s" if known else "", passed=fired <= 3 if known else None,
                  note="from the daemon's start, with the import of each")
    yield Measure("hanging_files", f"{what}: another new one beside them is loaded after", seen, "s",
                  note=f"{had} of {count + 1:,} had been loaded by then")


def loaded(here: Bench, folder: Path) -> int:
    """How many files the daemon says that it has loaded."""
    return sum(f" loaded {folder}" in line for line in here.output().splitlines())
