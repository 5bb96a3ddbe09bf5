"""When flows run, under the names users import: ``from flowdeck.schedules import Cron, IntervalSchedule, filters``."""

from __future__ import annotations

from flowdeck.engine.prefect1.schedules import (
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
)
from flowdeck.engine.schedules.composite import Composite
from flowdeck.engine.schedules.rules import Dates, RRule
from flowdeck.engine.schedules.schedule import Cron, Interval
from flowdeck.schedules import adjustments, clocks, filters

__all__ = [
    "Clock", "ClockEvent", "Composite", "Cron", "CronClock", "CronSchedule", "Dates", "DatesClock", "Interval",
    "IntervalClock", "IntervalSchedule", "OneTimeSchedule", "RRule", "RRuleClock", "RRuleSchedule", "Schedule",
    "adjustments", "clocks", "filters",
]
