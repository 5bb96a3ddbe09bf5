"""Prefect 1's schedules: clocks, filters, adjustments, bounds, and exact times where clocks change."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from time import process_time
from zoneinfo import ZoneInfo

import pytest
from dateutil import rrule
from flowdeck import Cron, Dates, Interval, RRule
from flowdeck.engine.errors import ScheduleError
from flowdeck.engine.schedules.kinds import from_json, parse, to_json
from flowdeck.engine.schedules.schedule import check, last_before, next_after
from flowdeck.schedules import (
    CronClock,
    CronSchedule,
    DatesClock,
    IntervalClock,
    IntervalSchedule,
    OneTimeSchedule,
    RRuleClock,
    RRuleSchedule,
    Schedule,
    adjustments,
    filters,
)
from flowdeck.schedules.adjustments import next_weekday
from flowdeck.schedules.filters import is_weekday

NEW_YORK = ZoneInfo("America/New_York")
START = datetime(2024, 5, 1, tzinfo=UTC)  # a Wednesday


def walls(schedule, count, after=START, zone=UTC):
    return [f"{tick.astimezone(zone):%m-%d %H:%M}" for tick in schedule.next(count, after=after)]


def ticks(schedule, start, count):
    found = []
    for _ in range(count):
        start = next_after(schedule, start)
        assert start is not None
        found.append(start)
    return found


def test_interval_schedule():
    """Ticks count from the start date, which is itself one; none comes before it or after the end."""
    schedule = IntervalSchedule(START, timedelta(hours=1), START + timedelta(hours=3))
    assert walls(schedule, 10, START - timedelta(days=9)) == [f"05-01 0{hour}:00" for hour in range(4)]
    assert walls(schedule, 2) == ["05-01 01:00", "05-01 02:00"]
    assert schedule.next(5, after=START + timedelta(hours=3)) == []
    assert (schedule.start_date, schedule.end_date) == (START, START + timedelta(hours=3))


def test_an_interval_without_a_start_stands_on_the_hour():
    """Its ticks are the same at every start of the program."""
    assert walls(IntervalSchedule(interval=timedelta(hours=6)), 3, START + timedelta(minutes=7)) == [
        "05-01 06:00", "05-01 12:00", "05-01 18:00",
    ]  # fmt: skip


def test_a_naive_start_is_utc():
    """As in Prefect 1."""
    assert walls(IntervalSchedule(datetime(2024, 5, 1), timedelta(days=1)), 1) == ["05-02 00:00"]  # noqa: DTZ001


@pytest.mark.parametrize("interval", [timedelta(0), timedelta(seconds=-1)])
def test_an_interval_must_be_positive(interval):
    """A ValueError, as in Prefect 1."""
    with pytest.raises(ValueError, match="more than 0"):
        IntervalClock(interval)


def test_what_is_no_interval_is_refused():
    """A TypeError, as in Prefect 1; so is a missing one."""
    with pytest.raises(TypeError, match="timedelta"):
        IntervalClock(60)
    with pytest.raises(TypeError, match="interval"):
        IntervalSchedule(START)


def test_cron_schedule_in_the_zone_of_its_start():
    """Nine o'clock in New York, on both sides of the change."""
    schedule = CronSchedule("0 9 * * *", start_date=datetime(2024, 3, 9, tzinfo=NEW_YORK))
    assert [tick.astimezone(UTC).hour for tick in schedule.next(3, after=START - timedelta(days=90))] == [14, 13, 13]


def test_hourly_clocks_where_clocks_fall_back():
    """An interval fires every UTC hour, a cron each wall hour the first time: Prefect 1's stated difference."""
    start = datetime(2018, 11, 3, 23, tzinfo=NEW_YORK)
    interval = IntervalSchedule(start, timedelta(hours=1))
    assert [tick.astimezone(UTC).hour for tick in interval.next(5, after=start - timedelta(1))] == [3, 4, 5, 6, 7]
    cron = CronSchedule("0 * * * *", start)
    assert [tick.astimezone(UTC).hour for tick in cron.next(5, after=start - timedelta(1))] == [3, 4, 5, 7, 8]


def test_a_daily_interval_keeps_its_wall_time():
    """Nine stays nine over the spring change; the day is 23 hours long."""
    start = datetime(2018, 3, 10, 9, tzinfo=NEW_YORK)
    found = IntervalSchedule(start, timedelta(days=1)).next(4, after=start - timedelta(1))
    assert [tick.hour for tick in found] == [9] * 4
    spaces = [later.astimezone(UTC) - earlier.astimezone(UTC) for earlier, later in pairwise(found)]
    assert spaces == [timedelta(hours=23), timedelta(hours=24), timedelta(hours=24)]


