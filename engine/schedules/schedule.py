"""When a flow runs: ``Cron`` and ``Interval``, and the pure function that says which tick comes next.

Dates, recurrence rules, and clocks with filters and bounds are in ``rules`` and ``composite``; ``kinds`` reads them
from what users write and from what is stored.

Promises: no clock, no threads, no store; ``next_after`` depends on its arguments and the time zone database only.
Importing this module is cheap: croniter is imported when the first cron expression is evaluated.

What happens when clocks change (docs/design.md, section 6; held by tests/engine/test_schedules.py):

* **Cron is wall time, and each wall time it names happens once.** A time that the spring change leaves out
  (02:30 where clocks jump from 02:00 to 03:00) fires at the first moment after the gap, and several such times fire
  once together. A time that the autumn change brings twice fires the first time only. So a daily job runs every day
  exactly once, and a job every half hour pauses for the repeated hour. Who wants equal spacing takes ``Interval``.
* **An interval shorter than a day is elapsed time** and takes no notice of clock changes.
* **An interval of a day or more is wall time** in its zone: every day at nine stays at nine.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, cast

from ..errors import ScheduleError
from .options import Catchup, General, Options, Overlap
from .time_zones import has_name, instant_of, name_of_zone, plain, source_of_zone, zone_name, zone_of_name

__all__ = ["Cron", "Interval", "Schedule", "check", "last_before", "next_after"]

_SECONDS_A_DAY: Final = 86_400.0
_SHORTEST_SECONDS: Final = 0.1
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001  (wall time on purpose: its zone is the schedule's)
_MAX_CRON_STEPS: Final = 100_000
_ALIASES: Final = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
_FIELDS: Final = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12),
                  ("day of week", 0, 7), ("second", 0, 59))
_FIELD_SHAPE: Final = re.compile(r"[0-9A-Za-z*,/#?-]+")
_NAMES: Final = frozenset({"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
                           "sun", "mon", "tue", "wed", "thu", "fri", "sat", "l"})


class Cron(Options):
    """At the wall times a cron expression names.

    Five fields, or six with seconds last, or an alias such as ``@daily``. ``day_or=True`` is cron's own rule: when
    both day fields are restricted either of them is enough. ``timezone`` is an IANA name; ``"local"`` is the zone of
    this machine.
    """

    __module__ = "flowdeck"

    __slots__ = ("cron", "day_or", "timezone")
    kind = "cron"

    def __init__(self, cron: str, timezone: str | None = None, day_or: bool = True, *,
                 parameters: dict[str, Any] | None = None, slug: str | None = None, catchup: Catchup = "latest",
                 catchup_window_seconds: float = _SECONDS_A_DAY, overlap: Overlap = "skip",
                 active: bool = True) -> None:
        super().__init__(parameters=parameters, slug=slug, catchup=catchup,
                         catchup_window_seconds=catchup_window_seconds, overlap=overlap, active=active)
        self.cron = _checked_cron(cron)
        self.timezone, self.zone_from = zone_name(timezone), source_of_zone(timezone)
        self.day_or = bool(day_or)

    def times(self) -> dict[str, Any]:
        """What decides the times, as JSON values."""
        return {"kind": "cron", "cron": self.cron, "timezone": self.timezone, "day_or": self.day_or}

    def describe(self) -> str:
        """For people: ``cron 0 6 * * * (UTC)``."""
        return f"cron {self.cron} ({self.timezone})"


class Interval(Options):
    """Every so many seconds, counted from ``anchor_date``.

    Without an anchor, ticks stand on whole multiples since 1970-01-01 00:00 in the zone: an hourly one on the hour, a
    daily one at midnight. So ticks are the same after every restart. Without a ``timezone`` that of an aware anchor
    holds: a daily one stays at its hour when clocks change there.
    """

    __module__ = "flowdeck"

    __slots__ = ("anchor_date", "seconds", "timezone")
    kind = "interval"

    def __init__(self, seconds: float | timedelta, anchor_date: datetime | None = None,
                 timezone: str | None = None, *, parameters: dict[str, Any] | None = None, slug: str | None = None,
                 catchup: Catchup = "latest", catchup_window_seconds: float = _SECONDS_A_DAY,
                 overlap: Overlap = "skip", active: bool = True) -> None:
        super().__init__(parameters=parameters, slug=slug, catchup=catchup,
                         catchup_window_seconds=catchup_window_seconds, overlap=overlap, active=active)
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float, timedelta)):
            raise ScheduleError(f"Interval({seconds!r}): give seconds as a number, or a timedelta")
        self.seconds = seconds.total_seconds() if isinstance(seconds, timedelta) else float(seconds)
        if not _SHORTEST_SECONDS <= self.seconds < math.inf:
            raise ScheduleError(f"Interval({seconds!r}): an interval is at least {_SHORTEST_SECONDS} seconds long")
        anchor = None if anchor_date is None else plain(anchor_date)
        self.zone_from = source_of_zone(timezone)
        if timezone is None and anchor is not None and has_name(anchor.tzinfo):
            timezone, self.zone_from = name_of_zone(anchor.tzinfo), "anchor"
        self.timezone = zone_name(timezone)
        if anchor is not None and anchor.tzinfo is None:
            anchor = anchor.replace(tzinfo=zone_of_name(self.timezone))
        self.anchor_date = anchor

    def times(self) -> dict[str, Any]:
        """What decides the times, as JSON values."""
        anchor = None if self.anchor_date is None else self.anchor_date.astimezone(UTC).isoformat()
        return {"kind": "interval", "seconds": self.seconds, "anchor_date": anchor, "timezone": self.timezone}

    def describe(self) -> str:
        """For people: ``every 5 minutes``, ``every day (Europe/Berlin)``."""
        for size, unit in ((_SECONDS_A_DAY, "day"), (3600.0, "hour"), (60.0, "minute"), (1.0, "second")):
            if self.seconds % size == 0:
                count = int(self.seconds // size)
                zone = f" ({self.timezone})" if size == _SECONDS_A_DAY else ""
                return f"every {unit}{zone}" if count == 1 else f"every {count} {unit}s{zone}"
        return f"every {self.seconds:g} seconds"


Schedule = Cron | Interval | General


def check(schedule: Schedule, at: datetime) -> None:
    """Raise ``ScheduleError`` when the schedule can't be read in full or never fires again after ``at``."""
    if next_after(schedule, at) is None and not (isinstance(schedule, General) and schedule.may_end):
        raise ScheduleError(f"{schedule.describe()} never fires after {at:%Y-%m-%d}: "
                            "check that its day exists in its month")


