"""What an attempt asks of whoever drives it, and the drivers: one engine path for sync and async code.

The steps of a flow or task attempt are a generator that yields effects (call the user's function, wait, make this
durable). ``drive`` performs them in the calling thread, ``drive_async`` in a coroutine, and ``runners`` on a pool
that holds no thread while nothing runs. The rules live in the steps alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ....store.connection import Connection
from .interrupts import CoroutineSlot, ThreadSlot, woken_by

if TYPE_CHECKING:
    from ..calls.frame import Frame
    from ..run_process.session import Session

Steps = Generator[Any, Any, Any]
Operation = Callable[[Connection], Any]


class Call:
    """Run the user's function within ``frame``; the answer is what it returns or raises."""

    __slots__ = ("args", "fn", "frame", "is_async", "kwargs", "owner")

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        frame: Frame,
        owner: Any,
        is_async: bool,
    ) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.frame = frame
        self.owner = owner
        self.is_async = is_async

    def perform(self) -> Any:
        """In this thread; a coroutine function gets an event loop of its own."""
        if self.is_async:
            import asyncio

            return asyncio.run(self.perform_async())
        slot = ThreadSlot()
        with self.frame.run.session.activations.interruptible(self.frame, self.owner, slot):
            return slot.call(self.frame, self.fn, self.args, self.kwargs)

    async def perform_async(self) -> Any:
        """In the running event loop; a plain function is called in place, as Prefect does."""
        if not self.is_async:
            return self.perform()
        slot = CoroutineSlot()
        with self.frame.run.session.activations.interruptible(self.frame, self.owner, slot):
            return await slot.run(self.frame, self.fn, self.args, self.kwargs)


class Sleep:
    """Let time pass without holding more than the driver must; ``subject`` is the call or run that waits."""

    __slots__ = ("seconds", "session", "subject")

    def __init__(self, session: Session, seconds: float, subject: Any = None) -> None:
        self.session = session
        self.seconds = seconds
        self.subject = subject

    def perform(self) -> None:
        """Raises Cancelled when run or subject is cancelled meanwhile. A pool's thread makes room for others."""
        ended = threading.Event()
        with wakeable(self.session, self.subject, ended.set), self.session.pool.lending():
            self.session.gate.sleep(self.seconds, ended)

    async def perform_async(self) -> None:
        """As ``perform``."""
        import asyncio

        waited = 0.0
        with self.session.gate.blocked():
            while waited < self.seconds:
                self.session.gate.check()
                self.session.nodes.check(self.subject)
                step = min(0.05, self.seconds - waited)
                await asyncio.sleep(step)
                waited += step
        self.session.gate.check()


class Pass:
    """Go through the gate: wait while the run is paused, raise Cancelled when it, or the subject, is cancelled."""

    __slots__ = ("session", "subject")

    def __init__(self, session: Session, subject: Any = None) -> None:
        self.session = session
        self.subject = subject

    def perform(self) -> None:
        """Blocks while the run is paused."""
        opened = threading.Event()
        with wakeable(self.session, self.subject, opened.set):
            self.session.gate.wait_open(opened)

    async def perform_async(self) -> None:
        """As ``perform``, without blocking the event loop."""
        import asyncio

        with self.session.gate.blocked():
            while not self.session.gate.is_open() and not self.session.nodes.has_word_for(self.subject):
                await asyncio.sleep(0.02)
        self.session.gate.check()


class Durable:
    """Run a write and go on once it would survive the loss of power."""

    __slots__ = ("operation", "session")

    def __init__(self, session: Session, operation: Operation) -> None:
        self.session = session
        self.operation = operation

    def perform(self) -> Any:
        """Blocks until the write's group is committed."""
        return self.session.writer.commit(self.operation)

    async def perform_async(self) -> Any:
        """As ``perform``, without blocking the event loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()

        def settle(value: Any, error: BaseException | None) -> None:
            if not done.cancelled():
                done.set_exception(error) if error is not None else done.set_result(value)

        def written(value: Any, error: BaseException | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, value, error)

        self.session.writer.submit(self.operation, written)
        return await done


class Await:
    """Wait until something that calls back has ended (all of a run's tasks, or one future), or for so long."""

    __slots__ = ("seconds", "session", "subject")

    def __init__(self, session: Session, subject: Any, seconds: float | None = None) -> None:
        self.session = session
        self.subject = subject
        self.seconds = seconds

    def perform(self) -> None:
        """Blocks; raises Cancelled when the run is cancelled meanwhile."""
        if self.subject.done():
            return
        ended = threading.Event()
        self.subject.when_done(ended.set)
        gate = self.session.gate
        with gate.on_cancel(ended.set), gate.blocked(), self.session.pool.lending(), woken_by(ended.set):
            ended.wait(self.seconds)
        if not self.subject.done():
            gate.check()

    async def perform_async(self) -> None:
        """As ``perform``, without blocking the event loop."""
        import asyncio

        if self.subject.done():
            return
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def ended() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(done.set)

        self.subject.when_done(ended)
        gate = self.session.gate
        with gate.on_cancel(ended), gate.blocked():
            try:
                async with asyncio.timeout(self.seconds):
                    await done.wait()
            except TimeoutError:
                pass
        if not self.subject.done():
            gate.check()


class EndEverything:
    """After a cancellation: give what still runs the grace, then go on without it."""

    __slots__ = ("session",)

    def __init__(self, session: Session) -> None:
        self.session = session

    def perform(self) -> None:
        """Blocks for the grace at most."""
        self.session.ending.end_everything()

    async def perform_async(self) -> None:
        """As ``perform``; the coroutines among them need the event loop to end."""
        import asyncio

        await asyncio.to_thread(self.session.ending.end_everything)


@contextmanager
def wakeable(session: Session | None, subject: Any, wake: Callable[[], None]) -> Iterator[None]:
    """Around a wait of a call or run for a time, slots or the gate: ``wake`` when it is told to end, then Cancelled."""
    if subject is None or session is None:
        yield
        return
    nodes = session.nodes
    nodes.waiting[subject] = wake
    try:
        if nodes.has_word_for(subject):
            wake()
        yield
    finally:
        nodes.waiting.pop(subject, None)
    nodes.check(subject)


def drive(steps: Steps) -> Any:
    """Perform the steps in this thread; returns what they return."""
    try:
        effect = next(steps)
        while True:
            try:
                answer = effect.perform()
            except BaseException as error:  # noqa: BLE001 - handed to the steps, which decide
                effect = steps.throw(error)
            else:
                effect = steps.send(answer)
    except StopIteration as end:
        return end.value


async def drive_async(steps: Steps) -> Any:
    """Perform the steps in the running event loop; returns what they return."""
    try:
        effect = next(steps)
        while True:
            try:
                answer = await effect.perform_async()
            except BaseException as error:  # noqa: BLE001 - handed to the steps, which decide
                effect = steps.throw(error)
            else:
                effect = steps.send(answer)
    except StopIteration as end:
        return end.value
