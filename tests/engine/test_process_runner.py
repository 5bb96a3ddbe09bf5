"""``isolation="process"`` and ``ProcessPoolTaskRunner``: code in worker processes that can be stopped, and may die."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from flowdeck import (
    Completed,
    Failed,
    Flow,
    ProcessPoolTaskRunner,
    Secret,
    ThreadPoolTaskRunner,
    concurrency,
    create_markdown_artifact,
    flow,
    get_run_logger,
    metric,
    runtime,
    tags,
    task,
    upsert_global_concurrency_limit_by_name,
    wait,
)
from flowdeck.engine.control.control import Control
from flowdeck.engine.errors import RunTimedOut, UsageError, WorkerDied
from flowdeck.engine.running.runners.processes import ending
from flowdeck.engine.secrets import masking
from flowdeck.executors import LocalDaskExecutor
from flowdeck.store.tables.nodes import Node
from pydantic import SecretStr

CLI = (sys.executable, "-P", "-m", "flowdeck")
HANGS = "import itertools; all(itertools.repeat(1))"
"""C code that keeps the interpreter to itself: nothing but SIGKILL ends it."""


class Mine(ValueError):
    """An exception of this module whose constructor takes more than its text, so that it does not unpickle."""

    def __init__(self, text, code):
        super().__init__(text)
        self.code = code


class Stubborn(Exception):
    """Cannot be pickled at all."""

    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


@pytest.fixture(autouse=True)
def short_grace(store, monkeypatch):
    """What hangs is killed soon."""
    monkeypatch.setenv("FLOWDECK_CANCEL_GRACE_SECONDS", "0.5")


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_function_runs_in_another_process(reader) -> None:
    """Called, submitted, mapped, async; a process of its own for each, and nothing of them is left."""

    @task(isolation="process")
    def where(x):
        return os.getpid(), os.getpgid(0), x

    @task(isolation="process")
    async def where_async(x):
        await asyncio.sleep(0)
        return os.getpid(), os.getpgid(0), x

    @flow
    def whole():
        return [where(0), where.submit(1).result(), *where.map([2, 3]).result(), where_async.submit(4).result()]

    found = whole()
    assert [x for _, _, x in found] == [0, 1, 2, 3, 4]
    pids = {pid for pid, _, _ in found}
    assert len(pids) == 5
    assert os.getpid() not in pids
    assert all(pid == group for pid, group, _ in found)
    assert not any(alive(pid) for pid in pids)
    for row in reader.tasks(1):
        assert row.state_name == "Completed"
        assert row.peak_rss_bytes > 1 << 20
        assert row.cpu_us is not None


def test_async_flows_await_them(reader) -> None:
    """The event loop goes on meanwhile."""
    ticks = []

    @task(isolation="process")
    async def slow():
        await asyncio.sleep(0.3)
        assert runtime.task_run.tags == ["blue"]
        with tags() as around:
            assert around == {"blue"}
        return os.getpid()

    async def tick():
        while True:
            ticks.append(1)
            await asyncio.sleep(0.01)

    @flow
    async def whole():
        ticking = asyncio.create_task(tick())
        with tags("blue"):
            pids = await asyncio.gather(slow(), slow())
        ticking.cancel()
        return pids

    pids = asyncio.run(whole())
    assert len({os.getpid(), *pids}) == 3
    assert len(ticks) > 5


def test_a_pools_workers_are_warm_and_bounded(reader) -> None:
    """As many processes as asked for, used again; each has run the initializer once; direct calls stay here."""

    @task
    def where(x):
        time.sleep(0.01)
        return os.getpid(), os.environ["MADE_BY"]

    @task
    def here():
        return os.getpid()

    def initialize(text):
        os.environ["MADE_BY"] = f"{text} {os.getpid()}"

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=2, initializer=initialize, initargs=("made by",)))
    def whole():
        assert here() == os.getpid()
        return where.map(range(20)).result()

    found = whole()
    assert len({pid for pid, _ in found}) == 2
    assert {text for _, text in found} == {f"made by {pid}" for pid, _ in found}
    assert not any(alive(pid) for pid, _ in found)


def test_what_happens_there_is_the_tasks(reader, store) -> None:
    """Prints, log records, bytes on descriptors, programs, metrics, artifacts; ``runtime`` and tags are known."""

    @task(isolation="process")
    def speak(x):
        print("printed", x)
        print("unfinished", end="")
        get_run_logger().info("logged %s", x)
        logging.getLogger("theirs").warning("theirs %s", x)
        os.write(2, b"raw\n")
        subprocess.run(["echo", "from a program"], check=True)
        metric("rows", x)
        create_markdown_artifact("# text", key="report")
        return runtime.flow_run.id, runtime.flow_run.parameters, runtime.task_run.id, runtime.task_run.parameters, \
            runtime.task_run.tags

    @flow
    def whole(day):
        with tags("blue"):
            return speak(7)

    assert whole("monday") == ("1", {"day": "monday"}, "1/1", {"x": 7}, ["blue"])
    lines = {row.message: (row.task_seq, row.stream, row.level) for row in reader.logs(1)}
    assert lines == {
        "printed 7": (1, "stdout", 20), "unfinished": (1, "stdout", 20), "logged 7": (1, "log", 20),
        "theirs 7": (1, "log", 30), "raw": (1, "stderr", 30), "from a program": (1, "stdout", 20),
    }  # fmt: skip
    assert [(row.name, row.value, row.task_seq) for row in reader.metrics(1)] == [("rows", 7.0, 1)]
    assert [(row.key, row.task_seq) for row in reader.artifacts(1)] == [("report", 1)]


def test_secrets_are_masked_there_too(reader, store, monkeypatch) -> None:
    """What the run's process knows, and what the task itself looks up, in every form of output."""
    monkeypatch.setenv("FLOWDECK_SECRET_TOKEN", "canary-of-the-environment")
    late = "canary-made-in-the-flow"

    @task(isolation="process")
    def leak(given, text):
        value = Secret("token").get()
        print("printed", value, text)
        get_run_logger().info("logged %s %s", value, text)
        os.write(1, f"raw {value} {text}\n".encode())
        subprocess.run(["echo", value, text], check=True)
        own = SecretStr("canary-of-the-task")
        masking.conceal(own.get_secret_value())
        print("own", own.get_secret_value())
        raise ValueError(f"failed with {value} {own.get_secret_value()}")

    @flow
    def whole():
        masking.conceal(late)
        leak(1, late)

    whole(return_state=True)
    assert any("printed ********" in row.message for row in reader.logs(1))
    content = b"".join(path.read_bytes() for path in store.rglob("*") if path.is_file())
    assert b"canary" not in content


