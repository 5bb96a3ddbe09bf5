"""``RunInput``, ``send_input``, ``receive_input``: typed input of runs, durable and in order."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from datetime import date
from enum import Enum
from textwrap import dedent
from typing import Any, Literal

import pytest
from flowdeck import InputError, RunInput, flow, pause_flow_run, receive_input, resume_flow_run, send_input, task
from flowdeck.engine.errors import NotAllowed, NotFound, UsageError
from pydantic import BaseModel, Field


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


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    street: str
    number: int = Field(ge=1)


class Order(RunInput):
    """What is ordered?"""

    item: str = Field(min_length=2)
    count: int = Field(1, ge=1, le=99)
    colour: Colour = Colour.RED
    size: Literal["S", "M"] = "M"
    when: date | None = None
    to: Address | None = None
    notes: dict[str, str] = Field(default_factory=dict)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "item: is needed"),
        ({"item": "x"}, "item: is too short"),
        ({"item": 7}, "item: 7 is not text"),
        ({"item": "pen", "count": 100}, "count: must be at most 99"),
        ({"item": "pen", "count": 1.5}, "count: 1.5 is not a whole number"),
        ({"item": "pen", "count": True}, "count: true is not a whole number"),
        ({"item": "pen", "colour": "green"}, "colour: \"green\" is not one of red, blue"),
        ({"item": "pen", "size": "XL"}, "size: \"XL\" is not one of S, M"),
        ({"item": "pen", "when": "tomorrow"}, "when: \"tomorrow\" is not a date"),
        ({"item": "pen", "to": {"street": "a", "number": 0}}, "to.number: must be at least 1"),
        ({"item": "pen", "to": {"number": 1}}, "to.street: is needed"),
        ({"item": "pen", "notes": {"a": 1}}, "notes.a: 1 is not text"),
        ({"item": "pen", "itme": 1}, "itme: is not asked for"),
        ([1], "is not a JSON object"),
    ],
)
def test_wrong_input_names_the_field(store, reader, eventually, given, words) -> None:
    """Refused in words, and nothing has changed; right input goes through."""

    @flow
    def ask() -> Any:
        return pause_flow_run(wait_for_input=Order)

    thread, outcome = in_thread(lambda: ask())
    eventually(lambda: reader.runs() and reader.run(1).state_name == "AwaitingInput")
    with pytest.raises(InputError) as refused:
        resume_flow_run(1, given)
    assert words in str(refused.value)
    assert reader.run(1).state_name == "AwaitingInput"
    resume_flow_run(1, {"item": "pen", "colour": "blue", "when": "2026-01-31", "to": {"street": "a", "number": 2}})
    thread.join(10)
    assert outcome[0].colour is Colour.BLUE
    assert outcome[0].when == date(2026, 1, 31)
    assert outcome[0].to == Address(street="a", number=2)


def test_initial_data(store, reader, eventually) -> None:
    """A description for the person who is asked, and values to begin with; unknown fields are refused."""

    @flow
    def ask() -> Any:
        return pause_flow_run(wait_for_input=Order.with_initial_data(description="# Order **again**?", item="ink"))

    thread, outcome = in_thread(lambda: ask())
    eventually(lambda: reader.runs() and reader.run(1).state_name == "AwaitingInput")
    assert reader.run(1).cause == "awaiting input: Order **again**?"
    resume_flow_run(1)
    thread.join(10)
    assert (outcome[0].item, outcome[0].count) == ("ink", 1)
    assert isinstance(outcome[0], Order)
    with pytest.raises(UsageError, match="no field 'itme'"):
        Order.with_initial_data(itme="ink")


def test_what_cannot_be_asked_for(store) -> None:
    """A type without a JSON schema is refused before the run is held."""

    @flow
    def ask() -> None:
        pause_flow_run(wait_for_input=threading.Lock)

    with pytest.raises(UsageError, match="asked for"):
        ask()


class Greeting(RunInput):
    name: str


def test_messages_of_each_type_come_in_order(store, reader, eventually) -> None:
    """Plain types and models; another type's messages are left for who wants them."""

    @flow
    def talk() -> list[Any]:
        got: list[Any] = []
        for number in receive_input(int, timeout=30):
            got.append(number)
            if len(got) == 2:
                break
        got += list(receive_input(str, timeout=0.1))
        for greeting in receive_input(Greeting, timeout=30):
            got.append(f"{greeting.name} from {greeting.metadata.sender}")
            break
        return got

    thread, outcome = in_thread(lambda: talk())
    eventually(lambda: reader.runs() and reader.run(1).state_type == "RUNNING")
    send_input("first", 1)
    send_input(1, 1)
    send_input(Greeting(name="Ada"), 1, sender="tester")
    send_input(2, 1)
    thread.join(20)
    assert outcome == [[1, 2, "first", "Ada from tester"]]


