"""``Composite``: a clock with conditions, moved and bounded. Pure as ``schedule`` is."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ..errors import ScheduleError
from . import adjustments as schedule_adjustments
from . import filters as schedule_filters
from .options import Catchup, General, Overlap
from .schedule import Schedule, next_after
from .time_zones import plain, zone_of_name

__all__ = ["Composite"]

_A_DAY: Final = 86_400.0
_HORIZON: Final = timedelta(days=366 * 40)
"""Conditions that match no time within so long match none."""
_MOST_TRIED: Final = 200_000


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
        self.clock, self.zone_from = clock, clock.zone_from
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
    def from_spec(cls, clock: Schedule, spec: dict[str, Any], options: dict[str, Any]) -> Composite:
        """The schedule whose ``times()`` these were, but for the clock, which is read already."""
        made: dict[str, Any] = {name: [schedule_filters.from_stored(one, unknown=name != "not_filters")
                                       for one in spec[name]]
                                for name in ("filters", "or_filters", "not_filters")}
        dates: dict[str, Any] = {name: None if spec[name] is None else datetime.fromisoformat(spec[name])
                                 for name in ("start_date", "end_date")}
        return cls(clock, **made, **dates, **options,
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
    if at is None:
        return None
    return plain(at) if at.tzinfo is not None else plain(at).replace(tzinfo=UTC)


def _words(chosen: Any) -> str:
    return str(getattr(chosen, "words", None) or getattr(chosen, "__name__", repr(chosen)))
