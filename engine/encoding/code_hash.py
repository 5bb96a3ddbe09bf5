"""Names the code of a function, so that a changed one is noticed when its recorded results are looked at.

The name is made of the compiled code and the defaults: comments, layout, docstring and decorators do not count, nor do
the functions it calls. Names made by different versions of Python are not comparable.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

from .digest import blake2b
from .fingerprint import fingerprint

_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}:"
_PACKAGE = __name__.partition(".")[0]


def recorded_code_hash(fn: Callable[..., Any]) -> str | None:
    """As ``code_hash``, for the record of a call; None for a function of ours, whose code is not the user's to change.

    A later version does the same in other code: what its own tasks and graphs had finished does not run again for that.
    """
    inner = _function(fn)
    stands_in = str(getattr(inner, "__globals__", {}).get("__name__", ""))  # whatever it calls its module
    return None if stands_in.startswith(f"{_PACKAGE}.engine.") else code_hash(fn)


def code_hash(fn: Callable[..., Any]) -> str | None:
    """A short text naming the function's code; None for what has no Python code (a builtin)."""
    fn = _function(fn)
    code = getattr(fn, "__code__", None)
    if not isinstance(code, CodeType):
        return None
    digest = blake2b(digest_size=8)
    for part in _parts(code, getattr(fn, "__doc__", None)):
        digest.update(part.encode("utf-8", "backslashreplace") if isinstance(part, str) else part)
        digest.update(b"\0")
    defaults = {"positional": getattr(fn, "__defaults__", None), "keyword": getattr(fn, "__kwdefaults__", None)}
    digest.update(fingerprint(defaults).encode("utf-8", "backslashreplace"))
    return _VERSION + digest.hexdigest()


def _function(fn: Any) -> Any:
    """What is called in the end: without decorators, and of an object that can be called its class's function."""
    while hasattr(fn, "__wrapped__"):
        fn = fn.__wrapped__
    return fn if getattr(fn, "__code__", None) is not None else vars(type(fn)).get("__call__", fn)


def is_changed(recorded: str | None, now: str | None) -> bool:
    """Whether two names are known to be of different code."""
    if recorded is None or now is None or recorded == now:
        return False
    return recorded.partition(":")[0] == now.partition(":")[0]


def _parts(code: CodeType, doc: str | None) -> Iterator[str | bytes]:
    yield code.co_code
    yield code.co_exceptiontable
    yield " ".join((*code.co_names, "/", *code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]))
    for place, constant in enumerate(code.co_consts):
        if place == 0 and (constant is None or constant == doc):
            continue  # the docstring's place
        if isinstance(constant, CodeType):
            yield from _parts(constant, None)
        elif isinstance(constant, frozenset):
            yield repr(sorted(map(repr, constant)))
        else:
            yield repr(constant)
