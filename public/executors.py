"""Where submitted tasks run, under the names users import: ``from flowdeck.executors import LocalExecutor``."""

from __future__ import annotations

from flowdeck.engine.authoring.task_runners import (
    ConcurrentTaskRunner,
    LocalExecutor,
    ProcessPoolTaskRunner,
    ThreadPoolTaskRunner,
)
from flowdeck.engine.prefect1.executors import DaskExecutor, LocalDaskExecutor

__all__ = [
    "ConcurrentTaskRunner",
    "DaskExecutor",
    "LocalDaskExecutor",
    "LocalExecutor",
    "ProcessPoolTaskRunner",
    "ThreadPoolTaskRunner",
]
