"""The wall clock is set, or was wrong while no daemon ran: the daemon's rounds on a clock that is told.

Waits last as long as they were to, and schedules go on from now, whichever way the clock goes and whoever saw it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from flowdeck.engine.daemon import rounds
from flowdeck.engine.daemon.clock_changes import NOT_SET_BEFORE
from flowdeck.engine.schedules.schedule import Cron, Interval
from flowdeck.engine.schedules.ticks import from_us, to_us
from flowdeck.store.connection import transaction
from flowdeck.store.reader import Reader
from flowdeck.store.tables import inputs, runs, waits

from .test_simulated_time import (  # noqa: F401  (fixtures are found by their names)
    DAY_US,
    HOUR_US,
    MONDAY,
    SimulatedClock,
    World,
    dues,
    folder,
    rare_looks,
    ticks,
)

NOON = MONDAY + timedelta(hours=12)
MANY = {
    "often": [Interval(300)], "hourly": [Cron("0 * * * *")], "daily": [Cron("0 6 * * *")],
    "by-day": [Interval(86_400, MONDAY + timedelta(hours=6))],
}  # fmt: skip
SHIFTS = [-HOUR_US, DAY_US, -400 * DAY_US, 400 * DAY_US]


@pytest.fixture
def some_looks(monkeypatch):
    """Looks at nothing in particular twice a minute."""
    monkeypatch.setattr(rounds, "ORPHAN_SECONDS", 30.0)


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(days=1), timedelta(days=366)])
def test_a_clock_that_was_ahead_while_no_daemon_ran(folder, monkeypatch, rare_looks, ahead):  # noqa: F811
    """Set right between two daemons, no schedule waits for the clock to catch up: each fires at its next tick."""
    first = World(folder, monkeypatch, clock=SimulatedClock(NOON + ahead))
    first.deploy(MANY)
    first.live_until(NOON + ahead + timedelta(minutes=80))
    first.die()
    made = sum(map(len, dues(folder).values()))
    world = World(folder, monkeypatch, clock=SimulatedClock(NOON))
    world.rounds.schedule()
    world.live_until(NOON + timedelta(days=1))

    found = [(run.flow_name, from_us(run.scheduled_at_us)) for run in _runs(folder)][made:]
    for name, [schedule] in MANY.items():
        expected = ticks(schedule, NOON, NOON + timedelta(days=1))
        if name == "hourly" and ahead < timedelta(days=1):
            expected.remove(NOON + timedelta(hours=2))  # this tick of the calendar had its run
        assert [at for flow, at in found if flow == name] == expected, name
    told = [line for line in world.said if "the clock was ahead by" in line]
    assert len(told) == 1
    assert "go on from now" in told[0]
    with Reader(folder) as reader:
        assert any(event.message == told[0] for event in reader.events(limit=10_000))


@pytest.mark.parametrize("shift_us", SHIFTS)
def test_waits_while_a_daemon_lives(folder, monkeypatch, some_looks, shift_us):  # noqa: F811
    """A durable sleep, a wait for an answer and a retry last as long as they were to; a moment that was named stays."""
    world = World(folder, monkeypatch, plan=lambda *_: ("complete", 1), clock=SimulatedClock(NOON))
    named_us = to_us(NOON) + 800 * DAY_US
    until_us = to_us(NOON) + 3 * HOUR_US
    asleep, until_named, asked, retried = (_insert(world) for _ in range(4))
    _wait(world, asleep, "sleep", until_us)
    _wait(world, until_named, "sleep", named_us, moment=True)
    _wait(world, asked, "pause", until_us)
    _wait(world, retried, "await_retry", until_us)
    with transaction(world.state):
        inputs.insert(world.state, asked, "ask", "request", sender="engine", at_us=to_us(NOON), until_us=until_us)
    world.live_until(NOON + timedelta(hours=1))
    due = _insert(world)
    _wait(world, due, "await_retry", world.clock.us - 1)  # its time has come, and it has not begun
    world.clock.offset_us += shift_us
    world.live_until(from_us(world.clock.us) + timedelta(hours=2, minutes=5))

    begun = {run_id: at_us - to_us(NOON) - shift_us for at_us, run_id, _, _ in world.machine.starts}
    if shift_us < 800 * DAY_US:
        assert until_named not in begun
    assert abs(begun.pop(due) - HOUR_US) < 60_000_000
    assert {run_id: round(us / HOUR_US, 2) for run_id, us in begun.items()} == {asleep: 3, retried: 3, asked: 3}
    with Reader(folder) as reader:
        assert reader.run(until_named).wake_at_us == named_us
        told = [event.message for event in reader.events(run_id=asleep) if event.kind == "daemon"]
        assert len(told) == 1
        assert "it waits as long as it was to" in told[0]
        [line] = [line for line in world.said if line.startswith("the clock was set")]
        assert ("forward" if shift_us > 0 else "back") in line


@pytest.mark.parametrize("ahead_us", [HOUR_US, 400 * DAY_US])
def test_waits_written_under_a_clock_that_was_ahead(folder, monkeypatch, some_looks, ahead_us):  # noqa: F811
    """Set right while no daemon runs, a wait lasts no longer than it was given; one whose time had come begins."""
    first = World(folder, monkeypatch, clock=SimulatedClock(from_us(to_us(NOON) + ahead_us)))
    at_us = first.clock.us
    asleep, asked, due, named = (_insert(first) for _ in range(4))
    _wait(first, asleep, "sleep", at_us + 600_000_000)
    _wait(first, asked, "pause", at_us + 600_000_000)
    _wait(first, due, "await_retry", at_us - 1)
    _wait(first, named, "sleep", at_us + 600_000_001, moment=True)
    with transaction(first.state):
        inputs.insert(first.state, asked, "ask", "request", sender="engine", at_us=at_us, until_us=at_us + 600_000_000)
    first.die()
    world = World(folder, monkeypatch, clock=SimulatedClock(NOON))
    world.live_until(NOON + timedelta(minutes=11))

    begun = {run_id: at_us - to_us(NOON) for at_us, run_id, _, _ in world.machine.starts}
    assert begun.pop(due) < 60_000_000
    assert set(begun) == {asleep, asked}
    assert all(500_000_000 < us < 661_000_000 for us in begun.values())


def test_a_clock_that_was_not_set_at_boot(folder, monkeypatch, rare_looks):  # noqa: F811
    """Without a battery the clock begins in 1970: that is said, no tick of then makes a run, and once it is set
    schedules go on, the new ones from that moment."""
    first = World(folder, monkeypatch, clock=SimulatedClock(NOON))
    first.deploy({"daily": [Cron("0 6 * * *")]})
    first.live_until(NOON + timedelta(hours=1))
    first.die()
    world = World(folder, monkeypatch, clock=SimulatedClock(datetime(1970, 1, 1, 5, 59, tzinfo=UTC)))
    assert world.clock.us < NOT_SET_BEFORE
    assert any("1970-01-01" in line and "not set yet" in line for line in world.said)
    world.deploy({"daily": [Cron("0 6 * * *")], "new": [Interval(600)]})
    world.live_until(datetime(1970, 1, 1, 8, tzinfo=UTC))
    assert dues(folder) == {}
    morning = MONDAY + timedelta(days=1, hours=5, minutes=55)
    world.clock.offset_us += to_us(morning) - world.clock.us
    world.live_until(MONDAY + timedelta(days=1, hours=7))
    assert dues(folder) == {
        "daily": [MONDAY + timedelta(days=1, hours=6)],
        "new": ticks(Interval(600), morning, MONDAY + timedelta(days=1, hours=7)),
    }


@pytest.mark.parametrize("step_us", [-1_500_000, 1_500_000])
def test_a_clock_that_is_kept_right_is_no_change(folder, monkeypatch, rare_looks, step_us):  # noqa: F811
    """Steps of a second, as of a clock that is kept by the network, are no news and make no tick twice."""
    world = World(folder, monkeypatch, clock=SimulatedClock(NOON))
    world.deploy({"often": [Interval(300)], "hourly": [Cron("0 * * * *")]})
    for hour in range(1, 4):
        world.live_until(NOON + timedelta(hours=hour, milliseconds=200))
        world.clock.offset_us += step_us
    world.live_until(NOON + timedelta(hours=4))
    found = dues(folder)
    assert found["often"] == ticks(Interval(300), NOON, NOON + timedelta(hours=4))
    assert found["hourly"] == ticks(Cron("0 * * * *"), NOON, NOON + timedelta(hours=4))
    assert not [line for line in world.said if line.startswith("the ")]


def _runs(folder):  # noqa: F811
    with Reader(folder) as reader:
        return sorted(reader.runs(limit=100_000), key=lambda run: run.id)


def _insert(world):
    """A run of the daemon's that has begun."""
    with transaction(world.state):
        run_id = runs.insert(world.state, flow_name="waits", name="", state=("RUNNING", "Running"), actor="test",
                             at_us=world.clock.us, parameters="{}", tags="[]", entrypoint="/flows.py:waits",
                             scheduled_at_us=world.clock.us)
        world.state.execute("UPDATE flow_run SET started_at_us = ? WHERE id = ?", (world.clock.us, run_id))
    return run_id


def _wait(world, run_id, event, wake_at_us, *, moment=False):
    """Its process leaves it waiting."""
    world.machine._move(run_id, 1, event, wake_at_us=wake_at_us)
    if event == "sleep":
        with transaction(world.state):
            inputs.insert(world.state, run_id, "sleep/0/0", "wait", sender="engine", at_us=world.clock.us,
                          until_us=wake_at_us, description=waits.MOMENT if moment else None)
