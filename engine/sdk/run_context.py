"""``FlowRunContext``, ``TaskRunContext`` and ``get_run_context``: Prefect's objects for what code runs within.

``runtime`` has the same facts one by one; these are for code that was written for Prefect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..running.calls.frame import current_frame, require_frame
from .runtime import flow_run, task_run

if TYPE_CHECKING:
    from ..authoring.flows import Flow
    from ..authoring.tasks import Task


class RunView(NamedTuple):
    """What may be known of a run: ``id`` (of a task ``run/seq``), ``name``, ``parameters``, ``tags``, ``run_count``."""

    id: str
    name: str
    parameters: dict[str, Any]
    tags: list[str]
    run_count: int


def _view(part: Any) -> RunView:
    return RunView(part.id, part.name, part.parameters, part.tags, part.run_count)


class FlowRunContext(NamedTuple):
    """The flow run that the code belongs to."""

    flow: Flow[Any, Any]
    flow_run: RunView
    parameters: dict[str, Any]

    @classmethod
    def get(cls) -> FlowRunContext | None:
        """Of the running code; None outside a run."""
        frame = current_frame.get()
        if frame is None:
            return None
        return cls(frame.run.flow, _view(flow_run), dict(frame.run.parameters))


FlowRunContext.__module__ = "flowdeck"


class TaskRunContext(NamedTuple):
    """The task run that the code belongs to."""

    task: Task[Any, Any]
    task_run: RunView
    parameters: dict[str, Any]

    @classmethod
    def get(cls) -> TaskRunContext | None:
        """Of the running code; None outside a task."""
        frame = current_frame.get()
        if frame is None or frame.task is None:
            return None
        return cls(frame.task.task, _view(task_run), frame.task.values_of_parameters())


TaskRunContext.__module__ = "flowdeck"


def get_run_context() -> FlowRunContext | TaskRunContext:
    """The task's context, else the flow's; raises ``MissingContextError`` outside a run."""
    require_frame("get_run_context()")
    found = TaskRunContext.get() or FlowRunContext.get()
    assert found is not None  # there is a frame
    return found
