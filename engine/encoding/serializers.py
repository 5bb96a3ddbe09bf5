"""How a task's result becomes bytes when the task says so itself: ``json``, ``pickle``, compressed, or the user's own.

Without a word of the task's the codec decides. What is written can be read without the task: compressed bytes say that
they are, and those of a serializer of the user's own carry it with them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..errors import UsageError

_KINDS = {"json": "json", "pickle": "pickle", "cloudpickle": "pickle"}


class Serializer(NamedTuple):
    """What a ``result_serializer`` asks for."""

    kind: str
    """``json``, ``pickle`` or ``own``."""
    compresses: bool = False
    own: Any = None
    """An object with ``dumps(value) -> bytes`` and ``loads(bytes)``."""


class Foreign:
    """Bytes of the user's serializer; unpickles as the value itself."""

    def __init__(self, own: Any, data: bytes) -> None:
        self._own = own
        self._data = data

    def __reduce__(self) -> tuple[Any, tuple[bytes]]:
        return self._own.loads, (self._data,)


def parse_serializer(what: str, given: Any) -> Serializer | None:
    """The serializer of an option; raises ``UsageError`` naming those there are."""
    if given is None:
        return None
    if isinstance(given, str):
        name = given.removeprefix("compressed/")
        if name in _KINDS:
            return Serializer(_KINDS[name], compresses=name != given)
    elif callable(getattr(given, "dumps", None)) and callable(getattr(given, "loads", None)):
        return Serializer("own", own=given)
    raise UsageError(
        f"{what}: result_serializer must be 'json', 'pickle', 'compressed/json', 'compressed/pickle' or an object with "
        f"dumps() and loads(), not {given!r}"
    )
