"""Threads that a run's code starts by itself: their calls, lines and prints are the run's, and found again."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool

import pytest
from flowdeck import MissingContextError, flow, get_run_logger, task, with_context
from flowdeck.runtime import flow_run, task_run

effects: list = []


@task
def body(n):
    effects.append(n)
    get_run_logger().info("body %s", n)
    print(f"printed {n}")
    return n * 2


@task
def breaks():
    effects.append("last")
    if effects.count("last") == 1:
        raise ValueError("once")


class Worker(threading.Thread):
    def run(self):
        self.got = [body(n) for n in range(3)]


def by_executor():
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(body, range(3)))


def by_thread():
    worker = Worker()
    worker.start()
    worker.join()
    assert "run" not in vars(worker)
    return worker.got


def by_timer():
    got = []
    for n in range(3):
        timer = threading.Timer(0, lambda n=n: got.append(body(n)))
        timer.start()
        timer.join()
    return got


def by_thread_pool():
    with ThreadPool(2) as pool:
        return pool.map(body, range(3))


def by_to_thread():
    async def all_of_them():
        return await asyncio.gather(*(asyncio.to_thread(body, n) for n in range(3)))

    return asyncio.run(all_of_them())


def by_loops_executor():
    async def all_of_them():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(None, body, n) for n in range(3)))

    return asyncio.run(all_of_them())


def by_joblib():
    joblib = pytest.importorskip("joblib")
    return joblib.Parallel(n_jobs=2, backend="threading")(joblib.delayed(body)(n) for n in range(3))


WAYS = [by_executor, by_thread, by_timer, by_thread_pool, by_to_thread, by_loops_executor, by_joblib]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_calls_of_a_flow_s_threads_are_the_flow_s(way, reader):
    """In its tree, with their lines and prints, each body once for all attempts."""
    effects.clear()

    @flow(retries=1, log_prints=True)
    def starts_threads():
        assert list(way()) == [0, 2, 4]
        breaks()

    starts_threads()
    assert sorted(map(str, effects)) == ["0", "1", "2", "last", "last"]
    assert [run.flow_name for run in reader.runs(roots_only=False)] == ["starts_threads"]
    tasks = {row.seq: row for row in reader.tasks(1)}
    assert [row.state_name for row in tasks.values()] == ["Completed"] * 4
    lines = [(line.message, line.task_seq) for line in reader.logs(1, 0, 1_000)]
    for n in range(3):
        for text in (f"body {n}", f"printed {n}"):
            seqs = [seq for message, seq in lines if message == text]
            assert [tasks[seq].key for seq in seqs] == ["body"], lines


def test_a_thread_of_a_task_is_the_task_s(reader):
    """What it calls is called by that task; ``runtime`` and loggers say so; a pool's work is each its own caller's."""
    pool = ThreadPoolExecutor(1)
    seen = []

    @task
    def starts_one(n):
        seen.append(pool.submit(lambda: (task_run.name, flow_run.id, body(n))).result())

    @flow
    def starts_threads():
        starts_one(1)
        starts_one(2)
        seen.append(pool.submit(lambda: flow_run.id).result())

    starts_threads()
    pool.submit(lambda: seen.append(flow_run.id)).result()
    pool.shutdown()
    assert seen == [("starts_one", "1", 2), ("starts_one[1]", "1", 4), "1", None]
    assert [row.scope_seq for row in reader.tasks(1) if row.key == "body"] == [1, 3]


def test_flows_in_threads_outside_of_runs_stay_runs_of_their_own(reader):
    """A pool that runs flows, or bare tasks, makes as many runs; users' own context variables are left alone."""
    variable = contextvars.ContextVar("variable", default="none")
    seen = []

    @flow
    def alone(n):
        variable.set("set")
        thread = threading.Thread(target=lambda: seen.append(variable.get()))
        thread.start()
        thread.join()
        return body(n)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(alone, range(3))) == [0, 2, 4]
        assert list(pool.map(body, range(2))) == [0, 2]
    assert len(reader.runs()) == 5
    inherits = getattr(__import__("sys").flags, "thread_inherit_context", 0)
    assert seen == ["set" if inherits else "none"] * 3


def test_a_thread_that_outlives_its_run_is_no_part_of_it(reader):
    """Its calls are runs of their own again, and its lines no longer the run's."""
    go_on, got = threading.Event(), []

    def later():
        go_on.wait(60)
        got.append(body(7))

    threads = []

    @flow
    def leaves_one():
        threads.append(threading.Thread(target=later))
        threads[0].start()

    leaves_one()
    go_on.set()
    threads[0].join(60)
    assert got == [14]
    assert sorted(run.flow_name for run in reader.runs()) == ["body", "leaves_one"]


def test_a_thread_from_outside_is_told_what_to_do(reader):
    """A task called there is a run of its own, whose log gives the remedy; with that it is the flow's."""
    work: list = []
    come, done = threading.Semaphore(0), threading.Semaphore(0)
    refused = []

    def serves():
        for _ in range(2):
            come.acquire()
            work.pop()()
            done.release()

    thread = threading.Thread(target=serves)
    thread.start()

    def asks_for_a_logger():
        try:
            get_run_logger()
        except MissingContextError as error:
            refused.append(str(error))
        body(1)

    @flow
    def hands_over():
        for function in (asks_for_a_logger, with_context(lambda: body(2))):
            work.append(function)
            come.release()
            assert done.acquire(timeout=60)

    hands_over()
    thread.join(60)
    assert "with_context(function)" in refused[0]
    rows = {run.flow_name: run for run in reader.runs()}
    assert set(rows) == {"hands_over", "body"}
    stray = [line.message for line in reader.logs(rows["body"].id, 0, 100)]
    assert any("with_context(function)" in line and f"#{rows['hands_over'].id}" in line for line in stray), stray
    assert [row.key for row in reader.tasks(rows["hands_over"].id)] == ["body"]