def test_functions_of_every_kind(reader) -> None:
    """Generators, methods, partials, objects that can be called; states come back as they were."""

    class Shop:
        def __init__(self, rate):
            self.rate = rate

        @task(isolation="process")
        def price(self, x):
            return self.rate * x

    class Callable:
        def __call__(self, x):
            return x + 1

    @task(isolation="process")
    def numbers(n):
        yield from range(n)

    @task(isolation="process")
    def says(how):
        return Completed(data="fine", name="Good") if how else Failed(message="not fine")

    @flow
    def whole():
        assert list(numbers(3)) == [0, 1, 2]
        assert numbers.submit(2).result() == [0, 1]
        assert Shop(3).price(4) == 12
        assert task(isolation="process", name="partial")(functools.partial(pow, 2))(5) == 32
        assert task(isolation="process", name="object")(Callable())(5) == 6
        assert says(1, return_state=True).name == "Good"
        assert says(1) == "fine"
        return says(0, return_state=True)

    state = whole(return_state=True)
    assert (state.type, state.message) == ("FAILED", "not fine")
    assert not state.has_data()


def test_one_task_can_be_cancelled(reader, store, effects, eventually) -> None:
    """Its process is ended; the rest of the run goes on."""

    @task(isolation="process")
    def hang():
        effects(os.getpid())
        exec(HANGS)

    @task
    def other():
        return "fine"

    @flow
    def whole():
        state = hang.submit(return_state=True)
        return state.type, other()

    def cancel():
        eventually(lambda: effects.lines)
        control = Control(store, actor="tester@here via test")
        control.cancel(Node(1, 1))
        control.close()

    thread = threading.Thread(target=cancel)
    thread.start()
    assert whole() == ("CANCELLED", "fine")
    thread.join()
    assert not alive(int(effects.lines[0]))
    assert reader.tasks(1)[0].cause.startswith("cancelled by tester@here via test")


