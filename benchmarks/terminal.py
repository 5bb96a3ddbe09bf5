"""A program in a pseudo terminal that answers like a terminal, and what its screen showed when.

What came and when is only noted while it runs; an emulator reads it afterwards, so that it takes no time from what is
measured.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ANSWERS = ((b"\x1b[?2026$p", b"\x1b[?2026;2$y"), (b"\x1b[?2048$p", b"\x1b[?2048;0$y"))
"""What a terminal says to the questions that the console asks at its start."""
ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[()][A-Z0-9]")
ROWS, COLUMNS = 45, 160


class Terminal:
    """One program in it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.came: list[tuple[float, bytes]] = []
        self.pressed: list[tuple[float, bytes]] = []
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:
            told = {**environment, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
            for name in ("TMUX", "STY"):
                told.pop(name, None)
            os.chdir(folder)
            os.execvpe(command[0], list(command), told)
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))

    def look(self, seconds: float) -> None:
        """Take what comes in so many seconds."""
        until = time.perf_counter() + seconds
        while (left := until - time.perf_counter()) > 0:
            if not select.select([self._descriptor], [], [], left)[0]:
                return
            data = os.read(self._descriptor, 1 << 16)
            self.came.append((time.perf_counter(), data))
            for question, answer in ANSWERS:
                if question in data:
                    os.write(self._descriptor, answer)

    def see(self, text: str, seconds: float = 15.0) -> None:
        """Wait until this has come since the last key; a busy machine may take its time."""
        since = self.pressed[-1][0] if self.pressed else 0.0
        until = time.perf_counter() + seconds
        while text.encode() not in ESCAPES.sub(b"", b"".join(data for at, data in self.came if at >= since)):
            if time.perf_counter() > until:
                raise RuntimeError(f"{text!r} was not shown within {seconds:g} s")
            self.look(0.05)

    def press(self, key: bytes) -> None:
        """A key, at this moment."""
        self.pressed.append((time.perf_counter(), key))
        os.write(self._descriptor, key)

    def close(self) -> None:
        """End the program."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._descriptor)

    def waits(self, since: float, part: Callable[[list[str]], object]) -> list[float]:
        """Seconds from each key to another look of ``part`` of the screen; inf when the next key came before that."""
        import pyte

        screen = pyte.Screen(COLUMNS, ROWS)
        stream = pyte.ByteStream(screen)
        found: list[float] = []
        pending: tuple[float, object] | None = None
        for at, data in sorted(
            [*((at, None) for at, _ in self.pressed if at >= since), *self.came], key=lambda event: event[0]
        ):
            if data is None:
                if pending is not None:
                    found.append(float("inf"))
                pending = at, part(list(screen.display))
                continue
            stream.feed(data)
            if pending is not None and part(list(screen.display)) != pending[1]:
                found.append(at - pending[0])
                pending = None
        return found
