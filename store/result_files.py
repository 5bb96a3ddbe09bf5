"""Large results as files beside the database: ``results/<run>/<seq>.<random>.bin``.

Promises: when ``write`` or ``link`` returns, the file would survive the loss of power, its name and those of its
folders too. A row that names a file may be committed from then on.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, TypeVar

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
        relative = self._new_path(folder_of(run_id), str(seq))
        path = os.path.join(self._store, relative)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            os.unlink(path)
            raise
        _sync(os.path.dirname(path))
        return relative

    def fill(self, run_id: int, seq: int, write: Callable[[IO[bytes]], T]) -> tuple[str, int, T]:
        """A new file that ``write`` fills; its path within the store, its size, and what ``write`` returned.

        Nothing is left of it when ``write`` raises.
        """
        relative = self._new_path(folder_of(run_id), str(seq))
        path = os.path.join(self._store, relative)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                answer = write(file)
                file.flush()
                os.fsync(file.fileno())
                size_bytes = file.tell()
        except BaseException:
            os.unlink(path)
            raise
        _sync(os.path.dirname(path))
        return relative, size_bytes, answer

    def link(self, path: str, folder: str, name: str) -> str:
        """Another name for a file, with a life of its own; returns it. Costs no copy where links work."""
        relative = self._new_path(folder, name)
        source, target = os.path.join(self._store, path), os.path.join(self._store, relative)
        try:
            os.link(source, target)
        except FileNotFoundError:
            raise
        except OSError:  # a file system without hard links
            shutil.copyfile(source, target)
            os.chmod(target, 0o600)
            _sync(target)
        _sync(os.path.dirname(target))
        return relative

    def _new_path(self, folder: str, name: str) -> str:
        """A path within the store that no file has; its folders are made where need be."""
        with self._lock:
            if folder not in self._durable:
                made = self._store
                for part in Path(folder).parts:
                    above, made = made, os.path.join(made, part)
                    with suppress(FileExistsError):  # then whoever made it may not have come to sync its name
                        os.mkdir(made, 0o700)
                    _sync(above)
                self._durable.add(folder)
        return os.path.join(folder, f"{name}.{os.urandom(4).hex()}.bin")


def folder_of(run_id: int) -> str:
    """Where a run's files are, within the store."""
    return os.path.join(FOLDER, str(run_id))


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
