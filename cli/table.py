"""A small table writer: aligned columns, width-aware, truncated to the terminal, coloured by the caller's styles.

Pure: rows of cells in, lines of text out. It imports no terminal library and asks no terminal; whoever calls it says
how wide the terminal is and whether colour is wanted. Cells must be one clean line each (``Output.cell`` makes them
so): nothing here removes control characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

GAP: Final = "  "
RESET: Final = "\x1b[0m"
STYLES: Final[dict[str, str]] = {
    "": "",
    "dim": "\x1b[2m",
    "bold": "\x1b[1m",
    "red": "\x1b[31m",
    "bold red": "\x1b[1;31m",
    "green": "\x1b[32m",
    "yellow": "\x1b[33m",
    "blue": "\x1b[34m",
    "magenta": "\x1b[35m",
    "cyan": "\x1b[36m",
    "bold cyan": "\x1b[1;36m",
    "grey": "\x1b[90m",
}
"""Names of styles to their escape sequences: the sixteen colours every terminal has, and no more."""


class Cell(NamedTuple):
    """One field of a row."""

    text: str
    style: str = ""
    """A key of ``STYLES``."""


class Column(NamedTuple):
    """One column: its title and how it gives way when the terminal is narrow."""

    title: str
    align: Literal["left", "right"] = "left"
    min_width: int | None = None
    """It may be truncated down to this many columns; None: never truncated."""
    drop_order: int = 0
    """When truncation is not enough, columns leave in the order of this number, lowest first; 0: never."""


def paint(text: str, style: str, *, colour: bool) -> str:
    """``text`` in the named style, or as it is where colour is not wanted."""
    return f"{STYLES[style]}{text}{RESET}" if colour and style and text else text


WIDEST: Final = 500
"""Columns a cell may take without a terminal before it pushes the rest of its own line aside: one monstrous name must
not pad every line."""


def display_width(text: str) -> int:
    """How many terminal columns ``text`` takes: wide East Asian characters take two, combining marks none."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(char) or char in _ZERO_WIDTH else 2 if east_asian_width(char) in "WF" else 1
               for char in text)


_ZERO_WIDTH: Final = frozenset("\u200b\u200c\u200d\u2060\ufe0e\ufe0f\ufeff")


def truncate(text: str, width: int, *, ellipsis: str = "…") -> str:
    """``text`` cut to at most ``width`` columns, the last of them an ellipsis if anything was cut."""
    if display_width(text) <= width:
        return text
    room = width - len(ellipsis)
    if room < 0:
        return ellipsis[:width]
    if text.isascii():
        return text[:room] + ellipsis
    kept: list[str] = []
    for char in text:
        room -= display_width(char)
        if room < 0:
            break
        kept.append(char)
    return "".join(kept) + ellipsis


def render(
    columns: Sequence[Column],
    rows: Iterable[Sequence[Cell]],
    *,
    width: int | None,
    colour: bool,
    ellipsis: str = "…",
) -> Iterator[str]:
    """The lines of the table, header first; ``width`` None means as wide as the data, nothing cut."""
    body = [list(row) for row in rows]
    natural = [
        min(WIDEST, max([display_width(column.title), *(display_width(row[i].text) for row in body)]))
        for i, column in enumerate(columns)
    ]
    # A column in which nothing stands would only take room.
    kept = [i for i, column in enumerate(columns)
            if not body or column.drop_order == 0 or any(row[i].text for row in body)]
    widths = natural if width is None else _fit(columns, natural, kept, width)
    header = [Cell(column.title, "dim") for column in columns]
    for row in [header, *body]:
        yield _line(columns, row, widths, kept, colour=colour, ellipsis=ellipsis)


def _fit(columns: Sequence[Column], natural: Sequence[int], kept: list[int], width: int) -> list[int]:
    """Widths that fit, widest truncatable column giving way first; removes columns from ``kept`` if it must."""
    while True:
        widths = list(natural)
        over = sum(widths[i] for i in kept) + len(GAP) * (len(kept) - 1) - width
        while over > 0:
            soft = [i for i in kept if (least := columns[i].min_width) is not None and widths[i] > least]
            if not soft:
                break
            widest = max(soft, key=lambda i: widths[i])
            second = max((widths[i] for i in soft if i != widest), default=0)
            floor = max(columns[widest].min_width or 0, min(second, widths[widest] - 1))
            step = min(over, widths[widest] - floor)
            widths[widest] -= step
            over -= step
        droppable = [i for i in kept if columns[i].drop_order]
        if over <= 0 or not droppable:
            return widths
        kept.remove(min(droppable, key=lambda i: columns[i].drop_order))


def _line(
    columns: Sequence[Column], row: Sequence[Cell], widths: Sequence[int], kept: Sequence[int], *, colour: bool,
    ellipsis: str,
) -> str:
    parts: list[str] = []
    for i in kept:
        text = row[i].text if widths[i] >= WIDEST else truncate(row[i].text, widths[i], ellipsis=ellipsis)
        padding = " " * (widths[i] - display_width(text))
        painted = paint(text, row[i].style, colour=colour)
        if columns[i].align == "right":
            parts.append(padding + painted)
        else:
            parts.append(painted if i == kept[-1] else painted + padding)
    return GAP.join(parts).rstrip()
