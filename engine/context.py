"""Where the running code is: which run, which task, which graph is being built.

Holds context variables only, and knows no run itself: what stands in them says by protocols what the rooms below
``running`` may ask of it (``running/calls/frame.py`` has the rest). Everything asks here, so that ``get_run_logger``
and a task call find their run from any thread or coroutine that the engine started.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from types import FrameType
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


IN_THREAD = (
    ". This thread was started outside of any run: hand its function over as with_context(function), made in the "
    "flow or task"
)
current_frame: ContextVar[AnyFrame | None] = ContextVar("flowdeck_frame", default=None)
current_graph: ContextVar[Any] = ContextVar("flowdeck_graph", default=None)
"""The ``with Flow("…")`` block being built; task calls inside it add nodes instead of running."""
current_tags: ContextVar[frozenset[str]] = ContextVar("flowdeck_tags", default=frozenset())
naming: ContextVar[tuple[str, dict[str, Any]] | None] = ContextVar("flowdeck_naming", default=None)
"""While a user's function makes the name of a run: ``flow_run`` or ``task_run``, and what ``runtime`` knows of it."""
current_transaction: ContextVar[object | None] = ContextVar("flowdeck_transaction", default=None)
"""The innermost ``with transaction():`` around the running code (``authoring/transaction.py``), or None."""
importing: ContextVar[bool] = ContextVar("flowdeck_importing", default=False)
"""True while a flow file is being loaded; ask ``is_loading``."""


def is_loading() -> bool:
    """Whether a flow file is being loaded, by us or by a process of a pool: an unguarded flow call in it does nothing.
    """
    return importing.get() or _loads_in_child()


def _loads_in_child() -> bool:
    """Whether this is a process of ``multiprocessing`` (or of what builds on it) in the middle of a module's text."""
    module = sys.modules.get("multiprocessing.process")
    if module is None or (module.parent_process() is None and not getattr(module.current_process(), "_inheriting", 0)):
        return False
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") != "__main__":
            return True
        frame = frame.f_back
    return False


def frame_here() -> AnyFrame | None:
    """The current frame; None outside a run, also for code of a run that has outlived it."""
    frame = current_frame.get()
    return None if frame is None or frame.run.session.is_closed else frame


def require_frame(what: str) -> AnyFrame:
    """The current frame; raises ``MissingContextError`` naming what was asked for outside a run."""
    frame = frame_here()
    if frame is None:
        import threading

        raise MissingContextError(
            f"{what} needs a run around it; call it inside a @flow or @task function"
            f"{'' if threading.current_thread() is threading.main_thread() else IN_THREAD}"
        )
    return frame
