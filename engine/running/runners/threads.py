"""Where submitted tasks run: a pool of threads that grows on need, and one event loop for async tasks.

A task is put here only once everything it waits for has ended, so a bounded pool never deadlocks on its own queue;
waiting for a retry or a shut gate holds no thread. The flow's task runner bounds the pool.
"""

from __future__ import annotations

import contextvars
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias

from ....store.states import is_terminal
from ...errors import Suspended
from ...states.state import Cancelled, State, describe_exception
from ..calls.task_call import NO_TAGS, TaskCall, cancelled_state
from ..effects.effects import Operation, Steps, drive_async
from .garbage import FullCollections

_Work: TypeAlias = "Callable[[], None] | TaskCall"

if TYPE_CHECKING:
    from ..calls.flow_run import FlowRun
    from ..calls.futures import Future
    from ..effects.host import Host
    from .drive import Drive
    from .knots import Knots

FIRST_THREADS = min(8, (os.cpu_count() or 1) + 2)
"""Threads made at once; more follow while tasks wait and none ends."""
MOST_THREADS = 1000
_MOST_UNWRITTEN = 1024
"""Ended calls that are not written yet: no call begins while there are more, each of them takes memory, and a process
that is killed has to make them again."""
_GROWTH = 8
_here = threading.local()
_level: contextvars.ContextVar[int] = contextvars.ContextVar("flowdeck_loop_level")
"""How many async tasks on event loops of the pool are around this code."""
_RECORDING_SECONDS = 1.0
"""How long calls that came back after a cancellation may take to record their own ends."""
logger = logging.getLogger("flowdeck.engine")
_TICKS_IN_HOOKS = 4
"""After so many ticks without progress the threads are slow outside of tasks, too: in hooks, or writing results."""