def test_dates_clock():
    """The given moments in order, and nothing after them."""
    moments = [START + timedelta(days=days) for days in (9, 2, 5)]
    schedule = Schedule([DatesClock(moments)])
    assert walls(schedule, 9) == ["05-03 00:00", "05-06 00:00", "05-10 00:00"]
    assert OneTimeSchedule(START).next(3, after=START - timedelta(1)) == [START]


def test_rrule_clocks():
    """dateutil's rules and rule sets, with their exceptions."""
    weekly = rrule.rrule(rrule.WEEKLY, dtstart=datetime(2024, 5, 1, 9), byweekday=(rrule.MO, rrule.WE))  # noqa: DTZ001
    assert walls(RRuleSchedule(weekly), 3) == ["05-01 09:00", "05-06 09:00", "05-08 09:00"]
    without = rrule.rruleset()
    without.rrule(weekly)
    without.exdate(datetime(2024, 5, 6, 9))  # noqa: DTZ001
    without.rdate(datetime(2024, 5, 7, 12))  # noqa: DTZ001
    assert walls(Schedule([RRuleClock(without)]), 3) == ["05-01 09:00", "05-07 12:00", "05-08 09:00"]


def test_all_filters_must_pass():
    """Weekdays at nine, out of every hour."""
    schedule = Schedule(
        [IntervalClock(timedelta(hours=1), START)], filters=[filters.is_weekday, filters.at_time(time(9))]
    )
    assert walls(schedule, 5) == ["05-01 09:00", "05-02 09:00", "05-03 09:00", "05-06 09:00", "05-07 09:00"]


def test_one_of_the_or_filters_must_pass():
    """Nine and five."""
    schedule = Schedule(
        [IntervalClock(timedelta(hours=1), START)],
        or_filters=[filters.at_time(time(17)), filters.between_times(time(9), time(9, 30))],
    )
    assert walls(schedule, 3) == ["05-01 09:00", "05-01 17:00", "05-02 09:00"]


def test_none_of_the_not_filters_may_pass():
    """Not over the weekend and not in the night, which passes midnight."""
    schedule = Schedule(
        [IntervalClock(timedelta(hours=6), START)],
        not_filters=[filters.is_weekend, filters.between_times(time(22), time(5))],
    )
    assert walls(schedule, 7) == [
        "05-01 06:00", "05-01 12:00", "05-01 18:00", "05-02 06:00", "05-02 12:00", "05-02 18:00", "05-03 06:00",
    ]  # fmt: skip
    assert walls(schedule, 1, datetime(2024, 5, 3, 18, tzinfo=UTC)) == ["05-06 06:00"]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (filters.is_month_end, ["05-31 00:00", "06-30 00:00", "07-31 00:00"]),
        (filters.is_month_start, ["06-01 00:00", "07-01 00:00", "08-01 00:00"]),
        (filters.is_weekend, ["05-04 00:00", "05-05 00:00", "05-11 00:00"]),
        (filters.is_day_of_week(0), ["05-05 00:00", "05-12 00:00", "05-19 00:00"]),
        (filters.is_day_of_week(6), ["05-04 00:00", "05-11 00:00", "05-18 00:00"]),
        (filters.on_date(2, 29), ["02-29 00:00", "02-29 00:00", "02-29 00:00"]),
        (filters.between_dates(12, 31, 1, 1), ["12-31 00:00", "01-01 00:00", "12-31 00:00"]),
        (filters.between_dates(6, 1, 6, 2), ["06-01 00:00", "06-02 00:00", "06-01 00:00"]),
        (filters.on_datetime(datetime(2024, 7, 4, tzinfo=UTC)), ["07-04 00:00"]),
        (filters.between_datetimes(datetime(2024, 7, 4, tzinfo=UTC), datetime(2024, 7, 5, tzinfo=UTC)),
         ["07-04 00:00", "07-05 00:00"]),
        (lambda at: at.day == 13, ["05-13 00:00", "06-13 00:00", "07-13 00:00"]),
    ],
)
def test_every_filter(chosen, expected):
    """Each filter on a daily clock; also a function of the user's own."""
    assert walls(Schedule([IntervalClock(timedelta(days=1), START)], filters=[chosen]), 3) == expected


def test_filters_see_the_wall_time_of_the_clock():
    """Nine o'clock in New York is 13:00 UTC in summer and 14:00 in winter."""
    clock = IntervalClock(timedelta(hours=1), datetime(2024, 3, 9, tzinfo=NEW_YORK))
    schedule = Schedule([clock], filters=[filters.at_time(time(9))])
    assert [tick.astimezone(UTC).hour for tick in schedule.next(2, after=clock.start_date)] == [14, 13]


