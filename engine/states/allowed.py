"""Which requests make sense in which state of a run, and which is stronger: pure tables, light enough for the console.

What was asked stays asked: a request gives way to a stronger one only, never to a weaker one. A run that is being
cancelled is not paused instead, whoever asks and however early.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from ...store.states import TERMINAL_TYPES

Request = Literal["pause", "suspend", "resume", "cancel", "retry", "skip", "freeze", "thaw"]

STRENGTH: Final[tuple[str, ...]] = ("none", "pause", "freeze", "cancel", "cancel now")
"""Intents, the weakest first. ``none`` is a resume, which answers a pause alone."""

_ALLOWED: dict[str, Callable[[str, str], bool]] = {
    "pause": lambda kind, name: kind in ("SCHEDULED", "PENDING", "RUNNING") and name not in ("Pausing", "Frozen"),
    "suspend": lambda kind, name: (
        kind in ("SCHEDULED", "PENDING", "RUNNING", "PAUSED") and name not in ("Suspended", "Frozen")
    ),
    "resume": lambda kind, name: kind == "PAUSED" or name == "Pausing",
    # While it is being cancelled, too: then it means at once.
    "cancel": lambda kind, _name: kind not in TERMINAL_TYPES,
    "retry": lambda kind, _name: kind in TERMINAL_TYPES,
    "skip": lambda kind, _name: kind == "SCHEDULED",
    "freeze": lambda kind, name: kind == "RUNNING" and name != "Frozen",
    "thaw": lambda _kind, name: name == "Frozen",
}


def allowed(request: str, state_type: str, state_name: str) -> bool:
    """Whether a request makes sense in this state."""
    return _ALLOWED[request](state_type, state_name)


def gives_way(known: str, asked: str) -> bool:
    """Whether what was asked of a run before is replaced by what is asked now."""
    return known in ("none", "pause") or STRENGTH.index(asked) >= STRENGTH.index(known)
