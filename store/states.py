"""The vocabulary of states: nine types, the names they carry, and which are final.

Values only: which state may follow which is decided in ``engine.states.machine``. Names and types are Prefect's where
Prefect has them (docs/design.md, section 2).
"""

from __future__ import annotations

from typing import Final, Literal

StateType = Literal[
    "SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING", "CANCELLED", "COMPLETED", "FAILED", "CRASHED"
]
"""The kind of a state; what programs test."""

SCHEDULED: Final = "SCHEDULED"
"""Waits for its time, a retry, a slot or a process. Set by whoever created it; left by the dispatcher's claim."""
PENDING: Final = "PENDING"
"""Claimed, its process is being made; for a task: known, not begun. Left within milliseconds or by a crash."""
RUNNING: Final = "RUNNING"
"""User code runs in a live process."""
PAUSED: Final = "PAUSED"
"""Nothing of it runs until a person says so; it may or may not hold a process."""
CANCELLING: Final = "CANCELLING"
"""Its processes were told to end and at least one still lives. Left only to CANCELLED."""
CANCELLED: Final = "CANCELLED"
"""Ended because somebody asked; every process of it is gone."""
COMPLETED: Final = "COMPLETED"
"""Ended as it should."""
FAILED: Final = "FAILED"
"""Ended by the user's code: an exception, a timeout, a returned failed state."""
CRASHED: Final = "CRASHED"
"""Ended by something else: a signal, lack of memory, a reboot."""

NAMES: Final[dict[StateType, tuple[str, ...]]] = {
    "SCHEDULED": ("Scheduled", "Late", "AwaitingRetry", "AwaitingSlot", "Resuming"),
    "PENDING": ("Pending", "NotReady"),
    "RUNNING": ("Running", "Retrying", "Looped", "Pausing", "Frozen"),
    "PAUSED": ("Paused", "Suspended", "AwaitingInput"),
    "CANCELLING": ("Cancelling",),
    "CANCELLED": ("Cancelled", "Skipped"),
    "COMPLETED": ("Completed", "Cached", "RolledBack", "Skipped"),
    "FAILED": ("Failed", "TimedOut", "TriggerFailed"),
    "CRASHED": ("Crashed", "OutOfMemory", "Rebooted"),
}
"""Every name by its type; the first is the type's default. Users may return further names from flows."""

STATE_TYPES: Final[tuple[StateType, ...]] = tuple(NAMES)
TERMINAL_TYPES: Final[frozenset[str]] = frozenset({"CANCELLED", "COMPLETED", "FAILED", "CRASHED"})
"""Types that end a run. A task run named NotReady (type PENDING) has ended too: see ``is_terminal``."""


def is_terminal(state_type: str, state_name: str = "") -> bool:
    """Whether nothing more happens in this state unless a person or a recorded resume says so."""
    return state_type in TERMINAL_TYPES or state_name == "NotReady"
