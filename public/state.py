"""The states of a ``with Flow`` run as Prefect 1's classes: ``from flowdeck.state import Failed, Skipped``."""

from __future__ import annotations

from flowdeck.engine.prefect1.states import (
    Cached,
    Cancelled,
    Cancelling,
    Failed,
    Finished,
    Looped,
    Mapped,
    Paused,
    Pending,
    Queued,
    Resume,
    Retrying,
    Running,
    Scheduled,
    Skipped,
    Submitted,
    Success,
    TimedOut,
    TriggerFailed,
    ValidationFailed,
)
from flowdeck.engine.prefect1.states import FlowState as FlowState
from flowdeck.engine.prefect1.states import FlowState as State

__all__ = [
    "Cached", "Cancelled", "Cancelling", "Failed", "Finished", "Looped", "Mapped", "Paused", "Pending", "Queued",
    "Resume", "Retrying", "Running", "Scheduled", "Skipped", "State", "Submitted", "Success", "TimedOut",
    "TriggerFailed", "ValidationFailed",
]
