"""What a flow file prints while it is imported, and whatever that started: lines of the daemon's log.

It comes through a pipe, so that one file can neither fill the disk nor tear a log that is written for programs: lines
are whole, bear the file's path, hold no secrets, and come no faster than anybody would read them; of what is beyond the
number of lines is told. Who prints too much is read slowly and waits meanwhile. The host holds the pipe's other end as
well and empties it when the daemon is gone, so that nobody is ended by printing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, Protocol

from ..secrets.masking import mask
from ..system.clock import Clock
from .saying import Line

READ_BYTES: Final = 64 * 1024
MOST_CHARACTERS: Final = 2_000
"""Of one line."""
LINES_AT_ONCE: Final = 200
LINES_PER_SECOND: Final = 5
"""After that many at once."""
SLOW_SECONDS: Final = 0.25
"""Between reads of a file that prints more than that."""


class Descriptors(Protocol):
    """What watches descriptors and calls back later: the daemon's loop."""

    def watch(self, descriptor: int, ready: Callable[[], None]) -> None:
        """Call back whenever the descriptor is readable."""

    def forget(self, descriptor: int) -> None:
        """Watch it no more."""

    def after(self, seconds: float, callback: Callable[[], None]) -> object:
        """Call back once, so much later."""


class HostOutput:
    """The pipe of one code host, and its lines."""

    def __init__(self, path: str, loop: Descriptors, say: Callable[[str], None], clock: Clock) -> None:
        self._path = path
        self._loop = loop
        self._say = say
        self._begun = b""
        """A line that has no end yet."""
        self._is_too_long = False
        """The line has no end yet and was told as far as lines are shown."""
        self._room = float(LINES_AT_ONCE)
        self._clock = clock
        self._counted_at = clock().monotonic
        self._left_out = 0
        self._is_watched = False
        self.read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.read_end, False)
        self._watch()

    def handed_over(self) -> None:
        """The host has its end."""
        os.close(self.write_end)

    def close(self) -> None:
        """Say what has come, and hear no more."""
        self._read()
        if self._begun and not self._is_too_long:
            self._tell(self._begun)
        self._tell_of_left_out()
        if self._is_watched:
            self._loop.forget(self.read_end)
        os.close(self.read_end)
        self.read_end = -1

    def _watch(self) -> None:
        if self.read_end >= 0:
            self._is_watched = True
            self._loop.watch(self.read_end, self._hear)

    def _hear(self) -> None:
        has_ended = not self._read()
        if has_ended or self._room < 1:
            self._loop.forget(self.read_end)
            self._is_watched = False
        if not has_ended and self._room < 1:
            self._loop.after(SLOW_SECONDS, self._watch)

    def _read(self) -> bool:
        """A piece of what has come; False when nobody can print any more."""
        try:
            data = os.read(self.read_end, READ_BYTES)
        except BlockingIOError:
            return True
        *lines, self._begun = (self._begun + data).split(b"\n")
        for line in lines:
            if not self._is_too_long:
                self._tell(line)
            self._is_too_long = False
        if len(self._begun) > READ_BYTES:
            if not self._is_too_long:
                self._tell(self._begun)
            self._begun, self._is_too_long = b"", True  # the end of a secret would be known as none
        return bool(data)

    def _tell(self, line: bytes) -> None:
        now = self._clock().monotonic
        self._room = min(LINES_AT_ONCE, self._room + (now - self._counted_at) * LINES_PER_SECOND)
        self._counted_at = now
        if self._room < 1:
            self._left_out += 1
            return
        self._tell_of_left_out()
        self._room -= 1
        text = mask(line.decode("utf-8", "replace").rstrip("\r"))
        if len(text) > MOST_CHARACTERS:
            text = f"{text[:MOST_CHARACTERS]}…"
        self._say(Line(f"{self._path} prints: {text}", file=self._path))

    def _tell_of_left_out(self) -> None:
        if self._left_out:
            left_out, self._left_out = self._left_out, 0
            self._say(Line(f"{self._path} prints more: {left_out} lines are left out", file=self._path))
