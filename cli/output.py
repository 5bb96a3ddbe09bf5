"""Where words go: data to standard output, talk to standard error, colour only to a terminal.

Every command writes through one ``Output``, and nothing else of the command line writes to either (a test). Whatever a
command hands it, no control byte but those of our own colours passes, to a terminal or a pipe that leads to one, and no
value of a secret that this process knows; JSON is plain ASCII with everything else escaped. ``raw`` alone goes round
that: for bytes that somebody asked for as they are.
"""

from __future__ import annotations

import json
import os
import re
import select
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TextIO

from ..engine.secrets.masking import mask
from ..tui.text.sanitize import clean
from .table import RESET, STYLES, Cell, Column, paint, render, truncate

_NARROWEST: Final = 40
"""Below this many columns a table is no table; lines then wrap in the terminal instead."""


_OUR_COLOURS: Final = frozenset({RESET, *STYLES.values()})
_STEERING: Final = re.compile(
    "\x1b\\[[0-9;]*m|[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
"""What a terminal obeys: control characters but tab and line feed, and what turns the direction of text."""
_EMPTY_BRAILLE: Final = "\u2800"
"""Looks like a blank and is none."""


class Output:
    """Standard output and standard error of one command, and what they can show."""

    def __init__(self, *, as_json: bool = False, colour: bool | None = None) -> None:
        self.as_json = as_json
        self.terminal = _is_terminal(sys.stdout)
        wanted = colour is not False and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.colour = wanted and self.terminal
        self._talk_colour = wanted and _is_terminal(sys.stderr)
        self.unicode = _speaks_unicode(sys.stdout)
        self.width = max(columns_of(sys.stdout), _NARROWEST) if self.terminal else None
        self._poll: select.poll | None = None
        self._said: set[str] = set()
        for stream in (sys.stdout, sys.stderr):
            # A character the terminal's encoding lacks must not end a listing half-way.
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                reconfigure(errors="backslashreplace")

    def line(self, text: str = "") -> None:
        """One line of data."""
        sys.stdout.write(guarded(text) + "\n")

    def raw(self, text: str) -> None:
        """One line of data as it is: whoever asked for it answers for what it does to a terminal."""
        sys.stdout.write(text + "\n")

    def ask(self, question: str) -> str:
        """What the person at the terminal answers."""
        sys.stderr.write(guarded(question))
        sys.stderr.flush()
        return sys.stdin.readline().strip()

    def draw(self, lines: Sequence[str], *, over: int) -> None:
        """Lines of data in place of the last ``over`` ones, which fit the terminal's width."""
        back = f"\x1b[{over}A\r\x1b[J" if over else ""
        sys.stdout.write(back + "".join(guarded(line) + "\n" for line in lines))
        sys.stdout.flush()

    def say(self, text: str, style: str = "") -> None:
        """One line of talk: not data, so it goes to standard error."""
        sys.stdout.flush()
        sys.stderr.write(guarded(paint(text, style, colour=self._talk_colour)) + "\n")

    def say_once(self, text: str, style: str = "") -> None:
        """As ``say``, unless that was said before."""
        if text not in self._said:
            self._said.add(text)
            self.say(text, style)

    def complain(self, text: str) -> None:
        """What went wrong and what to do about it."""
        self.say(f"{paint('flowdeck:', 'bold red', colour=self._talk_colour)} {clean(text)}")

    def paint(self, text: str, style: str) -> str:
        """``text`` in the style if standard output shows colour."""
        return paint(text, style, colour=self.colour)

    def cell(self, text: str | None, style: str = "") -> Cell:
        """A table cell of somebody's data: one line, no control characters, and never the two blanks that part columns.

        Nobody's name can look like further columns, then.
        """
        shown = one_line(text or "").replace(_EMPTY_BRAILLE, " ")
        return Cell(" ".join(shown.split()) if "  " in shown else shown, style)

    def fit(self, text: str, *, indent: int = 0) -> str:
        """``text`` cut to what is left of the terminal's width after ``indent`` columns."""
        return text if self.width is None else truncate(text, self.width - indent, ellipsis=self.ellipsis)

    @property
    def ellipsis(self) -> str:
        """What stands for what was cut."""
        return "…" if self.unicode else "..."

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> None:
        """A table for people."""
        for line in render(columns, rows, width=self.width, colour=self.colour, ellipsis=self.ellipsis):
            self.line(line)

    def json_array(self, items: Iterable[Mapping[str, Any]]) -> None:
        """A JSON array, one object a line, written as the items come."""
        write = sys.stdout.write
        separator = "[\n"
        for item in items:
            write(separator + mask(encode(item)))
            separator = ",\n"
        write("[]\n" if separator == "[\n" else "\n]\n")

    def json_line(self, item: Mapping[str, Any]) -> None:
        """One JSON object on a line of its own, sent at once."""
        sys.stdout.write(mask(encode(item)) + "\n")
        sys.stdout.flush()

    def json_object(self, item: Mapping[str, Any]) -> None:
        """One JSON object, indented for reading."""
        sys.stdout.write(mask(json.dumps(item, indent=2, allow_nan=False)) + "\n")

    def flush(self) -> None:
        """Sends what is buffered; a tail must not keep lines back."""
        sys.stdout.flush()

    def check_reader(self) -> None:
        """Raises ``BrokenPipeError`` when whoever read our output is gone; a tail with nothing to write asks this."""
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(sys.stdout.fileno(), 0)
        if any(flags & select.POLLERR for _, flags in self._poll.poll(0)):
            raise BrokenPipeError


def encode(item: Mapping[str, Any]) -> str:
    """A JSON object in ASCII: control characters and everything beyond ASCII are escaped."""
    return json.dumps(item, separators=(",", ":"), allow_nan=False)


def guarded(text: str) -> str:
    """The text without anything a terminal obeys but our own colours, and without secrets."""
    text = mask(text)
    return text if _STEERING.search(text) is None else _STEERING.sub(_picture, text)


def _picture(found: re.Match[str]) -> str:
    """Shows a control character; an escape sequence that is not ours loses its escape."""
    text = found[0]
    if text in _OUR_COLOURS:
        return text
    code = ord(text[0])
    picture = chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"
    return picture + text[1:]


def one_line(text: str) -> str:
    """``text`` without control characters, its line breaks and tabs as single spaces."""
    if text.isascii() and text.isprintable():
        return text
    return clean(" ".join(text.split()))


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def _speaks_unicode(stream: TextIO) -> bool:
    encoding = getattr(stream, "encoding", None) or "ascii"
    return encoding.lower().replace("-", "").replace("_", "").startswith(("utf", "gb18030"))


def columns_of(stream: TextIO) -> int:
    """How wide the terminal is, as it or ``$COLUMNS`` says; 80 without one."""
    told = os.environ.get("COLUMNS", "")
    if told.isdigit() and int(told) > 0:
        return int(told)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):  # no terminal, or closed
        return 80
