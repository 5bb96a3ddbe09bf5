"""What a task, a parameter and a drawn call have in common: they can be wired together, and computed with.

``total = extract() + transform(x)[0]`` inside a ``with Flow("…")`` block draws tasks that compute when the flow runs.
Loaded with ``tasks``, so it imports nothing else at that time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from .. import context


class Drawing(Protocol):
    """The graph that a block draws, as tasks and drawn calls see it; what it gives stands for a value to come."""

    def add_call(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a task's call inside the block does."""

    def bind(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a task's ``bind`` does: the task itself is given its arguments."""

    def compute(self, name: str, operands: tuple[Any, ...]) -> Any:
        """A call of the task of that name that computes: ``Add``, ``GetItem``, ``LessThan``."""

    def add_edge(
        self, upstream: Any, downstream: Any, key: str | None = None, mapped: bool = False, flattened: bool = False
    ) -> Any:
        """Run ``upstream`` before ``downstream``, whose argument ``key`` it then feeds."""

    def set_dependencies(
        self, task: Any, upstream_tasks: Iterable[Any] | None, downstream_tasks: Iterable[Any] | None,
        keyword_tasks: dict[str, Any] | None, mapped: bool = False,
    ) -> None:
        """Several edges of one task at once."""


def graph_for(*things: Any, flow: Any = None) -> Drawing:
    """The graph to draw into: the given flow's, that of the open block, or the one a thing was drawn in."""
    if flow is not None:
        given: Drawing = flow.graph
        return given
    found: Drawing | None = context.current_graph.get()
    if found is None:
        found = next((one for thing in things if (one := getattr(thing, "graph", None)) is not None), None)
    if found is None:
        raise ValueError(f'{things[0]!r} belongs to no flow: do this inside a `with Flow("…")` block, or pass flow=')
    return found


class Drawable:
    """A task, a parameter or a drawn call: what a graph has as its nodes."""

    __slots__ = ()

    # -- wiring --------------------------------------------------------------------------------------------------

    def set_upstream(self, task: Any, flow: Any = None, key: str | None = None, mapped: bool = False) -> None:
        """Run after ``task``; with ``key``, take its result as that argument."""
        graph_for(self, task, flow=flow).add_edge(task, self, key, mapped)

    def set_downstream(self, task: Any, flow: Any = None, key: str | None = None, mapped: bool = False) -> None:
        """Run before ``task``; with ``key``, give it the result as that argument."""
        graph_for(self, task, flow=flow).add_edge(self, task, key, mapped)

    def set_dependencies(
        self, flow: Any = None, upstream_tasks: Iterable[Any] | None = None,
        downstream_tasks: Iterable[Any] | None = None, keyword_tasks: dict[str, Any] | None = None,
        mapped: bool = False,
    ) -> None:
        """Run after the upstream tasks and before the downstream ones, with these arguments."""
        graph_for(self, flow=flow).set_dependencies(self, upstream_tasks, downstream_tasks, keyword_tasks, mapped)

    def pipe(_self, _task: Any, **kwargs: Any) -> Any:  # noqa: N805 - any keyword may be an argument of the task
        """``task(self, **kwargs)``, to write one call after the other."""
        return _task(_self, **kwargs)

    # -- computing -----------------------------------------------------------------------------------------------

    def _compute(self, name: str, *operands: Any) -> Any:
        return graph_for(*(one for one in operands if isinstance(one, Drawable))).compute(name, operands)

    def is_equal(self, other: Any) -> Any:
        """A task that says whether both are equal."""
        return self._compute("Equal", self, other)

    def is_not_equal(self, other: Any) -> Any:
        """A task that says whether both differ."""
        return self._compute("NotEqual", self, other)

    def not_(self) -> Any:
        """A task that gives the opposite."""
        return self._compute("Not", self)

    def or_(self, other: Any) -> Any:
        """A task that gives the first that is true, as ``or`` does."""
        return self._compute("Or", self, other)

    def __add__(self, other: Any) -> Any:
        return self._compute("Add", self, other)

    def __radd__(self, other: Any) -> Any:
        return self._compute("Add", other, self)

    def __sub__(self, other: Any) -> Any:
        return self._compute("Sub", self, other)

    def __rsub__(self, other: Any) -> Any:
        return self._compute("Sub", other, self)

    def __mul__(self, other: Any) -> Any:
        return self._compute("Mul", self, other)

    def __rmul__(self, other: Any) -> Any:
        return self._compute("Mul", other, self)

    def __truediv__(self, other: Any) -> Any:
        return self._compute("Div", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._compute("Div", other, self)

    def __floordiv__(self, other: Any) -> Any:
        return self._compute("FloorDiv", self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return self._compute("FloorDiv", other, self)

    def __mod__(self, other: Any) -> Any:
        return self._compute("Mod", self, other)

    def __rmod__(self, other: Any) -> Any:
        return self._compute("Mod", other, self)

    def __pow__(self, other: Any) -> Any:
        return self._compute("Pow", self, other)

    def __rpow__(self, other: Any) -> Any:
        return self._compute("Pow", other, self)

    def __and__(self, other: Any) -> Any:
        return self._compute("And", self, other)

    def __rand__(self, other: Any) -> Any:
        return self._compute("And", other, self)

    def __or__(self, other: Any) -> Any:
        """``a | b``: ``b`` runs after ``a``, which gives it nothing; returns ``b``. ``or_`` is the logical one."""
        self.set_downstream(other)
        return other

    def __ror__(self, other: Any) -> Any:
        self.set_upstream(other)
        return self

    def __lt__(self, other: Any) -> Any:
        return self._compute("LessThan", self, other)

    def __le__(self, other: Any) -> Any:
        return self._compute("LessThanOrEqual", self, other)

    def __gt__(self, other: Any) -> Any:
        return self._compute("GreaterThan", self, other)

    def __ge__(self, other: Any) -> Any:
        return self._compute("GreaterThanOrEqual", self, other)

    def __getitem__(self, key: Any) -> Any:
        return self._compute("GetItem", self, key)
