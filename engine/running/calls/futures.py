"""Futures of submitted tasks: resolved only once the task's record is durable.

``result()`` gives the value or raises what ended the task; passing a future to another task makes a dependency.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from ...states.state import Cancelled, State, describe_exception
from ..effects.interrupts import engine_code, hearing, wait_set, woken_by
from .frame import current_frame

if TYPE_CHECKING:
    from ...authoring.tasks import Task
    from .flow_run import FlowRun
    from .task_call import TaskCall

T = TypeVar("T")
_lock = threading.Lock()
_PENDING = State("PENDING")
_NONE_YET: Any = object()


class EndedCall(NamedTuple):
    """What a future still says of its call."""

    run: FlowRun
    task: Task[Any, Any]
    seq: int
    name: str

    @property
    def reference(self) -> str:
        """``run/seq``."""
        return f"{self.run.id}/{self.seq}"


class Future(Generic[T]):
    """The outcome to come of one task run.

    User code may hold a hundred thousand of them: one that ended as most do is the one object that is left of its call.
    """

    __module__ = "flowdeck"

    __slots__ = (
        "__weakref__", "_call", "_callbacks", "_name", "_run", "_seq", "_state", "_task", "_value", "_waiters",
        "handled", "passed_on",
    )  # fmt: skip

    def __init__(self, call: TaskCall | None) -> None:
        self._call = call
        self._run: FlowRun | None = None
        """With ``_task``, ``_seq`` and ``_name`` what is left of the call once its end is recorded."""
        self._state: State | None = None
        """The outcome; of one that is a value and nothing else, made when somebody asks for it."""
        self._value: Any = _NONE_YET
        self._callbacks: Sequence[Callable[[Future[T]], None]] = ()
        """A list from the first one on that the user or another task adds."""
        self._waiters: tuple[threading.Event, ...] = ()
        """One for each who waits: what wakes one of them is not for the others."""
        self.handled = False
        """Whether the user's code has seen the outcome; an unseen failure fails the flow."""
        self.passed_on = False
        """Whether another task did not start because of it, whose outcome then stands for this one's."""

    @property
    def state(self) -> State:
        """The final state, or Pending."""
        self.handled = True
        return self.outcome or _PENDING

    @property
    def outcome(self) -> State | None:
        """The final state or None, without counting as seen by the user."""
        if self._state is None and self._value is not _NONE_YET:
            with _lock:
                if self._state is None:
                    self._state = State("COMPLETED", data=self._value)
        return self._state

    @property
    def has_completed(self) -> bool:
        """Whether the outcome is there and is as it should be; asked without making a state of it."""
        return self._value is not _NONE_YET or (self._state is not None and self._state.is_completed())

    @property
    def value(self) -> Any:
        """What a completed call came to."""
        if self._value is not _NONE_YET:
            return self._value
        return self._state.data if self._state is not None else None

    @property
    def call(self) -> TaskCall | EndedCall | None:
        """The call, or what is left of it."""
        call = self._call  # read first: it is taken away last
        if call is not None or self._run is None:
            return call
        name = self._name if isinstance(self._name, str) else f"{self._task.name}[{self._name}]"
        return EndedCall(self._run, self._task, self._seq, name)

    def let_go(self, call: TaskCall) -> None:
        """The end of the call is recorded: its names are all that is kept of it, its usual one only as its index."""
        self._task, self._seq = call.task, call.seq
        usual = call.task.task_run_name is None and (call.map_index is not None or call.call_index)
        self._name: str | int = call.call_index if usual else call.name
        self._run = call.run
        self._call = None

    @property
    def place(self) -> tuple[int, int] | None:
        """(run, seq) of its call."""
        call = self._call
        if call is not None:
            return call.run.id, call.seq
        return (self._run.id, self._seq) if self._run is not None else None

    @property
    def task_run_id(self) -> str | None:
        """``run/seq``."""
        place = self.place
        return f"{place[0]}/{place[1]}" if place is not None else None

    def done(self) -> bool:
        """Whether the outcome is there."""
        return self._value is not _NONE_YET or self._state is not None

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> T:
        """The task's value; raises its exception, or TimeoutError after ``timeout`` seconds without an outcome."""
        self.wait(timeout)
        if self._value is not _NONE_YET:
            self.handled = True
            plain: T = self._value
            return plain
        if self._state is None:
            raise TimeoutError(f"{self!r} has no result after {timeout} s")
        self.handled = True
        value: T = self._state.result(raise_on_failure=raise_on_failure)
        return value

    def wait(self, timeout: float | None = None) -> None:
        """Block until the outcome is there or ``timeout`` seconds passed; raises Cancelled with the run."""
        waiter = self._make_waiter()
        if waiter is None:
            return
        try:
            self._wait(waiter, timeout)
        finally:
            with _lock:
                self._waiters = tuple(other for other in self._waiters if other is not waiter)

    def _wait(self, waiter: threading.Event, timeout: float | None) -> None:
        frame = current_frame.get()
        with engine_code():
            if frame is None:
                wait_set(waiter, timeout)
                return
            session = frame.run.session
            gate = session.gate
            knots, call = session.pool.knots, self._call if timeout is None else None
            outer = knots.begin(call) if call is not None else None
            try:
                with gate.on_cancel(waiter.set), gate.blocked(), session.pool.lending(), woken_by(waiter.set):
                    wait_set(waiter, timeout)
            finally:
                if call is not None:
                    knots.end(outer)
            if not self.done():
                gate.check()

    def _make_waiter(self) -> threading.Event | None:
        """What ``resolve`` sets; None when the outcome is there."""
        if self._value is not _NONE_YET:
            return None
        with _lock:
            if self.done():
                return None
            waiter = threading.Event()
            self._waiters = (*self._waiters, waiter)
            return waiter

    def add_done_callback(self, callback: Callable[[Future[T]], None]) -> None:
        """Call ``callback(future)`` at the outcome, at once when it is there; else on a thread for callbacks alone.

        What the callback raises is logged.
        """
        if not self._keep(lambda future: future._hand_on(callback)):
            callback(self)

    def when_settled(self, callback: Callable[[Future[T]], None]) -> None:
        """As ``add_done_callback``, for the engine's own: from the thread that settles it, which it may not hold up."""
        if not self._keep(callback):
            callback(self)

    def _keep(self, callback: Callable[[Future[T]], None]) -> bool:
        """Have it called at the outcome; False when that is there."""
        with _lock:
            if self.done():
                return False
            if isinstance(self._callbacks, list):
                self._callbacks.append(callback)
            else:
                self._callbacks = [*self._callbacks, callback]
            return True

    def _hand_on(self, callback: Callable[[Future[T]], None]) -> None:
        """The thread that settles it may be the one that writes everybody's records: no code of the user's there."""
        call = self._call
        run = call.run if call is not None else self._run
        if run is not None:
            run.session.callbacks.put(callback, self)
        else:
            call_back(callback, self)

    def tell_first(self, callbacks: tuple[Callable[[Future[Any]], None], ...]) -> None:
        """The engine's own callbacks, of a future that nobody else knows yet: many futures share them."""
        self._callbacks = callbacks

    def when_done(self, callback: Callable[[], None]) -> None:
        """As ``when_settled``, without the argument."""
        self.when_settled(lambda _future: callback())

    def resolve(self, state: State) -> None:
        """Settle; the engine calls this once the record is durable."""
        with _lock:
            if state.is_plain_value():
                self._value = state.data
            else:
                self._state = state
            callbacks, self._callbacks = self._callbacks, ()
            waiters = self._waiters
        for waiter in waiters:
            waiter.set()
        for callback in callbacks:
            call_back(callback, self)

    def __repr__(self) -> str:
        call = self.call
        return f"<Future {call.name if call is not None else 'task'} {(self.outcome or _PENDING).name}>"


