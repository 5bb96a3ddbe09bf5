"""``pause_flow_run``: the run is held in its process until somebody resumes it, once per call, whatever happens."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import closing
from typing import Any

import pytest
from flowdeck import Cancelled, InputError, PauseTimedOut, flow, pause_flow_run, resume_flow_run, task
from flowdeck.engine.control.control import Control
from flowdeck.store.tables.nodes import Node
from pydantic import BaseModel, field_validator


@task
def noted(effects: Any, text: str) -> str:
    effects(text)
    return text


def in_thread(work: Any) -> tuple[threading.Thread, list[Any]]:
    """Run a flow beside the test; its outcome stands in the list."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def test_a_paused_run_says_so_and_goes_on_when_resumed(store, reader, eventually, effects) -> None:
    """Paused with its cause in words; the call returns None; nothing ran meanwhile, all runs after."""

    @flow
    def approve() -> str:
        noted(effects, "before")
        answer = pause_flow_run()
        noted(effects, "after")
        return f"answer {answer}"

    thread, outcome = in_thread(approve)
    eventually(lambda: reader.runs() and reader.run(1).state_name == "Paused")
    assert "paused by its code" in reader.run(1).cause
    assert effects.lines == ["before"]
    resume_flow_run(1)
    thread.join(10)
    assert outcome == ["answer None"]
    assert effects.lines == ["before", "after"]
    names = [event.to_name for event in reader.events(run_id=1) if event.kind == "state" and event.task_seq is None]
    assert names == ["Pending", "Running", "Pausing", "Paused", "Running", "Completed"]


class Approval(BaseModel):
    """Approve the deploy?"""

    approve: bool
    count: int = 1

    @field_validator("count")
    @classmethod
    def small(cls, value: int) -> int:
        if value > 10:
            raise ValueError("at most ten")
        return value


def test_input_is_checked_and_returned(store, reader, eventually) -> None:
    """Wrong input is refused naming the field and the run stays paused; right input comes back as the model."""

    @flow
    def deploy() -> Any:
        return pause_flow_run(wait_for_input=Approval)

    thread, outcome = in_thread(lambda: deploy())
    eventually(lambda: reader.runs() and reader.run(1).state_name == "AwaitingInput")
    assert "awaiting input: Approve the deploy?" in reader.run(1).cause
    for wrong, word in (
        (None, "approve"), ({}, "approve"), ({"approve": "perhaps"}, "approve"), ({"approve": True, "x": 1}, "x"),
        ({"approve": True, "count": "many"}, "count"),
    ):
        with pytest.raises(InputError, match=word):
            resume_flow_run(1, wrong)
    assert reader.run(1).state_name == "AwaitingInput"
    resume_flow_run(1, {"approve": True, "count": 3})
    thread.join(10)
    assert outcome == [Approval(approve=True, count=3)]


def test_an_answer_that_only_the_model_refuses_is_asked_for_again(store, reader, eventually) -> None:
    """Python validators run in the run's process: their refusal is logged and the run asks again."""

    @flow
    def deploy() -> int:
        return pause_flow_run(wait_for_input=Approval).count

    thread, outcome = in_thread(lambda: deploy())
    eventually(lambda: reader.runs() and reader.run(1).state_name == "AwaitingInput")
    resume_flow_run(1, {"approve": True, "count": 11})
    eventually(lambda: any("at most ten" in (event.message or "") for event in reader.events(run_id=1)))
    eventually(lambda: reader.run(1).state_name == "AwaitingInput")
    resume_flow_run(1, {"approve": True, "count": 9})
    thread.join(10)
    assert outcome == [9]


@pytest.mark.parametrize(
    ("wanted", "given", "expected"),
    [(int, 5, 5), (str, "yes", "yes"), (bool, {"value": True}, True), (list[int], [1, 2], [1, 2])],
)
def test_builtin_types_stand_in_the_field_value(store, reader, eventually, wanted, given, expected) -> None:
    """Plain types are asked for as the field ``value`` and come back as themselves."""

    @flow
    def ask() -> Any:
        return pause_flow_run(wait_for_input=wanted)

    thread, outcome = in_thread(lambda: ask())
    eventually(lambda: reader.runs() and reader.run(1).state_name == "AwaitingInput")
    resume_flow_run("#1", given)
    thread.join(10)
    assert outcome == [expected]


def test_nobody_answers(store, reader) -> None:
    """After the timeout the run fails in words."""

    @flow
    def ask() -> None:
        pause_flow_run(timeout=0.3)

    with pytest.raises(PauseTimedOut, match=r"nobody resumed it within 0\.3 s"):
        ask()
    assert reader.run(1).state_name == "Failed"
    assert "nobody resumed it" in reader.run(1).cause


