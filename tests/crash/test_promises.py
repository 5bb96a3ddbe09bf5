"""The README's promises I1–I10, each shown once on real processes through the command line, kills included.

The random sweep of faults looks for what these do not think of; here each promise has one plain story.
"""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flowdeck.store.reader import Reader
from flowdeck.store.states import is_terminal

FLOWDECK = [sys.executable, "-P", "-m", "flowdeck"]
FLOWS = '''
import os
import signal
import subprocess
import time
from pathlib import Path

from flowdeck import Interval, flow, get_run_logger, task

HERE = Path(__file__).resolve().parent


def note(text):
    with open(HERE / "notes", "a") as file:
        file.write(text + "\\n")


@task
def step(number):
    note(f"step {number}")
    return number


@task
def wait_for_file(name):
    note(f"waiting {os.getpid()}")
    while not (HERE / name).exists():
        time.sleep(0.01)


@flow
def steps(count: int = 3):
    for number in range(count):
        step(number)
    wait_for_file("go")
    note("end")


@flow(crash_retries=0)
def waits():
    wait_for_file("go")


@flow
def with_child():
    child = subprocess.Popen(["sleep", "1000"])
    note(f"child {child.pid}")
    wait_for_file("never")


@flow(crash_retries=0)
def talks(lines: int = 500):
    for number in range(lines):
        get_run_logger().info("line %d", number)
        print(f"printed {number}", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


@flow(schedule=Interval(1, catchup="all", overlap="allow"))
def ticks():
    pass
'''


