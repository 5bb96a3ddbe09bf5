"""One daemon per store: a lock on the store's ``daemon.lock``, which the kernel gives back when its holder ends."""

from __future__ import annotations

import fcntl
import os
from typing import Final

from ...store import files, judging
from ...store.errors import StoreReadOnly
from ..errors import NotAllowed

LOCK_FILE: Final = "daemon.lock"


def take_lock(folder: str) -> int:
    """Hold the lock until the descriptor returned is closed; ``NotAllowed`` names the daemon that has it."""
    path = os.path.join(folder, LOCK_FILE)
    try:
        lock = files.open_to_write(folder, LOCK_FILE)
    except OSError as error:
        raise StoreReadOnly(
            f"{path} cannot be written ({error.strerror}). Run as the store's owner, or name another --store."
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        who = _words_of(os.read(lock, 64).decode("ascii", "replace"))
        os.close(lock)
        raise NotAllowed(f"a daemon{who} serves {folder} already; use it, end it with `flowdeck daemon --stop`, "
                         "or name another --store") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()} {judging.pid_namespace()}\n".encode(), 0)
    return lock


def _words_of(text: str) -> str:
    """Who has the lock, by what it wrote; nothing while it has not come to that."""
    pid, _, namespace = text.strip().partition(" ")
    if not pid.isdecimal():
        return ""
    if namespace and namespace != judging.pid_namespace():
        return f" (process {pid} of another PID namespace, as of a container)"
    return f" (pid {pid})"
