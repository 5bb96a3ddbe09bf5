"""Records of the standard library's loggers become records of the run whose code made them.

They are taken where a logger hands them to its handlers, so that nothing a user does to handlers, levels of handlers
and propagation takes one away or doubles it: what a user's own handler then prints of a record that is kept is shown to
the person, and kept no second time. What the store says of its own trouble goes past the store: words about a full disk
must not wait for room on it.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from ...encoding.codec import preview
from ...encoding.tracebacks import user_traceback
from ...states.state import describe_exception

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .capture import Capture

RUN_LOGGER: Final = "flowdeck.run"
"""The logger behind ``get_run_logger``; it keeps every level."""
STORE_LOGGER: Final = "flowdeck.store"
"""The logger of the store's writer."""
_KEPT: Final = "_flowdeck_kept"
"""Marks a record that is kept."""


class Repetition:
    """A thread is within a handler that prints a record which is kept already."""

    __slots__ = ("depth", "is_failing", "was_shown")

    def __init__(self) -> None:
        self.depth = 0
        self.is_failing = False
        """The handler raised: what is printed now is about that."""
        self.was_shown = False
        """Whether the person saw what it printed."""


repeating: Final[dict[int, Repetition]] = {}
"""By thread; empty but for moments, which is all that who prints has to look at."""
_capturing: Callable[[], Capture | None] = lambda: None  # noqa: E731 - until the first run


class RunLogger(logging.Logger):
    """Says what it is told to say: ``logging.disable`` and a configuration that disables loggers are for others."""

    @property
    def disabled(self) -> bool:
        """Never."""
        return False

    @disabled.setter
    def disabled(self, _value: bool) -> None:
        return

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the library's name
        """By its own level alone."""
        return level >= self.getEffectiveLevel()


def run_logger() -> logging.Logger:
    """The one logger behind ``get_run_logger``."""
    logger = logging.getLogger(RUN_LOGGER)
    if type(logger) is logging.Logger:
        logger.__class__ = RunLogger
        logger.__dict__.pop("disabled", None)
    if logger.level != logging.DEBUG:
        logger.setLevel(logging.DEBUG)
    return logger


def take_records(capturing: Callable[[], Capture | None]) -> None:
    """From now on loggers hand their records to what captures, too; once a process, and passed through without one."""
    global _capturing
    _capturing = capturing
    if getattr(logging.Logger.callHandlers, "__module__", None) == __name__:
        return
    call_handlers, handle = logging.Logger.callHandlers, logging.Handler.handle

    def callHandlers(self: logging.Logger, record: logging.LogRecord) -> None:  # noqa: N802
        capture = _capturing()
        marks = record.__dict__
        if capture is None or _KEPT in marks:
            call_handlers(self, record)
            return
        marks[_KEPT] = True
        if not self.hasHandlers() or record.name == STORE_LOGGER:
            _keep(capture, record, _message_of(record), show=True)
            return
        said = _message_of(record)  # before a handler of the user's changes it
        _keep(capture, record, said, show=False)
        with _repetition() as this:
            this.was_shown = False
            call_handlers(self, record)
        if not this.was_shown:
            capture.show_here(record.levelno, said[1])

    def handle_record(self: logging.Handler, record: logging.LogRecord) -> Any:
        if _KEPT not in record.__dict__:
            return handle(self, record)
        with _repetition():
            return handle(self, record)

    logging.Logger.callHandlers = callHandlers  # type: ignore[method-assign]
    logging.Handler.handle = handle_record  # type: ignore[method-assign]


@contextmanager
def _repetition() -> Iterator[Repetition]:
    thread = threading.get_ident()
    this = repeating.setdefault(thread, Repetition())
    this.depth += 1
    try:
        yield this
    finally:
        this.depth -= 1
        this.is_failing = False
        if this.depth == 0:
            repeating.pop(thread, None)


def _keep(capture: Capture, record: logging.LogRecord, said: tuple[bool, str], *, show: bool) -> None:
    """Keep one record, its traceback below it."""
    fits, message = said
    if record.name == STORE_LOGGER:
        # The store speaks of its own trouble (a full disk): its words must not wait for what it waits for.
        capture.tell(message)
    elif fits:
        capture.record_here(record.levelno, record.name, "log", message, show=show)
    else:
        capture.record_here(logging.ERROR, "flowdeck.engine", "log", message, show=show)


def _message_of(record: logging.LogRecord) -> tuple[bool, str]:
    """Whether the call fits together, and what it says."""
    try:
        message = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            message = f"{message}\n{user_traceback(record.exc_info[1])}"
        if record.stack_info:
            message = f"{message}\n{record.stack_info}"
    except BaseException as error:  # noqa: BLE001 - the user's arguments do not fit the message
        where = f"{record.pathname}:{record.lineno}"
        return False, (
            f"a log call at {where} does not fit together: {describe_exception(error)}: {preview(record.msg)}"
        )
    return True, message


# ---- hearing that Python starts another program; audit hooks would cost every call of every logger ----------------

_listeners: list[Callable[[], None]] = []


def before_children(listener: Callable[[], None]) -> None:
    """From now on this is called before a program is started by ``subprocess`` or ``os``, or a child forked."""
    if not _listeners:
        import _posixsubprocess  # what subprocess stands on, which a short run has no use for

        below: Any = _posixsubprocess
        below.fork_exec = _telling(below.fork_exec)
        if (subprocess := sys.modules.get("subprocess")) is not None:
            subprocess.__dict__["_fork_exec"] = below.fork_exec
        os.system = _telling(os.system)
        os.system.__module__ = "os"  # where pickle finds it in whatever process
        os.register_at_fork(before=_tell)
    if listener not in _listeners:
        _listeners.append(listener)


def _telling(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def told(*args: Any, **kwargs: Any) -> Any:
        _tell()
        return function(*args, **kwargs)

    return told


def _tell() -> None:
    for listener in _listeners:
        listener()
