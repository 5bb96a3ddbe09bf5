"""``map``: one call per element, in order, of whatever can be iterated."""

from __future__ import annotations

import asyncio
import gc
import resource
import threading
import time
from typing import Any

import pytest
from flowdeck import ConcurrentTaskRunner, ThreadPoolTaskRunner, allow_failure, flow, task, unmapped
from flowdeck.engine.errors import MappingLengthMismatch, MappingMissingIterable


@task
def add(x, y=0, z=()):
    return x + y


@task
def same(x):
    return x


@task
def numbers(n):
    return list(range(n))


@task
def bad(x):
    raise ValueError(f"no {x}")


def test_every_iterable_is_mapped_over(reader) -> None:
    """Lists, tuples, sets, ranges, generators, other maps, futures of lists; in order; with the rest for everybody."""

    @flow
    def maps():
        return [
            add.map([1, 2]).result(), add.map((1, 2), [10, 20]).result(), add.map(range(2), y=5).result(),
            add.map((n for n in (1, 2)), unmapped(7)).result(), add.map({3}).result(),
            add.map(add.map([1, 2]), y=1).result(), add.map(numbers.submit(3), 1).result(),
            same.map(["ab", b"c"], ).result(), add.map([[1], [2]], unmapped([9])).result(), add.map([]).result(),
            add.map([same.submit(4), 5]).result(),
        ]  # fmt: skip

    assert maps() == [
        [1, 2], [11, 22], [5, 6], [8, 9], [3], [2, 3], [1, 2, 3], ["ab", b"c"], [[1, 9], [2, 9]], [], [4, 5],
    ]  # fmt: skip


def test_strings_are_values_and_a_dict_is_mapped_by_its_keys(reader) -> None:
    """A text is not taken apart; a default that could be iterated is not mapped over; a dict counts as its keys."""

    @task
    def pair(x, text, table, items=(1, 2, 3)):
        return (x, text, table, items)

    @flow
    def maps():
        return pair.map([1, 2], "abc", {"k": 1, "l": 2}).result()

    assert maps() == [(1, "abc", "k", (1, 2, 3)), (2, "abc", "l", (1, 2, 3))]


def test_variadic_arguments_are_mapped_one_by_one(reader) -> None:
    """``*args`` and ``**options`` too."""

    @task
    def many(*args, **options):
        return args, options

    @flow
    def maps():
        return many.map([1, 2], [3, 4], a=[5, 6], b="x", c=unmapped([7])).result()

    assert maps() == [((1, 3), {"a": 5, "b": "x", "c": [7]}), ((2, 4), {"a": 6, "b": "x", "c": [7]})]


def test_mistakes_are_told_in_words(reader) -> None:
    """Lengths by name, and what to do instead of mapping over nothing."""

    @flow
    def wrong():
        with pytest.raises(MappingLengthMismatch, match="x has 2, y has 3"):
            add.map([1, 2], [1, 2, 3])
        with pytest.raises(MappingMissingIterable, match=r"call add\(\) instead"):
            add.map(1, "text")

    wrong()
    assert reader.tasks(1) == []


def test_members_know_their_place(reader) -> None:
    """Name, group and index; a second map of the same task is another group."""

    @flow
    def maps():
        same(0)
        same.map(["a", "b"])
        same.map(["c", "d"]).wait()

    maps()
    rows = [(row.name, row.call_index, row.map_group, row.map_index) for row in reader.tasks(1)]
    assert rows == [
        ("same", 0, None, None), ("same[1]", 1, 1, 0), ("same[2]", 2, 1, 1), ("same[3]", 3, 3, 0), ("same[4]", 4, 3, 1),
    ]  # fmt: skip


def test_dependencies_go_element_by_element(reader) -> None:
    """One failing member holds up its own line only."""

    @task
    def odd(x):
        if x % 2:
            raise ValueError(f"no {x}")
        return x

    @flow
    def lines():
        ended = add.map(odd.map([0, 1, 2]), y=10)
        ended.wait()
        return [future.state.name for future in ended], [future.result(raise_on_failure=False) for future in ended][::2]

    assert lines() == (["Completed", "NotReady", "Completed"], [10, 12])
    pairs = {(edge.from_seq, edge.to_seq) for edge in reader.edges(1)}
    assert {(1, 4), (2, 5), (3, 6)} <= pairs


def test_states_and_first_failure(reader) -> None:
    """``return_state=True`` waits for all; ``result`` raises the first in order."""

    @flow
    def failing():
        states = bad.map([1, 2], return_state=True)
        assert [state.message for state in states] == ["ValueError: no 1", "ValueError: no 2"]
        with pytest.raises(ValueError, match="no 1"):
            bad.map([1, 2]).result()
        assert [str(e) for e in bad.map([3, 4]).result(raise_on_failure=False)] == ["no 3", "no 4"]

    assert failing() is None


def test_ten_thousand_members_are_correct_and_cheap(reader) -> None:
    """Every one recorded; memory per task is bounded."""
    same_flow = flow(lambda n: sum(same.map(range(n)).result()), name="many")
    same_flow(500)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.monotonic()
    assert same_flow(10_000) == sum(range(10_000))
    per_task = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 10_000
    assert per_task < 8_000, f"{per_task:.0f} bytes a task after {time.monotonic() - begun:.1f} s"
    assert reader.task_counts(2) == {("COMPLETED", "Completed"): 10_000}
    indexes = [row.map_index for row in reader.tasks(2)]
    assert indexes == list(range(10_000))


