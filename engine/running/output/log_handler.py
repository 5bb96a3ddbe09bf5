"""Records of the standard library's loggers become records of the run whose code made them.

What the store says of its own trouble goes past the store: words about a full disk must not wait for room on it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ...encoding.codec import preview
from ...encoding.tracebacks import user_traceback
from ...states.state import describe_exception

if TYPE_CHECKING:
    from .capture import Capture

RUN_LOGGER: Final = "flowdeck.run"
"""The logger behind ``get_run_logger``; it keeps every level."""
STORE_LOGGER: Final = "flowdeck.store"
"""The logger of the store's writer."""


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
                message = f"{message}\n{user_traceback(record.exc_info[1])}"
            if record.stack_info:
                message = f"{message}\n{record.stack_info}"
        except BaseException as error:  # noqa: BLE001 - the user's arguments do not fit the message
            where = f"{record.pathname}:{record.lineno}"
            message = f"a log call at {where} does not fit together: {describe_exception(error)}: {preview(record.msg)}"
            self._capture.record_here(logging.ERROR, "flowdeck.engine", "log", message)
            return
        self._capture.record_here(record.levelno, record.name, "log", message)
