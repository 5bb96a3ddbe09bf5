"""The look: one calm palette, a glyph and a letter per state, and what they fall back to.

A state is never shown by colour alone: glyph, letter and name say it too. Three palettes: ``colour`` (24 bit; the
terminal library maps it to 256), ``ansi`` (the terminal's own 16 colours and background) and ``mono`` (attributes
only, for NO_COLOR). Nothing here reads data.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from rich.style import Style

if TYPE_CHECKING:
    from collections.abc import Mapping

    from textual.theme import Theme

Depth = Literal["colour", "256", "ansi", "mono"]


class Look(NamedTuple):
    """How a state shows."""

    glyph: str
    letter: str
    """Also the glyph in ASCII mode; unique."""
    style: Style


@dataclass(frozen=True)
class Palette:
    """Every style the console draws with. Row backgrounds are added under the text's style."""

    depth: Depth
    ascii: bool
    text: Style
    strong: Style
    dim: Style
    faint: Style
    accent: Style
    good: Style
    warn: Style
    bad: Style
    bar: Style
    """Header and footer lines."""
    bar_key: Style
    bar_text: Style
    bar_faint: Style
    """A key that does nothing here."""
    brand: Style
    head: Style
    """Column titles."""
    cursor: Style
    cursor_blurred: Style
    marked: Style
    hit: Style
    """A search hit."""
    states: Mapping[str, Style] = field(repr=False)
    base: Style
    """The widget background."""
    raised: Style
    """The background of dialogs."""

    def look(self, state_type: str, state_name: str = "") -> Look:
        """Glyph, letter and style of a state; a name that has its own look wins over its type."""
        kind = state_name if state_name in _GLYPHS else state_type
        glyph, letter = _GLYPHS.get(kind, ("?", "?"))
        return Look(letter if self.ascii else glyph, letter, self.states.get(kind, self.text))

    def glyph(self, unicode_glyph: str, ascii_glyph: str) -> str:
        """The one that this terminal can show."""
        return ascii_glyph if self.ascii else unicode_glyph


# Only glyphs that are one cell wide everywhere and have no emoji form.
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
    "Frozen": ("❆", "Z"),
    "Cached": ("≡", "M"),
    "NotReady": ("⨯", "N"),
    "Skipped": ("↷", "J"),
    "AwaitingRetry": ("↻", "W"),
}

_COLOURS: Final[dict[str, str]] = {
    "SCHEDULED": "#8fa1b8",
    "PENDING": "#8fb8d8",
    "RUNNING": "#62b8ff",
    "PAUSED": "#e3b768",
    "CANCELLING": "#d99a5b",
    "CANCELLED": "#8a8fa3",
    "COMPLETED": "#7cc492",
    "FAILED": "#f07f86",
    "CRASHED": "#e57fc4",
    "Frozen": "#8fd6e8",
    "Cached": "#6fae9a",
    "NotReady": "#8a8fa3",
    "Skipped": "#8a8fa3",
    "AwaitingRetry": "#e3b768",
}
_ANSI: Final[dict[str, str]] = {
    "SCHEDULED": "default",
    "PENDING": "cyan",
    "RUNNING": "bright_blue",
    "PAUSED": "yellow",
    "CANCELLING": "yellow",
    "CANCELLED": "bright_black",
    "COMPLETED": "green",
    "FAILED": "red",
    "CRASHED": "magenta",
    "Frozen": "cyan",
    "Cached": "green",
    "NotReady": "bright_black",
    "Skipped": "bright_black",
    "AwaitingRetry": "yellow",
}
_MONO_BOLD: Final = frozenset({"RUNNING", "FAILED", "CRASHED"})

BACKGROUND: Final = "#0f131a"
SURFACE: Final = "#161c26"


def colour_palette(*, ascii_only: bool = False) -> Palette:
    """The palette for 24-bit and 256-colour terminals."""
    return Palette(
        depth="colour",
        ascii=ascii_only,
        text=Style(color="#c5cedb"),
        strong=Style(color="#eef2f8", bold=True),
        dim=Style(color="#8592a6"),
        faint=Style(color="#4d586a"),
        accent=Style(color="#7fb4ff"),
        good=Style(color=_COLOURS["COMPLETED"]),
        warn=Style(color=_COLOURS["PAUSED"]),
        bad=Style(color=_COLOURS["FAILED"]),
        bar=Style(color="#a9b5c6", bgcolor=SURFACE),
        bar_key=Style(color="#eef2f8", bgcolor=SURFACE, bold=True),
        bar_text=Style(color="#8592a6", bgcolor=SURFACE),
        bar_faint=Style(color="#465165", bgcolor=SURFACE),
        brand=Style(color="#7fb4ff", bgcolor=SURFACE, bold=True),
        head=Style(color="#6c7a90", bgcolor=BACKGROUND),
        cursor=Style(bgcolor="#22324a"),
        cursor_blurred=Style(bgcolor="#1a2230"),
        marked=Style(bgcolor="#2b2a3f"),
        hit=Style(color="#10141b", bgcolor="#e3b768"),
        states={name: Style(color=colour) for name, colour in _COLOURS.items()},
        base=Style(color="#c5cedb", bgcolor=BACKGROUND),
        raised=Style(color="#c5cedb", bgcolor=SURFACE),
    )


