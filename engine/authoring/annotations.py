"""Words around an argument that say how a call is to take it, with Prefect's names: ``unmapped(x)``, ``quote(x)`` …"""

from __future__ import annotations

from typing import Any, ClassVar


class Annotation:
    """A value with such a word around it. Two are equal when word and value are."""

    __module__ = "flowdeck"

    flowdeck_wrapped: ClassVar[str]

    def __init__(self, value: Any) -> None:
        self.value = value

    def unwrap(self) -> Any:
        """The value."""
        return self.value

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and bool(self.value == other.value)

    __hash__ = None  # type: ignore[assignment]  # as unhashable as what it may hold

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"


class unmapped(Annotation):  # noqa: N801 - Prefect's name
    """In ``map``: pass this value to every call as it is."""

    __module__ = "flowdeck"

    flowdeck_wrapped = "unmapped"


class allow_failure(Annotation):  # noqa: N801 - Prefect's name
    """Start even when this upstream task failed; the parameter is then its exception."""

    __module__ = "flowdeck"

    flowdeck_wrapped = "allow_failure"


class opaque(Annotation):  # noqa: N801 - Prefect's name
    """Look for a future or state in this value itself, not in what it holds."""

    __module__ = "flowdeck"

    flowdeck_wrapped = "opaque"


class quote(Annotation):  # noqa: N801 - Prefect's name
    """Pass this value without looking for futures in it."""

    __module__ = "flowdeck"

    flowdeck_wrapped = "quote"
