"""``submit`` and its futures; ``wait_for``; what happens downstream of a failure."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from .names import allow_failure, as_completed, flow, only_here, resolve_futures_to_states, task, wait
from .records import task_runs


def test_submit_gives_a_future() -> None:
    """Whose result is the value."""

    @task
    def adds(x):
        return x + 1

    @flow
    def parent():
        return adds.submit(1).result()

    assert parent() == 2


def test_submitted_tasks_run_at_the_same_time() -> None:
    """Each waits for the other."""
    meeting = threading.Barrier(2, timeout=20)

    @task
    def meets():
        meeting.wait()
        return True

    @flow
    def parent():
        futures = [meets.submit(), meets.submit()]
        return [future.result() for future in futures]

    assert parent() == [True, True]


def test_submit_with_return_state() -> None:
    """Waits, and gives the state."""

    @task
    def adds(x):
        return x + 1

    @flow
    def parent():
        state = adds.submit(1, return_state=True)
        return state.result()

    assert parent() == 2


def test_an_async_task_can_be_submitted() -> None:
    """From a sync flow as well."""

    @task
    async def adds(x):
        await asyncio.sleep(0)
        return x + 1

    @flow
    def parent():
        return adds.submit(1).result()

    @flow
    async def async_parent():
        return adds.submit(2).result()

    assert parent() == 2
    assert asyncio.run(async_parent()) == 3


def test_a_future_as_argument_is_its_value() -> None:
    """The downstream task waits for it."""

    @task
    def number():
        time.sleep(0.05)
        return 2

    @task
    def doubles(x):
        return x * 2

    @flow
    def parent():
        return doubles.submit(number.submit()).result(), doubles(number.submit())

    assert tuple(parent()) == (4, 4)


def test_futures_inside_collections_are_replaced() -> None:
    """Lists, tuples, sets, dicts; nested."""

    @task
    def number(x):
        return x

    @task
    def gets(value):
        return value

    @flow
    def parent():
        a, b, c = number.submit(1), number.submit(2), number.submit(3)
        return gets({"list": [a], "tuple": (b, [c]), "plain": "x"})

    assert parent() == {"list": [1], "tuple": (2, [3]), "plain": "x"}


def test_futures_inside_dataclasses_are_replaced() -> None:
    """The user's object is not changed."""
    from dataclasses import dataclass
    from typing import Any

    @dataclass
    class Box:
        value: Any

    @task
    def number(x):
        return x

    @task
    def opens(box):
        return box.value

    @flow
    def parent():
        return opens(Box(number.submit(5)))

    assert parent() == 5


def test_a_state_as_argument_is_its_value() -> None:
    """As a future is."""

    @task
    def number():
        return 2

    @task
    def doubles(x):
        return x * 2

    @flow
    def parent():
        return doubles(number(return_state=True))

    assert parent() == 4


def test_result_raises_the_tasks_exception() -> None:
    """The very type and text."""

    @task
    def fails():
        raise KeyError("gone")

    @flow
    def parent():
        future = fails.submit()
        with pytest.raises(KeyError, match="gone"):
            future.result()
        return "fine"

    assert parent() == "fine"


def test_result_can_give_the_exception() -> None:
    """``raise_on_failure=False``."""

    @task
    def fails():
        raise KeyError("gone")

    @flow
    def parent():
        return type(fails.submit().result(raise_on_failure=False)).__name__

    assert parent() == "KeyError"


def test_result_times_out() -> None:
    """TimeoutError; the task goes on."""
    go = threading.Event()

    @task
    def slow():
        go.wait(20)
        return "done"

    @flow
    def parent():
        future = slow.submit()
        with pytest.raises(TimeoutError):
            future.result(timeout=0.05)
        go.set()
        return future.result()

    assert parent() == "done"


def test_wait_times_out_quietly() -> None:
    """And the state is not final."""
    go = threading.Event()

    @task
    def slow():
        go.wait(20)
        return "done"

    @flow
    def parent():
        future = slow.submit()
        future.wait(timeout=0.05)
        early = future.state.is_final()
        go.set()
        future.wait()
        return early, future.state.is_completed()

    assert tuple(parent()) == (False, True)


def test_done_callbacks() -> None:
    """Called with the future; at once when it has ended."""
    seen = []

    @task
    def adds(x):
        return x + 1

    @flow
    def parent():
        future = adds.submit(1)
        future.add_done_callback(lambda ended: seen.append(ended.result()))
        future.wait()
        future.add_done_callback(lambda ended: seen.append("late"))
        time.sleep(0.1)

    parent()
    assert sorted(map(str, seen)) == ["2", "late"]