def ansi_palette(*, ascii_only: bool = False) -> Palette:
    """The palette for 16 colours: the terminal's own colours on its own background."""
    return Palette(
        depth="ansi",
        ascii=ascii_only,
        text=Style(color="default"),
        strong=Style(color="default", bold=True),
        dim=Style(color="bright_black"),
        faint=Style(color="bright_black"),
        accent=Style(color="bright_blue"),
        good=Style(color="green"),
        warn=Style(color="yellow"),
        bad=Style(color="red"),
        bar=Style(color="default", bgcolor="default"),
        bar_key=Style(color="default", bgcolor="default", bold=True),
        bar_text=Style(color="default", bgcolor="default"),
        bar_faint=Style(color="bright_black", bgcolor="default"),
        brand=Style(color="bright_blue", bgcolor="default", bold=True),
        head=Style(color="bright_black", bgcolor="default", underline=True),
        cursor=Style(reverse=True),
        cursor_blurred=Style(bold=True),
        marked=Style(underline=True),
        hit=Style(color="black", bgcolor="yellow"),
        states={name: Style(color=colour) for name, colour in _ANSI.items()},
        base=Style(color="default", bgcolor="default"),
        raised=Style(color="default", bgcolor="default"),
    )


def mono_palette(*, ascii_only: bool = False) -> Palette:
    """The palette without any colour: bold, dim, underline and reverse only."""
    plain = Style(color="default", bgcolor="default")
    return Palette(
        depth="mono",
        ascii=ascii_only,
        text=plain,
        strong=Style(bold=True),
        dim=Style(dim=True),
        faint=Style(dim=True),
        accent=Style(underline=True),
        good=plain,
        warn=Style(bold=True),
        bad=Style(bold=True),
        bar=plain,
        bar_key=Style(bold=True),
        bar_text=plain,
        bar_faint=Style(dim=True),
        brand=Style(bold=True),
        head=Style(underline=True),
        cursor=Style(reverse=True),
        cursor_blurred=Style(bold=True),
        marked=Style(underline=True),
        hit=Style(reverse=True, bold=True),
        states={name: Style(bold=True) if name in _MONO_BOLD else plain for name in _COLOURS},
        base=plain,
        raised=plain,
    )


_MAKERS = {"colour": colour_palette, "ansi": ansi_palette, "mono": mono_palette}


def depth_of_terminal(environment: Mapping[str, str] | None = None) -> Depth:
    """What this terminal can show: NO_COLOR first, then what TERM and COLORTERM say."""
    env = os.environ if environment is None else environment
    if env.get("NO_COLOR"):
        return "mono"
    term = env.get("TERM", "").lower()
    if term in ("dumb", "unknown", "vt100", "vt102", "vt220"):
        return "mono"
    if env.get("COLORTERM", "").lower() in ("truecolor", "24bit") or "256color" in term or "direct" in term:
        return "colour"
    if term.startswith(("alacritty", "foot", "xterm-kitty", "xterm-ghostty", "wezterm", "contour")):
        return "colour"
    return "ansi"


def make(depth: Depth, *, ascii_only: bool = False) -> Palette:
    """The palette of that depth."""
    return _MAKERS[depth](ascii_only=ascii_only)


_current: Palette = colour_palette()


def palette() -> Palette:
    """The palette in use. Set once at start, before the first widget draws."""
    return _current


def use(chosen: Palette) -> None:
    """Draw with this palette from now on."""
    global _current
    _current = chosen


def textual_theme(chosen: Palette) -> Theme:
    """The same look for Textual's own widgets (inputs, scroll bars)."""
    from textual.theme import Theme

    if chosen.depth != "colour":
        return Theme(
            name="flowdeck", ansi=True, primary="ansi_blue", secondary="ansi_cyan", warning="ansi_yellow",
            error="ansi_red", success="ansi_green", accent="ansi_blue", foreground="ansi_default",
            background="ansi_default", surface="ansi_default", panel="ansi_default", boost="ansi_default", dark=True,
            variables={
                "input-cursor-background": "ansi_white", "input-cursor-foreground": "ansi_black",
                "input-selection-background": "ansi_bright_blue", "input-selection-foreground": "ansi_black",
            },
        )
    return Theme(
        name="flowdeck", primary="#7fb4ff", secondary="#8fd6e8", warning="#e3b768", error="#f07f86",
        success="#7cc492", accent="#7fb4ff", foreground="#c5cedb", background=BACKGROUND, surface=SURFACE,
        panel="#1d2532", dark=True,
        variables={
            "scrollbar": "#2a3546", "scrollbar-hover": "#3a4a61", "scrollbar-active": "#4a5f7d",
            "scrollbar-background": BACKGROUND, "scrollbar-background-hover": BACKGROUND,
            "scrollbar-background-active": BACKGROUND, "scrollbar-corner-color": BACKGROUND,
            "input-selection-background": "#2f4a72",
        },
    )
