"""Faults that the random sweep found once, each made to happen every time."""

from __future__ import annotations

import sqlite3
import sys
import types
from pathlib import Path
from typing import Any, cast

import pytest
from flowdeck import task
from flowdeck.store.connection import connect
from flowdeck.store.opening import open_store
from flowdeck.store.spool import SpoolWriter, drain

from .conftest import FLOWDECK, Field
from .invariants import rows

pytestmark = pytest.mark.crash

NESTED = """
import os, signal
from flowdeck import flow, task

HERE = os.path.dirname(os.path.abspath(__file__))

def effect(text):
    with open(os.path.join(HERE, "effects"), "a") as file:
        file.write(text + "\\n")

@task
def inner(number):
    effect(f"begin inner-{number}")
    return number

@flow
def below(number):
    return inner(number)

@task
def outer():
    found = inner(1) + below(2) + sum(inner.map([3, 4]).result())
    effect("begin outer")
    if not os.path.exists(os.path.join(HERE, "killed")):
        open(os.path.join(HERE, "killed"), "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return found

@flow
def nested():
    return outer()

if __name__ == "__main__":
    nested()
"""


def test_nested_calls_keep_their_identity_when_their_caller_was_never_shown(field: Field) -> None:
    """A task that is killed before anybody saw it run: what it had called and got is not done again."""
    field.file.write_text(NESTED)
    assert field.start(sys.executable, "-P", str(field.file)).wait(30) == -9
    assert field.start(*FLOWDECK, "retry", "--here", "1").wait(30) == 0, field.report()
    assert field.effects.begun() == {"inner-1": 1, "inner-2": 1, "inner-3": 1, "inner-4": 1, "outer": 2}


LAST_WORDS = """
import os, signal
from flowdeck import flow, get_run_logger

HERE = os.path.dirname(os.path.abspath(__file__))

def says_goodbye(flow, run, state):
    if not os.path.exists(os.path.join(HERE, "killed")):
        open(os.path.join(HERE, "killed"), "w").close()
        print("last words")
        os.kill(os.getpid(), signal.SIGKILL)

@flow(on_completion=[says_goodbye])
def ends():
    return 1

if __name__ == "__main__":
    ends()
"""


def test_what_a_run_said_after_its_end_was_recorded_is_kept(field: Field) -> None:
    """A process killed in its last moments, its run Completed already: the next command moves its last lines."""
    field.file.write_text(LAST_WORDS)
    assert field.start(sys.executable, "-P", str(field.file)).wait(30) == -9
    assert field.state(1) == "Completed"
    assert field.start(*FLOWDECK, "retry", "--here", "1").wait(30) == 0, field.report()
    assert rows(field.store, "SELECT message FROM log WHERE message = 'last words'", database="telemetry")
    assert not list((field.store / "spool").iterdir())
    assert not field.reader.leases()


def test_output_is_stored_once_however_many_move_it(tmp_path: Path) -> None:
    """A size looked up before the offset that another process stored meanwhile was taken for an emptied file."""
    open_store(tmp_path)
    spool, telemetry = SpoolWriter(tmp_path, 1, 1), connect(tmp_path, "telemetry")
    spool.record(1, 1, None, 20, "flow", "log", "first")
    drain(tmp_path, telemetry, 1, 1)

    class Slow:
        """A connection whose first question comes after another process has moved one more line."""

        asked = False

        def execute(self, *question: Any) -> Any:
            if not Slow.asked:
                Slow.asked = True
                spool.record(2, 1, None, 20, "flow", "log", "second")
                drain(tmp_path, telemetry, 1, 1)
            return telemetry.execute(*question)

        def __getattr__(self, name: str) -> Any:
            return getattr(telemetry, name)

    drain(tmp_path, cast("sqlite3.Connection", Slow()), 1, 1)
    assert [message for (message,) in telemetry.execute("SELECT message FROM log")] == ["first", "second"]
    telemetry.close()
    spool.close()


def test_a_task_may_be_made_while_another_thread_loads_tenacity(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first failure loads it in its thread: a module that is half there failed whoever made a task at that moment."""
    for name in ("stop", "wait", "retry"):
        monkeypatch.setitem(sys.modules, f"tenacity.{name}", types.ModuleType(f"tenacity.{name}"))

    @task(retries=2, retry_delay_seconds=1.5)
    def step() -> None:
        """Nothing."""

    assert step.with_options(name="other").retries == 2
