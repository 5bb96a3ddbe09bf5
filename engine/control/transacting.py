"""The connection of one door to one store: opened with the first request, each piece of work one transaction.

Used from one thread at a time. What goes wrong with the file is a ``StoreError``; any exception undoes the work.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ...store.connection import Connection, connect, read_transaction, transaction
from ...store.driver_errors import store_errors
from ...store.opening import open_store

T = TypeVar("T")


class Transactions:
    """Reads and writes in the state of one store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writes = 0
        """How often something was to be written; the store's version does not tell of writes of one's own."""
        self._connection: Connection | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def write(self, work: Callable[[Connection], T]) -> T:
        """Do it in one write transaction, durable on return."""
        with store_errors(self.folder):
            connection = self._opened()
            self.writes += 1
            with transaction(connection):
                return work(connection)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Do it on one state of the store, without the write lock."""
        with store_errors(self.folder), read_transaction(self._opened()) as connection:
            return work(connection)

    def _opened(self) -> Connection:
        if self._connection is None:
            open_store(self.folder, create=False)
            self._connection = connect(self.folder, "state")
        return self._connection
