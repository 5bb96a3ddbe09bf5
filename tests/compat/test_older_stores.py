"""A store once made stays readable: stores of older versions are listed, resumed, answered and retried by this one.

Each archive in ``stores`` was made by real processes of one version (``stores/make_store.py``). Only the command line
and what user code notes are looked at, so that nothing here changes with what is inside Flowdeck.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .stores.unpacking import ARCHIVES, OldStore, unpack

pytestmark = pytest.mark.xdist_group("stores")
WAIT_SECONDS = 60.0
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class Box:
    """An old store, and commands of this version on it."""

    def __init__(self, old: OldStore, home: Path) -> None:
        self.old = old
        self.runs: dict[str, dict[str, Any]] = {
            run["flow"]: run for run in old.facts["runs"]
            if old.facts["python"] == PYTHON or not run["holds_code"]
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLOWDECK", "XDG_"))}
        homes = {f"XDG_{name}_HOME": str(home / name) for name in ("DATA", "CONFIG", "CACHE", "STATE")}
        self.environment = kept | homes | {"FLOWDECK_STORE": str(old.folder)}

        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A command on the store, which goes on meanwhile."""
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "flowdeck", *words], cwd=self.old.root, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.processes.append(process)
        return process

    def end(self, process: subprocess.Popen[str]) -> str:
        """Wait for a command to end as it should; what it wrote."""
        out, err = process.communicate(timeout=2 * WAIT_SECONDS)
        assert process.returncode == 0, f"{process.args} ended with {process.returncode}: {out}{err}"
        return out

    def start_daemon(self) -> subprocess.Popen[str]:
        """A daemon on the flows; what it says is in a file, which runs that outlive it may hold open."""
        with open(self.old.root / "daemon.log", "w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "flowdeck", "daemon", "flows"], cwd=self.old.root, env=self.environment,
                text=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def close(self) -> None:
        """Nothing outlives the tests, no run either when they failed."""
        live = [str(run["id"]) for run in self.json("ls") if run["ended_at"] is None]
        if live and any(process.poll() is None for process in self.processes):
            self.start("cancel", *live).communicate(timeout=WAIT_SECONDS)
            self.until(lambda: all(run["ended_at"] for run in self.json("ls") if str(run["id"]) in live))
        for process in self.processes:
            process.terminate()
            process.communicate(timeout=WAIT_SECONDS)

    def __call__(self, *words: str) -> str:
        """Run a command to its end; what it wrote."""
        return self.end(self.start(*words))

    def json(self, *words: str) -> Any:
        """What a command says as JSON."""
        return json.loads(self(*words, "--json"))

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until the condition holds; returns what it gave."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not (found := condition()):
            assert time.monotonic() < deadline, f"waited in vain: {self.json('ls')}"
            time.sleep(0.05)
        return found


@pytest.fixture(scope="module", params=ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.gz"))
def archive(request: pytest.FixtureRequest) -> Path:
    """Of one older version."""
    path: Path = request.param
    return path


@pytest.fixture(scope="module")
def opened(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Box:
    """The store as it was left, only to be looked at."""
    folder = tmp_path_factory.mktemp("opened")
    return Box(unpack(archive, folder / "old"), folder / "home")


@pytest.fixture(scope="module")
def gone_on(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Box, list[str]]]:
    """The store after a daemon of this version and people have let every run of it go on; and the effects before."""
    folder = tmp_path_factory.mktemp("gone-on")
    box = Box(unpack(archive, folder / "old"), folder / "home")
    before = box.old.effects()
    (box.old.root / "mended").touch()
    daemon = box.start_daemon()
    try:
        box.until(lambda: box.json("show", str(box.runs["pausing"]["run"]))["state_name"] == "AwaitingInput"
                  and {"kinds", "pausing"} <= {each["flow"] for each in box.json("flows")})  # fmt: skip
        for run in box.runs.values():
            if run["goes_on"] and not run["here"]:
                box(*(word.format(**run) for word in run["goes_on"]))
        served = {run["run"] for run in box.runs.values() if not run["here"]}
        box.until(lambda: served <= {run["id"] for run in box.json("ls", "--state", "completed,failed,crashed")})
        box.until(lambda: any(line.startswith("ticking ran tick of often") for line in box.old.effects()[len(before):]))
        daemon.terminate()
        box.end(daemon)
        here = [box.start(*(word.format(**run) for word in run["goes_on"])) for run in box.runs.values() if run["here"]]
        for process in here:
            box.end(process)
        yield box, before
    finally:
        box.close()


def lines(box: Box, before: list[str], flow: str) -> tuple[list[str], list[str]]:
    """What a flow noted with the older version, and what with this one."""
    both = before, box.old.effects()[len(before):]
    one, other = ([line.removeprefix(f"{flow} ") for line in part if line.startswith(f"{flow} ")] for part in both)
    return one, other


# -- looking -----------------------------------------------------------------------------------------------------------


def test_there_is_a_store_to_read() -> None:
    """The archives are where they are looked for."""
    assert ARCHIVES


def test_everything_is_listed_and_shown(opened: Box) -> None:
    """Runs with their states, tasks and parameters; logs, events, artifacts, variables, limits, flows and schedules."""
    listed = {run["id"]: run for run in opened.json("ls", "--subflows")}
    for run in opened.runs.values():
        # A run without a process is settled by whoever looks first.
        found = {"Crashed", "Rebooted", "Resuming", "Suspended"} if run["state_name"] == "Running" else set()
        assert listed[run["run"]]["flow"] == run["flow"]
        assert listed[run["run"]]["state_name"] in {run["state_name"], *found}
    kinds = opened.json("show", str(opened.runs["kinds"]["run"]))
    assert {"Completed", "Failed"} == {task["state_name"] for task in kinds["tasks"]}
    assert kinds["entrypoint"] == f"{opened.old.root}/flows/kinds.py:kinds"
    assert "not mended yet" in opened("show", str(kinds["id"]))
    assert opened.json("show", str(opened.runs["queued"]["run"]))["parameters"] == {
        "numbers": [1, 2, 3], "city": "Bergen",
    }  # fmt: skip
    killed = str(opened.runs["killed"]["run"])
    messages = [line["message"] for line in opened.json("logs", killed)]
    assert "in flight, the last line before the end" in messages
    assert any(event["kind"] == "state" for event in opened.json("events"))
    assert {artifact["key"] for artifact in opened.json("artifacts")} == {"progress", "report"}
    assert "Oslo" in opened("vars", "--json")
    assert "database" in opened("limits", "--json")
    assert {flow["flow"] for flow in opened.json("flows")} >= {*opened.runs, "ticking"}
    schedules = {schedule["slug"]: schedule for schedule in opened.json("schedules")}
    assert (schedules["yearly"]["when"], schedules["yearly"]["parameters"]) == (
        "cron 0 6 1 1 * (Europe/Oslo)", {"who": "yearly"},
    )  # fmt: skip
    assert schedules["often"]["active"]


def test_it_is_sound(archive: Path, opened: Box, tmp_path: Path) -> None:
    """The doctor finds nothing wrong, migrated or not: a schema that this version reads, files that are whole."""
    untouched = Box(unpack(archive, tmp_path / "old"), tmp_path / "home")
    assert "it backs the store up and migrates it" in untouched("doctor")
    opened("ls")
    assert "it backs the store up and migrates it" not in opened("doctor")


# -- going on ----------------------------------------------------------------------------------------------------------



def test_every_run_completes(gone_on: tuple[Box, list[str]]) -> None:
    """What was suspended, waited, slept, had failed, was queued, or was killed in a task, a rollback or a loop."""
    box, _ = gone_on
    states = {run["id"]: (run["state_name"], run["cause"]) for run in box.json("ls")}
    left = {run["flow"]: states[run["run"]] for run in box.runs.values() if states[run["run"]][0] != "Completed"}
    assert not left


def test_what_had_finished_does_not_run_again(gone_on: tuple[Box, list[str]]) -> None:
    """Only the bodies that had not: each once, in their order; what is cached is a hit."""
    box, before = gone_on
    for flow, run in box.runs.items():
        ran = [line.removeprefix("ran ") for line in lines(box, before, flow)[1] if line.startswith("ran ")]
        # A key that names code is no other Python's, whose names of code are not comparable.
        by_code = ["by hash"] if flow == "cached" and box.old.facts["python"] != PYTHON else []
        assert (flow, ran) == (flow, by_code + run["ran"])


def test_values_are_what_they_were(gone_on: tuple[Box, list[str]]) -> None:
    """Code that runs again gets, for every finished task, the value it had got before, of the same class."""
    box, before = gone_on
    for flow, run in box.runs.items():
        then, now = ([line for line in part if line.startswith("got ")] for part in lines(box, before, flow))
        assert now, flow
        assert ": False)" not in "".join(now)
        if run["replays"] and then:
            attempt = then[len(then) - 1 - then[::-1].index(then[0]):]
            assert now[: len(attempt)] == attempt


def test_loops_go_on_from_what_was_recorded(gone_on: tuple[Box, list[str]]) -> None:
    """The turn that was cut short begins with what the one before had left."""
    box, before = gone_on
    then, now = lines(box, before, "looping")
    assert [line for line in now if line.startswith("got turn 3")] == then[-1:]
    assert now[-1] == "got end (Point: True) = Point(x=5)"


def test_the_logs_say_nothing_of_unreadable_results(gone_on: tuple[Box, list[str]]) -> None:
    """No task runs again because its record could not be read, or is held for that of another call."""
    box, _ = gone_on
    messages = [line["message"] for run in box.runs.values() for line in box.json("logs", str(run["run"]))]
    assert not [message for message in messages if "cannot be read" in message or "not that of" in message
                or "are not those of" in message]  # fmt: skip
