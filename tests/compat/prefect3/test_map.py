"""``task.map``: what is mapped over, what is not, errors, dependencies."""

from __future__ import annotations

import asyncio

import pytest

from .names import (
    MappingLengthMismatch,
    MappingMissingIterable,
    allow_failure,
    flow,
    only_here,
    only_there,
    quote,
    tags,
    task,
    unmapped,
)  # fmt: skip
from .records import task_runs


@task
def adds(x, y=0):
    """The sum."""
    return x + y


@task
def echo(x):
    """What it is given."""
    return x


def test_map_calls_once_for_each() -> None:
    """Results in order."""

    @flow
    def parent():
        return adds.map([1, 2, 3]).result()

    assert parent() == [1, 2, 3]


def test_map_gives_a_list_of_futures() -> None:
    """With a length, and indexing."""

    @flow
    def parent():
        futures = adds.map([1, 2, 3], y=1)
        return len(futures), futures[1].result(), [future.result() for future in futures]

    assert [*parent()] == [3, 3, [2, 3, 4]]


def test_several_iterables_go_together() -> None:
    """First with first."""

    @flow
    def parent():
        return adds.map([1, 2], [10, 20]).result()

    assert parent() == [11, 22]


def test_lengths_must_agree() -> None:
    """MappingLengthMismatch."""

    @flow
    def parent():
        adds.map([1, 2], [1, 2, 3])

    with pytest.raises(MappingLengthMismatch):
        parent()


def test_something_must_be_iterable() -> None:
    """MappingMissingIterable."""

    @flow
    def parent():
        adds.map(1, 2)

    with pytest.raises(MappingMissingIterable):
        parent()


def test_what_is_not_iterable_goes_to_every_call() -> None:
    """Numbers."""

    @flow
    def parent():
        return adds.map([1, 2], 5).result()

    assert parent() == [6, 7]


def test_unmapped_goes_to_every_call_whole() -> None:
    """A list as one value."""

    @flow
    def parent():
        return adds.map([[1], [2]], unmapped([0])).result()

    assert parent() == [[1, 0], [2, 0]]


def test_unmapped_by_keyword() -> None:
    """The same."""

    @flow
    def parent():
        return adds.map(x=[1, 2], y=unmapped(3)).result()

    assert parent() == [4, 5]


def test_a_default_that_is_iterable_is_not_mapped() -> None:
    """It is a default."""

    @task
    def appends(x, to=(9, 9, 9)):
        return [x, *to]

    @flow
    def parent():
        return appends.map([1, 2]).result()

    assert parent() == [[1, 9, 9, 9], [2, 9, 9, 9]]


def test_tuples_ranges_and_generators_are_mapped() -> None:
    """Every iterable."""

    @flow
    def parent():
        return [
            echo.map((1, 2)).result(), echo.map(range(2)).result(), echo.map(n for n in range(2)).result(),
        ]  # fmt: skip

    assert parent() == [[1, 2], [0, 1], [0, 1]]


def test_nothing_to_map_over() -> None:
    """An empty list gives an empty list."""

    @flow
    def parent():
        return echo.map([]).result()

    assert parent() == []


def test_futures_as_elements() -> None:
    """Each call waits for its own."""

    @flow
    def parent():
        return adds.map([echo.submit(1), echo.submit(2)], 1).result()

    assert parent() == [2, 3]


def test_a_future_of_a_list_is_mapped_over() -> None:
    """Waited for first."""

    @task
    def numbers():
        return [1, 2, 3]

    @flow
    def parent():
        return adds.map(numbers.submit(), 1).result()

    assert parent() == [2, 3, 4]


def test_a_mapped_result_is_mapped_over_again() -> None:
    """Element by element."""

    @flow
    def parent():
        return adds.map(adds.map([1, 2, 3], 1), 1).result()

    assert parent() == [3, 4, 5]


