"""Ticks in the store's unit: integer UTC microseconds, and the next one of a schedule as it is stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from .kinds import from_json
from .schedule import next_after

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def next_due_us(spec: str, after_us: int) -> int | None:
    """The next tick of a stored schedule."""
    tick = next_after(from_json(spec), from_us(after_us))
    return None if tick is None else to_us(tick)


def to_us(at: datetime) -> int:
    """An instant in the store's unit, exactly."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def from_us(us: int) -> datetime:
    """An instant of the store's, exactly."""
    return _EPOCH + timedelta(microseconds=us)
