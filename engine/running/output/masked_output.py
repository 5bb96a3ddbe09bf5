"""Descriptors 1 and 2 of a run that knows secrets: a pipe, from which everything goes masked into the spool at once.

Without secrets those descriptors are the spool files themselves, and a kill loses nothing. With them, what is in the
pipe at the moment of a ``kill -9`` is lost, and an end that may be the beginning of a secret's value: a value in the
clear would be worse.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios
import threading
import time
from typing import Final

from ...secrets.masking import mask_bytes, undecided

_SETTLE_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 0.5
_IDLE_SECONDS: Final = 0.01
_FULL_DISK_SECONDS: Final = 0.05
"""Between tries while the disk is full: who prints waits, as without us."""


class MaskedOutput:
    """Stands between one descriptor and its spool file."""

    def __init__(self, descriptor: int, spool_fd: int) -> None:
        self._spool_fd = spool_fd
        self._read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        os.dup2(write_fd, descriptor)
        os.close(write_fd)
        self._stop = False
        self._pending = bytearray()
        self._idle = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="flowdeck-masked-output", daemon=True)
        self._thread.start()

    def settle(self) -> None:
        """Have in the spool what was written so far."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while (self._waiting() or not self._idle.is_set()) and time.monotonic() < deadline:
            time.sleep(0.001)

    def close(self) -> None:
        """After the descriptor was pointed elsewhere: the rest, without waiting for children that still hold it."""
        self.settle()
        self._stop = True
        self._thread.join(_CLOSE_SECONDS)
        if not self._thread.is_alive():
            os.close(self._read_fd)

    def _waiting(self) -> int:
        """Bytes in the pipe."""
        answer = fcntl.ioctl(self._read_fd, termios.FIONREAD, b"\0\0\0\0")
        return int(struct.unpack("i", answer)[0])

    def _serve(self) -> None:
        import select

        poll = select.poll()
        poll.register(self._read_fd, select.POLLIN)
        while True:
            if not poll.poll(int(_IDLE_SECONDS * 1000) if self._stop or not self._idle.is_set() else 100):
                self._idle.set()
                if self._stop:
                    break
                continue
            self._idle.clear()
            data = os.read(self._read_fd, 1 << 16)
            if not data:
                break
            self._pending += data
            known = self._pending.rfind(b"\n") + 1
            rest = bytes(self._pending[known:])
            self._pass_on(known + len(rest) - undecided(rest))
        self._pass_on(len(self._pending))
        self._idle.set()

    def _pass_on(self, length: int) -> None:
        if length:
            data = memoryview(mask_bytes(bytes(self._pending[:length])))
            del self._pending[:length]
            while data:
                try:
                    data = data[os.write(self._spool_fd, data) :]
                except OSError as error:
                    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                        return  # user code closed it; whoever prints must not wait for a reader that is gone
                    if self._stop:
                        return
                    time.sleep(_FULL_DISK_SECONDS)
