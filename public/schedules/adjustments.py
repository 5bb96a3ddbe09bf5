"""Where moments of a schedule are moved, with Prefect 1's names: ``from flowdeck.schedules.adjustments import add``."""

from __future__ import annotations

from flowdeck.engine.schedules.adjustments import (
    Adjustment,
    add,
    next_weekday,
    reach,
)

__all__ = [
    "Adjustment",
    "add",
    "next_weekday",
    "reach",
]
