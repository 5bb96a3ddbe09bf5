"""Coroutine functions as tasks and flows: the same engine, the same records, without blocking the event loop."""

from __future__ import annotations

import asyncio
import time

import pytest
from flowdeck import ThreadPoolTaskRunner, as_completed, flow, get_run_logger, task


@task
async def later(x, seconds=0.0):
    await asyncio.sleep(seconds)
    return x


@task
async def bad():
    await asyncio.sleep(0)
    raise ValueError("boom")


@task
def plain(x):
    return x


def states(reader, run_id=1):
    return [(row.name, row.state_name) for row in reader.tasks(run_id)]


def test_an_async_flow_awaits_its_tasks(reader) -> None:
    """Async and plain tasks, called and submitted; failures are raised."""

    @flow
    async def whole(x: int):
        get_run_logger().info("here")
        with pytest.raises(ValueError, match="boom"):
            await bad()
        future = later.submit(3)
        return [await later(x), plain(2), await asyncio.to_thread(future.result), (await bad(return_state=True)).name]

    assert asyncio.run(whole("1")) == [1, 2, 3, "Failed"]
    assert reader.run(1).state_name == "Completed"
    assert len(states(reader)) == 5


@pytest.mark.alone
def test_gather_runs_tasks_at_once_with_stable_numbers(reader) -> None:
    """As many as one likes, in one thread."""

    @flow
    async def whole():
        begun = time.monotonic()
        values = await asyncio.gather(*(later(n, 0.2 - n / 100) for n in range(20)))
        assert time.monotonic() - begun < 2
        return values

    assert asyncio.run(whole()) == list(range(20))
    assert [row.seq for row in reader.tasks(1) if row.name == f"later[{row.call_index}]" or row.seq == 1] == list(
        range(1, 21)
    )


@pytest.mark.alone
def test_a_plain_flow_submits_async_tasks(reader) -> None:
    """They share one event loop; map, wait_for and as_completed work as for others."""

    @flow
    def whole():
        begun = time.monotonic()
        futures = later.map(range(30), seconds=0.2)
        assert sorted(future.result() for future in as_completed(futures)) == list(range(30))
        assert time.monotonic() - begun < 3
        chained = plain.submit(later.submit("x"))
        broken = plain.submit(bad.submit(), return_state=True)
        return chained.result(), broken.name

    assert whole() == ("x", "NotReady")


def test_async_subflows(reader) -> None:
    """Concurrently, too; a plain flow within an async one."""

    @flow
    async def child(n: int):
        return await later(n)

    @flow
    def plain_child(n):
        return plain(n)

    @flow
    async def parent():
        return await asyncio.gather(*(child(n) for n in range(4))), plain_child(9)

    assert asyncio.run(parent()) == ([0, 1, 2, 3], 9)
    assert [run.parent_seq for run in reader.children(1)] == [1, 2, 3, 4, 5]
    assert {run.state_name for run in reader.children(1)} == {"Completed"}


def test_tasks_call_tasks_in_coroutines(reader) -> None:
    """Each knows its own run and task."""

    @task
    async def outer(n):
        get_run_logger().info("outer %d", n)
        return await later(n) + await later(n, 0.01)

    @flow
    async def whole():
        return await asyncio.gather(*(outer(n) for n in range(5)))

    assert asyncio.run(whole()) == [0, 2, 4, 6, 8]
    outers = {row.seq for row in reader.tasks(1) if row.key == "outer"}
    assert {row.scope_seq for row in reader.tasks(1) if row.key == "later"} == outers
    logged = {(row.message, row.task_seq) for row in reader.logs(1)}
    assert {seq for message, seq in logged if message.startswith("outer")} == outers


def test_async_retries_do_not_hold_the_loop(reader) -> None:
    """Other coroutines go on meanwhile."""
    calls = []

    @task(retries=2, retry_delay_seconds=0.1)
    async def flaky():
        calls.append(1)
        if len(calls) < 3:
            raise ValueError
        return "ok"

    @flow(retries=1)
    async def whole():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.005)

        ticking = asyncio.create_task(tick())
        value = await flaky()
        ticking.cancel()
        return value, ticks

    value, ticks = asyncio.run(whole())
    assert value == "ok"
    assert ticks > 10


def test_a_cancelled_coroutine_is_a_cancelled_task(reader) -> None:
    """``asyncio.wait_for`` around a task is no failure to be retried; neither is one around a flow."""
    calls = []

    @task(retries=3)
    async def slow():
        calls.append(1)
        await asyncio.sleep(10)

    @flow(retries=1)
    async def whole():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slow(), 0.1)
        return "went on"

    assert asyncio.run(whole()) == "went on"
    row = reader.tasks(1)[0]
    assert (row.state_type, row.cause, len(calls)) == ("CANCELLED", "its coroutine was cancelled", 1)

    @flow
    async def forever():
        await asyncio.sleep(10)

    async def impatient():
        await asyncio.wait_for(forever(), 0.1)

    with pytest.raises(TimeoutError):
        asyncio.run(impatient())
    assert reader.run(2).state_type == "CANCELLED"


