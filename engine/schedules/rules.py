"""Schedules that say their times one by one: ``RRule``, a recurrence rule, and ``Dates``.

Pure as ``schedule`` is. Wall times follow the same policy: one that a change of clocks leaves out fires at the end of
the gap, one that comes twice fires the first time. dateutil reads the recurrence rules and is imported when the first
is evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from ..errors import ScheduleError
from .options import Catchup, General, Overlap
from .time_zones import has_name, instant_of, name_of_zone, plain, source_of_zone, zone_name, zone_of_name

__all__ = ["Dates", "RRule"]

_A_DAY: Final = 86_400.0
_LONGEST_RULE: Final = 6500
"""Prefect's bound on the text of a rule."""
_ANCHOR: Final = datetime(2020, 1, 1)  # noqa: DTZ001 - wall time: where a rule without DTSTART counts from, as Prefect's
_MOST_WALLS: Final = 100_000
_INSTANT: Final = re.compile(r"\b(\d{8}T\d{6})Z")
_ZONE_IN_RULE: Final = re.compile(r";TZID=([^:;]+)")


class RRule(General):
    """At the times of an iCalendar recurrence rule: ``RRule("FREQ=WEEKLY;BYDAY=MO,WE;BYHOUR=9")``.

    Lines of ``DTSTART``, ``RRULE``, ``RDATE``, ``EXDATE`` and ``EXRULE`` may follow each other. Without ``DTSTART`` it
    counts from 2020-01-01 00:00. Times are wall times of ``timezone``, or of the rule's ``TZID``.
    """

    __module__ = "flowdeck"

    __slots__ = ("rrule", "timezone")
    kind = "rrule"
    may_end = True

    def __init__(self, rrule: str, timezone: str | None = None, *, parameters: dict[str, Any] | None = None,
                 slug: str | None = None, catchup: Catchup = "latest", catchup_window_seconds: float = _A_DAY,
                 overlap: Overlap = "skip", active: bool = True) -> None:
        super().__init__(parameters=parameters, slug=slug, catchup=catchup,
                         catchup_window_seconds=catchup_window_seconds, overlap=overlap, active=active)
        self.rrule = _checked_rule(rrule)
        named = _ZONE_IN_RULE.search(self.rrule)
        self.timezone = zone_name(timezone if timezone is not None or named is None else named.group(1))
        self.zone_from = source_of_zone(timezone) if timezone is not None or named is None else "rule"

    @classmethod
    def from_rrule(cls, rule: Any, timezone: str | None = None, **options: Any) -> RRule:
        """From dateutil's own ``rrule`` or ``rruleset``; without a ``timezone`` that of its start holds."""
        source = source_of_zone(timezone)
        if timezone is None and has_name(zone := zone_of_rule(rule)):
            timezone, source = name_of_zone(zone), "rule"
        made = cls(_text_of(rule), timezone, **options)
        made.zone_from = source
        return made

    def times(self) -> dict[str, Any]:
        """What decides the times, as JSON values."""
        return {"kind": "rrule", "rrule": self.rrule, "timezone": self.timezone}

    def describe(self) -> str:
        """For people: ``rrule FREQ=DAILY (UTC)``."""
        line = " ".join(self.rrule.split()).replace("RRULE:", "")
        return f"rrule {line if len(line) <= 60 else line[:59] + '…'} ({self.timezone})"

    def following(self, at: datetime) -> datetime | None:
        """The first tick strictly after ``at``, in UTC; None when there is none."""
        zone = zone_of_name(self.timezone)
        wall = at.astimezone(zone).replace(tzinfo=None)
        rule = _evaluated(self.rrule, self.timezone)
        for found in _walls(rule, wall - timedelta(hours=3)):
            instant = instant_of(found, zone)
            if instant > at:
                return instant
        return None


def _checked_rule(rule: str) -> str:
    if not isinstance(rule, str) or not rule.strip():
        raise ScheduleError(f"RRule({rule!r}): the rule is a text such as 'FREQ=DAILY;BYHOUR=9'")
    if len(rule) > _LONGEST_RULE:
        raise ScheduleError(f"RRule: a rule has at most {_LONGEST_RULE} characters, not {len(rule)}")
    text = rule.strip()
    if "COUNT=" in text.upper() and "DTSTART" not in text.upper():
        raise ScheduleError(f"RRule({rule!r}): COUNT needs a DTSTART to count from; or use UNTIL")
    return text


