"""Logging inside runs: ``get_run_logger``, the standard library's loggers, both attributed to the running task."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..running.calls.frame import require_frame
from ..running.output.log_handler import run_logger

_disabled: ContextVar[bool] = ContextVar("flowdeck_run_logger_disabled", default=False)
_SILENT = logging.Logger("flowdeck.disabled", logging.CRITICAL + 1)
_SILENT.addHandler(logging.NullHandler())


def get_run_logger() -> logging.Logger:
    """A logger whose lines belong to the current flow or task run; raises MissingContextError outside one."""
    if _disabled.get():
        return _SILENT
    require_frame("get_run_logger()")
    return run_logger()


@contextmanager
def disable_run_logger() -> Iterator[None]:
    """In the block ``get_run_logger`` gives a logger that keeps nothing, also outside a run: for tests of functions."""
    token = _disabled.set(True)
    try:
        yield
    finally:
        _disabled.reset(token)


def flow_run_logger(flow_run: object, flow: object | None = None) -> logging.Logger:
    """Prefect's logger for hooks; the lines belong to the run whose hook it is."""
    del flow_run, flow
    return get_run_logger()


def task_run_logger(task_run: object, task: object | None = None) -> logging.Logger:
    """As ``flow_run_logger``, for the hooks of tasks."""
    del task_run, task
    return get_run_logger()