def call_back(callback: Callable[[Future[Any]], None], future: Future[Any]) -> None:
    """Call one callback; whatever it raises is logged, and those after it are called."""
    try:
        callback(future)
    except BaseException as error:  # noqa: BLE001 - the user's, which ends no thread; tasks hang on callbacks after it
        import logging

        logging.getLogger("flowdeck.engine").warning("a callback of %r failed: %s", future, describe_exception(error))


PrefectFuture = Future
"""Prefect's name for it."""


class FutureList(list[Future[T]]):
    """What ``map`` returns: a list of futures with ``result()`` and ``wait()`` of all."""

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[T]:
        """All values in order; raises the first exception, or TimeoutError for all of them together."""
        deadline = None if timeout is None else time.monotonic() + timeout
        values = []
        for future in self:
            future.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if future.done() and not future.has_completed:
                # Whoever is given the first failure of all has seen that they failed.
                for other in self:
                    other.handled = True
            values.append(future.result(0, raise_on_failure))
        return values

    def wait(self, timeout: float | None = None) -> None:
        """Block until all have an outcome or ``timeout`` seconds passed."""
        _wait_for(self, timeout)


class DoneAndNotDone(NamedTuple):
    """What ``wait`` returns."""

    done: set[Future[Any]]
    not_done: set[Future[Any]]