def test_a_future_knows_its_task_run() -> None:
    """Each another."""

    @task
    def adds(x):
        return x + 1

    @flow
    def parent():
        a, b = adds.submit(1), adds.submit(2)
        wait([a, b])
        return bool(a.task_run_id) and a.task_run_id != b.task_run_id

    assert parent() is True


def test_wait_splits_into_done_and_not_done() -> None:
    """After the timeout."""
    go = threading.Event()

    @task
    def quick():
        return 1

    @task
    def slow():
        go.wait(20)

    @flow
    def parent():
        futures = [quick.submit(), slow.submit()]
        futures[0].wait()
        done, not_done = wait(futures, timeout=0.3)
        go.set()
        return len(done), len(not_done), len(wait(futures).done)

    assert tuple(parent()) == (1, 1, 2)


def test_as_completed_gives_them_as_they_end() -> None:
    """Not in the order of submission."""
    go = threading.Event()

    @task
    def slow():
        go.wait(20)
        return "slow"

    @task
    def quick():
        return "quick"

    @flow
    def parent():
        order = []
        for future in as_completed([slow.submit(), quick.submit()]):
            order.append(future.result())
            go.set()
        return order

    assert parent() == ["quick", "slow"]


def test_as_completed_times_out() -> None:
    """TimeoutError when not all have ended."""
    go = threading.Event()

    @task
    def slow():
        go.wait(20)

    @flow
    def parent():
        future = slow.submit()
        with pytest.raises(TimeoutError):
            list(as_completed([future], timeout=0.1))
        go.set()
        future.wait()
        return "fine"

    assert parent() == "fine"


def test_futures_resolve_to_states() -> None:
    """Also inside collections."""

    @task
    def adds(x):
        return x + 1

    @flow
    def parent():
        states = resolve_futures_to_states({"a": [adds.submit(1)], "b": 2})
        return states["a"][0].is_completed(), states["b"]

    assert tuple(parent()) == (True, 2)


def test_downstream_of_a_failure_does_not_run() -> None:
    """It ends NotReady."""
    ran = []

    @task
    def fails():
        raise ValueError("no")

    @task
    def after(x):
        ran.append(x)

    @flow
    def parent():
        future = after.submit(fails.submit())
        future.wait()
        return [future.state.type, future.state.name]

    state_type, name = parent()
    assert str(getattr(state_type, "value", state_type)) == "PENDING"
    assert name == "NotReady"
    assert not ran


def test_downstream_of_a_failure_in_a_list_does_not_run() -> None:
    """However deep it is."""
    ran = []

    @task
    def fails():
        raise ValueError("no")

    @task
    def works():
        return 1

    @task
    def after(x):
        ran.append(x)

    @flow
    def parent():
        future = after.submit({"all": [works.submit(), fails.submit()]})
        future.wait()
        return future.state.name

    assert parent() == "NotReady"
    assert not ran


def test_a_whole_chain_below_a_failure_does_not_run() -> None:
    """Each link is NotReady."""

    @task
    def fails():
        raise ValueError("no")

    @task
    def after(x):
        return x

    @flow
    def parent():
        first = after.submit(fails.submit())
        second = after.submit(first)
        third = after.submit(second)
        wait([first, second, third])
        return [first.state.name, second.state.name, third.state.name]

    assert parent() == ["NotReady", "NotReady", "NotReady"]


def test_allow_failure_passes_the_exception() -> None:
    """The downstream task runs with it."""

    @task
    def fails():
        raise ValueError("no")

    @task
    def looks(x):
        return type(x).__name__, str(x)

    @flow
    def parent():
        return looks(allow_failure(fails.submit())), looks.submit(allow_failure(fails.submit())).result()

    assert [tuple(pair) for pair in parent()] == [("ValueError", "no"), ("ValueError", "no")]


def test_allow_failure_around_a_list() -> None:
    """Values and exceptions side by side."""

    @task
    def maybe(x):
        if x == 2:
            raise ValueError("two")
        return x

    @task
    def looks(items):
        return [type(item).__name__ for item in items]

    @flow
    def parent():
        return looks(allow_failure([maybe.submit(1), maybe.submit(2)]))

    assert parent() == ["int", "ValueError"]


