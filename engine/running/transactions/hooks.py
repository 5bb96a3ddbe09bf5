"""Calling the hooks of a transaction, one at a time, in its run's frame; what one raises is told, and stops nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...authoring.transaction import Transaction
from ...states.state import describe_exception
from ..calls.frame import Frame, current_frame, current_transaction
from ..effects.effects import Effect, Steps
from .parts import frame_of, tell

if TYPE_CHECKING:
    from ..effects.host import Host


def call_hook(part: Transaction, hook: Any, then: str) -> Steps[str | None]:
    """Call one hook; None, or in words what it raised. The log then has the traceback, and what follows: ``then``."""
    error: Exception | None = yield _Hook(hook, part, frame_of(part))
    if error is None:
        return None
    _tell(part, hook, error, then)
    return f"{_name(hook)} raised {describe_exception(error)}"


class _Hook(Effect):
    """Call one hook with its transaction; the answer is what it raised, or None."""

    __slots__ = ("frame", "hook", "transaction")

    def __init__(self, hook: Any, transaction: Transaction, frame: Frame | None) -> None:
        self.hook = hook
        self.transaction = transaction
        self.frame = frame

    def perform(self, _host: Host) -> Exception | None:
        """In this thread; an async hook gets an event loop of its own."""
        from ..calls.hooks import run_to_end

        with self._in_frame():
            try:
                run_to_end(self.hook(self.transaction))
            except Exception as error:  # noqa: BLE001 - the user's hook
                return error
        return None

    async def perform_async(self, _host: Host) -> Exception | None:
        """As ``perform``; an async hook in the running event loop."""
        import inspect

        with self._in_frame():
            try:
                outcome = self.hook(self.transaction)
                if inspect.isawaitable(outcome):
                    await outcome
            except Exception as error:  # noqa: BLE001 - the user's hook
                return error
        return None

    @contextmanager
    def _in_frame(self) -> Iterator[None]:
        """What the hook calls belongs to its run, and to no transaction."""
        token, block = current_frame.set(self.frame), current_transaction.set(None)
        try:
            yield
        finally:
            current_transaction.reset(block)
            current_frame.reset(token)


def _name(hook: Any) -> str:
    """A hook as the log names it."""
    name = getattr(hook, "__name__", None)
    return name if isinstance(name, str) else repr(hook)


def _tell(block: Transaction, hook: Any, error: Exception, then: str) -> None:
    """A hook's error, with its traceback, and what follows from it."""
    frame = frame_of(block)
    if frame is None:
        tell(block, 40, f"hook {_name(hook)} failed: {describe_exception(error)}; {then}")
        return
    ids = frame.run.id, frame.task.seq if frame.task is not None else None
    frame.run.session.log.exception(ids, f"hook {_name(hook)} failed; {then}", error)