def next_after(schedule: Schedule, at: datetime) -> datetime | None:
    """The first tick strictly after ``at``, in UTC; None when there is none."""
    at = plain(at)
    if at.tzinfo is None:
        raise ScheduleError(f"next_after needs a time with a zone, not {at.isoformat()}")
    if isinstance(schedule, Cron):
        return _next_cron(schedule, at)
    if isinstance(schedule, General):
        return schedule.following(at)
    if schedule.seconds < _SECONDS_A_DAY:
        return _next_elapsed(schedule, at)
    return _next_wall(schedule, at)


def last_before(schedule: Schedule, at: datetime, since: datetime) -> datetime | None:
    """The last tick in ``(since, at]``; None when there is none. Costs little however many ticks lie between."""
    reach = timedelta(seconds=60)
    while True:
        start = max(since, at - reach)
        tick = next_after(schedule, start)
        if tick is not None and tick <= at:
            break
        if start <= since:
            return None
        reach *= 2
    while (following := next_after(schedule, tick)) is not None and following <= at:
        tick = following
    return tick


def _next_cron(schedule: Cron, at: datetime) -> datetime | None:
    zone = zone_of_name(schedule.timezone)
    start = at.astimezone(zone).replace(tzinfo=None, microsecond=0)
    # Several wall times may map to an instant that is past: the repeated hour, or the walls of a gap.
    for wall in _walls(schedule, start):
        instant = instant_of(wall, zone)
        if instant > at:
            return instant
    return None


