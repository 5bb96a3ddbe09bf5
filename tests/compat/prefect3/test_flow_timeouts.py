"""``timeout_seconds`` of a flow."""

from __future__ import annotations

import asyncio
import time

import pytest

from .names import flow, only_here, task
from .records import flow_run


def test_a_flow_that_takes_too_long_times_out() -> None:
    """Failed, by the name TimedOut."""

    @flow(timeout_seconds=0.2)
    def slow():
        time.sleep(5)

    begun = time.monotonic()
    state = slow(return_state=True)
    assert time.monotonic() - begun < 4
    assert state.is_failed()
    assert state.name == "TimedOut"
    assert "0.2" in state.message


def test_an_async_flow_that_takes_too_long_times_out() -> None:
    """The same for coroutines."""

    @flow(timeout_seconds=0.2)
    async def slow():
        await asyncio.sleep(5)

    state = asyncio.run(slow(return_state=True))
    assert state.is_failed()
    assert state.name == "TimedOut"


def test_a_timed_out_flow_raises_timeout_error() -> None:
    """Python's own."""

    @flow(timeout_seconds=0.2)
    def slow():
        time.sleep(5)

    with pytest.raises(TimeoutError):
        slow()


def test_a_flow_in_time_is_not_touched() -> None:
    """It completes."""

    @flow(timeout_seconds=10)
    def quick():
        time.sleep(0.01)
        return 1

    assert quick() == 1


@only_here("a TimeoutError that the user's code raises by itself is a failure; Prefect calls it TimedOut")
def test_a_timeout_error_of_the_users_own_is_no_timeout() -> None:
    """Failed, not TimedOut."""

    @flow(timeout_seconds=10)
    def raises():
        raise TimeoutError("mine")

    state = raises(return_state=True)
    assert state.is_failed()
    assert state.name == "Failed"
    assert "mine" in state.message


def test_a_timeout_in_a_subflow_fails_the_parent() -> None:
    """By the TimeoutError that comes out of the call."""

    @flow(timeout_seconds=0.2, name="compat slow child")
    def child():
        time.sleep(5)

    @flow
    def parent():
        child()

    state = parent(return_state=True)
    assert state.is_failed()
    assert flow_run("compat slow child").state == "TimedOut"


def test_a_timeout_in_an_async_subflow() -> None:
    """The same for coroutines."""

    @flow(timeout_seconds=0.2, name="compat slow async child")
    async def child():
        await asyncio.sleep(5)

    @flow
    async def parent():
        await child()

    state = asyncio.run(parent(return_state=True))
    assert state.is_failed()
    assert flow_run("compat slow async child").state == "TimedOut"


def test_no_task_begins_after_the_timeout() -> None:
    """The flow function does not go on."""
    went_on = []

    @task
    def later():
        went_on.append(1)

    @flow(timeout_seconds=0.2)
    def slow():
        time.sleep(1)
        later()

    assert slow(return_state=True).name == "TimedOut"
    time.sleep(0.2)
    assert not went_on


def test_a_timed_out_flow_is_retried() -> None:
    """A timeout is a failure like another."""
    attempts = []

    @flow(timeout_seconds=0.3, retries=1)
    def slow_once():
        attempts.append(1)
        if len(attempts) == 1:
            time.sleep(5)
        return "done"

    assert slow_once() == "done"
    assert len(attempts) == 2
