"""User code that means no good: whatever it raises, returns, forks or breaks, its record ends with its cause."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from flowdeck import flow, task
from flowdeck.store.reader import Reader
from flowdeck.store.states import is_terminal


@pytest.fixture(autouse=True)
def _store(store: Path) -> Path:
    return store


class Leaving:
    """Every way to look at it calls ``sys.exit``."""

    def __repr__(self) -> str:
        sys.exit(4)

    def __reduce__(self) -> Any:
        sys.exit(4)


class Unbound:
    """A proxy of nothing, as those of web frameworks: asking for its class or an attribute raises."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("nothing is bound")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"nothing is bound: {name}")


class Exits(Exception):
    def __str__(self) -> str:
        sys.exit(9)

    __repr__ = __str__


class Closed(Exception):
    def __getattribute__(self, name: str) -> Any:
        if name in ("__dict__", "__class__"):
            raise RuntimeError(name)
        return super().__getattribute__(name)


def _raise(error: BaseException) -> Any:
    raise error


def _cyclic() -> list[Any]:
    own: list[Any] = []
    own.append(own)
    return own


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(50_000):
        deep = [deep]
    return deep


def _run_as(kind: str, body: Any) -> Any:
    """The state of a flow in which ``body`` is run as a task, submitted, mapped, a flow, a subflow, or async."""

    @task
    def work(_number: int = 0) -> Any:
        return body()

    @task
    async def work_async() -> Any:
        await asyncio.sleep(0)
        return body()

    @flow
    def inner() -> Any:
        return body()

    @flow
    def outer() -> Any:
        if kind == "call":
            return [work()]
        if kind == "submit":
            return [work.submit().result()]
        if kind == "map":
            return work.map([1, 2]).result()
        return inner() if kind == "subflow" else body()

    @flow
    async def outer_async() -> Any:
        if kind == "gather":
            return [await asyncio.gather(work_async(), work_async())]
        return [await work_async()]

    if kind in ("async", "gather"):
        return asyncio.run(outer_async(return_state=True))
    return outer(return_state=True)


def _unended(reader: Reader) -> list[str]:
    runs = list(reader.runs())
    rows = [row for run in runs for row in reader.tasks(run.id)]
    return [f"{row.name} {row.state_name}" for row in [*runs, *rows] if not is_terminal(row.state_type, row.state_name)]


KINDS = ["call", "submit", "map", "body", "subflow", "async", "gather"]


@pytest.mark.parametrize("kind", KINDS)
def test_values_that_cannot_be_looked_at_are_results(reader: Reader, kind: str) -> None:
    """What calls ``sys.exit`` when it is printed or pickled, has no class, holds itself, or is nested without end."""
    for make in (Leaving, Unbound, _cyclic, _deep):
        ended = _run_as(kind, make)
        words = (make.__name__, ended.name, ended.message)  # the value itself cannot be shown by pytest either
        del ended
        assert words == (make.__name__, "Completed", None)
    assert _unended(reader) == []


@pytest.mark.parametrize("kind", KINDS)
def test_exceptions_that_cannot_be_looked_at_fail_their_task(reader: Reader, kind: str) -> None:
    """``__str__`` that exits, attributes that cannot be read, ``GeneratorExit``: Failed, with the words there are."""
    for error, words in (
        (Exits(), "Exits: <its text cannot be made: SystemExit>"),
        (Closed("x"), "Closed"),
        (GeneratorExit("x"), "GeneratorExit: x"),
    ):
        ended = _run_as(kind, lambda error=error: _raise(error))
        name, told = ended.name, ended.message or ""
        del ended
        assert (name, words in told) == ("Failed", True), told
    assert _unended(reader) == []


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_an_exit_is_told_as_one_also_in_coroutines(reader: Reader, kind: str) -> None:
    """``sys.exit(3)`` ends its task and its flow as Crashed, with the code; the process is the caller's to end."""
    state = _run_as(kind, lambda: sys.exit(3))
    assert (state.name, state.message) == ("Crashed", "the flow called sys.exit(3)")
    assert _unended(reader) == []


