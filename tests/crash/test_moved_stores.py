"""A store is moved away, back, or replaced while its run goes on: no line is doubled or lost, nothing made anew."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from flowdeck.store.opening import open_store
from flowdeck.store.spool import SpoolWriter

from . import invariants
from .conftest import FLOWDECK, Field

pytestmark = [pytest.mark.crash, pytest.mark.timeout(180)]

TALK = '''
import os, time
from flowdeck import flow

HERE = os.environ["CRASH_HERE"]

def wait_for(name):
    while not os.path.exists(os.path.join(HERE, name)):
        time.sleep(0.005)

@flow
def talk():
    for part in ("first", "second", "third"):
        for number in range(50):
            print(f"{part} {number}")
        os.system(f"echo {part} said by a child")
        open(os.path.join(HERE, f"{part}.said"), "w").close()
        wait_for(f"{part}.heard")

if __name__ == "__main__":
    talk()
'''
LINES = [f"{part} {number}" for part in ("first", "second", "third") for number in range(50)]


def lines(store: Path, run_id: int = 1) -> list[str]:
    """What the run printed, as it is stored."""
    return [text for (text,) in invariants.rows(
        store, f"SELECT message FROM log WHERE root_id = {run_id} AND stream = 'stdout' ORDER BY line",
        database="telemetry")]


def say(field: Field, part: str) -> None:
    """Let the flow say its next part, and wait until it has."""
    field.wait(lambda: (field.root / f"{part}.said").exists())


def read_again(field: Field) -> None:
    """What a reader does: settles the dead, stores what waits in the spool."""
    for words in (("ls",), ("logs", "1"), ("logs", "1")):
        done = subprocess.run([*FLOWDECK, "--store", str(field.store), *words], capture_output=True, text=True,
                              check=False)
        assert done.returncode == 0, done.stderr


def test_a_run_that_ends_while_its_store_is_away_leaves_each_line_once(field: Field) -> None:
    """Nothing is made at the old place; moved back, the store has every line of the run, once."""
    field.file.write_text(TALK)
    process = field.start(*field.command(), CRASH_HERE=str(field.root))
    say(field, "first")
    field.wait(lambda: len(lines(field.store)) >= 51)
    away = field.store.with_name("away")
    field.store.rename(away)
    for part in ("first", "second", "third"):
        say(field, part)
        (field.root / f"{part}.heard").touch()
    process.wait(60)
    assert not field.store.exists()
    away.rename(field.store)
    read_again(field)
    told = lines(field.store)
    assert sorted(text for text in told if "child" not in text) == sorted(LINES)
    assert len([text for text in told if "child" in text]) == 3


def test_a_run_whose_store_comes_back_goes_on_and_doubles_nothing(field: Field) -> None:
    """Away between two parts of what it says: every line is there, once, whatever became of the run."""
    field.file.write_text(TALK)
    process = field.start(*field.command(), CRASH_HERE=str(field.root))
    away = field.store.with_name("away")
    for part in ("first", "second", "third"):
        say(field, part)
        field.store.rename(away)
        away.rename(field.store)
        (field.root / f"{part}.heard").touch()
    assert process.wait(60) == 0, field.output()
    read_again(field)
    told = lines(field.store)
    assert sorted(text for text in told if "child" not in text) == sorted(LINES)
    assert len([text for text in told if "child" in text]) == 3


def test_a_store_put_in_the_place_of_another_is_left_alone_by_its_run(field: Field) -> None:
    """The output of a run of the same number in the new store is neither taken nor removed."""
    field.file.write_text(TALK)
    process = field.start(*field.command(), CRASH_HERE=str(field.root))
    say(field, "first")
    away = field.store.with_name("away")
    field.store.rename(away)
    open_store(field.store)
    stranger = SpoolWriter(field.store, 1, 1)
    stranger.record(5, 1, None, 20, "flow", "log", "of another run")
    for part in ("first", "second", "third"):
        say(field, part)
        (field.root / f"{part}.heard").touch()
    process.wait(60)
    assert stranger.is_in_place()
    stranger.close()
    assert lines(field.store) == []
    assert "of another run" not in [text for (text,) in invariants.rows(away, "SELECT message FROM log",
                                                                        database="telemetry")]


def test_a_daemon_whose_store_is_moved_away_makes_nothing_at_the_old_place(field: Field) -> None:
    """Its code hosts and runs, too, find that the store is gone."""
    field.file.write_text(TALK)
    daemon = field.daemon(CRASH_HERE=str(field.root))
    field.submit("talk")
    say(field, "first")
    away = field.store.with_name("away")
    field.store.rename(away)
    for part in ("first", "second", "third"):
        say(field, part)
        (field.root / f"{part}.heard").touch()
    field.wait(lambda: not [pid for pid in field.living() if pid != daemon.pid])
    assert daemon.wait(60) == 5
    assert "was removed or moved away" in field.output()
    assert not field.store.exists()
    away.rename(field.store)
    field.daemon(CRASH_HERE=str(field.root))
    field.wait(lambda: field.run(1).state_type in ("COMPLETED", "CRASHED"))
    read_again(field)
    told = lines(field.store)
    for part in ("first", "second", "third"):
        assert len([text for text in told if text == f"{part} said by a child"]) <= field.run(1).attempt