def test_slots_of_limits_are_held_there_too(reader, store, effects) -> None:
    """``concurrency`` in a worker waits its turn; who dies holding slots frees them."""
    upsert_global_concurrency_limit_by_name("database", 1)

    @task
    def use(n):
        with concurrency("database"):
            effects(f"in {n}")
            time.sleep(0.05)
            if n == 1:
                os._exit(1)
            effects(f"out {n}")

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=2))
    def whole():
        wait(use.map([0, 1, 2, 3]))

    whole(return_state=True)
    assert sorted(row.state_name for row in reader.tasks(1)) == ["Completed"] * 3 + ["Crashed"]
    for n in (0, 2, 3):
        place = effects.lines.index(f"in {n}")
        assert effects.lines[place + 1] == f"out {n}"


def test_a_timeout_in_what_a_task_calls_makes_no_room_for_two(store, effects) -> None:
    """A task that calls another lends its place; whoever has it then is not joined by one more when the first ends."""

    @task
    def never_ends():
        while True:
            time.sleep(0.01)

    @task(timeout_seconds=1)
    def caller():
        never_ends()

    @task
    def borrower():
        effects("borrowed")
        while not effects.count("over"):
            time.sleep(0.01)

    @task
    def alone(n):
        effects(f"in {n}")
        time.sleep(0.1)
        effects(f"out {n}")

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
    def whole():
        late, borrowing = caller.submit(), borrower.submit()
        late.wait()
        effects("over")
        wait([borrowing, *alone.map(range(3))])
        return late.state.name

    assert whole() == "TimedOut"
    order = [line.split() for line in effects.lines if line.startswith(("in", "out"))]
    assert [word for word, _ in order] == ["in", "out"] * 3
    assert [n for _, n in order[::2]] == [n for _, n in order[1::2]]


def test_cpu_and_memory_are_the_tasks_own(reader) -> None:
    """By the worker's own counters, also of one that has worked before."""

    @task
    def eat(megabytes):
        data = bytearray(megabytes * 1024 * 1024)
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass
        return len(data)

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
    def whole():
        eat.submit(200).result()
        eat.submit(1).result()

    whole()
    first, second = reader.tasks(1)
    assert first.peak_rss_bytes > 200 * 1024 * 1024
    assert first.cpu_us > 150_000
    if os.access("/proc/self/clear_refs", os.W_OK):
        assert second.peak_rss_bytes < 150 * 1024 * 1024


def test_exceptions_come_back_as_they_were(reader) -> None:
    """Their class, their attributes, their traceback in the log; one that cannot be sent is told in words."""

    @task(isolation="process")
    def raises(which):
        if which == "mine":
            raise Mine("of this module", 42)
        if which == "stubborn":
            raise Stubborn("a")
        raise SystemExit(3)

    @flow
    def whole():
        with pytest.raises(Mine, match="of this module") as caught:
            raises("mine")
        assert caught.value.code == 42
        assert raises("stubborn", return_state=True).message.startswith("RunFailed: Stubborn: a (the exception itself")
        assert raises("exit", return_state=True).message == "the task called sys.exit(3)"

    whole()
    text = "\n".join(row.message for row in reader.logs(1))
    assert "in raises" in text
    assert "Mine: of this module" in text
    assert "flowdeck/engine" not in text


def test_what_cannot_be_sent_fails_in_words(reader) -> None:
    """Arguments, results, functions: what it was, and what to do about it."""

    @task(isolation="process")
    def take(x):
        return x

    @task(isolation="process")
    def give():
        return threading.Lock()

    lock = threading.Lock()

    @task(isolation="process")
    def close_over():
        return lock

    @flow
    def whole():
        return [take(threading.Lock(), return_state=True), give(return_state=True), close_over(return_state=True)]

    whole(return_state=True)
    causes = [row.cause for row in reader.tasks(1)]
    assert "its argument 'x', a lock, cannot be pickled" in causes[0]
    assert "run the task in a thread" in causes[0]
    assert "its result, a lock, cannot be sent from its worker process" in causes[1]
    assert "the function, or something it refers to, cannot be pickled" in causes[2]


