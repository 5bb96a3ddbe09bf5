"""What users pass, name and raise at their worst: each ends in a clear state with its cause; nothing else breaks."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from flowdeck import flow, task
from flowdeck.store.reader import Reader


@pytest.fixture(autouse=True)
def _store(store: Path) -> Path:
    return store


def _last(reader: Reader) -> Any:
    run = reader.find("@last")
    assert run is not None
    return run


def test_a_hundred_megabytes_are_a_result_like_any_other(reader: Reader, store: Path) -> None:
    """They lie in a file beside the database, not in it, and a retried flow reads them back."""
    bodies: list[int] = []

    @task
    def large() -> bytes:
        bodies.append(1)
        return b"\x07" * 100_000_000

    tries: list[int] = []

    @flow(retries=1)
    def reads() -> int:
        size = len(large())
        tries.append(size)
        if len(tries) == 1:
            raise ValueError("after it")
        return size

    assert reads() == 100_000_000
    assert (bodies, tries) == ([1], [100_000_000, 100_000_000])
    assert (store / "state.db").stat().st_size < 5_000_000
    stored = reader.result(_last(reader).id, 1)
    assert stored is not None
    assert stored.path is not None
    assert (store / stored.path).stat().st_size >= 100_000_000


def test_an_exception_of_a_million_characters_is_told_in_a_line(reader: Reader) -> None:
    """The cause is short; the log has the first hundred thousand characters and says how many there were."""

    @task
    def shouts() -> None:
        raise ValueError("x" * 1_000_000)

    @flow
    def fails() -> None:
        shouts()

    state = fails(return_state=True)
    assert state.is_failed()
    run = _last(reader)
    assert len(run.cause) <= 300
    assert run.cause.startswith("ValueError: xxx")
    lines = [row.message for row in reader.logs(run.id, 0, 10_000)]
    assert sum(line.count("x") for line in lines) >= 99_000
    assert any("1000" in line and "characters)" in line for line in lines)


NAMES = [
    "ünï→代码 🚀", "line\nbreak", "\x1b[2J\x1b]52;c;eA==\x07clear", "[bold]markup[/] [@click=app.quit]", "a/b/../c",
    "\udc80",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=["unicode", "newline", "escape", "markup", "path", "surrogate"])
def test_any_text_can_be_a_name(reader: Reader, name: str) -> None:
    """Flow, task and run take it; the command line shows it without a control character."""

    @task(name=name, tags=[name])
    def leaf() -> int:
        return 1

    @flow(name=name, flow_run_name=name.replace("[", "(").replace("{", "("))
    def tree() -> int:
        return leaf() + leaf.submit().result()

    assert tree() == 2
    run = _last(reader)
    assert run.state_name == "Completed"
    for words in (["ls"], ["show", str(run.id)], ["flows"]):
        done = subprocess.run(
            [sys.executable, "-m", "flowdeck", *words], capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        shown = done.stdout.decode()
        assert not [sign for sign in shown if sign != "\n" and (ord(sign) < 32 or 127 <= ord(sign) < 160)]


def test_parameters_without_a_json_form_are_shown_and_given(reader: Reader) -> None:
    """A lock cannot be stored: the run has it all the same, and its record shows a text for it."""

    @flow
    def locks(lock: Any, names: set[str]) -> bool:
        with lock:
            return "a" in names

    assert locks(threading.Lock(), {"a"}) is True
    assert "lock" in _last(reader).parameters


def test_results_that_cannot_be_pickled_are_used_and_not_kept(reader: Reader) -> None:
    """The flow goes on with the object; the log says what will run again."""

    @task
    def opens() -> Any:
        return threading.Lock()

    @flow
    def uses() -> bool:
        return bool(opens().acquire(timeout=1))

    assert uses() is True
    run = _last(reader)
    said = [row.message for row in reader.logs(run.id, 0, 100)]
    assert any("opens is not journalled" in line and "cannot be pickled" in line for line in said)


def test_exceptions_that_cannot_be_pickled_or_printed() -> None:
    """They end the task as Failed, and the caller gets the very object."""

    class Mute(Exception):
        def __init__(self, lock: Any) -> None:
            super().__init__()
            self.lock = lock

        def __str__(self) -> str:
            raise RuntimeError("no words")

        __repr__ = __str__

    @task
    def breaks() -> None:
        raise Mute(threading.Lock())

    @flow
    def catches() -> str:
        try:
            breaks()
        except Mute as error:
            return type(error).__name__
        return "nothing"

    assert catches() == "Mute"


def test_a_function_defined_anew_during_the_run_is_the_next_call_of_its_name(reader: Reader) -> None:
    """Two functions of one name are told apart by the order of their calls, also when the flow runs again."""
    ran: list[str] = []
    tries: list[int] = []

    @flow(retries=1)
    def redefines() -> list[int]:
        found = []
        for number in (1, 2):

            @task(name="step")
            def step(number: int = number) -> int:
                ran.append(f"step {number}")
                return number * 10

            found.append(step())
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("again")
        return found

    assert redefines() == [10, 20]
    assert ran == ["step 1", "step 2"]
    assert [row.name for row in reader.tasks(_last(reader).id)] == ["step", "step[1]"]


def test_a_task_that_waits_for_itself_does_not_hang(reader: Reader) -> None:
    """Its future is known only once it is submitted: waiting for it inside is refused, in words that say why."""
    box: dict[str, Any] = {}
    known = threading.Event()

    @task
    def waits() -> int:
        known.wait(5)
        return int(box["own"].result())

    @flow(timeout_seconds=1)
    def turns() -> int:
        box["own"] = waits.submit()
        known.set()
        return int(box["own"].result())

    state = turns(return_state=True)
    assert state.type == "FAILED"
    assert "would never end" in (state.message or "")
    assert {row.state_type for row in reader.tasks(_last(reader).id)} == {"FAILED"}
