"""How often Python looks through everything in the process for garbage while a run has many thousand live calls.

A full collection visits each object that is alive: with 100,000 submitted calls a fifth of a second in which nothing
else runs, and calls that come and go make Python begin one every few thousand of them. So they come the rarer the more
calls are alive, at most ten times. It is the user's process: the collector is neither off nor are objects frozen, which
would keep garbage for good. Young objects, where most garbage is, are looked through as often as ever; old garbage is
found later. Thresholds that are not Python's own were set by somebody, and stay; ours go with the calls.
"""

from __future__ import annotations

import gc
from typing import Final

PYTHONS: Final = (700, 10, 10)
"""The thresholds of Python 3.11 to 3.13. Later ones collect in steps, which need no help."""
CALLS_EACH: Final = 10_000
MOST: Final = 10


class FullCollections:
    """Their pace in this process."""

    def __init__(self) -> None:
        self._rarer = 1

    def pace(self, live_calls: int) -> None:
        """Make them come as rarely as so many live calls ask for."""
        rarer = min(MOST, 1 + live_calls // CALLS_EACH)
        if rarer == self._rarer:
            return
        if gc.get_threshold() == _thresholds(self._rarer):
            gc.set_threshold(*_thresholds(rarer))
            self._rarer = rarer

    def leave(self) -> None:
        """As it was before."""
        self.pace(0)


def _thresholds(rarer: int) -> tuple[int, int, int]:
    return PYTHONS[0], PYTHONS[1], PYTHONS[2] * rarer
