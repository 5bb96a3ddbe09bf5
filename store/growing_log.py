"""The write-ahead log of a file that a ``Writer`` writes to: how long it is, and moved into the database when due.

Promises: whoever writes into a file that has lost its name learns it within ``LOOK_SECONDS``; a log that cannot be
moved stays whole and is tried again. Not thread-safe: whoever has the writer's turn calls it.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from typing import Final

from .checkpoint import AFFECTED, checkpoint, log_size
from .connection import LOG_BYTES, Connection, Database, connect, database_path
from .errors import StoreError, StoreMissing

LOOK_SECONDS: Final = 0.005
"""How often to look, while writing, whether the file is still there and how long its log is."""
CHECKPOINT_AGAIN_SECONDS: Final = 1.0
"""How long to wait after a checkpoint that could not move everything because a reader stood in the way."""

logger = logging.getLogger("flowdeck.store")


class GrowingLog:
    """What a writer looks at between its commits."""

    __slots__ = ("_bytes", "_database", "_folder", "_no_checkpoint_before", "_path", "_second", "no_look_before")

    def __init__(self, folder: str, database: Database) -> None:
        self._folder = folder
        self._database: Database = database
        self._path = database_path(folder, database)
        self._bytes = 0
        self._second: Connection | None = None
        self._no_checkpoint_before = 0.0
        self.no_look_before = 0.0
        """The time of ``time.monotonic`` from which on ``look`` is worth its price."""

    def look(self) -> StoreMissing | None:
        """After a commit: how long the log is; an error when the file is not there any more."""
        self.no_look_before = time.monotonic() + LOOK_SECONDS
        try:
            self._bytes = log_size(self._path + "-wal")
        except FileNotFoundError:
            # SQLite writes on into files that have no name any more; nobody would find what it stores there.
            return StoreMissing(f"{self._path} was removed or moved away while in use; what is written now is lost.")
        except OSError:  # not one more file can be opened: what was committed is committed, the next look may tell
            return None
        return None

    def move_if_due(self, writer: Connection | None) -> None:
        """Move what it holds into the database once it has grown; ``writer`` None: the file never opened."""
        if not AFFECTED:
            return  # SQLite's own checkpoints are safe, and on
        if self._bytes <= LOG_BYTES[self._database] or time.monotonic() < self._no_checkpoint_before:
            return
        if writer is None:
            return  # its operations have been told why
        try:
            if self._second is None:
                self._second = connect(self._folder, self._database)
            result = checkpoint(writer, self._second)
            if result.ran and result.moved_pages == result.log_pages:
                self._bytes = 0  # the next commit starts it anew
                return
        except (sqlite3.DatabaseError, StoreError) as error:
            # The log stays as it is and everything in it is safe; the next group will say if the file is broken.
            logger.warning("the log of %s could not be moved into it: %s", self._path, error)
        self._no_checkpoint_before = time.monotonic() + CHECKPOINT_AGAIN_SECONDS

    def close(self) -> None:
        """Close the connection that checkpoints run on."""
        if self._second is not None:
            self._second.close()
            self._second = None
