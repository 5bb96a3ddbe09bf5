"""Descriptors 1 and 2 of a run that knows secrets: a pipe, from which everything goes masked into the spool at once.

Without secrets those descriptors are the spool files themselves, and a kill loses nothing. With them, what is in the
pipe at the moment of a ``kill -9`` is lost, and an end that may be the beginning of a secret's value: a value in the
clear would be worse. Who writes a record takes first what stands in the pipe, so that the order is as without secrets.
"""

from __future__ import annotations

import errno
import fcntl
import os
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
_NOTHING: Final = b"\0\0\0\0"
_TAKE_SECONDS: Final = 0.00005


class MaskedOutput:
    """Stands between one descriptor and its spool file."""

    def __init__(self, descriptor: int, spool_fd: int) -> None:
        self._spool_fd = spool_fd
        self._read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        os.dup2(write_fd, descriptor)
        os.close(write_fd)
        self._stop = False
        self._pending = bytearray()
        self._is_reading = False
        self._is_stuck = False
        """Whether the disk is full: who must not wait does not."""
        self._idle = threading.Event()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._serve, name="flowdeck-masked-output", daemon=True)
        self._thread.start()

    def take(self) -> None:
        """Have in the spool what stands in the pipe now; what may be the beginning of a secret stays.

        Our thread alone reads: an interruption that lands here takes nothing along.
        """
        deadline = 0.0
        # In this order: what has left the pipe is in the hands of the reader, who says so before.
        while (self._is_waiting() or self._is_reading) and not self._is_stuck and self._pid == os.getpid():
            deadline = deadline or time.monotonic() + _SETTLE_SECONDS
            if time.monotonic() > deadline:
                return
            time.sleep(_TAKE_SECONDS)

    def settle(self) -> None:
        """Have in the spool what was written so far."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while (self._is_waiting() or not self._idle.is_set()) and time.monotonic() < deadline:
            time.sleep(0.001)

    def close(self) -> None:
        """After the descriptor was pointed elsewhere: the rest, without waiting for children that still hold it."""
        self.settle()
        self._stop = True
        self._thread.join(_CLOSE_SECONDS)
        if not self._thread.is_alive():
            os.close(self._read_fd)

    def _is_waiting(self) -> bool:
        """Whether anything is in the pipe."""
        return bool(fcntl.ioctl(self._read_fd, termios.FIONREAD, _NOTHING) != _NOTHING)

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
            if not self._read():
                break
        self._pass_on(len(self._pending))
        self._idle.set()

    def _read(self) -> bool:
        """Pass on a piece of what is in the pipe; False when nobody can write there any more."""
        self._is_reading = True
        try:
            data = os.read(self._read_fd, 1 << 16)
            self._pending += data
            known = self._pending.rfind(b"\n") + 1
            rest = bytes(self._pending[known:])
            self._pass_on(known + len(rest) - undecided(rest))
        finally:
            self._is_reading = False
        return bool(data)

    def _pass_on(self, length: int) -> None:
        if length:
            data = memoryview(mask_bytes(bytes(self._pending[:length])))
            del self._pending[:length]
            while data:
                try:
                    data = data[os.write(self._spool_fd, data) :]
                    self._is_stuck = False
                except OSError as error:
                    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                        return  # user code closed it; whoever prints must not wait for a reader that is gone
                    if self._stop:
                        return
                    self._is_stuck = True
                    time.sleep(_FULL_DISK_SECONDS)
