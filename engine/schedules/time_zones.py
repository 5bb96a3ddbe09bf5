"""Time zones by their IANA names, and the instant a wall time stands for where clocks change. Pure.

A wall time that a change of clocks leaves out means the end of the gap; one that comes twice means the first time.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING

from ..errors import ScheduleError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo


def instant_of(wall: datetime, zone: ZoneInfo) -> datetime:
    """When clocks in the zone first show this wall time; the end of the gap when they never do."""
    instant = wall.replace(tzinfo=zone).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == wall:
        return instant
    # In a gap the earlier reading lies before the change and the later one after it: halve until the second.
    before = int(wall.replace(tzinfo=zone, fold=1).astimezone(UTC).timestamp())
    after = math.ceil(instant.timestamp())
    offset_before = datetime.fromtimestamp(before, zone).utcoffset()
    while after - before > 1:
        middle = (before + after) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == offset_before:
            before = middle
        else:
            after = middle
    return datetime.fromtimestamp(after, UTC)


def plain(moment: datetime) -> datetime:
    """The same moment as the standard library's datetime: other libraries' reckon differently (pendulum, pandas)."""
    if type(moment) is datetime:
        return moment
    return datetime(
        moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second, moment.microsecond,
        tzinfo=moment.tzinfo, fold=moment.fold,
    )  # fmt: skip


def zone_name(name: str | None) -> str:
    """UTC when nothing is said, as in Prefect; checked when given."""
    if name is None or name == "UTC":
        return "UTC"
    if name == "local":
        return _local_zone_name()
    zone_of_name(name)
    return name


def source_of_zone(name: str | None) -> str | None:
    """Where the zone comes from that ``zone_name`` makes of a name, when it does not tell itself."""
    return {"local": "local", "UTC": "given"}.get(name) if name is not None else None


@lru_cache(maxsize=256)
def zone_of_name(name: str) -> ZoneInfo:
    """The zone of that IANA name; ``ScheduleError`` with the nearest one when there is none."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        from difflib import get_close_matches

        near = get_close_matches(str(name), available_timezones(), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "use an IANA name such as 'Europe/Berlin'"
        raise ScheduleError(f"timezone {name!r} is not known: {hint}") from error


def _local_zone_name() -> str:
    import os

    named = os.environ.get("TZ", "").lstrip(":")
    path = named if named.startswith("/") else "/etc/localtime"
    name = named if named and not named.startswith("/") else os.path.realpath(path).partition("zoneinfo/")[2]
    if not name:
        raise ScheduleError("timezone 'local': this machine does not say its zone; name it, as in 'Europe/Berlin'")
    zone_of_name(name)
    return name


def has_name(zone: tzinfo | None) -> bool:
    """Whether ``name_of_zone`` finds one for this zone of a datetime."""
    if zone is None:
        return False
    try:
        name_of_zone(zone)
    except ScheduleError:
        return False
    return True


def name_of_zone(zone: tzinfo | None) -> str:
    """The IANA name of a datetime's zone, whatever library made it; UTC when it has none."""
    if zone is None or zone is UTC:
        return "UTC"
    for attribute in ("key", "zone", "name"):  # zoneinfo, pytz, pendulum
        name = getattr(zone, attribute, None)
        if isinstance(name, str) and name:
            return zone_name(name)
    offset = zone.utcoffset(None)
    if offset is not None and offset % timedelta(hours=1) == timedelta(0):
        hours = offset // timedelta(hours=1)
        return zone_name(f"Etc/GMT{-hours:+d}") if hours else "UTC"
    raise ScheduleError(f"the zone {zone!r} has no name: use ZoneInfo('Europe/Berlin') or the like")
