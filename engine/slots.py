"""Asking for slots of limits and waiting for them, without holding a thread of the pool while one waits.

One keeper serves a process and store: the session's within a run, one of its own outside. What waits is woken within
milliseconds of its turn: whoever gives slots back has handed them on in the store already (``store.limits``), and the
keeper's thread, which lives only while something waits, looks at ``PRAGMA data_version``. It also carries timeouts,
frees what dead processes held, and says in the waiting task's row what it waits for.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from ..store import limits, tasks
from ..store.connection import connect
from ..store.errors import StaleState
from ..store.rows import LimitRow
from ..store.writer import Writer
from .clock import now_us
from .effects import Pass, Steps
from .errors import AcquireConcurrencySlotTimeoutError, Cancelled, ConcurrencySlotAcquisitionError
from .interrupts import woken_by
from .machine import next_task_state
from .node_cancel import wakeable

if TYPE_CHECKING:
    from .session import Session
    from .task_call import TaskCall

EAGER_SECONDS: Final = 0.002
"""Between looks while slots change hands."""
PATIENT_SECONDS: Final = 0.02
"""Between looks when nothing has moved for a while."""
_EAGER_FOR_SECONDS: Final = 1.0
_LIVENESS_SECONDS: Final = 0.1
_FIRST_WORDS_SECONDS: Final = 0.05
_WORDS_SECONDS: Final = 1.0
_MOST_WORDS: Final = 500
"""So many newcomers are told their place at once."""
_FOLLOWED: Final = 20
"""So many of the first in line are told of each step, once a second."""
_CLOCK_US: Final = 2_000_000
"""How far the clocks of two looks may be apart."""

Outcome = Literal["waiting", "held", "refused", "timeout", "cancelled"]


class Ask:
    """One call's request for slots of some limits, from asking to giving back."""

    __slots__ = (
        "_callbacks", "ask_id", "asked_at", "call", "deadline", "is_given_back", "kind", "names", "noted", "occupy",
        "outcome", "strict", "timeout_seconds", "who", "why", "words",
    )

    def __init__(
        self,
        names: Iterable[str],
        occupy: int,
        *,
        kind: str = "hold",
        timeout_seconds: float | None = None,
        strict: bool = False,
        who: tuple[int | None, int | None, str] = (None, None, ""),
        call: TaskCall | None = None,
    ) -> None:
        self.names = tuple(sorted(set(names)))
        self.occupy = occupy
        self.kind = kind
        self.timeout_seconds = timeout_seconds
        self.strict = strict
        self.who = who
        """Run, task and name, for people who look at the limit."""
        self.call = call
        """The task that begins once it has the slots; None for code that runs already."""
        self.deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self.asked_at = time.monotonic()
        self.ask_id = 0
        self.outcome: Outcome = "waiting"
        self.why = ""
        self.is_given_back = False
        """Whether the write that ends its task gives it back."""
        self.noted = False
        """Whether a row says that it waits."""
        self.words = ""
        self._callbacks: list[Callable[[], None]] = []

    def again(self) -> Ask:
        """A new request for the same."""
        fresh = Ask(self.names, self.occupy, kind=self.kind, strict=self.strict, who=self.who, call=self.call)
        fresh.deadline, fresh.timeout_seconds = self.deadline, self.timeout_seconds
        return fresh

    def done(self) -> bool:
        """Whether the waiting is over."""
        return self.outcome != "waiting"

    def write(self, conn: sqlite3.Connection) -> None:
        """Queue in the store; the outcome is known then, or it waits."""
        self.ask_id, self.why = 0, ""
        if self.done():
            return
        found = {name: limits.get(conn, name) for name in self.names}
        missing = [name for name, limit in found.items() if limit is None]
        if missing and self.strict:
            self.why = f"there is no limit {missing[0]!r}; make it with `flowdeck limits set {missing[0]} N`"
            return
        counted = [limit for limit in found.values() if limit is not None and limit.active]
        for limit in counted:
            self.why = self._refusal(limit)
            if self.why:
                return
        if counted:
            run_id, task_seq, actor = self.who
            self.ask_id, granted = limits.ask(
                conn, [limit.name for limit in counted], kind=self.kind, occupy=self.occupy,
                process=limits.this_process(), at_us=now_us(), actor=actor, run_id=run_id, task_seq=task_seq,
            )  # fmt: skip
            if not granted:
                return
            if self.kind == "rate":
                self.give_back(conn)
        self.why = "held"

    def _refusal(self, limit: LimitRow) -> str:
        if self.kind == "rate" and not limit.slot_decay_per_second:
            return (
                f"the limit {limit.name!r} has no rate at which slots come back; give it one with "
                f"`flowdeck limits set {limit.name} {limit.slots} --decay PER_SECOND`, or use concurrency()"
            )
        return too_many(limit, self.occupy)

    def settle(self, outcome: Outcome, why: str = "") -> bool:
        """The first outcome counts; says whether this was it."""
        with _settling:
            if self.outcome != "waiting":
                return False
            self.outcome, self.why = outcome, why
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
        return True

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call back, from any thread, once the waiting is over; at once when it is."""
        with _settling:
            if self.outcome == "waiting":
                self._callbacks.append(callback)
                return
        callback()

    def give_back(self, conn: sqlite3.Connection) -> None:
        """Part of the write that ends what the slots were for."""
        if self.ask_id:
            limits.release(conn, self.ask_id, now_us())

    def error(self) -> BaseException:
        """What the caller gets that has no slots."""
        if self.outcome == "timeout":
            text = f"no slot of {', '.join(self.names)} within {self.timeout_seconds or 0:g} s"
            return AcquireConcurrencySlotTimeoutError(f"{text}: {self.words}" if self.words else text)
        if self.outcome == "cancelled":
            return Cancelled(self.why or "cancelled")
        return ConcurrencySlotAcquisitionError(self.why)


def _said(_value: object, error: BaseException | None) -> None:
    if error is not None:
        logger.warning("slots could not be given back; they come free with this process: %s", error)


_settling = threading.Lock()
logger = logging.getLogger("flowdeck.engine")


def too_many(limit: LimitRow, occupy: int) -> str:
    """Why a request can never be granted; empty when it can."""
    if occupy <= limit.slots:
        return ""
    if limit.slots == 0:
        return f"the limit {limit.name!r} is 0: nothing may use it; `flowdeck limits set {limit.name} N` opens it"
    return f"{occupy} slots of {limit.name!r} were asked for, but it has only {limit.slots}"


class Keeper:
    """What one process waits for in one store."""

    def __init__(self, folder: Path, writer: Writer) -> None:
        self._folder = folder
        self.writer = writer
        self._lock = threading.Lock()
        self._waiting: dict[int, Ask] = {}
        """By their number in the store, in the order of asking."""
        self._by_call: dict[TaskCall, Ask] = {}
        self._names: Counter[str] = Counter()
        """How many wait for each limit."""
        self._deadlines: set[Ask] = set()
        self._looked_at_us = 0
        self._limits: dict[str, int] = {}
        """When each limit that is waited for was changed last."""
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._reader: sqlite3.Connection | None = None
        self._reader_lock = threading.Lock()
        self._tags: frozenset[str] = frozenset()
        self._tags_version = -1
        self._closed = False
        self._last_move = 0.0
        self._next_liveness = 0.0
        self._next_words = 0.0

    def close(self) -> None:
        """Nobody of this process waits any more."""
        self._closed = True
        self._wake.set()
        if (thread := self._thread) is not None and thread is not threading.current_thread():
            thread.join()
        with self._reader_lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def any_exists(self, names: Iterable[str]) -> bool:
        """Whether there is a limit of any of these names."""
        with self._reader_lock:
            reader = self._connection()
            return any(limits.get(reader, name) is not None for name in names)

    def limited(self, tags: Iterable[str]) -> list[str]:
        """The limits that hold for a task with these tags: one cheap look into the store."""
        with self._reader_lock:
            reader = self._connection()
            version = reader.execute("PRAGMA data_version").fetchone()[0]
            if version != self._tags_version:
                self._tags, self._tags_version = limits.tags(reader), version
        return [f"tag:{tag}" for tag in tags if tag in self._tags] if self._tags else []

    def _connection(self) -> sqlite3.Connection:
        if self._reader is None:
            self._reader = connect(self._folder, "state", readonly=True)
        return self._reader

    # -- asking and giving back --------------------------------------------------------------------------------

    def take(self, ask: Ask, callback: Callable[[], None]) -> None:
        """Ask in the store, and call back once the waiting is over, whatever came of it."""
        ask.when_done(callback)

        def written(_value: Any, error: BaseException | None) -> None:
            if error is not None:
                ask.settle("refused", f"slots could not be asked for: {error}")
            elif ask.why == "held":
                self._hold(ask)
            elif ask.why:
                ask.settle("refused", ask.why)
            elif not ask.done():
                self._wait_for(ask)
            else:
                self.give_back(ask)

        self.writer.submit(ask.write, written)

    def _hold(self, ask: Ask) -> None:
        if not ask.settle("held"):
            self.give_back(ask)

    def give_back(self, ask: Ask) -> None:
        """Somebody else may have its slots, or its place; nobody waits for that to be durable."""
        self.writer.submit(ask.give_back, _said)
        self.poke()

    def poke(self) -> None:
        """Slots have changed hands: look now."""
        if self._thread is not None:
            self._last_move = time.monotonic()
            self._wake.set()

    def cancel(self, reason: str) -> None:
        """Everything that waits here is to end."""
        with self._lock:
            waiting = list(self._waiting.values())
        for ask in waiting:
            self._end(ask, "cancelled", reason)

    def drop(self, call: TaskCall, reason: str) -> None:
        """One task is given up."""
        with self._lock:
            ask = self._by_call.get(call)
        if ask is not None:
            self._end(ask, "cancelled", reason)

    # -- waiting -------------------------------------------------------------------------------------------------

    def _wait_for(self, ask: Ask) -> None:
        with self._lock:
            self._waiting[ask.ask_id] = ask
            self._names.update(ask.names)
            if ask.deadline is not None:
                self._deadlines.add(ask)
            if ask.call is not None:
                self._by_call[ask.call] = ask
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="flowdeck-slots", daemon=True)
                self._thread.start()
        if ask.done():
            self._forget(ask)  # told to end while it was written
        self._last_move = time.monotonic()
        self._wake.set()

    def _forget(self, ask: Ask) -> None:
        with self._lock:
            if self._waiting.get(ask.ask_id) is not ask:
                return
            del self._waiting[ask.ask_id]
            self._names.subtract(ask.names)
            self._names += Counter()
            self._deadlines.discard(ask)
            if ask.call is not None:
                self._by_call.pop(ask.call, None)

    def _end(self, ask: Ask, outcome: Outcome, why: str = "") -> None:
        self._forget(ask)
        if ask.settle(outcome, why) and outcome != "held":
            self.give_back(ask)
        if ask.noted and ask.call is None:
            run_id, task_seq, _ = ask.who
            if run_id is not None:
                self.writer.soon(lambda conn: limits.note_wait(conn, run_id, task_seq, None, at_us=now_us()))

    def _serve(self) -> None:
        connection = connect(self._folder, "state", readonly=True)
        version = -1
        try:
            while not self._closed:
                with self._lock:
                    if not self._waiting:
                        self._thread = None
                        return
                self._wake.clear()
                try:
                    version = self._look(connection, version)
                except sqlite3.OperationalError:
                    version = -1  # a moment's lock or a busy checkpoint: read again
                now = time.monotonic()
                eager = now - self._last_move < _EAGER_FOR_SECONDS
                time.sleep(EAGER_SECONDS / 2)
                self._wake.wait(EAGER_SECONDS / 2 if eager else PATIENT_SECONDS)
        finally:
            connection.close()

    def _look(self, connection: sqlite3.Connection, known_version: int) -> int:
        version: int = connection.execute("PRAGMA data_version").fetchone()[0]
        now = time.monotonic()
        with self._lock:
            names = list(self._names)
            late = [ask for ask in self._deadlines if ask.deadline is not None and now >= ask.deadline]
        if version != known_version:
            self._look_at_limits(connection, names)
        for ask in late:
            if not ask.done():
                self._end(ask, "timeout")
        self._look_at_rates(connection, names)
        if now >= self._next_liveness:
            self._next_liveness = now + _LIVENESS_SECONDS
            if limits.gone_holders(connection, names):
                self.writer.soon(lambda conn: limits.reap(conn, names, now_us()))
        if now >= self._next_words:
            self._next_words = now + (_WORDS_SECONDS if self._tell(connection, now) else _FIRST_WORDS_SECONDS)
        return version

    def _look_at_limits(self, connection: sqlite3.Connection, names: list[str]) -> None:
        since_us, self._looked_at_us = self._looked_at_us - _CLOCK_US, now_us()
        for name in names:
            for ask_id in limits.held_asks(connection, name, since_us):
                ask = self._waiting.get(ask_id)
                if ask is not None and not ask.done():
                    self._last_move = time.monotonic()
                    self._forget(ask)
                    if ask.kind == "rate":
                        self.give_back(ask)
                    self._end(ask, "held")
            limit = limits.get(connection, name)
            # When it is removed or paused, whoever did that has handed everything out.
            if limit is not None and limit.active and self._limits.get(name) != limit.updated_at_us:
                self._limits[name] = limit.updated_at_us
                self._refuse_what_cannot_be(limit)

    def _refuse_what_cannot_be(self, limit: LimitRow) -> None:
        with self._lock:
            waiting = list(self._waiting.values())
        for ask in waiting:
            if limit.name in ask.names and not ask.done() and ask.occupy > limit.slots:
                self._end(ask, "refused", too_many(limit, ask.occupy))

    def _look_at_rates(self, connection: sqlite3.Connection, names: list[str]) -> None:
        """Nobody gives slots of a rate back: time does."""
        for name in names:
            limit = limits.get(connection, name)
            if limit is None or not limit.slot_decay_per_second:
                continue
            head = limits.head(connection, name)
            if head is not None and limits.seconds_until_fits(limit, head.occupy, now_us()) <= 0:
                self._last_move = time.monotonic()
                self.writer.soon(lambda conn, name=name: limits.grant(conn, [name], now_us()))  # type: ignore[misc]

    # -- in words ----------------------------------------------------------------------------------------------

    def _tell(self, connection: sqlite3.Connection, now: float) -> bool:
        """Say in the rows of those who wait longer than a moment what they wait for.

        The first of the line hear of each step, the others of their place when they joined. False: some are left.
        """
        with self._lock:
            waiting = list(self._waiting.values())
        fresh = [ask for ask in waiting if not ask.words and now - ask.asked_at > _FIRST_WORDS_SECONDS]
        wanted = [ask for ask in waiting[:_FOLLOWED] if ask.words] + fresh[:_MOST_WORDS]
        told: list[tuple[Ask, str]] = []
        lines: dict[str, _Line] = {}
        for ask in wanted:
            for name in ask.names:
                if name not in lines:
                    lines[name] = _Line(name, limits.queue(connection, name), limits.get(connection, name))
            words = max((lines[name] for name in ask.names), key=lambda line: line.place(ask)).words(ask)
            if words and words != ask.words:
                told.append((ask, words))

        def write(conn: sqlite3.Connection) -> None:
            for ask, words in told:
                if not ask.done():
                    ask.noted = _note(conn, ask, words) or ask.noted
                    if ask.noted or ask.who[0] is None:
                        ask.words = words

        if told:
            self.writer.soon(write)
        return len(fresh) <= _MOST_WORDS and bool(waiting) and all(
            ask.words or now - ask.asked_at > _FIRST_WORDS_SECONDS for ask in waiting[-1:]
        )


class _Line:
    """Who waits for one limit, for words."""

    def __init__(self, name: str, queue: limits.Queue, limit: LimitRow | None) -> None:
        self._name = name
        self._queue = queue
        self._limit = limit
        self._places = {row.ask_id: place for place, row in enumerate(queue.waiting, 1)}

    def place(self, ask: Ask) -> int:
        """From 1; 0 when it waits here no more."""
        return self._places.get(ask.ask_id, 0)

    def words(self, ask: Ask) -> str:
        """Empty when it waits here no more."""
        place = self.place(ask)
        return limits.waits_in_words(self._name, self._queue, self._limit, place) if place else ""


def _note(conn: sqlite3.Connection, ask: Ask, words: str) -> bool:
    """In the row of the task that has not begun, or of the code that waits; says whether there is such a row."""
    run_id, task_seq, _ = ask.who
    call, at_us = ask.call, now_us()
    if run_id is None:
        return False
    if call is None or task_seq is None:
        return limits.note_wait(conn, run_id, task_seq, words, at_us=at_us)
    found = tasks.get(conn, run_id, task_seq)
    target = next_task_state("PENDING", "await_slot")
    try:
        if found is None and call.future is None:
            tasks.begin(conn, call.row()._replace(state_type=target[0], state_name=target[1], cause=words), at_us,
                        "engine", message=words)
        elif found is not None and (found.state_type, found.state_name) in (("PENDING", "Pending"), tuple(target),
                                                                            ("SCHEDULED", "AwaitingRetry")):
            tasks.transition(conn, run_id, task_seq, run_attempt=call.run.attempt,
                             from_=(found.state_type, found.state_name), to=target, at_us=at_us, actor="engine",
                             cause=words)
        else:
            return False
    except StaleState:
        return False  # a newer attempt of the run has it; this process hears of that in its own way
    return True


# --------------------------------------------------------------------------------------------------- as steps


class TakeSlots:
    """Effect: have the slots, or know why not; on the pool it holds no thread."""

    __slots__ = ("ask", "keeper", "session")

    def __init__(self, keeper: Keeper, session: Session | None, ask: Ask) -> None:
        self.keeper = keeper
        self.session = session
        self.ask = ask

    def perform(self) -> None:
        """Blocks; the code around it is not busy meanwhile, and its thread of the pool is lent to others."""
        ended = threading.Event()
        self.keeper.take(self.ask, ended.set)
        session = self.session
        if session is None:
            ended.wait()
            return
        with (
            wakeable(session, self.ask.call, ended.set), session.gate.on_cancel(ended.set), session.gate.blocked(),
            session.pool.lending(), woken_by(ended.set),
        ):  # fmt: skip
            ended.wait()

    async def perform_async(self) -> None:
        """As ``perform``, without blocking the event loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def ended() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(done.set)

        self.keeper.take(self.ask, ended)
        gate = self.session.gate if self.session is not None else None
        with wakeable(self.session, self.ask.call, ended), gate.on_cancel(ended) if gate is not None else (
            nullcontext()
        ), gate.blocked() if gate is not None else nullcontext():
            await done.wait()


