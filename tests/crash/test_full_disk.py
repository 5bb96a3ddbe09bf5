"""A full disk: a run that waits for room ends when it is told to, in whatever way; what can be read is shown."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from flowdeck.store.connection import connect

from ..mounts import mounted
from .conftest import FLOWDECK, Field
from .test_store_faults import fill

pytestmark = [pytest.mark.crash, pytest.mark.timeout(180)]

FLOWS = '''
import ctypes, os, signal, sys, time
from flowdeck import flow, runtime, task

HERE = os.environ["CRASH_HERE"]

@task
def step(number):
    with open(os.path.join(HERE, "effects"), "a") as file:
        file.write(f"begin step-{number}\\n")
    return "x" * 2000

@flow
def steps():
    """Its results wait for room."""
    number = 0
    while True:
        step(number)
        print(f"line {number}")
        number += 1

@flow
def loud():
    """What it prints waits for room, also on its way out."""
    print("begun", flush=True)
    while not os.path.exists(os.path.join(HERE, "begin")):
        time.sleep(0.005)
    try:
        while True:
            print("x" * 500)
    finally:
        print("bye")

@flow
def quiet():
    """Nothing of it waits until it is told to end."""
    print("asleep", flush=True)
    while True:
        time.sleep(0.05)

@flow(retries=1)
def stubborn():
    """C code that holds the interpreter, in the second attempt of its process."""
    if runtime.flow_run.run_count == 1:
        raise ValueError("again")
    print("asleep", flush=True)
    while not os.path.exists(os.path.join(HERE, "begin")):
        time.sleep(0.005)
    ctypes.PyDLL(None).sleep(300)

@flow
def brief():
    """Ends at once."""
    print("done")

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    globals()[sys.argv[1]]()
'''


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Three megabytes; needs root, which CI has."""
    place = tmp_path / "disk"
    yield from mounted(place, f"mount -t tmpfs -o size=3m tmpfs {place}")


class Full:
    """A run on a full disk."""

    def __init__(self, field: Field, disk: Path, flow: str, **environment: str) -> None:
        self.field, self.disk, self.store = field, disk, disk / "store"
        field.file.write_text(FLOWS)
        self.process = field.start(
            sys.executable, "-P", str(field.file), flow, FLOWDECK_STORE=str(self.store), CRASH_HERE=str(field.root),
            **{"FLOWDECK_CANCEL_GRACE_SECONDS": "2", **environment})
        if flow == "steps":
            field.wait(lambda: len(field.effects.lines()) > 20)
        elif flow == "loud":
            field.wait(lambda: self.store.exists() and "begun" in self.cli("logs", "1").stdout)
            (field.root / "begin").touch()
            written = self.store / "spool" / "1.1.rec"
            field.wait(lambda: written.exists() and written.stat().st_size > 50_000)
        else:
            field.wait(lambda: self.store.exists() and "asleep" in self.cli("logs", "1").stdout)
        self.ballast = fill(disk)
        if flow == "stubborn":
            (field.root / "begin").touch()
        if flow in ("quiet", "stubborn"):
            return
        field.wait(self.stands_still)

    def stands_still(self) -> bool:
        """Whether the run says that it waits, or its output grows no more."""
        if (self.disk / "ballast").exists():
            with open(self.ballast, "ab", buffering=0) as file:
                try:
                    while True:
                        file.write(b"\0" * 64)
                except OSError:
                    pass
        return os.statvfs(self.disk).f_bavail == 0

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One command on the store."""
        return subprocess.run([*FLOWDECK, "--store", str(self.store), *words], capture_output=True, text=True,
                              check=False, timeout=60)

    def state(self) -> str:
        """The run's state as a listing says it."""
        return self.cli("ls").stdout.splitlines()[1]


@pytest.mark.parametrize("words", [["cancel", "1"], ["cancel", "--now", "1"]], ids=" ".join)
def test_a_stubborn_run_on_a_full_disk_ends_all_the_same(field: Field, disk: Path, words: list[str]) -> None:
    """Its guard sees the cancellation, too, and gives it the grace, or none."""
    full = Full(field, disk, "stubborn", FLOWDECK_CANCEL_GRACE_SECONDS="600" if "--now" in words else "1")
    done = full.cli(*words)
    assert done.returncode == 0, done.stderr
    assert "told to end" in done.stdout
    assert full.process.wait(60) == -signal.SIGKILL, field.output()[-2000:]
    full.ballast.unlink()
    assert "Cancelled" in full.state()
    assert not list((full.store / "spool").glob("*.cancel"))


@pytest.mark.parametrize("flow", ["steps", "loud", "quiet"])
@pytest.mark.parametrize("way", ["SIGINT", "SIGTERM", "cancel"])
def test_a_run_that_waits_for_room_ends_when_it_is_told_to(field: Field, disk: Path, flow: str, way: str) -> None:
    """Within the grace, with an exit code that says which; with room again its record says so, too."""
    full = Full(field, disk, flow)
    if way == "cancel":
        done = full.cli("cancel", "1")
        assert done.returncode == 0, done.stderr
        assert "told to end" in done.stdout or "cancel" in done.stdout
    else:
        full.process.send_signal(getattr(signal, way))
    code = full.process.wait(30)
    assert code in ((130,) if way != "SIGTERM" else (143, 5, 1, -15)), field.output()[-2000:]
    full.ballast.unlink()
    if way == "cancel":
        assert "Cancelled" in full.state()
    else:
        assert "Cancelled" in full.state() or "Crashed" in full.state()
    if flow == "loud":
        assert full.cli("logs", "1", "-n", "1").returncode == 0
    assert not list((full.store / "spool").glob("*.cancel"))


def test_what_can_be_read_is_shown_with_the_reason(field: Field, disk: Path) -> None:
    """``ls`` and ``show`` say why the run stands still; ``logs`` has its lines, stored or not."""
    full = Full(field, disk, "steps")
    for words in (("ls",), ("show", "1")):
        done = full.cli(*words)
        assert done.returncode == 0, done.stderr
        assert "the disk of its store is full" in done.stdout
    done = full.cli("logs", "1")
    assert done.returncode == 0, done.stderr
    numbers = [line.rpartition("line ")[2] for line in done.stdout.splitlines() if "line " in line]
    assert numbers == [str(number) for number in range(len(numbers))]
    assert len(numbers) >= 20
    full.ballast.unlink()
    field.wait(lambda: "the disk of its store is full" not in full.cli("ls").stdout)
    count = len(field.effects.lines())
    field.wait(lambda: len(field.effects.lines()) > count or full.process.poll() is not None)
    assert full.process.poll() is None, field.output()[-2000:]


def test_runs_are_shown_where_nobody_can_open_the_file_of_lines(field: Field, disk: Path) -> None:
    """What its readers share is a file, and there is no room for one: only lines cannot be read."""
    store = disk / "store"
    field.file.write_text(FLOWS)
    ended = field.start(sys.executable, "-P", str(field.file), "brief", FLOWDECK_STORE=str(store),
                        CRASH_HERE=str(field.root))
    assert ended.wait(60) == 0, field.output()
    ls, logs = [[*FLOWDECK, "--store", str(store), *words] for words in (("ls",), ("logs", "1"))]
    with closing(connect(store, "state", readonly=True)):
        fill(disk)
        assert not (store / "telemetry.db-shm").exists()
        done = subprocess.run(ls, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "Completed" in done.stdout
        done = subprocess.run(logs, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 5
        assert "telemetry.db: the disk is full" in done.stderr
        assert "Traceback" not in done.stderr
