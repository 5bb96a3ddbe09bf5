"""Flows called by flows: results, failures, parameters, tags, and what is recorded of them."""

from __future__ import annotations

import asyncio

import pytest

from .names import allow_failure, flow, only_here, tags, task
from .records import flow_run, flow_runs


def test_a_flow_can_call_a_flow() -> None:
    """It gets the value."""

    @flow
    def child(x):
        return x + 1

    @flow
    def parent(x):
        return child(x) * 10

    assert parent(1) == 20


def test_a_subflow_is_a_run_of_its_own() -> None:
    """Both are recorded, each under its flow's name."""

    @flow(name="compat child of record")
    def child():
        return 1

    @flow(name="compat parent of record")
    def parent():
        return child() + child()

    assert parent() == 2
    assert [run.state for run in flow_runs("compat child of record")] == ["Completed", "Completed"]
    assert flow_run("compat parent of record").state == "Completed"


def test_a_failed_subflow_raises_in_its_parent() -> None:
    """Uncaught it fails the parent as well, by the same exception."""

    @flow(name="compat failing child")
    def child():
        raise ValueError("inside")

    @flow(name="compat failing parent")
    def parent():
        child()

    with pytest.raises(ValueError, match="inside"):
        parent()
    assert flow_run("compat failing child").state == "Failed"
    assert flow_run("compat failing parent").state == "Failed"


def test_a_caught_failure_of_a_subflow_does_not_fail_the_parent() -> None:
    """What the parent returns decides."""

    @flow
    def child():
        raise ValueError("inside")

    @flow
    def parent():
        try:
            child()
        except ValueError:
            return "caught"

    assert parent() == "caught"


def test_a_subflows_state_can_be_asked_for() -> None:
    """``return_state`` raises nothing."""

    @flow
    def child():
        raise ValueError("inside")

    @flow
    def parent():
        state = child(return_state=True)
        return state.is_failed()

    assert parent() is True


def test_a_returned_subflow_state_decides_the_parents() -> None:
    """As a task's does."""

    @flow
    def child():
        raise ValueError("inside")

    @flow
    def parent():
        return child(return_state=True)

    assert parent(return_state=True).is_failed()


def test_invalid_parameters_of_a_subflow_fail_the_parent() -> None:
    """The child is recorded as Failed."""

    @flow(name="compat strict child")
    def child(x: int):
        return x

    @flow
    def parent():
        return child("not a number")

    assert parent(return_state=True).is_failed()
    assert flow_run("compat strict child").state == "Failed"


def test_subflow_parameters_are_coerced() -> None:
    """By the child's annotations."""

    @flow
    def child(x: int):
        return x

    @flow
    def parent(x):
        return child(x)

    assert parent("7") == 7


def test_recursive_subflows() -> None:
    """A flow may call itself."""

    @flow
    def down(n: int):
        return 0 if n == 0 else 1 + down(n - 1)

    assert down(3) == 3


def test_async_subflows() -> None:
    """Awaited, one after the other."""

    @flow
    async def child(x):
        return x

    @flow
    async def parent():
        return await child(1) + await child(2)

    assert asyncio.run(parent()) == 3


def test_concurrent_async_subflows() -> None:
    """Gathered; all end."""

    @flow
    async def child(x):
        await asyncio.sleep(0)
        return x

    @flow
    async def parent():
        return await asyncio.gather(*[child(n) for n in range(3)])

    assert asyncio.run(parent()) == [0, 1, 2]


def test_an_async_flow_can_call_a_sync_one() -> None:
    """And gets its value at once."""

    @flow
    def child(x):
        return x + 1

    @flow
    async def parent():
        return child(1)

    assert asyncio.run(parent()) == 2


def test_a_task_can_call_a_flow() -> None:
    """The flow is recorded; the task returns its value."""

    @flow(name="compat called by a task")
    def child(x):
        return x + 1

    @task
    def between(x):
        return child(x)

    @flow
    def parent():
        return between(1)

    assert parent() == 2
    assert flow_run("compat called by a task").state == "Completed"


def test_a_future_is_an_argument_of_a_subflow() -> None:
    """The child gets the value."""

    @task
    def number():
        return 5

    @flow
    def child(x):
        return x * 2

    @flow
    def parent():
        return child(number.submit())

    assert parent() == 10


def test_a_failed_future_keeps_a_subflow_from_running() -> None:
    """Its function is not called."""
    called = []

    @task
    def fails():
        raise ValueError("no")

    @flow
    def child(x):
        called.append(x)

    @flow
    def parent():
        child(fails.submit())

    state = parent(return_state=True)
    assert not state.is_completed()
    assert not called


def test_allow_failure_gives_a_subflow_the_exception() -> None:
    """As it does for tasks."""

    @task
    def fails():
        raise ValueError("no")

    @flow
    def child(x):
        return isinstance(x, ValueError)

    @flow
    def parent():
        return child(allow_failure(fails.submit()))

    assert parent() is True


def test_tags_of_the_parents_block_reach_the_child() -> None:
    """With the child's own."""

    @flow(name="compat tagged child")
    def child():
        return 1

    @flow
    def parent():
        with tags("within"):
            return child()

    parent()
    assert "within" in flow_run("compat tagged child").tags


def test_a_subflow_records_its_parameters() -> None:
    """By name."""

    @flow(name="compat child with parameters")
    def child(x, y=2):
        return x + y

    @flow
    def parent():
        return child(1)

    assert parent() == 3
    assert flow_run("compat child with parameters").parameters == {"x": 1, "y": 2}


def test_two_different_flows_in_one_parent() -> None:
    """Each has its own runs."""

    @flow(name="compat left")
    def left():
        return "l"

    @flow(name="compat right")
    def right():
        return "r"

    @flow
    def parent():
        return left() + right()

    assert parent() == "lr"
    assert (len(flow_runs("compat left")), len(flow_runs("compat right"))) == (1, 1)


def test_a_method_flow_within_a_flow() -> None:
    """``self`` stays the object."""

    class Job:
        factor = 3

        @flow
        def child(self, x):
            return x * self.factor

        @flow
        def parent(self, x):
            return self.child(x)

    assert Job().parent(2) == 6


@only_here("wait_for of a subflow is also an edge of the lineage, and never a deadlock")
def test_a_subflow_waits_for_tasks() -> None:
    """It starts after them."""
    order = []

    @task
    def first():
        order.append("task")

    @flow
    def child():
        order.append("flow")

    @flow
    def parent():
        child(wait_for=[first.submit()])

    parent()
    assert order == ["task", "flow"]
