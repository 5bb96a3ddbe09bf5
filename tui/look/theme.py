"""The look: one calm palette, a glyph and a letter per state, and what they fall back to.

A state is never shown by colour alone: glyph, letter and name say it too. Three palettes: ``colour`` (24 bit; the
terminal library maps it to 256), ``ansi`` (the terminal's own 16 colours and background) and ``mono`` (attributes
only, for NO_COLOR). Nothing here reads data.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
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
    flat_cursor: bool
    """The cursor's row has one colour: reversed, the colours of its cells would make a patchwork of backgrounds."""
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
    "AwaitingInput": ("?", "?"),
    "Frozen": ("❆", "Z"),
    "Cached": ("≡", "M"),
    "NotReady": ("⨯", "N"),
    "Skipped": ("↷", "J"),
    "AwaitingRetry": ("↻", "W"),
}

@dataclass(frozen=True)
class _Tones:
    """The colours one palette is made of."""

    background: str
    surface: str
    text: str
    strong: str
    dim: str
    faint: str
    accent: str
    good: str
    warn: str
    bad: str
    head: str
    bar: str
    bar_faint: str
    cursor: str
    cursor_blurred: str
    marked: str
    states: Mapping[str, str]


_TRUE: Final = _Tones(
    background="#0f131a", surface="#161c26", text="#c5cedb", strong="#eef2f8", dim="#8592a6", faint="#4d586a",
    accent="#7fb4ff", good="#7cc492", warn="#e3b768", bad="#f07f86", head="#6c7a90", bar="#a9b5c6",
    bar_faint="#465165", cursor="#22324a", cursor_blurred="#1a2230", marked="#2b2a3f",
    states={
        "SCHEDULED": "#8fa1b8", "PENDING": "#8fb8d8", "RUNNING": "#62b8ff", "PAUSED": "#e3b768",
        "CANCELLING": "#d99a5b", "CANCELLED": "#8a8fa3", "COMPLETED": "#7cc492", "FAILED": "#f07f86",
        "CRASHED": "#e57fc4", "AwaitingInput": "#ffd75f",
        "Frozen": "#8fd6e8", "Cached": "#6fae9a", "NotReady": "#8a8fa3", "Skipped": "#8a8fa3",
        "AwaitingRetry": "#e3b768",
    },
)  # fmt: skip
# What a terminal over SSH mostly has, for COLORTERM is not passed on: colours of the fixed 256 only, so that none is
# rounded into its neighbour.
_FIXED: Final = _Tones(
    background="#121212", surface="#262626", text="#d0d0d0", strong="#eeeeee", dim="#949494", faint="#585858",
    accent="#87afff", good="#87d787", warn="#d7af5f", bad="#ff8787", head="#767676", bar="#bcbcbc",
    bar_faint="#585858", cursor="#3a3a3a", cursor_blurred="#262626", marked="#303030",
    states={
        "SCHEDULED": "#87afaf", "PENDING": "#87afd7", "RUNNING": "#5fafff", "PAUSED": "#d7af5f",
        "CANCELLING": "#d7875f", "CANCELLED": "#8a8a8a", "COMPLETED": "#87d787", "FAILED": "#ff8787",
        "CRASHED": "#d787d7", "AwaitingInput": "#ffd75f",
        "Frozen": "#87d7d7", "Cached": "#5faf87", "NotReady": "#8a8a8a", "Skipped": "#8a8a8a",
        "AwaitingRetry": "#d7af5f",
    },
)  # fmt: skip
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
    "AwaitingInput": "bright_yellow",
    "Frozen": "cyan",
    "Cached": "green",
    "NotReady": "bright_black",
    "Skipped": "bright_black",
    "AwaitingRetry": "yellow",
}
_MONO_BOLD: Final = frozenset({"RUNNING", "FAILED", "CRASHED", "AwaitingInput"})