def test_allow_failure_of_what_worked_is_its_value() -> None:
    """Nothing else changes."""

    @task
    def works():
        return 1

    @task
    def gets(x):
        return x

    @flow
    def parent():
        return gets(allow_failure(works.submit()))

    assert parent() == 1


def test_wait_for_orders_tasks() -> None:
    """Without passing a value."""
    order = []

    @task
    def first():
        time.sleep(0.05)
        order.append("first")

    @task
    def second():
        order.append("second")

    @flow
    def parent():
        second.submit(wait_for=[first.submit()]).wait()

    parent()
    assert order == ["first", "second"]


def test_wait_for_of_a_call() -> None:
    """Blocks until the other has ended."""
    order = []

    @task
    def first():
        time.sleep(0.05)
        order.append("first")

    @task
    def second():
        order.append("second")

    @flow
    def parent():
        second(wait_for=[first.submit()])

    parent()
    assert order == ["first", "second"]


def test_wait_for_a_failure_does_not_run() -> None:
    """As with data."""
    ran = []

    @task
    def fails():
        raise ValueError("no")

    @task
    def after():
        ran.append(1)

    @flow
    def parent():
        future = after.submit(wait_for=[fails.submit()])
        future.wait()
        return future.state.name

    assert parent() == "NotReady"
    assert not ran


def test_wait_for_with_allow_failure_runs() -> None:
    """After the failure."""
    ran = []

    @task
    def fails():
        raise ValueError("no")

    @task
    def after():
        ran.append(1)

    @flow
    def parent():
        future = after.submit(wait_for=[allow_failure(fails.submit())])
        future.wait()
        return future.state.is_completed()

    assert parent() is True
    assert ran == [1]


def test_wait_for_several() -> None:
    """All of them."""
    order = []

    @task
    def notes(x):
        time.sleep(0.02 * x)
        order.append(x)

    @flow
    def parent():
        notes.submit(0, wait_for=[notes.submit(1), notes.submit(2)]).wait()

    parent()
    assert order == [1, 2, 0]


def test_wait_for_in_an_async_flow() -> None:
    """The same."""
    order = []

    @task
    async def notes(x):
        await asyncio.sleep(0.02 * x)
        order.append(x)

    @flow
    async def parent():
        future = notes.submit(2)
        await notes(0, wait_for=[future])

    asyncio.run(parent())
    assert order == [2, 0]


def test_wait_for_states() -> None:
    """A state stands for its task."""
    order = []

    @task
    def notes(x):
        order.append(x)

    @flow
    def parent():
        state = notes(1, return_state=True)
        notes.submit(2, wait_for=[state]).wait()

    parent()
    assert order == [1, 2]


def test_a_failed_state_as_argument_keeps_a_task_from_running() -> None:
    """As its future would."""
    ran = []

    @task
    def fails():
        raise ValueError("no")

    @task
    def after(x):
        ran.append(x)

    @flow
    def parent():
        state = fails(return_state=True)
        return after(state, return_state=True).name

    assert parent() == "NotReady"
    assert not ran


def test_a_calling_task_waits_for_its_futures() -> None:
    """A call with a failed future raises, and the body does not run."""
    ran = []

    @task
    def fails():
        raise ValueError("no")

    @task
    def after(x):
        ran.append(x)

    @flow(name="compat call below failure")
    def parent():
        state = after(fails.submit(), return_state=True)
        return state.name

    assert parent() == "NotReady"
    assert not ran


def test_tasks_can_submit_tasks() -> None:
    """And wait for them."""

    @task
    def inner(x):
        return x + 1

    @task
    def outer(x):
        return inner.submit(x).result() * 10

    @flow
    def parent():
        return outer.submit(1).result()

    assert parent() == 20


def test_the_order_of_submission_is_the_order_of_records() -> None:
    """Each has its run."""

    @task(task_run_name="n{x}")
    def number(x):
        return x

    @flow(name="compat order of records")
    def parent():
        return [number.submit(n).result() for n in range(3)]

    parent()
    assert [run.name for run in task_runs("compat order of records")] == ["n0", "n1", "n2"]


@only_here("what nobody waits for is waited for at the end of the flow; Prefect may drop it")
def test_what_was_submitted_ends_before_the_flow_does() -> None:
    """Nothing is lost."""
    ended = []

    @task
    def slow():
        time.sleep(0.1)
        ended.append(1)

    @flow
    def parent():
        slow.submit()

    parent()
    assert ended == [1]
