"""Prefect 1's schedules: clocks, filters and adjustments, for ``flow.run()`` and for the daemon alike.

``Schedule(clocks=[…], filters=[…])`` and its short forms. To the engine each clock is a schedule of its own with the
clock's parameters; ``next`` is for people and for ``flow.run()``.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from ..schedules import adjustments as adjustments
from ..schedules import clocks as clocks
from ..schedules import filters as filters
from ..schedules.clocks import Clock, ClockEvent, CronClock, DatesClock, IntervalClock, RRuleClock
from ..schedules.schedule import Schedule as EngineSchedule
from ..schedules.schedule import next_after
from ..schedules.time_zones import plain
from ..system.clock import now_us

__all__ = [
    "Clock", "ClockEvent", "CronClock", "CronSchedule", "DatesClock", "IntervalClock", "IntervalSchedule",
    "OneTimeSchedule", "RRuleClock", "RRuleSchedule", "Schedule", "adjustments", "clocks", "filters",
]

Test = Callable[[datetime], bool]


class Schedule:
    """The times of one or more clocks that pass the filters, moved by the adjustments.

    All of ``filters``, at least one of ``or_filters`` and none of ``not_filters`` must be true.
    """

    __module__ = "flowdeck.schedules"

    def __init__(
        self, clocks: Iterable[Clock], filters: Iterable[Test] | None = None, or_filters: Iterable[Test] | None = None,
        not_filters: Iterable[Test] | None = None,
        adjustments: Iterable[Callable[[datetime], datetime]] | None = None,
    ) -> None:
        if isinstance(clocks, Clock) or not isinstance(clocks, Iterable):
            raise TypeError(f"clocks is a list of clocks, not {clocks!r}")
        self.clocks = list(clocks)
        for clock in self.clocks:
            if not isinstance(clock, Clock):
                raise TypeError(f"{clock!r} is no clock: use IntervalClock, CronClock, DatesClock or RRuleClock")
        self.filters, self.or_filters = list(filters or ()), list(or_filters or ())
        self.not_filters, self.adjustments = list(not_filters or ()), list(adjustments or ())

    @property
    def start_date(self) -> datetime | None:
        """The earliest start of a clock."""
        return min((clock.start_date for clock in self.clocks if clock.start_date is not None), default=None)

    @property
    def end_date(self) -> datetime | None:
        """The latest end of a clock."""
        return max((clock.end_date for clock in self.clocks if clock.end_date is not None), default=None)

    def flowdeck_schedules(self) -> list[EngineSchedule]:
        """A schedule of the engine's for each clock."""
        return [
            clock.schedule(
                filters=self.filters, or_filters=self.or_filters, not_filters=self.not_filters,
                adjustments=self.adjustments,
            )
            for clock in self.clocks
        ]  # fmt: skip

    def next(self, n: int, after: datetime | None = None, return_events: bool = False) -> list[Any]:
        """The next ``n`` times (or fewer, when it ends), after now or ``after``; with ``return_events`` their events.

        A time that several clocks have counts once, for the first of them.
        """
        events = list(islice(self.events(after), n))
        return events if return_events else [event.start_time for event in events]

    def events(self, after: datetime | None = None) -> Iterator[ClockEvent]:
        """Its times in order, with what their runs are given."""
        since = datetime.fromtimestamp(now_us() / 1e6, UTC) if after is None else plain(after)
        since = since.replace(tzinfo=UTC) if since.tzinfo is None else since
        streams = [
            _ticks(schedule, clock, number, since)
            for number, (schedule, clock) in enumerate(zip(self.flowdeck_schedules(), self.clocks, strict=True))
        ]
        last: datetime | None = None
        for tick, _, event in heapq.merge(*streams, key=lambda entry: entry[:2]):
            if tick != last:
                yield event
            last = tick


def _ticks(
    schedule: EngineSchedule, clock: Clock, number: int, after: datetime
) -> Iterator[tuple[datetime, int, ClockEvent]]:
    zone = clock.start_date.tzinfo if clock.start_date is not None else UTC
    tick = next_after(schedule, after)
    while tick is not None:
        yield tick, number, ClockEvent(tick.astimezone(zone), clock.parameter_defaults, clock.labels)
        tick = next_after(schedule, tick)


def IntervalSchedule(  # noqa: N802 - Prefect's name
    start_date: datetime | None = None, interval: timedelta | None = None, end_date: datetime | None = None
) -> Schedule:
    """Every so often since ``start_date``."""
    if interval is None:
        raise TypeError("IntervalSchedule needs its interval: IntervalSchedule(interval=timedelta(hours=1))")
    return Schedule([IntervalClock(interval, start_date, end_date)])


def CronSchedule(  # noqa: N802 - Prefect's name
    cron: str, start_date: datetime | None = None, end_date: datetime | None = None, day_or: bool = True
) -> Schedule:
    """At the wall times of a cron expression, in the zone of ``start_date``."""
    return Schedule([CronClock(cron, start_date, end_date, day_or=day_or)])


def RRuleSchedule(  # noqa: N802 - Prefect's name
    rrule_obj: Any, start_date: datetime | None = None, end_date: datetime | None = None
) -> Schedule:
    """At the times of a recurrence rule."""
    return Schedule([RRuleClock(rrule_obj, start_date, end_date)])


def OneTimeSchedule(start_date: datetime) -> Schedule:  # noqa: N802 - Prefect's name
    """Once."""
    return Schedule([DatesClock([start_date])])
