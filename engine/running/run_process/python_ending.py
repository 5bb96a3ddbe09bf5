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
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ...encoding.flow_file_objects import enter, leave
from ...settings import cancel_grace_seconds
from ...system.code_home import ENVIRONMENT_VARIABLE, tell_children

if TYPE_CHECKING:
    from .session import Session


def become_script(module: ModuleType) -> None:
    """For the rest of this process: as if it had been started as ``python FILE``, or ``python -m`` within a package."""
    path = str(module.__file__)
    if not module.__package__:
        module.__spec__ = None
    elif module.__package__ == module.__name__:
        module.__spec__ = ModuleSpec(f"{module.__name__}.__init__", None, origin=path)
    sys.modules[module.__name__] = module
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    sys.argv = [path]
    enter(module)
    tell_children(module.__name__, path)


@contextmanager
def as_script(module: ModuleType) -> Iterator[None]:
    """Within it the process looks as if it had been started so."""
    mains = {name: sys.modules.get(name) for name in ("__main__", "__mp_main__")}
    arguments, spec, told = sys.argv, module.__spec__, os.environ.get(ENVIRONMENT_VARIABLE)
    become_script(module)
    try:
        yield
    finally:
        leave(module)
        module.__spec__, sys.argv = spec, arguments
        for name, main in mains.items():
            if main is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = main
        if told is None:
            os.environ.pop(ENVIRONMENT_VARIABLE, None)
        else:
            os.environ[ENVIRONMENT_VARIABLE] = told


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
