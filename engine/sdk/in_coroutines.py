"""Calls that wait for long: they block in plain code and are awaited in coroutines, under one name, as in Prefect.

Which of the two a call is, the code says that makes it: a coroutine function of the engine's own (an async flow or
task) in its event loop, or, outside of runs, whatever runs in an event loop. Nothing waits here.
"""

from __future__ import annotations

import sys
from typing import Any

from ..running.calls.frame import Frame
from ..system.awaiting import Given


def is_awaited(frame: Frame | None) -> bool:
    """Whether the code that calls is a coroutine, which would block its event loop by waiting in place."""
    if frame is not None and not (frame.task.task.is_async if frame.task is not None else frame.run.flow.is_async):
        return False
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


def given(frame: Frame | None, value: Any) -> Any:
    """The value, or in a coroutine something that ``await`` turns into it."""
    return Given(value) if is_awaited(frame) else value
