"""Prefect's names for what a hook is given, to write in its annotations: ``def hook(flow, run: FlowRun, state)``."""

from __future__ import annotations

from .running.calls.hooks import FlowRunView as FlowRun
from .running.calls.hooks import TaskRunView as TaskRun

__all__ = ["FlowRun", "TaskRun"]
