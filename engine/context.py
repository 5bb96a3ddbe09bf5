"""Where the running code is: which run, which task, which graph is being built.

Holds context variables only. Everything else asks here, so that ``get_run_logger`` and a task call find their run
from any thread or coroutine that the engine started.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from .errors import MissingContextError, UsageError

current_frame: ContextVar[Any] = ContextVar("flowdeck_frame", default=None)
"""The run, and the task, that the code belongs to: a ``Frame``, which ``running.calls.frame`` knows; None outside."""
current_graph: ContextVar[Any] = ContextVar("flowdeck_graph", default=None)
"""The ``with Flow("…")`` block being built; task calls inside it add nodes instead of running."""
current_tags: ContextVar[frozenset[str]] = ContextVar("flowdeck_tags", default=frozenset())
naming: ContextVar[tuple[str, dict[str, Any]] | None] = ContextVar("flowdeck_naming", default=None)
"""While a user's function makes the name of a run: ``flow_run`` or ``task_run``, and what ``runtime`` knows of it."""
current_transaction: ContextVar[Any] = ContextVar("flowdeck_transaction", default=None)
"""The innermost ``with transaction():`` around the running code: a ``Transaction``; None outside of them."""
importing: ContextVar[bool] = ContextVar("flowdeck_importing", default=False)
"""True while a flow file is being loaded: an unguarded flow call in it does nothing."""


def require_frame(what: str) -> Any:
    """The current frame; raises ``MissingContextError`` naming what was asked for outside a run."""
    frame = current_frame.get()
    if frame is None:
        raise MissingContextError(f"{what} needs a run around it; call it inside a @flow or @task function")
    return frame


def own_doc(fn: Any) -> str | None:
    """The function's own docstring; ``inspect.getdoc`` would look into classes, and in methods find itself."""
    from inspect import cleandoc

    text = getattr(fn, "__doc__", None)
    return cleandoc(text) if isinstance(text, str) and text else None


_ELSEWHERE = {
    "asset_deps": "assets are not declared in code here",
    "result_serializer": "values are kept as JSON where they round-trip, else by cloudpickle",
    "result_storage": "results are kept in the store, large ones as files beside it",
    "viz_return_value": "`flowdeck run FILE --plan` shows what would run",
}
"""Prefect's options that say nothing here, and why."""


def check_options(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise ``UsageError`` with the nearest name for an option that there is not."""
    for name in given:
        if name not in known:
            from difflib import get_close_matches

            if name in _ELSEWHERE:
                raise UsageError(f"{what}: leave {name!r} out; {_ELSEWHERE[name]}")
            near = get_close_matches(name, list(known), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"its options are {', '.join(sorted(known))}"
            raise UsageError(f"{what} has no option {name!r}; {hint}")


@contextmanager
def tags(*names: str) -> Iterator[frozenset[str]]:
    """Tag every flow and task run started inside the block; blocks nest and add up."""
    from .states.state import storable

    token = current_tags.set(current_tags.get() | frozenset(map(storable, names)))
    try:
        yield current_tags.get()
    finally:
        current_tags.reset(token)
