"""The line between the daemon and a code host: how messages are framed on it, and by what name a host is started.

JSON messages, one a line. Knows none of the messages, and imports neither side.
"""

from __future__ import annotations

import json
import socket
from typing import Any, Final

CODE_HOST: Final = "flowdeck.engine.running.run_process.code_host"
"""What the daemon starts with ``python -m`` and never imports: it may run users' code."""


class Line:
    """JSON messages over a stream socket, one a line."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._read = bytearray()

    def fileno(self) -> int:
        """For selectors."""
        return self.sock.fileno()

    def send(self, message: dict[str, Any]) -> bool:
        """Send whole; False when nobody is at the other end any more."""
        try:
            self.sock.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        except (BrokenPipeError, ConnectionError):
            return False
        return True

    def receive(self) -> list[dict[str, Any]] | None:
        """What has arrived (waits when nothing has); None when the other end is closed."""
        try:
            data = self.sock.recv(1 << 20)
        except ConnectionError:
            return None
        if not data:
            return None
        self._read += data
        *lines, rest = bytes(self._read).split(b"\n")
        self._read = bytearray(rest)
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        """Close this end."""
        self.sock.close()
