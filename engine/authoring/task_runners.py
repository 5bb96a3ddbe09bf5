"""What ``flow(task_runner=…)`` takes: where submitted tasks run, and how many at once. The places are ``running``'s."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import UsageError
from ..settings import pool_size


class Place(NamedTuple):
    """Where what a run submits is carried out."""

    threads: int | None
    """At most so many of the run's own threads at once; None: as many as needed."""
    processes: ProcessPoolTaskRunner | None = None
    """Whose worker processes they have do it; None: they do it themselves."""


class TaskRunner:
    """A task runner or executor; asked once by each run of its flow."""

    def place(self) -> Place:
        """Where tasks run."""
        raise NotImplementedError(f"{type(self).__name__} has no place()")


class ThreadPoolTaskRunner(TaskRunner):
    """Run submitted tasks on threads: as many as needed, or at most ``max_workers``.

    Without ``max_workers``, ``FLOWDECK_TASKS_RUNNER_THREAD_POOL_MAX_WORKERS`` bounds them where it is set.
    """

    __module__ = "flowdeck"

    def __init__(self, max_workers: int | None = None) -> None:
        self.max_workers = pool_size("THREAD", max_workers)

    def place(self) -> Place:
        """Threads of the run's process."""
        return Place(self.max_workers)


class ProcessPoolTaskRunner(TaskRunner):
    """Run submitted tasks in warm worker processes, at most ``max_workers`` at once; each has run ``initializer``.

    Without ``max_workers``: ``FLOWDECK_TASKS_RUNNER_PROCESS_POOL_MAX_WORKERS``, else as many as there are processors.
    """

    __module__ = "flowdeck"

    def __init__(
        self,
        max_workers: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be a function, not {initializer!r}")
        self.max_workers = pool_size("PROCESS", max_workers) or os.cpu_count() or 1
        self.initializer = initializer
        self.initargs = tuple(initargs)

    def place(self) -> Place:
        """Its own processes, with a thread each that waits for one."""
        return Place(self.max_workers, self)


class ConcurrentTaskRunner(ThreadPoolTaskRunner):
    """Prefect's older name of ``ThreadPoolTaskRunner``."""

    __module__ = "flowdeck"


class LocalExecutor(ThreadPoolTaskRunner):
    """Prefect 1's executor that runs tasks one after another."""

    __module__ = "flowdeck.executors"

    def __init__(self) -> None:
        super().__init__(max_workers=1)


def task_runner(given: Any) -> Any:
    """The runner that ``flow(task_runner=…)`` was given, as an instance; a class makes one with its defaults."""
    made = given() if isinstance(given, type) else given
    if made is not None and not hasattr(made, "max_workers"):
        raise UsageError(
            "task_runner must be ThreadPoolTaskRunner, ConcurrentTaskRunner, ProcessPoolTaskRunner or one of their "
            f"objects, not {given!r}"
        )
    return made


def place_of(runner: Any) -> Place:
    """Where a flow with this runner has its tasks run; an object that is not of ours is taken by its attributes."""
    if isinstance(runner, TaskRunner):
        return runner.place()
    if runner is None:
        return Place(pool_size("THREAD", None))
    return Place(getattr(runner, "max_workers", None), runner if hasattr(runner, "initializer") else None)
