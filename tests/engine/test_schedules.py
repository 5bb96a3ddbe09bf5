"""Schedules: exact ticks, above all where clocks change.

Values over the New York switches are those Prefect's users know (its own suite), unless the policy says otherwise.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from flowdeck.engine.errors import ScheduleError
from flowdeck.engine.schedules.kinds import from_json, parse, to_json
from flowdeck.engine.schedules.schedule import Cron, Interval, check, last_before, next_after

NEW_YORK = "America/New_York"


def ticks(schedule, start, count):
    """The first ``count`` ticks after ``start``."""
    found = []
    for _ in range(count):
        start = next_after(schedule, start)
        assert start is not None
        found.append(start)
    return found


def local(schedule, times):
    return [f"{time.astimezone(ZoneInfo(schedule.timezone)):%H:%M}" for time in times]


def just_before(year, month, day, hour, minute=0, zone=NEW_YORK):
    return datetime(year, month, day, hour, minute, tzinfo=ZoneInfo(zone)) - timedelta(seconds=1)


def test_ticks_are_strictly_later_and_in_utc():
    """A tick never repeats itself, and comes back in UTC whatever zone was asked in."""
    noon = datetime(2024, 5, 1, 12, tzinfo=ZoneInfo("Asia/Tokyo"))
    for schedule in (Cron("0 12 * * *", "Asia/Tokyo"), Interval(86_400, noon, "Asia/Tokyo")):
        assert next_after(schedule, noon) == datetime(2024, 5, 2, 3, tzinfo=UTC)
        assert next_after(schedule, noon - timedelta(microseconds=1)) == noon.astimezone(UTC)
        assert next_after(schedule, noon).tzinfo is UTC


def test_hourly_cron_over_the_spring_change():
    """23, 0, 1, 3, 4: two o'clock does not exist and three o'clock comes once."""
    schedule = Cron("0 * * * *", NEW_YORK)
    times = ticks(schedule, just_before(2018, 3, 10, 23), 5)
    assert local(schedule, times) == ["23:00", "00:00", "01:00", "03:00", "04:00"]
    assert [time.hour for time in times] == [4, 5, 6, 7, 8]


def test_hourly_cron_over_the_autumn_change():
    """23, 0, 1, 2, 3: the repeated hour counts the first time only."""
    schedule = Cron("0 * * * *", NEW_YORK)
    times = ticks(schedule, just_before(2018, 11, 3, 23), 5)
    assert local(schedule, times) == ["23:00", "00:00", "01:00", "02:00", "03:00"]
    assert [time.hour for time in times] == [3, 4, 5, 7, 8]


@pytest.mark.parametrize(("month", "day", "hours"), [(3, 8, [14, 14, 14, 13, 13]), (11, 1, [13, 13, 13, 14, 14])])
def test_daily_at_nine_stays_at_nine(month, day, hours):
    """A daily cron and a daily interval keep their wall time over both changes."""
    start = datetime(2018, month, day, 9, tzinfo=ZoneInfo(NEW_YORK))
    for schedule in (Cron("0 9 * * *", NEW_YORK), Interval(timedelta(days=1), start, NEW_YORK)):
        times = ticks(schedule, start - timedelta(seconds=1), 5)
        assert local(schedule, times) == ["09:00"] * 5
        assert [time.hour for time in times] == hours


def test_ten_past_midnight_in_montreal():
    """Every day at 04:10 UTC after the change, asked from within the day of the change."""
    times = ticks(Cron("10 0 * * *", "America/Montreal"), datetime(2023, 3, 12, 5, 10, 2, tzinfo=UTC), 5)
    assert [(time.hour, time.minute) for time in times] == [(4, 10)] * 5


def test_a_time_that_does_not_exist_fires_when_the_gap_ends():
    """02:30 on the day clocks jump from 02:00 to 03:00 fires at 03:00, once, and the next day at 02:30."""
    schedule = Cron("30 2 * * *", NEW_YORK)
    assert local(schedule, ticks(schedule, just_before(2024, 3, 9, 2, 30), 3)) == ["02:30", "03:00", "02:30"]


def test_a_time_that_comes_twice_fires_the_first_time():
    """01:30 on the day clocks fall back fires in summer time and not again."""
    schedule = Cron("30 1 * * *", NEW_YORK)
    times = ticks(schedule, just_before(2024, 11, 3, 1, 30), 2)
    assert times == [datetime(2024, 11, 3, 5, 30, tzinfo=UTC), datetime(2024, 11, 4, 6, 30, tzinfo=UTC)]


def test_half_hourly_cron_gives_one_tick_at_the_end_of_the_gap():
    """The walls of the gap fall together with the time after it; none is fired twice."""
    schedule = Cron("*/30 * * * *", NEW_YORK)
    assert local(schedule, ticks(schedule, just_before(2024, 3, 10, 1, 30), 4)) == ["01:30", "03:00", "03:30", "04:00"]


def test_hourly_interval_takes_no_notice_of_clocks():
    """Every UTC hour, over both changes."""
    for month, day in ((3, 10), (11, 3)):
        schedule = Interval(3600, timezone=NEW_YORK)
        times = ticks(schedule, just_before(2024, month, day, 0), 6)
        assert [later - earlier for earlier, later in pairwise(times)] == [timedelta(hours=1)] * 5


def test_two_days_over_the_spring_change_are_forty_seven_hours():
    """An interval of days is wall time."""
    start = datetime(2024, 3, 9, 9, tzinfo=ZoneInfo(NEW_YORK))
    assert next_after(Interval(timedelta(days=2), start, NEW_YORK), start) - start == timedelta(hours=47)


def test_an_interval_without_anchor_stands_on_whole_multiples():
    """The same ticks after every restart."""
    assert next_after(Interval(600), datetime(2024, 5, 1, 12, 3, tzinfo=UTC)) == datetime(2024, 5, 1, 12, 10,
                                                                                            tzinfo=UTC)
    assert next_after(Interval(86_400, timezone="Asia/Kolkata"), datetime(2024, 5, 1, tzinfo=UTC)) == datetime(
        2024, 5, 1, 18, 30, tzinfo=UTC)


def test_an_anchor_in_the_future_counts_backwards_too():
    """The anchor fixes the phase; it is no start date."""
    anchor = datetime(2030, 1, 1, 0, 0, 7, tzinfo=UTC)
    assert next_after(Interval(60, anchor), datetime(2024, 1, 1, tzinfo=UTC)) == datetime(2024, 1, 1, 0, 0, 7,
                                                                                          tzinfo=UTC)


ZONES = ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns",
         "Africa/Casablanca", "Pacific/Apia", "America/Sao_Paulo", "Asia/Beirut", "Antarctica/Troll"]
CRONS = {"30 1 * * *": {(1, 30)}, "30 2 * * *": {(2, 30)}, "0 0 * * *": {(0, 0)},
         "*/15 * * * *": {(hour, minute) for hour in range(24) for minute in (0, 15, 30, 45)}}


def expected_by_hand(zone, walls, start, end):
    """The policy said another way: walk real minutes, and fire for each wall time not seen before."""
    fired = []
    seen = set()
    previous = start.astimezone(zone).replace(tzinfo=None)
    moment = start
    while moment < end:
        moment += timedelta(minutes=1)
        wall = moment.astimezone(zone).replace(tzinfo=None)
        passed = []
        step = previous + timedelta(minutes=1)
        while step <= wall:
            passed.append(step)
            step += timedelta(minutes=1)
        new = [step for step in passed if (step.hour, step.minute) in walls and step not in seen]
        if new:
            fired.append(moment)
        seen.update(new)
        previous = max(previous, wall)
    return fired


def changes(zone, year_from, year_to):
    """Days on which the zone's offset changes."""
    day = datetime(year_from, 1, 1, tzinfo=UTC)
    while day.year < year_to:
        following = day + timedelta(days=1)
        if day.astimezone(zone).utcoffset() != following.astimezone(zone).utcoffset():
            yield day
        day = following


