"""Where the running code is: which run, which task, which graph is being built.

Holds context variables only, and knows no run itself: what stands in them says by protocols what the rooms below
``running`` may ask of it (``running/calls/frame.py`` has the rest). Everything asks here, so that ``get_run_logger``
and a task call find their run from any thread or coroutine that the engine started.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Protocol

from .errors import MissingContextError


class RunOfFrame(Protocol):
    """The run that code belongs to, as the rooms below ``running`` see it."""

    @property
    def id(self) -> int:
        """Its number in the store."""

    @property
    def session(self) -> Any:
        """Its host, which the rooms of ``running`` know."""

    def next_call_index(self, scope_seq: int, key: str) -> int:
        """How many calls of this key the scope has made before."""


class TaskOfFrame(Protocol):
    """The task that code belongs to, as the rooms below ``running`` see it."""

    @property
    def seq(self) -> int:
        """Its number in its run."""


class AnyFrame(Protocol):
    """The run, and within it the task, that code belongs to, as the rooms below ``running`` see it."""

    @property
    def run(self) -> RunOfFrame:
        """The run, be it a subflow's."""

    @property
    def task(self) -> TaskOfFrame | None:
        """None in the flow function."""

    @property
    def scope_seq(self) -> int:
        """0 in the flow function, else the seq of the task: half of the identity of the calls made here."""


current_frame: ContextVar[AnyFrame | None] = ContextVar("flowdeck_frame", default=None)
current_graph: ContextVar[Any] = ContextVar("flowdeck_graph", default=None)
"""The ``with Flow("…")`` block being built; task calls inside it add nodes instead of running."""
current_tags: ContextVar[frozenset[str]] = ContextVar("flowdeck_tags", default=frozenset())
naming: ContextVar[tuple[str, dict[str, Any]] | None] = ContextVar("flowdeck_naming", default=None)
"""While a user's function makes the name of a run: ``flow_run`` or ``task_run``, and what ``runtime`` knows of it."""
current_transaction: ContextVar[object | None] = ContextVar("flowdeck_transaction", default=None)
"""The innermost ``with transaction():`` around the running code (``authoring/transaction.py``), or None."""
importing: ContextVar[bool] = ContextVar("flowdeck_importing", default=False)
"""True while a flow file is being loaded: an unguarded flow call in it does nothing."""


def require_frame(what: str) -> AnyFrame:
    """The current frame; raises ``MissingContextError`` naming what was asked for outside a run."""
    frame = current_frame.get()
    if frame is None:
        raise MissingContextError(f"{what} needs a run around it; call it inside a @flow or @task function")
    return frame
