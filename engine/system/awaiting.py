"""Calls that are done at once and may be awaited all the same: one name for both, as in Prefect.

Such a call (``Variable.get``, an artifact) gives its value everywhere, and something to await only where the expression
itself is ``await …``: a value that was taken for an awaitable fails loudly, the other way round nobody would notice.
Reads the calling bytecode and nothing else: it knows no run.
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


class Given(Generic[T]):
    """What ``await`` turns into a value that is known already."""

    def __init__(self, value: T) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, None, T]:
        yield from ()
        return self._value


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