def take_steps(keeper: Keeper, session: Session | None, ask: Ask) -> Steps:
    """Wait for the slots, which nobody has while the run is paused; returns the request that has them, or raises."""
    while True:
        try:
            yield TakeSlots(keeper, session, ask)
            if session is not None:
                session.gate.check()
            if ask.outcome != "held":
                raise ask.error()
        except BaseException:
            keeper._end(ask, "cancelled")
            if ask.outcome == "held":
                keeper.give_back(ask)
            raise
        if session is None or session.gate.is_open():
            return ask
        keeper.give_back(ask)
        yield Pass(session)
        ask = ask.again()


def task_slot_steps(call: TaskCall) -> Steps:
    """Before a task with tags begins: a slot of each of its tags that has a limit. Sets ``call.slots``."""
    session = call.run.session
    names = session.keeper.limited(call.tag_names())
    if not names:
        return
    ask = Ask(names, 1, who=(call.run.id, call.seq, call.name), call=call)
    try:
        call.slots = yield from take_steps(session.keeper, session, ask)
    finally:
        if ask.noted and call.state_type in ("PENDING", "SCHEDULED"):
            call.state_type, call.state_name = "SCHEDULED", "AwaitingSlot"


def with_slots(call: TaskCall, steps: Steps) -> Steps:
    """The steps of a task with tags: its last write gives its slots back, and if that cannot be, this does."""
    try:
        state = yield from steps
    except BaseException:
        if call.slots is not None:
            call.run.session.keeper.give_back(call.slots)
        raise
    if call.slots is not None:
        keeper = call.run.session.keeper
        keeper.poke() if call.slots.is_given_back else keeper.give_back(call.slots)
    return state
