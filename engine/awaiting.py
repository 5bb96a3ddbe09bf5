"""Calls that block in plain code and are awaited in coroutines: one name for both, as in Prefect.

Which of the two it is, the code says that makes the call: a coroutine function of the engine's own (an async flow or
task) in its event loop, or, outside of runs, whatever runs in an event loop.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from .context import Frame

T = TypeVar("T")


def is_awaited(frame: Frame | None) -> bool:
    """Whether the code that calls is a coroutine, which would block its event loop by waiting in place."""
    if frame is not None and not (frame.task.task.is_async if frame.task is not None else frame.run.flow.is_async):
        return False
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


class Given(Generic[T]):
    """What ``await`` turns into a value that is known already."""

    def __init__(self, value: T) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, None, T]:
        yield from ()
        return self._value


def given(frame: Frame | None, value: Any) -> Any:
    """The value, or in a coroutine something that ``await`` turns into it."""
    return Given(value) if is_awaited(frame) else value
