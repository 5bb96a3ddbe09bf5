"""Where submitted tasks run, under the names users import: ``from flowdeck.executors import LocalExecutor``."""

from __future__ import annotations

from .engine.runners import ConcurrentTaskRunner, LocalExecutor, ThreadPoolTaskRunner

__all__ = ["ConcurrentTaskRunner", "LocalExecutor", "ThreadPoolTaskRunner"]
