"""What a task call carries besides its record: its use of the cache, its turn of a loop, what its process used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ....store.rows import CacheLockRow


class CacheUse:
    """What one call has to do with the cache: its key, the lock it holds, and until when its entry is good."""

    __slots__ = ("expiration_us", "garbage", "key", "lock")

    def __init__(self, key: str, expiration_us: int | None) -> None:
        self.key = key
        self.expiration_us = expiration_us
        self.lock: CacheLockRow | None = None
        self.garbage: list[str] = []
        """Files that the entry written last has left without a name."""


class Again:
    """Why a task runs again: the turn of its loop and what that goes on from, or that it was resumed."""

    __slots__ = ("calls", "count", "result", "resumed")

    def __init__(
        self, count: int | None = None, result: Any = None, calls: dict[str, int] | None = None, *,
        resumed: bool | None = None,
    ) -> None:
        self.count = count
        self.result = result
        self.calls = calls or {}
        """How many tasks of each key earlier turns called: those of this turn are others."""
        self.resumed = resumed


class Usage(NamedTuple):
    """What a task used in its worker process."""

    cpu_us: int
    peak_rss_bytes: int
