"""What one root run holds in its process: the writer, the gate, the watcher of requests, the captured output.

Made by ``engine.run_process`` before the flow's code runs and closed after its end is durable. A process of an older
attempt loses its writes (``StaleState``) and stops here. One background thread looks for requests (about every
40 ms), runs timers and moves captured lines into the store.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import logging
import os
import signal
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ....store.connection import Connection, connect, database_path
from ....store.errors import StaleState, StoreError, StoreMissing
from ....store.result_files import ResultFiles
from ....store.rows import LeaseRow, ResultRow
from ....store.tables import leases, runs, supervision
from ....store.writer import Writer
from ...control.decisions import Decision
from ...control.questions import words_of
from ...encoding import codec
from ...errors import RunTimedOut, UsageError
from ...settings import cancel_grace_seconds
from ...states.state import Cancelled, describe_exception
from ...system import processes
from ..calls.lineage import Lineage
from ..calls.task_call import write_beginning
from ..effects.gate import Gate
from ..effects.interrupts import END_SIGNAL, Slot, TerminationHandler
from ..lifecycle.asking import Expectations, Questions
from ..output.capture import Capture
from ..runners.threads import Pool
from ..slots.queue import Keeper
from .node_requests import CancelledNodes, NodeRequests
from .suspending import Departure
from .timeouts import interrupt_task, watch_overdue

if TYPE_CHECKING:
    from ...encoding.codec import Encoded
    from ..calls.flow_run import FlowRun
    from ..calls.frame import Frame
    from ..calls.task_call import TaskCall
    from ..runners.processes import Workers

T = TypeVar("T")
logger = logging.getLogger("flowdeck.engine")
TICK_SECONDS = 0.04
_STORE_SECONDS = 1.0
"""How often a paused run looks whether its store is still there."""
_CHILDREN_AFTER_SECONDS = 0.5
"""How long user code may take to end by itself before its child processes are told to."""
_AFTER_KILL_SECONDS = 0.5
_NO_DESCRIPTORS_EXIT = 70
INLINE_BYTES = 64 * 1024
"""A larger result becomes a file beside the database."""


class _LeftBehind:
    """What stands for a part of the session in a child process that user code forked: it has none of the threads."""

    def __init__(self, run_id: int) -> None:
        self._run_id = run_id

    def __getattr__(self, name: str) -> Any:
        raise UsageError(
            f"this process was forked from run #{self._run_id}: tasks, subflows, metrics and artifacts belong to the "
            "run's own process; return the values to it and call them there"
        )


_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def live_sessions() -> list[Session]:
    """Of the root runs of this process; in a forked one of those it left behind."""
    return list(_sessions)


_fork = threading.local()


def _before_fork() -> None:
    """A SIGTERM that a child gets before it has left our handler behind waits until then, or it would be lost."""
    if _sessions:
        _fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {END_SIGNAL})


def _after_fork() -> None:
    mask = _fork.__dict__.pop("mask", None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    for session in list(_sessions):
        session.leave_to_parent()
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


class Session:
    """The process side of one root run."""

    is_in_worker = False

    def __init__(self, folder: Path, run_id: int, attempt: int, *, echo: bool) -> None:
        self.folder = folder
        self.root_id = run_id
        self.writer = Writer(folder)
        self.result_files = ResultFiles(folder)
        self.gate = Gate()
        self.lineage = Lineage()
        self.pool = Pool(self)
        self.lease: LeaseRow | None = None
        self.root: FlowRun | None = None
        self.live_runs: dict[int, FlowRun] = {}
        self.cancel_reason: str | None = None
        self.cancelled_nodes: CancelledNodes | None = None
        """What of the tree was told to end by itself; None until something was."""
        self.decided: dict[tuple[int, int], Decision] = {}
        """What a person decided for calls that wait for one, by run and seq."""
        self.waiting: dict[Any, Callable[[], None]] = {}
        """Calls and runs that wait in the engine for a time or the gate, and what wakes them."""
        self.requests = NodeRequests(self)
        self.unrecorded: deque[TaskCall] = deque()
        """Calls that began since the last tick; most have ended by then and need no record of their beginning."""
        self.has_swept_cache = False
        """Whether expired cache entries were removed by this process."""
        self.fenced = False
        """A newer attempt has the run; nothing this process writes is kept."""
        self.expectations = Expectations(self.look_soon)
        self.questions = Questions()
        self.departure = Departure(self)
        self.capture = Capture(folder, run_id, attempt, echo=echo)
        self._termination = TerminationHandler()
        self._slots: dict[Slot, Any] = {}
        """Whose user code runs where. Changed without a lock; who ends them first breaks the gate, then reads this."""
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_ids = itertools.count()
        self._timers_lock = threading.Lock()
        self._wake = threading.Event()
        self._trouble_since: float | None = None
        self._look_for_store_at = 0.0
        self.is_resumable = False
        """Whether a supervisor resumes the run when this process dies."""
        self.ends_by_signal = False
        self.left_by: SystemExit | None = None
        """A task called ``sys.exit``."""
        self._closing = False
        self._outer_mark: str | None = None
        self._reader: Connection | None = None
        self._reader_lock = threading.Lock()
        self._telemetry: Writer | None = None
        self._keeper: Keeper | None = None
        self._workers: Workers | None = None
        self._paused_ticks = 0
        self._tick_trouble: str | None = None
        self._watch_connection: Connection | None = None
        self._data_version = -1
        self._watcher = threading.Thread(target=self._watch, name="flowdeck-watcher", daemon=True)

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Capture output and watch for requests; in the thread that will run the flow."""
        self._termination.install()
        self._outer_mark = os.environ.get(processes.RUN_MARK)
        os.environ[processes.RUN_MARK] = processes.run_mark(str(self.folder), self.root_id)
        self.capture.start()
        self._watcher.start()
        _sessions.add(self)

    def leave_to_parent(self) -> None:
        """In a child that user code forked: output still belongs to the run, everything else is refused in words."""
        nothing: Any = _LeftBehind(self.root_id)
        self.gate = self.writer = self.pool = self._telemetry = self._keeper = self._workers = nothing
        self._termination.remove()

    def close(self) -> None:
        """Everything written, output drained, what was replaced put back."""
        _sessions.discard(self)
        self._closing = True
        self._wake.set()
        if self._watcher.ident is not None:
            self._watcher.join()
        self.pool.close()
        if self._workers is not None:
            self._workers.close()
        self._termination.remove()
        if self._keeper is not None:
            self._keeper.close()
        if self._telemetry is not None:
            self._telemetry.close()
        self.capture.close()
        if self._outer_mark is None:
            os.environ.pop(processes.RUN_MARK, None)
        else:
            os.environ[processes.RUN_MARK] = self._outer_mark
        if (lease := self.lease) is not None and not self.ends_by_signal:
            # Last: while the lease stands nobody else moves or removes this run's output.
            self.writer.soon(lambda conn: leases.release(conn, lease.owner, lease))
        self.writer.close()
        for connection in (self._reader, self._watch_connection):
            if connection is not None:
                connection.close()
        if not os.path.exists(path := database_path(self.folder, "state")):
            raise StoreMissing(f"{path} was removed or moved away during the run: its record is lost.")

    @property
    def telemetry(self) -> Writer:
        """The writer of metrics; its thread starts with the first metric."""
        if self._telemetry is None:
            self._telemetry = Writer(self.folder, "telemetry", linger_seconds=0.1)
        return self._telemetry

    @property
    def keeper(self) -> Keeper:
        """What waits for slots of limits; made with the first task that has tags."""
        if self._keeper is None:
            with self._reader_lock:
                if self._keeper is None:
                    self._keeper = Keeper(self.folder, self.writer)
        return self._keeper

    @property
    def workers(self) -> Workers:
        """The run's worker processes; the module is loaded with the first."""
        if self._workers is None:
            from ..runners.processes import Workers

            with self._reader_lock:
                if self._workers is None:
                    self._workers = Workers(self)
        return self._workers

    def stop_waiting(self, call: TaskCall | None = None, reason: str | None = None) -> None:
        """One task, or everything of the run, waits for slots no more."""
        if self._keeper is None:
            return
        why = reason or self.cancel_reason or "the process received SIGTERM"
        self._keeper.cancel(why) if call is None else self._keeper.drop(call, why)

    def read(self, query: Callable[[Connection], T]) -> T:
        """Read committed facts, after everything this process has written so far."""
        self.writer.flush()
        return self.peek(query)

    def peek(self, query: Callable[[Connection], T]) -> T:
        """As ``read``, without waiting: what this process has handed over and not written yet may be missing."""
        with self._reader_lock:
            if self._reader is None:
                self._reader = connect(self.folder, "state", readonly=True)
            return query(self._reader)

    # -- results -------------------------------------------------------------------------------------------------

    def store_result(self, run_id: int, seq: int, encoded: Encoded) -> ResultRow:
        """The row for a result; a large one is written to its file first, durable before the row is."""
        data, path = encoded.data, None
        if data is not None and len(data) > INLINE_BYTES:
            try:
                path = self.result_files.write(run_id, seq, data)
            except OSError as error:
                return self._not_stored(run_id, seq, encoded.preview, error)
        size = len(data) if data is not None else 0
        inline = data if path is None else None
        return ResultRow(run_id, seq, encoded.codec, encoded.checksum, size, inline, path, encoded.preview)

    def remove_files(self, paths: list[str]) -> None:
        """Remove files of results that no row names any more."""
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self.folder, path))

    def store_large(self, call: TaskCall, value: Any) -> ResultRow:
        """As ``store_result``, of a value that goes to its file as it is pickled."""
        run_id, seq = call.run.id, call.seq
        try:
            path, size_bytes, encoded = self.result_files.fill(run_id, seq, lambda file: codec.encode_into(value, file))
        except OSError as error:
            return self._not_stored(run_id, seq, codec.preview(value), error)
        if encoded.codec == "none":
            self.remove_files([path])
            self.tell_not_stored(call, encoded)
            return self.store_result(run_id, seq, encoded)
        return ResultRow(run_id, seq, encoded.codec, encoded.checksum, size_bytes, None, path, encoded.preview)

    def _not_stored(self, run_id: int, seq: int, preview: str, error: OSError) -> ResultRow:
        """The disk did not take the file of a result: the value goes on, and is made again after a crash."""
        text = f"the result is not journalled and is made again after a crash: its file cannot be written: {error}"
        self.capture.record(run_id, seq or None, 30, "flowdeck.engine", "log", text)
        return ResultRow(run_id, seq, "none", "", 0, None, None, preview)

    def tell_not_stored(self, call: TaskCall, encoded: Encoded) -> None:
        """Say in the log what it means that a result cannot be kept."""
        self.task_log(
            call, 30, f"the result of {call.name} is not journalled and runs again after a crash: {encoded.reason}"
        )

    def result_value(self, row: ResultRow) -> Any:
        """The value of a stored result; raises ``ResultUnreadable`` or OSError when it cannot be had."""
        if row.path is not None:
            return codec.decode_file(row.codec, os.path.join(self.folder, row.path), row.checksum)
        return codec.decode(row.codec, row.data or b"", row.checksum)

    def result_bytes(self, row: ResultRow) -> bytes:
        """The stored bytes of a result, from the row or its file."""
        if row.path is None:
            return row.data or b""
        with open(os.path.join(self.folder, row.path), "rb") as file:
            return file.read()

    # -- user code -----------------------------------------------------------------------------------------------

    def interruptible(self, frame: Frame, owner: Any, slot: Slot) -> _Activation:
        """Around an activation of user code: it can be cancelled and timed out, and counts as busy."""
        return _Activation(self, frame, owner, slot)

    def _start_timeout(self, owner: Any, slot: Slot) -> list[Any]:
        # Emptied when the code has ended: the timer itself stays until its time and must not hold the call.
        active = [owner, slot]
        held = self.gate.held_seconds

        def expire() -> None:
            nonlocal held
            # Time in which the run was paused does not count.
            held, owed = self.gate.held_seconds, self.gate.held_seconds - held
            if active and owed > 0:
                self.after(max(owed, TICK_SECONDS), expire)
                return
            for late, its_slot in (tuple(active),) if active else ():
                error = RunTimedOut(f"took longer than {late.timeout_seconds:g} s")
                late.interruption = error
                if late is getattr(late, "run", late):
                    its_slot.interrupt(error)
                    self.stop_run(late, f"its flow {late.name} {error}")
                else:
                    interrupt_task(self, late, its_slot, error)
                watch_overdue(self, active)

        self.after(owner.timeout_seconds, expire)
        return active

    def stop_run(self, run: FlowRun, reason: str) -> None:
        """Make the tasks and subflows of one run end; those that have not begun do not begin."""
        stopped = [live for live in list(self.live_runs.values()) if live.is_within(run)]
        for live in stopped:
            live.stop_reason = reason
        slots = self._slots.copy().items()
        for slot, owner in slots:
            if owner is not run and getattr(owner, "run", owner) in stopped:
                slot.interrupt(Cancelled(reason))
        self.pool.abandon_waiting(stopped, reason)

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back from the background thread in ``seconds``, at the precision of a tick."""
        with self._timers_lock:
            heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._timer_ids), callback))
        self._wake.set()

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
        if isinstance(error, SystemExit):
            self.left_by = error
        if isinstance(error, KeyboardInterrupt):
            self.begin_cancel("interrupted from the keyboard (Ctrl-C)")

    # -- requests ------------------------------------------------------------------------------------------------

    def begin_cancel(self, reason: str) -> None:
        """Tell everything of the run to end; the record follows once it has."""
        if self.cancel_reason is not None:
            return
        self.cancel_reason = reason
        if self.root is not None:
            self.move_run(self.root, ("RUNNING", "PAUSED", "PENDING"), "begin_cancel", reason)
        self.gate.cancel(reason)
        self.pool.cancel()
        slots = self._slots.copy()
        for slot in slots:
            slot.interrupt(Cancelled(reason))

    @contextlib.contextmanager
    def listed(self, slot: Slot, owner: Any) -> Iterator[None]:
        """Around what comes before an activation: who is told to end hears it there, too."""
        self._slots[slot] = owner
        try:
            yield
        finally:
            self._slots.pop(slot, None)

    def activations(self) -> list[tuple[Slot, Any]]:
        """User code that runs now: where, and of which call or run."""
        return list(self._slots.copy().items())

    def is_told_to_end(self, subject: Any) -> bool:
        """Whether this call or run, or one around it, was cancelled by itself."""
        told = self.cancelled_nodes
        return told is not None and subject is not None and told.reason(subject) is not None

    def has_word_for(self, subject: Any) -> bool:
        """Whether what waits need not wait on: it is to end, or its end was decided."""
        seq = getattr(subject, "seq", None)
        return self.is_told_to_end(subject) or (seq is not None and (subject.run.id, seq) in self.decided)

    def check_node(self, subject: Any) -> None:
        """Raise Cancelled in a call or run that was told to end."""
        if self.cancelled_nodes is not None and subject is not None:
            self.cancelled_nodes.check(subject)

    @property
    def was_terminated(self) -> bool:
        """Whether SIGTERM came from outside."""
        return self._termination.received

    def leaves_end_to_supervisor(self) -> bool:
        """Whether this process, told to end by a signal, records no end of its run: who watches it then resumes it.

        So a machine that shuts down ends no run for good. A script that a person started has nobody to resume it.
        """
        self.ends_by_signal = self.will_be_resumed()
        return self.ends_by_signal

    def will_be_resumed(self) -> bool:
        """Whether this process was told to end by a signal, nobody cancelled the run, and a supervisor resumes it."""
        return self.is_resumable and self.was_terminated and self.reason_to_end() is None

    def heed_termination(self) -> None:
        """After SIGTERM: everything ends as after a cancellation; nothing when none came."""
        if not self._termination.received or self.gate.is_cancelled:
            return
        reason = "the process received SIGTERM"
        self.gate.cancel(reason)
        self.pool.cancel()
        slots = self._slots.copy()
        for slot in slots:
            if not slot.is_signalled:  # the handler raised in the main thread's code itself
                slot.interrupt(Cancelled(reason))

    def reason_to_end(self) -> str | None:
        """Why the run is cancelled, if somebody asked for it; None when its process was merely told to end."""
        if self.cancel_reason is None and self._termination.received:
            # The signal may come before the request was seen here.
            found = self.read(lambda conn: runs.intent_of(conn, self.root_id))
            if found is not None and found[2] == "cancel":
                self.cancel_reason = self.read(lambda conn: self._who_asked(conn, "cancel"))
        return self.cancel_reason

    def end_everything(self) -> None:
        """After a cancellation: see to it that nothing of the run is left, within the grace."""
        self.end_processes()
        reason = self.cancel_reason or "the process received SIGTERM"
        self.pool.abandon(f"did not end within {cancel_grace_seconds():g} s of the cancellation", reason)

    def end_processes(self) -> None:
        """Wait for user code that was told to end, and end the processes it started.

        User code first; child processes are told to end when it has ended or hangs (on them, mostly), then killed.
        """
        now = time.monotonic()
        deadline = now + cancel_grace_seconds()
        self._wait_until(lambda: self.gate.busy <= 0, min(deadline, now + _CHILDREN_AFTER_SECONDS))
        processes.send(self._children(), signal.SIGTERM)
        self._wait_until(lambda: self.gate.busy <= 0 and not self._children(), deadline)
        while children := self._children():
            processes.send(children, signal.SIGKILL)
            time.sleep(0.005)
        self._wait_until(lambda: self.gate.busy <= 0, max(deadline, time.monotonic() + _AFTER_KILL_SECONDS))

    def children(self) -> list[int]:
        """Live processes that this run started."""
        return self._children()

    def interrupt_all(self, error: BaseException) -> None:
        """Raise ``error`` in all user code of the run."""
        for slot in self._slots.copy():
            slot.interrupt(error)

    def look_soon(self) -> None:
        """Have the background thread look at the store now, whether it changed or not."""
        self._data_version = -1
        self._wake.set()

    def _children(self) -> list[int]:
        """Live processes that this run started, at any depth, also those that made a session of their own."""
        own_group = os.getpgid(0) == os.getpid()
        return processes.of_run(os.getpid() if own_group else -1, processes.run_mark(str(self.folder), self.root_id))

    @staticmethod
    def _wait_until(condition: Callable[[], bool], deadline: float) -> None:
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _watch(self) -> None:
        while not self._closing:
            for part in (self._run_timers, self.record_beginnings, self.pool.tick, self.capture.tick, self._look):
                self._tick(part)
            self._wake.wait(self._next_wait())
            self._wake.clear()

    def _tick(self, part: Callable[[], None]) -> None:
        """One part of a tick. Timers and requests hang on this thread: whatever happens, it goes on."""
        try:
            part()
        except StaleState:
            self._fence()
        except sqlite3.OperationalError:
            # A moment's lock or a busy checkpoint; the next tick reads again.
            self._data_version = -1
        except Exception as error:  # noqa: BLE001 - a service tick: no descriptors left, a disk gone
            if getattr(error, "errno", None) == errno.EBADF and not self._closing:
                self._give_up_without_descriptors()
            if self._tick_trouble != (trouble := describe_exception(error)):
                self._tick_trouble = trouble
                logger.warning("the background thread of run #%d has trouble: %s", self.root_id, trouble)

    def _give_up_without_descriptors(self) -> None:
        """User code closed descriptors that are the run's: what is opened next would be mistaken for the store.

        Nothing more can be recorded; whoever finds the run dead settles it.
        """
        self.capture.tell(f"run #{self.root_id} ends: its code closed files of the run's own")
        os._exit(_NO_DESCRIPTORS_EXIT)

    def _give_up_without_store(self) -> None:
        """A paused run whose store was removed: nobody can ask anything of it any more, so it would wait for ever."""
        if self.gate.is_open() or self.cancel_reason is not None or time.monotonic() < self._look_for_store_at:
            return
        self._look_for_store_at = time.monotonic() + _STORE_SECONDS
        if not os.path.exists(database_path(self.folder, "state")):
            self.begin_cancel("its store was removed while it was paused")

    def _next_wait(self) -> float:
        with self._timers_lock:
            if not self._timers:
                return TICK_SECONDS
            return max(0.0, min(TICK_SECONDS, self._timers[0][0] - time.monotonic()))

    def _look(self) -> None:
        """Signals and requests from outside."""
        self.heed_termination()
        self._give_up_on_full_disk()
        self._give_up_without_store()
        if self._watch_connection is None:
            self._watch_connection = connect(self.folder, "state", readonly=True)
        version = self._watch_connection.execute("PRAGMA data_version").fetchone()[0]
        if version != self._data_version:
            self._data_version = version
            self.expectations.look(self._watch_connection)
            found = runs.intent_of(self._watch_connection, self.root_id)
            if found is not None:
                self._obey(*found)
            self.requests.look(self._watch_connection)
        self._settle_pause()
        self.departure.tick()

    def _give_up_on_full_disk(self) -> None:
        """A run that was told to end, but cannot write its end within the grace, leaves it to who finds it dead."""
        trouble = self.writer.trouble
        if trouble is None or not self.gate.is_cancelled:
            self._trouble_since = None
        elif self._trouble_since is None:
            self._trouble_since = time.monotonic()
        elif time.monotonic() - self._trouble_since > cancel_grace_seconds():
            self.capture.tell(f"run #{self.root_id} ends without its last records: {trouble}")
            processes.send(self._children(), signal.SIGKILL)
            os._exit(StoreError.exit_code)

    def record_beginnings(self) -> None:
        """Let the store know of the calls that began and have not ended."""
        running = []
        while self.unrecorded:
            call = self.unrecorded.popleft()
            if (beginning := call.beginning) is not None:
                running.append((call, beginning))

        def write(conn: Connection) -> None:
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
            self._tick(callback)

    def _obey(self, _state_type: str, _state_name: str, intent: str, attempt: int) -> None:
        root = self.root
        if root is None:
            return
        if attempt > root.attempt + 1:
            self._fence()
        elif intent == "cancel":
            self.begin_cancel(self._who_asked(self._watch_connection, "cancel"))
        elif intent == "pause" and self.gate.is_open() and root.state_type == "RUNNING":
            self.hold(self._pause_words())
            self._heed_suspension()
        elif intent == "pause":
            self._heed_suspension()
        elif intent == "none" and not self.gate.is_open():
            if self._watch_connection is not None:
                self.departure.resumed(self._watch_connection)
            for run in list(self.live_runs.values()):
                if run.state_type == "PAUSED" or run.state_name == "Pausing":
                    self.move_run(run, ("PAUSED", "RUNNING"), "resume", None)
            self.gate.release()

    def hold(self, cause: str) -> None:
        """Shut the gate; Paused is said once nothing executes. The store knows already that a pause was asked for."""
        if self.gate.shut():
            self._paused_ticks = 0
            for run in list(self.live_runs.values()):
                self.move_run(run, ("RUNNING",), "begin_pause", cause)

    def _settle_pause(self) -> None:
        """Say Paused, or what is asked, once nothing has executed for two ticks in a row."""
        root = self.root
        if root is None or self.gate.is_open():
            return
        if root.state_name == "Pausing":
            self._paused_ticks = self._paused_ticks + 1 if self.gate.busy <= 0 else 0
            if self._paused_ticks >= 2:
                self._say_paused(list(self.live_runs.values()), "RUNNING")
        elif root.state_type == "PAUSED" and self.questions.changed and self.questions.first() is not None:
            self._say_paused([root], "PAUSED")

    def _say_paused(self, paused: list[FlowRun], from_type: str) -> None:
        self.questions.changed = False
        cause = self._pause_words()
        for run in paused:
            event = "await_input" if self.questions.wants_input(run) else "pause"
            self.move_run(run, (from_type,), event, cause)

    def _pause_words(self) -> str:
        """What the paused run waits for."""
        question = self.questions.first()
        return words_of(question) if question is not None else self._who_asked(self._watch_connection, "pause")

    def _heed_suspension(self) -> None:
        if self._watch_connection is not None:
            self.departure.heed(self._watch_connection)

    def move_run(self, run: FlowRun, from_types: tuple[str, ...], event: str, cause: str | None) -> None:
        """A transition made from outside the run's own thread; nothing when the run has gone on meanwhile."""
        with run.state_lock:
            if run.state_type in from_types:
                self.writer.soon(run.transition(event, cause=cause))

    def _who_asked(self, connection: Connection | None, intent: str) -> str:
        assert connection is not None
        asked = supervision.requester(connection, self.root_id)
        if asked is not None and asked[0] == "engine" and asked[1]:
            return asked[1]  # the run asked for it itself, and said why
        word = {"cancel": "cancelled", "pause": "paused"}[intent]
        return f"{word} by {asked[0]}" if asked is not None else word

    def _fence(self) -> None:
        """Another process has a newer attempt of this run: stop as fast as possible, record nothing."""
        if self.fenced or self.gate.is_leaving:
            return
        self.fenced = True
        self.begin_cancel("a newer attempt of this run is under way in another process")


class _Activation:
    """One activation of user code, known to the session while it lasts."""

    __slots__ = ("_frame", "_owner", "_session", "_slot", "_timer")

    def __init__(self, session: Session, frame: Frame, owner: Any, slot: Slot) -> None:
        self._session = session
        self._frame = frame
        self._owner = owner
        self._slot = slot
        self._timer: list[Any] | None = None

    def __enter__(self) -> None:
        session, owner, slot = self._session, self._owner, self._slot
        session._slots[slot] = owner
        session.gate.enter(self._frame)
        try:
            if owner.timeout_seconds:
                self._timer = session._start_timeout(owner, slot)
            if session.gate.is_cancelled:
                session.gate.check()
            if session.cancelled_nodes is not None:
                session.cancelled_nodes.check(owner)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        self._session.gate.leave(self._frame)
        if self._timer is not None:
            self._timer.clear()
        del self._session._slots[self._slot]