class Box:
    """A folder with flows, a store, and at most one daemon."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.file = folder / "flows.py"
        self.file.write_text(textwrap.dedent(FLOWS))
        self.environment = {**os.environ, "FLOWDECK_STORE": str(self.store)}
        self.started: list[subprocess.Popen[str]] = []
        self.daemon: subprocess.Popen[str] | None = None

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """``flowdeck …`` in the background, in a process group of its own."""
        with open(self.folder / "output", "ab") as output:
            process = subprocess.Popen(
                [*FLOWDECK, *arguments], env=self.environment, stdout=output, stderr=output, text=True,
                start_new_session=True,
            )  # fmt: skip
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``flowdeck …``, waited for."""
        return subprocess.run(
            [*FLOWDECK, *arguments], env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )

    def start_daemon(self) -> subprocess.Popen[str]:
        """A daemon that knows the flows."""
        self.daemon = self.start("daemon", str(self.file))
        eventually(lambda: (self.store / "telemetry.db").exists() and self.ask(lambda reader: reader.daemon()))
        eventually(lambda: self.ask(lambda reader: reader.deployments()))
        return self.daemon

    def kill_daemon(self) -> None:
        """SIGKILL, as an out-of-memory killer would."""
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait()

    def submit(self, flow: str, *arguments: str) -> int:
        """The number of a new run."""
        done = self.run("submit", flow, *arguments)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    def ask(self, question: Callable[[Reader], Any]) -> Any:
        """An answer from the records."""
        with Reader(self.store) as reader:
            return question(reader)

    def state(self, run_id: int) -> str:
        """The state's name."""
        row = self.ask(lambda reader: reader.run(run_id))
        return str(row.state_name)

    def notes(self, beginning: str = "") -> list[str]:
        """What the flows noted outside the store."""
        path = self.folder / "notes"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.removeprefix(beginning).strip() for line in lines if line.startswith(beginning)]

    def go(self) -> None:
        """Let what waits go on."""
        (self.folder / "go").touch()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A box whose processes end with the test, and whose store is then sound (I9) and tells its history (I10)."""
    made = Box(tmp_path)
    yield made
    for process in made.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if (made.store / "state.db").exists():
        for lease in made.ask(lambda reader: reader.leases()):
            if lease.process_group and is_alive(lease.pid):
                os.killpg(lease.process_group, signal.SIGKILL)
                eventually(lambda pid=lease.pid: not is_alive(pid))
        assert_sound(made.store)
        assert_events_tell_the_tables(made.store)


def eventually(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait until the condition holds; what it gave."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and is not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def assert_sound(store: Path) -> None:
    """I9: SQLite finds both files intact."""
    for name in ("state.db", "telemetry.db"):
        with closing(sqlite3.connect(store / name)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


States = dict[tuple[int, int | None], tuple[str | None, str | None]]


def assert_events_tell_the_tables(store: Path) -> None:
    """I10: going through the events from the first to the last ends in the states the tables have."""

    def seen(reader: Reader) -> tuple[States, States]:
        told: States = {}
        for event in reader.events(limit=100_000):
            if event.kind == "state" and event.run_id is not None:
                told[event.run_id, event.task_seq] = (event.to_type, event.to_name)
        now: States = {}
        for run in reader.runs(limit=10_000, roots_only=False):
            now[run.id, None] = (run.state_type, run.state_name)
            now.update({(run.id, task.seq): (task.state_type, task.state_name) for task in reader.tasks(run.id)})
        return told, now

    with Reader(store) as reader:
        version = None
        while version != (version := reader.data_version()):  # until no run that lives on wrote meanwhile
            told, now = seen(reader)
    assert told == now


def test_i1_an_acknowledged_run_exists(box: Box) -> None:
    """The number that submit printed is a run, also when the daemon is killed at once; the next daemon runs it."""
    box.start_daemon()
    box.go()
    run_id = box.submit("steps")
    box.kill_daemon()
    assert box.ask(lambda reader: reader.run(run_id)) is not None
    box.start_daemon()
    eventually(lambda: box.state(run_id) == "Completed")


def test_i2_an_ended_run_is_left_only_by_a_recorded_request(box: Box) -> None:
    """Cancelling or pausing what has ended is refused with exit code 4; a retry is allowed, and an event says who."""
    box.go()
    assert box.run("run", f"{box.file}:waits").returncode == 0
    for command in ("cancel", "pause", "resume", "freeze"):
        assert box.run(command, "1").returncode == 4
    assert box.state(1) == "Completed"
    assert box.run("retry", "1").returncode == 0
    retried = [event for event in box.ask(lambda reader: reader.events(run_id=1)) if event.from_type == "COMPLETED"]
    assert [(event.to_type, "via cli" in event.actor) for event in retried] == [("SCHEDULED", True)]


def test_i3_a_finished_task_does_not_run_again(box: Box) -> None:
    """A run killed after three tasks goes on by itself; each of the three ran once."""
    box.start_daemon()
    run_id = box.submit("steps")
    pid = int(eventually(lambda: box.notes("waiting "))[0])
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(box.notes("waiting ")) == 2)
    box.go()
    eventually(lambda: box.state(run_id) == "Completed")
    assert box.notes("step ") == ["0", "1", "2"]
    assert box.ask(lambda reader: reader.run(run_id)).attempt == 2


def test_i4_one_process_for_an_attempt(box: Box) -> None:
    """Two people retry the same run at the same moment: one process takes it, the other is refused."""
    process = box.start("run", f"{box.file}:waits")
    eventually(lambda: box.notes("waiting "))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    box.start_daemon()
    eventually(lambda: box.state(1) == "Crashed")
    box.kill_daemon()
    rivals = [box.start("retry", "--here", "1") for _ in range(2)]
    eventually(lambda: len(box.notes("waiting ")) == 2 and any(rival.poll() is not None for rival in rivals))
    box.go()
    codes = sorted(rival.wait(30) for rival in rivals)
    assert codes[0] == 0
    assert codes[1] != 0
    assert len(box.notes("waiting ")) == 2


def test_i5_each_tick_makes_one_run(box: Box) -> None:
    """A daemon killed twice among ticks of one second: no tick has two runs, and with catch-up none is missing."""
    for _ in range(2):
        box.start_daemon()
        before = len(box.ask(lambda reader: reader.runs(flow="ticks")))
        eventually(lambda before=before: len(box.ask(lambda reader: reader.runs(flow="ticks"))) >= before + 2)
        box.kill_daemon()
    box.start_daemon()
    eventually(lambda: len(box.ask(lambda reader: reader.runs(flow="ticks"))) >= 6)
    due = sorted(run.due_at_us for run in box.ask(lambda reader: reader.runs(flow="ticks")))
    assert due == [due[0] + 1_000_000 * number for number in range(len(due))]


def test_i6_a_dead_run_does_not_stay_running(box: Box) -> None:
    """A run whose process was killed while no daemon lived is Crashed two seconds after a daemon starts."""
    process = box.start("run", f"{box.file}:waits")
    eventually(lambda: box.notes("waiting ") and box.state(1) == "Running")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert box.state(1) == "Running"
    box.start_daemon()
    eventually(lambda: box.state(1) == "Crashed", seconds=2.0)
    assert box.ask(lambda reader: reader.run(1)).cause


def test_i7_no_process_of_a_cancelled_run_stays(box: Box) -> None:
    """A cancelled run's process ends, and so does the child it started."""
    box.start_daemon()
    run_id = box.submit("with_child")
    worker = int(eventually(lambda: box.notes("waiting "))[0])
    child = int(box.notes("child ")[0])
    assert is_alive(child)
    assert box.run("cancel", str(run_id)).returncode == 0
    eventually(lambda: box.state(run_id) == "Cancelled")
    eventually(lambda: not is_alive(child) and not is_alive(worker), seconds=5.0)


