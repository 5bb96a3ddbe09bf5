"""Prefect 1's clocks: ``from flowdeck.schedules.clocks import IntervalClock``."""

from __future__ import annotations

from flowdeck.engine.schedules.clocks import (
    Clock,
    ClockEvent,
    CronClock,
    DatesClock,
    IntervalClock,
    RRuleClock,
)

__all__ = [
    "Clock",
    "ClockEvent",
    "CronClock",
    "DatesClock",
    "IntervalClock",
    "RRuleClock",
]
