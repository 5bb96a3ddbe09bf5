"""Group commit: one thread, one connection, many writers' operations in one durable transaction.

Promises: operations run in the order they were handed over, whoever waits for them; an acknowledged operation is
durable; one that raises fails alone; when the disk is full or the file locked everything waits, says so in ``trouble``
and goes on when it can, and nothing is lost.

Why a thread of its own: the engine raises ``Cancelled`` and timeouts inside user threads, and such an exception
inside the writing of a group would lose other people's operations. Only a caller of ``commit`` with nobody's
operations before or beside its own runs it itself, which saves two changes of thread (50 to 100 µs of some 400).
When it is interrupted there, or the file is locked or in trouble, the thread takes the operation over.

An operation may be run more than once (its group is tried again, or split); only the last run's effects stay. It
must do nothing but use the connection it is given, and neither begin nor end a transaction.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from .connection import Connection, Database, connect, database_path
from .driver_errors import is_store_trouble, translate
from .errors import StoreError, StoreFull, StoreLocked
from .growing_log import GrowingLog
from .locking import begin_immediate

T = TypeVar("T")
Operation = Callable[[Connection], T]
Done = Callable[[Any, BaseException | None], object]

RETRY_SECONDS: Final[tuple[float, ...]] = (0.05, 0.1, 0.25, 0.5, 1.0)
"""Pauses between tries when the disk is full or the file locked; the last one repeats."""
LOCK_WAIT_SECONDS: Final = 1.0
"""How long to try for the write lock before saying that it is held; then it is tried again."""
DISK_ERROR_TRIES: Final = 4
"""After so many input/output errors in a row the operations fail: the disk is broken, not busy."""
IDLE_WAKE_SECONDS: Final = 1.0
"""A caller can be interrupted between handing over and waking the thread; it looks for itself now and then. A main
thread that waits hears of no signal whose C handler ran in the moment before, or in another thread: it gets up."""

logger = logging.getLogger("flowdeck.store")


def _wait_released(lock: threading.Lock, seconds: float | None = None) -> None:
    while not lock.acquire(timeout=IDLE_WAKE_SECONDS if seconds is None else seconds) and seconds is None:
        pass


class _Ticket:
    """One operation on its way."""

    __slots__ = ("done", "error", "lock", "operation", "value")

    def __init__(self, operation: Operation[Any] | None, done: Done | None, lock: Any) -> None:
        self.operation = operation
        self.done = done
        self.lock = lock
        """Held until the operation is durable; released by the writer. None when nobody blocks."""
        self.value: Any = None
        self.error: BaseException | None = None


class Writer:
    """Writes to one of the store's databases for all threads of this process. Construct it after any fork."""

    def __init__(
        self,
        folder: str | Path,
        database: Database = "state",
        *,
        linger_seconds: float = 0.01,
        max_group: int = 512,
        max_queue: int = 20_000,
    ) -> None:
        self._folder = os.path.abspath(folder)
        self._database: Database = database
        self._path = database_path(self._folder, database)
        self._linger_seconds = linger_seconds
        self._max_group = max_group
        self._max_queue = max_queue

        self._queue: deque[_Ticket] = deque()
        self._urgent = 0  # operations ever queued that somebody waits for
        self._urgent_taken = 0  # of these, taken by the thread; written by it alone
        self._door = threading.Lock()  # held to append, and to close: nothing is queued behind the last group
        self._wake = threading.Lock()
        self._wake.acquire()
        self._asleep = False
        self._lingering = False
        self.turn = threading.Lock()
        """Held while the connection is used, by the thread or by a caller that commits by itself."""
        self._writing = False
        self._room = threading.Condition()
        self._room_wanted = 0
        self._closing = False
        self._closed = False
        self._give_up_at: float | None = None

        self._trouble: str | None = None
        self._connection: Connection | None = None
        self._log = GrowingLog(self._folder, database)
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None
        self._start_lock = threading.Lock()

    def __repr__(self) -> str:
        state = "closed" if self._closed else self._trouble or f"{len(self._queue)} queued"
        return f"<Writer {self._path}: {state}>"

    @property
    def trouble(self) -> str | None:
        """What holds the writer up, in words; None while all is well."""
        return self._trouble

    @property
    def queued(self) -> int:
        """How many operations wait to be written."""
        return len(self._queue)

    # ------------------------------------------------------------------------------------------ handing over

    def commit(self, operation: Operation[T]) -> T:
        """Run an operation, wait until it is durable, return its value or raise its own error.

        If the wait is interrupted by an exception the operation still happens.
        """
        if self._thread is not None and threading.get_ident() == self._thread.ident:
            raise RuntimeError("commit() inside the writer's own thread would wait for itself; use submit() or soon()")
        alone = not self._queue and not self._writing and self._trouble is None and os.getpid() == self._pid
        # Somebody who commits at this moment makes company: then the thread gathers the next group.
        if alone and self.turn.acquire(blocking=False):
            try:
                # Whoever takes operations off the queue has the turn: nothing is queued, nothing on its way. The
                # thread comes first, which finds out whether the file can be used at all.
                if not self._queue and self._connection is not None and not self._closing:
                    ticket = _Ticket(operation, None, None)
                    if self._commit_here(ticket):
                        return ticket.value  # type: ignore[no-any-return]
            finally:
                self.turn.release()
        return self._commit_there(operation)

    def _commit_there(self, operation: Operation[T]) -> T:
        """Have the thread do it, and wait."""
        lock = threading.Lock()
        lock.acquire()
        ticket = _Ticket(operation, None, lock)
        self._put(ticket, urgent=True)
        _wait_released(lock)
        if ticket.error is not None:
            try:
                raise ticket.error
            finally:
                ticket.error = None  # the traceback's frame would hold the ticket that holds the error
        return cast("T", ticket.value)

    def _commit_here(self, ticket: _Ticket) -> bool:
        """One operation in a transaction of its own, in the caller's thread. False: the thread has to do it."""
        connection, operation = self._connection, ticket.operation
        assert connection is not None
        assert operation is not None
        is_done = False
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")  # left by a caller that was interrupted twice
            connection.execute("BEGIN IMMEDIATE")
            ticket.value = operation(connection)
            is_done = True  # and committed exactly when no transaction is open any more
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
                is_done = False
            if isinstance(error, sqlite3.DatabaseError) and is_store_trouble(error):
                return False
            if not isinstance(error, Exception) and not is_done:
                self._put(ticket, urgent=False)  # interrupted from the keyboard: it still happens
            raise
        if time.monotonic() >= self._log.no_look_before:
            if (missing := self._look_at_log()) is not None:
                raise missing
            self._log.move_if_due(self._connection)
        return True

    def submit(self, operation: Operation[T], done: Callable[[T | None, BaseException | None], object]) -> None:
        """Run an operation; ``done(value, error)`` is called on the writer's thread once it is durable, or failed."""
        self._put(_Ticket(operation, cast("Done", done), None), urgent=True)

    def soon(self, operation: Operation[Any]) -> None:
        """Run an operation with one of the next groups; nobody waits. If it fails, that is logged."""
        self._put(_Ticket(operation, None, None), urgent=False)

    def flush(self, timeout_seconds: float | None = None) -> None:
        """Wait until everything handed over so far is durable (or has failed), or the time is up."""
        if self._thread is None or self._closed:
            return
        if threading.get_ident() == self._thread.ident:
            raise RuntimeError("flush() inside the writer's own thread would wait for itself")
        lock = threading.Lock()
        lock.acquire()
        self._put(_Ticket(None, None, lock), urgent=True)
        _wait_released(lock, timeout_seconds)

    def close(self, timeout_seconds: float | None = None) -> None:
        """Write what is queued, then end the thread and close the connection. May be called twice.

        With a timeout, operations that cannot be written by then (full disk, locked file) fail with the reason, and
        the same reason is raised here.
        """
        with self._start_lock, self._door:
            thread = self._thread
            self._closing = True
            if thread is None:
                self._closed = True
                return
        if timeout_seconds is not None:
            self._give_up_at = time.monotonic() + timeout_seconds
        self._wake_thread()
        while thread.is_alive():
            thread.join(IDLE_WAKE_SECONDS)
        if self._lost is not None:
            lost, self._lost = self._lost, None
            raise lost

    _lost: StoreError | None = None
    """Why operations were given up on at close."""

    def _put(self, ticket: _Ticket, *, urgent: bool) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError("this Writer was made before a fork; make a new one in the child")
        if self._thread is None:
            self._start()
        queue = self._queue
        if len(queue) >= self._max_queue:
            self.wait_for_room(self._max_queue)
        with self._door:
            if self._closing:
                raise StoreError(f"{self._path}: the writer is closed")
            if urgent:
                self._urgent += 1
            queue.append(ticket)
        if urgent:
            if self._asleep:
                self._wake_thread()
        elif self._asleep and (not self._lingering or len(queue) >= self._max_group):
            self._wake_thread()

    def _start(self) -> None:
        with self._start_lock:
            if self._thread is None and not self._closing:
                thread = threading.Thread(target=self._run, name=f"flowdeck-writer-{self._database}", daemon=True)
                thread.start()
                self._thread = thread

    def _wake_thread(self) -> None:
        self._asleep = False
        try:
            self._wake.release()
        except RuntimeError:
            return  # somebody else woke it already

    def wait_for_room(self, at_most: int) -> None:
        """Wait until fewer operations than that are queued."""
        if len(self._queue) < at_most or threading.current_thread() is self._thread:
            return  # the one who makes room must not wait for it
        self._wake_thread()
        with self._room:
            self._room_wanted += 1
            try:
                while len(self._queue) >= at_most and not self._closed:
                    self._room.wait(IDLE_WAKE_SECONDS)
            finally:
                self._room_wanted -= 1

    # ------------------------------------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            while True:
                if self._sleep_until_work():
                    with self.turn:
                        self._writing = True
                        self._settle_group(self._take_group())
                        self._writing = False
                elif self._closing and not self._queue:
                    break
        finally:
            self._closed = True
            with self.turn:
                self._close_connections()
            with self._room:
                self._room.notify_all()

    def _sleep_until_work(self) -> bool:
        """Whether there is a group to write now. Only telemetry queued: wait a little for more."""
        queue = self._queue
        if not queue:
            self._sleep(IDLE_WAKE_SECONDS)
            if not queue:
                return False
        if self._urgent == self._urgent_taken and len(queue) < self._max_group and not self._closing:
            self._lingering = True
            self._sleep(self._linger_seconds)
            self._lingering = False
        return True

    def _sleep(self, seconds: float) -> None:
        self._asleep = True
        # Looked at again after saying so: whoever appends from now on will wake us.
        if self._closing or (self._urgent != self._urgent_taken if self._lingering else self._queue):
            self._asleep = False
            return
        self._wake.acquire(timeout=seconds)
        self._asleep = False

    def _take_group(self) -> list[_Ticket]:
        queue = self._queue
        pop = queue.popleft
        group = [pop() for _ in range(min(len(queue), self._max_group))]
        urgent = 0
        for ticket in group:
            if ticket.lock is not None or ticket.done is not None:
                urgent += 1
        self._urgent_taken += urgent
        if self._room_wanted:
            with self._room:
                self._room.notify_all()
        return group

    def _settle_group(self, group: list[_Ticket]) -> None:
        """Write it and tell those who wait; whatever happens nobody waits for ever, and the thread goes on."""
        try:
            self._write_group(group)
        except BaseException as error:  # noqa: BLE001 - no memory, a log handler of the user's that raises
            for ticket in group:
                ticket.error = ticket.error or error
        for ticket in group:
            with suppress(BaseException):  # what a callback raises is logged: a log handler of the user's may raise
                self._acknowledge(ticket)
        with suppress(BaseException):  # as above: what goes wrong is logged
            self._log.move_if_due(self._connection)

    def _write_group(self, group: list[_Ticket]) -> None:
        if not self._try_until_settled(group):
            # One operation is poisoned: everything was rolled back, now each runs alone and fails alone.
            for ticket in group:
                self._try_until_settled([ticket])

    def _acknowledge(self, ticket: _Ticket) -> None:
        if ticket.lock is not None:
            ticket.lock.release()
        elif ticket.done is not None:
            try:
                ticket.done(ticket.value, ticket.error)
            except BaseException:
                logger.exception("a callback of the writer on %s failed", self._path)
            ticket.error = None
        elif ticket.error is not None:
            logger.error("a write nobody waited for failed on %s: %s", self._path, ticket.error)

    def _try_until_settled(self, group: list[_Ticket]) -> bool:
        """Commit a group, trying again while the disk or a lock is in the way. False: split it, one is poisoned."""
        tries = 0
        while True:
            error = self._try(group)
            if error is None:
                if self._trouble is not None:
                    logger.warning("%s can be written again", self._path)
                    self._trouble = None
                return True
            if not isinstance(error, StoreError):
                if len(group) > 1:
                    return False
                group[0].error = error
                return True
            tries += 1
            lasting = isinstance(error, (StoreFull, StoreLocked)) or (
                type(error) is StoreError and tries < DISK_ERROR_TRIES
            )
            if not lasting or self._has_given_up():
                self._fail(group, error)
                return True
            if self._trouble != str(error):
                self._trouble = str(error)
                logger.warning("writing waits: %s", error)
            self._pause(RETRY_SECONDS[min(tries, len(RETRY_SECONDS)) - 1])

    def _try(self, group: list[_Ticket]) -> BaseException | None:
        """One transaction over the group. Returns a StoreError for the file's fault, else the operation's own."""
        try:
            connection = self._connection
            if connection is None:
                connection = self._connection = connect(self._folder, self._database)
                connection.execute("PRAGMA busy_timeout=0")
            if connection.in_transaction:
                connection.execute("ROLLBACK")  # left by a caller that was interrupted twice
            begin_immediate(connection, LOCK_WAIT_SECONDS)
            try:
                for ticket in group:
                    if ticket.operation is not None:
                        ticket.value = ticket.operation(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.DatabaseError as error:
            if is_store_trouble(error):
                return translate(error, self._path)
            return error
        except BaseException as error:  # noqa: BLE001 - an operation is somebody else's code; its error is handed back
            return error
        return self._look_at_log() if time.monotonic() >= self._log.no_look_before else None

    def _look_at_log(self) -> StoreError | None:
        missing = self._log.look()
        if missing is not None:
            self._close_connections()
        return missing

    def _fail(self, group: list[_Ticket], error: StoreError) -> None:
        self._trouble = str(error)
        for ticket in group:
            ticket.error = error
        if self._closing:
            self._lost = error

    def _has_given_up(self) -> bool:
        return self._give_up_at is not None and time.monotonic() >= self._give_up_at

    def _pause(self, seconds: float) -> None:
        """Wait before trying again, but no longer than ``close`` allows."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._has_given_up():
            time.sleep(min(left, 0.05))

    def _close_connections(self) -> None:
        self._log.close()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
