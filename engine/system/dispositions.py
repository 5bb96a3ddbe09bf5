"""What a process makes of signals: what it was started to ignore stays ignored, as ``nohup`` and shells want it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any


def is_ignored(number: signal.Signals) -> bool:
    """Whether it does nothing in this process; right also in what was forked of one that had it ignored."""
    return signal.getsignal(number) is signal.SIG_IGN


def handle(number: signal.Signals, handler: Callable[..., Any]) -> None:
    """Have ``handler`` called for it, unless it is ignored."""
    if not is_ignored(number):
        signal.signal(number, handler)


class Inherited:
    """What a process found when it began, for those it starts after it has changed that for itself."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self._ignored = {number: is_ignored(number) for number in numbers}

    def restore(self) -> None:
        """In a forked child: as if it had been started afresh, by whoever started its parent."""
        for number, was_ignored in self._ignored.items():
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, signal.SIG_IGN if was_ignored else default)

    def defaults(self) -> list[signal.Signals]:
        """What a new program is to find at its default, whatever this process makes of it."""
        return [number for number, was_ignored in self._ignored.items() if not was_ignored]
