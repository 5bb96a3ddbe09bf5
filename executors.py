"""Where submitted tasks run, under the names users import: ``from flowdeck.executors import LocalExecutor``."""

from __future__ import annotations

from .engine.classic_executors import DaskExecutor, LocalDaskExecutor
from .engine.runners import ConcurrentTaskRunner, LocalExecutor, ProcessPoolTaskRunner, ThreadPoolTaskRunner

__all__ = [
    "ConcurrentTaskRunner",
    "DaskExecutor",
    "LocalDaskExecutor",
    "LocalExecutor",
    "ProcessPoolTaskRunner",
    "ThreadPoolTaskRunner",
]
