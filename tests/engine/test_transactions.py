"""Transactions: tasks stand or fall together, in one process or in several after a kill."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from flowdeck import (
    INPUTS,
    CacheKeyFnPolicy,
    CommitMode,
    IsolationLevel,
    Secret,
    Transaction,
    TransactionState,
    flow,
    get_transaction,
    task,
    transaction,
    with_context,
)
from flowdeck.engine.control.control import Control
from flowdeck.engine.errors import UsageError
from flowdeck.engine.running.run_process.claiming import claim_here
from flowdeck.engine.running.run_process.entry import execute_run
from flowdeck.store.connection import connect

pytestmark = pytest.mark.usefixtures("store")


def names(reader, run_id=1):
    return {row.name: row.state_name for row in reader.tasks(run_id)}


def count(store, statement):
    connection = connect(store, "state", readonly=True)
    try:
        return connection.execute(statement).fetchone()[0]
    finally:
        connection.close()


@pytest.fixture
def retry(store):
    """Retry a run here; returns its exit code."""

    def again(run_id, one_flow):
        control = Control(store, actor="tester@here via test")
        control.retry(run_id)
        control.close()
        return execute_run(store, run_id, claim_here(store, run_id), one_flow)

    return again


def test_an_exception_rolls_back_in_reverse_order(reader, effects) -> None:
    """Hooks of the tasks that completed, the last first; their states and causes say so; the failed one has none."""

    def undo(name):
        return lambda txn: effects(f"undo {name}")

    @task(on_rollback=[undo("first a"), undo("first b")])
    def first():
        effects("first")

    @task
    def second():
        effects("second")

    @second.on_rollback
    def undo_second(txn):
        effects(f"undo second {txn.is_rolled_back()}")

    @task(on_rollback=[undo("third")])
    def third():
        raise ValueError("broken")

    @task(on_rollback=[undo("before")])
    def before():
        effects("before")

    @flow
    def whole():
        before()
        with transaction() as txn:
            assert txn.is_active()
            first()
            second()
            third()

    state = whole(return_state=True)
    assert state.is_failed()
    assert effects.lines == ["before", "first", "second", "undo second True", "undo first b", "undo first a"]
    assert names(reader) == {"before": "Completed", "first": "RolledBack", "second": "RolledBack", "third": "Failed"}
    row = reader.tasks(1)[1]
    assert row.state_type == "COMPLETED"
    assert row.cause == "transaction 1:0:0 was rolled back: ValueError: broken"
    assert reader.result(1, row.seq) is None
    last = [event for event in reader.events(run_id=1) if event.task_seq == row.seq][-1]
    assert (last.from_name, last.to_name, last.message) == ("Completed", "RolledBack", row.cause)


def test_commit_hooks_run_at_the_end_and_rollback_hooks_do_not(reader, effects) -> None:
    """In the order of the tasks, after the block; a task outside any block is committed at its own end."""

    @task(on_commit=[lambda txn: effects("commit")], on_rollback=[lambda txn: effects("undo")])
    def step(x):
        effects(f"step {x}")

    @flow
    def whole():
        step(0)
        with transaction():
            step(1)
            step.submit(2)
            effects("block")

    whole()
    assert effects.lines[:4] == ["step 0", "commit", "step 1", *sorted({"block", "step 2"} & set(effects.lines[3:4]))]
    assert sorted(effects.lines[2:5]) == ["block", "step 1", "step 2"]
    assert effects.lines[5:] == ["commit", "commit"]
    assert set(names(reader).values()) == {"Completed"}


def test_a_rolled_back_task_runs_again_on_retry(reader, effects, retry) -> None:
    """And what was outside the block does not."""

    @task
    def outside():
        effects("outside")
        return 1

    @task(on_rollback=[lambda txn: effects("undo")])
    def inside(x):
        effects("inside")
        return x + 1

    @flow
    def whole():
        value = outside()
        with transaction():
            value = inside(value)
            effects("check")
            if effects.count("check") == 1:
                raise ValueError
        return value

    whole(return_state=True)
    assert names(reader) == {"outside": "Completed", "inside": "RolledBack"}
    assert retry(1, whole) == 0
    assert effects.lines == ["outside", "inside", "check", "undo", "inside", "check"]
    assert names(reader) == {"outside": "Completed", "inside": "Completed"}
    events = [event for event in reader.events(run_id=1) if event.task_seq == 2]
    messages = [event.message for event in events if event.to_name == "Pending"]
    assert messages == ["it was rolled back (transaction 1:0:0 was rolled back: ValueError)"]


def test_values_go_from_tasks_and_blocks_to_hooks(effects) -> None:
    """``get`` looks in the task, then around; copies; an unknown name is a ValueError unless there is a default."""

    @task
    def step():
        txn = get_transaction()
        txn.set("own", [1])
        assert txn.get("around") == "block"
        assert txn.get("none", 5) == 5
        with pytest.raises(ValueError, match="unknown key"):
            txn.get("none")
        txn.get("own").append(2)

    @step.on_rollback
    def undo(txn):
        effects(f"{txn.get('own')} {txn.get('around')}")

    @flow
    def whole():
        assert get_transaction() is None
        with transaction() as txn:
            assert get_transaction() is txn
            txn.set("around", "block")
            step()
            raise ValueError

    whole(return_state=True)
    assert effects.lines == ["[1] block"]


def test_blocks_inside_blocks_commit_with_the_outermost(effects) -> None:
    """An inner block's tasks are undone by the outer one's failure, unless it commits at once (EAGER)."""

    @task(on_rollback=[lambda txn: effects("undo")], on_commit=[lambda txn: effects("commit")])
    def step(x):
        effects(x)

    @flow
    def whole(mode, fails):
        with transaction() as outer:
            with transaction(commit_mode=mode) as inner:
                assert inner.get_parent() is outer
                step("inner")
            step("outer")
            if fails:
                raise ValueError

    for mode, fails, wanted in (
        (None, False, ["inner", "outer", "commit", "commit"]),
        (CommitMode.LAZY, True, ["inner", "outer", "undo", "undo"]),
        (CommitMode.EAGER, True, ["inner", "commit", "outer", "undo"]),
        ("EAGER", False, ["inner", "commit", "outer", "commit"]),
    ):
        whole(mode, fails, return_state=True)
        assert effects.lines == wanted, mode
        effects.path.unlink()


def test_an_inner_failure_rolls_back_the_outer(effects) -> None:
    """Also when the exception is caught, and when a submitted task failed: all of it or nothing."""

    @task(on_rollback=[lambda txn: effects("undo")])
    def step():
        effects("step")

    @task
    def fails():
        raise ValueError("no")

    @flow
    def caught():
        with transaction():
            step()
            try:
                with transaction():
                    step()
                    fails()
            except ValueError:
                effects("caught")

    @flow
    def submitted():
        with transaction() as txn:
            step()
            fails.submit().wait()
        assert txn.is_rolled_back()

    caught(return_state=True)
    assert effects.lines == ["step", "step", "undo", "caught", "undo"]
    effects.path.unlink()
    submitted(return_state=True)
    assert effects.lines == ["step", "undo"]


def test_a_task_that_is_retried_is_not_a_failure(effects) -> None:
    """Only its last attempt counts."""

    @task(retries=1, on_rollback=[lambda txn: effects("undo")])
    def shaky():
        effects("shaky")
        if effects.count("shaky") == 1:
            raise ValueError

    @flow
    def whole():
        with transaction():
            shaky()

    whole()
    assert effects.lines == ["shaky", "shaky"]


def test_off_commits_by_hand_only(effects) -> None:
    """Else the end rolls back; a commit in the block stays."""

    @task(on_rollback=[lambda txn: effects("undo")], on_commit=[lambda txn: effects("commit")])
    def step():
        effects("step")

    @flow
    def whole(by_hand):
        with transaction(commit_mode=CommitMode.OFF) as txn:
            step()
            if by_hand:
                assert txn.commit()
                assert txn.state is TransactionState.COMMITTED
        return txn.state.name

    assert whole(False) == "ROLLED_BACK"
    assert whole(True) == "COMMITTED"
    assert effects.lines == ["step", "undo", "step", "commit"]


def test_hooks_that_raise(reader, effects) -> None:
    """A rollback hook's error is logged and the rollback goes on; a commit hook's rolls the block back."""

    def broken(txn):
        raise RuntimeError("hook")

    @task(on_rollback=[lambda txn: effects("undo"), broken])
    def undone():
        return 1

    @task(on_commit=[broken], on_rollback=[lambda txn: effects("undo committed")])
    def uncommitted():
        return 1

    @flow
    def failing():
        with transaction():
            undone()
            raise ValueError

    @flow
    def committing():
        with transaction() as txn:
            uncommitted()
        return txn.state.name

    failing(return_state=True)
    assert effects.lines == ["undo"]
    assert "its hook broken raised RuntimeError: hook" in reader.tasks(1)[0].cause
    assert any("hook broken failed" in row.message for row in reader.logs(1))
    assert committing() == "ROLLED_BACK"
    assert effects.lines == ["undo", "undo committed"]
    assert names(reader, 2) == {"uncommitted": "RolledBack"}


def test_cache_entries_come_with_the_commit(store, effects) -> None:
    """Nobody sees the result of a task in a transaction before; after a rollback nobody at all."""

    @task(cache_policy=INPUTS)
    def step(x):
        effects("step")
        return x

    @flow
    def whole(fails):
        with transaction():
            step(1)
            assert count(store, "SELECT count(*) FROM cache_entry") == len(effects.lines) - 1 - failed
            if fails:
                raise ValueError

    failed = 0
    whole(True, return_state=True)
    assert count(store, "SELECT count(*) FROM cache_entry") == 0
    failed = 1
    whole(False)
    assert count(store, "SELECT count(*) FROM cache_entry") == 1
    assert effects.count("step") == 2
    with pytest.raises(AssertionError):
        whole(False)
    assert effects.count("step") == 2


def test_a_cached_task_is_committed_already(effects, reader) -> None:
    """A block that fails does not undo what another run computed."""

    @task(cache_policy=INPUTS, on_rollback=[lambda txn: effects("undo")])
    def step(x):
        return x

    @flow
    def whole(fails):
        with transaction():
            step(1)
            if fails:
                raise ValueError

    whole(False)
    whole(True, return_state=True)
    assert effects.lines == []
    assert names(reader, 2) == {"step": "Cached"}


def test_a_key_is_committed_once(reader, effects, retry) -> None:
    """A block whose key stands for a result is committed from the beginning, unless it overwrites."""

    @flow
    def whole(value, overwrite=False):
        with transaction(key="the key", overwrite=overwrite) as txn:
            if txn.is_committed():
                return txn.read().result
            effects("work")
            txn.stage({"value": value})
            assert txn.is_staged()
        effects("after")
        if value == 3 and effects.count("broken") == 0:
            effects("broken")
            raise ValueError
        return txn.read().result

    assert whole(1) == {"value": 1}
    assert whole(2) == {"value": 1}
    whole(3, overwrite=True, return_state=True)
    assert retry(3, whole) == 0
    assert reader.run(3).result_preview == "{'value': 3}"
    assert whole(4) == {"value": 3}


def test_a_block_replays_though_its_own_key_is_committed(effects, retry) -> None:
    """A retry makes the same calls as the attempt that committed, and another run does not."""

    @task
    def step(x):
        effects(f"step {x}")
        return x

    @flow
    def whole():
        for n in range(2):
            with transaction(key="once") as txn:
                if not txn.is_committed():
                    step(n)
                    txn.stage(n)
        step("after")
        effects("end")
        if effects.count("end") == 1:
            raise ValueError

    whole(return_state=True)
    assert retry(1, whole) == 0
    assert effects.lines == ["step 0", "step after", "end", "end"]


SERIAL = {"key": "k", "isolation_level": IsolationLevel.SERIALIZABLE, "overwrite": True}


class Inside:
    """How many are in a block at once."""

    def __init__(self):
        self.now = self.most = self.times = 0

    def enter(self):
        self.now += 1
        self.times += 1
        self.most = max(self.most, self.now)

    def leave(self):
        self.now -= 1


def blocks_in_coroutines(inside):
    async def one():
        async with transaction(**SERIAL):
            inside.enter()
            await asyncio.sleep(0.02)
            inside.leave()

    @flow
    async def whole():
        await asyncio.gather(*(one() for _ in range(4)))

    asyncio.run(whole())


def blocks_in_threads_of_a_flow(inside):
    @flow
    def whole():
        threads = [threading.Thread(target=with_context(block_in_thread), args=(inside,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    whole()


def blocks_in_threads_outside_of_runs(inside):
    threads = [threading.Thread(target=block_in_thread, args=(inside,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def block_in_thread(inside):
    with transaction(**SERIAL):
        inside.enter()
        time.sleep(0.02)
        inside.leave()


@pytest.mark.parametrize(
    "several", [blocks_in_coroutines, blocks_in_threads_of_a_flow, blocks_in_threads_outside_of_runs]
)
def test_blocks_of_one_key_are_one_after_the_other(store, several) -> None:
    """SERIALIZABLE holds between blocks of one process, of one flow body even, as between processes."""
    inside = Inside()
    several(inside)
    assert (inside.times, inside.most) == (4, 1)
    assert count(store, "SELECT count(*) FROM cache_lock") == 0


def test_what_is_inside_a_block_has_its_key(store) -> None:
    """A block or a cached task of the same key within it does not wait for it: it would wait for ever."""

    @task(cache_policy=CacheKeyFnPolicy(lambda _context, _inputs: "k").configure(isolation_level="SERIALIZABLE"))
    def step():
        return 1

    @flow
    def whole():
        with transaction(**SERIAL), transaction(**SERIAL):
            with transaction(**SERIAL) as inner:
                inner.stage(2)
            return step.submit().result() + step()

    assert whole() == 2
    assert count(store, "SELECT count(*) FROM cache_lock") == 0


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_block_that_cannot_be_entered_gives_its_key_back(store, monkeypatch, kind) -> None:
    """Whatever goes wrong after it has the lock: the next one may enter."""
    from flowdeck.engine.running.transactions import steps

    known, failures = steps.known_entry, [RuntimeError("no"), RuntimeError("again")]

    def fails(block):
        if failures:
            raise failures.pop()
        return known(block)

    monkeypatch.setattr(steps, "known_entry", fails)
    options = {**SERIAL, "overwrite": False}

    async def block():
        async with transaction(**options) as txn:
            txn.stage(1)

    @flow
    async def in_run():
        with pytest.raises(RuntimeError, match="again"):
            await block()
        with pytest.raises(RuntimeError, match="no"), transaction(**options):
            raise AssertionError
        async with asyncio.timeout(60):
            await block()

    def outside():
        for text in ("again", "no"):
            with pytest.raises(RuntimeError, match=text), transaction(**options):
                raise AssertionError
        with transaction(**options) as txn:
            txn.stage(1)

    asyncio.run(in_run()) if kind == "async" else outside()
    assert count(store, "SELECT count(*) FROM cache_lock") == 0


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_block_whose_wait_is_ended_keeps_nothing(store, effects, eventually, kind) -> None:
    """A timeout while it waits for its key; when the holder leaves, nobody has it."""

    async def later():
        async with transaction(**SERIAL):
            raise AssertionError

    def sooner():
        with transaction(**SERIAL):
            raise AssertionError

    @task(timeout_seconds=0.3)
    def waits():
        asyncio.run(later()) if kind == "async" else sooner()

    @task
    def holds():
        with transaction(**SERIAL):
            effects("has it")
            eventually(lambda: effects.count("over"))

    @flow
    def whole():
        holder = holds.submit()
        eventually(lambda: effects.count("has it"))
        future = waits.submit()
        future.wait()
        effects("over")
        holder.wait()
        return future.state.name

    assert whole() == "TimedOut"
    assert count(store, "SELECT count(*) FROM cache_lock") == 0


def test_outside_a_run(store, effects) -> None:
    """A transaction needs no run: values, hooks and keys work; tasks in it are runs of their own."""

    @task(on_rollback=[lambda txn: effects("undo")])
    def step():
        effects("step")

    with transaction(key="alone", isolation_level=IsolationLevel.SERIALIZABLE) as txn:
        txn.stage(5, on_commit_hooks=[lambda txn: effects("commit")])
    with transaction(key="alone") as again:
        assert again.is_committed()
        assert again.read().result == 5
    assert count(store, "SELECT count(*) FROM cache_lock") == 0

    def undone():
        with transaction() as txn:
            txn.on_rollback_hooks.append(lambda txn: effects("own"))
            raise ValueError

    with pytest.raises(ValueError):
        undone()
    assert effects.lines == ["commit", "own"]


def test_wrong_use_is_refused() -> None:
    """Unknown modes and levels, entering twice."""
    for options in ({"commit_mode": "SOON"}, {"isolation_level": "NONE"}, {"key": 5}, {"store": object()}):
        with pytest.raises(UsageError):
            transaction(**options)
    txn = Transaction()
    with txn, pytest.raises(UsageError, match="entered already"):
        txn.__enter__()


def test_async_blocks_and_hooks(reader, effects) -> None:
    """``async with``, async tasks, async hooks awaited in order; a plain ``with`` in async code works, too."""

    async def undo(txn):
        await asyncio.sleep(0.01)
        effects("undo async")

    @task(on_rollback=[undo, lambda txn: effects("undo plain")])
    async def step():
        effects("step")

    @flow
    async def whole(plain):
        if plain:
            with transaction():
                await step()
                raise ValueError
        async with transaction():
            await asyncio.gather(step(), step())
            raise ValueError

    asyncio.run(whole(False, return_state=True))
    assert effects.lines == ["step", "step", *["undo plain", "undo async"] * 2]
    asyncio.run(whole(True, return_state=True))
    assert effects.lines[6:] == ["step", "undo plain", "undo async"]
    assert set(names(reader).values()) == {"RolledBack"}


def test_in_tasks_and_subflows(reader, effects, retry) -> None:
    """A block in a task undoes what that task called; a block around a task or subflow undoes what is inside them."""

    @task(on_rollback=[lambda txn: effects("undo leaf")])
    def leaf(x):
        effects(f"leaf {x}")
        return x

    @task
    def plain():
        effects("plain")

    @task(retries=1)
    def outer():
        with transaction():
            leaf(1)
            effects("outer")
            if effects.count("outer") == 1:
                raise ValueError

    @flow
    def child():
        leaf(2)
        plain()

    @task
    def caller():
        plain()

    @flow
    def whole():
        outer()
        effects("block")
        with transaction():
            child()
            caller()
            if effects.count("block") == 1:
                raise ValueError

    whole(return_state=True)
    assert effects.lines == ["leaf 1", "outer", "undo leaf", "leaf 1", "outer", "block", "leaf 2", "plain", "plain",
                             "undo leaf"]  # fmt: skip
    assert names(reader) == {"outer": "Completed", "leaf": "Completed", "child": "RolledBack", "caller": "RolledBack",
                             "plain": "RolledBack"}  # fmt: skip
    assert names(reader, 2) == {"leaf": "RolledBack", "plain": "RolledBack"}
    assert retry(1, whole) == 0
    assert effects.lines[10:] == ["block", "leaf 2", "plain", "plain"]
    assert set(names(reader, 2).values()) == {"Completed"}


def test_an_unpicklable_hook_still_runs(reader, effects) -> None:
    """It only cannot be kept for another process, and the log says so."""
    lock = threading.Lock()

    def undo(txn):
        with lock:
            effects("undo")

    @task(on_rollback=[undo])
    def step():
        pass

    @flow
    def whole():
        with transaction():
            step()
            raise ValueError

    whole(return_state=True)
    assert effects.lines == ["undo"]
    assert any("cannot be kept for another process" in row.message for row in reader.logs(1))


# ---------------------------------------------------------------------------------------------------- kills

KILLED = """
    def undo(name):
        def hook(txn):
            effect(f"undo {name} {txn.get('note', None)}")
            if os.environ.get("DIE") == f"undo {name}":
                os.kill(os.getpid(), 9)
        return hook

    @task(on_rollback=[undo("a1"), undo("a2")], on_commit=[lambda txn: effect("commit a")])
    def a():
        get_transaction().set("note", "of a")
        effect("a")

    @task(on_rollback=[undo("b")])
    def b():
        effect("b")
        return inner()

    @task(on_rollback=[undo("inner")])
    def inner():
        effect("inner")

    @task
    def c():
        effect("c")
        if os.environ.get("DIE") == "c":
            os.kill(os.getpid(), 9)
        if os.environ.get("FAIL"):
            raise ValueError("broken")

    @flow
    def whole():
        with transaction():
            a()
            b()
            c()
            if os.environ.get("DIE") == "end":
                os.kill(os.getpid(), 9)
        if os.environ.get("DIE") == "after":
            os.kill(os.getpid(), 9)

    if __name__ == "__main__":
        whole()
    """


def retry_here(store, **environment):
    """``flowdeck retry --here 1`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "flowdeck", "--store", str(store), "retry", "--here", "1"], capture_output=True,
        text=True, timeout=60, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


@pytest.fixture
def resume(script, store):
    """Run the script until it kills itself, then retry the run in a process of its own."""

    def again(first, then):
        script.run(KILLED, **first)
        return retry_here(store, **then)

    return again


UNDONE = ["undo b None", "undo inner None", "undo a2 of a", "undo a1 of a"]


@pytest.mark.parametrize("place", ["c", "end"])
def test_killed_in_a_transaction_that_then_commits(resume, reader, effects, place) -> None:
    """What had completed is replayed, not run again, and committed once."""
    done = resume({"DIE": place}, {})
    assert done.returncode == 0, done.stderr
    assert effects.lines == ["a", "b", "inner", "c", *(["c"] if place == "c" else []), "commit a"]
    assert set(names(reader).values()) == {"Completed"}


def test_killed_in_a_transaction_that_then_fails(store, resume, reader, effects) -> None:
    """What another process completed is rolled back as well, with the values its code had set, each hook once."""
    done = resume({"DIE": "c"}, {"FAIL": "1"})
    assert done.returncode == 1, done.stderr
    assert effects.lines == ["a", "b", "inner", "c", "c", *UNDONE]
    assert names(reader) == {"a": "RolledBack", "b": "RolledBack", "inner": "RolledBack", "c": "Failed"}
    assert count(store, "SELECT count(*) FROM staged_task") == 0


@pytest.mark.parametrize(("place", "fails"), [("undo b", "1"), ("undo inner", ""), ("undo a2", ""), ("undo a1", "1")])
def test_killed_in_a_rollback(store, resume, reader, effects, place, fails) -> None:
    """Whoever resumes ends it first, from the hook under way on; then the block runs anew, all of it."""
    done = resume({"DIE": place, "FAIL": "1"}, {"FAIL": fails})
    assert done.returncode == (1 if fails else 0), done.stderr
    under_way = next(number for number, line in enumerate(UNDONE) if line.startswith(place))
    wanted = ["a", "b", "inner", "c", *UNDONE[: under_way + 1], *UNDONE[under_way:], "a", "b", "inner", "c"]
    assert effects.lines == wanted + (UNDONE if fails else ["commit a"])
    state = "RolledBack" if fails else "Completed"
    assert names(reader) == {"a": state, "b": state, "inner": state, "c": "Failed" if fails else "Completed"}
    left = count(store, "SELECT count(*) FROM staged_task WHERE rollback_place IS NOT NULL")
    assert left == 0


def test_commit_hooks_are_not_called_again_by_a_replay(resume, effects) -> None:
    """A kill after the block: the next attempt finds it committed."""
    done = resume({"DIE": "after"}, {})
    assert done.returncode == 0, done.stderr
    assert effects.lines == ["a", "b", "inner", "c", "commit a"]


def test_killed_by_a_signal_between_hooks(script, store, reader, effects, eventually) -> None:
    """kill -9 from outside while a rollback waits in a hook: each recorded hook ran once."""
    first = script.start("""
        def hook(name):
            def undo(txn):
                effect(f"undo {name}")
                if name == "2":
                    wait_for("go")
            return undo
        @task(on_rollback=[hook("0"), hook("1"), hook("2"), hook("3")])
        def step():
            effect("step")
        @flow
        def whole():
            with transaction():
                step()
                effect("block")
                if effects_of("block") == 1:
                    raise ValueError
        def effects_of(name):
            return open(HERE + "/effects").read().splitlines().count(name)
        if __name__ == "__main__":
            whole()
        """)
    eventually(lambda: "undo 2" in effects.lines)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    script.touch("go")
    done = retry_here(store)
    assert done.returncode == 0, done.stderr
    assert effects.lines == ["step", "block", "undo 3", "undo 2", "undo 2", "undo 1", "undo 0", "step", "block"]
    assert names(reader) == {"step": "Completed"}


def test_values_that_hold_a_secret_are_not_kept(store, effects, monkeypatch) -> None:
    """The hook has them in this process; the store has nothing of them, and the log says what that means."""
    monkeypatch.setenv("FLOWDECK_SECRET_CANARY_TOKEN", "canary-5f1b9e")

    @task
    def step():
        get_transaction().set("token", Secret("CANARY_TOKEN").get())

    @step.on_rollback
    def undo(txn):
        effects(len(txn.get("token")))

    @flow
    def whole():
        with transaction():
            step()
            raise ValueError

    whole(return_state=True)
    assert effects.lines == ["13"]
    found = [path for path in store.rglob("*") if path.is_file() and b"canary-5f1b9e" in path.read_bytes()]
    assert found == []


def test_killed_between_commit_hooks(script, store, reader, effects) -> None:
    """Those that were recorded are not called again; the one under way is, and the rest follow."""
    script.run("""
        def hook(name):
            def commit(txn):
                effect(f"commit {name}")
                if os.environ.get("DIE") == name:
                    os.kill(os.getpid(), 9)
            return commit
        @task(on_commit=[hook("1"), hook("2"), hook("3")], cache_policy=INPUTS)
        def step(x):
            effect("step")
            return x
        @flow
        def whole():
            with transaction():
                step(1)
        if __name__ == "__main__":
            whole()
        """, DIE="2")
    assert count(store, "SELECT count(*) FROM cache_entry") == 0
    done = retry_here(store)
    assert done.returncode == 0, done.stderr
    assert effects.lines == ["step", "commit 1", "commit 2", "commit 2", "commit 3"]
    assert count(store, "SELECT count(*) FROM cache_entry") == 1
    assert names(reader) == {"step": "Completed"}
