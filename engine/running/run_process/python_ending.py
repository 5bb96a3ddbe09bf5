"""A process that Python itself does not end (a fork of a code host) ends as a script would, and looks like one.

What a script finds when it runs, its own name in ``sys.argv`` and its own module as ``__main__``, the flow of a file
finds whoever runs it. What an interpreter does at its end is done: threads are waited for, what was registered with
``atexit`` is called, streams are flushed. It is done while the run still has its process and its log, so what it prints
stands there. All of it has the grace of a cancellation, no more.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ...settings import cancel_grace_seconds

if TYPE_CHECKING:
    from .session import Session


def become_script(path: str, module: ModuleType) -> None:
    """For the rest of this process: as if it had been started as ``python PATH``."""
    module.__spec__ = None
    sys.modules["__main__"] = module
    sys.argv = [path]


@contextmanager
def as_script(path: str, module: ModuleType) -> Iterator[None]:
    """Within it the process looks as if it had been started as ``python PATH``."""
    main, arguments = sys.modules["__main__"], sys.argv
    become_script(path, module)
    try:
        yield
    finally:
        sys.modules["__main__"], sys.argv = main, arguments


def end_as_python(session: Session, code: int) -> None:
    """Do what Python does at its end, within the grace; after that the process ends with ``code``, come what may."""
    late = threading.Timer(cancel_grace_seconds(), _end_late, (session, code))
    late.daemon = True
    late.start()
    shutdown: Any = threading._shutdown  # type: ignore[attr-defined]  # what the interpreter calls
    with suppress(KeyboardInterrupt):
        shutdown()
    atexit._run_exitfuncs()
    with suppress(OSError, ValueError):  # the user may have closed them
        sys.stdout.flush()
        sys.stderr.flush()
    late.cancel()


def _end_late(session: Session, code: int) -> None:
    session.log.line(
        session.root_id, None, 30,
        f"run #{session.root_id} is over; its threads and what it left for atexit took longer than "
        f"{cancel_grace_seconds():g} s and were ended",
    )  # fmt: skip
    os._exit(code)
