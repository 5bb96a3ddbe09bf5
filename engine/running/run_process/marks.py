"""The mark by which processes are known to be a run's: in the environment, which whatever is started inherits.

Where several root runs live in one process they share that environment. Then whoever starts a process is asked which
run's code it is, at the moment it does: an audit hook sets the mark, without which a command would carry the mark of
the run that happened to begin last, and end with it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

from ...context import current_frame
from ...system import processes

if TYPE_CHECKING:
    from .session import Session

_STARTS: Final = frozenset({"subprocess.Popen", "os.posix_spawn", "os.spawn", "os.system", "os.exec", "pty.spawn"})

_marked: list[Session] = []
"""Those between ``mark`` and ``unmark``, in the order they began."""
_outer: str | None = None
_is_asked = False


def mark_of(session: Session) -> str:
    """What processes of this run carry."""
    return processes.run_mark(str(session.folder), session.root_id, session.attempt)


def mark(session: Session) -> None:
    """From now on processes that are started are this run's."""
    global _outer, _is_asked
    if not _marked:
        _outer = os.environ.get(processes.RUN_MARK)
    elif not _is_asked:
        _is_asked = True
        sys.addaudithook(_asked)  # for good: there is no way to take one back
    _marked.append(session)
    os.environ[processes.RUN_MARK] = mark_of(session)


def unmark(session: Session) -> None:
    """The run is over: what is started now is another's, or whose it was before."""
    if session not in _marked:
        return
    _marked.remove(session)
    if _marked:
        os.environ[processes.RUN_MARK] = mark_of(_marked[-1])
    elif _outer is None:
        os.environ.pop(processes.RUN_MARK, None)
    else:
        os.environ[processes.RUN_MARK] = _outer


def _asked(event: str, _arguments: Any) -> None:
    if event in _STARTS and len(_marked) > 1 and (frame := current_frame.get()) is not None:
        session: Any = frame.run.session
        if session in _marked:
            os.environ[processes.RUN_MARK] = mark_of(session)
