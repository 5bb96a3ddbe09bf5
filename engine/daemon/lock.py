"""One daemon per store: a lock on the store's ``daemon.lock``, which the kernel gives back when its holder ends."""

from __future__ import annotations

import fcntl
import os
from typing import Final

from ...store.errors import StoreReadOnly
from ..errors import NotAllowed

LOCK_FILE: Final = "daemon.lock"


def take_lock(folder: str) -> int:
    """Hold the lock until the descriptor returned is closed; ``NotAllowed`` names the daemon that has it."""
    path = os.path.join(folder, LOCK_FILE)
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreReadOnly(
            f"{path} cannot be written ({error.strerror}). Run as the store's owner, or name another --store."
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(lock, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise NotAllowed(f"a daemon (pid {pid}) serves {folder} already; use it, end it with `kill {pid}`, "
                         "or name another --store") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock
