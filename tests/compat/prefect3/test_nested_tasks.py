"""Tasks that call tasks; generators; recursion."""

from __future__ import annotations

import asyncio

import pytest

from .names import flow, only_here, task
from .records import task_runs


def test_a_task_calls_a_task() -> None:
    """And gets its value."""

    @task
    def inner(x):
        return x + 1

    @task
    def outer(x):
        return inner(x) * 10

    @flow
    def parent():
        return outer(1)

    assert parent() == 20


def test_a_task_calls_a_task_outside_a_flow() -> None:
    """The same."""

    @task
    def inner(x):
        return x + 1

    @task
    def outer(x):
        return inner(x) * 10

    assert outer(1) == 20


def test_an_async_task_calls_an_async_task() -> None:
    """Awaited."""

    @task
    async def inner(x):
        return x + 1

    @task
    async def outer(x):
        return await inner(x) * 10

    @flow
    async def parent():
        return await outer(1)

    assert asyncio.run(parent()) == 20


def test_an_async_task_calls_a_sync_task() -> None:
    """Without await."""

    @task
    def inner(x):
        return x + 1

    @task
    async def outer(x):
        return inner(x) * 10

    @flow
    async def parent():
        return await outer(1)

    assert asyncio.run(parent()) == 20


def test_three_deep() -> None:
    """Each records a run."""

    @task(task_run_name="inner")
    def inner():
        return 1

    @task(task_run_name="middle")
    def middle():
        return inner() + 1

    @task(task_run_name="outer")
    def outer():
        return middle() + 1

    @flow(name="compat three deep")
    def parent():
        return outer()

    assert parent() == 3
    assert {run.name for run in task_runs("compat three deep")} == {"inner", "middle", "outer"}


def test_a_task_calls_itself() -> None:
    """Recursion ends as in Python."""

    @task
    def down(n):
        return 0 if n == 0 else 1 + down(n - 1)

    @flow
    def parent():
        return down(3)

    assert parent() == 3


def test_a_failure_of_an_inner_task_comes_through() -> None:
    """Both failed."""

    @task(task_run_name="inner")
    def inner():
        raise ValueError("inside")

    @task(task_run_name="outer")
    def outer():
        inner()

    @flow(name="compat inner failure")
    def parent():
        outer()

    with pytest.raises(ValueError, match="inside"):
        parent()
    assert {run.name: run.state for run in task_runs("compat inner failure")} == {"inner": "Failed", "outer": "Failed"}


def test_a_caught_failure_of_an_inner_task_does_not() -> None:
    """The outer task completed."""

    @task
    def inner():
        raise ValueError("inside")

    @task
    def outer():
        try:
            inner()
        except ValueError:
            return "caught"

    @flow
    def parent():
        return outer()

    assert parent() == "caught"


def test_retries_of_the_outer_task_call_the_inner_again() -> None:
    """When the inner one failed."""
    calls = []

    @task
    def inner():
        calls.append("inner")
        if len(calls) < 3:
            raise ValueError("not yet")
        return "done"

    @task(retries=2)
    def outer():
        return inner()

    @flow
    def parent():
        return outer()

    assert parent() == "done"
    assert len(calls) == 3


def test_inner_tasks_mapped() -> None:
    """Within a submitted task."""

    @task
    def inner(x):
        return x + 1

    @task
    def outer(items):
        return sum(inner.map(items).result())

    @flow
    def parent():
        return outer.submit([1, 2, 3]).result()

    assert parent() == 9


def test_many_outer_tasks_wait_for_inner_ones() -> None:
    """Submitted together; none blocks another."""

    @task
    def inner(x):
        return x + 1

    @task
    def outer(x):
        return inner.submit(x).result()

    @flow
    def parent():
        return outer.map(list(range(8))).result()

    assert parent() == list(range(1, 9))


@only_here("a task that waits for its children lends its place in the pool; Prefect deadlocks here")
def test_a_pool_of_one_is_enough_for_nested_tasks() -> None:
    """No deadlock."""
    from .names import ThreadPoolTaskRunner

    @task
    def inner(x):
        return x + 1

    @task
    def outer(x):
        return inner.submit(x).result()

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def parent():
        return outer.map([1, 2]).result()

    assert parent() == [2, 3]


def test_a_generator_task_yields() -> None:
    """One by one."""
    produced = []

    @task
    def counts():
        for number in range(3):
            produced.append(number)
            yield number

    @flow
    def parent():
        seen = []
        for number in counts():
            seen.append(number)
            assert produced[-1] == number
        return seen

    assert parent() == [0, 1, 2]


def test_a_generator_task_outside_a_flow() -> None:
    """One by one."""

    @task
    def counts():
        yield 1
        yield 2

    assert list(counts()) == [1, 2]


def test_a_generator_task_raises_where_it_does() -> None:
    """After what it yielded before."""

    @task
    def counts():
        yield 1
        raise ValueError("after one")

    @flow
    def parent():
        seen = []
        with pytest.raises(ValueError, match="after one"):  # noqa: PT012 - what came before counts
            for number in counts():
                seen.append(number)
        return seen

    assert parent() == [1]


def test_an_async_generator_task() -> None:
    """One by one."""

    @task
    async def counts():
        yield 1
        yield 2

    @flow
    async def parent():
        return [number async for number in counts()]

    assert asyncio.run(parent()) == [1, 2]


def test_a_generator_task_submitted_gives_a_list() -> None:
    """Nobody takes its values one by one."""

    @task
    def counts():
        yield 1
        yield 2

    @flow
    def parent():
        return counts.submit().result()

    assert list(parent()) == [1, 2]


def test_a_generator_with_arguments_from_futures() -> None:
    """They are values inside."""

    @task
    def number():
        return 2

    @task
    def counts(n):
        yield from range(n)

    @flow
    def parent():
        return list(counts(number.submit()))

    assert parent() == [0, 1]
