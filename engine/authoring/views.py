"""A run as hooks, naming functions and cache policies of users see it: frozen, with Prefect's names.

``FlowRun`` and ``TaskRun`` are Prefect's words for them, to write in annotations:
``def hook(flow, run: FlowRun, state)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    from ..states.state import State


class FlowRunView(NamedTuple):
    """A flow run as its hooks see it."""

    id: int
    name: str
    flow_name: str
    parameters: dict[str, Any]
    tags: list[str]
    state: State
    run_count: int
    start_time: datetime | None
    expected_start_time: datetime | None
    parent_flow_run_id: int | None
    deployment_id: str | None

    @property
    def state_type(self) -> str:
        """``FAILED``."""
        return self.state.type

    @property
    def state_name(self) -> str:
        """``TimedOut``."""
        return self.state.name


FlowRunView.__module__ = "flowdeck"


class TaskRunView(NamedTuple):
    """A task run as its hooks see it."""

    id: str
    """``run/seq``."""
    seq: int
    name: str
    flow_run_id: int
    flow_name: str
    task_key: str
    dynamic_key: str
    parameters: dict[str, Any]
    tags: list[str]
    state: State
    run_count: int
    start_time: datetime | None

    @property
    def state_type(self) -> str:
        """``FAILED``."""
        return self.state.type

    @property
    def state_name(self) -> str:
        """``TimedOut``."""
        return self.state.name


TaskRunView.__module__ = "flowdeck"
FlowRun = FlowRunView
TaskRun = TaskRunView
