"""Where the store lives: one folder, found the same way by every process.

Order: what was named (``--store``, then ``FLOWDECK_STORE``), the nearest ``.flowdeck/`` upwards from the working
folder, the platform's user data folder. Finding a place makes nothing on disk; ``opening.open_store`` does.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from .errors import StoreReadOnly, StoreUnsupported

ENVIRONMENT_VARIABLE = "FLOWDECK_STORE"
FOLDER_NAME = ".flowdeck"

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "afpfs", "webdav", "fuse.sshfs", "fuse.s3fs", "fuse.rclone"}
)
"""SQLite's write-ahead log needs shared memory and working locks, which these do not give."""


def find_store(explicit: str | Path | None = None) -> Path:
    """The store's folder as an absolute path; it need not exist yet. Raises ``StoreUnsupported`` for a URL."""
    named = explicit if explicit is not None and str(explicit) else os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        return _named(str(named), "--store" if explicit else ENVIRONMENT_VARIABLE)
    here = Path.cwd()
    for folder in (here, *here.parents):
        candidate = folder / FOLDER_NAME
        if _is_folder(candidate):
            return candidate
    return user_data_folder()


def settled_store() -> Path:
    """The store of this process, for code that is no run's: settled by the first who asks, whoever moves meanwhile."""
    folder = find_store()
    settle(folder)
    return folder


def settle(folder: str | Path) -> None:
    """Make it the store of this process and of all that it starts, wherever they stand when they look."""
    os.environ[ENVIRONMENT_VARIABLE] = os.path.abspath(folder)


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except PermissionError as error:
        raise StoreReadOnly(
            f"{path} cannot be reached ({error.strerror}): whether a store is there cannot be told. "
            f"Run as the owner of its folder, or name a store with --store or {ENVIRONMENT_VARIABLE}."
        ) from error
    except OSError:
        return False


def user_data_folder() -> Path:
    """Where the store lives when no project has its own."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "flowdeck"
    base = os.environ.get("XDG_DATA_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".local" / "share") / "flowdeck"


def filesystem_type(path: Path) -> str:
    """The type of the file system ``path`` is (or would be) on, such as ``ext4``; empty when it cannot be told."""
    target = os.path.realpath(path)
    best, kind = "", ""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                fields = line.split(" ")
                # Blanks and the like in mount points are written as octal escapes.
                point = fields[1].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
                inside = target == point or target.startswith(point.rstrip("/") + "/")
                if inside and len(point) >= len(best):
                    best, kind = point, fields[2]
    except FileNotFoundError:
        return ""  # no /proc: not Linux
    return kind


def _named(text: str, source: str) -> Path:
    if text.startswith(("postgresql://", "postgres://", "postgresql+")):
        raise StoreUnsupported(
            f"{source} names a PostgreSQL database; this version keeps its store in SQLite files only. "
            "Name a folder on a local disk instead."
        )
    if "://" in text:
        scheme = text.split("://", 1)[0]
        raise StoreUnsupported(f"{source} names a {scheme}:// address; name a folder on a local disk instead.")
    path = Path(os.path.abspath(os.path.expanduser(text)))
    if os.path.isfile(path):
        raise StoreUnsupported(f"{source} names the file {path}; a store is a folder. Name the folder it is in.")
    return path
