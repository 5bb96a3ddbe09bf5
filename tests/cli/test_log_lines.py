"""``logs``: whose a line is, from the first one on; progress bars as a terminal shows them; one row a line."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import FLOWDECK, Cli

MORE = '''

@task
def work(n: int) -> None:
    for line in range(6):
        print(f"line {line} of member {n}")


@flow
def twice() -> None:
    from time import sleep, monotonic
    begin = os.path.join(os.environ["FLOWDECK_STORE"], "begin")
    until = monotonic() + 60
    while not os.path.exists(begin) and monotonic() < until:
        sleep(0.01)
    work.map([0, 1]).wait()
    work.map([10, 11]).wait()


@task
def bar() -> str:
    import sys
    from time import sleep, monotonic
    for number in range(200):
        sys.stderr.write(f"\\r{number:3}%|{'#' * (number // 10):<20}| of it")
        sys.stderr.flush()
    go_on = os.path.join(os.environ["FLOWDECK_STORE"], "begin")
    until = monotonic() + 60
    while not os.path.exists(go_on) and monotonic() < until:
        sleep(0.01)
    sys.stderr.write("\\r200%|all of it" + " " * 20 + "\\n")
    print("plain")
    os.write(1, b"10%\\r20%\\rdone by another\\n")
    return "end"


@flow
def draws() -> None:
    bar()


@flow
def says() -> object:
    from flowdeck import Failed
    judged(return_state=True)
    return Failed(message="the flow's own words")


@task
def judged() -> object:
    from flowdeck import Failed
    return Failed(message="the words of the one who judged")
'''
Until = Callable[..., None]


@pytest.fixture
def own(cli: Cli) -> Cli:
    """Commands on a store, with these flows."""
    cli.flows.write_text("import os\n" + cli.flows.read_text() + MORE)
    return cli


def _store(cli: Cli) -> Path:
    return cli.store


def test_a_followed_call_has_all_its_lines_and_its_name(own: Cli, until: Until) -> None:
    """Asked for before it begins, of the first call of that number alone; the first line has a name as the last."""
    run = own.start("run", f"{own.flows}:twice")
    until(lambda: json.loads(own("ls", "--json").stdout), "the run")
    one = own.start("logs", "-f", "1", "--task", "work[1]")
    every = own.start("logs", "-f", "1", "--json", "--task", "work")
    named = own.start("logs", "-f", "1")
    until(lambda: len(json.loads(own("ls", "--json").stdout)) == 1, "the followers")
    (_store(own) / "begin").touch()
    assert run.wait(60) == 0
    lines = [line.split(": ", 1)[1] for line in one.communicate(timeout=60)[0].splitlines()]
    assert lines in ([f"line {line} of member {n}" for line in range(6)] for n in (1, 11))
    assert len(every.communicate(timeout=60)[0].splitlines()) == 24
    shown = named.communicate(timeout=60)[0].splitlines()
    assert [line for line in shown if "of member" in line and "work[" not in line] == []
    assert len([line for line in shown if "of member" in line]) == 24


def test_a_bar_is_shown_as_it_is_and_kept_as_it_was(own: Cli, until: Until) -> None:
    """Its last state while it is drawn, in one line; one line in the end, which warns of nothing."""
    run = own.start("run", f"{own.flows}:draws")
    until(lambda: "199%" in own("logs", "1").stdout if own("ls", "--json").stdout != "[]\n" else False, "the bar")
    assert own("logs", "1").stdout.count("%|") == 1
    (_store(own) / "begin").touch()
    assert run.wait(60) == 0
    rows = json.loads(own("logs", "1", "--json").stdout)
    assert [(row["message"], row["level"], row["task"]) for row in rows if row["logger"] != "flowdeck.engine"] == [
        ("200%|all of it", "INFO", 1), ("plain", "INFO", 1), ("done by another", "INFO", 1),
    ]  # fmt: skip


def test_a_terminal_has_as_many_lines_as_are_stored(own: Cli) -> None:
    """Whatever is in them."""
    assert own("run", f"{own.flows}:says").returncode == 1
    stored = json.loads(own("logs", "1", "--json").stdout)
    said = {row["message"] for row in stored}
    assert "judged returned Failed: the words of the one who judged" in said
    assert "flow says returned Failed: the flow's own words" in said
    ours, theirs = pty.openpty()
    nothing = subprocess.DEVNULL
    process = subprocess.Popen([*FLOWDECK, "logs", "1"], stdin=nothing, stdout=theirs, stderr=nothing,
                               env=own.environment)  # fmt: skip
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal hangs up with its last program
        while data := os.read(ours, 4096):
            shown += data
    os.close(ours)
    assert process.wait(60) == 0
    assert shown.count(b"\n") == len(stored)
