"""The machine's clocks: the wall clock in the store's unit, and those that nobody can set, for how long things take.

Who decides by time below the daemon's rounds is handed a ``Now`` or its ``us``; a test hands in another ``Clock``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, TypeAlias


class Now(NamedTuple):
    """One look at all clocks."""

    us: int
    """UTC in integer microseconds: for instants."""
    monotonic: float
    """Seconds that nobody can set: for durations and for what is to be waited for."""
    elapsed: float
    """As ``monotonic``, but the machine's own sleep counts: what a wait that outlives processes is measured by."""


Clock: TypeAlias = Callable[[], Now]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Of macOS, CLOCK_MONOTONIC goes on while the machine sleeps, and there is no CLOCK_BOOTTIME.
_ELAPSED: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> Now:
    """This machine's clocks."""
    return Now(now_us(), time.monotonic(), elapsed())


def elapsed() -> float:
    """Seconds since some moment that nobody can set; they pass while the machine sleeps, too, where it can tell."""
    return time.clock_gettime(_ELAPSED)


def in_words(at_us: int) -> str:
    """A moment as it stands in stored words, which outlive the zone of whoever reads them."""
    return f"{_EPOCH + timedelta(microseconds=at_us):%Y-%m-%d %H:%M:%S} UTC"


def now_us() -> int:
    """UTC now in integer microseconds; for instants only, durations come from the monotonic clock."""
    return time.time_ns() // 1000
