"""The disk under a store fills up, or somebody holds its lock for long: runs wait, then go on, and nothing is lost."""

from __future__ import annotations

import random
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ..mounts import mounted
from . import invariants
from .conftest import Field, make_seed, rounds

pytestmark = [pytest.mark.crash, pytest.mark.timeout(180)]

STEADY = '''
import os, time
from flowdeck import flow, get_run_logger, task

HERE = os.environ["CRASH_HERE"]

def effect(text):
    with open(os.path.join(HERE, "effects"), "a") as file:
        file.write(text + "\\n")

@task(task_run_name="step-{number}")
def step(number):
    effect(f"begin step-{number}")
    get_run_logger().info("step %d", number)
    return "x" * 2000 + str(number)

@flow
def steady():
    number = 0
    while not os.path.exists(os.path.join(HERE, "enough")):
        step(number)
        effect(f"returned step-{number}")
        number += 1
        time.sleep(0.005)
    return number

if __name__ == "__main__":
    steady()
'''


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes of its own; needs root, which CI has."""
    place = tmp_path / "disk"
    yield from mounted(place, f"mount -t tmpfs -o size=6m tmpfs {place}")


def fill(disk: Path) -> Path:
    """A file that takes all that is left."""
    path = disk / "ballast"
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            while True:
                try:
                    file.write(b"\0" * size)
                except OSError:
                    break
    return path


def test_a_full_disk_stops_a_run_and_free_space_lets_it_go_on(small_disk: Path, field: Field) -> None:
    """Nothing that was recorded is lost, nothing is acknowledged that was not recorded, and the run completes."""
    field.file.write_text(STEADY)
    store = small_disk / "store"
    process = field.start(*field.command(), FLOWDECK_STORE=str(store), CRASH_HERE=str(field.root))
    field.wait(lambda: len(field.effects.lines()) > 40)
    ballast = fill(small_disk)
    counts = [-1]

    def stands_still() -> bool:
        counts.append(len(field.effects.lines()))
        time.sleep(0.3)
        fill(small_disk)  # a checkpoint may have made room
        return counts[-1] == counts[-2] or process.poll() is not None

    field.wait(stands_still)
    assert process.poll() is None, field.output()[-3000:]
    ballast.unlink()
    still = len(field.effects.lines())
    field.wait(lambda: len(field.effects.lines()) > still + 20 or process.poll() is not None)
    (field.root / "enough").touch()
    assert process.wait(60) == 0, field.output()[-3000:]
    before = invariants.committed(store, 1, field.effects)
    invariants.i3_what_followed_a_call_knows_its_record(before, field.effects)
    assert all(count == 1 for count in field.effects.begun().values())
    invariants.i9_files_are_sound(store)
    invariants.i10_events_tell_the_tables(store)
    invariants.ended_runs_hold_nothing_open(store)
    logged = [message for (message,) in invariants.rows(
        store, "SELECT message FROM log WHERE message LIKE 'step %' ORDER BY line", database="telemetry")]
    missing = [number for number in range(len(field.effects.begun())) if f"step {number}" not in logged]
    assert not missing, f"lines lost: {missing}"
    shutil.rmtree(store)


def hold(store: Path, seconds: float) -> None:
    """Keep the write lock of both files."""
    with closing(sqlite3.connect(store / "state.db", isolation_level=None, timeout=30)) as state:
        state.execute("BEGIN IMMEDIATE")
        with closing(sqlite3.connect(store / "telemetry.db", isolation_level=None, timeout=30)) as telemetry:
            telemetry.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            telemetry.execute("ROLLBACK")
        state.execute("ROLLBACK")


def test_a_lock_held_by_somebody_else_loses_nothing(field: Field) -> None:
    """Runs go on after storms of short locks and after a long one (the long sweep: longer than SQLite waits)."""
    seed = make_seed()
    print(f"FLOWDECK_CRASH_SEED={seed}")
    dice = random.Random(seed)
    process = field.script()
    # What the flow's own code asks of the store gives up after 10 s, in words; what is recorded of a run never does.
    field.wait(lambda: any(limit.name == "narrow" for limit in field.reader.limits()))
    hold(field.store, 11.0 if rounds() > 20 else 2.0)
    stop = threading.Event()

    def storm() -> None:
        while not stop.is_set():
            hold(field.store, dice.random() * 0.05)

    others = [threading.Thread(target=storm) for _ in range(3)]
    for other in others:
        other.start()
    try:
        assert process.wait(90) == 0, field.report()
    finally:
        stop.set()
        for other in others:
            other.join()
    assert field.state(1) == "Completed"
    begun = field.effects.begun()
    assert all(count == (2 if name == "flaky-7" else 1) for name, count in begun.items()), begun
    invariants.i8_what_was_said_is_stored(field.store, 1, field.effects)
    invariants.i9_files_are_sound(field.store)
    invariants.i10_events_tell_the_tables(field.store)
    invariants.ended_runs_hold_nothing_open(field.store)