def test_a_worker_calls_tasks_in_the_runs_process(reader, effects, monkeypatch) -> None:
    """Sync and async, nested, also with one worker: recorded as calls of its task's, found again when it is retried."""
    monkeypatch.setenv("FLOWDECK_TASKS_RUNNER_PROCESS_POOL_MAX_WORKERS", "1")
    own = os.getpid()

    @task
    def inner(n):
        effects(f"inner {n} {os.getpid() == own}")
        return n + 1

    @task
    async def inner_async(n):
        return n * 10

    @task
    def fails(n):
        raise ValueError(f"refused {n}")

    @task(isolation="process")
    def deep(n):
        return deep(n - 1) + 1 if n else 0

    @task(isolation="process", retries=1)
    def outer(n):
        found = [inner(n), inner(n + 1), asyncio.run(inner_async(n)), inner(9, return_state=True).name]
        try:
            fails(3)
        except ValueError as error:
            found.append(str(error))
        effects("outer")
        if effects.lines.count("outer") == 1:
            raise ValueError("once")
        return found

    @task(isolation="process")
    async def outer_async(n):
        return await inner_async(n) + await inner_async(n)

    @flow
    def whole():
        return outer(0), deep(3)

    @flow
    async def whole_async():
        return await outer_async(2)

    assert whole() == ([1, 2, 0, "Completed", "refused 3"], 3)
    assert asyncio.run(whole_async()) == 40
    assert [effects.lines.count(f"inner {n} True") for n in (0, 1, 9)] == [1, 1, 1]
    rows = reader.tasks(1)
    assert [row.key for row in rows if row.scope_seq == 1] == ["inner", "inner", "inner_async", "inner", "fails"]
    deep_rows = [row for row in rows if row.key == "deep"]
    assert [row.scope_seq for row in deep_rows] == [0, *(row.seq for row in deep_rows[:-1])]
    assert all(row.ended_at_us for row in rows)


def test_what_a_called_task_waits_for_ends_with_its_callers_time(reader, effects) -> None:
    """The timeout of the task in the worker holds for what it calls, too."""

    @task
    def waits():
        effects("waits")
        time.sleep(60)

    @task(isolation="process", timeout_seconds=4)
    def outer():
        waits()

    @flow
    def whole():
        outer()

    begun = time.monotonic()
    assert whole(return_state=True).message.endswith("took longer than 4 s")
    assert time.monotonic() - begun < 40
    assert {row.name: row.state_name for row in reader.tasks(1)} == {"outer": "TimedOut", "waits": "Cancelled"}


def test_submitted_tasks_and_flows_cannot_be_called_from_there(reader) -> None:
    """A clear error instead of a run nobody records; the plain function can be called."""

    @task
    def inner(x):
        return x + 1

    @flow
    def below():
        return 1

    @task(isolation="process")
    def outer(how):
        return {"map": lambda: inner.map([1]), "submit": lambda: inner.submit(1), "flow": below,
                "fn": lambda: inner.fn(1)}[how]()  # fmt: skip

    @flow
    def whole():
        for how in ("map", "submit", "flow"):
            with pytest.raises(UsageError, match=r"task outer.* runs in a worker process: tasks, subflows and"):
                outer(how)
        return outer("fn")

    assert whole() == 2
    assert len(reader.tasks(1)) == 4
    assert reader.run(2) is None


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("os._exit(3)", "its worker process exited with code 3 before it finished"),
        ("os.kill(os.getpid(), 9)", "its worker process was killed by signal 9 (SIGKILL)"),
        ("import ctypes; ctypes.string_at(0)", "its worker process was killed by signal 11 (SIGSEGV)"),
    ],
)
def test_a_worker_that_dies_crashes_its_task_alone(reader, code, cause, pool) -> None:
    """Crashed with the cause; what it had printed is kept; others go on, in a new worker."""

    @task
    def dies():
        print("last words", flush=True)
        os.write(1, b"raw last words")
        exec(code)

    @task
    def lives():
        return "fine"

    if not pool:
        dies, lives = dies.with_options(isolation="process"), lives.with_options(isolation="process")

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=1) if pool else None)
    def whole():
        future = dies.submit()
        with pytest.raises(WorkerDied):
            future.result()
        return lives.submit().result()

    assert whole() == "fine"
    row = reader.tasks(1)[0]
    assert (row.state_type, row.state_name) == ("CRASHED", "Crashed")
    assert row.cause.removesuffix(", core dumped") == cause
    assert {"last words", "raw last words"} <= {log.message for log in reader.logs(1) if log.task_seq == 1}


