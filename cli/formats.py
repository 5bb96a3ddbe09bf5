"""How durations and values are written for people, and moments for programs: ISO 8601. Pure functions.

Moments for people are ``tui.text.times``'s, for the console and the command line alike.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86400

LEVEL_NAMES: Final[dict[int, str]] = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}
LEVELS: Final[dict[str, int]] = {name: number for number, name in LEVEL_NAMES.items()} | {
    "WARN": 30, "FATAL": 50, "TRACE": 5, "ALL": 0, "NOTSET": 0,
}


def iso(at_us: int | None) -> str | None:
    """The instant as ``2026-01-31T06:00:00.000000Z``: UTC, always with microseconds; None stays None."""
    if at_us is None:
        return None
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat(timespec="microseconds")[:-6] + "Z"


def seconds(duration_us: int | None) -> float | None:
    """Microseconds as seconds; None stays None."""
    return None if duration_us is None else duration_us / 1_000_000


def duration(duration_us: int) -> str:
    """A duration in at most two units: ``4ms``, ``1.25s``, ``3m 07s``, ``2h 05m``, ``3d 04h``."""
    span = max(duration_us, 0) / 1_000_000
    if 0 < span < 0.001:
        return "<1ms"
    if span < 0.9995:
        return f"{span * 1000:.0f}ms"
    if span < 9.995:
        return f"{span:.2f}s"
    if span < 59.95:
        return f"{span:.1f}s"
    whole = round(span)
    if whole < _HOUR:
        return f"{whole // _MINUTE}m {whole % _MINUTE:02d}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h {whole % _HOUR // _MINUTE:02d}m"
    return f"{whole // _DAY}d {whole % _DAY // _HOUR:02d}h"


def size(size_bytes: int) -> str:
    """A number of bytes as ``512 B``, ``1.4 MB``: powers of 1000."""
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.5 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def level_name(level: int) -> str:
    """``ERROR`` for 40; a level between the named ones keeps its number, as ``INFO+5``."""
    known = LEVEL_NAMES.get(level)
    if known is not None:
        return known
    below = [number for number in LEVEL_NAMES if number < level]
    return f"{LEVEL_NAMES[max(below)]}+{level - max(below)}" if below else str(level)


def plural(count: int, noun: str) -> str:
    """``1 run``, ``2 runs``, ``1,204 runs``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
