"""The form that answers what a run asks, driven by keys on real stores."""

from __future__ import annotations

import json
from datetime import date
from enum import Enum
from typing import Any, Literal

import pytest
from flowdeck.engine.sdk.run_inputs import Asked
from flowdeck.store.connection import transaction
from flowdeck.store.reader import Reader
from flowdeck.store.tables import inputs
from flowdeck.tui.dialogs.form_fields import Option, Question, read
from pydantic import BaseModel, Field


class Region(Enum):
    NORTH = "north"
    SOUTH = "south"


class Approval(BaseModel):
    """# Approve \x1b[31mdeploy\x1b[0m [b]now[/b]?

    Nothing happens without an answer.
    """

    approve: bool
    stage: Literal["staging", "live"] = "staging"
    region: Region | None = None
    replicas: int = Field(3, ge=1, le=20, description="how many at \x1b]0;owned\x07once")
    day: date | None = None
    reason: str = Field(min_length=3)
    labels: dict[str, str] = Field(default_factory=dict)


def ask(seeder: Any, wanted: Any = Approval, flow: str = "deploy") -> int:
    """A suspended run that awaits input."""
    asked = Asked(wanted)
    run_id = seeder.run(flow, ("PAUSED", "AwaitingInput"), cause="awaiting input: Approve deploy?")
    with transaction(seeder.state) as conn:
        inputs.insert(conn, run_id, "pause/0/0", "request", sender="engine", at_us=1,
                      json_schema=json.dumps(asked.json_schema), description=asked.description)
    return run_id


def answers(folder: Any, run_id: int) -> list[Any]:
    """What the store holds as answers."""
    with Reader(folder) as reader:
        return [json.loads(row.value) for row in reader.inputs(run_id) if row.kind == "response"]


@pytest.mark.anyio
async def test_a_run_is_answered_with_the_keyboard(drive: Any, seeder: Any) -> None:
    """p opens the form; problems are said at their fields; the answer goes to the run, which goes on."""
    run_id = ask(seeder)
    async with drive(seeder.folder, size=(80, 24)) as console:
        await console.shows("awaiting input: Approve deploy?", "p answer")
        await console.press("p")
        await console.shows("awaits input", "Approve deploy [b]now[/b]?", "Nothing happens without", "Approve *",
                            "how many at", "ctrl+s send")
        await console.press("ctrl+s")
        await console.shows("is needed")
        assert answers(seeder.folder, run_id) == []
        await console.press("y", "enter", "right", "down", "s", "down", "end", "backspace", "9", "9", "enter")
        await console.type("tomorrow")
        await console.press("enter")
        await console.type("ok")
        await console.press("ctrl+s")
        await console.shows("must be at most 20")
        await console.press("end", "backspace", "down")
        await console.shows("is not a date")
        await console.press("end", *["backspace"] * 8)
        await console.type("2026-01-31")
        await console.press("down")
        await console.shows("is too short: at least 3 characters")
        await console.type("okay")
        await console.press("enter")
        await console.type('{"a": 1}')
        await console.press("enter")
        await console.shows("a 1 is not text")
        await console.press("end", "backspace", "backspace")
        await console.type('"b"}')
        await console.press("enter")
        await console.shows("queued to continue")
        assert answers(seeder.folder, run_id) == [{
            "approve": True, "stage": "live", "region": "south", "replicas": 9, "day": "2026-01-31", "reason": "okay",
            "labels": {"a": "b"},
        }]
        await console.until(lambda: "Resuming" in console.text())


@pytest.mark.anyio
async def test_escape_loses_nothing(drive: Any, seeder: Any) -> None:
    """The run goes on waiting, and what was typed is there the next time; i opens the form, too."""
    run_id = ask(seeder)
    async with drive(seeder.folder, start=f"run {run_id}") as console:
        await console.shows("AwaitingInput")
        await console.press("i")
        await console.shows("ctrl+s send")
        await console.press("n", "up", "down", "down", "down", "down", "down")
        await console.type("because")
        await console.press("escape")
        await console.until(lambda: "ctrl+s" not in console.text())
        assert answers(seeder.folder, run_id) == []
        await console.press("p")
        await console.shows("because")
        await console.press("ctrl+s")
        await console.shows("queued to continue")
    assert answers(seeder.folder, run_id)[0]["approve"] is False
    assert answers(seeder.folder, run_id)[0]["reason"] == "because"