def test_a_timeout_can_be_caught(store, reader) -> None:
    """The flow goes on, and its tasks start."""

    @flow
    def ask() -> str:
        try:
            pause_flow_run(timeout=0.2, wait_for_input=bool)
        except TimeoutError:
            return plain()
        return "answered"

    @task
    def plain() -> str:
        return "went on without"

    assert ask() == "went on without"
    assert reader.run(1).state_name == "Completed"


def test_a_pause_in_async_code_is_awaited(store, reader, eventually) -> None:
    """``await pause_flow_run()`` leaves the event loop free."""
    beats = []

    @flow
    async def ask() -> Any:
        async def beat() -> None:
            while True:
                beats.append(1)
                await asyncio.sleep(0.01)

        beating = asyncio.create_task(beat())
        answer = await pause_flow_run(wait_for_input=int)
        beating.cancel()
        return answer

    thread, outcome = in_thread(lambda: asyncio.run(ask()))
    eventually(lambda: reader.runs() and reader.run(1).state_name == "AwaitingInput")
    before = len(beats)
    eventually(lambda: len(beats) > before + 2)
    resume_flow_run(1, 7)
    thread.join(10)
    assert outcome == [7]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_pause_that_nobody_awaits_holds_the_run_all_the_same(store, reader, eventually, effects) -> None:
    """A forgotten ``await`` lets no task pass."""

    @flow
    async def forgets() -> None:
        pause_flow_run()
        await asyncio.sleep(0.2)
        noted(effects, "after")

    thread, outcome = in_thread(lambda: asyncio.run(forgets()))
    eventually(lambda: reader.runs() and reader.run(1).state_name == "Paused")
    assert effects.lines == []
    resume_flow_run(1)
    thread.join(10)
    assert outcome == [None]
    assert effects.lines == ["after"]


def test_tasks_and_subflows_may_pause_the_whole_run(store, reader, eventually) -> None:
    """A pause in a task or a subflow holds its root; one resume lets all of it go on."""

    @task
    def asks() -> Any:
        return pause_flow_run(wait_for_input=str)

    @flow
    def inner() -> Any:
        return pause_flow_run(wait_for_input=int)

    @flow
    def outer() -> Any:
        return asks(), inner()

    thread, outcome = in_thread(lambda: outer())
    eventually(lambda: reader.runs() and reader.run(1).state_name == "AwaitingInput")
    resume_flow_run(1, "text")
    eventually(lambda: reader.run(2) is not None and reader.run(2).state_name == "AwaitingInput")
    assert reader.run(1).state_name == "AwaitingInput"
    resume_flow_run(1, 5)
    thread.join(10)
    assert outcome == [("text", 5)]


def test_two_questions_at_once_are_answered_one_after_the_other(store, reader, eventually) -> None:
    """The oldest is answered first; the run is held until the last has its answer."""

    @task
    def asks(number: int) -> Any:
        return pause_flow_run(wait_for_input=int, key=f"q{number}")

    @flow
    def both() -> Any:
        return asks.map([1, 2]).result()

    thread, outcome = in_thread(lambda: both())
    with closing(Control(store, actor="tester")) as control:
        eventually(lambda: reader.runs() and reader.run(1).state_name == "AwaitingInput")
        first = reader.questions(1)[0]
        assert "still awaiting input" in control.resume(1, 10).text
        assert reader.run(1).state_name == "AwaitingInput"
        assert reader.questions(1)[0].key != first.key
        control.resume(1, 20)
    thread.join(10)
    assert sorted(outcome[0]) == [10, 20]


def test_a_key_is_asked_once(store, reader, eventually) -> None:
    """A second pause with the key of an answered one returns that answer at once."""

    @flow
    def ask() -> Any:
        first = pause_flow_run(wait_for_input=int, key="n")
        return first, pause_flow_run(wait_for_input=int, key="n")

    thread, outcome = in_thread(lambda: ask())
    eventually(lambda: reader.runs() and reader.run(1).state_name == "AwaitingInput")
    resume_flow_run(1, 3)
    thread.join(10)
    assert outcome == [(3, 3)]


def test_a_retried_flow_is_not_asked_again(store, reader, eventually, effects) -> None:
    """The answer is part of the journal, like a task's result."""

    @flow(retries=1)
    def ask() -> Any:
        answer = pause_flow_run(wait_for_input=int)
        effects("attempt")
        if effects.count("attempt") == 1:
            raise RuntimeError("once")
        return answer

    thread, outcome = in_thread(lambda: ask())
    eventually(lambda: reader.runs() and reader.run(1).state_name == "AwaitingInput")
    resume_flow_run(1, 3)
    thread.join(10)
    assert outcome == [3]