def test_an_exit_with_an_object_nobody_can_print(reader: Reader) -> None:
    """Its type is told."""
    state = _run_as("call", lambda: _raise(SystemExit(Leaving())))
    assert (state.name, state.message) == ("Crashed", "the flow called sys.exit(<Leaving>)")
    assert _unended(reader) == []


def test_a_submitted_coroutine_that_exits_has_an_outcome(reader: Reader) -> None:
    """Its future is told; the loop that carries others goes on."""

    @task
    async def leaves() -> None:
        sys.exit(3)

    @task
    async def stays() -> int:
        await asyncio.sleep(0.05)
        return 1

    @flow
    async def waits() -> list[Any]:
        futures = [leaves.submit(), stays.submit()]
        return [future.result(timeout=10, raise_on_failure=False) for future in futures]

    left, stayed = asyncio.run(waits())
    assert (type(left), stayed) == (SystemExit, 1)
    assert _unended(reader) == []


def test_ctrl_c_while_a_result_is_pickled_cancels_the_run(reader: Reader) -> None:
    """The task has completed and its result is not kept; nothing after it begins."""

    class Interrupted:
        def __reduce__(self) -> Any:
            raise KeyboardInterrupt

    state = _run_as("call", Interrupted)
    assert (state.name, state.message) == ("Cancelled", "interrupted from the keyboard (Ctrl-C)")
    assert [row.state_name for row in reader.tasks(1)] == ["Completed"]
    assert _unended(reader) == []


FORKS = """
import asyncio, sys
@task
def forks(how):
    effect("forks")
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if how == "raise":
        raise ValueError("in the child")
    if how == "exit":
        sys.exit(5)
@task
async def forks_async(how):
    await asyncio.sleep(0)
    return forks.fn(how)
@flow
def tree(how):
    codes = [forks(how), forks.submit(how).result(), forks.with_options(isolation="process")(how)]
    effect("after")
    return codes
@flow
async def tree_async(how):
    code = await forks_async(how)
    effect("after")
    return [code]
codes = tree(sys.argv[1]) + asyncio.run(tree_async(sys.argv[1]))
effect("end")
print("codes", codes)
"""


@pytest.mark.parametrize(("how", "code"), [("return", 0), ("raise", 1), ("exit", 5)])
def test_a_forked_child_that_comes_back_from_its_task_ends_there(
    script: Any, effects: Any, reader: Reader, how: str, code: int
) -> None:
    """Called, submitted, in a worker process and as a coroutine: what follows the task is done once, by the run."""
    done = script.run(FORKS, how)
    assert f"codes {[code] * 4}" in done.stdout
    assert (effects.count("forks"), effects.count("after"), effects.count("end")) == (4, 2, 1)
    assert _unended(reader) == []
    said = [row.message for run in reader.runs() for row in reader.logs(run.id, 0, 1000)]
    assert sum("a child process that this code forked" in line for line in said) == 4
    if how == "raise":
        assert sum(line == "ValueError: in the child" for line in said) == 4
    assert not any("flowdeck/engine" in line for line in said)


def test_a_pool_of_processes_in_a_worker_ends_without_a_word(script: Any, reader: Reader) -> None:
    """Children of the task's own do not take TERM for their worker's cancellation."""
    script.run(
        """
        import multiprocessing
        @task(isolation="process")
        def pools():
            with multiprocessing.get_context("fork").Pool(2) as pool:
                return pool.map(abs, [1, -2])
        @flow
        def f():
            return pools()
        f()
        """
    )
    assert reader.run(1).state_name == "Completed"
    assert [row.message for row in reader.logs(1, 0, 100)] == []


def test_results_that_cannot_be_read_back_from_a_worker(script: Any, reader: Reader) -> None:
    """A result or an exception whose class exits when it is unpickled fails its task in words."""
    script.run(
        """
        class Leaves:
            def __reduce__(self):
                return sys.exit, (3,)
        class Unreadable(Exception):
            def __reduce__(self):
                return sys.exit, (3,)
        @task(isolation="process")
        def returns():
            return Leaves()
        @task(isolation="process")
        def raises():
            raise Unreadable("why")
        @flow
        def f():
            returns.submit().wait()
            raises()
        f(return_state=True)
        """
    )
    causes = [row.cause or "" for row in reader.tasks(1)]
    assert "its result cannot be read: SystemExit: 3" in causes[0]
    assert causes[1].startswith("Unreadable: why")
    assert _unended(reader) == []


