"""What SQLite and the operating system say about the store's files, as errors that tell a person what to do.

Promises: everything the driver says about a file becomes a ``StoreError`` that names the file and the remedy. Only the
store knows the driver's own errors; whoever works with a connection outside of it does so within ``store_errors``.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import StoreCorrupt, StoreError, StoreFull, StoreLocked, StoreMissing, StoreReadOnly

_STORE_CODES = frozenset(
    {
        sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_NOLFS,
    }
)  # fmt: skip


@contextmanager
def store_errors(path: str | Path | Callable[[], str | Path]) -> Iterator[None]:
    """Within it, whatever the driver says is a ``StoreError`` about ``path``, which may be a way to find it out."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, path() if callable(path) else path) from error


def is_driver_error(error: BaseException) -> bool:
    """Whether it is the driver's own, about the file or about a statement."""
    return isinstance(error, sqlite3.Error)



def is_store_trouble(error: sqlite3.Error) -> bool:
    """Whether the error is about the file and its surroundings, not about the statement or its values."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in _STORE_CODES


def _database_in(path: str | Path) -> str:
    """The file that processes have open, also when only the store's folder is known."""
    return os.path.join(path, "state.db") if os.path.isdir(path) else str(path)


def _what_is_lost(path: str | Path) -> str:
    """Of one of the two files it is known that a store does without it."""
    is_telemetry = os.path.basename(path) == "telemetry.db"
    return "; it holds output and metrics only, runs and results are elsewhere" if is_telemetry else ""


def translate(error: sqlite3.Error, path: str | Path) -> StoreError:
    """What SQLite said about the file at ``path``, as an error that tells a person what to do."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    said = f"{error}, {name}"
    match code & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            from .lock_holder import holder_words

            return StoreLocked(
                f"{path} is locked: another process has held the write lock for too long ({said}). "
                f"{holder_words(_database_in(path))}"
            )
        case sqlite3.SQLITE_FULL:
            return StoreFull(f"{path}: the disk is full ({said}). Free some space; nothing was changed.")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return StoreReadOnly(f"{path} cannot be written ({said}). Run as its owner, or name another --store.")
        case sqlite3.SQLITE_NOTADB:
            return StoreCorrupt(
                f"{path} is not a database ({said}). It was left as it is: restore it from a backup, "
                f"or move it away to start afresh{_what_is_lost(path)}."
            )
        case sqlite3.SQLITE_CORRUPT:
            return StoreCorrupt(
                f"{path} is damaged ({said}). It was left as it is: run `flowdeck doctor`, then restore it from a "
                f"backup or save what can be read with `sqlite3 {_database_in(path)} .recover`{_what_is_lost(path)}."
            )
        case sqlite3.SQLITE_CANTOPEN:
            return _translate_cannot_open(path, said)
        case sqlite3.SQLITE_IOERR:
            if free_bytes(path) < 1024 * 1024:
                return StoreFull(f"{path}: the disk is full ({said}). Free some space; nothing was changed.")
            return StoreError(f"{path}: the disk does not read or write ({said}). Look at `dmesg` and the disk.")
    return StoreError(f"{path}: {said}")


def _translate_cannot_open(path: str | Path, said: str) -> StoreError:
    if not os.path.exists(path):
        return StoreMissing(f"no store: {path} not found ({said}).")
    return StoreReadOnly(
        f"{path} cannot be opened ({said}). Its folder must be writable: run as its owner, or name another --store."
    )


def translate_os(error: OSError, path: str) -> StoreError:
    """What the operating system said about making ``path``, as an error that tells a person what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"{path}: the disk is full ({error.strerror}). Free some space; nothing was changed.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StoreReadOnly(f"{path} cannot be made ({error.strerror}). Name a writable folder with --store.")
    return StoreError(f"{path} cannot be made: {error.strerror or error}.")


def free_bytes(path: str | Path) -> int:
    """What this user may still write on the disk that holds ``path``."""
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    figures = os.statvfs(folder)
    return figures.f_bavail * figures.f_frsize
