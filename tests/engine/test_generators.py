"""Tasks and flows that yield: items as they come, one recorded run, replay without running the body again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from flowdeck import flow, task
from flowdeck.store.reader import Reader


@pytest.fixture(autouse=True)
def _store(store: Path) -> Path:
    return store


def _task(reader: Reader, name: str) -> Any:
    run = reader.find("@last")
    assert run is not None
    return next(row for row in reader.tasks(run.id) if row.key == name)


def test_the_caller_gets_each_item_before_the_body_goes_on(reader: Reader) -> None:
    """The body waits for the caller, as a generator does; the record is one task with all items."""
    order: list[str] = []

    @task
    def pages(count: int) -> Iterator[int]:
        for number in range(count):
            order.append(f"make {number}")
            yield number

    @flow
    def reads() -> list[int]:
        found = []
        for number in pages(3):
            order.append(f"use {number}")
            found.append(number)
        return found

    assert reads() == [0, 1, 2]
    assert order == ["make 0", "use 0", "make 1", "use 1", "make 2", "use 2"]
    row = _task(reader, "pages")
    assert row.state_name == "Completed"
    result = reader.result(row.run_id, row.seq)
    assert result is not None
    assert "[0, 1, 2]" in result.preview


def test_a_failed_body_raises_at_the_caller_and_is_retried_from_its_start() -> None:
    """Items of the first attempt were given; the second attempt gives its own from the beginning."""
    attempts: list[int] = []

    @task(retries=1)
    def flaky() -> Iterator[int]:
        attempts.append(1)
        yield 1
        if len(attempts) == 1:
            raise ValueError("once")
        yield 2

    @task
    def broken() -> Iterator[int]:
        yield 7
        raise KeyError("gone")

    @flow
    def reads() -> tuple[list[int], list[int]]:
        seen: list[int] = []
        with pytest.raises(KeyError, match="gone"):
            seen.extend(broken())
        return list(flaky()), seen

    assert reads() == ([1, 1, 2], [7])


def test_a_caller_who_stops_early_closes_the_body(reader: Reader) -> None:
    """`finally` in the body runs, the task is Completed, and its items are not taken for a result."""
    closed: list[bool] = []

    @task
    def endless() -> Iterator[int]:
        number = 0
        try:
            while True:
                yield number
                number += 1
        finally:
            closed.append(True)

    @flow
    def takes_two() -> int:
        items = endless()
        first, second = next(items), next(items)
        items.close()
        return first + second

    assert takes_two() == 1
    assert closed == [True]
    row = _task(reader, "endless")
    assert row.state_name == "Completed"
    assert reader.result(row.run_id, row.seq) is None


def test_a_retried_flow_gets_the_recorded_items_without_the_body() -> None:
    """What was yielded to its end is replayed."""
    bodies: list[int] = []

    @task
    def numbers() -> Iterator[int]:
        bodies.append(1)
        yield from (1, 2, 3)

    tries: list[int] = []

    @flow(retries=1)
    def sums() -> int:
        total = sum(numbers())
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("after the task")
        return total

    assert sums() == 6
    assert (bodies, tries) == ([1], [1, 1])


def test_submitted_and_mapped_bodies_run_to_their_end() -> None:
    """A future's result is the list of the items."""

    @task
    def twice(number: int) -> Iterator[int]:
        yield number
        yield number

    @flow
    def collects() -> list[Any]:
        return [twice.submit(1).result(), *twice.map([2, 3]).result()]

    assert collects() == [[1, 1], [2, 2], [3, 3]]


def test_values_can_be_sent_and_exceptions_thrown_into_the_body() -> None:
    """As with any generator."""

    @task
    def echo() -> Iterator[Any]:
        got = yield "ready"
        try:
            yield got
        except ValueError as error:
            yield f"caught {error}"

    @flow
    def talks() -> list[Any]:
        items: Any = echo()
        return [next(items), items.send("hello"), items.throw(ValueError("no")), *items]

    assert talks() == ["ready", "hello", "caught no"]


def test_tasks_called_in_a_body_are_nested_in_it(reader: Reader) -> None:
    """The body's frame holds between its items, and the caller's between them."""

    @task
    def leaf(number: int) -> int:
        return number * 10

    @task
    def branch() -> Iterator[int]:
        for number in (1, 2):
            yield leaf(number)

    @flow
    def tree() -> list[int]:
        return [leaf(item) for item in branch()]

    assert tree() == [100, 200]
    run = reader.find("@last")
    assert run is not None
    rows = {row.name: row for row in reader.tasks(run.id)}
    scopes = sorted(row.scope_seq for row in reader.tasks(run.id) if row.key == "leaf")
    assert scopes == [0, 0, rows["branch"].seq, rows["branch"].seq]


def test_async_generators() -> None:
    """`async for`, also left early, and as a flow."""
    closed: list[bool] = []

    @task
    async def ticks(count: int) -> AsyncIterator[int]:
        try:
            for number in range(count):
                await asyncio.sleep(0)
                yield number
        finally:
            closed.append(True)

    @flow
    async def reads() -> list[int]:
        found = [item async for item in ticks(3)]
        items: Any = ticks(100)
        found.append(await anext(items))
        await items.aclose()
        return found

    assert asyncio.run(reads()) == [0, 1, 2, 0]
    assert closed == [True, True]

    @flow
    async def yields() -> AsyncIterator[int]:
        async for item in ticks(2):
            yield item

    async def main() -> list[int]:
        return [item async for item in yields()]

    assert asyncio.run(main()) == [0, 1]


def test_flows_that_yield_alone_and_within_another(reader: Reader) -> None:
    """Each is one run, which ends when its items do."""

    @flow
    def inner() -> Iterator[int]:
        yield 1
        yield 2

    @flow
    def outer() -> list[int]:
        return list(inner())

    assert list(inner()) == [1, 2]
    assert outer() == [1, 2]
    assert [(run.flow_name, run.state_name) for run in reader.runs(roots_only=False)] == [
        ("inner", "Completed"), ("outer", "Completed"), ("inner", "Completed"),
    ]


def test_a_task_that_yields_outside_any_flow(reader: Reader) -> None:
    """It is a run of its own, as any task is."""

    @task
    def letters() -> Iterator[str]:
        yield from "ab"

    assert list(letters()) == ["a", "b"]
    run = reader.find("@last")
    assert run is not None
    assert (run.flow_name, run.state_name) == ("letters", "Completed")
