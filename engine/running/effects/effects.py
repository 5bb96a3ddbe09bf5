"""What an attempt asks of whoever drives it, and the drivers: one engine path for sync and async code.

The steps of a flow or task attempt are a generator that yields effects (call the user's function, wait, make this
durable). An effect is plain data: who drives the steps says on which host it is performed, and how. There are three
ways. ``drive`` performs effects in the calling thread and ``drive_async`` in a coroutine; the pool
(``runners.threads``) begins those that wait, holds no thread until they have ended, and performs the others. The rules
live in the steps alone.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeVar

from ....store.connection import Connection
from .interrupts import CoroutineSlot, ThreadSlot, current_thread_slot, wait_set, woken_by

if TYPE_CHECKING:
    from ..calls.frame import Frame
    from .host import Host, Owner

R = TypeVar("R")
Operation = Callable[[Connection], Any]
_PULSE_SECONDS: Final = 0.1
"""How often an event loop of the user's own, in a thread that is interrupted at its next bytecode, has one."""
GoOn = Callable[..., None]
"""``go_on(value=None, error=None)``: an effect that was begun has ended. Called once, from any thread; never blocks."""


class Effect(ABC):
    """One thing that steps ask for. The answer is what performing it returns; what it raises is thrown into them."""

    __slots__ = ()
    is_breakable: ClassVar[bool] = False
    """Whether it merely waits. Such an effect can always be begun, and is over as soon as there is a word for the call
    that waits: ``go_on`` may then still come, and finds nobody."""

    @abstractmethod
    def perform(self, host: Host) -> Any:
        """In this thread, which may block; user code of the run runs in it, or it waits in the engine."""

    @abstractmethod
    async def perform_async(self, host: Host) -> Any:
        """In the running event loop, which does not block unless a plain function of the user's does."""

    def begin(self, host: Host, go_on: GoOn) -> bool:  # noqa: ARG002 - what most effects do: nothing
        """Have it done without a thread that waits; False, and nothing has happened, where it has to be performed."""
        return False


Steps = Generator[Effect, Any, R]
"""What is to be done, one effect at a time; returns what it came to."""


class Call(Effect):
    """Run the user's function within ``frame``; the answer is what it returns or raises."""

    __slots__ = ("args", "fn", "frame", "is_async", "kwargs", "owner")

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        frame: Frame,
        owner: Owner,
        is_async: bool,
    ) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.frame = frame
        self.owner = owner
        self.is_async = is_async

    def perform(self, host: Host) -> Any:
        """In this thread; a coroutine function gets an event loop of its own."""
        if self.is_async:
            import asyncio

            return asyncio.run(self.perform_async(host))
        slot = ThreadSlot()
        with host.activations.interruptible(self.frame, self.owner, slot):
            return slot.call(self.frame, self.fn, self.args, self.kwargs)

    async def perform_async(self, host: Host) -> Any:
        """In the running event loop; a plain function is called in place, as Prefect does."""
        if not self.is_async:
            return self.perform(host)
        slot = CoroutineSlot()
        with host.activations.interruptible(self.frame, self.owner, slot):
            return await slot.run(self.frame, self.fn, self.args, self.kwargs)


class Sleep(Effect):
    """Let time pass without holding more than the driver must; ``subject`` is the call or run that waits."""

    __slots__ = ("seconds", "subject")
    is_breakable = True

    def __init__(self, seconds: float, subject: Owner | None = None) -> None:
        self.seconds = seconds
        self.subject = subject

    def perform(self, host: Host) -> None:
        """Raises Cancelled when run or subject is cancelled meanwhile. A pool's thread makes room for others."""
        ended = threading.Event()
        with wakeable(host, self.subject, ended.set), host.pool.lending():
            host.gate.sleep(self.seconds, ended)

    async def perform_async(self, host: Host) -> None:
        """As ``perform``, without blocking the event loop."""
        gate, told = host.gate, Told()
        with wakeable(host, self.subject, told.tell), gate.on_cancel(told.tell), gate.blocked(), host.pool.lending():
            await told.wait(self.seconds)
        gate.check()

    def begin(self, host: Host, go_on: GoOn) -> bool:
        """By a timer."""
        host.timers.after(self.seconds, go_on)
        return True


class Pass(Effect):
    """Go through the gate: wait while the run is paused, raise Cancelled when it, or the subject, is cancelled."""

    __slots__ = ("subject",)
    is_breakable = True

    def __init__(self, subject: Owner | None = None) -> None:
        self.subject = subject

    def perform(self, host: Host) -> None:
        """Blocks while the run is paused."""
        opened = threading.Event()
        with wakeable(host, self.subject, opened.set):
            host.gate.wait_open(opened)

    async def perform_async(self, host: Host) -> None:
        """As ``perform``, without blocking the event loop."""
        gate, told = host.gate, Told()
        with wakeable(host, self.subject, told.tell):
            if gate.when_open(told.tell):
                with gate.blocked():
                    await told.wait()
        gate.check()

    def begin(self, host: Host, go_on: GoOn) -> bool:
        """Through an open gate at once."""
        if not host.gate.when_open(go_on):
            go_on()
        return True


class Durable(Effect):
    """Run a write and go on once it would survive the loss of power."""

    __slots__ = ("operation",)

    def __init__(self, operation: Operation) -> None:
        self.operation = operation

    def perform(self, host: Host) -> Any:
        """Blocks until the write's group is committed."""
        return host.writer.commit(self.operation)

    async def perform_async(self, host: Host) -> Any:
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

        host.writer.submit(self.operation, written)
        return await done

    def begin(self, host: Host, go_on: GoOn) -> bool:
        """The writer's thread goes on."""
        host.writer.submit(self.operation, go_on)
        return True