@pytest.mark.parametrize("name", ZONES)
def test_policy_over_every_change_of_many_zones(name):
    """Half-hour offsets, half-hour changes, changes at midnight and a day left out: all by the one rule."""
    zone = ZoneInfo(name)
    first, last = (2011, 2012) if name == "Pacific/Apia" else (2018, 2019)
    for day in changes(zone, first, last):
        start = day - timedelta(days=1, seconds=day.second)
        end = day + timedelta(days=2)
        for cron, walls in CRONS.items():
            schedule = Cron(cron, name)
            found = []
            at = start
            while (at := next_after(schedule, at)) <= end:
                found.append(at)
            assert found == expected_by_hand(zone, walls, start, end), (name, cron, day)


def test_day_fields_are_joined_by_or_unless_asked():
    """Cron's own rule for two restricted day fields, and its opposite by day_or=False."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    assert next_after(Cron("0 0 29 2 1"), start) == datetime(2024, 2, 5, tzinfo=UTC)
    assert next_after(Cron("0 0 29 2 4", day_or=False), start) == datetime(2024, 2, 29, tzinfo=UTC)


def test_seconds_are_a_sixth_field_and_aliases_work():
    """Six fields with seconds last; @daily and friends."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    assert next_after(Cron("* * * * * */10"), start) == start + timedelta(seconds=10)
    assert next_after(Cron("@daily"), start) == start + timedelta(days=1)


