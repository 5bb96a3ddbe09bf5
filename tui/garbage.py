"""When the console looks for garbage: looking through everything a crowded run brought takes 0.1 s.

So not while somebody reads along, and never through what the start made.
"""

from __future__ import annotations

import gc
import time
from typing import Final

_NEVER: Final = 1 << 30
_CALM_SECONDS: Final = 10.0
"""All garbage is looked for once nothing came for so long,"""
_COLLECT_SECONDS: Final = 600.0
"""and at the latest after so long."""


class Garbage:
    """Full collections, when the console is calm."""

    def __init__(self) -> None:
        self._news_at = self._collected_at = time.monotonic()

    def news_came(self) -> None:
        """Somebody may be reading along."""
        self._news_at = time.monotonic()

    def tick(self) -> None:
        """A second went by."""
        now = time.monotonic()
        calm = self._collected_at < self._news_at < now - _CALM_SECONDS
        if gc.isenabled() and (calm or now - self._collected_at > _COLLECT_SECONDS):
            self._collected_at = now
            gc.collect()


def start_over() -> None:
    """The start is over: from here on as usual, but not through what the start made."""
    if not gc.isenabled():
        gc.freeze()
        gc.set_threshold(5_000, 20, _NEVER)
        gc.enable()
