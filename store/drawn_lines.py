"""Lines as a terminal would show them: what ``\\r``, backspace and moves of the cursor overwrote is gone. Pure.

A progress bar is one line that is drawn again and again; what is kept of it is its last state. Bounded, whatever is
written: so many cells a row, so many rows that a cursor can still come back to.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

MAX_CELLS: Final = 4096
"""The width beyond which a drawn row is cut."""
MAX_ROWS: Final = 64
"""Rows that may still be drawn over."""
_HIDDEN_CURSOR_ROWS: Final = 32
"""Who hides the cursor draws blocks of rows: so many are held until it shows the cursor again."""
_MAX_STYLE: Final = 128
_TOKEN: Final = re.compile(
    r"[\n\r\b\t]|\x1b\[(?P<given>[0-9;:?<=>]*)[ -/]*(?P<what>[@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|[^\n\r\b\t\x1b]+|\x1b"
)

_Cell = tuple[str, str]
"""Its colours, as sequences, and its character; empty behind a wide one."""


def as_drawn(line: str) -> str:
    """What a terminal shows of one line, which moves its cursor, in the end."""
    drawing = Drawing()
    drawing.feed(line)
    return drawing.row_text()


class Drawing:
    """The rows that a stream of text can still change."""

    def __init__(self) -> None:
        self._rows: list[list[_Cell]] = [[]]
        self._row = 0
        self._column = 0
        self._style = ""
        self._reach = 0
        """How many rows above the lowest one the cursor has been: so many are held."""

    def feed(self, text: str) -> list[str]:
        """Draw; returns the rows that are beyond its reach now."""
        done: list[str] = []
        for found in _TOKEN.finditer(text):
            piece = found[0]
            if piece == "\n":
                self._row, self._column = self._row + 1, 0
                if self._row == len(self._rows):
                    self._rows.append([])
            elif piece == "\r":
                self._column = 0
            elif piece == "\b":
                self._column = max(0, self._column - 1)
            elif piece == "\t":
                self._put(" " * (8 - self._column % 8))
            elif found["what"] is not None:
                self._control(found["given"], found["what"], piece)
            elif not piece.startswith("\x1b"):
                self._put(piece)
            while len(self._rows) - 1 > min(self._reach, MAX_ROWS - 1) and self._row > 0:
                done.append(_text(self._rows.pop(0)))
                self._row -= 1
        return done

    def row_text(self) -> str:
        """The row the cursor stands in."""
        return _text(self._rows[self._row])

    def rows(self) -> list[str]:
        """All that is held, without empty rows below it."""
        rows = [_text(row) for row in self._rows]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    @property
    def is_plain(self) -> bool:
        """Whether nothing is held: the next text may be taken as it comes."""
        return self._reach == 0 and len(self._rows) == 1 and not self._rows[0] and not self._style

    def _put(self, text: str) -> None:
        row = self._rows[self._row]
        for char in text:
            if self._column >= MAX_CELLS:
                return
            if unicodedata.combining(char) and 0 < self._column <= len(row):
                style, before = row[self._column - 1]
                row[self._column - 1] = (style, (before + char)[:8])
                continue
            if len(row) < self._column:
                row += [("", " ")] * (self._column - len(row))
            cells = [(self._style, char)]
            if not char.isascii() and unicodedata.east_asian_width(char) in "WF":
                cells.append((self._style, ""))
            row[self._column : self._column + len(cells)] = cells
            self._column += len(cells)

    def _control(self, given: str, what: str, piece: str) -> None:
        first = given.split(";")[0]
        number = int(first[:6]) if first.isdecimal() else 0
        row, step = self._rows[self._row], max(1, number)
        if what == "m":
            self._style = "" if given in ("", "0") else (self._style + piece)[:_MAX_STYLE]
        elif what in "AF":
            self._up(step)
            self._column = 0 if what == "F" else self._column
        elif what in "BE":
            self._row = min(len(self._rows) - 1, self._row + step)
            self._column = 0 if what == "E" else self._column
        elif what == "C":
            self._column = min(MAX_CELLS, self._column + step)
        elif what == "D":
            self._column = max(0, self._column - step)
        elif what == "G":
            self._column = min(MAX_CELLS, step - 1)
        elif what in "KX":
            self._erase(row, number, what)
        elif what == "J":
            del row[self._column :]
            del self._rows[self._row + 1 :]
        elif what == "P":
            del row[self._column : self._column + step]
        elif given == "?25" and what in "lh":
            self._reach = max(self._reach, _HIDDEN_CURSOR_ROWS) if what == "l" else 0

    def _erase(self, row: list[_Cell], number: int, what: str) -> None:
        if what == "X":
            end = min(len(row), self._column + max(1, number))
            row[self._column : end] = [("", " ")] * max(0, end - self._column)
        elif number == 0:
            del row[self._column :]
        elif number == 1:
            row[: self._column + 1] = [("", " ")] * min(len(row), self._column + 1)
        else:
            row.clear()

    def _up(self, step: int) -> None:
        """Above what is held stand rows that are stored already: new ones are drawn over them."""
        above = min(step, MAX_ROWS) - self._row
        if above > 0:
            self._rows[:0] = [[] for _ in range(min(above, MAX_ROWS - len(self._rows)))]
            self._row = 0
        else:
            self._row -= step
        self._reach = max(self._reach, len(self._rows) - 1 - self._row)


def _text(row: list[_Cell]) -> str:
    if not any(style for style, _ in row):
        return "".join(char for _, char in row).rstrip(" ")
    parts: list[str] = []
    before = ""
    for style, char in row:
        if style != before:
            parts.append(("\x1b[0m" if before else "") + style)
            before = style
        parts.append(char)
    return "".join(parts).rstrip(" ") + ("\x1b[0m" if before else "")
