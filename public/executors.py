"""Where submitted tasks run, under the names users import: ``from flowdeck.executors import LocalExecutor``."""

from __future__ import annotations

from flowdeck.engine.prefect1.executors import DaskExecutor, LocalDaskExecutor
from flowdeck.engine.running.runners.threads import (
    ConcurrentTaskRunner,
    LocalExecutor,
    ProcessPoolTaskRunner,
    ThreadPoolTaskRunner,
)

__all__ = [
    "ConcurrentTaskRunner",
    "DaskExecutor",
    "LocalDaskExecutor",
    "LocalExecutor",
    "ProcessPoolTaskRunner",
    "ThreadPoolTaskRunner",
]
