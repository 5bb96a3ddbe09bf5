"""What one root run holds in its process: the writer, the gate, the watcher of requests, the captured output.

Made by ``engine.run_process`` before the flow's code runs and closed after its end is durable. A process of an older
attempt loses its writes (``StaleState``) and stops here. One background thread looks for requests (about every
25 ms), runs timers and moves captured lines into the store.
"""

from __future__ import annotations

import heapq
import itertools
import os
import sqlite3
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..store import runs
from ..store.connection import connect
from ..store.errors import StaleState
from ..store.rows import LeaseRow, ResultRow
from ..store.writer import Writer
from .capture import Capture
from .errors import Cancelled, RunTimedOut
from .gate import Gate
from .interrupts import CoroutineSlot, TerminationHandler, ThreadSlot
from .lineage import Lineage
from .runners import Pool
from .task_run import write_beginning

if TYPE_CHECKING:
    from .codec import Encoded
    from .context import Frame
    from .flow_run import FlowRun
    from .task_run import TaskCall

T = TypeVar("T")
TICK_SECONDS = 0.025
INLINE_BYTES = 64 * 1024
"""A larger result becomes a file beside the database."""


def cancel_grace_seconds() -> float:
    """How long user code may take to end after a cancellation; ``FLOWDECK_CANCEL_GRACE_SECONDS``, default 10."""
    return float(os.environ.get("FLOWDECK_CANCEL_GRACE_SECONDS", "10"))