def test_a_state_of_a_list_is_mapped_over() -> None:
    """As its value."""

    @task
    def numbers():
        return [1, 2]

    @flow
    def parent():
        return adds.map(numbers(return_state=True), 1).result()

    assert parent() == [2, 3]


def test_one_failure_leaves_the_others_alone() -> None:
    """Each has its state."""

    @task
    def maybe(x):
        if x == 2:
            raise ValueError("two")
        return x

    @flow
    def parent():
        futures = maybe.map([1, 2, 3])
        futures.wait()
        return [future.state.name for future in futures]

    assert parent() == ["Completed", "Failed", "Completed"]


def test_result_of_all_raises_the_failure() -> None:
    """Unless told not to."""

    @task
    def maybe(x):
        if x == 2:
            raise ValueError("two")
        return x

    @flow
    def parent():
        futures = maybe.map([1, 2, 3])
        with pytest.raises(ValueError, match="two"):
            futures.result()
        return [type(value).__name__ for value in futures.result(raise_on_failure=False)]

    assert parent() == ["int", "ValueError", "int"]


def test_downstream_of_one_failed_element_only_does_not_run() -> None:
    """Depth first."""

    @task
    def maybe(x):
        if x == 2:
            raise ValueError("two")
        return x

    @flow
    def parent():
        futures = adds.map(maybe.map([1, 2, 3]), 1)
        futures.wait()
        return [future.state.name for future in futures]

    assert parent() == ["Completed", "NotReady", "Completed"]


def test_allow_failure_of_a_mapped_list() -> None:
    """The exception takes the element's place."""

    @task
    def maybe(x):
        if x == 2:
            raise ValueError("two")
        return x

    @task
    def looks(x):
        return type(x).__name__

    @flow
    def parent():
        return looks.map(allow_failure(maybe.map([1, 2, 3]))).result()

    assert parent() == ["int", "ValueError", "int"]


def test_map_with_return_state() -> None:
    """A list of states."""

    @flow
    def parent():
        return [state.result() for state in echo.map([1, 2], return_state=True)]

    assert parent() == [1, 2]


def test_map_with_wait_for() -> None:
    """All calls wait."""
    order = []

    @task
    def notes(x):
        order.append(x)

    @flow
    def parent():
        notes.map([1, 1], wait_for=[notes.submit(0)]).wait()

    parent()
    assert order == [0, 1, 1]


def test_async_tasks_are_mapped() -> None:
    """From sync and async flows."""

    @task
    async def adds_one(x):
        await asyncio.sleep(0)
        return x + 1

    @flow
    def parent():
        return adds_one.map([1, 2]).result()

    @flow
    async def async_parent():
        return [future.result() for future in adds_one.map([1, 2])]

    assert parent() == [2, 3]
    assert asyncio.run(async_parent()) == [2, 3]


def test_every_mapped_call_is_recorded() -> None:
    """With the tags of its block."""

    @task(task_run_name="element {x}")
    def one(x):
        return x

    @flow(name="compat mapped records")
    def parent():
        with tags("mapped"):
            one.map([1, 2]).wait()

    parent()
    runs = task_runs("compat mapped records")
    assert sorted(run.name for run in runs) == ["element 1", "element 2"]
    assert all("mapped" in run.tags for run in runs)


@only_here("a quoted value is one value in map; Prefect maps over the annotation itself")
def test_quote_is_not_mapped() -> None:
    """Its value goes to every call."""

    @flow
    def parent():
        return adds.map([[1], [2]], quote([0])).result()

    assert parent() == [[1, 0], [2, 0]]


@only_there("a dict is one value in map, as it is one argument; Prefect maps over its keys")
def test_a_dict_is_mapped_over_its_keys() -> None:
    """As Python iterates."""

    @flow
    def parent():
        return echo.map({"a": 1, "b": 2}).result()

    assert parent() == ["a", "b"]


def test_a_text_is_one_value() -> None:
    """Not its characters."""

    @flow
    def parent():
        return adds.map(["a", "b"], "xy").result()

    assert parent() == ["axy", "bxy"]