@pytest.mark.parametrize("how", ["under a daemon", "as a script"])
def test_i7_cancelled_means_that_every_process_is_gone(box: Box, how: str) -> None:
    """At the moment the record says Cancelled no child of the run is alive, whoever started the run."""
    if how == "as a script":
        box.start("run", f"{box.file}:with_child")
        run_id = 1
    else:
        box.start_daemon()
        run_id = box.submit("with_child")
    eventually(lambda: box.notes("waiting "))
    child = int(box.notes("child ")[0])
    assert box.run("cancel", str(run_id)).returncode == 0
    eventually(lambda: box.state(run_id) == "Cancelled")
    assert not is_alive(child)


def test_i8_what_was_logged_before_a_kill_is_stored_in_order(box: Box) -> None:
    """A run that kills itself right after its last line leaves every line, logged and printed, in order."""
    box.start_daemon()
    run_id = box.submit("talks")
    eventually(lambda: box.state(run_id) == "Crashed")
    eventually(lambda: box.ask(lambda reader: reader.log_count(run_id)) >= 1000)
    messages = [line.message for line in box.ask(lambda reader: reader.logs(run_id, 0, 10_000))]
    for word in ("line", "printed"):
        numbers = [int(match[1]) for message in messages if (match := re.fullmatch(rf"{word} (\d+)", message))]
        assert numbers == list(range(500))


def test_i9_and_i10_hold_whatever_is_killed(box: Box) -> None:
    """Kills of daemon and runs at odd moments: both databases stay intact and the events tell the tables."""
    for round_number in range(4):
        daemon = box.start_daemon()
        box.submit("steps", "-p", f"count={5 * round_number}")
        eventually(lambda: box.ask(lambda reader: [run for run in reader.runs() if run.state_type == "RUNNING"]))
        for lease in box.ask(lambda reader: reader.leases()):
            if lease.run_id is not None and round_number % 2:
                os.kill(lease.pid, signal.SIGKILL)
        assert daemon.poll() is None
        box.kill_daemon()
        assert_sound(box.store)
        assert_events_tell_the_tables(box.store)
    box.go()
    box.start_daemon()
    eventually(lambda: all(
        is_terminal(run.state_type) for run in box.ask(lambda reader: reader.runs(flow="steps"))
    ))  # fmt: skip
    assert {run.state_name for run in box.ask(lambda reader: reader.runs(flow="steps"))} == {"Completed"}
