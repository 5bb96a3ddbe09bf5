"""What the daemon says: one line for each thing that happened, for people, for programs (``--json``) and for journald.

A line is a ``str`` that may also say how grave it is and hold facts for programs, so that whoever has something to say
needs only a function that takes text. Whatever stands in it (users' exceptions, paths), it stays one line and controls
no terminal. A reader that is gone, or does not read, stops nobody: the store's events tell the same.
"""

from __future__ import annotations

import json
import logging
import os
import select
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TextIO

from ..secrets.masking import mask

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PIECE_CHARACTERS: Final = 1000
"""A pipe that is writable takes 4096 bytes at once."""
_JOURNAL_LEVELS: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}
"""By Python's levels those of syslog, which journald reads from ``<N>`` at a line's beginning (``man sd-daemon``)."""


class Line(str):
    """A line with its level, and what of it a program wants to have apart."""

    __slots__ = ("facts", "level")

    def __new__(cls, text: str, level: int = logging.INFO, **facts: Any) -> Line:
        """``facts`` are what JSON can hold."""
        line = super().__new__(cls, text)
        line.level, line.facts = level, facts
        return line

    level: int
    facts: dict[str, Any]


class Saying:
    """Writes the daemon's lines to a stream; call it with each."""

    def __init__(self, stream: TextIO, now_us: Callable[[], int], *, as_json: bool = False) -> None:
        self._stream = stream
        self._now_us = now_us
        self._as_json = as_json
        self._to_journal = not as_json and is_journal(stream)
        self._unread = 0
        """Lines that were left out because nobody read those before."""

    def __call__(self, text: str) -> None:
        """Say it; a plain text is of the level INFO."""
        line = text if isinstance(text, Line) else Line(text)
        at = _EPOCH + timedelta(microseconds=self._now_us())
        if self._as_json:
            shown = json.dumps({"at": f"{at.isoformat(timespec='microseconds')[:-6]}Z",
                                "level": logging.getLevelName(line.level).lower(), "text": str(line), **line.facts})
        elif self._to_journal:  # which knows the time
            shown = f"<{_JOURNAL_LEVELS[line.level]}>{_one_line(line)}"
        else:
            shown = f"{at.astimezone().isoformat(' ', 'milliseconds')} {_one_line(line)}"
        self._write(shown)

    def trouble(self, text: str, error: Exception | None) -> None:
        """A step of the daemon failed; ``error`` when where it came from is of use."""
        trace = "" if error is None else "".join(traceback.format_exception(error))
        self(Line(f"trouble: {text}", logging.ERROR, **({"traceback": trace} if trace else {})))
        if not self._as_json:
            for line in trace.splitlines():
                self._write(f"<3>{_one_line(line)}" if self._to_journal else _one_line(line))

    def _write(self, line: str) -> None:
        if self._unread and _takes_more(self._stream):
            unread, self._unread = self._unread, 0
            self(Line(f"{unread} lines were not said: nobody read them", logging.WARNING))
        text = mask(line) + "\n"
        try:
            for first in range(0, len(text), _PIECE_CHARACTERS):
                if not _takes_more(self._stream):
                    self._unread += 1
                    return
                self._stream.write(text[first : first + _PIECE_CHARACTERS])
                self._stream.flush()
        except (OSError, ValueError):
            return  # whoever read this is gone, or the disk full; the events tell the same, and runs matter more


def _takes_more(stream: TextIO) -> bool:
    """Whether a piece can be written without waiting for whoever reads: a pager, a stopped terminal."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
        return bool(poll.poll(0))
    except (OSError, ValueError):  # closed, or none of the system's
        return True


def is_journal(stream: TextIO) -> bool:
    """Whether systemd connected the stream to its journal: it says which file that is."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or none of the system's
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _one_line(text: str) -> str:
    if text.isprintable():
        return str(text)
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