class Awaited(Protocol):
    """Something that ends by itself and calls back then: a future, all of a run's tasks, an answer from outside."""

    def done(self) -> bool:
        """Whether it has ended."""

    def when_done(self, callback: Callable[[], None], /) -> None:
        """Call back once it has, from whatever thread ends it; at once when it has."""


class Await(Effect):
    """Wait until something that calls back has ended (all of a run's tasks, or one future), or for so long."""

    __slots__ = ("awaited", "seconds")

    def __init__(self, awaited: Awaited, seconds: float | None = None) -> None:
        self.awaited = awaited
        self.seconds = seconds

    def perform(self, host: Host) -> None:
        """Blocks; raises Cancelled when the run is cancelled meanwhile."""
        if self.awaited.done():
            return
        ended = threading.Event()
        self.awaited.when_done(ended.set)
        gate = host.gate
        with gate.on_cancel(ended.set), gate.blocked(), host.pool.lending(), woken_by(ended.set):
            wait_set(ended, self.seconds)
        if not self.awaited.done():
            gate.check()

    async def perform_async(self, host: Host) -> None:
        """As ``perform``, without blocking the event loop."""
        if self.awaited.done():
            return
        gate, told = host.gate, Told()
        self.awaited.when_done(told.tell)
        with gate.on_cancel(told.tell), gate.blocked(), host.pool.lending():
            await told.wait(self.seconds)
        if not self.awaited.done():
            gate.check()


class AwaitTurn(Effect):
    """Wait for what others have now, until it is told that it is free; ``subject`` is the call that waits."""

    __slots__ = ("subject", "turn")
    is_breakable = True

    def __init__(self, turn: Awaited, subject: Owner | None = None) -> None:
        self.turn = turn
        self.subject = subject

    def perform(self, host: Host) -> None:
        """Blocks; raises Cancelled when the run, or the subject, is cancelled meanwhile."""
        ended = threading.Event()
        self.turn.when_done(ended.set)
        gate = host.gate
        with (
            wakeable(host, self.subject, ended.set), gate.on_cancel(ended.set), gate.blocked(), host.pool.lending(),
            woken_by(ended.set),
        ):  # fmt: skip
            wait_set(ended)
        gate.check()

    async def perform_async(self, host: Host) -> None:
        """As ``perform``, without blocking the event loop."""
        gate, told = host.gate, Told()
        self.turn.when_done(told.tell)
        with wakeable(host, self.subject, told.tell), gate.on_cancel(told.tell), gate.blocked(), host.pool.lending():
            await told.wait()
        gate.check()

    def begin(self, host: Host, go_on: GoOn) -> bool:  # noqa: ARG002 - whoever tells calls back
        """Goes on with whoever tells."""
        self.turn.when_done(go_on)
        return True


class EndEverything(Effect):
    """After a cancellation: give what still runs the grace, then go on without it."""

    __slots__ = ()

    def perform(self, host: Host) -> None:
        """Blocks for the grace at most."""
        host.ending.end_everything()

    async def perform_async(self, host: Host) -> None:
        """As ``perform``; the coroutines among them need the event loop to end."""
        import asyncio

        await asyncio.to_thread(host.ending.end_everything)


class Told:
    """What a coroutine waits for that any thread may tell it; made in the event loop that will wait."""

    __slots__ = ("_event", "_loop")

    def __init__(self) -> None:
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def tell(self) -> None:
        """The wait is over; nothing when its event loop has ended meanwhile."""
        with suppress(RuntimeError):  # closed, or closed in this moment
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, seconds: float | None = None) -> None:
        """Until somebody tells, or the time is up."""
        timers = [] if seconds is None else [self._loop.call_later(seconds, self._event.set)]
        slot = current_thread_slot()
        # What is raised in such a thread comes only once that runs Python code, which it may not for long.
        if slot is not None and slot.is_open and threading.current_thread() is not threading.main_thread():

            def pulse() -> None:
                timers[-1] = self._loop.call_later(_PULSE_SECONDS, pulse)

            timers.append(self._loop.call_later(_PULSE_SECONDS, pulse))
        try:
            await self._event.wait()
        finally:
            for timer in timers:
                timer.cancel()


@contextmanager
def wakeable(host: Host, subject: Owner | None, wake: Callable[[], None]) -> Iterator[None]:
    """Around a wait of a call or run for a time, slots or the gate: ``wake`` when it is told to end, then Cancelled."""
    if subject is None:
        yield
        return
    nodes = host.nodes
    nodes.waiting[subject] = wake
    try:
        if nodes.has_word_for(subject):
            wake()
        yield
    finally:
        nodes.waiting.pop(subject, None)
    nodes.check(subject)


def drive(host: Host, steps: Steps[R]) -> R:
    """Perform the steps in this thread; returns what they return."""
    try:
        effect = next(steps)
        while True:
            try:
                answer = effect.perform(host)
            except BaseException as error:  # noqa: BLE001 - handed to the steps, which decide
                effect = steps.throw(error)
            else:
                effect = steps.send(answer)
    except StopIteration as end:
        came_to: R = end.value
        return came_to


async def drive_async(host: Host, steps: Steps[R]) -> R:
    """Perform the steps in the running event loop; returns what they return."""
    try:
        effect = next(steps)
        while True:
            try:
                answer = await effect.perform_async(host)
            except BaseException as error:  # noqa: BLE001 - handed to the steps, which decide
                effect = steps.throw(error)
            else:
                effect = steps.send(answer)
    except StopIteration as end:
        came_to: R = end.value
        return came_to
