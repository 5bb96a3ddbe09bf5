"""``python -m benchmarks.peers [--quick] [--json]``: overhead per task, side by side, in interleaved rounds.

Each peer is installed once into an environment of its own under ``build/peers``. All contenders stay up; each round
asks one after the other, so that a slow moment of the machine hits all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..__main__ import machine
from ..measure import median

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parent.parent / "build" / "peers"
PACKAGES = {
    # The newest fastapi breaks this server at its start.
    "prefect": ("prefect==3.8.8", "fastapi==0.139.0"),
    "dbos": ("dbos==3.4.0",),
    "huey": ("huey==3.5.4",),
}


class Contender(NamedTuple):
    """One who runs the tasks. ``guarantee`` says what stands on disk when a task's call has returned."""

    name: str
    script: str
    environment: str | None
    argument: str
    guarantee: str


FLOOR = Contender(
    "floor", "run_floor.py", None, "",
    "row, two events and result in one fsynced commit (submitted: 100 tasks a commit)",
)  # fmt: skip
OURS = Contender(
    "Flowdeck", "run_flowdeck.py", None, "", "row, two events and result, fsynced (WAL, FULL)",
)  # fmt: skip
PEERS = (
    Contender("Prefect", "run_prefect.py", "prefect", "plain",
              "nothing: states are on their way to the server (WAL, NORMAL: no fsync per commit); no results kept"),
    Contender("Prefect, results kept", "run_prefect.py", "prefect", "persisted",
              "the result in a file, not fsynced; states as above"),
    Contender("DBOS", "run_dbos.py", "dbos", "delete",
              "the step's result, fsynced (rollback journal, FULL: its default)"),
    Contender("DBOS, WAL by hand", "run_dbos.py", "dbos", "wal", "the step's result, fsynced (WAL, FULL)"),
    Contender("Huey", "run_huey.py", "huey", "",
              "queue and result, fsynced (WAL, FULL); a result is removed when read, a task in work is lost by a kill"),
)  # fmt: skip
KINDS = ("sequential", "submitted")


