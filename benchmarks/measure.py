"""What a benchmark reports, and how it measures: floor and ours taken in turn, so that a noisy machine hits both.

Nothing here asserts; a table of figures is all that comes out.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PYTHON = [sys.executable, "-P"]
"""``-P``: the folder of the script or the current one must not lend modules."""
FLOWDECK = [*PYTHON, "-m", "flowdeck"]


@dataclass(frozen=True)
class Measure:
    """One line of the table. Figures carry their unit; ``ratio`` is ours over the floor, both of the same run."""

    benchmark: str
    what: str
    ours: float
    unit: str
    floor: float | None = None
    floor_what: str = ""
    ratio: float | None = None
    budget: str = ""
    passed: bool | None = None
    """None for a figure without a budget."""
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; ``share`` between 0 and 1."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * (len(ordered) - 1))))]


def spread(values: Sequence[float], digits: int = 0) -> str:
    """``[least … most]``, rounded."""
    return f"[{min(values):.{digits}f} … {max(values):.{digits}f}], n={len(values)}"


def pairs(count: int, floor: Callable[[], float], ours: Callable[[], float]) -> tuple[list[float], list[float]]:
    """Measure both in turn, ``count`` times."""
    floors, figures = [], []
    for _ in range(count):
        floors.append(floor())
        figures.append(ours())
    return floors, figures


def seconds_of(command: Sequence[str], *, environment: dict[str, str] | None = None, cwd: Path | None = None) -> float:
    """How long a command takes from its start to its end; raises when it fails."""
    begun = time.perf_counter()
    subprocess.run(
        list(command), check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=cwd,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    return time.perf_counter() - begun


def proportional_megabytes(pid: int) -> float:
    """A process's PSS: its own memory, and of what it shares with others its part. RSS would count that many times."""
    return memory_of(pid, "Pss:")


def private_megabytes(pid: int) -> float:
    """A process's USS: what would be free without it."""
    return memory_of(pid, "Private_Clean:") + memory_of(pid, "Private_Dirty:")


def memory_of(pid: int, what: str) -> float:
    """A line of ``/proc/PID/smaps_rollup``, in megabytes."""
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(row.split()[1]) for row in rows if row.startswith(what)) / 1024


class Bench:
    """A folder with a store and scripts of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = root / "store"
        self.environment = {"FLOWDECK_STORE": str(self.store), "FLOWDECK_BENCH": str(root)}

    def script(self, name: str, text: str) -> Path:
        """A file with this text."""
        path = self.root / name
        path.write_text(text)
        return path

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """A process that goes on; its output is kept in ``output``."""
        with open(self.root / "output", "ab") as output:
            return subprocess.Popen(
                list(command), env={**os.environ, **self.environment}, stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, cwd=self.root, start_new_session=True,
            )  # fmt: skip

    def run(self, path: Path, *arguments: str) -> Any:
        """Run a script that leaves its figures as JSON in ``$FLOWDECK_BENCH/figures``; returns them."""
        process = self.start([*PYTHON, str(path), *arguments])
        if process.wait() != 0:
            raise RuntimeError(f"{path.name} ended with {process.returncode}:\n{self.output()[-4000:]}")
        return self.figures()

    def figures(self) -> Any:
        """What the last script reported."""
        path = self.root / "figures"
        found = json.loads(path.read_text())
        path.unlink()
        return found

    def output(self) -> str:
        """What processes wrote so far."""
        path = self.root / "output"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait(self, condition: Callable[[], Any], seconds: float = 60.0, step_seconds: float = 0.005) -> Any:
        """What the condition gave once it held."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"waited {seconds:g} s in vain\n{self.output()[-4000:]}")
            time.sleep(step_seconds)
        return found

    @contextmanager
    def daemon(self, *paths: Path) -> Iterator[subprocess.Popen[bytes]]:
        """A real ``flowdeck daemon`` that serves these files, ready."""
        process = self.start([*FLOWDECK, "daemon", *map(str, paths)])
        try:
            self.wait(lambda: "ready:" in self.output() or process.poll() is not None)
            if process.poll() is not None:
                raise RuntimeError(f"the daemon ended with {process.returncode}\n{self.output()}")
            yield process
        finally:
            process.terminate()
            process.wait()


@contextmanager
def bench() -> Iterator[Bench]:
    """A ``Bench`` in a new folder, removed afterwards. ``FLOWDECK_BENCH_FOLDER`` chooses the disk."""
    root = Path(tempfile.mkdtemp(prefix="flowdeck-bench-", dir=os.environ.get("FLOWDECK_BENCH_FOLDER")))
    try:
        yield Bench(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


REPORT = """
import json, os
def report(**figures):
    path = os.path.join(os.environ["FLOWDECK_BENCH"], "figures")
    with open(path + ".new", "w") as file:
        json.dump(figures, file)
    os.replace(path + ".new", path)
"""
"""The beginning of scripts that report."""
