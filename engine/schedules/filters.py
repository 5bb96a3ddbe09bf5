"""Which of a clock's times count: Prefect 1's filters. Pure; a filter sees the wall time in the schedule's zone.

``filters=[is_weekday, between_times(time(9), time(17))]``. Each has a stored form, so that the daemon can schedule by
it, and says from when on it may be true again, so that a search passes over what cannot match.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

from ..errors import ScheduleError
from .time_zones import plain

__all__ = ["Filter", "at_time", "between_dates", "between_datetimes", "between_times", "from_stored", "is_day_of_week",
           "is_month_end", "is_month_start", "is_weekday", "is_weekend", "on_date", "on_datetime", "stored"]

Test = Callable[[datetime], bool]
Resume = Callable[[datetime], datetime | None]
_DAYS: Final = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")


class Filter:
    """A test of a time that can be stored and described."""

    __slots__ = ("arguments", "name", "resume", "test", "words")

    def __init__(self, name: str, arguments: tuple[Any, ...], test: Test, resume: Resume, words: str) -> None:
        self.name = name
        self.arguments = arguments
        self.test = test
        self.resume = resume
        """For a time that is refused: the first wall time after it that may pass; None when there is none."""
        self.words = words

    def __call__(self, at: datetime) -> bool:
        """Whether this time counts."""
        return self.test(at)

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.arguments))})" if self.arguments else self.name


def _next_day(at: datetime) -> datetime:
    return datetime.combine(at.date() + timedelta(days=1), time(), at.tzinfo)


def _at_next(clock: time) -> Resume:
    def resume(at: datetime) -> datetime:
        today = datetime.combine(at.date(), clock, at.tzinfo)
        return today if today.replace(tzinfo=None) > at.replace(tzinfo=None) else today + timedelta(days=1)

    return resume


def _on_days(name: str, test: Test, words: str, *arguments: Any) -> Filter:
    return Filter(name, arguments, test, _next_day, words)


is_weekday: Final = _on_days("is_weekday", lambda at: at.weekday() < 5, "on weekdays")
"""Monday to Friday."""
is_weekend: Final = _on_days("is_weekend", lambda at: at.weekday() >= 5, "on weekends")
"""Saturday and Sunday."""
is_month_start: Final = _on_days("is_month_start", lambda at: at.day == 1, "on the first of a month")
"""The first day of a month."""
is_month_end: Final = _on_days(
    "is_month_end", lambda at: (at.date() + timedelta(days=1)).day == 1, "on the last of a month"
)
"""The last day of a month."""


def is_day_of_week(day_of_week: int) -> Filter:
    """One day of the week: 0 is Sunday, 6 is Saturday, as in Prefect 1."""
    if isinstance(day_of_week, bool) or not isinstance(day_of_week, int) or not 0 <= day_of_week <= 6:
        raise ScheduleError(f"is_day_of_week({day_of_week!r}): the day is 0 (Sunday) to 6 (Saturday)")
    return _on_days(
        "is_day_of_week", lambda at: at.isoweekday() % 7 == day_of_week, f"on {_DAYS[day_of_week]}s", day_of_week
    )


def on_date(month: int, day: int) -> Filter:
    """One date of every year."""
    _check_date("on_date", month, day)
    return _on_days("on_date", lambda at: (at.month, at.day) == (month, day), f"on {day}.{month}.", month, day)


def between_dates(start_month: int, start_day: int, end_month: int, end_day: int) -> Filter:
    """From one date of the year to another, both included; past New Year when the second comes first."""
    _check_date("between_dates", start_month, start_day)
    _check_date("between_dates", end_month, end_day)
    start, end = (start_month, start_day), (end_month, end_day)

    def test(at: datetime) -> bool:
        date = (at.month, at.day)
        return start <= date <= end if start <= end else date >= start or date <= end

    words = f"from {start_day}.{start_month}. to {end_day}.{end_month}."
    return _on_days("between_dates", test, words, *start, *end)


def at_time(t: time) -> Filter:
    """One time of the day."""
    _check("at_time", t, time)
    clock = t.replace(tzinfo=None)
    return Filter("at_time", (clock,), lambda at: at.time() == clock, _at_next(clock), f"at {clock.isoformat('auto')}")


def between_times(start: time, end: time) -> Filter:
    """From one time of the day to another, both included; past midnight when the second comes first."""
    _check("between_times", start, time)
    _check("between_times", end, time)
    first, last = start.replace(tzinfo=None), end.replace(tzinfo=None)

    def test(at: datetime) -> bool:
        clock = at.time()
        return first <= clock <= last if first <= last else clock >= first or clock <= last

    words = f"from {first.isoformat('auto')} to {last.isoformat('auto')}"
    return Filter("between_times", (first, last), test, _at_next(first), words)


def on_datetime(dt: datetime) -> Filter:
    """One instant."""
    wanted = _aware("on_datetime", dt)
    return Filter("on_datetime", (wanted,), lambda at: at == wanted, _not_before(wanted), f"at {wanted:%Y-%m-%d %H:%M}")


def between_datetimes(start: datetime, end: datetime) -> Filter:
    """From one instant to another, both included."""
    first, last = _aware("between_datetimes", start), _aware("between_datetimes", end)
    words = f"from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
    return Filter("between_datetimes", (first, last), lambda at: first <= at <= last, _not_before(first), words)


def _not_before(first: datetime) -> Resume:
    return lambda at: first.astimezone(at.tzinfo) if at < first else None


def _aware(name: str, at: datetime) -> datetime:
    _check(name, at, datetime)
    return plain(at).replace(tzinfo=UTC) if at.tzinfo is None else plain(at)


def _check(name: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        raise ScheduleError(f"filter {name} needs a datetime.{kind.__name__}, not {value!r}")


def _check_date(name: str, month: int, day: int) -> None:
    try:
        datetime(2000, month, day)  # noqa: DTZ001 - only whether there is such a day
    except (TypeError, ValueError) as error:
        raise ScheduleError(f"filter {name}: month {month!r}, day {day!r} is no date: {error}") from None


_FIXED: Final = {one.name: one for one in (is_weekday, is_weekend, is_month_start, is_month_end)}
_MADE: Final[dict[str, Callable[..., Filter]]] = {
    "is_day_of_week": is_day_of_week, "on_date": on_date, "between_dates": between_dates, "at_time": at_time,
    "between_times": between_times, "on_datetime": on_datetime, "between_datetimes": between_datetimes,
}
OWN: Final = "own"
_TIMES: Final = ("at_time", "between_times")
_INSTANTS: Final = ("on_datetime", "between_datetimes")


def stored(chosen: Any) -> list[Any]:
    """JSON values of a filter; of a function of the user's own its name."""
    if not isinstance(chosen, Filter):
        return [OWN, name_of_own(chosen)]
    return [chosen.name, *(part.isoformat() if isinstance(part, (time, datetime)) else part
                           for part in chosen.arguments)]


def name_of_own(chosen: Any) -> str:
    """What a user's filter is called."""
    return str(getattr(chosen, "__name__", None) or type(chosen).__name__)


def from_stored(values: list[Any], *, unknown: bool = True) -> Filter:
    """The filter that ``stored`` wrote.

    A function of the user's own cannot be asked from here: its answer is ``unknown``, so that no time is left out, and
    the run's process asks it (``own_filters``).
    """
    name, *arguments = values
    if name == OWN:
        return Filter(OWN, tuple(arguments), lambda _at: unknown, lambda at: at, f"when {arguments[0]}() says so")
    if name in _FIXED:
        return _FIXED[name]
    if name in _TIMES:
        arguments = [time.fromisoformat(text) for text in arguments]
    elif name in _INSTANTS:
        arguments = [datetime.fromisoformat(text) for text in arguments]
    return _MADE[name](*arguments)
