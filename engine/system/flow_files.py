"""Flow files on disk: which there are among given paths, and by what hash a change of one is noticed.

Files are read as text only. Nothing here imports one or knows what a flow is: that a file holds flows is told by its
words, and importing it (``authoring.loader``) is for processes that may run a user's code.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import Final

from ..errors import FlowFileError

FOREIGN_FOLDERS: Final = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages", "venv"})
"""Folders whose modules are not the user's own."""
_IMPORTS_US: Final = re.compile(r"^[ \t]*(?:from|import)[ \t]+flowdeck\b", re.MULTILINE)
_MENTIONS_FLOW: Final = re.compile(r"\b[fF]low\b")
_LARGEST_BYTES: Final = 2_000_000


class BrokenFlowFile(FlowFileError):
    """A flow file that cannot be used: ``path``, ``line`` where known, and the user's own ``traceback``."""

    def __init__(self, message: str, *, path: str, line: int | None = None, traceback: str | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.line = line
        self.traceback = traceback


def find_flow_files(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Every flow file among ``paths``: a named file always counts, a folder's files when they look like one."""
    found: dict[str, None] = {}
    for given in paths:
        path = os.path.abspath(given)
        if os.path.isdir(path):
            found.update(dict.fromkeys(file for file in _python_files(path) if looks_like_flow_file(file)))
        elif os.path.isfile(path):
            found[path] = None
        else:
            raise BrokenFlowFile(f"{path}: there is no such file or folder; name an existing one", path=path)
    return list(found)


def looks_like_flow_file(path: str) -> bool:
    """Whether its text imports flowdeck and speaks of a flow. A file that cannot be read does not."""
    try:
        text = read_source(path, _LARGEST_BYTES).decode("utf-8", "replace")
    except OSError:
        return False
    return bool(_IMPORTS_US.search(text) and _MENTIONS_FLOW.search(text))


def folders_of_flows(folder: str) -> Iterator[tuple[str, list[str]]]:
    """``folder`` and the folders below it that may hold flows, each with the names of its files."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_skipped(place, name))
        yield place, files


def source_hash(path: str) -> str:
    """Short hash of the file's bytes; empty when it cannot be read."""
    try:
        return hash_of(read_source(path))
    except OSError:
        return ""


def read_source(path: str, most_bytes: int = -1) -> bytes:
    """What a file holds. ``OSError`` for what is none: a pipe or device would keep whoever opens it waiting."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a file", path)
        return file.read(most_bytes)


def hash_of(source: bytes) -> str:
    """The short hash of a source text that was read already."""
    return hashlib.sha256(source).hexdigest()[:16]


def _is_skipped(place: str, name: str) -> bool:
    """Folders that hold no flows of the user's: hidden, caches, installed packages, virtual environments."""
    return name.startswith((".", "_")) or name in FOREIGN_FOLDERS or os.path.exists(f"{place}/{name}/pyvenv.cfg")


def _python_files(folder: str) -> Iterator[str]:
    for place, files in folders_of_flows(folder):
        for name in sorted(files):
            if name.endswith(".py") and not name.startswith((".", "_")):
                yield os.path.join(place, name)
