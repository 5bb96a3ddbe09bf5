"""``concurrency``, ``rate_limit`` and the task runners' workers."""

from __future__ import annotations

import threading
import time

from .names import ThreadPoolTaskRunner, flow, task


class Meter:
    """How many are inside at once, at most."""

    def __init__(self) -> None:
        self.most = self.now = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1


def test_a_thread_pool_has_so_many_workers() -> None:
    """``max_workers``."""
    meter = Meter()

    @task
    def works():
        with meter:
            time.sleep(0.05)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
    def parent():
        for future in [works.submit() for _ in range(6)]:
            future.result()

    parent()
    assert meter.most == 2


def in_process(x):
    """At the module's top: a process pool must find it."""
    import os

    return x * 2, os.getpid()


def failing_in_process():
    """At the module's top: a process pool must find it."""
    raise ValueError("in a process")