def test_adjustments():
    """``next_weekday`` moves a weekend's times to Monday; ``add`` moves all."""
    month_ends = Schedule(
        [CronClock("0 9 * * *", START)], filters=[filters.is_month_end], adjustments=[adjustments.next_weekday]
    )
    assert walls(month_ends, 3) == ["05-31 09:00", "07-01 09:00", "07-31 09:00"]
    later = Schedule([CronClock("0 9 * * *", START)], adjustments=[adjustments.add(timedelta(days=1, hours=2))])
    assert walls(later, 2) == ["05-02 11:00", "05-03 11:00"]
    assert walls(Schedule([CronClock("0 9 * * *", START)], adjustments=[adjustments.add(-timedelta(hours=1))]), 1) == [
        "05-01 08:00"
    ]


def test_several_clocks_are_merged():
    """In order, a common time once; each event has the parameters of its own clock."""
    schedule = Schedule([
        IntervalClock(timedelta(hours=2), START, parameter_defaults={"size": "small"}),
        CronClock("0 */3 * * *", parameter_defaults={"size": "large"}),
    ])  # fmt: skip
    events = schedule.next(4, after=START, return_events=True)
    assert [(event.start_time.hour, event.parameter_defaults["size"]) for event in events] == [
        (2, "small"), (3, "large"), (4, "small"), (6, "small"),
    ]  # fmt: skip


def test_a_schedule_that_matches_nothing_ends():
    """No filter can hang the search."""
    schedule = Schedule(
        [IntervalClock(timedelta(minutes=1), START)], filters=[filters.is_weekend, filters.is_weekday]
    )
    assert schedule.next(1, after=START) == []
    with pytest.raises(ScheduleError, match="never fires"):
        check(parse(schedule)[0], START)


def test_a_schedule_that_has_ended_is_no_mistake():
    """What has an end may be past it."""
    check(parse(IntervalSchedule(START, timedelta(1), START + timedelta(2)))[0], START + timedelta(9))
    check(Dates([START]), START + timedelta(1))


SCHEDULES = [
    RRule("FREQ=WEEKLY;BYDAY=MO,WE;BYHOUR=9;BYMINUTE=0;BYSECOND=0", "Europe/Berlin"),
    RRule("DTSTART:20240101T080000\nRRULE:FREQ=DAILY;COUNT=200\nEXDATE:20240502T080000"),
    Dates([START, date(2024, 6, 1), "2024-07-01T10:00"], "Asia/Tokyo"),
    *parse(Schedule(
        [CronClock("*/7 * * * *", datetime(2024, 1, 1, tzinfo=NEW_YORK), datetime(2024, 12, 1, tzinfo=UTC))],
        filters=[filters.is_weekday, filters.between_times(time(9), time(17))],
        or_filters=[filters.is_month_end, filters.on_date(5, 2), filters.between_dates(11, 1, 2, 1)],
        not_filters=[filters.at_time(time(12)), filters.is_day_of_week(5),
                     filters.between_datetimes(datetime(2024, 8, 1, tzinfo=UTC), datetime(2024, 9, 1, tzinfo=UTC))],
        adjustments=[adjustments.add(timedelta(hours=1, seconds=0.5)), adjustments.next_weekday],
    )),
]  # fmt: skip


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.kind)
def test_the_stored_form_says_the_same_times(schedule):
    """What the daemon reads back has the ticks of what the flow file said."""
    again = from_json(to_json(schedule))
    assert again == schedule
    assert to_json(again) == to_json(schedule)
    assert again.describe() == schedule.describe()
    after = START
    for _ in range(10):
        tick = next_after(schedule, after)
        assert next_after(again, after) == tick
        if tick is None:
            break
        assert tick > after
        assert last_before(schedule, tick, after) == tick
        after = tick


def test_a_filter_of_the_users_own_is_stored_by_its_name():
    """The daemon leaves no time out for it; an adjustment of theirs, or both together, is refused in words."""
    own = Schedule([CronClock("0 9 * * *")], filters=[is_weekday, sorted], not_filters=[sorted])
    (schedule,) = parse(own)
    assert schedule.has_own_filters
    back = from_json(to_json(schedule))
    assert back.filters[0] is is_weekday
    assert "when sorted() says so" in back.describe()
    friday = datetime(2026, 11, 20, 9, tzinfo=UTC)
    assert next_after(back, friday) == datetime(2026, 11, 23, 9, tzinfo=UTC)
    (schedule,) = parse(Schedule([CronClock("0 9 * * *")], adjustments=[sorted]))
    with pytest.raises(ScheduleError, match="adjustment sorted"):
        to_json(schedule)
    (schedule,) = parse(Schedule([CronClock("0 9 * * *")], filters=[sorted], adjustments=[next_weekday]))
    with pytest.raises(ScheduleError, match="before they are moved"):
        to_json(schedule)


