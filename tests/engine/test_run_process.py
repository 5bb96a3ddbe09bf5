"""The process of a run: how it takes a run, ends it, dies, and what the records are worth afterwards."""

from __future__ import annotations

import random
import signal
import subprocess
import time

import pytest
from flowdeck import flow, task
from flowdeck.engine.control.control import Control
from flowdeck.engine.errors import NotAllowed, NotFound, StaleState
from flowdeck.engine.running.run_process.claiming import claim_here
from flowdeck.engine.running.run_process.entry import execute_run
from flowdeck.engine.states.machine import RUN_TABLE, TASK_TABLE
from flowdeck.store.reader import Reader
from flowdeck.store.states import is_terminal


@task
def step(x):
    return x


@flow
def simple(x: int = 1, mode: str = "fine"):
    if mode == "fail":
        raise ValueError("asked to")
    return step(x)


@pytest.fixture
def control(store):
    control = Control(store, actor="tester@here via test")
    yield control
    control.close()


def check_events(reader):
    """I10: replaying the events gives the states of all runs and tasks, and every step stands in the table."""
    now = {}
    legal = {"run": _pairs(RUN_TABLE), "task": _pairs(TASK_TABLE)}
    wrong = []
    after = 0
    while batch := reader.events(after_id=after, limit=5_000):
        after = batch[-1].id
        for event in batch:
            if event.kind != "state":
                continue
            key = (event.run_id, event.task_seq)
            before = (event.from_type, event.from_name) if event.from_type else None
            if now.get(key) != before:
                wrong.append(f"{key}: event {event.id} leaves {before}, but it was {now.get(key)}")
            table = legal["run" if event.task_seq is None else "task"]
            if before is not None and (event.from_type, event.to_type) not in table:
                wrong.append(f"{key}: {before} to {event.to_type} is in no table")
            now[key] = (event.to_type, event.to_name)
    for run in reader.runs(roots_only=False, limit=100_000):
        if now.pop((run.id, None)) != (run.state_type, run.state_name):
            wrong.append(f"run {run.id} is {run.state_name}")
        for row in reader.tasks(run.id):
            if now.pop((run.id, row.seq)) != (row.state_type, row.state_name):
                wrong.append(f"task {run.id}/{row.seq} is {row.state_name}")
    assert wrong == []
    assert now == {}


def _pairs(table):
    return {(before, target.state_type) for before, events in table.items() for target in events.values()}


def test_a_waiting_run_is_taken_and_run(reader, store, control) -> None:
    """Exit code 0, 1; only a waiting run can be claimed, only a claimed one taken, only by its attempt."""
    simple(mode="fine")
    with pytest.raises(NotAllowed, match="only a scheduled run can be claimed"):
        claim_here(store, 1)
    with pytest.raises(NotFound, match="no run #9"):
        claim_here(store, 9)
    control.retry(1)
    with pytest.raises(StaleState, match="expected Pending"):
        execute_run(store, 1, 2, simple)
    attempt = claim_here(store, 1)
    with pytest.raises(StaleState, match="attempt 2; expected Pending, attempt 1"):
        execute_run(store, 1, 1, simple)
    with pytest.raises(NotFound):
        execute_run(store, 9, 1, simple)
    assert execute_run(store, 1, attempt, simple) == 0
    simple(mode="fail", return_state=True)
    control.retry(2)
    assert execute_run(store, 2, claim_here(store, 2), simple) == 1
    assert reader.leases() == []
    check_events(reader)


def test_parameters_that_no_longer_fit_fail_the_run(reader, store, control) -> None:
    """A renamed or missing parameter; the record names it."""
    simple(x=3)

    @flow(name="simple")
    def renamed(y: int):
        raise AssertionError

    control.retry(1)
    assert execute_run(store, 1, claim_here(store, 1), renamed) == 1
    assert "no parameter 'x'" in reader.run(1).cause
    check_events(reader)


def test_an_async_flow_is_executed_too(reader, store, control) -> None:
    """In an event loop of its own."""

    @flow
    async def whole():
        return step(1)

    import asyncio

    asyncio.run(whole())
    control.retry(1)
    assert execute_run(store, 1, claim_here(store, 1), whole) == 0


def test_a_process_of_an_older_attempt_changes_nothing(reader, store, control) -> None:
    """Fenced by the store: what it still does is refused."""
    from flowdeck.store.connection import connect, transaction
    from flowdeck.store.tables import runs

    taken = []

    @flow
    def whole():
        step(1)
        connection = connect(store, "state")
        with transaction(connection):
            row = runs.get(connection, 1)
            runs.transition(connection, 1, attempt=1, from_=(row.state_type, row.state_name), to=("CRASHED", "Crashed"),
                            at_us=1, actor="test")  # fmt: skip
            runs.transition(connection, 1, attempt=1, from_=("CRASHED", "Crashed"), to=("SCHEDULED", "Resuming"),
                            at_us=1, actor="test", new_attempt=2)  # fmt: skip
        connection.close()
        taken.append(True)
        step(2)
        taken.append("went on")

    with pytest.raises((StaleState, SystemExit)):
        whole()
    assert taken == [True]
    assert (reader.run(1).state_name, reader.run(1).attempt) == ("Resuming", 2)
    assert len(reader.tasks(1)) == 1


