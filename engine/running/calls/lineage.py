"""Which task an object came from, by identity, so that passing a result on draws an edge.

``None``, booleans, numbers, very short strings, enumeration members, classes and functions are shared by everybody
and never tracked. Objects are held
only while somebody else holds them: entries nobody else refers to are dropped as the table grows.

An object that several tasks returned (one passes on what it was given, alone or within its result) is *shared*. A later
attempt has an object of its own for each of them, so which of them it comes from is no part of what it is.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from itertools import islice
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

_UNTRACKED = frozenset({
    int, float, bool, complex, type(None), type(...), type(NotImplemented), type, range, FunctionType,
    BuiltinFunctionType, ModuleType,
})  # fmt: skip
_PLAIN = frozenset({list, dict, tuple, set, frozenset, str, bytes})
"""Compared by value, whoever made them."""
_FIRST_SWEEP = 512
_OWN_REFERENCES = 2
"""The entry's tuple and getrefcount's argument."""
_DEEPEST = 3
_MOST_WITHIN = 256
"""So far a result is searched for objects that other tasks returned before."""
Origin = tuple[int, int]
"""(run, seq) of a task."""


class Lineage:
    """Identity of results within one root run; safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[int, tuple[Any, Origin, Origin, bool]] = {}
        """By identity: the object, whose result it was last and first, and whether it is shared."""
        self._sweep_at = _FIRST_SWEEP
        self._has_objects = False
        """Whether anything but plain data is held."""

    def track(self, value: Any, origin: Origin) -> None:
        """Remember that ``value`` is the result of task ``origin``."""
        kind = type(value)
        if kind in _UNTRACKED or (kind in (str, bytes, tuple, frozenset) and len(value) < 2):
            return
        if issubclass(kind, type) or hasattr(kind, "__members__"):
            return
        with self._lock:
            known = self._entries.get(id(value))
            if known is None or known[0] is not value:
                self._entries[id(value)] = (value, origin, origin, False)
            else:
                self._entries[id(value)] = (value, origin, known[2], known[3] or known[2] != origin)
            if self._has_objects:
                self._share_within(value, origin)
            elif kind not in _PLAIN:
                self._has_objects = True
            if len(self._entries) >= self._sweep_at:
                self._sweep()

    def forget(self, value: Any) -> None:
        """Let go of a value that nobody is to keep in memory."""
        with self._lock:
            self._entries.pop(id(value), None)

    def origin(self, value: Any) -> Origin | None:
        """(run, seq) of the task whose result this very object is; of several the last."""
        entry = self._entries.get(id(value))
        return entry[1] if entry is not None and entry[0] is value else None

    def name_of(self, value: Any) -> str | None:
        """``run/seq`` for fingerprints: the same object means the same upstream, whatever it holds.

        Only for values a fingerprint cannot read: plain data is compared by value. None for what is shared.
        """
        entry = self._entry(value)
        return None if entry is None or entry[3] else _name(entry[2])

    def names(self) -> tuple[Callable[[Any], str | None] | None, ...]:
        """What earlier attempts may have called values by: an origin, their type alone, each of several origins."""
        return self.name_of, None, self._first_name, self._last_name

    def _first_name(self, value: Any) -> str | None:
        entry = self._entry(value)
        return None if entry is None else _name(entry[2])

    def _last_name(self, value: Any) -> str | None:
        entry = self._entry(value)
        return None if entry is None else _name(entry[1])

    def _entry(self, value: Any) -> tuple[Any, Origin, Origin, bool] | None:
        if type(value) in _PLAIN:
            return None
        entry = self._entries.get(id(value))
        return entry if entry is not None and entry[0] is value else None

    def _share_within(self, value: Any, origin: Origin) -> None:
        """What other tasks returned and this result holds, too, is shared from now on."""
        left = [(item, 1) for item in _parts(value)]
        looked = 0
        while left and looked < _MOST_WITHIN:
            item, depth = left.pop()
            looked += 1
            if type(item) in _UNTRACKED:
                continue
            known = self._entries.get(id(item))
            if known is not None and known[0] is item and known[2] != origin:
                self._entries[id(item)] = (*known[:3], True)
            if depth < _DEEPEST:
                left += [(part, depth + 1) for part in _parts(item)]

    def _sweep(self) -> None:
        dead = [key for key, entry in self._entries.items() if sys.getrefcount(entry[0]) <= _OWN_REFERENCES]
        for key in dead:
            del self._entries[key]
        self._sweep_at = max(_FIRST_SWEEP, 2 * len(self._entries))


def _name(origin: Origin) -> str:
    return f"{origin[0]}/{origin[1]}"


def _parts(value: Any) -> Iterable[Any]:
    """What a collection or an object of a class holds; runs no code of the class."""
    kind = type(value)
    if kind is dict:
        return islice(value.values(), _MOST_WITHIN)
    if kind in (list, tuple, set, frozenset):
        return islice(value, _MOST_WITHIN)
    if kind is str or kind is bytes or kind in _UNTRACKED:
        return ()
    try:
        fields = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return ()
    return islice(fields.values(), _MOST_WITHIN) if type(fields) is dict else ()
