"""When schedules fire, held by what shares no code with ours: a corpus, cronsim, datetimes of other libraries."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pendulum
import pytest
from cronsim import CronSim
from dateutil.rrule import DAILY, rrule
from flowdeck import Cron, Dates, Interval, RRule
from flowdeck.engine.schedules.kinds import from_json
from flowdeck.engine.schedules.kinds import to_json as stored
from flowdeck.engine.schedules.schedule import next_after
from flowdeck.schedules import DatesClock, IntervalSchedule, Schedule

START = datetime(2026, 1, 1, tzinfo=UTC)
GOLDEN = {
    "*/15 * * * *": ["01-01 00:15", "01-01 00:30", "01-01 00:45", "01-01 01:00"],
    "30 1 * * *": ["01-01 01:30", "01-02 01:30", "01-03 01:30", "01-04 01:30"],
    "0 0 1,15 * *": ["01-15 00:00", "02-01 00:00", "02-15 00:00", "03-01 00:00"],
    "0 9 * * 1-5": ["01-01 09:00", "01-02 09:00", "01-05 09:00", "01-06 09:00"],
    "0 0 29 2 *": ["2028-02-29 00:00", "2032-02-29 00:00", "2036-02-29 00:00", "2040-02-29 00:00"],
    "59/1 * * * *": ["01-01 00:59", "01-01 01:59", "01-01 02:59", "01-01 03:59"],
    "0 0 13 * 5": ["01-02 00:00", "01-09 00:00", "01-13 00:00", "01-16 00:00"],
    "0 0 L * *": ["01-31 00:00", "02-28 00:00", "03-31 00:00", "04-30 00:00"],
    "@hourly": ["01-01 01:00", "01-01 02:00", "01-01 03:00", "01-01 04:00"],
    "0 22 * * 0,6": ["01-03 22:00", "01-04 22:00", "01-10 22:00", "01-11 22:00"],
    "5 4 * * sun": ["01-04 04:05", "01-11 04:05", "01-18 04:05", "01-25 04:05"],
    "0 12 14-14 * *": ["01-14 12:00", "02-14 12:00", "03-14 12:00", "04-14 12:00"],
    "0 12 * * mon-mon": ["01-05 12:00", "01-12 12:00", "01-19 12:00", "01-26 12:00"],
    "0 12 1 jan,jul *": ["01-01 12:00", "07-01 12:00", "2027-01-01 12:00", "2027-07-01 12:00"],
}


def fires(schedule: Any, count: int, after: datetime = START) -> list[datetime]:
    """The next ``count`` ticks."""
    found = []
    at: datetime | None = after
    while len(found) < count and (at := next_after(schedule, at)) is not None:
        found.append(at)
    return found


@pytest.mark.parametrize("expression", GOLDEN)
def test_expressions_fire_as_they_always_did(expression: str) -> None:
    """Written down once: a library that reads an expression in another way is noticed before a schedule moves."""
    wanted = [text if text.startswith("20") else f"2026-{text}" for text in GOLDEN[expression]]
    assert [f"{at:%Y-%m-%d %H:%M}" for at in fires(Cron(expression), 4)] == wanted


def test_any_plain_expression_fires_as_an_independent_reader_says() -> None:
    """A thousand expressions of every field, lists, ranges and steps: the same ticks as cronsim's."""
    random_ = random.Random(20260101)

    def field(low: int, high: int) -> str:
        kind = random_.randrange(6)
        one, other = sorted((random_.randint(low, high), random_.randint(low, high)))
        return {0: "*", 1: str(one), 2: f"{one}-{other}", 3: f"{one},{other}", 4: f"*/{random_.randint(1, 12)}"}.get(
            kind, "*"
        )

    for _ in range(1000):
        expression = " ".join((field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6)))
        if expression.split()[2] != "*" and expression.split()[4].startswith("*/"):
            continue  # whether a step over all days restricts the weekday is read in two ways
        if expression.split()[4] != "*" and expression.split()[2].startswith("*/"):
            continue
        wanted = CronSim(expression, START.replace(tzinfo=None))
        assert [at.replace(tzinfo=None) for at in fires(Cron(expression), 5)] == [next(wanted) for _ in range(5)], (
            expression
        )


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_the_zone_of_an_aware_moment_is_kept(zone: str) -> None:
    """A daily schedule whose anchor or start names a zone stays at its hour when clocks change there."""
    own = ZoneInfo(zone)
    anchor = datetime(2026, 1, 1, 9, tzinfo=own)
    daily = Interval(timedelta(days=1), anchor_date=anchor)
    ruled = RRule.from_rrule(rrule(DAILY, dtstart=anchor))
    for schedule in (daily, ruled, from_json(stored(daily)), from_json(stored(ruled))):
        assert schedule.timezone == zone
        assert {at.astimezone(own).hour for at in fires(schedule, 365)} == {9}
    assert Interval(timedelta(days=1), anchor_date=anchor, timezone="UTC").timezone == "UTC"


def test_datetimes_of_other_libraries_are_taken() -> None:
    """Ported files are full of pendulum's, whose arithmetic is not the standard library's."""
    begun = pendulum.datetime(2026, 1, 1, 9, tz="Europe/Berlin")
    interval = Interval(3600, anchor_date=begun)
    assert fires(interval, 2) == [START + timedelta(hours=1), START + timedelta(hours=2)]
    assert interval.timezone == "Europe/Berlin"
    assert next_after(Cron("0 * * * *"), pendulum.datetime(2026, 1, 1)) == START + timedelta(hours=1)
    assert fires(Dates([begun, begun.add(years=1)]), 2) == [
        datetime(2026, 1, 1, 8, tzinfo=UTC), datetime(2027, 1, 1, 8, tzinfo=UTC),
    ]  # fmt: skip
    assert len(IntervalSchedule(start_date=begun, interval=timedelta(hours=1)).next(2, after=pendulum.now())) == 2
    clock = DatesClock([begun, begun.add(days=1)])
    assert len(Schedule(clocks=[clock]).next(2, after=begun.subtract(days=1))) == 2
    for schedule in Schedule(clocks=[clock]).flowdeck_schedules():
        assert fires(from_json(stored(schedule)), 2) == fires(schedule, 2)
