"""Files that commands write their outputs to (``$FLOWDECK_OUTPUT``): made, locked, and removed whatever kills a run."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import suppress
from functools import lru_cache
from typing import Final

_PREFIX: Final = "flowdeck-output-"


class OutputFile:
    """The ``$FLOWDECK_OUTPUT`` file of one command: this user's alone, and gone with the command.

    It is locked for as long as this process and its forks live: one that a killed run has left is known by its lock,
    from any PID namespace, and removed by who settles that run or by the next process that runs a command.
    """

    def __init__(self) -> None:
        _sweep_once()
        while True:
            self._descriptor, self.path = tempfile.mkstemp(prefix=_PREFIX)
            if _lock(self._descriptor) and os.path.exists(self.path):
                return
            os.close(self._descriptor)  # swept between its making and its lock

    def close(self) -> None:
        """Remove it."""
        with suppress(FileNotFoundError):
            os.unlink(self.path)
        os.close(self._descriptor)


def sweep_outputs() -> None:
    """Remove the files of this user's that runs that were killed have left."""
    own = os.geteuid()
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.stat(follow_symlinks=False).st_uid == own:
                with suppress(OSError):  # somebody else was faster, or it is no file
                    descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                    try:
                        if _lock(descriptor):
                            os.unlink(entry.path)
                    finally:
                        os.close(descriptor)


_sweep_once = lru_cache(maxsize=1)(sweep_outputs)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
