"""``timeout_seconds`` of tasks and flows: in the main thread, on the pool, in coroutines."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from flowdeck import flow, task
from flowdeck.engine.errors import RunTimedOut

LONG = 5.0


def spin():
    """Busy in Python for too long."""
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        pass


def quickly(call):
    """What it returns; fails when it took as long as the body would have."""
    begun = time.monotonic()
    value = call()
    assert time.monotonic() - begun < LONG / 2
    return value


@pytest.mark.parametrize("body", [lambda: time.sleep(LONG), spin])
def test_a_task_in_the_main_thread_is_stopped(reader, body) -> None:
    """Also while it sleeps; the flow may go on."""
    stopped = []

    @task(timeout_seconds=0.1)
    def slow():
        try:
            body()
        finally:
            stopped.append(True)

    @flow
    def whole():
        with pytest.raises(TimeoutError, match=r"slow took longer than 0\.1 s"):
            slow()
        return "went on"

    assert quickly(whole) == "went on"
    row = reader.tasks(1)[0]
    assert (row.state_type, row.state_name, row.cause) == ("FAILED", "TimedOut", "took longer than 0.1 s")
    assert stopped == [True]


def test_a_task_on_the_pool_is_stopped_at_its_next_step(reader) -> None:
    """Python code is interrupted; the future says TimedOut."""

    @task(timeout_seconds=0.1)
    def slow():
        for _ in range(500):
            time.sleep(LONG / 500)

    @flow
    def whole():
        future = slow.submit()
        future.wait()
        return future.state.name

    assert quickly(whole) == "TimedOut"


def test_async_tasks_and_flows_are_stopped_at_their_await(reader) -> None:
    """And nothing of them goes on."""

    @task(timeout_seconds=0.1)
    async def slow():
        await asyncio.sleep(LONG)

    @flow
    async def whole():
        assert (await slow(return_state=True)).name == "TimedOut"
        future = slow.submit()
        await asyncio.to_thread(future.wait)
        return future.state.name

    @flow(timeout_seconds=0.1)
    async def slow_flow():
        await asyncio.gather(asyncio.sleep(LONG), slow.with_options(timeout_seconds=LONG)())

    assert quickly(lambda: asyncio.run(whole())) == "TimedOut"
    state = quickly(lambda: asyncio.run(slow_flow(return_state=True)))
    assert (state.name, reader.run(2).state_name) == ("TimedOut", "TimedOut")
    assert reader.tasks(2)[0].state_type == "CANCELLED"


def test_it_applies_only_when_exceeded(reader) -> None:
    """A quick body of an impatient task is fine, thousands of times."""

    @task(timeout_seconds=1)
    def quick(x):
        return x

    @flow(timeout_seconds=20)
    def whole():
        return len(quick.map(range(500)).result()) + sum(quick(1) for _ in range(200))

    assert whole() == 700


def test_a_timeout_error_of_the_users_own_is_a_failure(reader) -> None:
    """It is not the engine's TimedOut."""

    @task(timeout_seconds=10)
    def own():
        raise TimeoutError("mine")

    @flow(timeout_seconds=10)
    def whole():
        own()

    with pytest.raises(TimeoutError, match="mine"):
        whole()
    assert reader.tasks(1)[0].state_name == "Failed"
    assert reader.run(1).state_name == "Failed"


@pytest.mark.parametrize("how", ["own code", "a task's call", "a future", "a subflow", "fire and forget", "a retry"])
def test_a_flow_is_stopped_wherever_it_is(reader, how) -> None:
    """In its own code, in a task it called, while it waits; its tasks end with it, and those that wait never begin."""
    begun = []

    @task
    def slow():
        begun.append("slow")
        for _ in range(500):
            time.sleep(LONG / 500)

    @task
    def after(x):
        begun.append("after")

    @task(retries=1, retry_delay_seconds=LONG)
    def failing():
        raise ValueError

    @flow
    def sub():
        slow()

    @flow(timeout_seconds=0.2)
    def whole():
        if how == "own code":
            time.sleep(LONG)
        elif how == "a task's call":
            slow()
        elif how == "a future":
            after.submit(slow.submit()).result()
        elif how == "a subflow":
            sub()
        elif how == "a retry":
            failing()
        else:
            after.submit(slow.submit())

    state = quickly(lambda: whole(return_state=True))
    assert (state.type, reader.run(1).state_name) == ("FAILED", "TimedOut")
    assert reader.run(1).cause == "took longer than 0.2 s"
    assert "after" not in begun
    for run_id in (1, 2):
        for row in reader.tasks(run_id):
            assert row.state_type == "CANCELLED", row
    if how == "a subflow":
        assert reader.run(2).state_type == "CANCELLED"
        assert "took longer than 0.2 s" in reader.run(2).cause


def test_timed_out_attempts_are_retried(reader) -> None:
    """Of tasks and of flows."""
    calls = []

    @task(timeout_seconds=0.05, retries=1)
    def slow_once():
        calls.append("task")
        if calls.count("task") == 1:
            time.sleep(LONG)
        return "ok"

    @flow(timeout_seconds=0.3, retries=1)
    def whole():
        calls.append("flow")
        if calls.count("flow") == 1:
            slow_once()
            time.sleep(LONG)
        return slow_once()

    assert quickly(whole) == "ok"
    assert calls == ["flow", "task", "task", "flow"]
    assert reader.run(1).attempt == 2


def test_code_that_swallows_the_timeout_has_its_say(reader) -> None:
    """What it returns then is its result; nothing is raised a second time."""

    @task(timeout_seconds=0.1)
    def stubborn():
        try:
            time.sleep(LONG)
        except RunTimedOut:
            return "swallowed"

    @flow
    def whole():
        return stubborn()

    assert quickly(whole) == "swallowed"


