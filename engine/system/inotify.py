"""A descriptor that becomes readable when a file is written to: the kernel's inotify, for one file.

Lets the daemon sleep while nobody writes to the store. Linux only; ``OSError`` elsewhere and where the kernel's
watches are used up, and the caller then looks from time to time instead.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from typing import Final

_IN_MODIFY: Final = 0x2
_NONBLOCK_CLOEXEC: Final = os.O_NONBLOCK | os.O_CLOEXEC


class FileWrites:
    """Says that a file was written to since the last ``drain``."""

    def __init__(self, path: str) -> None:
        if sys.platform != "linux":
            raise OSError(errno.ENOSYS, "inotify is Linux's")
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor: int = libc.inotify_init1(_NONBLOCK_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1 failed")
        if libc.inotify_add_watch(self._descriptor, os.fsencode(path), _IN_MODIFY) < 0:
            number = ctypes.get_errno()
            os.close(self._descriptor)
            raise OSError(number, os.strerror(number), path)

    def fileno(self) -> int:
        """For selectors."""
        return self._descriptor

    def drain(self) -> bool:
        """Forget the writes noted so far; says whether there were any."""
        found = False
        while True:
            try:
                found = bool(os.read(self._descriptor, 65536)) or found
            except BlockingIOError:
                return found

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)