def wait(futures: Iterable[Future[Any]], timeout: float | None = None) -> DoneAndNotDone:
    """Block until all futures have an outcome or ``timeout`` seconds passed."""
    listed = list(futures)
    _wait_for(listed, timeout)
    done = {future for future in listed if future.done()}
    return DoneAndNotDone(done, set(listed) - done)


def _wait_for(futures: list[Future[Any]], timeout: float | None) -> None:
    deadline = None if timeout is None else time.monotonic() + timeout
    for future in futures:
        future.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))


def as_completed(futures: Iterable[Future[Any]], timeout: float | None = None) -> Iterator[Future[Any]]:
    """Futures in the order they end; raises TimeoutError when ``timeout`` seconds pass before all have ended."""
    import queue

    listed = list(futures)
    ended: queue.SimpleQueue[Future[Any] | None] = queue.SimpleQueue()
    for future in listed:
        future.when_settled(ended.put)
    deadline = None if timeout is None else time.monotonic() + timeout
    frame = current_frame.get()
    for _ in listed:
        yield _next_ended(ended, frame, deadline, len(listed))


def _next_ended(ended: Any, frame: Any, deadline: float | None, total: int) -> Future[Any]:
    import queue

    gate = frame.run.session.gate if frame is not None else None

    def wake() -> None:
        ended.put(None)

    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    try:
        if gate is None:
            got = _heard(ended, left)
        else:
            pool = frame.run.session.pool
            with engine_code(), gate.on_cancel(wake), gate.blocked(), pool.lending(), woken_by(wake):
                got = _heard(ended, left)
    except queue.Empty:
        raise TimeoutError(f"not all of {total} futures ended in time") from None
    if got is None:
        if gate is not None:
            gate.check()
        raise Cancelled("the run was cancelled")
    future: Future[Any] = got
    return future


def _heard(ended: Any, timeout_seconds: float | None) -> Any:
    """What is put there next, as ``wait_set`` waits; ``queue.Empty`` when that is not in time."""
    import queue

    for seconds in hearing(timeout_seconds):
        with suppress(queue.Empty):
            return ended.get(timeout=seconds)
    raise queue.Empty


def resolve_futures_to_states(value: Any) -> Any:
    """``value`` with every future in it (also in lists, tuples, dicts and sets) replaced by its final state.

    The very same object when it holds none; it may be nested however deep, or hold itself.
    """
    return _resolved(value, frozenset()) if _holds_future(value) else value


def _holds_future(value: Any) -> bool:
    seen: set[int] = set()
    left = [value]
    while left:
        item = left.pop()
        kind = type(item)
        if issubclass(kind, Future):
            return True
        if kind in _COLLECTIONS and id(item) not in seen:
            seen.add(id(item))
            left.extend(item.values() if kind is dict else item)
    return False


def _resolved(value: Any, around: frozenset[int]) -> Any:
    kind = type(value)
    if issubclass(kind, Future):
        value.wait()
        return value.outcome
    if kind not in _COLLECTIONS or id(value) in around or len(around) >= _DEEPEST:
        return value
    around |= {id(value)}
    if kind is dict:
        return {key: _resolved(item, around) for key, item in value.items()}
    states = [_resolved(item, around) for item in value]
    return states if issubclass(kind, list) else kind(states)


_COLLECTIONS = frozenset({list, tuple, set, FutureList, dict})
_DEEPEST = 200
"""Futures beneath so many collections are left as they are."""
