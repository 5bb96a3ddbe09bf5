"""Logging inside runs: ``get_run_logger``, the standard library's loggers, both attributed to the running task."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from ..context import require_frame
from ..encoding.codec import preview
from ..states.state import describe_exception

if TYPE_CHECKING:
    from ..running.output.capture import Capture

RUN_LOGGER = "flowdeck.run"
"""The logger behind ``get_run_logger``; it keeps every level."""
STORE_LOGGER = "flowdeck.store"
"""The logger of the store's writer."""
_disabled: ContextVar[bool] = ContextVar("flowdeck_run_logger_disabled", default=False)
_SILENT = logging.Logger("flowdeck.disabled", logging.CRITICAL + 1)
_SILENT.addHandler(logging.NullHandler())


def get_run_logger() -> logging.Logger:
    """A logger whose lines belong to the current flow or task run; raises MissingContextError outside one."""
    if _disabled.get():
        return _SILENT
    require_frame("get_run_logger()")
    logger = logging.getLogger(RUN_LOGGER)
    if logger.level != logging.DEBUG:
        logger.setLevel(logging.DEBUG)
    return logger


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


class RunHandler(logging.Handler):
    """Turns log records into records of the run that made them."""

    def __init__(self, capture: Capture) -> None:
        super().__init__(logging.DEBUG)
        self._capture = capture

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record, its traceback below it."""
        if record.name == STORE_LOGGER:
            # The store speaks of its own trouble (a full disk): its words must not wait for what it waits for.
            self._capture.tell(record.getMessage())
            return
        try:
            message = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:
                from ..running.output.capture import user_traceback

                message = f"{message}\n{user_traceback(record.exc_info[1])}"
            if record.stack_info:
                message = f"{message}\n{record.stack_info}"
        except BaseException as error:  # noqa: BLE001 - the user's arguments do not fit the message
            where = f"{record.pathname}:{record.lineno}"
            message = f"a log call at {where} does not fit together: {describe_exception(error)}: {preview(record.msg)}"
            self._capture.record_here(logging.ERROR, "flowdeck.engine", "log", message)
            return
        self._capture.record_here(record.levelno, record.name, "log", message)
