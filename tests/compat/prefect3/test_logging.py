"""``get_run_logger`` and ``log_prints``: which lines are kept, and for whom."""

from __future__ import annotations

import asyncio
import time

import pytest

from .names import MissingContextError, disable_run_logger, flow, get_run_logger, only_here, task
from .records import log_lines


def test_outside_a_run_there_is_no_run_logger() -> None:
    """MissingContextError."""
    with pytest.raises(MissingContextError):
        get_run_logger()


def test_a_flows_lines_are_kept() -> None:
    """With their levels."""

    @flow(name="compat log flow")
    def talks():
        logger = get_run_logger()
        logger.info("said %s", "something")
        logger.warning("careful")

    talks()
    lines = log_lines("compat log flow", "said something", "careful")
    assert ("INFO", "said something") in lines
    assert ("WARNING", "careful") in lines


def test_a_tasks_lines_are_kept() -> None:
    """Those of submitted tasks too."""

    @task
    def talks(x):
        get_run_logger().info("task %s", x)

    @flow(name="compat log task")
    def parent():
        talks(1)
        talks.submit(2).wait()

    parent()
    messages = [message for _, message in log_lines("compat log task", "task 1", "task 2")]
    assert "task 1" in messages
    assert "task 2" in messages


def test_async_code_logs() -> None:
    """As any."""

    @flow(name="compat log async")
    async def talks():
        get_run_logger().info("from a coroutine")

    asyncio.run(talks())
    assert ("INFO", "from a coroutine") in log_lines("compat log async", "from a coroutine")


def test_log_prints_keeps_prints_of_the_flow() -> None:
    """As INFO lines."""

    @flow(name="compat log prints", log_prints=True)
    def talks():
        print("printed", 1)

    talks()
    assert ("INFO", "printed 1") in log_lines("compat log prints", "printed 1")


def test_log_prints_is_inherited_by_tasks() -> None:
    """Unless they say otherwise."""

    @task
    def talks():
        print("printed by the task")

    @flow(name="compat prints inherited", log_prints=True)
    def parent():
        talks()

    parent()
    assert ("INFO", "printed by the task") in log_lines("compat prints inherited", "printed by the task")


def test_log_prints_of_a_task_alone() -> None:
    """Although the flow does not."""

    @task(log_prints=True)
    def talks():
        print("printed by the task")

    @flow(name="compat prints of task")
    def parent():
        talks()

    parent()
    assert ("INFO", "printed by the task") in log_lines("compat prints of task", "printed by the task")


def test_log_prints_is_inherited_by_subflows() -> None:
    """Unless they say otherwise."""

    @flow(name="compat prints child")
    def child():
        print("printed by the child")

    @flow(log_prints=True)
    def parent():
        child()

    parent()
    assert ("INFO", "printed by the child") in log_lines("compat prints child", "printed by the child")


@only_here("what a run prints is kept anyhow, captured at its descriptors")
def test_prints_are_kept_without_log_prints() -> None:
    """Also those of child processes."""
    import os

    @flow(name="compat captured")
    def talks():
        print("printed")
        os.system("echo from a child process")

    talks()
    time.sleep(0.1)
    messages = [message for _, message in log_lines("compat captured", "from a child process")]
    assert "printed" in messages
    assert "from a child process" in messages


def test_a_function_can_be_tested_without_a_run() -> None:
    """``disable_run_logger``."""

    @task
    def talks():
        get_run_logger().info("to nobody")
        return "done"

    with disable_run_logger():
        assert talks.fn() == "done"


def test_an_exception_is_logged_with_the_run() -> None:
    """So that one sees why."""

    @task
    def fails():
        raise ValueError("the cause of it all")

    @flow(name="compat logged exception")
    def parent():
        fails(return_state=True)
        return 1

    parent()
    lines = log_lines("compat logged exception", "the cause of it all")
    assert any("the cause of it all" in message for _, message in lines)
