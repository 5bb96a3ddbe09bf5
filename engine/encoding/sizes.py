"""About how much memory a value has, by a sample of it: whatever its size, a bounded amount of work.

Code of other people's classes is asked only for what libraries of arrays and tables say of themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import islice
from typing import Any

_MEASURED = frozenset({
    int, float, bool, complex, type(None), str, bytes, bytearray, list, tuple, dict, set, frozenset, range,
})  # fmt: skip
_COLLECTIONS = frozenset({list, tuple, dict, set, frozenset})
_OBJECT_BYTES = 64
_SAMPLE = 16
"""So many parts of a collection stand for all of it."""
_MOST_SAMPLED = 64
"""So many collections are looked into."""


def size_bytes(value: Any) -> int:
    """Of a value and what it holds, as far as collections and attributes show it."""
    counted = float(_own_bytes(value))
    left = [(value, 1.0)]
    for _ in range(_MOST_SAMPLED):
        if not left:
            break
        holder, weight = left.pop()
        parts = list(islice(_parts(holder), _SAMPLE))
        if parts and type(holder) in _COLLECTIONS:
            weight *= len(holder) / len(parts)
        for part in parts:
            counted += _own_bytes(part) * weight
            if type(part) not in _MEASURED or type(part) in _COLLECTIONS:
                left.append((part, weight))
    return int(counted)


def _own_bytes(value: Any) -> int:
    kind = type(value)
    if kind in _MEASURED:
        return sys.getsizeof(value)
    try:
        if issubclass(kind, (str, bytes, bytearray)):  # of the value itself its class may not be asked
            return len(value)
        size = getattr(value, "nbytes", None)
        if size is None and kind.__module__.partition(".")[0] == "pandas":
            size = value.memory_usage(deep=False).sum()
        elif size is None and kind.__module__.partition(".")[0] == "polars":
            size = value.estimated_size()
        return int(size) if size is not None else _OBJECT_BYTES
    except (Exception, SystemExit):  # noqa: BLE001 - the user's __getattr__ or __len__
        return _OBJECT_BYTES


def _parts(value: Any) -> Iterable[Any]:
    kind = type(value)
    found: Iterable[Any]
    if kind is dict:
        found = value.values()
        return found
    if kind in _COLLECTIONS:
        found = value
        return found
    if kind in _MEASURED:
        return ()
    try:
        held = object.__getattribute__(value, "__dict__")
    except (Exception, SystemExit):  # noqa: BLE001 - a property of the user's
        return ()
    return list(held.values()) if type(held) is dict else ()