class Session:
    """The process side of one root run."""

    def __init__(self, folder: Path, run_id: int, attempt: int, *, echo: bool) -> None:
        self.folder = folder
        self.root_id = run_id
        self.writer = Writer(folder)
        self.gate = Gate()
        self.lineage = Lineage()
        self.pool = Pool(self)
        self.lease: LeaseRow | None = None
        self.root: FlowRun | None = None
        self.live_runs: dict[int, FlowRun] = {}
        self.cancel_reason: str | None = None
        self.terminated_from_outside = False
        self.unrecorded: deque[TaskCall] = deque()
        """Calls that began since the last tick; most have ended by then and need no record of their beginning."""
        self.fenced = False
        """A newer attempt has the run; nothing this process writes is kept."""
        self.capture = Capture(folder, run_id, attempt, echo=echo)
        self._termination = TerminationHandler(self._on_termination)
        self._slots: dict[ThreadSlot | CoroutineSlot, Any] = {}
        self._slots_lock = threading.Lock()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_ids = itertools.count()
        self._timers_lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._reader: sqlite3.Connection | None = None
        self._reader_lock = threading.Lock()
        self._telemetry: Writer | None = None
        self._paused_ticks = 0
        self._watch_connection: sqlite3.Connection | None = None
        self._data_version = -1
        self._watcher = threading.Thread(target=self._watch, name="flowdeck-watcher", daemon=True)

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Capture output and watch for requests; in the thread that will run the flow."""
        self._termination.install()
        self.capture.start()
        self._watcher.start()

    def close(self) -> None:
        """Everything written, output drained, what was replaced put back."""
        self._closing = True
        self._wake.set()
        self._watcher.join()
        self.pool.close()
        self._termination.remove()
        self.writer.close()
        if self._telemetry is not None:
            self._telemetry.close()
        self.capture.close()
        for connection in (self._reader, self._watch_connection):
            if connection is not None:
                connection.close()

    @property
    def telemetry(self) -> Writer:
        """The writer of metrics; its thread starts with the first metric."""
        if self._telemetry is None:
            self._telemetry = Writer(self.folder, "telemetry", linger_seconds=0.1)
        return self._telemetry

    def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Read committed facts, after everything this process has written so far."""
        self.writer.flush()
        with self._reader_lock:
            if self._reader is None:
                self._reader = connect(self.folder, "state", readonly=True)
            return query(self._reader)

    # -- results -------------------------------------------------------------------------------------------------

    def store_result(self, run_id: int, seq: int, encoded: Encoded) -> ResultRow:
        """The row for a result; a large one is written to its file first, durable before the row is."""
        data, path = encoded.data, None
        if data is not None and len(data) > INLINE_BYTES:
            path = self._write_result_file(run_id, seq, data)
        size = len(data) if data is not None else 0
        inline = data if path is None else None
        return ResultRow(run_id, seq, encoded.codec, encoded.checksum, size, inline, path, encoded.preview)

    def _write_result_file(self, run_id: int, seq: int, data: bytes) -> str:
        relative = os.path.join("results", str(run_id), f"{seq}.{os.urandom(4).hex()}.bin")
        path = os.path.join(self.folder, relative)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        folder = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return relative

    def result_bytes(self, row: ResultRow) -> bytes:
        """The stored bytes of a result, from the row or its file."""
        if row.path is None:
            return row.data or b""
        with open(os.path.join(self.folder, row.path), "rb") as file:
            return file.read()

    # -- user code -----------------------------------------------------------------------------------------------

    @contextmanager
    def interruptible(self, frame: Frame, owner: Any, slot: ThreadSlot | CoroutineSlot) -> Iterator[None]:
        """Around an activation of user code: it can be cancelled and timed out, and counts as busy."""
        with self._slots_lock:
            self._slots[slot] = owner
        timer = self._start_timeout(owner, slot) if owner.timeout_seconds else None
        self.gate.enter(frame)
        try:
            if self.gate.is_cancelled:
                self.gate.check()
            yield
        finally:
            self.gate.leave(frame)
            if timer is not None:
                timer.clear()
            with self._slots_lock:
                del self._slots[slot]

    def _start_timeout(self, owner: Any, slot: ThreadSlot | CoroutineSlot) -> list[bool]:
        active = [True]

        def expire() -> None:
            if active:
                owner.interruption = RunTimedOut(f"took longer than {owner.timeout_seconds:g} s")
                slot.interrupt(owner.interruption)

        self.after(owner.timeout_seconds, expire)
        return active

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back from the background thread in ``seconds``, at the precision of a tick."""
        with self._timers_lock:
            heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._timer_ids), callback))
        self._wake.set()

    def run_hook(self, hook: Callable[..., Any], subject: Any, run: Any, state: Any) -> None:
        """Call a user's hook; what it raises is logged and stops nothing."""
        import inspect

        try:
            outcome = hook(subject, run, state)
            if inspect.iscoroutine(outcome):
                import asyncio

                try:
                    asyncio.get_running_loop()
                except RuntimeError:
                    asyncio.run(outcome)
                else:
                    threading.Thread(target=asyncio.run, args=(outcome,)).start()
        except Exception as error:  # noqa: BLE001 - the user's hook
            name = getattr(hook, "__name__", repr(hook))
            self.capture.record_exception(self._ids(run), f"hook {name} failed", error)

    # -- output --------------------------------------------------------------------------------------------------

    def task_log(self, call: Any, level: int, text: str) -> None:
        """A line of the engine's own about a task."""
        self.capture.record(call.run.id, call.seq, level, "flowdeck.engine", "log", text)

    def run_log(self, run: FlowRun, level: int, text: str) -> None:
        """A line of the engine's own about a run."""
        self.capture.record(run.id, None, level, "flowdeck.engine", "log", text)

    def task_exception(self, call: TaskCall, error: BaseException) -> None:
        """The traceback of a failed attempt, without our frames."""
        self.capture.record_exception(self._ids(call), f"{call.name} failed", error)

    def run_exception(self, run: FlowRun, error: BaseException) -> None:
        """As ``task_exception``, for the flow function."""
        self.capture.record_exception(self._ids(run), f"flow {run.flow.name} failed", error)

    @staticmethod
    def _ids(subject: Any) -> tuple[int, int | None]:
        seq = getattr(subject, "seq", None)
        return (subject.run.id, seq) if seq is not None else (subject.id, None)

    def note_exit(self, error: BaseException) -> None:
        """A task called ``sys.exit`` or was interrupted from the keyboard: the latter ends the run."""
        if isinstance(error, KeyboardInterrupt):
            self.begin_cancel("interrupted from the keyboard (Ctrl-C)")

    # -- requests ------------------------------------------------------------------------------------------------

    def begin_cancel(self, reason: str) -> None:
        """Tell everything of the run to end; the record follows once it has."""
        if self.cancel_reason is not None:
            return
        self.cancel_reason = reason
        if self.root is not None:
            self._move(self.root, ("RUNNING", "PAUSED", "PENDING"), "begin_cancel", reason)
        self.gate.cancel(reason)
        self.pool.cancel()
        with self._slots_lock:
            slots = list(self._slots)
        for slot in slots:
            slot.interrupt(Cancelled(reason))

    def _on_termination(self) -> None:
        """SIGTERM from outside: a cancellation when one was asked for, else the run crashed by that signal."""
        self.terminated_from_outside = True
        self.gate.cancel("the process received SIGTERM")
        self.pool.cancel()

    def wait_for_stragglers(self) -> None:
        """After a cancellation: give running tasks the grace, then go on without them."""
        deadline = time.monotonic() + cancel_grace_seconds()
        while self.gate.busy > 0 and time.monotonic() < deadline:
            time.sleep(0.005)
        self.pool.abandon(f"did not end within {cancel_grace_seconds():g} s of the cancellation")

    def _watch(self) -> None:
        while not self._closing:
            try:
                self._tick()
            except StaleState:
                self._fence()
            except sqlite3.OperationalError:
                # A moment's lock or a busy checkpoint; the next tick reads again.
                self._data_version = -1
            self._wake.wait(self._next_wait())
            self._wake.clear()

    def _next_wait(self) -> float:
        with self._timers_lock:
            if not self._timers:
                return TICK_SECONDS
            return max(0.0, min(TICK_SECONDS, self._timers[0][0] - time.monotonic()))

    def _tick(self) -> None:
        self._run_timers()
        self.record_beginnings()
        self.pool.tick()
        self.capture.tick()
        if self._watch_connection is None:
            self._watch_connection = connect(self.folder, "state", readonly=True)
        version = self._watch_connection.execute("PRAGMA data_version").fetchone()[0]
        if version != self._data_version:
            self._data_version = version
            found = runs.intent_of(self._watch_connection, self.root_id)
            if found is not None:
                self._obey(*found)
        self._settle_pause()

    def record_beginnings(self) -> None:
        """Let the store know of the calls that began and have not ended."""
        running = []
        while self.unrecorded:
            call = self.unrecorded.popleft()
            if (beginning := call.beginning) is not None:
                running.append((call, beginning))

        def write(conn: sqlite3.Connection) -> None:
            for call, beginning in running:
                write_beginning(conn, call, beginning)

        if running:
            self.writer.soon(write)

    def _run_timers(self) -> None:
        due = []
        with self._timers_lock:
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                due.append(heapq.heappop(self._timers)[2])
        for callback in due:
            callback()

    def _obey(self, _state_type: str, _state_name: str, intent: str, attempt: int) -> None:
        root = self.root
        if root is None:
            return
        if attempt > root.attempt + 1:
            self._fence()
        elif intent == "cancel":
            self.begin_cancel(self._who_asked("cancel"))
        elif intent == "pause" and self.gate.is_open() and root.state_type == "RUNNING":
            self.gate.shut()
            self._paused_ticks = 0
            cause = self._who_asked("pause")
            for run in list(self.live_runs.values()):
                self._move(run, ("RUNNING",), "begin_pause", cause)
        elif intent == "none" and not self.gate.is_open():
            for run in list(self.live_runs.values()):
                if run.state_type == "PAUSED" or run.state_name == "Pausing":
                    self._move(run, ("PAUSED", "RUNNING"), "resume", None)
            self.gate.release()

    def _settle_pause(self) -> None:
        """Say Paused once nothing has executed for two ticks in a row."""
        root = self.root
        if root is None or self.gate.is_open() or root.state_name != "Pausing":
            return
        self._paused_ticks = self._paused_ticks + 1 if self.gate.busy <= 0 else 0
        if self._paused_ticks >= 2:
            cause = self._who_asked("pause")
            for run in list(self.live_runs.values()):
                self._move(run, ("RUNNING",), "pause", cause)

    def _move(self, run: FlowRun, from_types: tuple[str, ...], event: str, cause: str | None) -> None:
        """A transition made from outside the run's own thread; nothing when the run has gone on meanwhile."""
        with run.state_lock:
            if run.state_type in from_types:
                self.writer.soon(run.transition(event, cause=cause))

    def _who_asked(self, intent: str) -> str:
        assert self._watch_connection is not None
        row = self._watch_connection.execute(
            "SELECT actor, message FROM event WHERE run_id = ? AND kind = 'request' ORDER BY id DESC LIMIT 1",
            (self.root_id,),
        ).fetchone()
        word = {"cancel": "cancelled", "pause": "paused"}[intent]
        return f"{word} by {row[0]}" if row is not None else word

    def _fence(self) -> None:
        """Another process has a newer attempt of this run: stop as fast as possible, record nothing."""
        if self.fenced:
            return
        self.fenced = True
        self.begin_cancel("a newer attempt of this run is under way in another process")


def is_interactive() -> bool:
    """Whether a person started this process in a terminal."""
    return bool(sys.stdin and sys.stdin.isatty())
