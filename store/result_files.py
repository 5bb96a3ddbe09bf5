"""Large results as files beside the database: ``results/<run>/<seq>.<random>.bin``.

Promises: when ``write`` or ``link`` returns, the file would survive the loss of power, its name and those of its
folders too. A row that names a file may be committed from then on.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, TypeVar

from . import files

T = TypeVar("T")
FOLDER: Final = "results"


class ResultFiles:
    """Those of one store, written by this process. Any thread may call."""

    def __init__(self, folder: str | Path) -> None:
        self._store = os.path.abspath(folder)
        self._lock = threading.Lock()
        self._durable: set[str] = set()
        """Folders whose names are known to be on the disk."""

    def write(self, run_id: int, seq: int, data: bytes) -> str:
        """A new file with this content; returns its path within the store."""
        return self.fill(run_id, seq, lambda file: file.write(data))[0]

    def fill(self, run_id: int, seq: int, write: Callable[[IO[bytes]], T]) -> tuple[str, int, T]:
        """A new file that ``write`` fills; its path within the store, its size, and what ``write`` returned.

        Nothing is left of it when ``write`` raises.
        """
        path = self._new_path(folder_of(run_id), str(seq))
        descriptor = files.make(self._store, path)
        try:
            with open(descriptor, "wb") as file:
                answer = write(file)
                file.flush()
                os.fsync(file.fileno())
                size_bytes = file.tell()
        except BaseException:
            files.remove(self._store, path)
            raise
        files.sync_folder(self._store, os.path.dirname(path))
        return path, size_bytes, answer

    def open(self, path: str) -> IO[bytes]:
        """A file to read, by the path that a row has."""
        return open(files.open_to_read(self._store, path), "rb")

    def remove(self, path: str) -> None:
        """Remove a file that no row names any more."""
        files.remove(self._store, path)

    def link(self, path: str, folder: str, name: str) -> str:
        """Another name for a file, with a life of its own; returns it. Costs no copy where links work."""
        target = self._new_path(folder, name)
        files.link(self._store, path, target)
        files.sync_folder(self._store, folder)
        return target

    def _new_path(self, folder: str, name: str) -> str:
        """A path within the store that no file has; its folders are made where need be."""
        with self._lock:
            if folder not in self._durable:
                files.make_folder(self._store, folder)
                for above in Path(folder).parents:  # the last one is the store's folder
                    files.sync_folder(self._store, str(above))
                self._durable.add(folder)
        return f"{folder}/{name}.{os.urandom(4).hex()}.bin"


def folder_of(run_id: int) -> str:
    """Where a run's files are, within the store."""
    return os.path.join(FOLDER, str(run_id))