def test_cancel_while_paused(store, reader, eventually) -> None:
    """The code that waits gets Cancelled; the run ends at once."""

    @flow
    def ask() -> None:
        pause_flow_run(wait_for_input=int)

    thread, outcome = in_thread(lambda: ask())
    eventually(lambda: reader.runs() and reader.run(1).state_name == "AwaitingInput")
    with closing(Control(store, actor="tester")) as control:
        control.cancel(1)
    thread.join(10)
    assert reader.run(1).state_name == "Cancelled"
    assert isinstance(outcome[0], SystemExit)


def test_a_timeout_of_the_flow_counts_running_time_only(store, reader, eventually) -> None:
    """A flow that may take a second may wait longer for its answer."""

    @flow(timeout_seconds=1)
    def ask() -> Any:
        return pause_flow_run(wait_for_input=int)

    thread, outcome = in_thread(lambda: ask())
    eventually(lambda: reader.runs() and reader.run(1).state_name == "AwaitingInput")
    assert not threading.Event().wait(1.5)
    assert reader.run(1).state_name == "AwaitingInput"
    resume_flow_run(1, 3)
    thread.join(10)
    assert outcome == [3]


APPROVAL = """
    @task
    def step(name):
        effect(name)
        return name

    @flow
    def release():
        step("built")
        answer = pause_flow_run(wait_for_input=bool)
        effect(f"answer {answer}")
        step("shipped")

    if __name__ == "__main__":
        release()
"""


def test_a_paused_script_that_is_killed_stays_paused(store, reader, script, effects, eventually) -> None:
    """kill -9 loses nothing: the run still awaits its input and goes on by replay, asked and built once."""
    process = script.start(APPROVAL)
    eventually(lambda: reader.runs() and reader.run(1).state_name == "AwaitingInput")
    process.send_signal(signal.SIGKILL)
    process.wait()
    with closing(Control(store, actor="tester")) as control:
        control.reap()
        run = reader.run(1)
        assert run.state_name == "AwaitingInput"
        assert "awaiting input" in run.cause
        assert reader.leases() == []
        with pytest.raises(InputError, match="value"):
            control.resume(1)
        control.resume(1, True)
    assert reader.run(1).state_name == "Resuming"
    from flowdeck.engine.authoring.loader import find_flow
    from flowdeck.engine.running.run_process.claiming import claim_here
    from flowdeck.engine.running.run_process.entry import execute_run

    code = execute_run(store, 1, claim_here(store, 1), find_flow(str(script.path), "release"))
    assert code == 0
    assert effects.lines == ["built", "answer True", "shipped"]


def test_a_daemon_resumes_a_paused_run_whose_process_was_killed(box) -> None:
    """Also when the daemon itself was restarted meanwhile."""
    box.write("release.py", """
        from flowdeck import pause_flow_run

        @task
        def step(name):
            effect(name)

        @flow
        def release():
            step("built")
            effect(f"answer {pause_flow_run(wait_for_input=int)}")
            step("shipped")
    """)
    daemon = box.daemon()
    run_id = box.submit("release")
    box.wait_state(run_id, "AwaitingInput")
    os.kill(box.reader.leases()[-1].pid, signal.SIGKILL)
    box.wait(lambda: not any(lease.run_id for lease in box.reader.leases()))
    assert box.state(run_id) == "AwaitingInput"
    daemon.stop(signal.SIGKILL)
    box.daemon()
    assert box.state(run_id) == "AwaitingInput"
    box.control.resume(run_id, 4)
    box.wait_state(run_id, "Completed")
    assert box.effects() == ["built", "answer 4", "shipped"]


def test_a_task_that_is_cancelled_while_it_asks_takes_its_question_back(store, reader, eventually) -> None:
    """The run goes on without the answer; a later pause is resumed without input."""

    @task
    def asks() -> Any:
        return pause_flow_run(wait_for_input=int)

    @flow
    def outer() -> str:
        try:
            asks()
        except Cancelled:
            pause_flow_run()
            return "went on"
        return "answered"

    thread, outcome = in_thread(lambda: outer())
    eventually(lambda: reader.runs() and reader.run(1).state_name == "AwaitingInput")
    with closing(Control(store, actor="tester")) as control:
        control.cancel(Node(1, 1))
        eventually(lambda: reader.run(1).state_name == "Paused")
        assert reader.questions(1)[0].json_schema is None
        control.resume(1)
    thread.join(10)
    assert outcome == ["went on"]
