"""Waiting for slots of limits without holding a thread of the pool.

One keeper serves a process and store: the session's within a run, one of its own outside. What waits is woken within
milliseconds of its turn: whoever gives slots back has handed them on in the store already (``store.tables.limits``),
and the keeper's thread, which lives only while something waits, looks at the store's version. It also carries timeouts,
frees what dead processes held, and says in the waiting task's row what it waits for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ....store.connection import Connection, connect, data_version
from ....store.driver_errors import store_errors
from ....store.errors import StoreCorrupt, StoreLocked, StoreMissing
from ....store.rows import LimitRow
from ....store.tables import limits
from ....store.writer import Writer
from ...states.state import describe_exception
from ...system.clock import now_us
from . import causes as slot_words
from .deadlocks import Knot, find_knot
from .requests import Ask, Outcome, too_many

if TYPE_CHECKING:
    from ..calls.task_call import TaskCall

EAGER_SECONDS: Final = 0.002
"""Between looks while slots change hands."""
PATIENT_SECONDS: Final = 0.02
"""Between looks when nothing has moved for a while."""
_EAGER_FOR_SECONDS: Final = 1.0
_LIVENESS_SECONDS: Final = 0.1
_WORDS_SECONDS: Final = 1.0
_KNOT_SECONDS: Final = 1.0
"""How long a knot must stand, from one look to the next, before somebody in it is ended."""
_CLOCK_US: Final = 2_000_000
"""How far the clocks of two looks may be apart."""
logger = logging.getLogger("flowdeck.engine")


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
        self._reader: Connection | None = None
        self._reader_lock = threading.Lock()
        self._tags: frozenset[str] = frozenset()
        self._tags_version = -1
        self._closed = False
        self._last_move = 0.0
        self._next_liveness = 0.0
        self._next_words = 0.0
        self._next_knots = 0.0
        self._knot: Knot | None = None
        """What was found at the last look."""

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
            version = data_version(reader)
            if version != self._tags_version:
                self._tags, self._tags_version = limits.tags(reader), version
        return [f"tag:{tag}" for tag in tags if tag in self._tags] if self._tags else []

    def _connection(self) -> Connection:
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
            self.end(ask, "cancelled", reason)

    def drop(self, call: TaskCall, reason: str) -> None:
        """One task is given up."""
        with self._lock:
            ask = self._by_call.get(call)
        if ask is not None:
            self.end(ask, "cancelled", reason)

    # -- waiting -------------------------------------------------------------------------------------------------

    def _wait_for(self, ask: Ask) -> None:
        with self._lock:
            self._waiting[ask.ask_id] = ask
            self._names.update(ask.names)
            if ask.deadline is not None:
                self._deadlines.add(ask)
            if ask.call is not None:
                self._by_call[ask.call] = ask
            trouble = self._start() if self._thread is None else ""
        if trouble:
            self.end(ask, "refused", trouble)
        if ask.done():
            self._forget(ask)  # told to end while it was written
        self._last_move = time.monotonic()
        self._wake.set()

    def _start(self) -> str:
        """Have a thread look; why that cannot be, in words: the next one who asks tries again."""
        thread = threading.Thread(target=self._serve, name="flowdeck-slots", daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError as error:
            self._thread = None
            return f"slots cannot be waited for: a thread that looks for them cannot be made: {error}"
        return ""

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

    def end(self, ask: Ask, outcome: Outcome, why: str = "") -> None:
        """It waits no more; what it holds or its place in the line is given back unless it has its slots."""
        self._forget(ask)
        if ask.settle(outcome, why) and outcome != "held":
            self.give_back(ask)
        if ask.noted and ask.call is None:
            run_id, task_seq, _ = ask.who
            if run_id is not None:
                self.writer.soon(lambda conn: limits.note_wait(conn, run_id, task_seq, None, at_us=now_us()))

    def _serve(self) -> None:
        """Until nobody waits. Whatever a look raises, the next one comes: who waits here would wait for ever."""
        connection: Connection | None = None
        version, trouble = -1, ""
        try:
            while not self._closed:
                with self._lock:
                    if not self._waiting:
                        self._thread = None
                        return
                self._wake.clear()
                try:
                    with store_errors(self._folder):
                        if connection is None:
                            connection = connect(self._folder, "state", readonly=True)
                        version = self._look(connection, version)
                except (StoreCorrupt, StoreMissing) as error:
                    self._refuse_all(str(error))
                except StoreLocked:
                    version = -1  # a moment's lock or a busy checkpoint: read again
                except Exception as error:  # noqa: BLE001 - a service tick: no descriptors left, no memory
                    version = -1
                    if trouble != (trouble := describe_exception(error)):
                        logger.warning("those who wait for slots wait on, with trouble: %s", trouble)
                now = time.monotonic()
                eager = now - self._last_move < _EAGER_FOR_SECONDS
                time.sleep(EAGER_SECONDS / 2)
                self._wake.wait(EAGER_SECONDS / 2 if eager else PATIENT_SECONDS)
        finally:
            if connection is not None:
                connection.close()

    def _refuse_all(self, why: str) -> None:
        """Nothing can come of it any more."""
        with self._lock:
            waiting = list(self._waiting.values())
        for ask in waiting:
            self.end(ask, "refused", why)

    def _look(self, connection: Connection, known_version: int) -> int:
        version = data_version(connection)
        now = time.monotonic()
        with self._lock:
            names = list(self._names)
            late = [ask for ask in self._deadlines if ask.deadline is not None and now >= ask.deadline]
        if version != known_version:
            self._look_at_limits(connection, names)
        for ask in late:
            if not ask.done():
                self.end(ask, "timeout")
        self._look_at_rates(connection, names)
        if now >= self._next_liveness:
            self._next_liveness = now + _LIVENESS_SECONDS
            if limits.gone_holders(connection, names):
                self.writer.soon(lambda conn: limits.reap(conn, names, now_us()))
        if now >= self._next_words:
            self._next_words = now + (_WORDS_SECONDS if self._tell(connection, now) else slot_words.FIRST_WORDS_SECONDS)
        if now >= self._next_knots:
            self._next_knots = now + _KNOT_SECONDS
            self._look_for_knots(connection, now)
        return version

    def _look_for_knots(self, connection: Connection, now: float) -> None:
        """End the last of those who wait for each other, once that is sure; each process ends its own."""
        with self._lock:
            nested = any(ask.within and now - ask.asked_at > _KNOT_SECONDS for ask in self._waiting.values())
        before, self._knot = self._knot, None
        if not nested:
            return
        slots_of = {limit.name: limit.slots for limit in limits.all(connection) if limit.active}
        self._knot = knot = find_knot(limits.every_slot(connection), slots_of)
        if knot is None or before != knot:
            return
        with self._lock:
            ask = self._waiting.get(knot.last)
        if ask is not None:
            self.end(ask, "refused", knot.words)

    def _look_at_limits(self, connection: Connection, names: list[str]) -> None:
        since_us, self._looked_at_us = self._looked_at_us - _CLOCK_US, now_us()
        for name in names:
            for ask_id in limits.held_asks(connection, name, since_us):
                ask = self._waiting.get(ask_id)
                if ask is not None and not ask.done():
                    self._last_move = time.monotonic()
                    self._forget(ask)
                    if ask.kind == "rate":
                        self.give_back(ask)
                    self.end(ask, "held")
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
                self.end(ask, "refused", too_many(limit, ask.occupy))

    def _look_at_rates(self, connection: Connection, names: list[str]) -> None:
        """Nobody gives slots of a rate back: time does."""
        for name in names:
            limit = limits.get(connection, name)
            if limit is None or not limit.slot_decay_per_second:
                continue
            head = limits.head(connection, name)
            if head is not None and limits.seconds_until_fits(limit, head.occupy, now_us()) <= 0:
                self._last_move = time.monotonic()
                self.writer.soon(lambda conn, name=name: limits.grant(conn, [name], now_us()))  # type: ignore[misc]

    def _tell(self, connection: Connection, now: float) -> bool:
        """Say in the rows of those who wait longer than a moment what they wait for; False: some are left."""
        with self._lock:
            waiting = list(self._waiting.values())
        told, is_all = slot_words.news(connection, waiting, now)
        if told:
            self.writer.soon(lambda conn: slot_words.tell(conn, told))
        return is_all


def _said(_value: object, error: BaseException | None) -> None:
    if error is not None:
        logger.warning("slots could not be given back; they come free with this process: %s", error)