def test_crashes_are_tried_again_as_often_as_allowed(reader, effects) -> None:
    """``crash_retries``, apart from ``retries``; failures and crashes do not use up one another's."""

    @task(isolation="process", retries=1, crash_retries=2)
    def fragile():
        effects("try")
        number = effects.count("try")
        if number in (1, 3):
            os._exit(1)
        if number == 2:
            raise ValueError("failed")
        return number

    @task(isolation="process", retries=5)
    def hopeless():
        os._exit(1)

    @flow
    def whole():
        assert hopeless(return_state=True).name == "Crashed"
        return fragile()

    assert whole() == 4
    hopeless_row, row = reader.tasks(1)
    assert (hopeless_row.attempt, row.attempt, row.state_name) == (1, 4, "Completed")
    causes = [event.message for event in reader.events(run_id=1, limit=1000) if event.to_name == "AwaitingRetry"]
    assert causes[0] == ("attempt 1 crashed: its worker process exited with code 1 before it finished; next in 0.1 s "
                         "(1 of 2 crash retries)")  # fmt: skip
    assert causes[1] == "attempt 2 failed: ValueError: failed; next in 0 s"
    assert "(2 of 2 crash retries)" in causes[2]


@pytest.mark.parametrize("how", ["call", "submit"])
def test_a_hang_in_c_code_is_really_ended(reader, effects, how) -> None:
    """A timeout kills the process, with what it had started; the attempt is TimedOut and may be tried again."""

    @task(isolation="process", timeout_seconds=4, retries=1)
    def hang():
        child = subprocess.Popen(["sleep", "60"])
        effects(os.getpid())
        effects(child.pid)
        if len(effects.lines) > 2:
            return "second time"
        exec(HANGS)
        return "never"

    @flow
    def whole():
        return hang() if how == "call" else hang.submit().result()

    begun = time.monotonic()
    assert whole() == "second time"
    assert time.monotonic() - begun < 40
    assert not any(alive(int(pid)) for pid in effects.lines)
    names = [event.message for event in reader.events(run_id=1, limit=1000) if event.to_name == "AwaitingRetry"]
    assert names == ["attempt 1 failed: took longer than 4 s; next in 0 s"]


def test_code_that_can_unwinds_at_its_timeout(reader, effects) -> None:
    """SIGTERM first: ``finally`` runs; whatever it returns then, it timed out."""

    @task(isolation="process", timeout_seconds=4)
    def slow():
        try:
            time.sleep(60)
        finally:
            effects("cleaned up")

    @flow
    def whole():
        with pytest.raises(RunTimedOut, match=r"slow took longer than 4 s"):
            slow()

    whole()
    assert reader.tasks(1)[0].state_name == "TimedOut"
    assert effects.lines == ["cleaned up"]


@pytest.mark.parametrize("pool", [False, True])
def test_cancelling_the_run_ends_its_workers(reader, store, effects, eventually, pool) -> None:
    """Also those that hang in C code; within the grace, and the run says Cancelled only then."""

    @task
    def hang(n):
        effects(os.getpid())
        exec(HANGS)

    hang = hang if pool else hang.with_options(isolation="process")

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=2) if pool else None)
    def whole():
        hang.map([1, 2]).result()

    def cancel():
        eventually(lambda: len(effects.lines) == 2)
        control = Control(store, actor="tester@here via test")
        control.cancel(1)
        control.close()

    thread = threading.Thread(target=cancel)
    thread.start()
    begun = time.monotonic()
    with pytest.raises(SystemExit):
        whole()
    thread.join()
    assert time.monotonic() - begun < 40
    assert not any(alive(int(pid)) for pid in effects.lines)
    assert reader.run(1).state_name == "Cancelled"
    assert [row.state_name for row in reader.tasks(1)] == ["Cancelled"] * 2


POOL_SCRIPT = """
import subprocess
@task
def hang(n):
    child = subprocess.Popen(["sleep", "60"])
    effect(f"{os.getpid()} {os.getppid()} {child.pid}")
    exec("import itertools; all(itertools.repeat(1))")

@flow(task_runner=ProcessPoolTaskRunner(max_workers=2))
def whole():
    hang.map([1, 2]).result()

if __name__ == "__main__":
    whole()
"""


