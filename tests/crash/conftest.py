"""A store with the crash tests' flows, real daemons and scripts on it, and a seed that says which faults were made."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flowdeck.engine.control.control import Control
from flowdeck.store.opening import open_store
from flowdeck.store.reader import Reader
from flowdeck.store.rows import RunRow

from .invariants import Effects, is_alive, rows

FLOWDECK = [sys.executable, "-P", "-m", "flowdeck"]


def rounds() -> int:
    """How many faults to make: ``FLOWDECK_CRASH_ROUNDS``, by default few enough for every change."""
    return int(os.environ.get("FLOWDECK_CRASH_ROUNDS", "6"))


def make_seed() -> int:
    """``FLOWDECK_CRASH_SEED`` to repeat a failure's choices, else a new one."""
    return int(os.environ.get("FLOWDECK_CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)


class Field:
    """A folder with the flows, a store and the processes of one round."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.store = root / "store"
        self.file = root / "pipeline.py"
        self.file.write_text((Path(__file__).parent / "pipeline.py").read_text())
        self.effects = Effects(root / "effects")
        self.effects.path.touch()
        self.processes: list[subprocess.Popen[bytes]] = []
        open_store(self.store)
        self.reader = Reader(self.store)

    def start(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        """A process in a session of its own; what it says is kept in ``output``."""
        with open(self.root / "output", "ab") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd=self.root,
                env={**os.environ, "FLOWDECK_STORE": str(self.store), **environment},
            )  # fmt: skip
        self.processes.append(process)
        return process

    def command(self, flow: str = "pipeline") -> tuple[str, ...]:
        """``python pipeline.py FLOW``."""
        return sys.executable, "-P", str(self.file), flow

    def script(self, flow: str = "pipeline") -> subprocess.Popen[bytes]:
        """``python pipeline.py FLOW``, started."""
        return self.start(*self.command(flow))

    def daemon(self, **environment: str) -> subprocess.Popen[bytes]:
        """A ready daemon on the flows."""
        before = self.output().count("ready:")
        process = self.start(*FLOWDECK, "daemon", str(self.file), **environment)
        self.wait(lambda: self.output().count("ready:") > before or process.poll() is not None)
        assert process.poll() is None, self.output()
        return process

    def submit(self, flow: str, **parameters: Any) -> int:
        """An acknowledged run."""
        with closing(Control(self.store, actor="tester@here via test")) as control:
            return control.trigger(flow, parameters)

    def wait(self, condition: Callable[[], Any], seconds: float = 60.0) -> Any:
        """Until the condition holds; what it gave."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, f"waited {seconds:g} s in vain\n{self.report()}"
            time.sleep(0.002)
        return found

    def run(self, run_id: int) -> RunRow:
        """The run's row as it is now."""
        row = self.reader.run(run_id)
        assert row is not None, f"run #{run_id} is not in the store"
        return row

    def state(self, run_id: int) -> str:
        """The state's name."""
        return self.run(run_id).state_name

    def output(self) -> str:
        """What the processes said."""
        path = self.root / "output"
        return path.read_text(errors="replace") if path.exists() else ""

    def report(self) -> str:
        """What a person wants to see when a round failed."""
        runs = [f"#{run.id} {run.flow_name} {run.state_name} attempt {run.attempt}: {run.cause}"
                for run in self.reader.runs(roots_only=False, limit=1000)
                if run.flow_name != "ticking" or run.state_name != "Completed"]
        query = "SELECT message FROM log WHERE level >= 40 ORDER BY at_us, line"
        errors = rows(self.store, query, database="telemetry")[-30:]
        spool = {path.name: path.stat().st_size for path in (self.store / "spool").glob("*")}
        leases = [(lease.owner, lease.pid) for lease in self.reader.leases()]
        told = [*runs, f"errors: {errors}", f"spool: {spool}", f"leases: {leases}"]
        return "\n".join([*told, f"effects: {self.effects.lines()[-5:]}", self.output()[-3000:]])

    def close(self) -> None:
        """Nothing outlives its round: what still runs on this store is killed, and gone when this returns."""
        self.reader.close()
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        while left := self.living():
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.002)

    def living(self) -> list[int]:
        """Live processes that were started on this store: code hosts and runs, too."""
        mark, found = f"FLOWDECK_STORE={self.store}".encode(), []
        for name in os.listdir("/proc"):
            if name.isdecimal():
                try:
                    environment = Path(f"/proc/{name}/environ").read_bytes()
                except OSError:
                    continue
                if mark in environment.split(b"\0") and is_alive(int(name)):
                    found.append(int(name))
        return found


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    """A ``Field`` for one test."""
    made = Field(tmp_path)
    yield made
    made.close()


@pytest.fixture
def fields(tmp_path: Path) -> Iterator[Callable[[str], Field]]:
    """Makes fields; the one before is closed and removed, so that hundreds of rounds fit on a disk."""
    made: list[Field] = []

    def make(name: str) -> Field:
        if made:
            made[-1].close()
            shutil.rmtree(made[-1].root)
        made.append(Field(tmp_path / name))
        return made[-1]

    yield make
    if made:
        made[-1].close()
