"""Why a call runs again or not: said beforehand by a plan, while it happens by the log, afterwards by the records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from textwrap import dedent

import pytest
from flowdeck import flow, task, transaction
from flowdeck.engine.control.control import Control
from flowdeck.engine.encoding.code_hash import code_hash, is_changed
from flowdeck.engine.encoding.fingerprint import changed_names, fingerprint
from flowdeck.engine.running.calls.replay import what_next
from flowdeck.engine.running.run_process.claiming import claim_here
from flowdeck.engine.running.run_process.entry import execute_run


@pytest.fixture
def retry(store):
    """Retry a run here; returns its exit code."""

    def again(run_id, one_flow):
        control = Control(store, actor="tester@here via test")
        control.retry(run_id)
        control.close()
        return execute_run(store, run_id, claim_here(store, run_id), one_flow)

    return again


@pytest.fixture
def cli(store, tmp_path):
    """``cli("run", …)``: the command's standard output; the exit code must be the one given."""

    def run(*arguments, code=0):
        done = subprocess.run(
            [sys.executable, "-m", "flowdeck", "--store", str(store), *arguments], capture_output=True, text=True,
            timeout=60, stdin=subprocess.DEVNULL, cwd=tmp_path, check=False, env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout

    return run


def define(text, **space):
    """A task made of source text, as another version of a file would."""
    exec(dedent(text), space)
    return task(space["step"])


def reasons(reader, run_id=1):
    """Why each call was made anew, as the events say: seq → message."""
    return {event.task_seq: event.message for event in reader.events(run_id=run_id)
            if event.task_seq is not None and event.to_name == "Pending" and event.message is not None}  # fmt: skip


def test_code_is_named_by_what_it_does() -> None:
    """Not by comments, layout, docstring or decorators; defaults and constants count; builtins have no name."""

    def one(x):
        return x + 1

    texts = {
        "plain": "def step(x, y=1):\n  return x + y",
        "comment": "def step(x, y=1):\n  # why\n\n  return x + y",
        "documented": 'def step(x, y=1):\n  """Says."""\n  return x + y',
        "default": "def step(x, y=2):\n  return x + y",
        "constant": "def step(x, y=1):\n  return x + y + 1",
        "called": "def step(x, y=1):\n  return abs(x + y)",
        "inner": "def step(x, y=1):\n  return [a for a in (x, y)]",
        "other inner": "def step(x, y=1):\n  return [-a for a in (x, y)]",
    }
    names = {}
    for label, text in texts.items():
        space = {}
        exec(text, space)
        names[label] = code_hash(space["step"])
    assert names["plain"] == names["comment"] == names["documented"]
    assert len({value for key, value in names.items() if key not in ("comment", "documented")}) == 6
    assert code_hash(len) is None
    assert code_hash(one) == code_hash(one)
    assert not is_changed(None, names["plain"])
    assert not is_changed("2.7:abc", names["plain"])


def test_fingerprints_tell_which_argument_changed() -> None:
    """Also large ones, missing ones and new ones; nothing is said where it cannot be known."""
    before = fingerprint({"x": 1, "rows": list(range(1000)), "gone": "a"})
    after = fingerprint({"x": 1, "rows": list(range(999)), "new": "b"})
    assert changed_names(before, after) == ["rows", "gone", "new"]
    assert changed_names(before, before) == []
    many = {f"argument_{number}": "x" * 100 for number in range(50)}
    assert changed_names(fingerprint(many), fingerprint({**many, "argument_3": ""})) == []


def test_a_retry_says_why_each_call_ran_again(reader, effects, retry) -> None:
    """In the log, and for ever in the event: inputs, code, no result, failure, rollback."""
    plain = "def step(x):\n  effects(f'step {x}')\n  return x"
    steps = [define(plain, effects=effects), define(plain + " + 1", effects=effects)]

    @task(persist_result=False)
    def private():
        return 1

    @task
    def given(a, b):
        return a

    @task
    def failing():
        if effects.count("whole") == 1:
            raise ValueError("not yet")

    @task
    def undone():
        return 1

    @flow
    def whole():
        effects("whole")
        first = effects.count("whole") == 1
        steps[0 if first else 1](5)
        private()
        given(1, "old" if first else "new")
        try:
            with transaction():
                undone()
                if first:
                    raise KeyError
        except KeyError:
            effects("rolled back")
        failing()

    whole(return_state=True)
    assert retry(1, whole) == 0
    assert effects.count("step 5") == 2
    assert reasons(reader) == {
        1: "its code is not that of the recorded call",
        2: "persist_result=False keeps no result",
        6: "its inputs are not those of the recorded call (b changed)",
        4: "it was rolled back (transaction 1:0:0 was rolled back: KeyError)",
        5: "it failed: ValueError: not yet",
    }
    said = [row.message for row in reader.logs(1, limit=1000) if "runs again" in row.message]
    assert [line.partition(" runs again")[0] for line in said] == ["step", "private", "given", "undone"]


def test_changed_code_of_a_subflow_runs_it_again(reader, effects, retry) -> None:
    """Its finished tasks keep their results."""

    @task
    def leaf():
        effects("leaf")

    def version(text):
        space = {"leaf": leaf, "effects": effects}
        exec(dedent(text), space)
        return flow(space["child"])

    children = [version("def child():\n  leaf()"), version("def child():\n  leaf()\n  effects('more')")]

    @flow
    def whole():
        effects("whole")
        first = effects.count("whole") == 1
        children[0 if first else 1]()
        if first:
            raise ValueError

    whole(return_state=True)
    assert retry(1, whole) == 0
    assert effects.lines == ["whole", "leaf", "whole", "more"]
    assert reasons(reader)[1] == "its code is not that of the recorded call"


def test_what_the_next_attempt_would_do(reader, effects) -> None:
    """Kept, run again and why, or compared first; what is inside a kept call is not looked at."""

    @task
    def source():
        return [1]

    @task
    def inner():
        raise ValueError("inner")

    @task
    def outer():
        inner(return_state=True)
        return 2

    @task(persist_result=False)
    def private(rows):
        return "p"

    @task
    def uses(rows, more):
        return "u"

    @task
    def failing():
        raise ValueError("broken")

    @flow
    def whole():
        rows = source()
        outer()
        more = private.submit(rows)
        uses.submit(rows, more).result()
        failing()

    whole(return_state=True)
    rows = reader.tasks(1)
    verdicts = what_next(rows, reader.result_codecs(1), reader.edges(1))
    assert [(v.row.name, v.action, v.why) for v in sorted(verdicts, key=lambda v: v.row.name)] == [
        ("failing", "run", "runs again: it failed: ValueError: broken"),
        ("inner", "keep", "kept within outer, which is kept"),
        ("outer", "keep", "kept: finished, unless it is given other inputs"),
        ("private", "run", "runs again: no result of it is kept"),
        ("source", "keep", "kept: finished, unless it is given other inputs"),
        ("uses", "compare", "kept if private comes out as before, else runs again"),
    ]
    changed = what_next(rows, reader.result_codecs(1), (), lambda row: code_hash(define))
    assert changed[0].why == "runs again: its code is not that of the recorded call"


FILE = """
from datetime import timedelta
from flowdeck import DEFAULT, INPUTS, TASK_SOURCE, flow, task

@task(cache_policy=INPUTS + TASK_SOURCE)
def kept(n):
    return n

@task(cache_policy=INPUTS + TASK_SOURCE)
def edited(n):
    return n

@task(cache_policy=INPUTS, cache_expiration=timedelta(microseconds=1))
def expired(n):
    return n

@task(cache_policy=DEFAULT)
def within(n):
    return n

@task
def plain(n):
    return n

@flow
def whole(p: int = 1):
    for n in range(3):
        kept(n)
    edited(1), expired(1), within(1), plain(1)
"""


def test_a_plan_of_a_new_run(cli, reader, tmp_path) -> None:
    """Without running anything: before the first run, after it, after a change, in words and as JSON."""
    path = tmp_path / "work.py"
    path.write_text(FILE)
    first = json.loads(cli("run", "--plan", "--json", str(path)))
    assert first["compared_with"] is None
    assert {line["task"]: line["why"] for line in first["tasks"]}["plain"] == "nothing has run yet"
    assert len(first["tasks"]) == 5
    assert reader.runs() == []
    cli("run", str(path))
    path.write_text(FILE.replace("def edited(n):\n    return n", "def edited(n):\n    return n + 1")
                    + "\n@task\ndef added():\n    pass\n")  # fmt: skip
    path.write_text(path.read_text().replace("plain(1)\n", "plain(1), added()\n"))
    plan = json.loads(cli("run", "--plan", "--json", str(path)))
    found = {line["task"]: (line["calls"], line["what"], line["why"].partition(" 20")[0]) for line in plan["tasks"]}
    assert plan["compared_with"] == 1
    assert found.pop("kept") == (3, "cached", "from #1, if its key comes out the same")
    assert found == {
        "edited": (1, "runs", "its code changed since #1"),
        "expired": (1, "runs", "what was cached of it expired"),
        "within": (1, "runs", "RUN_ID is part of its key: nothing is shared between runs"),
        "plain": (1, "runs", "it has no cache policy"),
        "added": (None, "runs", "the last run did not call it"),
    }
    text = cli("run", "--plan", str(path), "-p", "p=2")
    assert "a new run of whole" in text
    assert "compared with its last, #1" in text
    assert "if its key comes out the same" in text
    assert len(reader.runs()) == 1
    cli("run", str(path))
    assert {row.name: row.state_name for row in reader.tasks(2)}["kept"] == "Cached"


def test_show_says_why(cli, store, reader, effects, retry) -> None:
    """The WHY column of a retried run, of cached and of rolled back tasks; a task's own page says what a retry does."""

    @task(cache_key_fn=lambda context, parameters: "one")
    def cached():
        return 1

    @task
    def failing():
        effects("failing")
        if effects.count("failing") == 1:
            raise ValueError("not yet")

    @task
    def undone():
        return 1

    @flow
    def whole():
        cached()
        cached()
        try:
            with transaction():
                undone()
                raise KeyError
        except KeyError:
            effects("undone")
        failing()

    whole(return_state=True)
    text = cli("show", "1/failing")
    assert "runs again: it failed: ValueError: not yet" in text
    assert retry(1, whole) == 0
    text = cli("show", "1")
    assert "cached from 1/1" in text
    assert "transaction 1:0:0 was rolled back: KeyError" in text
    assert "again: it failed: ValueError: not yet" in text
