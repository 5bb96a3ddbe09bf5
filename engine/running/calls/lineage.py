"""Which task an object came from, by identity, so that passing a result on draws an edge.

``None``, booleans, numbers, very short strings, enumeration members, classes and functions are shared by everybody
and never tracked. Objects are held
only while somebody else holds them: entries nobody else refers to are dropped as the table grows.
"""

from __future__ import annotations

import sys
import threading
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

_UNTRACKED = frozenset({
    int, float, bool, complex, type(None), type(...), type(NotImplemented), type, range, FunctionType,
    BuiltinFunctionType, ModuleType,
})  # fmt: skip
_FIRST_SWEEP = 512
_OWN_REFERENCES = 2
"""The entry's tuple and getrefcount's argument."""


class Lineage:
    """Identity of results within one root run; safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[int, tuple[Any, tuple[int, int]]] = {}
        self._sweep_at = _FIRST_SWEEP

    def track(self, value: Any, origin: tuple[int, int]) -> None:
        """Remember that ``value`` is the result of task ``origin`` (run, seq)."""
        kind = type(value)
        if kind in _UNTRACKED or (kind in (str, bytes, tuple, frozenset) and len(value) < 2):
            return
        if issubclass(kind, type) or hasattr(kind, "__members__"):
            return
        with self._lock:
            self._entries[id(value)] = (value, origin)
            if len(self._entries) >= self._sweep_at:
                self._sweep()

    def forget(self, value: Any) -> None:
        """Let go of a value that nobody is to keep in memory."""
        with self._lock:
            self._entries.pop(id(value), None)

    def origin(self, value: Any) -> tuple[int, int] | None:
        """(run, seq) of the task whose result this very object is."""
        entry = self._entries.get(id(value))
        return entry[1] if entry is not None and entry[0] is value else None

    def name_of(self, value: Any) -> str | None:
        """``run/seq`` for fingerprints: the same object means the same upstream, whatever it holds.

        Only for values a fingerprint cannot read: plain data is compared by value.
        """
        if type(value) in (list, dict, tuple, set, frozenset, str, bytes):
            return None
        origin = self.origin(value)
        return f"{origin[0]}/{origin[1]}" if origin is not None else None

    def _sweep(self) -> None:
        dead = [key for key, entry in self._entries.items() if sys.getrefcount(entry[0]) <= _OWN_REFERENCES]
        for key in dead:
            del self._entries[key]
        self._sweep_at = max(_FIRST_SWEEP, 2 * len(self._entries))
