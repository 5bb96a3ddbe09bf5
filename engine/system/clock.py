"""The wall clock in the store's unit."""

from __future__ import annotations

import time


def now_us() -> int:
    """UTC now in integer microseconds; for instants only, durations come from the monotonic clock."""
    return time.time_ns() // 1000
