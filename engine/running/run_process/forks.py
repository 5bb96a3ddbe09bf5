"""Child processes that user code forks: the run stays with its parent, the child loses nothing it was sent.

A child has none of our threads and may not touch the store (SQLite does not work across a fork). Its output still
belongs to the run; what else of the run it calls is refused in words.
"""

from __future__ import annotations

import os
import signal
import threading
import weakref
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from ..effects.interrupts import END_SIGNALS, STOP_SIGNAL

if TYPE_CHECKING:
    from .session import Session


class LeftBehind:
    """What stands for a part of the session in a child process that user code forked: it has none of the threads."""

    def __init__(self, run_id: int) -> None:
        self._run_id = run_id

    def __getattr__(self, name: str) -> Any:
        raise UsageError(
            f"this process was forked from run #{self._run_id}: tasks, subflows, metrics and artifacts belong to the "
            "run's own process; return the values to it and call them there"
        )


live: weakref.WeakSet[Session] = weakref.WeakSet()
"""The sessions between their start and their close, which leave themselves to their parent in a forked process."""


def live_sessions() -> list[Session]:
    """Of the root runs of this process; in a forked one of those it left behind."""
    return list(live)


_fork = threading.local()


def _before_fork() -> None:
    """A signal that a child gets before it has left our handler behind waits until then, or it would be lost."""
    if live:
        _fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*END_SIGNALS, STOP_SIGNAL})


def _after_fork() -> None:
    mask = _fork.__dict__.pop("mask", None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    for session in list(live):
        session.leave_to_parent()
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
