"""The border for text that comes from data: flow names, parameters, exceptions, log lines, paths.

Pure; imports nothing of Textual or Rich, so that the command line uses the same one. Promises: what it returns holds
no control character, no escape sequence, no bidirectional control, nothing invisible, no lone surrogate, no tab and
(for ``clean``) no line break; and what was taken away was never visible in a terminal, except that control characters
are shown as pictures. It does not escape markup: nothing of the console reads markup out of data at all.
"""

from __future__ import annotations

import re
import unicodedata

TAB_WIDTH = 8
MAX_LINE_CHARS = 16_384
"""Longer single lines are cut: no screen shows them, and width sums over them would cost a frame."""

_COLOUR_SEQUENCES = re.compile(r"(?:\x1b\[|\x9b)[0-9;:]*[mK]")
"""Colours and erase-to-end-of-line: they carry no text, and programs write them all the time. All others are shown."""
_LINE_BREAKS = re.compile("\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]")
_MAX_MARKS = 2
"""Combining marks kept on one character; stacks of them ("zalgo") climb into the neighbouring lines."""

_ZERO_WIDTH = frozenset(
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u200b\u200c\u200d\u2060\u2061\u2062\u2063\u2064"
    "\u2065\u206a\u206b\u206c\u206d\u206e\u206f\u3164\ufeff\uffa0"
)
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
REPLACEMENT = "\ufffd"
"""Stands for what has no picture of its own: C1 controls, bidirectional controls, surrogates, points that
are unassigned or private."""


def clean(text: str, *, limit: int = MAX_LINE_CHARS) -> str:
    """One line that is safe to show; a line break becomes a space."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    return _neutral(_LINE_BREAKS.sub(" ", _COLOUR_SEQUENCES.sub("", text)))


def clean_lines(text: str, *, limit: int = MAX_LINE_CHARS, max_lines: int = 100_000) -> list[str]:
    """Every line of a text (a traceback, a markdown artifact), each safe to show."""
    lines = _LINE_BREAKS.split(text.rstrip("\r\n"), maxsplit=max_lines)
    if len(lines) > max_lines:
        lines[max_lines:] = ["…"]
    return [clean(line, limit=limit) for line in lines]


def to_ascii(text: str) -> str:
    """Only printable ASCII, for terminals that have nothing else; what cannot be shown becomes ``?``."""
    if text.isascii():
        return text
    folded = unicodedata.normalize("NFKD", text.translate(_ASCII_LOOKALIKES))
    plain = "".join(char for char in folded if not unicodedata.combining(char))
    return plain.encode("ascii", "replace").decode("ascii")


_ASCII_LOOKALIKES = str.maketrans({
    "…": "...", "·": ".", "–": "-", "—": "-", "→": "->", "←": "<-", "×": "x", "•": "*", "›": ">", "‹": "<",
    "“": '"', "”": '"', "‘": "'", "’": "'",
})


def _neutral(text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    out: list[str] = []
    column = 0
    marks = 0
    for char in text:
        if " " <= char <= "~":
            out.append(char)
            column += 1
            marks = 0
            continue
        if char == "\t":
            spaces = TAB_WIDTH - column % TAB_WIDTH
            out.append(" " * spaces)
            column += spaces
            marks = 0
            continue
        category = unicodedata.category(char)
        if category in ("Mn", "Me"):
            marks += 1
            # A mark without a base would join the cell before the text, which is not ours.
            if char not in _ZERO_WIDTH and not _is_variation_selector(char) and column and marks <= _MAX_MARKS:
                out.append(char)
            continue
        picture = _picture(char, category)
        if picture:
            out.append(picture)
            column += 2 if unicodedata.east_asian_width(picture) in "WF" else 1
            marks = 0
    return "".join(out)


def _picture(char: str, category: str) -> str:
    """What stands for this character: itself, a picture, or nothing."""
    if category == "Cc":
        code = ord(char)
        if code < 0x20:
            return chr(0x2400 + code)
        return "␡" if code == 0x7F else REPLACEMENT
    if char in _ZERO_WIDTH:
        return ""
    if char in _BIDI:
        return REPLACEMENT
    if category == "Cf":
        return ""  # interlinear marks, tags, further format characters: all invisible
    if category in ("Cs", "Cn", "Co"):
        return REPLACEMENT
    if category in ("Zs", "Zl", "Zp"):
        return " " if char != "\u3000" else char
    return char


def _is_variation_selector(char: str) -> bool:
    return "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"
