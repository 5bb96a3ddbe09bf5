"""Prefect 1's executors beside ``LocalExecutor``: other words for the pools there are, without dask."""

from __future__ import annotations

import os
from typing import Any, Final

from ..authoring.task_runners import Place, ProcessPoolTaskRunner, ThreadPoolTaskRunner
from ..errors import UsageError

__all__ = ["DaskExecutor", "LocalDaskExecutor"]

_SCHEDULERS: Final = {
    "threads": "threads", "threading": "threads", "processes": "processes", "multiprocessing": "processes",
    "sync": "sync", "synchronous": "sync", "single-threaded": "sync",
}


class LocalDaskExecutor(ThreadPoolTaskRunner):
    """Run tasks on threads or ``processes``, one for each core or ``num_workers``; ``sync`` one after another."""

    __module__ = "flowdeck.executors"

    def __init__(self, scheduler: str = "threads", num_workers: int | None = None, **kwargs: Any) -> None:
        if scheduler not in _SCHEDULERS:
            raise ValueError(f"scheduler {scheduler!r} is not known: use 'threads', 'processes' or 'sync'")
        if kwargs:
            raise UsageError(f"LocalDaskExecutor takes scheduler and num_workers; {', '.join(kwargs)} are dask's own")
        self.scheduler = _SCHEDULERS[scheduler]
        super().__init__(1 if self.scheduler == "sync" else num_workers or _cores(num_workers))
        self.num_workers = self.max_workers
        self._processes = ProcessPoolTaskRunner(self.max_workers) if self.scheduler == "processes" else None

    def place(self) -> Place:
        """Threads, or processes of its own."""
        return Place(self.max_workers, self._processes)


def _cores(num_workers: int | None) -> int:
    return num_workers if num_workers is not None else max(1, os.cpu_count() or 1)


class DaskExecutor:
    """Prefect 1's executor on a dask cluster: not here."""

    __module__ = "flowdeck.executors"

    def __init__(self, *_args: Any, **_options: Any) -> None:
        raise UsageError(
            "DaskExecutor runs tasks on a dask cluster, which this version does not: use "
            "LocalDaskExecutor(num_workers=…) for this machine's cores, or call dask.distributed.Client inside a task"
        )
