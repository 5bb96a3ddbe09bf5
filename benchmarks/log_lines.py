"""Log lines a run writes until they are stored, none lost, through its logger and through file descriptor 1."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing

from flowdeck.engine.control.control import Control

from .measure import PYTHON, REPORT, Bench, Measure, bench, median, spread

LOGGED = REPORT + """
import logging, sys, time
from flowdeck import flow, get_run_logger, task

@task
def talk(count):
    logger = get_run_logger()
    begun = time.time()
    for number in range(count):
        logger.info("line %d of many, as long as such lines are", number)
    return begun, time.time()

@flow
def talking(count: int):
    file_logger = logging.getLogger("floor")
    file_logger.propagate = False
    handler = logging.FileHandler(os.path.join(os.environ["FLOWDECK_BENCH"], "floor.log"))
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    file_logger.addHandler(handler)
    floor_begun = time.perf_counter()
    for number in range(count):
        # Not by the logger: its records would be the run's as well.
        handler.handle(file_logger.makeRecord(
            "floor", 20, __file__, number, "line %d of many, as long as such lines are", (number,), None))
    floor = count / (time.perf_counter() - floor_begun)
    begun, ended = talk(count)
    report(begun=begun, ended=ended, floor=floor)

if __name__ == "__main__":
    talking(int(sys.argv[1]))
"""
PRINTED = REPORT + """
import sys, time
from flowdeck import flow, task

@task
def talk(count):
    begun = time.time()
    for number in range(count):
        print(f"line {number} of many, as long as such lines are")
    return begun, time.time()

@flow
def talking(count: int):
    file = os.open(os.path.join(os.environ["FLOWDECK_BENCH"], "floor.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    floor_begun = time.perf_counter()
    for number in range(count):
        os.write(file, f"line {number} of many, as long as such lines are\\n".encode())
    floor = count / (time.perf_counter() - floor_begun)
    begun, ended = talk(count)
    report(begun=begun, ended=ended, floor=floor)

if __name__ == "__main__":
    talking(int(sys.argv[1]))
"""
PIPED = REPORT + """
import subprocess, sys, time
from flowdeck import flow, task

def command(count):
    return ["seq", "-f", "line %.0f of many, as long as such lines are", str(count)]

@task
def child(count):
    begun = time.time()
    subprocess.run(command(count), check=True)
    return begun, time.time()

@flow
def piping(count: int):
    floor_begun = time.perf_counter()
    with open(os.path.join(os.environ["FLOWDECK_BENCH"], "floor.log"), "w") as file:
        subprocess.run(command(count), check=True, stdout=file)
    floor = count / (time.perf_counter() - floor_begun)
    begun, ended = child(count)
    report(begun=begun, ended=ended, floor=floor)

if __name__ == "__main__":
    piping(int(sys.argv[1]))
"""


def stored(here: Bench, stream: str) -> tuple[int, bool]:
    """How many lines of a stream are in the store, and whether they stand in the order they were written."""
    with closing(sqlite3.connect(f"file:{here.store}/telemetry.db?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT message FROM log WHERE stream = ? AND message LIKE 'line %' ORDER BY line", (stream,)
        )
        numbers = [int(message.split()[1]) for (message,) in rows]
    return len(numbers), numbers == sorted(numbers)


def one(script: str, flow: str, stream: str, count: int) -> tuple[float, float, float]:
    """Lines a second in a run of a daemon: the floor's, those until the loop ended, those until all were stored."""
    with bench() as here, here.daemon(here.script("talking.py", script)):
        with closing(Control(here.store, actor="bench")) as control:
            control.trigger(flow, {"count": count})
        return measured(here, stream, count)


def one_by_hand(script: str, _flow: str, stream: str, count: int) -> tuple[float, float, float]:
    """As ``one``, started by a person: every line also goes to their terminal."""
    with bench() as here:
        process = here.start([*PYTHON, str(here.script("talking.py", script)), str(count)])
        here.wait((here.store / "telemetry.db").exists)
        try:
            return measured(here, stream, count)
        finally:
            process.wait()


def measured(here: Bench, stream: str, count: int) -> tuple[float, float, float]:
    database = f"file:{here.store}/telemetry.db?mode=ro"
    with closing(sqlite3.connect(database, uri=True)) as connection:

        def all_there() -> float | None:
            found = connection.execute("SELECT max(line) FROM log WHERE stream = ?", (stream,)).fetchone()[0]
            return time.time() if (found or 0) >= count - 1 else None

        at = here.wait(all_there, seconds=120, step_seconds=0.01)
    here.wait((here.root / "figures").exists)
    found = here.figures()
    number, ordered = stored(here, stream)
    if (number, ordered) != (count, True):
        raise RuntimeError(f"{number:,} of {count:,} lines were stored, in order: {ordered}")
    return found["floor"], count / (found["ended"] - found["begun"]), count / (at - found["begun"])


LINES = 50_000
MANY = 500_000


def run(*, quick: bool) -> Iterator[Measure]:
    for what, way, script, flow, stream, count, budget, floor_what in (
        ("log lines through the run's logger, stored", one, LOGGED, "talking", "log", LINES, 50_000, "FileHandler"),
        ("the same, shown in a terminal as well", one_by_hand, LOGGED, "talking", "log", LINES, None, "FileHandler"),
        ("lines printed, in order with what children write, stored", one, PRINTED, "talking", "stdout", LINES, 50_000,
         "os.write of each"),
        ("lines through descriptor 1, stored", one, PIPED, "piping", "stdout", MANY, 100_000, "the same into a file"),
    ):
        rounds = [way(script, flow, stream, count) for _ in range(1 if quick else 5)]
        rates = [stored_rate for _, _, stored_rate in rounds]
        rate, loop = median(rates), median([loop_rate for _, loop_rate, _ in rounds])
        yield Measure(
            "log_lines", what, rate, "/s", median([floor for floor, _, _ in rounds]), floor_what,
            median([floor / ours for floor, _, ours in rounds]), f"≥ {budget:,} /s" if budget else "",
            rate >= budget if budget else None,
            f"{count:,} lines, none lost, in order; written at {loop:,.0f} /s; {spread(rates)}",
        )  # fmt: skip
