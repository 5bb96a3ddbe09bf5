"""``Variable``: values that outlive runs, read as they are now; every change is an event."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from flowdeck import Variable, flow, task
from flowdeck.engine.control.control import Control
from flowdeck.engine.errors import NotAllowed, UsageError
from flowdeck.store.reader import Reader


def test_set_get_and_unset(store: Path, reader: Reader) -> None:
    """Any JSON value; a default for what is not there; overwrite only when asked."""
    assert Variable.get("missing") is None
    assert Variable.get("missing", default=3) == 3
    made = Variable.set("settings", {"a": [1, None, "ü"]}, tags=["x"])
    assert (made.name, made.value, made.tags) == ("settings", {"a": [1, None, "ü"]}, ["x"])
    assert Variable.get("settings") == {"a": [1, None, "ü"]}
    with pytest.raises(NotAllowed, match="overwrite=True"):
        Variable.set("settings", 1)
    Variable.set("settings", 1, overwrite=True)
    assert Variable.get("settings") == 1
    assert Variable.unset("settings")
    assert not Variable.unset("settings")
    said = [(event.kind, event.message) for event in reader.events()]
    assert said == [("variable", f"variable settings {word}") for word in ("made", "changed", "removed")]


def test_names_and_values_that_cannot_be_are_refused(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In words; a secret never becomes a variable."""
    for name in ("", "a b", "-x", "x" * 300, 5):
        with pytest.raises(UsageError, match="name is made of"):
            Variable.set(name, 1)  # type: ignore[arg-type]
    for value in (object(), float("nan"), {1, 2}, "\ud800"):
        with pytest.raises(UsageError, match="no JSON form"):
            Variable.set("x", value)
    from flowdeck import Secret

    monkeypatch.setenv("FLOWDECK_SECRET_V", "value-of-v-2468")
    with pytest.raises(NotAllowed, match="holds a secret"):
        Variable.set("x", ["see", Secret("v").get()])


def test_in_runs_they_are_read_as_they_are_now(store: Path, reader: Reader) -> None:
    """In flows and tasks, sync and async; a retry sees what has changed; the event names the run."""
    attempts: list[Any] = []

    @task
    def bump() -> int:
        value: int = Variable.get("count", 0) + 1
        Variable.set("count", value, overwrite=True)
        return value

    @flow(retries=1)
    def main() -> int:
        attempts.append(Variable.get("count", 0))
        value = bump()
        if len(attempts) == 1:
            raise ValueError
        return value

    @flow
    async def main_async() -> Any:
        await Variable.aset("other", "x")
        return await Variable.aget("other"), await Variable.aunset("other")

    assert main() == 1
    assert attempts == [0, 1]
    assert asyncio.run(main_async()) == ("x", True)
    events = [event for event in reader.events() if event.kind == "variable"]
    assert [(event.run_id, event.actor) for event in events] == [(1, "run #1"), (2, "run #2"), (2, "run #2")]


def test_read_only_refuses(store: Path) -> None:
    """As everything that changes the store."""
    control = Control(store, actor="x", read_only=True)
    with pytest.raises(NotAllowed):
        control.set_variable("x", 1)
    control.close()


def test_awaited_and_not(store: Path) -> None:
    """In async code both do: Prefect's ``await Variable.get(…)`` and the plain call."""

    @flow
    async def main() -> tuple[Any, ...]:
        await Variable.set("x", [1])  # type: ignore[misc]
        plain, awaited = Variable.get("x"), await Variable.get("x")
        several = [await Variable.get(name, default=0) for name in ("x", "y")]
        told = Variable.get("x", _sync=True), await Variable.get("x", _sync=False)  # type: ignore[call-arg,misc]
        assert told == ([1], [1])
        return plain, awaited, several, (await Variable.get("x"))[0], await Variable.unset("x")  # type: ignore[misc]

    assert asyncio.run(main()) == ([1], [1], [[1], 0], 1, True)
