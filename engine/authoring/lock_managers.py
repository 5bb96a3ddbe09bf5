"""Prefect's lock managers, by name only: the store's own lock holds across threads and processes whatever is given.

``INPUTS.configure(isolation_level="SERIALIZABLE", lock_manager=MemoryLockManager())`` means the same without it.
"""

from __future__ import annotations

from pathlib import Path


class MemoryLockManager:
    """Accepted wherever Prefect takes a lock manager."""

    __module__ = "flowdeck"


class FileSystemLockManager:
    """As ``MemoryLockManager``; nothing is written to the folder."""

    __module__ = "flowdeck"

    def __init__(self, lock_files_directory: str | Path) -> None:
        self.lock_files_directory = Path(lock_files_directory)
