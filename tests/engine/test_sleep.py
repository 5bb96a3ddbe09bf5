"""``sleep`` and ``sleep_until``: durable, and for long sleeps of a daemon's run without a process."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from textwrap import dedent

import pytest
from flowdeck import flow, sleep, sleep_until, task
from flowdeck.engine.errors import UsageError


def write(box, text):
    """The flow file."""
    box.write("f.py", dedent("""
        import asyncio
        from flowdeck import sleep, sleep_until

        @task
        def step(name):
            effect(name)
            return name

        @task
        def slow(name):
            effect(f"{name} began")
            wait_for(name)
            effect(f"{name} ended")
    """) + dedent(text))


def test_sleep_in_code_of_every_kind(store, reader) -> None:
    """In flows and tasks, plain and async, and outside of runs; time passes."""

    @task
    def plain() -> float:
        begun = time.monotonic()
        sleep(0.1)
        return time.monotonic() - begun

    @task
    async def coroutine() -> float:
        begun = time.monotonic()
        await sleep(0.1)
        return time.monotonic() - begun

    @flow
    async def both() -> list[float]:
        begun = time.monotonic()
        await asyncio.gather(sleep(0.2), sleep(0.2))
        await sleep_until(datetime.now(UTC) + timedelta(seconds=0.1))
        sleep_took = time.monotonic() - begun
        return [sleep_took, await coroutine(), plain()]

    taken = asyncio.run(both())
    assert taken[0] >= 0.3
    assert all(seconds >= 0.1 for seconds in taken[1:])
    assert sleep(0) is None
    sleep_until(datetime.now(UTC) - timedelta(days=1))


def test_words_that_are_off(store) -> None:
    """Refused naming what was given."""
    for wrong in (-1, float("nan")):
        with pytest.raises(UsageError, match="seconds"):
            sleep(wrong)
    with pytest.raises(UsageError, match="datetime"):
        sleep_until("tomorrow")


def test_a_retried_task_sleeps_again_and_a_retried_flow_does_not(store, effects) -> None:
    """A task's attempt is made anew; a flow's finished steps are not."""
    slept = []

    @task(retries=1)
    def waits() -> None:
        begun = time.monotonic()
        sleep(0.2)
        slept.append(time.monotonic() - begun)
        if len(slept) == 1:
            raise RuntimeError("once")

    @flow(retries=1)
    def outer() -> None:
        begun = time.monotonic()
        sleep(0.2)
        slept.append(time.monotonic() - begun)
        if len(slept) == 3:
            raise RuntimeError("once")

    waits_in = flow(waits.fn)
    del waits_in

    @flow
    def first() -> None:
        waits()

    first()
    assert min(slept) >= 0.2
    outer()
    assert slept[2] >= 0.2
    assert slept[3] < 0.2


def test_a_killed_run_sleeps_only_the_rest(box) -> None:
    """The wake time is journalled; the new process waits for it, not for the whole again."""
    write(box, """
        @flow
        def naps():
            step("before")
            begun = time.time()
            effect("falls asleep")
            sleep(3)
            effect("slept" if time.time() - begun < 2.9 else "slept too long")
            step("after")
    """)
    box.daemon()
    begun = time.monotonic()
    run_id = box.submit("naps")
    box.wait_effects("falls asleep")
    time.sleep(0.5)
    os.kill(next(lease.pid for lease in box.reader.leases() if lease.run_id), signal.SIGKILL)
    box.wait_state(run_id, "Completed")
    assert time.monotonic() - begun >= 3
    assert box.effects() == ["before", "falls asleep", "falls asleep", "slept", "after"]


def test_a_long_sleep_holds_no_process(box) -> None:
    """The run says until when it sleeps, has no lease, and is brought back in time, also by another daemon."""
    write(box, """
        @flow
        def inner():
            sleep(4)
            return step("inner")

        @flow
        def naps():
            step("before")
            inner()
            sleep(0.1)
            step("after")
    """)
    first = box.daemon(FLOWDECK_SUSPEND_AFTER_SECONDS="1")
    run_id = box.submit("naps")
    box.wait(lambda: (run := box.reader.run(run_id)).state_type == "SCHEDULED" and run.attempt == 2)
    row = box.reader.run(run_id)
    assert "asleep until" in row.cause
    assert row.wake_at_us > time.time() * 1e6
    box.wait(lambda: not any(lease.run_id for lease in box.reader.leases()))
    first.stop(signal.SIGKILL)
    box.daemon(FLOWDECK_SUSPEND_AFTER_SECONDS="1")
    box.wait_state(run_id, "Completed")
    assert box.effects() == ["before", "inner", "after"]
    assert not {"Crashed", "Failed"} & set(box.states(run_id))


@pytest.mark.parametrize("kind", ["a task runs", "a task sleeps", "a coroutine", "a timeout"])
def test_what_keeps_the_process(box, kind) -> None:
    """While anything else goes on beside the sleep, or a task sleeps, the process stays."""
    body = {
        "a task runs": "slow.submit('one'); sleep(2)",
        "a task sleeps": "task(sleep)(2)",
        "a coroutine": "asyncio.run(both())",
        "a timeout": "sleep(2)",
    }[kind]
    write(box, f"""
        async def both():
            await asyncio.sleep(2)

        @flow(timeout_seconds={30 if kind == "a timeout" else None})
        def naps():
            {body}
            step("after")

        @flow
        async def naps_beside():
            other = asyncio.create_task(both())
            await sleep(2)
            await other
            step("after")
    """)
    box.daemon(FLOWDECK_SUSPEND_AFTER_SECONDS="0.2")
    run_id = box.submit("naps_beside" if kind == "a coroutine" else "naps")
    if kind == "a task runs":
        box.wait_effects("one began")
        box.touch("one")
        box.wait_state(run_id, "Completed")
        assert box.effects() == ["one began", "one ended", "after"]
        return
    box.wait_state(run_id, "Completed")
    assert box.reader.run(run_id).attempt == 1


def test_async_flows_leave_too(box) -> None:
    """``await sleep(…)`` of the flow itself."""
    write(box, """
        @flow
        async def naps():
            step("before")
            await sleep(3)
            step("after")
    """)
    box.daemon(FLOWDECK_SUSPEND_AFTER_SECONDS="0.2")
    run_id = box.submit("naps")
    box.wait(lambda: (run := box.reader.run(run_id)).state_type == "SCHEDULED" and run.attempt == 2)
    box.wait_state(run_id, "Completed")
    assert box.effects() == ["before", "after"]


def test_pause_and_cancel_of_a_sleeping_run(box) -> None:
    """A run that sleeps without a process is paused and cancelled at once; resumed, it sleeps the rest."""
    write(box, """
        @flow
        def naps(seconds: float):
            sleep(seconds)
            step("after")
    """)
    box.daemon(FLOWDECK_SUSPEND_AFTER_SECONDS="0.2")
    one, two = box.submit("naps", seconds=3600), box.submit("naps", seconds=3)
    for run_id in (one, two):
        box.wait(lambda run_id=run_id: (run := box.reader.run(run_id)).state_type == "SCHEDULED" and run.attempt == 2)
    box.control.cancel(one)
    assert box.state(one) == "Cancelled"
    box.control.pause(two)
    assert box.state(two) == "Paused"
    box.control.resume(two)
    box.wait_state(two, "Completed")
    assert box.effects() == ["after"]
