"""Prefect 1's clocks: times with bounds and with parameters of their own. A ``Schedule`` combines them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from ..errors import ScheduleError
from .composite import Composite
from .rules import Dates, RRule, zone_of_rule
from .schedule import Cron, Interval, Schedule, next_after
from .time_zones import name_of_zone, plain

__all__ = ["Clock", "ClockEvent", "CronClock", "DatesClock", "IntervalClock", "RRuleClock"]

_FIRST: Final = datetime(2019, 1, 1, tzinfo=UTC)
"""Where an interval without a start counts from, as Prefect 1's."""


class ClockEvent(NamedTuple):
    """One time of a clock, and what its run is given."""

    start_time: datetime
    parameter_defaults: dict[str, Any]
    labels: list[str] | None = None


ClockEvent.__module__ = "flowdeck.schedules"


class Clock:
    """Times between two dates; ``parameter_defaults`` are the parameters of the runs it makes."""

    __module__ = "flowdeck.schedules"

    def __init__(
        self, times: Schedule, start_date: datetime | None, end_date: datetime | None,
        parameter_defaults: dict[str, Any] | None, labels: list[str] | None,
    ) -> None:
        self.times = times
        self.start_date = _with_zone(start_date)
        self.end_date = _with_zone(end_date)
        self.parameter_defaults = dict(parameter_defaults or {})
        self.labels = labels

    def schedule(self, **conditions: Any) -> Schedule:
        """As a schedule of ours: these times, under such conditions."""
        return Composite(
            self.times, start_date=self.start_date, end_date=self.end_date, parameters=self.parameter_defaults,
            **conditions,
        )

    def events(self, after: datetime) -> Iterator[ClockEvent]:
        """The clock's times after this one, without end if it has none."""
        schedule = self.schedule()
        tick = next_after(schedule, _with_zone(after) or after)
        while tick is not None:
            yield ClockEvent(tick, self.parameter_defaults, self.labels)
            tick = next_after(schedule, tick)


class IntervalClock(Clock):
    """Every so often since ``start_date``; at least a day means days of the calendar in the zone of the start."""

    __module__ = "flowdeck.schedules"

    def __init__(
        self, interval: timedelta, start_date: datetime | None = None, end_date: datetime | None = None,
        parameter_defaults: dict[str, Any] | None = None, labels: list[str] | None = None,
    ) -> None:
        if not isinstance(interval, timedelta):
            raise TypeError(f"an interval is a timedelta, not {interval!r}")
        if interval <= timedelta(0):
            raise ScheduleError(f"an interval must be more than 0, not {interval}")
        self.interval = interval
        start = _with_zone(start_date)
        times = Interval(interval, start or _FIRST, name_of_zone(start.tzinfo) if start is not None else "UTC")
        super().__init__(times, start, end_date, parameter_defaults, labels)


class CronClock(Clock):
    """At the wall times of a cron expression, in the zone of ``start_date`` (UTC without one)."""

    __module__ = "flowdeck.schedules"

    def __init__(
        self, cron: str, start_date: datetime | None = None, end_date: datetime | None = None,
        parameter_defaults: dict[str, Any] | None = None, labels: list[str] | None = None, day_or: bool = True,
    ) -> None:
        self.cron = cron
        start = _with_zone(start_date)
        times = Cron(cron, name_of_zone(start.tzinfo) if start is not None else "UTC", day_or)
        super().__init__(times, start, end_date, parameter_defaults, labels)


class DatesClock(Clock):
    """At these moments."""

    __module__ = "flowdeck.schedules"

    def __init__(
        self, dates: Iterable[datetime], parameter_defaults: dict[str, Any] | None = None,
        labels: list[str] | None = None,
    ) -> None:
        self.dates = [moment for moment in (_with_zone(one) for one in dates) if moment is not None]
        zone = name_of_zone(self.dates[0].tzinfo) if self.dates else "UTC"
        super().__init__(Dates(self.dates, zone), None, None, parameter_defaults, labels)


class RRuleClock(Clock):
    """At the times of dateutil's ``rrule`` or ``rruleset``, or of a rule's text."""

    __module__ = "flowdeck.schedules"

    def __init__(
        self, rrule_obj: Any, start_date: datetime | None = None, end_date: datetime | None = None,
        parameter_defaults: dict[str, Any] | None = None, labels: list[str] | None = None,
    ) -> None:
        start = _with_zone(start_date)
        first = start.tzinfo if start is not None else zone_of_rule(rrule_obj)
        zone = name_of_zone(first)
        times = RRule(rrule_obj, zone) if isinstance(rrule_obj, str) else RRule.from_rrule(rrule_obj, zone)
        super().__init__(times, start, end_date, parameter_defaults, labels)


def _with_zone(at: datetime | None) -> datetime | None:
    if at is not None and not isinstance(at, datetime):
        raise TypeError(f"a clock's date is a datetime, not {at!r}")
    if at is None:
        return None
    return plain(at) if at.tzinfo is not None else plain(at).replace(tzinfo=UTC)
