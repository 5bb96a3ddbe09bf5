"""The kinds of schedule beside cron and interval: ``RRule``, ``Dates``, and ``Composite``, a clock with conditions.

Pure as ``schedules`` is, which loads this at the first use of one. Wall times follow the same policy: one that a
change of clocks leaves out fires at the end of the gap, one that comes twice fires the first time. dateutil reads the
recurrence rules and is imported when the first is evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from ..errors import ScheduleError
from . import adjustments as schedule_adjustments
from . import filters as schedule_filters
from .schedule import Catchup, General, Overlap, Schedule, from_times, next_after
from .time_zones import instant_of, zone_name, zone_of_name

__all__ = ["KINDS", "Composite", "Dates", "RRule"]

_A_DAY: Final = 86_400.0
_LONGEST_RULE: Final = 6500
"""Prefect's bound on the text of a rule."""
_ANCHOR: Final = datetime(2020, 1, 1)  # noqa: DTZ001 - wall time: where a rule without DTSTART counts from, as Prefect's
_MOST_WALLS: Final = 100_000
_HORIZON: Final = timedelta(days=366 * 40)
"""Conditions that match no time within so long match none."""
_MOST_TRIED: Final = 200_000
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

    @classmethod
    def from_rrule(cls, rule: Any, timezone: str | None = None, **options: Any) -> RRule:
        """From dateutil's own ``rrule`` or ``rruleset``."""
        return cls(_text_of(rule), timezone, **options)

    def times(self) -> dict[str, Any]:
        """What decides the times, as JSON values."""
        return {"kind": "rrule", "rrule": self.rrule, "timezone": self.timezone}

    @classmethod
    def from_spec(cls, spec: dict[str, Any], options: dict[str, Any]) -> RRule:
        """The schedule whose ``times()`` these were."""
        return cls(**spec, **options)

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
        self.timezone = zone_name(timezone)
        if isinstance(dates, (str, bytes)) or not isinstance(dates, Iterable):
            raise ScheduleError(f"Dates({dates!r}): give a list of datetimes")
        self.dates: list[datetime] = sorted({_moment(one, self.timezone) for one in dates})
        if not self.dates:
            raise ScheduleError("Dates([]): give at least one datetime")

    def times(self) -> dict[str, Any]:
        """What decides the times, as JSON values."""
        return {"kind": "dates", "dates": [one.isoformat() for one in self.dates], "timezone": self.timezone}

    @classmethod
    def from_spec(cls, spec: dict[str, Any], options: dict[str, Any]) -> Dates:
        """The schedule whose ``times()`` these were."""
        return cls(**spec, **options)

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
    return value.astimezone(UTC) if value.tzinfo is not None else instant_of(value, zone_of_name(timezone))


