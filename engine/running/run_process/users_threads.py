"""Threads that a run's code starts by itself: what runs there belongs to the run, and the task, that started it.

``threading`` starts threads without what the starting code knows, so a task called in one would be a run of its own.
Here a thread is given the frame it is started in, and so is each piece of work that is handed to a pool of threads,
whoever's pool that is. Nothing changes for threads that are started outside of runs. Installed once a run begins.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from ...context import current_frame as any_frame
from ...context import current_tags
from ..calls.frame import Frame, current_frame, current_transaction

_OURS: Final = "flowdeck-"
"""How the threads of the engine are named."""
_POOLS: Final = "concurrent.futures.thread"
_installed: set[str] = set()


def install() -> None:
    """From now on threads and pools of threads know the frame they were given work in."""
    if "threads" not in _installed:
        _installed.add("threads")
        _carry_into_threads()
    _carry_into_pools()


def _carry_into_threads() -> None:
    start = threading.Thread.start

    def start_in_frame(self: threading.Thread) -> None:
        frame = current_frame.get()
        if frame is None or not _is_users(self):
            start(self)
            return
        run = _carried(frame, self.run)

        def run_once() -> None:
            vars(self).pop("run", None)  # no circle is left
            run()

        self.run = run_once  # type: ignore[method-assign]
        try:
            start(self)
        except BaseException:
            vars(self).pop("run", None)
            raise

    start_in_frame.__doc__ = start.__doc__
    threading.Thread.start = start_in_frame  # type: ignore[method-assign]


def _carry_into_pools() -> None:
    """Where pools are used at all: their module is not loaded for this."""
    pools: Any = sys.modules.get(_POOLS)
    if pools is None or _POOLS in _installed:
        return
    _installed.add(_POOLS)
    submit = pools.ThreadPoolExecutor.submit

    def submit_in_frame(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        frame = current_frame.get()
        return submit(self, fn if frame is None else _carried(frame, fn), *args, **kwargs)

    submit_in_frame.__doc__ = submit.__doc__
    pools.ThreadPoolExecutor.submit = submit_in_frame


def _is_users(thread: threading.Thread) -> bool:
    """Neither one of the engine nor of a pool, whose work is carried piece by piece and may be of several runs.

    The very first of a pool that was loaded late has its first piece already: that is of the frame it is started in.
    """
    if thread.name.startswith(_OURS):
        return False
    is_of_pool = getattr(getattr(thread, "_target", None), "__module__", None) == _POOLS
    is_known = _POOLS in _installed
    if is_of_pool:
        _carry_into_pools()
    return not is_of_pool or not is_known


def _carried(frame: Frame, fn: Callable[..., Any]) -> Callable[..., Any]:
    tags, block = current_tags.get(), current_transaction.get()

    def carried(*args: Any, **kwargs: Any) -> Any:
        if frame.run.session.is_closed:
            return fn(*args, **kwargs)
        with _within(frame):
            tokens = current_tags.set(tags), current_transaction.set(block)
            try:
                return fn(*args, **kwargs)
            finally:
                current_tags.reset(tokens[0])
                current_transaction.reset(tokens[1])

    return carried


@contextmanager
def _within(frame: Frame) -> Iterator[None]:
    token = any_frame.set(frame)
    try:
        yield
    finally:
        any_frame.reset(token)
        if not frame.run.session.is_closed:
            frame.run.session.capture.end_lines(frame)
