"""What the code of a run waits for from outside: an answer to its question, a message.

A question is durable before anybody can see it, holds the whole run (``Paused``, or ``AwaitingInput`` when it wants
an answer) and is asked once: its answer stands in the store beside it, so that replay finds it there and goes on.
Nothing here polls: the session's background thread looks for what is expected after each change of the store.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ....store.connection import Connection
from ....store.rows import InputRow
from ....store.tables import events, inputs
from ...control.questions import EXPIRED, expire, first_question, left_us, words_of
from ...errors import InputError, PauseTimedOut
from ...system.clock import now_us
from ..calls.task_call import record_caller
from ..effects.effects import Await, Durable, Pass, Steps

if TYPE_CHECKING:
    from ..calls.flow_run import FlowRun
    from ..calls.frame import Frame
    from ..run_process.session import Session


_BY_CLOCK_SECONDS: Final = 0.5


class Expected:
    """Something that another process writes into the store; done once a look has found it."""

    def __init__(self, look: Callable[[Connection], Any], *, by_clock: bool = False) -> None:
        self.look = look
        self.by_clock = by_clock
        """Whether it may come true without a change of the store, as with the end of a process."""
        self._lock = threading.Lock()
        self._done = False
        self._callbacks: list[Callable[[], None]] = []

    def done(self) -> bool:
        """Whether it is there."""
        return self._done

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call back once it is there, from the thread that looked; at once when it is."""
        with self._lock:
            if not self._done:
                self._callbacks.append(callback)
                return
        callback()

    def settle(self) -> None:
        """It was found."""
        with self._lock:
            self._done = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()


class Expectations:
    """Everything the code of one session waits for."""

    def __init__(self, look_soon: Callable[[], None]) -> None:
        self._look_soon = look_soon
        self._open: set[Expected] = set()
        self._shared: dict[str, tuple[Expected, int]] = {}
        """By what is waited for, with how many wait."""
        self._lock = threading.Lock()
        self._next_look = 0.0

    @contextmanager
    def free(self, name: str, is_free: Callable[[Connection], bool]) -> Iterator[Expected]:
        """While inside, one waits until something that processes hold is free: many wait at the price of one."""
        with self._lock:
            expected, count = self._shared.get(name, (None, 0))
            if expected is None or expected.done():
                expected, count = Expected(is_free, by_clock=True), 0
            self._shared[name] = expected, count + 1
        self._open.add(expected)
        self._look_soon()
        try:
            yield expected
        finally:
            with self._lock:
                known, count = self._shared.get(name, (None, 0))
                if known is expected and count > 1:
                    self._shared[name] = expected, count - 1
                else:
                    self._open.discard(expected)
                    if known is expected:
                        del self._shared[name]

    @contextmanager
    def of(self, expected: Expected) -> Iterator[None]:
        """While inside, each change of the store is looked at for it; the first look is at once."""
        self._open.add(expected)
        self._look_soon()
        try:
            yield
        finally:
            self._open.discard(expected)

    def look(self, connection: Connection) -> None:
        """The store has changed."""
        for expected in self._open.copy():
            if not expected.done() and expected.look(connection):
                expected.settle()

    def look_by_clock(self, connection: Connection) -> None:
        """The store has not changed; what hangs on more than the store is looked at now and then."""
        now = time.monotonic()
        if not self._open or now < self._next_look:
            return
        self._next_look = now + _BY_CLOCK_SECONDS
        for expected in self._open.copy():
            if expected.by_clock and not expected.done() and expected.look(connection):
                expected.settle()


class Question(NamedTuple):
    """What a call of ``pause_flow_run`` or ``suspend_flow_run`` asks."""

    key: str
    """The identity of the call within its run."""
    json_schema: str | None
    """What the answer must look like; None when any resume will do."""
    description: str | None
    timeout_seconds: float | None
    leaves: bool
    """Whether the process ends meanwhile."""
    decode: Callable[[str | None], Any]
    """The answer as the code gets it; raises ``InputError`` for one its own validators refuse."""


