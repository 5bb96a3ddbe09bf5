"""``retries`` of a flow: what runs again and what does not."""

from __future__ import annotations

import asyncio

import pytest

from .names import Failed, flow, only_here, task
from .records import flow_run


def test_a_flow_runs_again_after_a_failure() -> None:
    """As often as needed, no more."""
    attempts = []

    @flow(retries=3)
    def flaky():
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError("not yet")
        return "done"

    assert flaky() == "done"
    assert len(attempts) == 3


def test_retries_are_a_limit() -> None:
    """One attempt, then so many more; the last exception comes out."""
    attempts = []

    @flow(retries=2)
    def broken():
        attempts.append(1)
        raise ValueError(f"attempt {len(attempts)}")

    with pytest.raises(ValueError, match="attempt 3"):
        broken()
    assert len(attempts) == 3


def test_the_run_counts_its_attempts() -> None:
    """One run, several attempts."""
    attempts = []

    @flow(retries=2, name="compat counted retries")
    def flaky():
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError("not yet")

    flaky()
    run = flow_run("compat counted retries")
    assert (run.state, run.attempts) == ("Completed", 3)


def test_an_async_flow_runs_again() -> None:
    """The same for coroutines."""
    attempts = []

    @flow(retries=1)
    async def flaky():
        attempts.append(1)
        if len(attempts) < 2:
            raise ValueError("not yet")
        return "done"

    assert asyncio.run(flaky()) == "done"


def test_a_failed_task_runs_again_with_its_flow() -> None:
    """A retry of the flow begins its failed tasks anew."""
    attempts = []

    @task
    def flaky():
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError("not yet")
        return "done"

    @flow(retries=1)
    def parent():
        return flaky()

    assert parent() == "done"
    assert len(attempts) == 2


def test_a_finished_task_with_a_kept_result_does_not_run_again() -> None:
    """``persist_result=True`` in Prefect; here every result is kept unless it says False."""
    flows, tasks = [], []

    @task(persist_result=True)
    def once():
        tasks.append(1)
        return "value"

    @flow(retries=1)
    def parent():
        value = once()
        flows.append(1)
        if len(flows) == 1:
            raise ValueError("after the task")
        return value

    assert parent() == "value"
    assert (len(flows), len(tasks)) == (2, 1)


@only_here("results are journalled by default, so that finished work is not done again")
def test_a_finished_task_does_not_run_again_by_default() -> None:
    """In Prefect it does, unless persist_result is set."""
    flows, tasks = [], []

    @task
    def once():
        tasks.append(1)
        return "value"

    @flow(retries=1)
    def parent():
        value = once()
        flows.append(1)
        if len(flows) == 1:
            raise ValueError("after the task")
        return value

    assert parent() == "value"
    assert (len(flows), len(tasks)) == (2, 1)


def test_a_task_without_a_kept_result_runs_again() -> None:
    """``persist_result=False``."""
    flows, tasks = [], []

    @task(persist_result=False)
    def every_time():
        tasks.append(1)
        return "value"

    @flow(retries=1)
    def parent():
        every_time()
        flows.append(1)
        if len(flows) == 1:
            raise ValueError("after the task")

    parent()
    assert (len(flows), len(tasks)) == (2, 2)


def test_a_failed_child_flow_runs_again_with_its_parent() -> None:
    """Its function is called again."""
    children = []

    @flow
    def child():
        children.append(1)
        if len(children) == 1:
            raise ValueError("not yet")
        return "done"

    @flow(retries=1)
    def parent():
        return child()

    assert parent() == "done"
    assert len(children) == 2


def test_a_successful_child_flow_with_a_kept_result_does_not_run_again() -> None:
    """Its value is there."""
    children, parents = [], []

    @flow(persist_result=True)
    def child():
        children.append(1)
        return "value"

    @flow(retries=1)
    def parent():
        value = child()
        parents.append(1)
        if len(parents) == 1:
            raise ValueError("after the child")
        return value

    assert parent() == "value"
    assert (len(parents), len(children)) == (2, 1)


def test_a_child_flow_with_retries_of_its_own() -> None:
    """They are used before the parent's."""
    children, parents = [], []

    @flow(retries=2)
    def child():
        children.append(1)
        if len(children) < 3:
            raise ValueError("not yet")
        return "done"

    @flow(retries=1)
    def parent():
        parents.append(1)
        return child()

    assert parent() == "done"
    assert (len(parents), len(children)) == (1, 3)


@only_here("a returned Failed state is retried as an exception is; Prefect 3.8 leaves such a run AwaitingRetry")
def test_a_returned_failed_state_is_retried() -> None:
    """As often as needed."""
    attempts = []

    @flow(retries=2)
    def gives_up():
        attempts.append(1)
        return Failed(message="no") if len(attempts) < 3 else "done"

    assert gives_up() == "done"
    assert len(attempts) == 3


def test_invalid_parameters_are_not_tried_again() -> None:
    """They would not get better."""
    called = []

    @flow(retries=2, retry_delay_seconds=30)
    def typed(x: int):
        called.append(x)

    assert typed("no number", return_state=True).is_failed()
    assert not called