class Pool:
    """The threads of one root run."""

    def __init__(
        self, host: Host, steps_of: Callable[[TaskCall], Steps[State]], abandon: Callable[[TaskCall, str], Operation]
    ) -> None:
        self.host = host
        self.steps_of = steps_of
        """What is to be done of a call."""
        self._abandon = abandon
        """The write that ends a call, for this reason, whose code did not come back."""
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        self._lock = self.lock = threading.Lock()
        self._threads = 0
        self._taken = itertools.count()
        self._taken_at_last_tick = 0
        self._ticks_without_progress = 0
        self._held_by_writer = 0
        """Threads that wait until more of what has ended is written."""
        self.in_code: set[Drive] = set()
        """Calls whose user code has a thread now."""
        self._closed = False
        self._limit = MOST_THREADS
        self._lent = 0
        """Threads that wait for other tasks of the run: as many more may run meanwhile."""
        self._loops: list[tuple[Any, int]] = []
        """Of async tasks, by how many of these submitted one another."""
        self._calls: set[TaskCall] = set()
        self._coroutines: set[Any] = set()
        self._collections = FullCollections()
        self._loop_of: dict[TaskCall, int] = {}
        """The thread of the event loop that an async call runs in."""
        self._knots: Knots | None = None

    @property
    def has_calls(self) -> bool:
        """Whether anything submitted has not ended."""
        return bool(self._calls)

    @property
    def knots(self) -> Knots:
        """Who waits for whom; made with the first wait."""
        if self._knots is None:
            from .knots import Knots

            with self._lock:
                if self._knots is None:
                    self._knots = Knots(self._thread_of)
        return self._knots

    def limit(self, max_workers: int | None) -> None:
        """Bound the number of threads."""
        self._limit = MOST_THREADS if max_workers is None else max_workers

    def submit(self, call: TaskCall, context: contextvars.Context) -> None:
        """Run the steps of a ready call in a copy of the context; its future settles with their outcome.

        Both are made when it begins: of a hundred thousand calls most wait here.
        """
        with self._lock:
            self._calls.add(call)
        if call.task.is_async and self._limit >= MOST_THREADS:
            try:
                self._submit_async(call, self.steps_of(call), context.copy())
            except RuntimeError as error:  # the system has no thread for an event loop: nobody may wait for it
                self.settle(call, State("CRASHED", None, f"it could not begin: {error}", error=error))
        else:  # one of a bounded pool has a thread of it, with an event loop of its own
            call.context = context
            self.put(call)

    def expect(self, call: TaskCall) -> None:
        """A call that waits for others: a cancellation of the run must settle it, too."""
        with self._lock:
            self._calls.add(call)

    def put(self, work: _Work) -> None:
        """Have a thread do this."""
        self._work.put(work)
        if self._threads < min(FIRST_THREADS + self._lent, self._limit + self._lent):
            self._grow(1)

    @contextmanager
    def lending(self) -> Iterator[None]:
        """Around a wait for other tasks: a pool's own thread makes room for them, so that it never waits for itself."""
        if getattr(_here, "pool", None) is not self:
            yield
            return
        _here.waits += 1  # coroutines of one call may wait for several things at once, in one thread
        if _here.waits == 1:
            with self._lock:
                self._lent += 1
            if self._work.qsize():
                self._grow(1)
        try:
            yield
        finally:
            _here.waits -= 1
            if _here.waits == 0:
                with self._lock:
                    self._lent -= 1

    def tick(self) -> None:
        """Grow while work waits and no thread took any since the last tick, because they are all in slow user code.

        Threads that merely wait for their turn on the interpreter would only get more company. Also says how often full
        collections of garbage are to come.
        """
        self._collections.pace(len(self._calls))
        taken = next(self._taken)
        progress, self._taken_at_last_tick = taken > self._taken_at_last_tick + 1, taken
        progress = progress or self._held_by_writer > 0
        self._ticks_without_progress = 0 if progress else self._ticks_without_progress + 1
        stuck = not progress and len(self.in_code) >= self._threads
        if (stuck or self._ticks_without_progress >= _TICKS_IN_HOOKS) and (waiting := self._work.qsize()):
            self._grow(min(waiting, _GROWTH + self._threads))

    def cancel(self) -> None:
        """Make every waiting call pass the broken gate, which ends it as Cancelled."""
        self.host.stop_waiting()
        self.tick()

    def abandon(self, cause: str, reason: str) -> None:
        """Settle and record everything as Cancelled: what runs with ``cause``, what waits with ``reason``.

        Late results are dropped. What has come back records its own end and is waited for.
        """
        deadline = time.monotonic() + _RECORDING_SECONDS
        while self._recording() and time.monotonic() < deadline:
            time.sleep(0.002)
        with self._lock:
            calls, self._calls = list(self._calls), set()
        for call in calls:
            self._give_up(call, cause if call.state_type == "RUNNING" else reason)

    def abandon_waiting(self, runs: list[FlowRun], reason: str) -> None:
        """As ``abandon``, for what these runs submitted and what waits for a thread, a time or other tasks."""
        with self._lock:
            waiting = [call for call in self._calls if call.state_type != "RUNNING" and call.run in runs]
            self._calls.difference_update(waiting)
        for call in waiting:
            self._give_up(call, reason)

    def waiting_calls(self) -> list[TaskCall]:
        """Submitted calls whose code does not run: they wait for a thread, a time, a slot, the gate or other tasks."""
        with self._lock:
            return [call for call in self._calls if call.state_type in ("PENDING", "SCHEDULED", "PAUSED")]

    def end_waiting(self, reason_of: Callable[[TaskCall], str | None]) -> None:
        """Settle, as Cancelled, those that wait for a thread, the gate or other tasks and have a reason to end."""
        with self._lock:
            waiting = [call for call in self._calls if call.state_type == "PENDING"]
        for call in waiting:
            reason = reason_of(call)
            if reason is not None and call.state_type == "PENDING" and self._forget(call):
                call.tell_to_end(reason)
                if call.is_replay:
                    call.run.forget(call)
                self._give_up(call, reason)

    def leave_behind(self, call: TaskCall, cause: str) -> None:
        """As ``abandon``, for one call, submitted or not, whose code does not listen."""
        if call.future is None or self._forget(call):
            self._give_up(call, cause)

    def _forget(self, call: TaskCall) -> bool:
        """Whether its outcome was still to come: nobody else settles it from here on."""
        with self._lock:
            known = call in self._calls
            self._calls.discard(call)
        return known

    def abandon_run(self, run: FlowRun, cause: str) -> None:
        """As ``abandon``, for everything one run submitted."""
        with self._lock:
            calls = [call for call in self._calls if call.run is run]
            self._calls.difference_update(calls)
        for call in calls:
            self._give_up(call, cause)

    def submitted_by(self, run: FlowRun, scope_seq: int) -> list[Future[Any]]:
        """Futures, not yet settled, of what one task submitted."""
        with self._lock:
            calls = [call for call in self._calls if call.run is run and call.scope_seq == scope_seq]
        return [call.future for call in calls if call.future is not None]

    def _recording(self) -> bool:
        """Whether the code of some call has ended and its record is on its way."""
        with self._lock:
            return any(is_terminal(call.state_type, call.state_name) for call in self._calls)

    def _give_up(self, call: TaskCall, cause: str) -> None:
        if not is_terminal(call.state_type, call.state_name):
            self.host.writer.soon(self._abandon(call, cause))
        if call.tags != NO_TAGS:
            self.host.stop_waiting(call, cause)
        if call.future is not None and not call.future.done():
            call.future.resolve(cancelled_state(call, cause))

    def close(self) -> None:
        """End the idle threads; busy ones end with the process."""
        self._collections.leave()
        with self._lock:
            self._closed = True
            threads, loops = self._threads, [loop for loop, _ in self._loops]
        for _ in range(threads):
            self._work.put(None)
        for loop in loops:
            with suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(loop.stop)

    def settle(self, call: TaskCall, state: State) -> None:
        """The call's record is durable: let its future know."""
        with self._lock:
            known = call in self._calls
            self._calls.discard(call)
        if known and call.future is not None:
            call.release().resolve(state)

    def _grow(self, wanted: int) -> None:
        with self._lock:
            wanted = 0 if self._closed else max(0, min(wanted, self._limit + self._lent - self._threads))
            self._threads += wanted
        for made in range(wanted):
            try:
                threading.Thread(target=self._serve, name="flowdeck-worker", daemon=True).start()
            except RuntimeError as error:  # the system has no more: those there are do the work, or a later tick tries
                with self._lock:
                    self._threads -= wanted - made
                logger.warning("a thread of the run's pool cannot be made: %s", error)
                return

    def _serve(self) -> None:
        _here.pool, _here.waits = self, 0
        while (work := self._work.get()) is not None:
            next(self._taken)
            try:
                self._do(work)
            except BaseException:  # an interruption that came twice; nobody would hear of a thread that is gone
                logger.exception("a thread of the run's pool was interrupted in the engine and goes on")
            if self._threads > self._limit + self._lent and self._retire():
                return

    def _do(self, work: _Work) -> None:
        if isinstance(work, TaskCall):
            if self.host.writer.queued >= _MOST_UNWRITTEN:
                self._let_writer_go_first()
            from .drive import Drive

            Drive(self, work).advance()
        else:
            work()

    def _let_writer_go_first(self) -> None:
        """Not in what the user's code calls: what it holds meanwhile may be what a future's callback needs."""
        with self._lock:
            self._held_by_writer += 1
        self.host.writer.wait_for_room(_MOST_UNWRITTEN)
        with self._lock:
            self._held_by_writer -= 1

    def _retire(self) -> bool:
        """Whether this thread is one too many now that those who waited go on."""
        with self._lock:
            if self._threads <= self._limit + self._lent:
                return False
            self._threads -= 1
            return True

    def _submit_async(self, call: TaskCall, steps: Steps[State], context: contextvars.Context) -> None:
        level = context.get(_level, 0)
        context.run(_level.set, level + 1)
        loop, thread = self._event_loop(level)
        self._loop_of[call] = thread

        async def run() -> None:
            try:
                state = await drive_async(self.host, steps)
            except Suspended:
                return  # nobody may take this for an outcome: the call is made again
            except Cancelled as error:
                state = State("CANCELLED", None, str(error), error=error)
            except BaseException as error:  # noqa: BLE001 - settle whatever happens
                state = State("CRASHED", None, f"{type(error).__name__}: {error}", error=error)
            finally:
                self._loop_of.pop(call, None)
            self.settle(call, state)

        def start() -> None:
            task = loop.create_task(run(), context=context)
            self._coroutines.add(task)
            task.add_done_callback(self._coroutines.discard)

        loop.call_soon_threadsafe(start)

    def _event_loop(self, level: int) -> tuple[Any, int]:
        """With its thread. Never that of a task around: one that waits for what it submitted blocks its own."""
        import asyncio

        with self._lock:
            while len(self._loops) <= level:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=self._run_loop, args=(loop,), name="flowdeck-loop", daemon=True)
                thread.start()
                self._loops.append((loop, thread.ident or 0))
            return self._loops[level]

    def _thread_of(self, call: TaskCall) -> int | None:
        """The thread that has a call now."""
        if (thread := self._loop_of.get(call)) is not None:
            return thread
        return next((drive.thread for drive in self.in_code.copy() if drive.call is call), None)

    def _run_loop(self, loop: Any) -> None:
        """Until it is stopped; what is left in it then is dropped with the process or the run.

        A coroutine of the user's own that calls ``sys.exit`` ends an event loop, but not that of everybody's tasks.
        """
        while True:
            try:
                loop.run_forever()
                break
            except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt of coroutines and callbacks
                if self._closed:
                    break
                logger.warning("code in the event loop of the run's tasks raised %s; the loop goes on",
                               describe_exception(error))
        loop.close()
