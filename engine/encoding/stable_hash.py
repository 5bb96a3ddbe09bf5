"""Hashes for cache keys: equal for equal content in every process and every run, whatever the order of sets.

Unlike a fingerprint, which counts an object it cannot read by its type, this looks at everything, and says so when
it cannot: a key must never stand for two different inputs.
"""

from __future__ import annotations

import enum
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from ..errors import UsageError
from ..secrets.masking import mask
from .code_hash import code_hash

_BY_TEXT = frozenset({"datetime", "decimal", "uuid", "pathlib", "fractions", "zoneinfo", "ipaddress"})


class CacheKeyError(UsageError):
    """A cache key cannot be made of what the task was given."""


def stable_hash(*values: Any) -> str:
    """SHA-256 of the values' content; raises ``CacheKeyError`` saying what cannot be hashed."""
    from hashlib import sha256

    digest = sha256()
    for value in values:
        _feed(digest, value, ())
    return digest.hexdigest()


def _feed(digest: Any, value: Any, above: tuple[int, ...]) -> None:
    kind = type(value)
    if value is None or kind is bool or kind is int or kind is float or kind is complex or kind is range:
        _text(digest, kind.__name__, hex(value) if kind is int else repr(value))
    elif kind is str:
        _text(digest, "str", value)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        _head(digest, "bytes", len(value))
        digest.update(value)
    elif id(value) in above:
        _text(digest, "above", str(above[::-1].index(id(value))))
    elif len(above) > 200:
        raise CacheKeyError(f"it is nested more than 200 deep, at a {kind.__qualname__}")
    else:
        _feed_object(digest, value, kind, (*above, id(value)))


def _feed_object(digest: Any, value: Any, kind: type, above: tuple[int, ...]) -> None:
    if kind is list or isinstance(value, tuple):
        _head(digest, "list" if kind is list else _name(kind), len(value))
        for item in value:
            _feed(digest, item, above)
    elif kind is dict:
        _head(digest, "dict", len(value))
        for key_digest, item in sorted(((_alone(key, above), item) for key, item in value.items()), key=_first):
            digest.update(key_digest)
            _feed(digest, item, above)
    elif kind is set or kind is frozenset:
        _head(digest, "set", len(value))
        for item_digest in sorted(_alone(item, above) for item in value):
            digest.update(item_digest)
    elif isinstance(value, enum.Enum):
        _text(digest, _name(kind), value.name)
    elif kind.__module__.partition(".")[0] in _BY_TEXT:
        _text(digest, _name(kind), str(value))
    elif isinstance(value, (type, FunctionType, BuiltinFunctionType, MethodType)):
        code = None if isinstance(value, type) else code_hash(value)
        _text(digest, kind.__name__, f"{value.__qualname__} {code or value.__module__}")
        if isinstance(value, MethodType):
            _feed(digest, value.__self__, above)
    else:
        _feed_record(digest, value, kind, above)


def _feed_record(digest: Any, value: Any, kind: type, above: tuple[int, ...]) -> None:
    """Records by their fields, plain objects by their attributes, any other by its pickle."""
    if getattr(getattr(kind, "__pydantic_decorators__", None), "model_serializers", None):
        _feed(digest, value.model_dump(), above)  # its class says itself what counts
        return
    fields = getattr(kind, "__dataclass_fields__", None) or getattr(kind, "__pydantic_fields__", None)
    if fields:
        held: dict[str, Any] | None = {name: getattr(value, name, None) for name in fields}
    else:
        held = _plain_attributes(value, kind)
    if held is not None:
        _head(digest, _name(kind), len(held))
        for name in sorted(held):
            _text(digest, "field", name)
            _feed(digest, held[name], above)
        return
    from .codec import pickled_as_ever

    data = pickled_as_ever(value)
    if isinstance(data, str):
        raise CacheKeyError(data)
    _head(digest, _name(kind), len(data))
    digest.update(data)


def _plain_attributes(value: Any, kind: type) -> dict[str, Any] | None:
    """The attributes of an object that says nothing of its own about how it is pickled."""
    plain = all(getattr(kind, name, None) is getattr(object, name, None)
                for name in ("__reduce__", "__reduce_ex__", "__getstate__"))  # fmt: skip
    has_slots = any("__slots__" in vars(above) for above in kind.__mro__[:-1])
    return vars(value) if plain and not has_slots and hasattr(value, "__dict__") else None


def _alone(value: Any, above: tuple[int, ...]) -> bytes:
    from hashlib import sha256

    digest = sha256()
    _feed(digest, value, above)
    return digest.digest()


def _first(pair: tuple[bytes, Any]) -> bytes:
    return pair[0]


def _name(kind: type) -> str:
    # Without its module: a script's ``__main__`` is another module when the command line or the daemon loads it.
    return kind.__qualname__


def _head(digest: Any, kind: str, length: int) -> None:
    digest.update(f"{kind}:{length}:".encode())


def _text(digest: Any, kind: str, text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    _head(digest, kind, len(data))
    digest.update(data)


def without_secrets(key: str) -> str:
    """A key as it is stored: one that holds the value of a secret by its digest, the same in every process."""
    shown = mask(key)
    return key if shown == key else f"{shown}:{stable_hash(key)}"