def test_nobody_writes(store, reader) -> None:
    """Iterating ends after the timeout, or raises when that was asked for."""

    @flow
    def alone() -> Any:
        assert list(receive_input(int, timeout=0.05)) == []
        with pytest.raises(TimeoutError, match="no message"):
            next(receive_input(int, timeout=0.05, raise_timeout_error=True))
        return "done"

    assert alone() == "done"


def test_keys_and_prefixes(store, reader, eventually) -> None:
    """A prefix of one's own keeps messages apart; keys that are left out are not taken."""

    @flow
    def talk() -> Any:
        own = next(receive_input(int, timeout=30, key_prefix="mine", with_metadata=True))
        other = list(receive_input(int, timeout=0.1, exclude_keys={own.metadata.key}, key_prefix="mine"))
        return own.value, other

    thread, outcome = in_thread(lambda: talk())
    eventually(lambda: reader.runs() and reader.run(1).state_type == "RUNNING")
    send_input(1, "1")
    send_input(2, "#1", key_prefix="mine")
    thread.join(20)
    assert outcome == [(2, [])]


def test_two_runs_talk(store, reader, eventually) -> None:
    """``respond`` goes back to the run that sent, in async code too."""

    @flow
    async def echo() -> str:
        async for message in receive_input(str, timeout=30, with_metadata=True):
            await message.respond(f"{message.value}!")
            return "echoed"
        return "nothing"

    @flow
    def asks() -> str:
        send_input("hello", 1)
        return next(receive_input(str, timeout=30))

    one, first = in_thread(lambda: asyncio.run(echo()))
    eventually(lambda: reader.runs() and reader.run(1).state_type == "RUNNING")
    two, second = in_thread(lambda: asks())
    one.join(20)
    two.join(20)
    assert (first, second) == (["echoed"], ["hello!"])


def test_messages_to_nobody(store) -> None:
    """A run that is not there, or has ended, is said in words."""

    @flow
    def quick() -> None:
        return None

    quick()
    with pytest.raises(NotAllowed, match="nobody would read"):
        send_input(1, 1)
    with pytest.raises(NotFound, match="no run #9"):
        send_input(1, 9)
    with pytest.raises(UsageError, match="flow_run_id"):
        receive_input(int)


def test_a_message_that_does_not_fit(store, reader, eventually) -> None:
    """Its receiver hears of it and may go on."""

    @flow
    def talk() -> Any:
        inbox = receive_input(Greeting, timeout=30)
        with pytest.raises(InputError, match="name"):
            next(inbox)
        return next(inbox).name

    thread, outcome = in_thread(lambda: talk())
    eventually(lambda: reader.runs() and reader.run(1).state_type == "RUNNING")
    send_input({"nome": "x"}, 1, key_prefix="greeting-auto")
    send_input(Greeting(name="Ada"), 1)
    thread.join(20)
    assert outcome == ["Ada"]


def test_tasks_share_an_inbox_without_taking_twice(store, reader, eventually) -> None:
    """Each message is taken by one of them."""

    @task
    def takes(_number: int) -> list[int]:
        return list(receive_input(int, timeout=0.5))

    @flow
    def many() -> list[list[int]]:
        return takes.map([1, 2, 3]).result()

    thread, outcome = in_thread(lambda: many())
    eventually(lambda: reader.runs() and reader.run(1).state_type == "RUNNING")
    for number in range(20):
        send_input(number, 1)
    thread.join(20)
    assert sorted(number for taken in outcome[0] for number in taken) == list(range(20))
    assert all(taken == sorted(taken) for taken in outcome[0])


def test_replay_sees_the_same_messages_in_the_same_order(box) -> None:
    """The run is killed again and again while it reads: none is lost, none comes twice, waits in vain stay in vain."""
    box.write("f.py", dedent("""
        from flowdeck import receive_input

        @task
        def keep(number):
            effect(f"kept {number}")

        @flow(crash_retries=20)
        def reads():
            silence = list(receive_input(str, timeout=0.2))
            got = []
            for number in receive_input(int, timeout=30):
                got.append(number)
                keep(number)
                if number == 11:
                    break
            return f"{silence} {got}"
    """))
    box.daemon()
    run_id = box.submit("reads")
    box.wait(lambda: box.reader.run(run_id).state_type == "RUNNING")
    for number in range(12):
        box.control.send(run_id, "int-auto", {"value": number})
        box.wait_effects(f"kept {number}")
        if number in (2, 5, 8):
            box.wait(lambda wanted=number + 1: [
                task.state_name for task in box.reader.tasks(run_id) if task.name.startswith("keep")
            ].count("Completed") == wanted)  # fmt: skip
            box.control.send(run_id, "str-auto", {"value": "late"})
            os.kill(next(lease.pid for lease in box.reader.leases() if lease.run_id), signal.SIGKILL)
    row = box.wait_state(run_id, "Completed")
    assert row.result_preview.strip("'\"") == f"[] {list(range(12))}"
    assert box.effects() == [f"kept {number}" for number in range(12)]
