"""Stopping user code from outside: an exception raised in it, in whatever thread or coroutine it runs.

**A slot** stands around one activation of user code, and is *open* only while that code itself runs. It closes when
the code calls the engine (a task, ``result()``, a hook of ours) and opens again when the call returns. An interruption
of an open slot is raised in the code at once; one of a closed slot waits, and is raised when the slot opens, that is in
user code again. So whoever wrote ``with open(...)`` or ``finally`` around their work sees the exception come out of a
line of theirs, and the engine's own code, which may hold a lock or be half through a record, never sees one.

**Three ways to raise.**

- *The main thread* gets ``SIGURG``, whose handler raises. A signal also ends a system call that blocks, as a sleep or
  a read, which is why it is preferred where it can be had: it can in the main thread only, and only while our handler
  stands (``TerminationHandler``, from the session's start to its close).
- *Other threads* get the exception at their next bytecode (``PyThreadState_SetAsyncExc``). Code within a C function
  hears of it when that returns: what never returns is told of as overdue, or left behind after the grace. CPython takes
  a class and no object here, so the text is lost on the way; who judges the outcome looks up the reason instead.
- *Coroutines* are cancelled at their await, by asyncio, from the thread of their event loop; what comes out is the
  exception that was asked for, not ``CancelledError``. A plain function that blocks the loop is a thread's code.

A worker process has a slot, too, that nothing is raised in: who waits for the process ends it.

**Who may interrupt.** Anybody, from any thread; mostly it is the watcher, for cancellations, timeouts and suspensions.
Interrupting takes no lock but the slot's own, which nobody holds for longer than a few instructions. The signal's
handler takes none at all: it runs between any two bytecodes of the main thread, which may hold any lock. So it reads,
raises, and leaves the rest to the watcher. Of several interruptions of a thread the last counts, of a process the
first. What has not been delivered when the code ends is taken back from CPython, or the thread would raise it in the
engine later; it may still land in the first lines of ``close``, which is why more than that stands in a ``finally``.

**Who must not raise.** Code of the engine raises to its own callers, never into another thread other than through a
slot. A wait in the engine on behalf of user code does not sleep through an interruption either: it gives its slot a way
to be woken (``woken_by``) and then raises ``Cancelled`` by itself, in its own thread (``ThreadSlot.check``).

**What comes unasked.** A signal to end from outside raises ``Cancelled`` in the main thread if user code runs there at
that moment, else nothing: the watcher sees at its next tick that it came, and ends the run. ``KeyboardInterrupt`` is
Python's own and comes wherever the main thread is, in code of ours as well; the steps take it for a cancellation.

**In a forked child** the other threads are gone, and our handlers with them; its code runs on in the slot it was forked
in until it comes back into the engine, where the child ends (``borders``).
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ...context import current_frame
from ...errors import Suspended
from ...states.state import Cancelled
from . import borders

if TYPE_CHECKING:
    from ..calls.frame import Frame

INTERRUPT_SIGNAL = signal.SIGURG
"""What wakes the main thread. Nothing happens by default when it comes, so one that comes late does no harm."""
END_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""What asks this process from outside to end; Ctrl-C is Python's own ``KeyboardInterrupt``."""
STOP_SIGNAL: Final = signal.SIGTSTP
"""What Ctrl-Z sends: obeyed where no transaction is under way."""
HEAR_SECONDS: Final = 1.0
"""The longest that the main thread waits in one go in code of the engine."""


class _Local(threading.local):
    slot: ThreadSlot | None = None
    """The innermost user code of this thread."""


_local = _Local()


