"""Hearing that Python starts another program, before it does.

Audit hooks would tell of it, too, and cost every call of every logger. ``subprocess`` is not imported for this: a short
run has no use for it.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

_listeners: list[Callable[[], None]] = []


def before_children(listener: Callable[[], None]) -> None:
    """From now on this is called before a program is started by ``subprocess`` or ``os``, or a child forked."""
    if not _listeners:
        import _posixsubprocess

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