@pytest.mark.parametrize("where", ["main", "pool"])
@pytest.mark.parametrize("what", ["a call", "a call in a call", "a future", "fire and forget", "a subflow", "a retry"])
def test_a_tasks_timeout_ends_what_it_called(reader, where, what) -> None:
    """Calls in its own thread, what it submitted, what waits: Cancelled with its caller, and the run goes on."""
    ended = []

    @task
    def slow():
        try:
            for _ in range(500):
                time.sleep(LONG / 500)
        finally:
            ended.append("slow")

    @task
    def middle():
        return slow()

    @task
    def after(x):
        ended.append("after")

    @task(retries=1, retry_delay_seconds=LONG)
    def failing():
        raise ValueError

    @flow
    def sub():
        return slow()

    @task(timeout_seconds=0.3, retries=1)
    def outer():
        if ended:
            return "second time"
        if what == "a retry":
            ended.append("retry")
            failing.submit().result()
        elif what == "fire and forget":
            after.submit(slow.submit())
            spin()
        else:
            {"a call": slow, "a call in a call": middle, "a subflow": sub,
             "a future": lambda: after.submit(slow.submit()).result()}[what]()
        return "first time"

    @flow
    def whole():
        return outer.submit().result() if where == "pool" else outer()

    assert quickly(whole) == "second time"
    assert "after" not in ended
    rows = {row.key: row for row in reader.tasks(1)}
    assert (rows["outer"].state_name, rows["outer"].attempt) == ("Completed", 2)
    assert reader.run(1).state_name == "Completed"
    inner = [row for row in reader.tasks(1) if row.key != "outer"] + (reader.tasks(2) if what == "a subflow" else [])
    assert {row.state_name for row in inner} == {"Cancelled"}
    assert all("outer took longer than 0.3 s" in (row.cause or "") for row in inner)


def test_an_async_tasks_timeout_ends_what_it_awaits(reader) -> None:
    """It is TimedOut, what it called is Cancelled, and both may be tried again."""
    tries = []

    @task
    async def inner():
        tries.append("inner")
        await asyncio.sleep(LONG if len(tries) == 2 else 0)
        return "ok"

    @task(timeout_seconds=0.3, retries=1)
    async def outer():
        tries.append("outer")
        return await inner()

    @flow
    async def whole():
        return await outer()

    assert quickly(lambda: asyncio.run(whole())) == "ok"
    causes = [event.message for event in reader.events(run_id=1) if event.to_name == "AwaitingRetry"]
    assert causes == ["attempt 1 failed: took longer than 0.3 s; next in 0 s"]
    assert [event.message for event in reader.events(run_id=1) if event.to_name == "Cancelled"] == [
        "its caller outer took longer than 0.3 s"
    ]


def test_code_that_does_not_yield_is_overdue(reader, eventually) -> None:
    """Its row, its log and its end say that it was asked to stop and went on."""
    seen = []

    @task(timeout_seconds=0.1)
    def asleep():
        time.sleep(2.5)

    def look():
        eventually(lambda: reader.tasks(1) and "overdue" in (reader.tasks(1)[0].cause or ""))
        seen.append(reader.tasks(1)[0])

    @flow
    def whole():
        thread = threading.Thread(target=look)
        thread.start()
        asleep.submit(return_state=True)
        thread.join()

    whole(return_state=True)
    assert (seen[0].state_type, seen[0].state_name) == ("RUNNING", "Running")
    assert seen[0].cause == ("overdue: asked to stop 1 s ago, its code does not yield; "
                             'isolation="process" would be killed')  # fmt: skip
    assert any(row.message == seen[0].cause for row in reader.logs(1))
    row = reader.tasks(1)[0]
    assert row.state_name == "TimedOut"
    assert row.cause.startswith("took longer than 0.1 s; its code went on for ")


def test_a_flow_that_does_not_yield_is_overdue_too(reader) -> None:
    """In its row and log."""

    @flow(timeout_seconds=0.1)
    def whole():
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            try:
                time.sleep(0.05)
            except RunTimedOut:
                continue

    whole(return_state=True)
    assert any("overdue: asked to stop 1 s ago" in (event.message or "") for event in reader.events(run_id=1))
    assert reader.run(1).state_name == "Completed"


@pytest.mark.parametrize("where", ["the flow", "a task", "a coroutine"])
def test_a_subflow_has_a_timeout_of_its_own(reader, where) -> None:
    """It is TimedOut, its tasks are Cancelled, and who called it goes on."""

    @task
    def slow():
        for _ in range(500):
            time.sleep(LONG / 500)

    @task
    async def slow_async():
        await asyncio.sleep(LONG)

    @flow(timeout_seconds=0.3)
    def sub():
        slow.submit()
        slow()

    @flow(timeout_seconds=0.3)
    async def sub_async():
        await slow_async()

    @task
    def calls():
        return sub(return_state=True).name

    @flow
    def whole():
        return calls() if where == "a task" else sub(return_state=True).name

    @flow
    async def whole_async():
        return (await sub_async(return_state=True)).name

    assert quickly(lambda: asyncio.run(whole_async()) if where == "a coroutine" else whole()) == "TimedOut"
    child = reader.run(2)
    assert (child.state_name, child.cause) == ("TimedOut", "took longer than 0.3 s")
    assert {row.state_name for row in reader.tasks(2)} == {"Cancelled"}
    assert reader.run(1).state_name == "Completed"