class Process:
    """A contender that runs."""

    def __init__(self, contender: Contender, folder: Path) -> None:
        self.contender = contender
        folder.mkdir()
        self._log = folder / "output"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environment["FLOWDECK_STORE"] = str(folder / "store")
        if contender.environment is not None:
            environment.pop("PYTHONPATH", None)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [interpreter(contender.environment), str(HERE / contender.script), str(folder), contender.argument],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, cwd=folder, text=True,
            )  # fmt: skip
        self.settings = self._answer()

    def round(self, kind: str, count: int) -> dict[str, Any]:
        """The figures of ``count`` tasks."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kind} {count}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise RuntimeError(f"{self.contender.name} ended:\n{self._log.read_text(errors='replace')[-3000:]}")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """Nothing of it is left."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def interpreter(environment: str | None) -> str:
    """The Python of a peer's environment, made first where need be; ours for None."""
    if environment is None:
        return sys.executable
    folder, packages = ENVIRONMENTS / environment, PACKAGES[environment]
    stamp = folder / "installed"
    if not stamp.exists() or stamp.read_text() != " ".join(packages):
        print(f"installing {' '.join(packages)} …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run(
            [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
             *packages], check=True, stdout=sys.stderr,
        )  # fmt: skip
        stamp.write_text(" ".join(packages))
    return str(folder / "bin" / "python")


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Where all stores are, on one disk; ``FLOWDECK_BENCH_FOLDER`` chooses it."""
    root = Path(tempfile.mkdtemp(prefix="flowdeck-peers-", dir=os.environ.get("FLOWDECK_BENCH_FOLDER")))
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


Figures = dict[str, dict[str, list[dict[str, Any]]]]
"""By kind and contender, one for each round."""


def measure(contenders: Sequence[Contender], rounds: int, count: int) -> tuple[Figures, dict[str, Any]]:
    """All rounds, after a smaller one of each kind that warms up."""
    figures: Figures = {kind: defaultdict(list) for kind in ("row", *KINDS)}
    with temporary_folder() as root, ExitStack() as running:
        processes = []
        for number, contender in enumerate(contenders):
            interpreter(contender.environment)  # not within the contender's start
            processes.append(Process(contender, root / str(number)))
            running.callback(processes[-1].close)
        for number in range(rounds + 1):
            for kind in KINDS:
                for process in processes:
                    kinds = ("row", kind) if process.contender is FLOOR and kind == "sequential" else (kind,)
                    for each in kinds:
                        found = process.round(each, count if number else 50)
                        if number:
                            figures[each][process.contender.name].append(found)
            print(f"round {number} of {rounds}", file=sys.stderr)
        settings = {process.contender.name: process.settings for process in processes}
    return figures, settings


def table(figures: Figures, contenders: Sequence[Contender], count: int) -> Iterator[str]:
    """Lines of Markdown. A ratio is that of the same round; the median of all is shown."""
    kinds = [head for kind in KINDS for head in (f"{kind}, ms a task", "× ours")]
    yield f"| | {' | '.join(kinds)} | in the store at return | what that means |"
    yield "|---|---:|---:|---:|---:|---:|---|"
    ours = {kind: [found["seconds"] for found in figures[kind][OURS.name]] for kind in KINDS}
    floor_row = [found["seconds"] for found in figures["row"][FLOOR.name]]
    ratio = median([row / our for row, our in zip(floor_row, ours["sequential"], strict=True)])
    yield (f"| floor: one row a commit | {1000 * median(floor_row) / count:.3f} | {ratio:.2f} | | | | "
           "one row, fsynced (WAL, FULL) |")  # fmt: skip
    for contender in contenders:
        cells = [contender.name if contender is not FLOOR else "floor: a task's record by hand"]
        for kind in KINDS:
            cells += _cells([found["seconds"] for found in figures[kind][contender.name]], ours[kind], count)
        found_at_return = [found["stored_at_return"] for kind in KINDS for found in figures[kind][contender.name]]
        least, most = min(found_at_return), max(found_at_return)
        shown = "all" if least == count else f"{least}–{most} of {count}"
        if contender.name == "Huey":
            shown = "none: read results are removed"
        yield f"| {' | '.join([*cells, shown, contender.guarantee])} |"
        if least < count:
            cells = [f"{contender.name}: until all is in the store"]
            for kind in KINDS:
                cells += _cells([found["stored_seconds"] for found in figures[kind][contender.name]], ours[kind], count)
            yield f"| {' | '.join([*cells, 'all', 'states and rows in the server’s SQLite file'])} |"


def _cells(seconds: list[float | None], ours: list[float], count: int) -> list[str]:
    """Milliseconds a task and the ratio; a dash when some round never had all records."""
    known = [value for value in seconds if value is not None]
    if len(known) < len(ours):
        return ["never", "–"]
    ratio = median([value / our for value, our in zip(known, ours, strict=True)])
    return [f"{1000 * median(known) / count:.3f}", f"{ratio:.1f}" if ratio >= 2 else f"{ratio:.2f}"]


def main() -> int:
    """Exit code 0; a contender that breaks raises."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two small rounds: a first look, not figures to quote")
    parser.add_argument("--json", action="store_true", help="every figure to stdout instead of the table")
    arguments = parser.parse_args()
    contenders = (FLOOR, OURS, *PEERS)
    rounds, count = (2, 100) if arguments.quick else (5, 500)
    figures, settings = measure(contenders, rounds, count)
    if arguments.json:
        print(json.dumps({"count": count, "figures": figures, "settings": settings}, indent=1))
        return 0
    print(f"{rounds} interleaved rounds of {count} no-op tasks each; medians\n")
    print("\n".join(table(figures, contenders, count)))
    print(f"\nversions: {', '.join(sorted(' '.join(packages) for packages in PACKAGES.values()))}")
    print("settings found: " + "; ".join(f"{name} {found}" for name, found in settings.items() if found))
    print(machine())
    return 0


if __name__ == "__main__":
    sys.exit(main())
