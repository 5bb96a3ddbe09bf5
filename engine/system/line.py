"""The line between the daemon and a code host: how messages are framed on it, and by what name a host is started.

JSON messages, one a line. No end ever waits for the other: what the kernel does not take at once is kept here, up to a
bound, until the descriptor is writable. Knows none of the messages, and imports neither side.
"""

from __future__ import annotations

import json
import select
import socket
from typing import Any, Final

CODE_HOST: Final = "flowdeck.engine.running.run_process.code_host"
"""What the daemon starts with ``python -m`` and never imports: it may run users' code."""
NURSERY: Final = "flowdeck.engine.running.run_process.nursery"
"""Forks code hosts; started and never imported, too."""
MOST_UNSENT_BYTES: Final = 1 << 20
"""More than this is kept for nobody: who has not read so much does not read any more."""


class Line:
    """JSON messages over a stream socket, one a line."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._read = bytearray()
        self._unsent = bytearray()

    def fileno(self) -> int:
        """For selectors."""
        return self.sock.fileno()

    @property
    def unsent_bytes(self) -> int:
        """What waits for the other end to read: ``flush`` once the descriptor is writable."""
        return len(self._unsent)

    def send(self, message: dict[str, Any]) -> bool:
        """Send, or keep what is not taken at once; False when nobody is at the other end, or nobody reads there."""
        if len(self._unsent) > MOST_UNSENT_BYTES:
            return False
        self._unsent += json.dumps(message, separators=(",", ":")).encode() + b"\n"
        return self.flush()

    def flush(self) -> bool:
        """Hand the kernel what it takes now; False when nobody is at the other end any more."""
        try:
            while self._unsent:
                del self._unsent[: self.sock.send(self._unsent)]
        except BlockingIOError:
            return True
        except OSError:
            self._unsent.clear()
            return False
        return True

    def finish(self) -> bool:
        """Wait until all is sent: for a process that has nothing else to do and then ends."""
        while self._unsent:
            select.select([], [self.sock], [])
            if not self.flush():
                return False
        return True

    def receive(self) -> list[dict[str, Any]] | None:
        """What has arrived; None when the other end is closed, or speaks something else."""
        try:
            data = self.sock.recv(1 << 20)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        self._read += data
        *lines, rest = bytes(self._read).split(b"\n")
        self._read = bytearray(rest)
        try:
            return [json.loads(line) for line in lines]
        except ValueError:
            return None

    def close(self) -> None:
        """Close this end."""
        self.sock.close()
