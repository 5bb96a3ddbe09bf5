"""What moves a clock's times: Prefect 1's adjustments, applied in order to what passed the filters. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ..errors import ScheduleError
from .time_zones import instant_of, name_of_zone, zone_of_name

__all__ = ["Adjustment", "add", "from_stored", "next_weekday", "reach", "stored"]

_CLOCK_CHANGE: Final = timedelta(hours=3)
"""More than any change of clocks moves a wall time."""
_USERS_OWN: Final = timedelta(days=8)
"""How far a function of the user's own may move a time."""


class Adjustment:
    """A change of a time that can be stored and described; it moves by at least ``least`` and at most ``most``."""

    __slots__ = ("arguments", "least", "most", "move", "name", "words")

    def __init__(self, name: str, arguments: tuple[Any, ...], move: Callable[[datetime], datetime], words: str,
                 least: timedelta, most: timedelta) -> None:
        self.name = name
        self.arguments = arguments
        self.move = move
        self.words = words
        self.least = least - _CLOCK_CHANGE
        self.most = most + _CLOCK_CHANGE

    def __call__(self, at: datetime) -> datetime:
        """The time in the place of this one."""
        return self.move(at)

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.arguments))})" if self.arguments else self.name


def add(interval: timedelta) -> Adjustment:
    """So much later: its days as days of the calendar, the rest as elapsed time."""
    if not isinstance(interval, timedelta):
        raise ScheduleError(f"adjustment add needs a timedelta, not {interval!r}")
    days = timedelta(days=interval.days)
    rest = interval - days

    def move(at: datetime) -> datetime:
        zone = at.tzinfo
        moved = at
        if days:
            moved = instant_of(at.replace(tzinfo=None) + days, zone_of_name(name_of_zone(zone)))
        return (moved.astimezone(UTC) + rest).astimezone(zone)

    return Adjustment("add", (interval,), move, f"{interval} later", interval, interval)


def _to_weekday(at: datetime) -> datetime:
    return at + timedelta(days=max(0, 7 - at.weekday())) if at.weekday() >= 5 else at


next_weekday: Final = Adjustment(
    "next_weekday", (), _to_weekday, "on the next weekday", timedelta(0), timedelta(days=2)
)
"""Monday in the place of Saturday and Sunday."""


def reach(chosen: list[Any]) -> tuple[timedelta, timedelta]:
    """The least and the most that these move a time together."""
    least = sum((getattr(one, "least", -_USERS_OWN) for one in chosen), timedelta(0))
    most = sum((getattr(one, "most", _USERS_OWN) for one in chosen), timedelta(0))
    return least, most


def stored(chosen: Any) -> list[Any]:
    """JSON values of an adjustment; ``ScheduleError`` for a function of the user's own, which has none."""
    if not isinstance(chosen, Adjustment):
        name = getattr(chosen, "__name__", repr(chosen))
        raise ScheduleError(
            f"the adjustment {name} is a function of yours, which the daemon cannot store: use the adjustments of "
            "flowdeck.schedules.adjustments (or let flow.run() keep the schedule)"
        )
    return [chosen.name, *(part.total_seconds() for part in chosen.arguments)]


def from_stored(values: list[Any]) -> Adjustment:
    """The adjustment that ``stored`` wrote."""
    name, *arguments = values
    return add(timedelta(seconds=arguments[0])) if name == "add" else next_weekday
