"""Which task an object came from, by identity, so that passing a result on draws an edge.

``None``, booleans, numbers, very short strings, enumeration members, classes and functions are shared by everybody
and never tracked. Nothing is kept in memory that nobody else holds: an object is referred to weakly, a collection by
what it holds of such objects. Plain data, which cannot be, is held, and let go of soon: as often as what came since
is as large as what is still in use, and when a task begins.

An identity is used again once its object is gone, so an entry counts for the very object that it was made for.

An object that several tasks returned (one passes on what it was given, alone or within its result) is *shared*. A later
attempt has an object of its own for each of them, so which of them it comes from is no part of what it is.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from ...authoring.authored import Authored
from ...encoding.fingerprint import attributes_of

_UNTRACKED = frozenset({
    int, float, bool, complex, type(None), type(...), type(NotImplemented), type, range, FunctionType,
    BuiltinFunctionType, ModuleType,
})  # fmt: skip
_PLAIN = frozenset({list, dict, tuple, set, frozenset, str, bytes})
"""Compared by value, whoever made them."""
_NEVER_WEAK = frozenset({list, dict, tuple, str, bytes, bytearray, int, float})
_MOST_BYTES = 8 * 1024 * 1024
"""So much plain data, or so many of it, waits to be looked through at the least."""
_MOST_HELD = 512
_OWN_REFERENCES = 2
"""Those to what is looked through: the entry's and getrefcount's argument."""
_MOST_GUARDS = 8
_DEEPEST = 3
_MOST_WITHIN = 256
"""So far a result is searched for objects that other tasks returned before."""
Origin = tuple[int, int]
"""(run, seq) of a task."""


class _Entry:
    """What is known of one object: whose result it was last and first, and whether it is shared."""

    __slots__ = ("first", "held", "is_shared", "last", "size_bytes", "weak", "within")

    def __init__(self, origin: Origin) -> None:
        self.last = self.first = origin
        self.is_shared = False
        self.weak: Callable[[], Any] | None = None
        """Gives the object, or None once it is gone."""
        self.within: tuple[tuple[int, Callable[[], Any]], ...] = ()
        """Of a collection that cannot be referred to weakly: where in it objects stand that can be."""
        self.held: Any = None
        """The object itself, where nothing else is possible."""
        self.size_bytes = 0

    def is_of(self, value: Any) -> bool:
        """Whether it was made for this very object, which has its identity now."""
        if self.weak is not None:
            return self.weak() is value
        if self.within:
            parts = list(_parts(value))
            return all(at < len(parts) and parts[at] is item() for at, item in self.within)
        return self.held is value


class Lineage:
    """Identity of results within one root run; safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[int, _Entry] = {}
        """By identity."""
        self._held: dict[int, _Entry] = {}
        """Those of them that keep their object in memory."""
        self._new_bytes = self._used_bytes = self._new = self._used = 0
        """What is held: what came since it was looked through last, and what was in use then."""
        self._receivers: dict[int, tuple[weakref.ref[Any], str]] = {}
        self._has_objects = False
        """Whether anything but plain data was tracked."""

    def track(self, value: Any, origin: Origin) -> None:
        """Remember that ``value`` is the result of task ``origin``."""
        kind = type(value)
        if kind in _UNTRACKED or (kind in (str, bytes, tuple, frozenset) and len(value) < 2):
            return
        if issubclass(kind, type) or hasattr(kind, "__members__"):
            return
        with self._lock:
            known = self._entries.get(id(value))
            if known is None or not known.is_of(value):
                self._add(value, kind, origin)
            else:
                known.last, known.is_shared = origin, known.is_shared or known.first != origin
            if self._has_objects:
                self._share_within(value, origin)
            elif kind not in _PLAIN:
                self._has_objects = True
            if self._new >= max(_MOST_HELD, self._used) or self._new_bytes >= max(_MOST_BYTES, self._used_bytes):
                self._sweep()

    def _add(self, value: Any, kind: type, origin: Origin) -> None:
        self._drop(id(value))
        entry = self._entries[id(value)] = _Entry(origin)
        if kind not in _NEVER_WEAK:
            try:
                entry.weak = weakref.ref(value, self._when_gone(value))
            except TypeError:
                pass
            else:
                return
        within = []
        for at, item in enumerate(_parts(value)) if kind not in (str, bytes, bytearray) else ():
            if type(item) not in _NEVER_WEAK and type(item) not in _UNTRACKED:
                try:
                    within.append((at, weakref.ref(item, self._when_gone(value))))
                except TypeError:
                    continue
                if len(within) == _MOST_GUARDS:
                    break
        if within:
            entry.within = tuple(within)
            return
        from ...encoding.sizes import size_bytes

        entry.held, entry.size_bytes = value, size_bytes(value)
        self._held[id(value)] = entry
        self._new += 1
        self._new_bytes += entry.size_bytes

    def _when_gone(self, value: Any) -> Callable[[Any], None]:
        """What a weak reference calls, with itself and before its object's identity is free: the entry goes with it."""
        entries, at = self._entries, id(value)

        def forget(reference: Any) -> None:
            entry = entries.get(at)
            if entry is not None and (entry.weak is reference or any(item is reference for _, item in entry.within)):
                entries.pop(at, None)

        return forget

    def _drop(self, at: int) -> None:
        self._held.pop(at, None)
        self._entries.pop(at, None)

    def let_go(self) -> None:
        """A task begins, and has the memory of what nobody uses any more."""
        if self._new_bytes + self._used_bytes >= _MOST_BYTES:
            with self._lock:
                self._sweep()

    def forget(self, value: Any) -> None:
        """Let go of a value that nobody is to keep in memory."""
        with self._lock:
            entry = self._entries.get(id(value))
            if entry is not None and entry.is_of(value):
                self._drop(id(value))

    def origin(self, value: Any) -> Origin | None:
        """(run, seq) of the task whose result this very object is; of several the last."""
        entry = self._entries.get(id(value))
        return entry.last if entry is not None and entry.is_of(value) else None

    def name_of(self, value: Any) -> str | None:
        """``run/seq`` for fingerprints: the same object means the same upstream, whatever it holds.

        Only for values a fingerprint cannot read: plain data is compared by value. None for what is shared.
        """
        entry = self._entry(value)
        return None if entry is None or entry.is_shared else _name(entry.first)

    def names(self) -> tuple[Callable[[Any], str | None] | None, ...]:
        """What earlier attempts may have called values by: an origin, their type alone, each of several origins."""
        return self.name_of, None, self._first_name, self._last_name

    def receiver(self, fn: Any) -> dict[str, str] | None:
        """Of a method the object that it belongs to, by the name it has there, in the words that it is recorded by."""
        if type(fn) is not MethodType or isinstance(fn.__self__, Authored):
            return None  # a subclass of Prefect 1's Task is no input of its own calls
        owner, code = fn.__self__, getattr(fn.__func__, "__code__", None)
        name = code.co_varnames[0] if code is not None and code.co_argcount else "self"
        return {name: self._words(owner)}

    def _words(self, owner: Any) -> str:
        """It by its attributes as they were when it was first seen.

        What finished calls did to it is not done again by a later attempt.
        """
        receivers, at = self._receivers, id(owner)
        with self._lock:
            known = receivers.get(at)
            if known is not None and known[0]() is owner:
                return known[1]
            words = attributes_of(owner)
            with suppress(TypeError):  # nothing can refer to it weakly
                receivers[at] = weakref.ref(owner, lambda _: receivers.pop(at, None)), words
        return words

    def _first_name(self, value: Any) -> str | None:
        entry = self._entry(value)
        return None if entry is None else _name(entry.first)

    def _last_name(self, value: Any) -> str | None:
        entry = self._entry(value)
        return None if entry is None else _name(entry.last)

    def _entry(self, value: Any) -> _Entry | None:
        if type(value) in _PLAIN:
            return None
        entry = self._entries.get(id(value))
        return entry if entry is not None and entry.is_of(value) else None

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
            if known is not None and known.first != origin and known.is_of(item):
                known.is_shared = True
            if depth < _DEEPEST:
                left += [(part, depth + 1) for part in _parts(item)]

    def _sweep(self) -> None:
        """Let go of what is held here alone."""
        for at in [at for at, entry in self._held.items() if sys.getrefcount(entry.held) <= _OWN_REFERENCES]:
            self._drop(at)
        self._used, self._used_bytes = len(self._held), sum(entry.size_bytes for entry in self._held.values())
        self._new = self._new_bytes = 0


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