@pytest.mark.parametrize(("make", "words"), [
    (lambda: Cron("61 * * * *"), ["61 * * * *", "minute", "0 to 59"]),
    (lambda: Cron("0 25 * * *"), ["hour", "0 to 23"]),
    (lambda: Cron("0 6 * *"), ["4 fields", "needs five"]),
    (lambda: Cron("@dayly"), ["@dayly", "@daily"]),
    (lambda: Cron("0 6 * * mun"), ["day of week", "mun"]),
    (lambda: Cron("R 6 * * *"), ["minute", "'R'"]),
    (lambda: Cron("*/0 * * * *"), ["step of 0"]),
    (lambda: Cron("0 6 * * *", "Europe/Berln"), ["Europe/Berln", "Europe/Berlin"]),
    (lambda: Cron("0 6 * * *", catchup="last"), ["catchup", "'latest'"]),
    (lambda: Interval(0), ["at least"]),
    (lambda: Interval(60, overlap="no"), ["overlap", "'cancel_running'"]),
    (lambda: parse({"cron": "x"}), ["cron text"]),
    (lambda: parse(True), ["cron text"]),
    (lambda: check(Cron("0 0 30 2 *"), datetime(2024, 1, 1, tzinfo=UTC)), ["0 0 30 2 *", "never fires"]),
    (lambda: next_after(Cron("0 0 1--3 * *"), datetime(2024, 1, 1, tzinfo=UTC)), ["0 0 1--3 * *", "day of month"]),
    (lambda: next_after(Interval(60), datetime(2024, 1, 1)), ["zone"]),  # noqa: DTZ001
])
def test_mistakes_name_the_text_the_field_and_the_remedy(make, words):
    """A person can mend the schedule from the message alone."""
    with pytest.raises(ScheduleError) as caught:
        make()
    for word in words:
        assert word in str(caught.value)


def test_parse_takes_what_the_decorator_takes():
    """Text, numbers, timedeltas, schedules, and lists of these."""
    both = [Cron("0 6 * * *"), Interval(90)]
    assert parse(None) == []
    assert parse("0 6 * * *") == both[:1]
    assert parse(90) == parse(timedelta(seconds=90)) == both[1:]
    assert parse(["0 6 * * *", 90]) == parse(both) == both


@pytest.mark.parametrize("schedule", [
    Cron("0 6 * * *", "Europe/Berlin", day_or=False), Interval(90), Interval(timedelta(days=1), datetime(
        2024, 1, 1, 9, tzinfo=ZoneInfo("Asia/Tokyo")), "Asia/Tokyo")])
def test_json_round_trip_keeps_every_tick(schedule):
    """What the store keeps gives the same times back, and equal times give equal text."""
    again = from_json(to_json(schedule), catchup="all", parameters={"day": 1})
    start = datetime(2024, 5, 5, tzinfo=UTC)
    assert ticks(again, start, 5) == ticks(schedule, start, 5)
    assert to_json(again) == to_json(schedule)
    assert (again.catchup, again.parameters) == ("all", {"day": 1})


def test_last_before_finds_the_latest_missed_tick():
    """The same answer as walking every tick, with and without one in the window."""
    now = datetime(2024, 5, 5, 12, 34, 56, tzinfo=UTC)
    for schedule in (Cron("*/7 * * * *"), Interval(11), Cron("0 0 1 * *")):
        assert last_before(schedule, now, now - timedelta(days=6)) == walk(schedule, now - timedelta(days=6), now)
    assert last_before(Cron("0 0 1 * *"), now, now - timedelta(days=2)) is None
    on_the_tick = datetime(2024, 5, 5, 12, 35, tzinfo=UTC)
    assert last_before(Cron("*/5 * * * *"), on_the_tick, now) == on_the_tick


def walk(schedule, start, end):
    found = None
    while (start := next_after(schedule, start)) is not None and start <= end:
        found = start
    return found


def test_descriptions_are_for_people():
    """What the console and the command line show."""
    assert Cron("0 6 * * *", "Europe/Berlin").describe() == "cron 0 6 * * * (Europe/Berlin)"
    assert [Interval(seconds).describe() for seconds in (1, 90, 300, 86_400, 0.5)] == [
        "every second", "every 90 seconds", "every 5 minutes", "every day (UTC)", "every 0.5 seconds"]


def test_local_zone_follows_the_machine(monkeypatch):
    """``timezone="local"`` is resolved to a name once, when the schedule is written."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    assert Cron("0 6 * * *", "local").timezone == "Europe/Berlin"


def test_importing_schedules_is_cheap():
    """No croniter and no zone database before a schedule is evaluated."""
    code = ("import sys; from flowdeck.engine.schedules.schedule import Cron; Cron('0 6 * * *');"
            "print([name for name in ('croniter', 'zoneinfo', 'asyncio', 'dataclasses') if name in sys.modules])")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