def test_modules_have_prefect_1s_names():
    """``flowdeck.schedules.clocks``, ``.filters`` and ``.adjustments`` are imported as modules or from."""
    import flowdeck.schedules.clocks
    from flowdeck.schedules import adjustments, clocks, filters
    from flowdeck.schedules.adjustments import next_weekday as found
    from flowdeck.schedules.filters import is_weekday as same

    assert flowdeck.schedules.clocks.IntervalClock is clocks.IntervalClock
    assert (found, same) == (adjustments.next_weekday, filters.is_weekday)



def test_rrule_of_prefect_3():
    """Wall times of the zone; without a DTSTART counted from 2020-01-01; EXDATE leaves out."""
    nine = RRule("FREQ=DAILY;BYHOUR=9;BYMINUTE=0;BYSECOND=0", "America/New_York")
    assert [tick.hour for tick in ticks(nine, datetime(2024, 3, 8, 15, tzinfo=UTC), 3)] == [14, 13, 13]
    weekly = RRule("FREQ=WEEKLY")
    assert ticks(weekly, START, 1) == [datetime(2024, 5, 1, tzinfo=UTC) + timedelta(weeks=1)]  # 2020-01-01 a Wednesday
    text = "DTSTART:20240501T090000Z\nRRULE:FREQ=DAILY\nEXDATE:20240502T090000Z"
    assert [tick.day for tick in ticks(RRule(text), START, 2)] == [1, 3]


def test_an_rrule_where_clocks_jump():
    """A time that does not exist fires at the end of the gap, one that comes twice the first time."""
    early = RRule("FREQ=DAILY;BYHOUR=2;BYMINUTE=30;BYSECOND=0", "America/New_York")
    found = ticks(early, datetime(2024, 3, 9, 12, tzinfo=NEW_YORK), 2)
    assert [f"{tick.astimezone(NEW_YORK):%d %H:%M}" for tick in found] == ["10 03:00", "11 02:30"]
    twice = RRule("FREQ=DAILY;BYHOUR=1;BYMINUTE=30;BYSECOND=0", "America/New_York")
    found = ticks(twice, datetime(2024, 11, 2, 12, tzinfo=NEW_YORK), 2)
    assert found == [datetime(2024, 11, 3, 5, 30, tzinfo=UTC), datetime(2024, 11, 4, 6, 30, tzinfo=UTC)]


def test_an_rrule_long_begun_costs_little():
    """Every second since 2020 is not counted through at each look; the phase of its interval is kept."""
    rule = RRule("DTSTART:20200101T000000\nRRULE:FREQ=SECONDLY;INTERVAL=7")
    begun = process_time()
    first, second = ticks(rule, START, 2)
    assert process_time() - begun < 1
    assert second - first == timedelta(seconds=7)
    assert (first - datetime(2020, 1, 1, tzinfo=UTC)) % timedelta(seconds=7) == timedelta(0)


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "is a text"), ("FREQ=DAILY;COUNT=3", "COUNT needs a DTSTART"), ("F" * 6501, "at most 6500"),
     ("FREQ=NOW", "cannot be read"), ("RRULE:FREQ=DAILY;BYDAY=XX", "cannot be read")],
)
def test_a_rule_that_cannot_be_read(text, said):
    """The error says what is wrong with it."""
    with pytest.raises(ScheduleError, match=said):
        next_after(RRule(text), START)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Schedule(IntervalClock(timedelta(1))), "list of clocks"),
        (lambda: Schedule(["0 9 * * *"]), "is no clock"),
        (lambda: filters.is_day_of_week(7), "0 .Sunday. to 6"),
        (lambda: filters.on_date(2, 30), "no date"),
        (lambda: filters.at_time("9:00"), "datetime.time"),
        (lambda: adjustments.add(5), "timedelta"),
        (lambda: CronClock("0 25 * * *"), "out of range"),
        (lambda: Dates([]), "at least one"),
        (lambda: Dates("2024-01-01"), "list of datetimes"),
        (lambda: Dates(["soon"]), "ISO 8601"),
        (lambda: parse(Schedule([CronClock("@daily")], filters=["x"])), "no filter"),
    ],
)
def test_what_is_refused(make, said):
    """Each mistake is told where it is written, in words."""
    with pytest.raises((ScheduleError, TypeError), match=said):
        make()


def test_a_flows_schedule_may_be_any_of_these():
    """A rule's text is known by its beginning; a Schedule's clocks become a schedule each, with their parameters."""
    kinds = [type(one) for one in parse(["FREQ=DAILY", "0 6 * * *", 60, Dates([START])])]
    assert kinds == [RRule, Cron, Interval, Dates]
    both = parse(Schedule([CronClock("@daily", parameter_defaults={"x": 1}), CronClock("@hourly")]))
    assert [schedule.parameters for schedule in both] == [{"x": 1}, {}]