@pytest.mark.parametrize("of_user", [None, (900, 10, 10)])
def test_garbage_of_the_user_is_still_collected_in_a_large_map(store, eventually, of_user) -> None:
    """Full collections come less often while ten thousand calls wait, as before afterwards; what a user set stays."""
    before = gc.get_threshold()
    go = threading.Event()

    @task
    def step(n):
        go.wait()
        return n

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
    def whole():
        futures = step.map(range(10_100))
        try:
            if of_user is None:
                eventually(lambda: gc.get_threshold()[2] > before[2])
            return gc.isenabled(), gc.get_threshold()
        finally:
            go.set()
            futures.wait()

    try:
        gc.set_threshold(*(of_user or (700, 10, 10)))
        is_on, meanwhile = whole()
        assert is_on
        assert meanwhile[:2] == gc.get_threshold()[:2]
        assert gc.get_threshold() == (of_user or (700, 10, 10))
        assert of_user is None or meanwhile == of_user
    finally:
        gc.set_threshold(*before)


@pytest.mark.parametrize("runner", [ThreadPoolTaskRunner(max_workers=1), ConcurrentTaskRunner(max_workers=1)])
def test_nested_submits_never_wait_for_themselves(reader, runner) -> None:
    """A pool of one thread, tasks that submit tasks and wait for them, five deep: who waits lends its place."""

    @task
    def level(depth):
        if depth == 0:
            return 1
        return sum(level.map([depth - 1] * 2).result()) + level.submit(0).result()

    @flow(task_runner=runner)
    def whole():
        return level.submit(5).result()

    assert whole() == 2**5 + 2**5 - 1


def test_runners_may_be_classes(reader, monkeypatch) -> None:
    """As in Prefect 2; the environment sizes the pool of threads."""
    most, here = [], []
    monkeypatch.setenv("FLOWDECK_TASKS_RUNNER_THREAD_POOL_MAX_WORKERS", "2")

    @task
    def busy(x):
        here.append(x)
        most.append(len(here))
        time.sleep(0.01)
        here.remove(x)

    for runner in (ThreadPoolTaskRunner, ConcurrentTaskRunner, None):
        most.clear()
        flow(lambda: busy.map(range(12)).result() and None, name="whole", task_runner=runner)()
        assert max(most) == 2


def test_a_future_is_judged_as_its_value_would_be() -> None:
    """As a fixed argument a text or number is given to every call, a list is mapped over; in sync and async flows."""

    @task
    def pair(x, y):
        return x, y

    @task
    def give(value):
        return value

    @flow
    def whole():
        return [
            pair.map([1, 2], y=give.submit(value)).result()
            for value in ("ab", 7, None, b"ab", ["a", "b"], ("a", "b"))
        ]

    @flow
    async def whole_async():
        return [pair.map([1, 2], y=give.submit("ab")).result()]

    fixed = [[(1, value), (2, value)] for value in ("ab", 7, None, b"ab")]
    assert whole() == [*fixed, [(1, "a"), (2, "b")], [(1, "a"), (2, "b")]]
    assert asyncio.run(whole_async()) == [[(1, "ab"), (2, "ab")]]


def test_futures_in_any_collection_are_their_values(reader) -> None:
    """In dicts of any class and their keys, in pydantic models, frozen ones too, nested; edges are drawn from them."""
    from collections import OrderedDict, defaultdict

    import pydantic

    class Model(pydantic.BaseModel, frozen=True):
        a: Any

    @task
    def one():
        return 1

    @task
    def look(value):
        return repr(value)

    @flow
    def whole():
        future = one.submit()
        values = [
            OrderedDict(k=future), defaultdict(list, k=[future]), Model(a=(future,)),
            {future: 0, (future, 2): {3: future}},
        ]  # fmt: skip
        return look.map(values).result()

    assert whole() == [
        "OrderedDict([('k', 1)])", "defaultdict(<class 'list'>, {'k': [1]})", "Model(a=(1,))", "{1: 0, (1, 2): {3: 1}}",
    ]  # fmt: skip
    assert {(edge.from_seq, edge.to_seq) for edge in reader.edges(1)} == {(1, 2), (1, 3), (1, 4), (1, 5)}


def test_a_future_that_may_have_failed_is_judged_as_its_value(reader) -> None:
    """Under ``allow_failure``: a list is mapped over, anything else is one value, an exception too."""

    @task
    def gives(value):
        if value is None:
            raise ValueError("nothing")
        return value

    @task
    def pair(x, y):
        return x, str(y)

    @flow
    def whole():
        found = [pair.map([1, 2], allow_failure(gives.submit(value))).result() for value in ([8, 9], "ab", 7, None)]
        return [*found, pair.map([1], allow_failure([gives.submit(None)])).result()]

    assert whole() == [
        [(1, "8"), (2, "9")], [(1, "ab"), (2, "ab")], [(1, "7"), (2, "7")], [(1, "nothing"), (2, "nothing")],
        [(1, "nothing")],
    ]  # fmt: skip