class ThreadSlot:
    """User code running in the current thread."""

    __slots__ = ("_injected", "_is_main", "_lock", "_note", "_outer", "_pending", "_signalled", "_thread_id", "_wake",
                 "heard_end", "is_open")  # fmt: skip

    def __init__(self) -> None:
        self._thread_id = threading.get_ident()
        self._is_main = self._thread_id == threading.main_thread().ident
        self._lock = threading.Lock()
        self._pending: BaseException | None = None
        self._injected = False
        self._signalled: BaseException | None = None
        self._outer: ThreadSlot | None = None
        self._wake: Callable[[], None] | None = None
        self._note: Callable[[], None] | None = None
        self.heard_end = False
        """The handler of a signal to end has raised in this code."""
        self.is_open = False

    def call(self, frame: Frame, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``fn(*args, **kwargs)`` as user code of ``frame``."""
        token = current_frame.set(frame)
        self._outer = _local.slot
        _local.slot = self
        forks = borders.forks
        capture = frame.run.session.capture
        try:
            self._note = capture.enter(self, frame)
            self.open()
            return fn(*args, **kwargs)
        except BaseException as error:
            borders.admit(error)
            raise
        finally:
            try:
                if borders.forks != forks:
                    borders.end_child(frame)
                self.close()  # an interruption may still land in here
                capture.leave(self, frame)
            finally:
                _local.slot = self._outer
                current_frame.reset(token)

    def open(self) -> None:
        """User code begins or goes on; raises what was asked for while it did not run."""
        with self._lock:
            self.is_open = True
            pending, self._pending = self._pending, None
            if self._note is not None:
                self._note()
        if pending is not None:
            raise pending

    def close(self) -> None:
        """User code has ended or called the engine: nothing is raised in this thread any more."""
        with self._lock:
            self.is_open = False
            if self._signalled is not None:  # the signal has not arrived yet: raised when user code goes on
                self._pending, self._signalled = self._signalled, None
            if self._injected:
                _raise_in_thread(self._thread_id, None)
                self._injected = False

    def interrupt(self, error: BaseException) -> None:
        """Raise ``error`` in the user code: now when it runs, else when it goes on. From any thread."""
        wake = None
        with self._lock:
            if not self.is_open:
                self._pending, wake = error, self._wake
            elif self._is_main and signal.getsignal(INTERRUPT_SIGNAL) is _interrupt:
                self._signalled = error
                signal.pthread_kill(self._thread_id, INTERRUPT_SIGNAL)
            else:
                self._injected = True
                _raise_in_thread(self._thread_id, type(error))
        if wake is not None:
            wake()

    def wake_with(self, wake: Callable[[], None] | None) -> None:
        """While the user code waits in the engine: what ends the wait when the code is to be interrupted."""
        with self._lock:
            self._wake = wake
            pending = self._pending is not None
        if pending and wake is not None:
            wake()

    def check(self) -> None:
        """Raise ``Cancelled`` in engine code when an interruption waits for the user code to go on."""
        if self._pending is not None:
            raise (Suspended if isinstance(self._pending, Suspended) else Cancelled)(str(self._pending))

    def take_signalled(self) -> BaseException | None:
        """In the signal handler: what to raise here, if the signal was ours."""
        if not self.is_open:
            return None  # it comes while the slot closes, which keeps it until user code goes on
        error, self._signalled = self._signalled, None
        return error


class _Carried:
    """An exception on its way out of a coroutine, as a value."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


async def _carry(frame: Frame, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``await fn(*args, **kwargs)``; what asyncio would end the whole event loop with is returned ``_Carried``."""
    forks = borders.forks
    try:
        try:
            return await fn(*args, **kwargs)
        except Exception as error:
            borders.admit(error)
            raise
        finally:
            if borders.forks != forks:
                borders.end_child(frame)
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        return _Carried(error)


class CoroutineSlot:
    """User code running as a coroutine; interrupted by cancelling its asyncio task."""

    __slots__ = ("_error", "_loop", "_task", "is_open")
    heard_end: ClassVar[bool] = False
    """A signal's handler never raises in a coroutine: the event loop runs it."""

    def __init__(self) -> None:
        self._error: BaseException | None = None
        self._loop: Any = None
        self._task: Any = None
        self.is_open = False

    async def run(self, frame: Frame, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``await fn(*args, **kwargs)`` as user code of ``frame``."""
        import asyncio
        import contextvars

        context = contextvars.copy_context()
        context.run(current_frame.set, frame)
        self._loop = asyncio.get_running_loop()
        outer, _local.slot = _local.slot, None
        task = context.run(lambda: self._loop.create_task(_carry(frame, fn, args, kwargs), context=context))
        self._task = task
        capture = frame.run.session.capture
        self.is_open = True
        capture.enter(self, frame, is_coroutine=True)
        try:
            if self._error is not None:
                task.cancel()
            value = await task
        except asyncio.CancelledError:
            if self._error is not None:
                raise self._error from None
            task.cancel()
            raise
        except Cancelled:
            # A call within it was told to end with it, and came first.
            if self._error is not None:
                raise self._error from None
            raise
        finally:
            capture.leave(self, frame)
            self.is_open = False
            _local.slot = outer
        if type(value) is _Carried:
            borders.admit(value.error)
            raise value.error
        return value

    def interrupt(self, error: BaseException) -> None:
        """Cancel the coroutine; what comes out of it is ``error``. From any thread."""
        self._error = error
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)


class ProcessSlot:
    """User code running in a worker process; interrupted by ending that process."""

    __slots__ = ("_wake", "error", "is_open")
    heard_end: ClassVar[bool] = False
    """A signal's handler never raises in another process."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        """Why it is to end."""
        self.is_open = True
        self._wake: Callable[[], None] | None = None

    def interrupt(self, error: BaseException) -> None:
        """Have whoever waits for the process end it; what comes out of the call is ``error``. From any thread."""
        if self.error is None:
            self.error = error
        if (wake := self._wake) is not None:
            wake()

    def wake_with(self, wake: Callable[[], None] | None) -> None:
        """What tells the thread that waits for the process; at once when there is a reason already."""
        self._wake = wake
        if wake is not None and self.error is not None:
            wake()


Slot = ThreadSlot | CoroutineSlot | ProcessSlot
"""An activation of user code that can be interrupted."""


def in_body() -> bool:
    """Whether the code that runs is the function of a flow or of a task itself, which makes its calls in one order.

    Not: a coroutine that it gathers, a thread that it starts.
    """
    if (asyncio := sys.modules.get("asyncio")) is not None and asyncio._get_running_loop() is not None:
        coroutine = task.get_coro() if (task := asyncio.current_task()) is not None else None
        return getattr(coroutine, "cr_code", None) is _carry.__code__
    return _local.slot is not None


class engine_code:  # noqa: N801 - reads as a block: ``with engine_code():``
    """A block of engine code called from user code: closes the thread's slot meanwhile."""

    __slots__ = ("_slot",)

    def __enter__(self) -> None:
        slot = _local.slot
        if slot is not None and slot.is_open:
            self._slot: ThreadSlot | None = slot
            slot.close()
        else:
            self._slot = None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._slot is not None:
            self._slot.open()


def hearing(timeout_seconds: float | None = None) -> Iterator[float | None]:
    """How long to wait in one go, again and again until the time is up (None: for ever); engine code waits by this.

    A signal that comes in the moment before the main thread blocks is only noted: its Python handler runs when the
    thread does, and it would sleep with SIGTERM or Ctrl-C unheard. So that thread gets up now and then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield timeout_seconds
        return
    until = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    left = HEAR_SECONDS
    while left > 0:
        if until is not None:
            left = until - time.monotonic()
        yield max(0.0, min(left, HEAR_SECONDS))


def wait_set(event: threading.Event, timeout_seconds: float | None = None) -> bool:
    """Wait until it is set; says whether it is."""
    return any(event.wait(seconds) for seconds in hearing(timeout_seconds))


@contextmanager
def woken_by(wake: Callable[[], None]) -> Iterator[None]:
    """Around a wait in engine code: an interruption of the waiting user code calls ``wake`` and raises Cancelled."""
    slot = current_thread_slot()
    if slot is None:
        yield
        return
    slot.wake_with(wake)
    try:
        yield
    finally:
        slot.wake_with(None)
    slot.check()


def current_thread_slot() -> ThreadSlot | None:
    """The slot of the user code running in this thread."""
    return _local.slot


def is_coroutine_cancelled(error: BaseException) -> bool:
    """Whether this is asyncio's ``CancelledError``; asked without loading asyncio."""
    return type(error).__name__ == "CancelledError" and type(error).__module__ == "asyncio.exceptions"


class TerminationHandler:
    """Signals while root runs hold the main thread: our own interruptions, and from outside to end or to stop.

    What asks to end raises ``Cancelled`` carrying the signal's name, so that ``finally`` blocks run; the run decides
    from its intent whether it was cancelled or crashed. A handler runs between any two bytecodes of the main thread,
    which may hold any lock: it takes none, and leaves the rest to the session's background thread. What was ignored
    stays ignored, as ``nohup`` wants it, and what user code handles stays its own, but for SIGTERM. Several root runs
    of one event loop hear of the same signals.
    """

    _live: ClassVar[list[TerminationHandler]] = []
    _previous: ClassVar[dict[signal.Signals, Any]] = {}

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        """Which signal to end came from outside."""
        self.stop_asked = False
        """Ctrl-Z came, and is not obeyed yet."""

    def install(self) -> None:
        """Only in the main thread; elsewhere the process keeps its own handlers."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._live.append(self)
        if len(self._live) > 1:
            return
        wanted = {INTERRUPT_SIGNAL: _interrupt, STOP_SIGNAL: _stop, **dict.fromkeys(END_SIGNALS, _end)}
        for number, handler in wanted.items():
            known = signal.getsignal(number)
            is_ours = number == INTERRUPT_SIGNAL or (number == signal.SIGTERM and known is not signal.SIG_IGN)
            if known is signal.SIG_DFL or is_ours:
                self._previous[number] = signal.signal(number, handler)

    def remove(self) -> None:
        """Put back what was there."""
        if self in self._live:
            self._live.remove(self)
        if self._live:
            return
        for number, previous in self._previous.items():
            signal.signal(number, previous if previous is not None else signal.SIG_DFL)
        self._previous.clear()

    @classmethod
    def tell(cls, number: signal.Signals) -> None:
        """In a signal's handler: note what came, for all root runs of this thread."""
        for handler in cls._live:
            if number in (STOP_SIGNAL, signal.SIGCONT):  # the second takes back the first
                handler.stop_asked = number == STOP_SIGNAL
            else:
                handler.received = handler.received or number


def _interrupt(_number: int, _frame: object) -> None:
    slot = current_thread_slot()
    if slot is not None and (ours := slot.take_signalled()) is not None:
        raise ours


def _stop(number: int, _frame: object) -> None:
    TerminationHandler.tell(signal.Signals(number))


def _end(number: int, _frame: object) -> None:
    slot = current_thread_slot()
    is_open = slot is not None and slot.is_open
    if slot is not None and is_open:
        slot.heard_end = True  # before anybody who is told could look
    TerminationHandler.tell(signal.Signals(number))
    if is_open:
        raise Cancelled(f"the process received {signal.Signals(number).name}")


def _raise_in_thread(thread_id: int, kind: type[BaseException] | None) -> None:
    """Have CPython raise ``kind`` in a thread at its next bytecode; None takes an undelivered one back."""
    import ctypes

    target = ctypes.py_object(kind) if kind is not None else ctypes.py_object()
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), target)
