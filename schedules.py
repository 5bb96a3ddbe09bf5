"""When flows run, under the names users import: ``from flowdeck.schedules import Cron, IntervalSchedule, filters``."""

from __future__ import annotations

import sys

from .engine.classic_schedules import (
    Clock,
    ClockEvent,
    CronClock,
    CronSchedule,
    DatesClock,
    IntervalClock,
    IntervalSchedule,
    OneTimeSchedule,
    RRuleClock,
    RRuleSchedule,
    Schedule,
    adjustments,
    clocks,
    filters,
)
from .engine.schedule_kinds import Composite, Dates, RRule
from .engine.schedules import Cron, Interval

__all__ = [
    "Clock", "ClockEvent", "Composite", "Cron", "CronClock", "CronSchedule", "Dates", "DatesClock", "Interval",
    "IntervalClock", "IntervalSchedule", "OneTimeSchedule", "RRule", "RRuleClock", "RRuleSchedule", "Schedule",
    "adjustments", "clocks", "filters",
]

for _name, _module in (("adjustments", adjustments), ("clocks", clocks), ("filters", filters)):
    # As Prefect 1's: ``from flowdeck.schedules.clocks import IntervalClock``.
    sys.modules.setdefault(f"{__name__}.{_name}", _module)
