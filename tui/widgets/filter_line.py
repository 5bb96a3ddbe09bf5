"""The line where a filter is typed. Made when it is first wanted, so that no start waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from textual import on
from textual.widgets import Input

DELAY_SECONDS: Final = 0.12
"""After the last key, before what was typed so far is tried."""


class FilterLine(Input):
    """Hands on what is typed after a short rest, and what was entered at once."""

    DEFAULT_CSS = """
    FilterLine#filter-line { height: 1; border: none; margin: 0 1; width: 1fr; display: none; }
    FilterLine#filter-line.open { display: block; }
    """

    def __init__(self, placeholder: str, typed: Callable[[str], None], entered: Callable[[str], None]) -> None:
        super().__init__(placeholder=placeholder, id="filter-line", compact=True)
        self.cursor_blink = False
        self._tell_typed = typed
        self._tell_entered = entered

    @property
    def is_open(self) -> bool:
        """Whether somebody types."""
        return self.has_class("open")

    def open(self, text: str) -> None:
        """Begin with this text."""
        self.value = text
        self.add_class("open")
        self.focus()

    def close(self) -> None:
        """Out of sight."""
        self.remove_class("open")

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if self.is_open:
            self.set_timer(DELAY_SECONDS, lambda: self._rested(event.value))

    def _rested(self, text: str) -> None:
        """Hand on what was typed, unless more was typed since or the line was left."""
        if self.is_open and self.value == text:
            self._tell_typed(text)

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        self._tell_entered(event.value)
