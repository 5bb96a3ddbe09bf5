"""``concurrency``, ``rate_limit`` and the task runners' workers."""

from __future__ import annotations

import threading
import time
from uuid import uuid4

import pytest

from .limits import set_limit, set_tag_limit
from .names import ProcessPoolTaskRunner, ThreadPoolTaskRunner, concurrency, flow, rate_limit, task


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


def test_no_more_than_the_limit_at_once() -> None:
    """The others wait."""
    name, meter = uuid4().hex, Meter()
    set_limit(name, 2)

    @task
    def works(x):
        with concurrency(name, occupy=1), meter:
            time.sleep(0.1)
        return x

    @flow
    def parent():
        return works.map(list(range(6))).result()

    assert parent() == list(range(6))
    assert meter.most == 2


def test_a_limit_of_one_is_a_lock() -> None:
    """Outside flows, too."""
    name, meter = uuid4().hex, Meter()
    set_limit(name, 1)

    def works():
        with concurrency(name), meter:
            time.sleep(0.05)

    threads = [threading.Thread(target=works) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert meter.most == 1


def test_several_slots_at_once() -> None:
    """``occupy``."""
    name, meter = uuid4().hex, Meter()
    set_limit(name, 3)

    @task
    def works():
        with concurrency(name, occupy=2), meter:
            time.sleep(0.05)

    @flow
    def parent():
        for future in [works.submit() for _ in range(3)]:
            future.result()

    parent()
    assert meter.most == 1


def test_waiting_for_a_slot_times_out() -> None:
    """TimeoutError."""
    name = uuid4().hex
    set_limit(name, 1)

    @flow
    def parent():
        with concurrency(name), pytest.raises(TimeoutError), concurrency(name, timeout_seconds=0.5):
            pass
        return "fine"

    assert parent() == "fine"


def test_a_slot_is_free_again_after_an_exception() -> None:
    """The block ended."""
    name = uuid4().hex
    set_limit(name, 1)

    @flow
    def parent():
        with pytest.raises(ValueError, match="inside"), concurrency(name):
            raise ValueError("inside")
        with concurrency(name, timeout_seconds=5):
            return "free"

    assert parent() == "free"


def test_a_name_without_a_limit_holds_nobody() -> None:
    """Unless strict."""

    @flow
    def parent():
        with concurrency(uuid4().hex, timeout_seconds=1):
            return "through"

    assert parent() == "through"


def test_strict_wants_a_limit() -> None:
    """An error naming what is missing."""

    @flow
    def parent():
        with concurrency(uuid4().hex, strict=True):
            pass

    assert parent(return_state=True).is_failed()


def test_two_limits_at_once() -> None:
    """Both must have a slot."""
    wide, narrow, meter = uuid4().hex, uuid4().hex, Meter()
    set_limit(wide, 5)
    set_limit(narrow, 1)

    @task
    def works():
        with concurrency([wide, narrow]), meter:
            time.sleep(0.05)

    @flow
    def parent():
        for future in [works.submit() for _ in range(3)]:
            future.result()

    parent()
    assert meter.most == 1


def test_a_rate_limit_spaces_calls() -> None:
    """Slots come back with time, not with the end of a block."""
    name = uuid4().hex
    set_limit(name, 1, slot_decay_per_second=4.0)

    @flow
    def parent():
        begun = time.monotonic()
        for _ in range(3):
            rate_limit(name)
        return time.monotonic() - begun

    assert parent() >= 0.4


def test_a_tag_limit_holds_tasks_back() -> None:
    """Those with the tag."""
    tag, meter = uuid4().hex, Meter()
    set_tag_limit(tag, 1)

    @task(tags={tag})
    def works():
        with meter:
            time.sleep(0.05)

    @flow
    def parent():
        for future in [works.submit() for _ in range(3)]:
            future.result()

    parent()
    assert meter.most == 1


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


def test_a_process_pool_runs_tasks_in_processes() -> None:
    """Of their own."""
    import os

    works = task(in_process)

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=2))
    def parent():
        return works.map([1, 2, 3]).result()

    results = parent()
    assert [value for value, _ in results] == [2, 4, 6]
    assert os.getpid() not in {pid for _, pid in results}


def failing_in_process():
    """At the module's top: a process pool must find it."""
    raise ValueError("in a process")


def test_an_exception_comes_back_from_a_process() -> None:
    """As it was raised."""
    works = task(failing_in_process)

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
    def parent():
        works.submit().result()

    with pytest.raises(ValueError, match="in a process"):
        parent()