def test_a_result_whose_file_cannot_be_written_is_used_and_not_kept(script: Any, reader: Reader, store: Path) -> None:
    """The disk refuses the file (here by a limit): the task has completed, and the log says what will run again."""
    script.run(
        """
        import resource
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        @task
        def small():
            return b"x" * 2_000_000
        @task
        def large():
            return b"x" * 20_000_000
        @flow
        def f():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
            size = len(small()) + len(large.submit().result())
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            return size
        assert f() == 22_000_000
        """
    )
    assert reader.run(1).state_name == "Completed"
    assert {row.state_name for row in reader.tasks(1)} == {"Completed"}
    said = [row.message for row in reader.logs(1, 0, 100)]
    assert sum("is not journalled" in line and "File too large" in line for line in said) == 2
    assert not [path for path in (store / "results").rglob("*") if path.is_file()]


def test_a_log_call_whose_arguments_do_not_fit_is_told_with_its_place(script: Any, reader: Reader) -> None:
    """In one line; neither our traceback nor the logging module's."""
    done = script.run(
        """
        import logging
        @flow
        def logs():
            logging.getLogger("x").warning("%d of %s", "one")
        logs()
        """
    )
    said = [row.message for row in reader.logs(1, 0, 100)]
    assert len(said) == 1
    assert said[0].startswith("a log call at ")
    assert "script.py:" in said[0]
    assert "TypeError" in said[0]
    assert "Traceback" not in done.stderr


def test_streams_that_are_no_streams_do_not_break_the_run(script: Any, reader: Reader) -> None:
    """``sys.stdout = 5``: the run ends as it would have, and what was there before is put back."""
    done = script.run(
        """
        @flow
        def f():
            sys.stdout = 5
            sys.stderr = None
            return 1
        assert f() == 1
        print("put back")
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "put back\n", "")
    assert reader.run(1).state_name == "Completed"


def test_a_store_that_is_removed_during_the_run_is_told_in_words(script: Any, store: Path) -> None:
    """The task that cannot be recorded fails with the store's words; no traceback of ours."""
    done = script.run(
        """
        import shutil
        @task
        def t():
            return 1
        @flow
        def f():
            t()
            print("hello")
            shutil.rmtree(os.environ["FLOWDECK_STORE"])
            t()
        f()
        """
    )
    assert done.returncode == 1
    assert "removed or moved away" in done.stderr or "state.db not found" in done.stderr
    assert "flowdeck/engine" not in done.stderr
    assert not store.exists()


def test_a_paused_run_does_not_outlive_its_store(script: Any, store: Path, eventually: Any) -> None:
    """Nobody could resume or cancel it any more: it ends and says what became of its record."""
    process = script.start(
        """
        from flowdeck import pause_flow_run
        @flow
        def f():
            pause_flow_run()
        f()
        """
    )
    with Reader(store) as reader:
        eventually(lambda: reader.runs() and reader.runs()[0].state_name == "Paused")
    shutil.rmtree(store)
    _, told = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "removed" in told
    assert "flowdeck/engine" not in told


def test_a_run_that_the_engine_itself_cannot_bring_to_its_end_is_not_left_running(
    reader: Reader, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process lives on, so nobody would find it dead: it is recorded as Crashed at once, its tasks too."""
    from flowdeck.engine.running.lifecycle import flow_steps

    started = threading.Event()

    @task
    def waits() -> None:
        started.wait(10)

    @flow
    def f() -> None:
        waits.submit()
        raise ValueError("x")

    def broken(*_: object) -> None:
        started.set()
        raise OSError("a fault of the engine's own")

    monkeypatch.setattr(flow_steps, "judge_flow", broken)
    with pytest.raises(OSError, match="own"):
        f()
    run = reader.run(1)
    assert (run.state_name, json.dumps(run.cause)) == (
        "Crashed", '"the engine could not go on with it: OSError: a fault of the engine\'s own"',
    )  # fmt: skip
    assert _unended(reader) == []
    assert reader.leases() == []
