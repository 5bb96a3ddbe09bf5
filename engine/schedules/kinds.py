"""The kinds of schedule: read from what users write and from what is stored, and written as text.

Pure as ``schedule`` is; the kinds beside cron and interval are loaded when one is met.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any, Final

from ..errors import ScheduleError
from .options import General
from .schedule import Cron, Interval, Schedule

__all__ = ["from_json", "from_times", "parse", "same_times", "to_json"]

_SOURCE: Final = "zone_from"
_RULE_BEGINS: Final = ("FREQ=", "RRULE", "DTSTART", "RDATE")


def parse(value: Any) -> list[Schedule]:
    """What ``@flow(schedule=…)`` accepts: a cron or RRULE text, seconds, a timedelta, a schedule, or a list of these.

    Also Prefect 1's ``Schedule``, whose clocks become a schedule each.
    """
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return [schedule for item in value for schedule in parse(item)]
    if isinstance(value, (Cron, Interval, General)):
        return [value]
    if isinstance(value, str):
        if value.lstrip().upper().startswith(_RULE_BEGINS):
            from .rules import RRule

            return [RRule(value)]
        return [Cron(value)]
    if hasattr(type(value), "flowdeck_schedules"):
        return [schedule for part in value.flowdeck_schedules() for schedule in parse(part)]
    if isinstance(value, (int, float, timedelta)) and not isinstance(value, bool):
        return [Interval(value)]
    raise ScheduleError(
        f"schedule={value!r}: give a cron text, an RRULE text, seconds, a timedelta, Cron(…), Interval(…), RRule(…), "
        "Dates(…), or a list of these")


def to_json(schedule: Schedule) -> str:
    """What decides the times of a schedule, and where its zone comes from when that does not tell itself."""
    source = {} if schedule.zone_from is None else {_SOURCE: schedule.zone_from}
    return json.dumps({**schedule.times(), **source}, sort_keys=True)


def same_times(one: str, other: str) -> bool:
    """Whether two stored schedules have the same times."""
    return one == other or _times(one) == _times(other)


def _times(text: str) -> Any:
    return {key: value for key, value in json.loads(text).items() if key != _SOURCE}


def from_json(text: str, **options: Any) -> Schedule:
    """The schedule that ``to_json`` wrote; ``options`` are those that do not decide its times."""
    times = json.loads(text)
    source = times.pop(_SOURCE, None)
    schedule = from_times(times, **options)
    schedule.zone_from = source
    return schedule


def from_times(times: dict[str, Any], **options: Any) -> Schedule:
    """The schedule whose ``times()`` these are."""
    spec = dict(times)
    kind = spec.pop("kind", None)
    if kind == "cron":
        return Cron(**spec, **options)
    if kind == "interval":
        anchor = spec.pop("anchor_date")
        return Interval(**spec, anchor_date=None if anchor is None else datetime.fromisoformat(anchor), **options)
    if kind in ("rrule", "dates"):
        from .rules import Dates, RRule

        return RRule(**spec, **options) if kind == "rrule" else Dates(**spec, **options)
    if kind == "composite":
        from .composite import Composite

        return Composite.from_spec(from_times(spec["clock"]), spec, options)
    raise ScheduleError(f"unknown kind of schedule {kind!r} in {times}")
