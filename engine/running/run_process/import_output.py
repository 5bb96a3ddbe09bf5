"""What a flow file prints while a code host imports it: masked on its way to the daemon's own output.

A thread stands between for the time of the import only, and only once a secret is known: the host forks its runs, and
has no threads then. What threads or processes that the import has left behind write later goes to the daemon's output
as it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ...secrets.masking import is_active, when_concealed
from ..output.masked_output import MaskedOutput


class ImportOutput:
    """Within the block descriptors 1 and 2 are masked; what was written has arrived at its end."""

    def __init__(self) -> None:
        self._saved: list[int] = []
        self._masked: list[MaskedOutput] = []
        self._stop_listening: Callable[[], None] | None = None

    def __enter__(self) -> None:
        self._stop_listening = when_concealed(self._begin)
        if is_active():
            self._begin()

    def _begin(self) -> None:
        if not self._masked:
            _flush()
            self._saved = [os.dup(1), os.dup(2)]
            self._masked = [MaskedOutput(1, self._saved[0]), MaskedOutput(2, self._saved[1])]

    def __exit__(self, *_: Any) -> None:
        if self._stop_listening is not None:
            self._stop_listening()
        if not self._masked:
            return
        _flush()
        for descriptor, saved, masked in zip((1, 2), self._saved, self._masked, strict=True):
            os.dup2(saved, descriptor)
            masked.close()
            os.close(saved)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # the file may have closed it, or put anything there
            stream.flush()
