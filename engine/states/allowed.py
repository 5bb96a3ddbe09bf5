"""Which requests make sense in which state of a run: a pure table, light enough for the console.

Which request is stronger is the store's to keep (``store/tables/runs.py``): nothing takes a cancellation back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ...store.states import TERMINAL_TYPES

Request = Literal["pause", "suspend", "resume", "cancel", "retry", "skip", "freeze", "thaw"]

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
