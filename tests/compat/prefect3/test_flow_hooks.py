"""Hooks of flows: on which ending, in which order, with what, and what their own failure does."""

from __future__ import annotations

import asyncio

import pytest

from .names import Cancelled, Completed, flow, only_here, task


def test_on_completion_gets_flow_run_and_state(noted) -> None:
    """In that order."""

    def hook(a_flow, run, state):
        noted((a_flow.name, bool(run.id), bool(run.name), state.is_completed()))

    @flow(name="compat hooked", on_completion=[hook])
    def works():
        return 1

    works()
    assert noted == [("compat hooked", True, True, True)]


def test_hooks_run_in_the_order_given(noted) -> None:
    """Each once."""

    def first(a_flow, run, state):
        noted("first")

    def second(a_flow, run, state):
        noted("second")

    @flow(on_completion=[first, second])
    def works():
        pass

    works()
    assert noted == ["first", "second"]


def test_on_failure_runs_on_failure_only(noted) -> None:
    """The other hooks keep still."""

    @flow(
        on_completion=[lambda *_: noted("completion")],
        on_failure=[lambda *_: noted("failure")],
        on_cancellation=[lambda *_: noted("cancellation")],
        on_crashed=[lambda *_: noted("crashed")],
    )
    def fails():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fails()
    assert noted == ["failure"]


def test_on_completion_runs_on_completion_only(noted) -> None:
    """The other hooks keep still."""

    @flow(
        on_completion=[lambda *_: noted("completion")],
        on_failure=[lambda *_: noted("failure")],
        on_cancellation=[lambda *_: noted("cancellation")],
        on_crashed=[lambda *_: noted("crashed")],
    )
    def works():
        return 1

    works()
    assert noted == ["completion"]


def test_on_running_runs_at_the_start_of_each_attempt(noted) -> None:
    """Before the function."""

    def hook(a_flow, run, state):
        noted(state.is_running())

    @flow(on_running=[hook], retries=1)
    def flaky():
        noted("body")
        if noted.count("body") == 1:
            raise ValueError("not yet")

    flaky()
    assert noted == [True, "body", True, "body"]


def test_hooks_by_decorator(noted) -> None:
    """As with the option."""

    @flow
    def works():
        return 1

    @works.on_completion
    def hook(a_flow, run, state):
        noted("completion")

    works()
    assert noted == ["completion"]


def test_every_hook_has_a_decorator(noted) -> None:
    """on_failure, on_running, on_cancellation, on_crashed."""

    @flow
    def fails():
        raise ValueError("no")

    @fails.on_running
    def running(a_flow, run, state):
        noted("running")

    @fails.on_failure
    def failure(a_flow, run, state):
        noted("failure")

    @fails.on_cancellation
    def cancellation(a_flow, run, state):
        noted("cancellation")

    @fails.on_crashed
    def crashed(a_flow, run, state):
        noted("crashed")

    fails(return_state=True)
    assert noted == ["running", "failure"]


def test_a_failing_hook_does_not_stop_the_others(noted) -> None:
    """Nor does it change the state."""

    def breaks(a_flow, run, state):
        noted("breaks")
        raise RuntimeError("in the hook")

    @flow(on_completion=[breaks, lambda *_: noted("second")])
    def works():
        return "value"

    assert works() == "value"
    assert noted == ["breaks", "second"]


def test_async_hooks_are_awaited(noted) -> None:
    """On async flows."""

    async def hook(a_flow, run, state):
        await asyncio.sleep(0)
        noted("hook")

    @flow(on_completion=[hook])
    async def works():
        return 1

    asyncio.run(works())
    assert noted == ["hook"]


def test_async_hooks_on_sync_flows(noted) -> None:
    """Run to their end as well."""

    async def hook(a_flow, run, state):
        await asyncio.sleep(0)
        noted("hook")

    @flow(on_completion=[hook])
    def works():
        return 1

    works()
    assert noted == ["hook"]


def test_failure_hooks_run_only_when_retries_are_used_up(noted) -> None:
    """Once, at the end."""

    @flow(retries=2, on_failure=[lambda *_: noted("failure")])
    def broken():
        noted("body")
        raise ValueError("no")

    broken(return_state=True)
    assert noted == ["body", "body", "body", "failure"]


def test_failure_hooks_do_not_run_when_a_retry_helps(noted) -> None:
    """The run did not fail."""

    @flow(retries=2, on_failure=[lambda *_: noted("failure")], on_completion=[lambda *_: noted("completion")])
    def flaky():
        noted("body")
        if noted.count("body") == 1:
            raise ValueError("no")

    flaky()
    assert noted == ["body", "body", "completion"]


def test_failure_hooks_run_on_bad_parameters(noted) -> None:
    """The run failed."""

    @flow(on_failure=[lambda *_: noted("failure")])
    def typed(x: int):
        noted("body")

    typed("no number", return_state=True)
    assert noted == ["failure"]


