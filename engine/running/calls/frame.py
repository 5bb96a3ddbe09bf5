"""Where code belongs that runs now: its run, and within it its task. Every thread and coroutine of a run has one.

The variables that hold it, and the transaction around it, stand in ``engine.context``, below everything that is
recorded of a run, where protocols say what the rooms there may ask; here they have their types, for those who may know
what a run is.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from ... import context

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...authoring.transaction import Transaction
    from ..slots.requests import Ask
    from .flow_run import FlowRun
    from .task_call import TaskCall


class Frame(NamedTuple):
    """The run, and within it the task, that the current code belongs to."""

    run: FlowRun
    task: TaskCall | None

    @property
    def scope_seq(self) -> int:
        """0 in the flow function, else the seq of the task: half of the identity of the calls made here."""
        return self.task.seq if self.task is not None else 0


current_frame: Final = cast("ContextVar[Frame | None]", context.current_frame)
current_transaction: Final = cast("ContextVar[Transaction | None]", context.current_transaction)
require_frame: Final = cast("Callable[[str], Frame]", context.require_frame)
holding: Final[ContextVar[tuple[Ask, ...]]] = ContextVar("flowdeck_holding_slots", default=())
"""What the present code holds slots by, outermost first. What it submits begins with none: it is not waited for."""