_RANGE_OF_ONE: Final = re.compile(r"(?<![\w-])(\w+)-\1(?:/\d+)?(?![\w/-])", re.IGNORECASE)


def _walls(schedule: Cron, wall: datetime) -> Iterator[datetime]:
    from croniter import CroniterBadDateError

    expression = _evaluator(schedule.cron, schedule.day_or)
    for _ in range(_MAX_CRON_STEPS):
        try:
            wall = cast(datetime, expression.get_next(datetime, start_time=wall))
        except CroniterBadDateError:
            return
        yield wall


@lru_cache(maxsize=20_000)
def _evaluator(cron: str, day_or: bool) -> Any:
    from croniter import CroniterError, croniter

    try:
        # A range of one value is that value; croniter takes it for the whole field.
        return croniter(_RANGE_OF_ONE.sub(r"\1", cron), _EPOCH, day_or=day_or)
    except CroniterError as error:
        raise ScheduleError(f"cron {cron!r} cannot be read: {error}; the fields are {_field_names()}") from error


def _next_elapsed(schedule: Interval, at: datetime) -> datetime:
    zone = zone_of_name(schedule.timezone)
    anchor = (schedule.anchor_date or _EPOCH.replace(tzinfo=zone)).astimezone(UTC)
    step_us = round(schedule.seconds * 1e6)
    passed_us = (at - anchor) // timedelta(microseconds=1)
    return anchor + timedelta(microseconds=(passed_us // step_us + 1) * step_us)


def _next_wall(schedule: Interval, at: datetime) -> datetime | None:
    zone = zone_of_name(schedule.timezone)
    anchor = _EPOCH if schedule.anchor_date is None else schedule.anchor_date.astimezone(zone).replace(tzinfo=None)
    step = timedelta(seconds=schedule.seconds)
    # A change of clocks moves a tick by less than two days: begin that much earlier.
    count = (at.astimezone(zone).replace(tzinfo=None) - anchor - timedelta(days=2)) // step
    while (instant := instant_of(anchor + count * step, zone)) <= at:
        count += 1
    return instant


def _checked_cron(cron: str) -> str:
    """Refuse at once what is surely wrong, naming the field; croniter reads the rest when it is evaluated."""
    if not isinstance(cron, str):
        raise ScheduleError(f"Cron({cron!r}): the expression is a text such as '0 6 * * *'")
    text = " ".join(cron.split())
    if text.lower() in _ALIASES:
        return text.lower()
    fields = text.split(" ")
    if text.startswith("@"):
        raise ScheduleError(f"cron {cron!r}: there is no such alias; known are {', '.join(sorted(_ALIASES))}")
    if len(fields) not in (5, 6):
        raise ScheduleError(f"cron {cron!r} has {len(fields)} fields; it needs five ({_field_names()}), "
                            "or six with seconds last")
    for field, (name, low, high) in zip(fields, _FIELDS, strict=False):
        _check_field(cron, field, name, low, high)
    return text


def _check_field(cron: str, field: str, name: str, low: int, high: int) -> None:
    if not _FIELD_SHAPE.fullmatch(field):
        raise ScheduleError(f"cron {cron!r}: the {name} {field!r} has a character cron does not know")
    for word in re.findall(r"[A-Za-z]+", field):
        if word.lower() not in _NAMES:
            raise ScheduleError(f"cron {cron!r}: the {name} {field!r} has {word!r}, which is no name cron knows")
    for part in field.split(","):
        for number in re.findall(r"\d+", part.split("/")[0].split("#")[0]):
            if not low <= int(number) <= high:
                raise ScheduleError(f"cron {cron!r}: the {name} {field!r} is out of range; use {low} to {high}")
        if part.endswith("/0"):
            raise ScheduleError(f"cron {cron!r}: the {name} {field!r} has a step of 0; use 1 or more")


def _field_names() -> str:
    return ", ".join(name for name, _, _ in _FIELDS[:5])
