"""The traceback of a user's exception as text, without frames of this package; it never raises, whatever the exception.

An exception that comes from another process brings its text along: its frames stayed there.
"""

from __future__ import annotations

import traceback
from typing import Final

from ..system.own_files import is_own

ELSEWHERE: Final = "_flowdeck_traceback"
"""Where an exception that comes from a worker process carries its traceback, as text."""
_LONGEST: Final = 100_000


def user_traceback(error: BaseException) -> str:
    """The traceback as the user's own code sees it, causes included: frames of this package are left out."""
    try:
        if isinstance(elsewhere := error.__dict__.get(ELSEWHERE), str):
            return elsewhere
        told = traceback.TracebackException.from_exception(error, compact=True)
        waiting = [told]
        while waiting:
            part = waiting.pop()
            frames = [frame for frame in part.stack if not is_own(frame.filename)]
            part.stack = traceback.StackSummary.from_list(frames)
            waiting += [other for other in (part.__cause__, part.__context__) if other is not None]
            waiting += part.exceptions or ()
        text = "".join(told.format()).rstrip("\n")
    except BaseException as broken:  # noqa: BLE001 - the user's exception cannot even be printed
        text = f"{type(error).__name__}: <its text cannot be made: {type(broken).__name__}>"
    return text if len(text) <= _LONGEST else text[:_LONGEST] + f"… ({len(text)} characters)"