@lru_cache(maxsize=2_000)
def _evaluated(rule: str, timezone: str) -> Any:
    from dateutil.rrule import rrulestr

    zone = zone_of_name(timezone)

    def as_wall(match: re.Match[str]) -> str:
        instant = datetime.strptime(match.group(1), "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        return f"{instant.astimezone(zone):%Y%m%dT%H%M%S}"

    text = _INSTANT.sub(as_wall, _ZONE_IN_RULE.sub("", rule))
    try:
        return rrulestr(text, dtstart=_ANCHOR)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ScheduleError(f"rrule {rule!r} cannot be read: {error}; e.g. 'FREQ=WEEKLY;BYDAY=MO,FR'") from error


def _walls(rule: Any, after: datetime) -> Iterator[datetime]:
    """The rule's wall times after one, without counting up from the rule's start."""
    return islice(_near(rule, after).xafter(after), _MOST_WALLS)


def _near(rule: Any, after: datetime) -> Any:
    """The same rule begun shortly before ``after``: dateutil goes through every time since the start otherwise."""
    from dateutil.rrule import DAILY, HOURLY, MINUTELY, SECONDLY, WEEKLY, rruleset

    if isinstance(rule, rruleset):
        nearer = rruleset()
        for part in rule._rrule:
            nearer.rrule(_near(part, after))
        for part in rule._exrule:
            nearer.exrule(_near(part, after))
        for moment in rule._rdate:
            nearer.rdate(moment)
        for moment in rule._exdate:
            nearer.exdate(moment)
        return nearer
    steps = {SECONDLY: timedelta(seconds=1), MINUTELY: timedelta(minutes=1), HOURLY: timedelta(hours=1),
             DAILY: timedelta(days=1), WEEKLY: timedelta(weeks=1)}
    if rule._freq not in steps or rule._count is not None:
        return rule
    step = steps[rule._freq] * rule._interval
    whole = (after - rule._dtstart) // step - 1
    return rule.replace(dtstart=rule._dtstart + whole * step) if whole > 0 else rule


def zone_of_rule(rule: Any) -> Any:
    """The zone in which dateutil's ``rrule`` or ``rruleset`` begins; None when it begins in none."""
    parts = getattr(rule, "_rrule", None)
    one = parts[0] if isinstance(parts, list) and parts else rule
    return getattr(getattr(one, "_dtstart", None), "tzinfo", None)


def _text_of(rule: Any) -> str:
    parts = getattr(rule, "_rrule", None)
    if not isinstance(parts, list):
        return str(rule)
    lines = [line for part in parts for line in str(part).splitlines()]
    lines += [line.replace("RRULE", "EXRULE") for part in rule._exrule for line in str(part).splitlines()
              if not line.startswith("DTSTART")]
    lines += [f"{word}:{moment:%Y%m%dT%H%M%S}" for word, moments in (("RDATE", rule._rdate), ("EXDATE", rule._exdate))
              for moment in moments]
    starts = {line for line in lines if line.startswith("DTSTART")}
    if len(starts) > 1:
        raise ScheduleError(f"an rruleset's rules must start at the same time to be stored, not at {sorted(starts)}")
    return "\n".join([*starts, *(line for line in lines if line not in starts)])


class Dates(General):
    """At the given moments and never again: ``Dates([datetime(2027, 1, 1, 9)], timezone="Europe/Berlin")``.

    Moments without a zone are wall times of ``timezone``; a date means its midnight.
    """

    __module__ = "flowdeck"

    __slots__ = ("dates", "timezone")
    kind = "dates"
    may_end = True

    def __init__(self, dates: Iterable[datetime | date | str], timezone: str | None = None, *,
                 parameters: dict[str, Any] | None = None, slug: str | None = None, catchup: Catchup = "latest",
                 catchup_window_seconds: float = _A_DAY, overlap: Overlap = "skip", active: bool = True) -> None:
        super().__init__(parameters=parameters, slug=slug, catchup=catchup,
                         catchup_window_seconds=catchup_window_seconds, overlap=overlap, active=active)
        self.timezone, self.zone_from = zone_name(timezone), source_of_zone(timezone)
        if isinstance(dates, (str, bytes)) or not isinstance(dates, Iterable):
            raise ScheduleError(f"Dates({dates!r}): give a list of datetimes")
        self.dates: list[datetime] = sorted({_moment(one, self.timezone) for one in dates})
        if not self.dates:
            raise ScheduleError("Dates([]): give at least one datetime")

    def times(self) -> dict[str, Any]:
        """What decides the times, as JSON values."""
        return {"kind": "dates", "dates": [one.isoformat() for one in self.dates], "timezone": self.timezone}

    def describe(self) -> str:
        """For people: ``on 2027-01-01 09:00, 2 more (UTC)``."""
        first = self.dates[0].astimezone(zone_of_name(self.timezone))
        more = f", {len(self.dates) - 1} more" if len(self.dates) > 1 else ""
        return f"on {first:%Y-%m-%d %H:%M}{more} ({self.timezone})"

    def following(self, at: datetime) -> datetime | None:
        """The first tick strictly after ``at``, in UTC; None when there is none."""
        from bisect import bisect_right

        place = bisect_right(self.dates, at)
        return self.dates[place] if place < len(self.dates) else None


def _moment(value: Any, timezone: str) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ScheduleError(f"Dates: {value!r} is no ISO 8601 time, such as 2027-01-01T09:00") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if not isinstance(value, datetime):
        raise ScheduleError(f"Dates: {value!r} is no datetime")
    value = plain(value)
    return value.astimezone(UTC) if value.tzinfo is not None else instant_of(value, zone_of_name(timezone))
