"""Calls that block in plain code and are awaited in coroutines: one name for both, as in Prefect.

Of a call that waits for long, which of the two it is, the code says that makes the call: a coroutine function of the
engine's own (an async flow or task) in its event loop, or, outside of runs, whatever runs in an event loop. A call
that is done at once (``Variable.get``, an artifact) gives its value everywhere, and something to await only where the
expression itself is ``await …``: a value that was taken for an awaitable fails loudly, the other way round nobody
would notice.
"""

from __future__ import annotations

import opcode
import sys
from collections.abc import Callable, Generator
from functools import wraps
from types import FrameType
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_AWAIT = opcode.opmap.get("GET_AWAITABLE")
_CACHE = opcode.opmap.get("CACHE")
_BYTES_OF_AN_INSTRUCTION = 2


def is_awaited(frame: Any) -> bool:
    """Whether the code that calls is a coroutine, which would block its event loop by waiting in place.

    ``frame`` is the ``Frame`` it belongs to; None outside a run.
    """
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


def given(frame: Any, value: Any) -> Any:
    """The value, or in a coroutine something that ``await`` turns into it."""
    return Given(value) if is_awaited(frame) else value


def also_awaited(function: Callable[P, T]) -> Callable[P, T]:
    """``await f()`` gives what ``f()`` gives, for a function that waits for nothing but the store.

    Prefect's ``_sync=True`` and ``_sync=False`` say which of the two it is to be.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        is_sync = kwargs.pop("_sync", None)
        value = function(*args, **kwargs)
        if is_sync or (is_sync is None and not _is_awaited_by(sys._getframe(1))):
            return value
        awaitable: Any = Given(value)
        return awaitable  # type: ignore[no-any-return]  # its await is the value

    return call


def _is_awaited_by(caller: FrameType) -> bool:
    """Whether the call under way in this frame is the operand of ``await``: the instruction after it says so."""
    code, place = caller.f_code.co_code, caller.f_lasti + _BYTES_OF_AN_INSTRUCTION
    while place < len(code) and code[place] == _CACHE:
        place += _BYTES_OF_AN_INSTRUCTION
    return place < len(code) and code[place] == _AWAIT