def started(script, effects, eventually):
    process = script.start(POOL_SCRIPT)
    eventually(lambda: len(effects.lines) == 2)
    return process, [[int(pid) for pid in line.split()] for line in effects.lines]


@pytest.mark.parametrize("kill", [os.kill, os.killpg])
def test_no_worker_outlives_a_killed_run(script, effects, eventually, kill) -> None:
    """kill -9 of the run's process, or its group: the server, the workers and what they started are gone."""
    process, found = started(script, effects, eventually)
    kill(process.pid, signal.SIGKILL)
    process.wait()
    eventually(lambda: not any(alive(pid) for pids in found for pid in pids))


def test_workers_die_with_their_server(reader, script, effects, eventually) -> None:
    """kill -9 of the server: its workers' tasks crash, nobody waits for them for ever."""
    process, found = started(script, effects, eventually)
    os.kill(found[0][1], signal.SIGKILL)
    assert process.wait(60) == 1
    assert not any(alive(pids[0]) for pids in found)
    assert {row.state_name for row in reader.tasks(1)} == {"Crashed"}
    assert {row.cause for row in reader.tasks(1)} == {"its worker process ended and nobody saw how"}


def test_an_interrupt_from_the_keyboard_ends_them(reader, script, effects, eventually) -> None:
    """Ctrl-C goes to the terminal's foreground group, which workers are not in."""
    process, found = started(script, effects, eventually)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(30)
    assert reader.run(1).state_name == "Cancelled"
    eventually(lambda: not any(alive(pid) for pids in found for pid in pids))


def test_wrong_runners_are_refused() -> None:
    """In words, when the flow is made."""
    with pytest.raises(UsageError, match="task_runner must be ThreadPoolTaskRunner"):
        flow(task_runner="processes")(lambda: 1)
    with pytest.raises(UsageError, match="isolation must be 'process' or 'thread', not 'procces'"):
        task(isolation="procces")(lambda: 1)
    with pytest.raises(ValueError, match="max_workers must be"):
        ProcessPoolTaskRunner(max_workers=0)


def test_runners_may_be_given_as_classes(reader) -> None:
    """With their defaults, which the environment may set."""

    @task
    def where():
        return os.getpid()

    assert flow(lambda: where.submit().result(), name="a", task_runner=ProcessPoolTaskRunner)() != os.getpid()


def test_the_environment_sizes_pools(monkeypatch) -> None:
    """For both kinds; nonsense is refused with the variable's name."""
    monkeypatch.setenv("FLOWDECK_TASKS_RUNNER_PROCESS_POOL_MAX_WORKERS", "3")
    assert ProcessPoolTaskRunner().max_workers == 3
    monkeypatch.setenv("FLOWDECK_TASKS_RUNNER_PROCESS_POOL_MAX_WORKERS", "no")
    with pytest.raises(UsageError, match="FLOWDECK_TASKS_RUNNER_PROCESS_POOL_MAX_WORKERS must be"):
        ProcessPoolTaskRunner()


DEPLOYED = """
    import dataclasses, threading
    from flowdeck import ProcessPoolTaskRunner
    LIMIT = 40

    @dataclasses.dataclass
    class Part:
        n: int

    def helper(n):
        return Part(n + LIMIT)

    @task
    def step(n):
        effect(f"{os.getpid()} {n}")
        print("step", n)
        if n == 2:
            wait_for("go")
        return helper(n)

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=2))
    def etl():
        parts = [step.submit(1).result(), step.submit(2).result()]
        assert all(type(part) is Part for part in parts)
        return sum(part.n for part in parts)
"""


