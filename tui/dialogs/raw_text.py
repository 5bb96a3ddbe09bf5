"""Text from data in a field that a person may change: shown made safe, taken back as it was where it was left alone."""

from __future__ import annotations

from ..look.cells import safe


class RawText:
    """What a field begins with: ``shown`` in it, and what its text stands for once it is taken."""

    __slots__ = ("_raw", "shown")

    def __init__(self, raw: str) -> None:
        self._raw = raw
        self.shown = safe(raw)

    def meant(self, typed: str) -> str:
        """The text as the data has it when nobody changed it, else what was typed."""
        return self._raw if typed == self.shown else typed
