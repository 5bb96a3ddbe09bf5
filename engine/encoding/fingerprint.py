"""Fingerprints of a call's inputs: equal for equal plain data in every process, never wrong about what they cannot see.

A journalled result is reused only for the same inputs. Plain data (scalars, strings, dates, containers of them,
dataclasses, enums, pydantic models) is hashed by value; any other object only by its type, so that an object that
pickles differently twice never makes a finished task run again. Work is bounded: past ``BUDGET`` parts only the
lengths count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any, TypeAlias

from ..secrets.masking import is_active, mask
from .digest import blake2b

BUDGET = 2_000
"""Parts (scalars and containers) hashed by value before only sizes count."""
_PLAIN = 24
"""Values up to so many characters stand in the fingerprint as they are."""
_WHOLE = 240
"""A longer fingerprint becomes a digest, which no longer tells the arguments apart."""
_SMALL = 256
_SHORT = 10 ** (_PLAIN - 1)
_LARGE = 1 << 2_000
_MOST_HIDDEN = 6
_Identity: TypeAlias = "Callable[[Any], str | None] | None"
"""Names what came from a task."""
_BY_LOT = frozenset({"datetime", "uuid"})
_VALUES_BY_TEXT = frozenset({"datetime", "decimal", "uuid", "pathlib", "fractions", "zoneinfo"})


def fingerprint(values: dict[str, Any], identity: _Identity = None) -> str:
    """A short text naming the inputs ``values`` (argument name → value); which of them differ can be told from two.

    ``identity`` may name a value that came from another task (``run/seq``), which is then not looked into.
    """
    named: list[str] = []
    walker: _Walker | None = None
    for name, value in values.items():
        if type(value) is int and -_SHORT < value < _SHORT and not is_active():
            named.append(f"{name}={value}")
            continue
        if type(value) is Named:
            named.append(f"{name}={value}")
            continue
        walker = walker or _Walker([], identity)
        parts: list[str] = []
        walker.parts = parts
        walker.walk(value, 0)
        text = parts[0] if len(parts) == 1 else "\x1f".join(parts)
        if len(text) > _PLAIN or not text.isascii() or "\x1e" in text or mask(text) != text:
            text = "#" + _digest(text.encode("utf-8", "surrogatepass"))
        named.append(f"{name}={text}")
    joined = "\x1e".join(named)
    if len(joined) <= _WHOLE and joined.isascii():
        return joined
    return "#" + _digest(joined.encode("utf-8", "surrogatepass"))


def changed_names(before: str, after: str) -> list[str]:
    """Which arguments differ between two fingerprints; none when they are too many to be told apart."""
    if before.startswith("#") or after.startswith("#"):
        return []
    old, new = (dict(part.partition("=")[::2] for part in text.split("\x1e")) for text in (before, after))
    return [name for name in {**old, **new} if name and old.get(name) != new.get(name)]


class Inputs:
    """What a call was given, in the words of this attempt and in those that earlier ones may have recorded it by."""

    __slots__ = ("_bare", "_identities", "_others", "_values", "text")

    def __init__(
        self, values: dict[str, Any], identities: Sequence[_Identity], receiver: dict[str, str] | None = None
    ) -> None:
        """``receiver``: of a method its object, by name, in words. Earlier versions recorded the arguments alone."""
        self._bare = values if receiver else None
        self._values = values | {name: Named(words) for name, words in receiver.items()} if receiver else values
        self._identities = identities
        self._others: list[str] | None = None
        self.text = fingerprint(self._values, identities[0])
        """The fingerprint."""

    def others(self) -> list[str]:
        """Other words for the very same inputs."""
        if self._others is None:
            first, *rest = self._identities
            found = [fingerprint(self._values, identity) for identity in rest]
            found += (fingerprint(self._values, identity) for identity in _hiding_some(self._values, first))
            if self._bare is not None:
                found += (fingerprint(self._bare, identity) for identity in self._identities)
            self._others = [text for text in dict.fromkeys(found) if text != self.text]
        return self._others

    def may_be(self, recorded: str) -> bool:
        """Whether each value has, under one of the identities, the fingerprint that was recorded for it."""
        if recorded == self.text or recorded in self.others():
            return True
        if recorded.startswith("#"):
            return False
        texts = [self.text, *(fingerprint(self._values, identity) for identity in self._identities[1:])]
        differing = [set(changed_names(recorded, text)) for text in texts if not text.startswith("#")]
        return bool(differing) and not set.intersection(*differing)


class Named(str):
    """Words that stand in a fingerprint as they are."""

    __slots__ = ()


def _hiding_some(values: dict[str, Any], identity: _Identity) -> Iterator[_Identity]:
    """``identity``, as if it did not know some of those few it names; a collection may hold both kinds."""
    if identity is None:
        return
    named: dict[int, None] = {}

    def note(value: Any) -> str | None:
        if (name := identity(value)) is not None:
            named[id(value)] = None
        return name

    fingerprint(values, note)
    if not named or len(named) > _MOST_HIDDEN:
        return
    for count in range(1, len(named)):
        for hidden in combinations(named, count):
            yield lambda value, hidden=hidden: None if id(value) in hidden else identity(value)  # type: ignore[misc]


def attributes_of(value: Any) -> str:
    """An object by its class and what its attributes hold of plain data; moments and what is drawn by lot are left out.

    What is compared of the object that a method belongs to: its settings, not when or how often it was made.
    """
    kind = type(value)
    parts: list[str] = []
    walker = _Walker(parts, None)
    if isinstance(value, type):
        return f"~{value.__module__}.{value.__qualname__}"
    held = getattr(value, "__dict__", None)
    if type(held) is not dict or hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__pydantic_fields__"):
        walker.walk(value, 0)
    else:
        parts.append(f"({kind.__qualname__}")
        for name in sorted(held):
            if type(held[name]).__module__.partition(".")[0] not in _BY_LOT:
                parts.append(name)
                walker.walk(held[name], 0)
    text = "\x1f".join(parts)
    if len(text) > _PLAIN or not text.isascii() or mask(text) != text:
        text = "#" + _digest(text.encode("utf-8", "surrogatepass"))
    return text


class _Walker:
    def __init__(self, parts: list[str], identity: _Identity) -> None:
        self.parts = parts
        self.identity = identity
        self.left = BUDGET

    def walk(self, value: Any, depth: int) -> None:
        kind = type(value)
        self.left -= 1
        if kind is int:
            # Python refuses to print very long integers in decimal, not in hexadecimal.
            self.parts.append(str(value) if -_LARGE < value < _LARGE else hex(value))
            return
        if kind is str:
            self.parts.append(f"s{len(value)}:{value}" if len(value) <= _SMALL else _long_text(value))
            return
        if kind is float or kind is bool or value is None or kind is complex or kind is range:
            self.parts.append(repr(value))
            return
        if kind is bytes or kind is bytearray:
            text = value.hex() if len(value) <= _SMALL else f"#{len(value)}:{_digest(value)}"
            self.parts.append(f"{kind.__name__}:{text}")
            return
        if self.identity is not None and (name := self.identity(value)) is not None:
            self.parts.append(f"@{name}")
            return
        if self.left <= 0 or depth > 12:
            self.parts.append(f"{kind.__name__}:{_length(value)}")
            return
        self._walk_object(value, kind, depth)

    def _walk_object(self, value: Any, kind: type, depth: int) -> None:
        if issubclass(kind, (list, tuple)):
            self.parts.append(f"{_opening(kind)}[{len(value)}")
            for item in value[: max(0, self.left)]:
                self.walk(item, depth + 1)
        elif issubclass(kind, dict):
            self.parts.append(f"{_opening(kind)}{{{len(value)}")
            for key, item in value.items():
                if self.left <= 0:
                    break
                self.walk(key, depth + 1)
                self.walk(item, depth + 1)
        elif kind is set or kind is frozenset:
            self.parts.append(f"<{len(value)}")
            if len(value) <= self.left:
                self.parts.extend(sorted(self._alone(item) for item in value))
        else:
            self._walk_record(value, kind, depth)

    def _walk_record(self, value: Any, kind: type, depth: int) -> None:
        name = kind.__qualname__
        if kind.__module__.partition(".")[0] in _VALUES_BY_TEXT:
            self.parts.append(f"{name}:{value}")
            return
        fields = getattr(kind, "__dataclass_fields__", None) or getattr(kind, "__pydantic_fields__", None)
        if fields:
            self.parts.append(f"({name}")
            for field in fields:
                self.parts.append(field)
                self.walk(getattr(value, field, None), depth + 1)
        elif hasattr(kind, "__members__"):
            self.parts.append(f"{name}.{getattr(value, 'name', '?')}")
        else:
            self.parts.append(f"~{name}")

    def _alone(self, item: Any) -> str:
        parts: list[str] = []
        walker = _Walker(parts, self.identity)
        walker.walk(item, 0)
        self.left -= BUDGET - walker.left
        return "\x1e".join(parts)


def _opening(kind: type) -> str:
    """Lists, dicts and sets need no name; a tuple or a subclass is something else."""
    return "" if kind is list or kind is dict else kind.__name__


def _long_text(text: str) -> str:
    return f"s{len(text)}#" + _digest(text.encode("utf-8", "surrogatepass"))


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=12).hexdigest()


def _length(value: Any) -> str:
    try:
        return str(len(value))
    except (TypeError, ValueError):
        return "-"