def test_runs_of_a_daemon_have_workers_too(box) -> None:
    """A flow file's own functions and classes; frozen with their run; gone with it, which then goes on by replay."""
    box.write("etl.py", DEPLOYED)
    box.daemon()
    run_id = box.submit("etl")
    box.wait(lambda: len(box.effects()) == 2)
    workers = [int(line.split()[0]) for line in box.effects()]
    lease = box.reader.lease_of(run_id)

    def is_stopped(pid):
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "T"

    box.control.freeze(run_id)
    box.wait(lambda: is_stopped(lease.pid) and is_stopped(workers[1]))
    box.control.thaw(run_id)
    box.wait(lambda: not is_stopped(workers[1]))
    os.kill(lease.pid, signal.SIGKILL)
    box.wait(lambda: not any(alive(pid) for pid in workers))
    box.wait(lambda: len(box.effects()) == 3)
    box.touch("go")
    row = box.wait_state(run_id, "Completed")
    assert (row.result_preview, row.attempt) == ("83", 2)
    assert [line.split()[1] for line in box.effects()] == ["1", "2", "2"]
    lines = [(log.message, log.task_seq) for log in box.reader.logs(run_id) if log.stream == "stdout"]
    assert lines == [("step 1", 1), ("step 2", 2), ("step 2", 2)]


def test_the_end_of_a_worker_in_words() -> None:
    """Also the kernel's out-of-memory kill, which no test should cause."""
    fate = {"pid": 7, "status": signal.SIGKILL, "max_rss_bytes": 3 << 20, "out_of_memory": True}
    assert ending(fate) == "ran out of memory: killed by the kernel; it had used 3 MiB"
    assert ending({**fate, "out_of_memory": False}) == "was killed by signal 9 (SIGKILL)"
    assert ending({"trouble": "no memory"}) == "could not be made: no memory"
    assert ending({}) == "ended and nobody saw how"


def test_those_that_wait_for_a_worker_hear_of_the_end(reader, monkeypatch, effects) -> None:
    """A caller's timeout ends also what it submitted and what has no process yet."""
    monkeypatch.setenv("FLOWDECK_TASKS_RUNNER_PROCESS_POOL_MAX_WORKERS", "1")

    @task(isolation="process")
    def slow(n):
        effects(n)
        time.sleep(60)

    @task(timeout_seconds=6)
    def outer():
        slow.map([1, 2, 3]).result()

    @flow
    def whole():
        return outer.submit(return_state=True).name

    begun = time.monotonic()
    assert whole() == "TimedOut"
    assert time.monotonic() - begun < 40
    assert len(effects.lines) == 1
    assert [row.state_name for row in reader.tasks(1)] == ["TimedOut", "Cancelled", "Cancelled", "Cancelled"]


def test_a_worker_has_the_runs_environment(reader, monkeypatch) -> None:
    """As it is when the worker is made; the folder and the log level, too."""

    @task(isolation="process")
    def look():
        logging.getLogger("x").debug("shown")
        return os.environ.get("SET_LATE"), os.getcwd()

    @flow
    def whole():
        look()
        monkeypatch.setenv("SET_LATE", "yes")
        return look()

    root = logging.getLogger()
    level = root.level
    try:
        root.setLevel(logging.DEBUG)
        assert whole() == ("yes", os.getcwd())
    finally:
        root.setLevel(level)
    assert [row.message for row in reader.logs(1) if row.logger == "x"] == ["shown"] * 2


def test_prefect_1_has_processes_too(reader) -> None:
    """``LocalDaskExecutor(scheduler="processes")`` is such a pool."""

    @task
    def where(x):
        return os.getpid(), x * 2

    with Flow("classic") as graph:
        found = where.map([1, 2, 3])
    state = graph.run(executor=LocalDaskExecutor(scheduler="processes", num_workers=2))
    results = state.result[found].result
    assert [x for _, x in results] == [2, 4, 6]
    assert os.getpid() not in {pid for pid, _ in results}


def test_subflows_have_a_pool_of_their_own_or_their_callers(reader) -> None:
    """A runner named by a flow is its own; a flow that names none has that of who called it."""

    @task
    def where(x):
        return os.getpid()

    own = ProcessPoolTaskRunner(max_workers=1)

    @flow(task_runner=own)
    def pooled():
        return set(where.map(range(3)).result())

    @flow
    def plain():
        return set(where.map(range(3)).result())

    @flow(task_runner=ThreadPoolTaskRunner)
    def threads():
        return set(where.map(range(3)).result())

    assert flow(lambda: (pooled(), plain()), name="whole")()[1] == {os.getpid()}
    one, inherited, other = flow(lambda: (pooled(), plain(), threads()), name="all", task_runner=own)()
    assert one == inherited
    assert os.getpid() not in one
    assert other == {os.getpid()}