class Questions:
    """The questions of one session that have no answer yet: what its run is said to wait for."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[FlowRun, InputRow]] = {}
        self.changed = False
        """Since whoever says what the run waits for last looked."""

    @contextmanager
    def asked(self, run: FlowRun, request: InputRow) -> Iterator[None]:
        """While inside, the run waits for this."""
        self._open[request.id] = (run, request)
        self.changed = True
        try:
            yield
        finally:
            del self._open[request.id]
            self.changed = True

    def first(self) -> InputRow | None:
        """The one to answer next: the oldest that wants an answer, else the oldest."""
        return first_question([request for _, request in list(self._open.values())])

    def wants_input(self, run: FlowRun) -> bool:
        """Whether somebody must answer for this run to go on; a root stands for all that live in its process."""
        return any(
            request.json_schema is not None and (run.is_root or asker is run)
            for asker, request in list(self._open.values())
        )


def ask_now(frame: Frame, question: Question) -> InputRow:
    """Put the question, blocking until it is durable: the run is held even if nobody awaits the answer."""
    if frame.task is not None:
        record_caller(frame.task)
    found: InputRow = frame.run.session.writer.commit(lambda conn: _put(conn, frame, question))
    return found


def ask(frame: Frame, question: Question, found: InputRow) -> Steps[Any]:
    """Hold the run until the question is answered; returns the answer, at once when an earlier attempt had it."""
    run, session = frame.run, frame.run.session
    while True:
        if found.kind == "request":
            yield from _wait_for_answer(session, run, found, question)
            yield Pass()
            found = yield Durable(lambda conn: _put(conn, frame, question))
            continue
        if found.description == EXPIRED:
            raise PauseTimedOut(_expired_text(question))
        try:
            return question.decode(found.value)
        except InputError as error:
            text = f"an answer was refused: {error}"
            session.log.run(run, 30, text)
            yield Durable(partial(_refuse, response=found, text=text))
            found = yield Durable(lambda conn: _put(conn, frame, question))


def _put(conn: Connection, frame: Frame, question: Question) -> InputRow:
    """The answer that is known, else the request, with the run asked to pause."""
    run, at_us = frame.run, now_us()
    response = inputs.newest(conn, run.id, question.key, "response")
    if response is not None:
        return response
    request = inputs.newest(conn, run.id, question.key, "request")
    if request is None:
        timeout = question.timeout_seconds
        inputs.insert(
            conn, run.id, question.key, "request", sender="engine", at_us=at_us, json_schema=question.json_schema,
            description=question.description, until_us=None if timeout is None else at_us + round(timeout * 1e6),
        )
    else:
        inputs.ask_again(conn, request.id, question.json_schema, question.description)
    request = inputs.newest(conn, run.id, question.key, "request")
    assert request is not None
    inputs.hold(conn, run.session.root_id)
    task_seq = frame.task.seq if frame.task is not None else None
    events.append(
        conn, at_us=at_us, kind="input", actor="engine", run_id=run.id, task_seq=task_seq, message=words_of(request),
    )
    return request


def _wait_for_answer(session: Session, run: FlowRun, request: InputRow, question: Question) -> Steps[None]:
    expected = Expected(lambda conn: inputs.newest(conn, run.id, question.key, "response"))
    left = None if request.until_us is None else left_us(request, now_us()) / 1e6
    with session.questions.asked(run, request), session.expectations.of(expected):
        if question.leaves:
            session.departure.ask("its code")
        waited = False
        try:
            yield Await(expected, left)
            waited = True
        finally:
            if not waited and not session.gate.is_cancelled:
                # The code that asked was ended by itself: a task that was cancelled, a flow that timed out.
                session.writer.soon(lambda conn: _withdraw(conn, session.root_id, request))
                session.requests.look_soon()
        if not expected.done():
            yield Durable(lambda conn: expire(conn, session.root_id, request))
            session.requests.look_soon()


def _withdraw(conn: Connection, root_id: int, request: InputRow) -> None:
    """Nobody waits for the answer any more: the run goes on when nothing else is asked."""
    inputs.set_aside(conn, request.id, now_us())
    if not inputs.open_requests(conn, root_id):
        inputs.let_go(conn, root_id)


def _refuse(conn: Connection, response: InputRow, text: str) -> None:
    inputs.remove(conn, response.id)
    events.append(conn, at_us=now_us(), kind="input", actor="engine", run_id=response.run_id, message=text)


def _expired_text(question: Question) -> str:
    waited = "" if question.timeout_seconds is None else f" within {question.timeout_seconds:g} s"
    verb = "resumed it" if question.json_schema is None else "answered"
    return f"the run was {'suspended' if question.leaves else 'paused'} and nobody {verb}{waited}"
