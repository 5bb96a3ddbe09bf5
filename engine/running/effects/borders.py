"""Where user code comes back into the engine: what must not go further ends, or becomes something else, here.

A child process that user code forked may return, or raise, into the engine's code. That is its parent's: such a child
ends here as a program does, and nothing of the run is done twice. An exception that the engine's own code cannot hand
on (``GeneratorExit``, which ends generators, one whose attributes cannot be read) goes on as ``RunFailed``.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

from ...encoding.tracebacks import user_traceback
from ...errors import RunFailed
from ...states.state import describe_exception

if TYPE_CHECKING:
    from ..calls.frame import Frame

forks = 0
"""How many forks lie between this process and the one that loaded this module. Read as ``borders.forks``."""


def _count() -> None:
    global forks
    forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count)


def admit(error: BaseException) -> None:
    """Raise in place of an exception that the engine cannot hand on; nothing for any other."""
    if type(error) is GeneratorExit:
        raise RunFailed(describe_exception(error)) from error
    try:
        readable = None not in (error.__class__, error.__dict__)
    except BaseException:  # noqa: BLE001 - the user's __getattribute__
        readable = False
    if not readable:
        raise RunFailed(f"{describe_exception(error)} (its attributes cannot be read)") from None


def end_child(frame: Frame, error: BaseException | None = None) -> NoReturn:
    """The code of ``frame`` came back in a child process that it had forked: the child ends, its parent goes on."""
    code, error = 0, error or sys.exc_info()[1]
    try:
        capture = frame.run.session.capture
        capture.end_lines(frame)
        said = "a child process that this code forked came back from it and was ended; let it end by os._exit()"
        capture.record_here(30, "flowdeck.engine", "log", said)
        if error is not None:
            code = _exit_code(error)
    finally:
        os._exit(code)


def _exit_code(error: BaseException) -> int:
    """As the interpreter would end with this exception, which is told as it would tell it."""
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        sys.stderr.write(f"{error.code}\n")
        return 1
    sys.stderr.write(f"{user_traceback(error)}\n")
    return 1
