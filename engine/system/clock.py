"""The machine's two clocks: the wall clock in the store's unit, and the monotonic one for how long things take.

Who decides by time below the daemon's rounds is handed a ``Now`` or its ``us``; a test hands in another ``Clock``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, TypeAlias


class Now(NamedTuple):
    """One look at both clocks."""

    us: int
    """UTC in integer microseconds: for instants."""
    monotonic: float
    """Seconds that nobody can set: for durations and for what is to be waited for."""


Clock: TypeAlias = Callable[[], Now]


def now() -> Now:
    """This machine's clocks."""
    return Now(now_us(), time.monotonic())


def now_us() -> int:
    """UTC now in integer microseconds; for instants only, durations come from the monotonic clock."""
    return time.time_ns() // 1000