@pytest.mark.anyio
async def test_a_plain_value(drive: Any, seeder: Any) -> None:
    """A builtin type is one field; enter sends it."""
    run_id = ask(seeder, int)
    async with drive(seeder.folder) as console:
        await console.shows("AwaitingInput")
        await console.press("p")
        await console.shows("Value *")
        await console.type("4x")
        await console.press("enter")
        await console.shows("'4x' is not a whole number")
        await console.press("backspace", "2", "enter")
        await console.shows("queued to continue")
    assert answers(seeder.folder, run_id) == [{"value": 42}]


class Many(BaseModel):
    """A long one."""

    choice: Literal["first of all the choices", "second of all the choices", "third of all the choices", "fourth"]
    one: int = 1
    two: int = 2
    three: int = 3
    four: int = 4
    five: int = 5
    six: int = 6
    seven: int = 7
    last: str


@pytest.mark.anyio
@pytest.mark.parametrize("ascii_only", [False, True])
async def test_a_long_form_scrolls_in_a_small_terminal(drive: Any, seeder: Any, ascii_only: bool) -> None:
    """The field with the keys is always in sight; choices that do not fit are shown one at a time."""
    run_id = ask(seeder, Many)
    async with drive(seeder.folder, size=(70, 18), ascii_only=ascii_only, depth="mono") as console:
        await console.shows("awaiting input")
        await console.press("p")
        await console.shows("Choice *", "not chosen", "0 of 4")
        await console.press("right", "right")
        await console.shows("second of all the choices", "2 of 4")
        for name in ("One", "Two", "Three", "Four", "Five", "Six", "Seven", "Last *"):
            await console.press("down")
            await console.shows(name)
        await console.type("end")
        await console.press("enter")
        await console.shows("queued to continue")
    assert answers(seeder.folder, run_id)[0]["choice"] == "second of all the choices"
    assert answers(seeder.folder, run_id)[0]["seven"] == 7


@pytest.mark.anyio
async def test_refusals_are_said(drive: Any, seeder: Any) -> None:
    """Read-only asks nothing; a run that asks nothing has no form; several are answered one by one."""
    run_id, other = ask(seeder), ask(seeder)
    async with drive(seeder.folder, read_only=True) as console:
        await console.shows("AwaitingInput")
        await console.press("i")
        await console.shows("read-only")
        await console.press("p")
        await console.shows("read-only")
    done = seeder.run("etl", ("COMPLETED", "Completed"))
    async with drive(seeder.folder) as console:
        await console.until(lambda: {run_id, other, done} <= set(console.app.runs_page.view.order))
        console.app.runs_page.view.move_to_key(done)
        await console.press("i")
        await console.shows("asks for nothing")
        console.app.runs_page.view.move_to_key(run_id)
        await console.press("space")
        console.app.runs_page.view.move_to_key(other)
        await console.press("space", "p")
        await console.shows("answered one by one")
    assert answers(seeder.folder, run_id) == []


@pytest.mark.anyio
async def test_somebody_else_was_faster(drive: Any, seeder: Any) -> None:
    """The answer that comes second is refused in words."""
    from contextlib import closing

    from flowdeck.engine.control.control import Control

    run_id = ask(seeder, int)
    async with drive(seeder.folder) as console:
        await console.shows("AwaitingInput")
        await console.press("p")
        await console.shows("Value *")
        with closing(Control(seeder.folder, actor="other")) as control:
            control.resume(run_id, 1)
        await console.press("5", "enter")
        await console.shows("cannot be asked to resume")
    assert answers(seeder.folder, run_id) == [{"value": 1}]


def test_reading_what_was_typed() -> None:
    """Empty fields keep their defaults; an empty text is a text where the default is one."""
    schema = {
        "type": "object", "required": ["a"],
        "properties": {
            "a": {"type": "string"}, "b": {"type": "string", "default": "x"}, "c": {"type": "integer", "default": 4},
            "d": {"anyOf": [{"type": "number"}, {"type": "null"}], "default": None}, "e": {"enum": ["p", "q"]},
        },
    }
    question = Question(1, 1, "", "", schema, 0)
    assert read(question, {"a": "", "b": "", "c": "", "d": " ", "e": None}) == ({"b": ""}, {"a": "is needed"})
    values, problems = read(question, {"a": "é", "b": "y", "c": "-1", "d": "2.5", "e": Option("q", "q")})
    assert (values, problems) == ({"a": "é", "b": "y", "c": -1, "d": 2.5, "e": "q"}, {})
    assert read(question, {"a": "1", "c": "1e400"})[1] == {"c": "'1e400' is not a whole number"}
    assert read(question, {"a": "1", "d": "inf"})[1] == {"d": "'inf' is not a number"}