@only_here("whatever ends as Cancelled calls its hooks; Prefect only when it was told to cancel")
def test_on_cancellation_runs_for_a_returned_cancelled_state(noted) -> None:
    """Only that."""

    @flow(on_cancellation=[lambda *_: noted("cancellation")], on_failure=[lambda *_: noted("failure")])
    def stops():
        return Cancelled(message="enough")

    assert stops(return_state=True).is_cancelled()
    assert noted == ["cancellation"]


def test_on_crashed_runs_for_a_crash(noted) -> None:
    """SystemExit in the flow."""

    @flow(on_crashed=[lambda *_: noted("crashed")], on_failure=[lambda *_: noted("failure")])
    def leaves():
        raise SystemExit(1)

    with pytest.raises(SystemExit):
        leaves()
    assert noted == ["crashed"]


def test_a_hook_sees_the_named_state(noted) -> None:
    """As the flow returned it."""

    @flow(on_completion=[lambda a_flow, run, state: noted(state.name)])
    def skips():
        return Completed(name="Skipped today")

    skips()
    assert noted == ["Skipped today"]


def test_a_hook_must_be_callable() -> None:
    """A clear error where it is written."""
    with pytest.raises(Exception, match=r"callable|function"):

        @flow(on_completion=["not a function"])
        def works():
            pass


def test_subflow_hooks_run(noted) -> None:
    """The child's before the parent's."""

    @flow(on_completion=[lambda *_: noted("child")])
    def child():
        return 1

    @flow(on_completion=[lambda *_: noted("parent")])
    def parent():
        return child()

    parent()
    assert noted == ["child", "parent"]


def test_with_options_replaces_hooks(noted) -> None:
    """The original keeps its own."""

    @flow(on_completion=[lambda *_: noted("old")])
    def works():
        return 1

    works.with_options(on_completion=[lambda *_: noted("new")])()
    works()
    assert noted == ["new", "old"]


def test_task_hooks_get_task_run_and_state(noted) -> None:
    """In that order."""

    def hook(a_task, run, state):
        noted((a_task.name, bool(run.id), bool(run.name), state.is_completed()))

    @task(name="compat hooked task", on_completion=[hook])
    def works():
        return 1

    @flow
    def parent():
        works()

    parent()
    assert noted == [("compat hooked task", True, True, True)]


def test_task_failure_hooks_run_on_failure_only(noted) -> None:
    """The other hooks keep still."""

    @task(on_completion=[lambda *_: noted("completion")], on_failure=[lambda *_: noted("failure")])
    def fails():
        raise ValueError("no")

    @flow
    def parent():
        fails(return_state=True)
        return 1

    parent()
    assert noted == ["failure"]


def test_task_failure_hooks_run_after_the_last_retry(noted) -> None:
    """Once."""

    @task(retries=2, on_failure=[lambda *_: noted("failure")])
    def broken():
        noted("body")
        raise ValueError("no")

    @flow
    def parent():
        broken(return_state=True)
        return 1

    parent()
    assert noted == ["body", "body", "body", "failure"]


def test_task_hooks_by_decorator(noted) -> None:
    """on_completion, on_failure."""

    @task
    def works():
        return 1

    @works.on_completion
    def done(a_task, run, state):
        noted("completion")

    @works.on_failure
    def failed(a_task, run, state):
        noted("failure")

    @flow
    def parent():
        works()

    parent()
    assert noted == ["completion"]


def test_task_running_hooks_run_at_each_attempt(noted) -> None:
    """Before the function."""

    @task(retries=1, on_running=[lambda *_: noted("running")])
    def flaky():
        noted("body")
        if noted.count("body") == 1:
            raise ValueError("no")

    @flow
    def parent():
        flaky()

    parent()
    assert noted == ["running", "body", "running", "body"]


def test_async_task_hooks(noted) -> None:
    """Awaited."""

    async def hook(a_task, run, state):
        await asyncio.sleep(0)
        noted("hook")

    @task(on_completion=[hook])
    async def works():
        return 1

    @flow
    async def parent():
        await works()

    asyncio.run(parent())
    assert noted == ["hook"]


def test_a_failing_task_hook_does_not_stop_the_others(noted) -> None:
    """Nor the task."""

    def breaks(a_task, run, state):
        raise RuntimeError("in the hook")

    @task(on_completion=[breaks, lambda *_: noted("second")])
    def works():
        return "value"

    @flow
    def parent():
        return works()

    assert parent() == "value"
    assert noted == ["second"]


def test_hooks_of_submitted_and_mapped_tasks(noted) -> None:
    """One per task run."""

    @task(on_completion=[lambda *_: noted("hook")])
    def works(x):
        return x

    @flow
    def parent():
        works.submit(0).result()
        return works.map([1, 2]).result()

    parent()
    assert noted == ["hook", "hook", "hook"]


def test_the_state_in_a_failure_hook_has_the_exception(noted) -> None:
    """Behind ``result(raise_on_failure=False)``."""

    def hook(a_task, run, state):
        noted(type(state.result(raise_on_failure=False)).__name__)

    @task(on_failure=[hook])
    def fails():
        raise KeyError("gone")

    @flow
    def parent():
        fails(return_state=True)
        return 1

    parent()
    assert noted == ["KeyError"]