def _coloured(depth: Depth, tones: _Tones, *, ascii_only: bool) -> Palette:
    surface = tones.surface
    return Palette(
        depth=depth,
        ascii=ascii_only,
        text=Style(color=tones.text),
        strong=Style(color=tones.strong, bold=True),
        dim=Style(color=tones.dim),
        faint=Style(color=tones.faint),
        accent=Style(color=tones.accent),
        good=Style(color=tones.good),
        warn=Style(color=tones.warn),
        bad=Style(color=tones.bad),
        bar=Style(color=tones.bar, bgcolor=surface),
        bar_key=Style(color=tones.strong, bgcolor=surface, bold=True),
        bar_text=Style(color=tones.dim, bgcolor=surface),
        bar_faint=Style(color=tones.bar_faint, bgcolor=surface),
        brand=Style(color=tones.accent, bgcolor=surface, bold=True),
        head=Style(color=tones.head, bgcolor=tones.background),
        cursor=Style(bgcolor=tones.cursor),
        cursor_blurred=Style(bgcolor=tones.cursor_blurred),
        marked=Style(bgcolor=tones.marked),
        flat_cursor=False,
        hit=Style(color=tones.background, bgcolor=tones.warn),
        states={name: Style(color=colour) for name, colour in tones.states.items()},
        base=Style(color=tones.text, bgcolor=tones.background),
        raised=Style(color=tones.text, bgcolor=surface),
    )


def colour_palette(*, ascii_only: bool = False) -> Palette:
    """The palette for terminals of 24-bit colour."""
    return _coloured("colour", _TRUE, ascii_only=ascii_only)


def fixed_palette(*, ascii_only: bool = False) -> Palette:
    """The palette for terminals of 256 colours."""
    return _coloured("256", _FIXED, ascii_only=ascii_only)


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
        cursor=Style(color="default", bgcolor="default", reverse=True),
        cursor_blurred=Style(bold=True),
        marked=Style(bold=True),
        flat_cursor=True,
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
        cursor=Style(color="default", bgcolor="default", reverse=True),
        cursor_blurred=Style(bold=True),
        marked=Style(bold=True),
        flat_cursor=True,
        hit=Style(reverse=True, bold=True),
        states={name: Style(bold=True) if name in _MONO_BOLD else plain for name in _ANSI},
        base=plain,
        raised=plain,
    )


_MAKERS = {"colour": colour_palette, "256": fixed_palette, "ansi": ansi_palette, "mono": mono_palette}


_MODERN: Final = ("alacritty", "foot", "xterm-kitty", "xterm-ghostty", "wezterm", "contour", "rio")
COLOR_SYSTEMS: Final[dict[str, str]] = {"colour": "truecolor", "256": "256", "ansi": "standard", "mono": "standard"}
"""What Rich calls them."""


def depth_of_terminal(environment: Mapping[str, str] | None = None) -> Depth:
    """What this terminal can show: NO_COLOR first, then what TERM and COLORTERM say."""
    env = os.environ if environment is None else environment
    if env.get("NO_COLOR"):
        return "mono"
    term = env.get("TERM", "").lower()
    if term in ("dumb", "unknown", "vt100", "vt102", "vt220"):
        return "mono"
    if env.get("COLORTERM", "").lower() in ("truecolor", "24bit") or term.endswith("direct"):
        return "colour"
    if "256color" in term or term.startswith(_MODERN):
        return "256"
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
    from textual.theme import BUILTIN_THEMES, Theme

    if chosen.depth in ("ansi", "mono"):
        return replace(BUILTIN_THEMES["ansi-dark"], name="flowdeck", accent="ansi_blue")
    tones = _TRUE if chosen.depth == "colour" else _FIXED
    return Theme(
        name="flowdeck", primary=tones.accent, secondary=tones.states["Frozen"], warning=tones.warn, error=tones.bad,
        success=tones.good, accent=tones.accent, foreground=tones.text, background=tones.background,
        surface=tones.surface, panel=tones.surface, dark=True,
        variables={
            "scrollbar": tones.cursor, "scrollbar-hover": tones.faint, "scrollbar-active": tones.faint,
            "scrollbar-background": tones.background, "scrollbar-background-hover": tones.background,
            "scrollbar-background-active": tones.background, "scrollbar-corner-color": tones.background,
            "input-selection-background": tones.cursor,
        },
    )  # fmt: skip
