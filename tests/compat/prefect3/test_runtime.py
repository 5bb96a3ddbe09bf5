"""``runtime.flow_run`` and ``runtime.task_run``: what code can ask about itself; contexts."""

from __future__ import annotations

import asyncio

import pytest

from .names import (
    RUNTIME_PREFIX,
    FlowRunContext,
    MissingContextError,
    TaskRunContext,
    flow,
    get_run_context,
    runtime,
    tags,
    task,
)


def test_outside_a_run_everything_is_empty() -> None:
    """None, not an error."""
    assert runtime.flow_run.id is None
    assert runtime.flow_run.name is None
    assert runtime.flow_run.flow_name is None
    assert runtime.task_run.id is None
    assert runtime.task_run.name is None
    assert runtime.flow_run.tags == []
    assert runtime.flow_run.parameters == {}


def test_a_flow_knows_its_run() -> None:
    """Id, name, flow's name."""

    @flow(name="compat runtime flow", flow_run_name="the name")
    def any_flow():
        return bool(runtime.flow_run.id), runtime.flow_run.name, runtime.flow_run.flow_name

    assert tuple(any_flow()) == (True, "the name", "compat runtime flow")


def test_a_flow_knows_its_parameters() -> None:
    """With defaults."""

    @flow
    def any_flow(x, y=2):
        return runtime.flow_run.parameters

    assert any_flow(1) == {"x": 1, "y": 2}


def test_a_flow_knows_its_tags() -> None:
    """Those of the block around it."""

    @flow
    def any_flow():
        return sorted(runtime.flow_run.tags)

    with tags("a", "b"):
        assert any_flow() == ["a", "b"]


def test_a_flow_knows_how_often_it_was_tried() -> None:
    """From 1."""
    counts = []

    @flow(retries=2)
    def flaky():
        counts.append(runtime.flow_run.run_count)
        if len(counts) < 3:
            raise ValueError("not yet")

    flaky()
    assert counts == [1, 2, 3]


def test_a_flow_knows_when_it_was_to_start() -> None:
    """A time with a zone."""

    @flow
    def any_flow():
        return runtime.flow_run.scheduled_start_time.tzinfo is not None

    assert any_flow() is True


def test_a_subflow_knows_its_parent() -> None:
    """And its root."""

    @flow
    def child():
        return str(runtime.flow_run.parent_flow_run_id), str(runtime.flow_run.root_flow_run_id)

    @flow
    def parent():
        own = str(runtime.flow_run.id)
        return [own == known for known in child()]

    assert parent() == [True, True]


def test_a_run_without_parent() -> None:
    """None."""

    @flow
    def alone():
        return runtime.flow_run.parent_flow_run_id

    assert alone() is None


def test_a_task_knows_its_run() -> None:
    """Name, task's name, parameters."""

    @task(name="a task", task_run_name="run of {x}")
    def any_task(x, y=1):
        here = runtime.task_run
        return bool(here.id), here.name, here.task_name, here.parameters

    @flow
    def parent():
        return any_task(5)

    assert tuple(parent()) == (True, "run of 5", "a task", {"x": 5, "y": 1})


def test_a_task_knows_its_flow_run() -> None:
    """The same as the flow knows."""

    @task
    def any_task():
        return str(runtime.flow_run.id)

    @flow
    def parent():
        return any_task() == str(runtime.flow_run.id) == any_task.submit().result()

    assert parent() is True


def test_a_task_knows_its_tags() -> None:
    """Its own and the block's."""

    @task(tags={"own"})
    def any_task():
        return sorted(runtime.task_run.tags)

    @flow
    def parent():
        with tags("block"):
            return any_task()

    assert parent() == ["block", "own"]


def test_a_task_knows_how_often_it_was_tried() -> None:
    """From 1."""
    counts = []

    @task(retries=2)
    def flaky():
        counts.append(runtime.task_run.run_count)
        if len(counts) < 3:
            raise ValueError("not yet")

    @flow
    def parent():
        flaky()

    parent()
    assert counts == [1, 2, 3]


def test_async_code_knows_its_run() -> None:
    """Each coroutine its own."""

    @task(task_run_name="t{x}")
    async def any_task(x):
        await asyncio.sleep(0.01)
        return runtime.task_run.name

    @flow
    async def parent():
        return await asyncio.gather(any_task(1), any_task(2))

    assert asyncio.run(parent()) == ["t1", "t2"]


def test_an_attribute_that_there_is_not() -> None:
    """AttributeError."""
    with pytest.raises(AttributeError):
        _ = runtime.flow_run.no_such_thing


def test_values_can_be_given_for_tests(monkeypatch) -> None:
    """By environment variables."""
    monkeypatch.setenv(f"{RUNTIME_PREFIX}FLOW_RUN__NAME", "a name for the test")
    assert runtime.flow_run.name == "a name for the test"


def test_a_run_context_in_a_flow() -> None:
    """With the flow and its run."""

    @flow(name="compat context")
    def any_flow():
        context = get_run_context()
        return context.flow.name, bool(context.flow_run.id), isinstance(context, FlowRunContext)

    assert tuple(any_flow()) == ("compat context", True, True)


def test_a_run_context_in_a_task() -> None:
    """With the task and its run."""

    @task(name="compat task context")
    def any_task():
        context = get_run_context()
        return context.task.name, bool(context.task_run.id), isinstance(context, TaskRunContext)

    @flow
    def parent():
        return any_task()

    assert tuple(parent()) == ("compat task context", True, True)


def test_no_run_context_outside() -> None:
    """MissingContextError."""
    with pytest.raises(MissingContextError):
        get_run_context()
