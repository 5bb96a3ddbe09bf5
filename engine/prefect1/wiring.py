"""How drawn calls are wired: edges, the marks ``flatten`` and ``mapped``, and the nodes that stand in arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from ..authoring.annotations import Annotation, unmapped
from ..authoring.drawable import Drawable
from .parameters import Node


class flatten(Annotation):  # noqa: N801 - Prefect's name
    """In ``map``: run over the elements of the elements."""

    __module__ = "flowdeck"

    flowdeck_wrapped = "flatten"


class mapped(Annotation):  # noqa: N801 - Prefect's name
    """In a plain call: run over the elements of this argument, while the other arguments are passed whole."""

    __module__ = "flowdeck"

    flowdeck_wrapped = "mapped"


class Edge(NamedTuple):
    """``upstream_task`` runs before ``downstream_task``; ``key`` is the argument it feeds, None when it only waits."""

    upstream_task: Any
    downstream_task: Any
    key: str | None = None
    mapped: bool = False
    flattened: bool = False


Edge.__module__ = "flowdeck"


class Wiring:
    """What one graph gives a node: its arguments, and what it waits for besides."""

    __slots__ = ("args", "kwargs", "mapped", "waits_for")

    def __init__(self, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None, mapped: bool = False) -> None:
        self.args = args
        self.kwargs = kwargs if kwargs is not None else {}
        self.mapped = mapped
        self.waits_for: dict[Node, bool] = {}
        """What it waits for without taking its result, and whether run by run of a mapped group."""

    def changed(self, change: Callable[[Any], Any]) -> Wiring:
        """A copy with ``change`` made to each argument and each node it waits for."""
        made = Wiring(tuple(map(change, self.args)), {k: change(v) for k, v in self.kwargs.items()}, self.mapped)
        made.waits_for = {new: each for old, each in self.waits_for.items() if isinstance(new := change(old), Node)}
        return made


def nodes_in(value: Any) -> Iterator[Node]:
    """The nodes among an argument: itself, in lists, tuples, sets and dicts, under ``unmapped`` and ``flatten``."""
    return (one for one in drawables_in(value) if isinstance(one, Node))


def drawables_in(value: Any) -> Iterator[Drawable]:
    """As ``nodes_in``, with the tasks that were not called."""
    if isinstance(value, Drawable):
        yield value
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from drawables_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from drawables_in(item)
    elif is_wrapped(value):
        yield from drawables_in(value.value)


def all_in(values: Iterable[Any]) -> list[Node]:
    """The nodes among several arguments."""
    return [node for value in values for node in nodes_in(value)]


def replaced(value: Any, change: Callable[[Any], Any]) -> Any:
    """An argument with ``change`` made to each task and node in it; the same object when it holds none."""
    if isinstance(value, Drawable):
        return change(value)
    if next(drawables_in(value), None) is None:
        return value
    if isinstance(value, dict):
        return {key: replaced(item, change) for key, item in value.items()}
    if is_wrapped(value):
        return type(value)(replaced(value.value, change))
    items = [replaced(item, change) for item in value]
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def replaced_nodes(value: Any, instead: dict[Node, Any]) -> Any:
    """An argument with some nodes replaced."""
    return replaced(value, lambda one: instead.get(one, one)) if instead else value


def is_wrapped(value: Any) -> bool:
    """Whether it is an argument in ``unmapped``, ``flatten`` or the like."""
    return hasattr(type(value), "flowdeck_wrapped")


def is_unmapped(value: Any) -> bool:
    """Whether an argument of ``map`` is passed whole to every call."""
    return getattr(type(value), "flowdeck_wrapped", None) == "unmapped"


def is_marked(value: Any) -> bool:
    """Whether an argument of a plain call is mapped over, so that the call is."""
    return isinstance(value, mapped)


def whole(value: Any) -> Any:
    """An argument of a mapped call that each of its runs gets."""
    return value if is_unmapped(value) else unmapped(value)


def only_marked(value: Any) -> Any:
    """In a plain call with ``mapped(x)`` among its arguments, only those are mapped over."""
    if is_marked(value):
        return value.value
    return value if isinstance(value, flatten) else whole(value)
