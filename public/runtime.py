"""What the running code may know of its run: ``from flowdeck.runtime import flow_run, task_run, deployment``."""

from __future__ import annotations

from flowdeck.engine.sdk.runtime import deployment, flow_run, task_run

__all__ = ["deployment", "flow_run", "task_run"]
