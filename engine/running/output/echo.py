"""Log lines on their way to a person's terminal: text from data must not steer it. Pure.

What a user's own code prints goes there as it is, colours and progress bars included, as without Flowdeck.
"""

from __future__ import annotations

import re

_COLOURS = re.compile(r"(?:\x1b\[|\x9b)[0-9;:]*[mK]")
"""They carry no text; all other sequences are shown."""
_STEERING = re.compile("\r\n|[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and line feed, and what turns the direction of text."""


def for_terminal(text: str) -> str:
    """The same text with nothing in it that a terminal obeys: control characters are shown as pictures."""
    if _STEERING.search(text) is None:
        return text
    return _STEERING.sub(_picture, _COLOURS.sub("", text))


def _picture(found: re.Match[str]) -> str:
    text = found[0]
    if text == "\r\n":
        return "\n"
    code = ord(text[0])
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"