def test_events_of_everything_are_legal(reader, store, control) -> None:
    """Retries, failures, not ready, subflows, timeouts, replays: the events give the rows."""

    @task(retries=2)
    def flaky(flags=[]):  # noqa: B006
        flags.append(1)
        if len(flags) % 3:
            raise ValueError

    @task(retries=1, retry_delay_seconds=0.03, timeout_seconds=0.06)
    def slow():
        time.sleep(1)

    @task
    def fails():
        raise ValueError

    @flow(retries=1)
    def child(ok):
        flaky()
        step.submit(fails.submit())
        if not ok:
            raise ValueError

    @flow(retries=1)
    def whole():
        child(True, return_state=True)
        child(False, return_state=True)
        slow(return_state=True)
        step.map([1, 2, 3]).wait()
        raise ValueError

    whole(return_state=True)
    control.retry(1)
    execute_run(store, 1, claim_here(store, 1), whole)
    check_events(reader)


@pytest.mark.parametrize("how", ["newer", "not ours", "a file in the way", "corrupt"])
def test_a_store_that_cannot_be_opened_is_one_line(script, tmp_path, how) -> None:
    """On standard error, naming the place and the remedy; no traceback of ours."""
    folder = tmp_path / "store"
    if how == "newer":
        import sqlite3

        connection = sqlite3.connect(folder / "state.db")
        connection.execute("PRAGMA user_version = 99")
        connection.close()
    elif how == "not ours":
        for name in ("state.db", "telemetry.db"):
            (folder / name).unlink()
        (folder / "state.db").write_text("my diary " * 200)
    elif how == "corrupt":
        (folder / "state.db").write_bytes(b"")
    else:
        folder = tmp_path / "taken"
        folder.write_text("")
    process = script.start("""
        @flow
        def whole():
            effect("ran")
        whole()
    """, FLOWDECK_STORE=str(folder))  # fmt: skip
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out == ""
    assert "Traceback" not in err
    assert err.startswith("flowdeck: ")
    assert err.count("\n") == 1
    assert str(folder) in err


KILLED = """
from pathlib import Path
from flowdeck.engine.running.run_process.claiming import claim_here
from flowdeck.engine.running.run_process.entry import execute_run
import random

@task
def leaf(n):
    effect(f"begin {n}")
    effect(f"end {n}")
    return n * n

@task
def branch(n):
    return sum(leaf.map([n * 100 + k for k in range(4)]).result()) + leaf(n * 100 + 50)

@flow
def child(n):
    return leaf(n) + branch(n)

@flow
def whole():
    total = 0
    for n in range(1, 5):
        total += child(1000 * n)
        total += sum(leaf.map([7_000_000 + 1000 * n + k for k in range(15)]).result())
        total += branch.submit(100 * n).result()
    effect(f"total {total}")
    return total

if sys.argv[1] == "new":
    whole()
else:
    from flowdeck.store.reader import Reader
    store, run_id = Path(os.environ["FLOWDECK_STORE"]), int(sys.argv[2])
    row = Reader(store).run(run_id)  # a kill may have come between the claim and the taking
    attempt = row.attempt if row.state_type == "PENDING" else claim_here(store, run_id)
    sys.exit(execute_run(store, run_id, attempt, whole))
"""


def family(reader, run_id):
    """A root run and everything in its process."""
    return [run for run in reader.runs(roots_only=False, limit=1000) if run_id in (run.id, run.root_id)]


def committed(reader, run_id):
    """Arguments, by their squares, of the leaves whose result is in the journal."""
    found = set()
    for run in family(reader, run_id):
        for row in reader.tasks(run.id):
            if row.key == "leaf" and row.state_type == "COMPLETED":
                found.add(round(int(reader.result(run.id, row.seq).preview) ** 0.5))
    return found


def test_kills_at_random_moments_cost_nothing_that_was_committed(script, store, control, effects) -> None:
    """After each kill the run is retried: committed bodies never run again, and the result is that of a quiet run."""
    generator = random.Random(20)
    script.write(KILLED)
    begun = time.monotonic()
    quiet = script.run(None, "new")
    length = time.monotonic() - begun
    assert quiet.returncode == 0, quiet.stderr
    wanted = sorted(effects.lines)
    kills = 0
    while kills < 15:
        effects.path.unlink(missing_ok=True)
        run_id, arguments, frozen = None, ("new",), {}
        while True:
            process = script.start(None, *arguments)
            try:
                process.communicate(timeout=generator.uniform(0.1, length) if kills < 15 else 60)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                kills += 1
            control.reap()
            with Reader(store) as reader:
                run = reader.runs(limit=1)[0]
                if run.id == 1 or (run_id is None and run.state_type == "COMPLETED" and not effects.lines):
                    continue  # killed before there was a run
                run_id = run.id
                check_events(reader)
                assert_frozen(effects, frozen)
                frozen = {n: effects.count(f"begin {n}") for n in committed(reader, run_id)}
                if run.state_type == "COMPLETED":
                    break
                assert is_terminal(run.state_type) or run.state_type in ("SCHEDULED", "PENDING"), run
            if is_terminal(run.state_type):
                control.retry(run_id)
            arguments = ("again", str(run_id))
        assert sorted(set(effects.lines)) == wanted
        assert effects.count(next(line for line in wanted if line.startswith("total"))) >= 1
        with Reader(store) as reader:
            rows = [row for one in family(reader, run_id) for row in reader.tasks(one.id)]
            assert {row.state_name for row in rows} == {"Completed"}
            assert len([row for row in rows if row.key == "leaf"]) == len([w for w in wanted if w.startswith("end")])


def assert_frozen(effects, frozen):
    """Bodies whose result was committed at the last look have not begun since."""
    again = {n: effects.count(f"begin {n}") for n in frozen}
    assert again == frozen
