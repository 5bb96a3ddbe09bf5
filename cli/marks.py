"""How a state looks: a glyph and a colour for each, so that a list can be read without reading.

Pure. Glyphs are one column wide in every font; where the terminal speaks no Unicode a letter stands instead.
"""

from __future__ import annotations

from typing import Final

_GLYPHS: Final[dict[str, tuple[str, str]]] = {
    "SCHEDULED": ("○", "S"),
    "PENDING": ("◌", "P"),
    "RUNNING": ("●", "R"),
    "PAUSED": ("‖", "H"),
    "CANCELLING": ("⊖", "L"),
    "CANCELLED": ("⊘", "X"),
    "COMPLETED": ("✓", "C"),
    "FAILED": ("✗", "F"),
    "CRASHED": ("↯", "K"),
    "AwaitingInput": ("?", "?"),
    "Frozen": ("❆", "Z"),
    "Cached": ("≡", "M"),
    "NotReady": ("⨯", "N"),
    "Skipped": ("↷", "J"),
    "AwaitingRetry": ("↻", "W"),
}
"""The console's own glyphs and letters (``tui.theme``, which loads Rich; a test holds the two equal)."""
_STYLES: Final[dict[str, str]] = {
    "SCHEDULED": "blue",
    "PENDING": "blue",
    "RUNNING": "bold cyan",
    "PAUSED": "yellow",
    "CANCELLING": "yellow",
    "CANCELLED": "grey",
    "COMPLETED": "green",
    "FAILED": "red",
    "CRASHED": "bold red",
}
_STYLES_BY_NAME: Final[dict[str, str]] = {
    "Late": "yellow",
    "AwaitingInput": "yellow",
    "AwaitingRetry": "yellow",
    "Retrying": "yellow",
    "Pausing": "yellow",
    "Frozen": "cyan",
    "NotReady": "grey",
}


def glyph(state_type: str, state_name: str, *, unicode: bool) -> str:
    """One column that stands for the state."""
    pair = _GLYPHS.get(state_name) or _GLYPHS.get(state_type, ("?", "?"))
    return pair[0] if unicode else pair[1]


def style(state_type: str, state_name: str) -> str:
    """The table style of the state; empty for a type this version does not know."""
    return _STYLES_BY_NAME.get(state_name) or _STYLES.get(state_type, "")


def words(state_name: str) -> str:
    """A state's name as people say it: ``NotReady`` is ``not ready``."""
    return "".join(f" {char.lower()}" if char.isupper() else char for char in state_name).strip()