class Composite(General):
    """Those times of a clock that lie between two dates and pass the filters, moved by the adjustments.

    All of ``filters``, at least one of ``or_filters`` and none of ``not_filters`` must be true of the wall time.
    """

    __module__ = "flowdeck.schedules"

    __slots__ = ("adjustments", "clock", "end_date", "filters", "not_filters", "or_filters", "start_date")
    kind = "composite"

    def __init__(self, clock: Schedule, *, filters: Iterable[Any] = (), or_filters: Iterable[Any] = (),
                 not_filters: Iterable[Any] = (), adjustments: Iterable[Any] = (), start_date: datetime | None = None,
                 end_date: datetime | None = None, parameters: dict[str, Any] | None = None, slug: str | None = None,
                 catchup: Catchup = "latest", catchup_window_seconds: float = _A_DAY, overlap: Overlap = "skip",
                 active: bool = True) -> None:
        super().__init__(parameters=parameters, slug=slug, catchup=catchup,
                         catchup_window_seconds=catchup_window_seconds, overlap=overlap, active=active)
        self.clock = clock
        self.filters, self.or_filters = list(filters), list(or_filters)
        self.not_filters, self.adjustments = list(not_filters), list(adjustments)
        for chosen in (*self.filters, *self.or_filters, *self.not_filters, *self.adjustments):
            if not callable(chosen):
                raise ScheduleError(f"{chosen!r} is no filter or adjustment: they are functions of a datetime")
        self.start_date, self.end_date = _aware(start_date), _aware(end_date)

    @property
    def timezone(self) -> str:
        """The zone of its clock, whose wall time the filters see."""
        return str(getattr(self.clock, "timezone", "UTC"))

    @property
    def may_end(self) -> bool:  # type: ignore[override]
        """Whether it is as it should be that it never fires again."""
        return self.end_date is not None or (isinstance(self.clock, General) and self.clock.may_end)

    def times(self) -> dict[str, Any]:
        """What decides the times, as JSON values; ``ScheduleError`` for functions that cannot be stored."""
        if self.adjustments and self.has_own_filters:
            raise ScheduleError(
                "a filter that is a function of yours sees the times before they are moved, which the daemon cannot "
                "show it: leave the adjustments out, use the filters of flowdeck.schedules.filters, or let flow.run() "
                "keep the schedule"
            )
        return {
            "kind": "composite", "clock": self.clock.times(),
            "filters": [schedule_filters.stored(one) for one in self.filters],
            "or_filters": [schedule_filters.stored(one) for one in self.or_filters],
            "not_filters": [schedule_filters.stored(one) for one in self.not_filters],
            "adjustments": [schedule_adjustments.stored(one) for one in self.adjustments],
            "start_date": None if self.start_date is None else self.start_date.astimezone(UTC).isoformat(),
            "end_date": None if self.end_date is None else self.end_date.astimezone(UTC).isoformat(),
        }

    @classmethod
    def from_spec(cls, spec: dict[str, Any], options: dict[str, Any]) -> Composite:
        """The schedule whose ``times()`` these were."""
        made: dict[str, Any] = {name: [schedule_filters.from_stored(one, unknown=name != "not_filters")
                                       for one in spec[name]]
                                for name in ("filters", "or_filters", "not_filters")}
        dates: dict[str, Any] = {name: None if spec[name] is None else datetime.fromisoformat(spec[name])
                                 for name in ("start_date", "end_date")}
        return cls(from_times(spec["clock"]), **made, **dates, **options,
                   adjustments=[schedule_adjustments.from_stored(one) for one in spec["adjustments"]])

    def describe(self) -> str:
        """For people: ``every hour, on weekdays, until 2027-01-01``."""
        words = [self.clock.describe(), *(_words(one) for one in self.filters)]
        if self.or_filters:
            words.append(" or ".join(_words(one) for one in self.or_filters))
        words += [f"not {_words(one)}" for one in self.not_filters]
        words += [_words(one) for one in self.adjustments]
        zone = zone_of_name(self.timezone)
        for word, moment in (("from", self.start_date), ("until", self.end_date)):
            if moment is not None:
                words.append(f"{word} {moment.astimezone(zone):%Y-%m-%d %H:%M}")
        return ", ".join(words)

    def following(self, at: datetime) -> datetime | None:
        """The first tick strictly after ``at``, in UTC; None when there is none."""
        if not self.adjustments:
            return self._unmoved(at)
        least, most = schedule_adjustments.reach(self.adjustments)
        best: datetime | None = None
        unmoved = self._unmoved(at - most)
        while unmoved is not None and (best is None or unmoved + least <= best):
            tick = self._moved(unmoved)
            if tick > at and (best is None or tick < best):
                best = tick
            unmoved = self._unmoved(unmoved)
        return best

    def _moved(self, tick: datetime) -> datetime:
        at = tick.astimezone(zone_of_name(self.timezone))
        for adjustment in self.adjustments:
            at = adjustment(at)
        return at.astimezone(UTC)

    def _unmoved(self, after: datetime) -> datetime | None:
        """The first time of the clock after ``after`` that passes, adjustments left aside."""
        zone = zone_of_name(self.timezone)
        if self.start_date is not None:
            after = max(after, self.start_date - timedelta(microseconds=1))
        last = min(self.end_date or datetime.max.replace(tzinfo=UTC), after + _HORIZON)
        for _ in range(_MOST_TRIED):
            tick = next_after(self.clock, after)
            if tick is None or tick > last:
                return None
            wall = tick.astimezone(zone)
            refused = self._refused(wall)
            if refused is None:
                return tick
            resume = self._resume(wall, refused)
            if resume is None:
                return None
            after = max(tick, resume.astimezone(UTC) - timedelta(microseconds=1))
        return None

    def _refused(self, wall: datetime) -> list[Any] | None:
        """None for a time that passes; else the filters of which one must become true first."""
        for chosen in self.filters:
            if not chosen(wall):
                return [chosen]
        if self.or_filters and not any(chosen(wall) for chosen in self.or_filters):
            return self.or_filters
        return [] if any(chosen(wall) for chosen in self.not_filters) else None

    def refuses(self, at: datetime) -> str | None:
        """Which filters of the user's own leave this time out; None when it counts. Raises what they raise."""
        refused = self._refused(at.astimezone(zone_of_name(self.timezone)))
        if refused is None:
            return None
        return " and ".join(_words(one) for one in refused or self.not_filters)

    @property
    def has_own_filters(self) -> bool:
        """Whether a filter is a function of the user's own."""
        chosen = (*self.filters, *self.or_filters, *self.not_filters)
        return not all(isinstance(one, schedule_filters.Filter) for one in chosen)

    @staticmethod
    def _resume(wall: datetime, refused: list[Any]) -> datetime | None:
        """From when on to go on looking: no earlier than one of these filters may become true."""
        if not refused or not all(isinstance(one, schedule_filters.Filter) for one in refused):
            return wall
        return min((found for one in refused if (found := one.resume(wall)) is not None), default=None)


def _aware(at: datetime | None) -> datetime | None:
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at


def _words(chosen: Any) -> str:
    return str(getattr(chosen, "words", None) or getattr(chosen, "__name__", repr(chosen)))


KINDS: Final[dict[str, type[RRule] | type[Dates] | type[Composite]]] = {
    "rrule": RRule, "dates": Dates, "composite": Composite,
}