def test_async_hooks_and_methods(reader) -> None:
    """Coroutine hooks run; async methods are tasks and flows."""
    called = []

    class Pipeline:
        @task
        async def step(self, x):
            return await later(x)

        @flow
        async def whole(self, x):
            return await self.step(x)

    pipeline = Pipeline()
    assert asyncio.run(pipeline.whole(3)) == 3

    async def hook(flow, run, state):
        called.append(state.type)

    @flow(on_completion=[hook])
    def sync():
        pass

    sync()
    assert called == ["COMPLETED"]
    assert asyncio.run(later(5)) == 5, "an async task outside a flow"


@task
async def below(n):
    await asyncio.sleep(0.01)
    return n


@task
def in_between(n):
    return below.submit(n).result()


@task
async def countdown(n):
    return 0 if n == 0 else 1 + countdown.submit(n - 1).result()


@flow
def subflow_below(n):
    return below.submit(n).result() + sum(below.map([1, 2]).result())


@task
async def waits_for(what):
    """Without ``await``: it blocks the event loop that it runs in."""
    if what == "an async task":
        return below.submit(3).result()
    if what == "a task that waits for one":
        return in_between.submit(3).result()
    if what == "many":
        return len([future.result() for future in as_completed(below.map(range(3)))])
    if what == "a subflow's":
        return subflow_below(0)
    return countdown.submit(3).result()


@pytest.mark.parametrize("threads", [None, 1])
@pytest.mark.parametrize(
    "what", ["an async task", "a task that waits for one", "many", "a subflow's", "one that waits again"]
)
def test_a_submitted_async_task_waits_for_what_it_submits(reader, threads, what) -> None:
    """However deep: what is waited for never needs the event loop that the wait blocks, nor the one thread there is."""

    @flow(task_runner=None if threads is None else ThreadPoolTaskRunner(max_workers=threads))
    def whole():
        return waits_for.submit(what).result()

    assert whole() == 3


@pytest.mark.parametrize("through", ["itself", "a plain task"])
def test_a_wait_that_could_never_end_is_refused(reader, through) -> None:
    """Who would close the circle of those who wait for each other is told so; the run ends."""
    box = []

    @task
    async def slow():
        while not asked:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.2)
        return "slow"

    @task
    def plainly():
        return box[0].result()

    @task
    async def circle():
        asked.append(True)
        return box[0].result() if through == "itself" else plainly.submit().result()

    asked: list[bool] = []

    @flow
    def whole():
        box.append(slow.submit())
        state = circle.submit(return_state=False)
        state.wait()
        return box[0].result(), state.state

    value, state = whole(return_state=True).result(raise_on_failure=False)
    assert value == "slow"
    assert state.name == "Failed"
    assert "would never end" in state.message
    assert "asyncio.to_thread" in state.message


def test_a_bounded_pool_bounds_async_tasks(reader) -> None:
    """``max_workers`` holds for both kinds together; who waits for what it submitted makes room for that."""
    inside, most = [], []

    def enter():
        inside.append(1)
        most.append(len(inside))

    @task
    async def one(_n):
        enter()
        await asyncio.sleep(0.03)
        inside.pop()

    @task
    def other(_n):
        enter()
        time.sleep(0.03)
        inside.pop()

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
    async def whole():
        futures = [(one, other)[n % 2].submit(n) for n in range(8)]
        for future in futures:
            await asyncio.to_thread(future.result)

    asyncio.run(whole())
    assert max(most) == 2
    assert len(most) == 8


def test_the_result_of_a_state_may_be_awaited(effects) -> None:
    """In coroutines ``await state.result()`` and ``state.result()`` are one, of tasks and flows, failed ones too."""

    @task
    def one():
        return 1

    @task
    async def fails():
        raise ValueError("no")

    @flow
    async def child():
        return 2

    @flow
    async def whole():
        bad = await fails(return_state=True)
        with pytest.raises(ValueError, match="no"):
            await bad.result()
        error = await bad.result(raise_on_failure=False)
        state = one(return_state=True)
        return [await state.result(), state.result(), await (await child(return_state=True)).result(),
                await state.aresult(), type(error).__name__]  # fmt: skip

    state = asyncio.run(whole(return_state=True))
    assert state.result() == [1, 1, 2, 1, "ValueError"]
