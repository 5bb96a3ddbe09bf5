"""Two locks: SQLite's write lock, in a few milliseconds although others want it all the time, and the folder's.

SQLite's own wait sleeps up to 100 ms between two tries, and so may miss a busy neighbour's gaps for seconds (measured
with four processes that committed without a pause: 1.2 s at the 99th percentile; with this, 25 ms).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from . import files
from .driver_errors import translate_os

FIRST_PAUSE_SECONDS: Final = 0.0002
LONGEST_PAUSE_SECONDS: Final = 0.001


def begin_immediate(connection: sqlite3.Connection, timeout_seconds: float) -> None:
    """Begin a write transaction; SQLite's own ``SQLITE_BUSY`` error when the lock is not to be had in that time.

    The connection's ``busy_timeout`` must be 0 meanwhile.
    """
    give_up_at: float | None = None
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            now = time.monotonic()
            if give_up_at is None:
                give_up_at = now + timeout_seconds
            if now >= give_up_at:
                raise
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)
        else:
            return


@contextmanager
def folder_lock(folder: str | Path) -> Iterator[None]:
    """Hold the store folder for making or migrating its files; other processes wait."""
    try:
        descriptor = files.open_store_folder(folder)
    except OSError as error:
        raise translate_os(error, str(folder)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
