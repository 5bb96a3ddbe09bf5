"""``emit_event``: users' own events in the one log, durable, with the run and task that said them."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flowdeck import Event, emit_event, flow, task
from flowdeck.engine.errors import UsageError
from flowdeck.store.reader import Reader

ABOUT = {"prefect.resource.id": "orders.42"}


def said(reader: Reader) -> list[Any]:
    """The users' events."""
    return [event for event in reader.events() if event.kind == "user"]


def test_within_a_run(store: Path, reader: Reader) -> None:
    """There when the call returns, tied to the flow or the task; numbers and payload come back."""
    counts = []

    @task
    def ships() -> Event:
        made = emit_event("order.shipped", ABOUT, payload={"boxes": 2}, related=[{"id": "customer.7"}])
        counts.append(len(said(reader)))
        return made

    @flow
    def main() -> Event:
        emit_event("order.seen", {"id": "orders.42"})
        return ships()

    made = main()
    assert counts == [2]
    first, second = said(reader)
    assert (first.run_id, first.task_seq, first.message, first.actor) == (1, None, "order.seen: orders.42", "run #1")
    assert (second.run_id, second.task_seq, second.message, second.actor) == (
        1, 1, "order.shipped: orders.42", "run #1/1",
    )  # fmt: skip
    kept = json.loads(second.data)
    assert (kept["event"], kept["resource"], kept["payload"], kept["related"], kept["follows"]) == (
        "order.shipped", ABOUT, {"boxes": 2}, [{"id": "customer.7"}], None,
    )  # fmt: skip
    assert (made.number, str(made.id)) == (second.id, kept["id"])
    assert [event.id for event in reader.events(run_id=1) if event.kind == "user"] == [first.id, second.id]


def test_outside_of_runs(store: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whoever runs the script; what was given is kept, secrets are masked."""
    monkeypatch.setenv("FLOWDECK_SECRET_EV", "value-of-ev-1234")
    when = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    own = UUID(int=5)
    made = emit_event("x", ABOUT, occurred=when, id=own, payload={"token": "value-of-ev-1234"})
    (row,) = said(reader)
    assert (row.run_id, row.task_seq) == (None, None)
    assert "@" in row.actor
    kept = json.loads(row.data)
    assert (kept["occurred"], kept["id"], kept["payload"]) == (when.isoformat(), str(own), {"token": "********"})
    assert (made.occurred, made.id) == (when, own)


def test_what_is_no_event_is_refused(store: Path, reader: Reader) -> None:
    """With what it should be."""
    for resource in ({}, {"name": "x"}, {"id": 5}, "x", None):
        with pytest.raises(UsageError, match="its resource is a dict of texts"):
            emit_event("x", resource)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="has a name"):
        emit_event("", ABOUT)
    with pytest.raises(UsageError, match="time zone"):
        emit_event("x", ABOUT, occurred=datetime(2026, 1, 1))  # noqa: DTZ001 - the mistake
    with pytest.raises(UsageError, match="no JSON form"):
        emit_event("x", ABOUT, payload={"x": object()})
    with pytest.raises(UsageError, match="1 MiB"):
        emit_event("x", ABOUT, payload={"x": "y" * (1 << 20)})
    assert said(reader) == []


def test_what_follows_a_state(store: Path, reader: Reader) -> None:
    """A hook's state knows its event and time, of flows and tasks; an event can follow it, within five minutes."""
    states: dict[str, Any] = {}

    def follow(subject: Any, run: Any, state: Any) -> None:
        states[subject.name] = state
        before = Event("state", ABOUT, id=state.id, occurred=state.timestamp)
        emit_event(f"{subject.name}.handled", ABOUT, follows=before)
        emit_event("late", ABOUT, follows=before, occurred=state.timestamp + timedelta(minutes=6))

    @task(on_failure=[follow])
    def fails() -> None:
        raise ValueError("oops")

    @flow(on_failure=[follow])
    def main() -> None:
        fails()

    assert main(return_state=True).is_failed()
    rows = {event.id: event for event in reader.events()}
    followed = {json.loads(event.data)["event"]: json.loads(event.data)["follows"] for event in said(reader)}
    assert followed["late"] is None
    for name, seq in (("fails", 1), ("main", None)):
        state, row = states[name], rows[followed[f"{name}.handled"]]
        assert (row.kind, row.to_type, row.run_id, row.task_seq) == ("state", "FAILED", 1, seq)
        assert state.id == row.id
        assert state.timestamp == datetime.fromtimestamp(row.at_us / 1e6, UTC)
        assert pickle.loads(pickle.dumps(state)).id == row.id
    assert main(return_state=True).id is None
