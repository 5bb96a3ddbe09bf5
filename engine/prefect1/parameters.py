"""What a drawn flow is given at each run: ``Parameter``, and ``Node``, what it shares with the calls that are drawn."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from .. import context
from ..authoring.drawable import Drawable
from ..authoring.parameters import Parameters
from ..errors import ParameterError

if TYPE_CHECKING:
    from ..authoring.drawable import Drawing

NO_DEFAULT: Final[Any] = inspect.Parameter.empty


class Node(Drawable):
    """What a call inside the ``with`` block gives instead of a value."""

    def __init__(self, graph: Drawing | None, name: str) -> None:
        self.graph = graph
        self.name = name

    @property
    def shown(self) -> Any:
        """What users know it as."""
        return self

    def __repr__(self) -> str:
        return f"<Task: {self.name}>"

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> Any:
        """Inside a block a task that compares, so that ``case(x == 5, True)`` is no trap; else whether it is this."""
        if self is other or context.current_graph.get() is None:
            return self is other
        return self.is_equal(other)

    def __ne__(self, other: object) -> Any:
        if self is other or context.current_graph.get() is None:
            return self is not other
        return self.is_not_equal(other)

    def __await__(self) -> Generator[Any, None, Any]:
        yield from ()
        return self

    def __bool__(self) -> bool:
        raise TypeError(f"{self!r} has no value while its flow is drawn, so it cannot decide an if: decide in a task")

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(
            f"{self!r} has no value while its flow is drawn, so it cannot be gone through: use .map, or say how many "
            "values its task returns, as in @task(nout=2)"
        )


class Parameter(Node):
    """A value given at each run: ``Parameter("day", default=None)``; without a default each run must give it."""

    __module__ = "flowdeck"

    def __init__(
        self, name: str, default: Any = NO_DEFAULT, required: bool | None = None, tags: Iterable[str] | None = None
    ) -> None:
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"a parameter's name must be a Python name, not {name!r}")
        super().__init__(None, name)
        if required is None:
            required = default is NO_DEFAULT
        self.default = NO_DEFAULT if required else None if default is NO_DEFAULT else default
        self.tags = set(tags or ()) | context.current_tags.get()
        self.slug = name
        drawn = context.current_graph.get()
        if drawn is not None:
            drawn.add_parameter(self)

    @property
    def required(self) -> bool:
        """Whether each run must give it."""
        return self.default is NO_DEFAULT

    def convert(self, value: Any) -> Any:
        """What tasks get of the value that was given."""
        return value

    def __call__(self, flow: Any = None) -> Parameter:
        """Itself, as part of the flow whose block is open."""
        drawn = flow.graph if flow is not None else context.current_graph.get()
        if drawn is None:
            raise ValueError(f'parameter {self.name!r} belongs to no flow: call it inside a `with Flow("…")` block')
        drawn.add_parameter(self)
        return self

    def __repr__(self) -> str:
        return f"<Parameter: {self.name}>"


class DateTimeParameter(Parameter):
    """A parameter whose ISO 8601 text reaches the tasks as a ``datetime``, in UTC when it names no zone."""

    __module__ = "flowdeck"

    def __init__(self, name: str, required: bool = True, tags: Iterable[str] | None = None) -> None:
        super().__init__(name, NO_DEFAULT if required else None, required, tags)

    def convert(self, value: Any) -> Any:
        """The moment the text names."""
        if value is None:
            return None
        try:
            at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        except (TypeError, ValueError):
            text = f"parameter {self.name!r} needs an ISO 8601 time such as 2027-01-31T09:00, not {value!r}"
            raise ParameterError(text) from None
        return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


class GraphParameters(Parameters):
    """The engine's view of a graph's parameters; called, Prefect 1's: the set of them."""

    def __init__(self, walk: Callable[..., Any], name: str, known: list[Parameter]) -> None:
        super().__init__(walk, name)
        self.known = known

    def __call__(self) -> set[Parameter]:
        """The graph's parameters."""
        return set(self.known)
