"""``pause_flow_run``, ``resume_flow_run``, typed input, ``send_input`` and ``receive_input``."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from .names import RunInput, flow, pause_flow_run, receive_input, resume_flow_run, runtime, send_input, task
from .records import flow_run


def when_paused(flow_name: str, act: Callable[[Any], None]) -> None:
    """Call ``act(run id)`` once the flow that calls this is paused; from a thread of its own."""
    run_id = runtime.flow_run.id

    def wait_and_act() -> None:
        deadline = time.monotonic() + 30
        while flow_run(flow_name).state not in ("Paused", "AwaitingInput") and time.monotonic() < deadline:
            time.sleep(0.05)
        act(run_id)

    threading.Thread(target=wait_and_act, daemon=True).start()


def test_a_paused_flow_goes_on_when_resumed() -> None:
    """From where it was."""
    noted = []

    @flow(name="compat pauses")
    def pauses():
        noted.append("before")
        when_paused("compat pauses", lambda run_id: (noted.append("resumed"), resume_flow_run(run_id)))
        pause_flow_run(timeout=30, poll_interval=1)
        noted.append("after")
        return "done"

    assert pauses() == "done"
    assert noted == ["before", "resumed", "after"]
    assert flow_run("compat pauses").state == "Completed"


def test_a_paused_run_is_shown_as_paused() -> None:
    """In its history."""

    @flow(name="compat pause history")
    def pauses():
        when_paused("compat pause history", resume_flow_run)
        pause_flow_run(timeout=30, poll_interval=1)

    pauses()
    history = flow_run("compat pause history").history
    assert "Paused" in history
    assert history.index("Running") < history.index("Paused")
    assert history[-1] == "Completed"


def test_a_pause_that_nobody_ends_fails() -> None:
    """After its timeout."""

    @flow(name="compat pause timeout")
    def pauses():
        pause_flow_run(timeout=1, poll_interval=1)

    state = pauses(return_state=True)
    assert state.is_failed()
    assert flow_run("compat pause timeout").state == "Failed"


def test_an_async_flow_pauses() -> None:
    """The same."""

    @flow(name="compat async pause")
    async def pauses():
        when_paused("compat async pause", resume_flow_run)
        result = pause_flow_run(timeout=30, poll_interval=1)
        if asyncio.iscoroutine(result):
            await result
        return "done"

    assert asyncio.run(pauses()) == "done"


def test_finished_tasks_do_not_run_again_after_a_pause() -> None:
    """The flow was only held."""
    calls = []

    @task
    def once():
        calls.append(1)

    @flow(name="compat pause tasks")
    def pauses():
        once()
        when_paused("compat pause tasks", resume_flow_run)
        pause_flow_run(timeout=30, poll_interval=1)
        once()

    pauses()
    assert len(calls) == 2


def test_input_of_a_builtin_type() -> None:
    """Given at the resume as ``value``."""

    @flow(name="compat input int")
    def asks():
        when_paused("compat input int", lambda run_id: resume_flow_run(run_id, run_input={"value": 42}))
        return pause_flow_run(wait_for_input=int, timeout=30, poll_interval=1)

    assert asks() == 42


def test_input_of_a_model() -> None:
    """Validated."""

    class Approval(RunInput):
        approved: bool
        reason: str = "none"

    @flow(name="compat input model")
    def asks():
        when_paused("compat input model", lambda run_id: resume_flow_run(run_id, run_input={"approved": True}))
        answer = pause_flow_run(wait_for_input=Approval, timeout=30, poll_interval=1)
        return answer.approved, answer.reason

    assert tuple(asks()) == (True, "none")


def test_input_with_initial_data() -> None:
    """What is not given keeps its start value."""

    class Person(RunInput):
        name: str
        age: int

    @flow(name="compat input initial")
    def asks():
        when_paused("compat input initial", lambda run_id: resume_flow_run(run_id, run_input={"age": 5}))
        person = pause_flow_run(
            wait_for_input=Person.with_initial_data(description="Who?", name="nobody"), timeout=30, poll_interval=1
        )
        return person.name, person.age

    assert tuple(asks()) == ("nobody", 5)


def test_a_running_flow_receives_what_was_sent() -> None:
    """By type."""

    @flow(name="compat receives")
    def receives():
        run_id = runtime.flow_run.id
        send_input("hello", flow_run_id=run_id)
        send_input("again", flow_run_id=run_id)
        received = []
        for text in receive_input(str, timeout=20, poll_interval=0.1):
            received.append(text)
            if len(received) == 2:
                break
        return sorted(received)

    assert receives() == ["again", "hello"]


def test_receiving_stops_after_its_timeout() -> None:
    """Quietly, unless told to raise."""

    @flow(name="compat receives nothing")
    def receives():
        return list(receive_input(str, timeout=0.5, poll_interval=0.1))

    assert receives() == []


def test_receiving_may_raise_after_its_timeout() -> None:
    """``raise_timeout_error``."""

    @flow
    def receives():
        with pytest.raises(TimeoutError):
            list(receive_input(str, timeout=0.5, poll_interval=0.1, raise_timeout_error=True))
        return "fine"

    assert receives() == "fine"


def test_sent_models_arrive_as_models() -> None:
    """Of their class."""

    class Order(RunInput):
        item: str
        count: int = 1

    @flow
    def receives():
        send_input(Order(item="tea"), flow_run_id=runtime.flow_run.id)
        for order in receive_input(Order, timeout=20, poll_interval=0.1):
            return order.item, order.count
        return None

    assert tuple(receives()) == ("tea", 1)


def test_a_pause_outside_a_flow_is_an_error() -> None:
    """There is nothing to pause."""
    with pytest.raises(Exception, match=r"run|context|flow"):
        pause_flow_run(timeout=1)
