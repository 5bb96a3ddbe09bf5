"""What one root run holds in its process, in parts; made before the flow's code runs, closed after its end is durable.

``Session`` makes the parts, starts and closes them, and is what steps, calls and users' functions ask as their
``session``. What a part does and promises stands with it. Here is what only all of them together show.

**Which thread does what.** *The flow's thread* is the one that called ``run_here`` or ``execute_run``, mostly the main
one: it drives the steps of the root run, of subflows and of every call that is not submitted, and runs their code (of
async flows in the event loop that runs there). *Pool threads* and *the loop's thread* (``runners.threads``) do the
same for submitted calls, plain and async. *The watcher* (``watcher``) is the run's ear and clock: every 40 ms, and when
it is woken, it calls timers, writes beginnings, grows the pool, moves captured lines, follows signals and requests.
*The writer's thread* (``store.writer``) commits groups, and goes on with those calls of the pool that waited for one,
as far as no code of the user's is due. On need come one for the writer of metrics, *the keeper* of those who wait for
slots, one that hears worker processes, one for each masked descriptor, and for a moment one for each async task in a
worker process (it runs what that task calls) and for an async hook where a loop runs already. User code runs in the
first three, these last two and, where futures have done callbacks, on a thread for those (``runners.callbacks``).

**Who may raise where.** From outside only a slot (``effects.interrupts``) raises in user code, told by any thread: in
the main thread by a signal, in others at their next bytecode, in coroutines at their await; a worker process is ended
by the thread that waits for it. A slot is open while user code itself runs and closed while that waits in code of
ours, which learns of its end by ``gate.check`` or its waker; so the watcher, the writer and the keeper are never
interrupted. Two come unasked, both in the main thread: the handler of signals to end raises ``Cancelled`` where a slot
is open, takes no lock and leaves the rest to the watcher's next tick; Ctrl-C raises ``KeyboardInterrupt`` wherever that
thread is, in code of ours as well, and ends the run as cancelled.

**What is locked by what.** A run's ``state_lock`` is held from a change of its state, by whatever thread, until its
write is queued, so that both have one order; its result is pickled before. The gate has a lock for being open or shut
and one for counting who waits; the pool's guards the set of unsettled calls: who takes a call out of it settles it, so
each is settled once. ``_made`` guards the reader's connection and what is made on need. None of these is held while the
code of a task, a flow or a hook runs. Without a lock: activations (who starts code is listed first and looks at the
gate then, who ends it breaks the gate first and looks at the list then, so one of them sees the other) and what nodes
were told (written by the watcher alone once code runs, read by all).

**In which order things close.** First done callbacks are waited for; then the watcher ends, so that nobody is told
anything any more, and idle threads of the pool (busy ones end with the process), the worker processes, the signal
handlers, the keeper and the metrics; then the output, drained to its last line. Last the lease is released and the
writer ends: while the lease stands nobody else moves or removes this run's output. A process of an older attempt loses
its writes (``StaleState``) and is fenced: it ends and records nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ....store import judging
from ....store.connection import Connection, connect, database_path
from ....store.errors import StoreMissing
from ....store.tables import leases
from ....store.writer import Writer
from ...settings import cancel_grace_seconds
from ..calls.lineage import Lineage
from ..effects.gate import Gate
from ..lifecycle import calling
from ..lifecycle.asking import Expectations, Questions
from ..lifecycle.task_endings import abandon_operation
from ..lifecycle.task_steps import call_steps
from ..output.capture import Capture, RunLog
from ..runners.callbacks import Callbacks
from ..runners.threads import Pool
from . import forks, guarding, marks, users_threads
from .activations import Activations
from .beginnings import Beginnings
from .ending import Ending
from .node_requests import NodeRequests
from .result_store import ResultStore
from .run_requests import RunRequests
from .suspending import Departure
from .timeouts import Timeouts
from .watcher import Watcher

if TYPE_CHECKING:
    from ....store.rows import LeaseRow
    from ..calls.flow_run import FlowRun
    from ..calls.task_call import TaskCall
    from ..effects.host import Calls
    from ..runners.processes import Workers
    from ..slots.queue import Keeper

T = TypeVar("T")


class Session:
    """The process side of one root run: its life, and its parts."""

    is_in_worker = False

    def __init__(self, folder: Path, run_id: int, attempt: int, *, echo: bool) -> None:
        self.folder = folder
        self.root_id = run_id
        self.attempt = attempt
        """At which this process began."""
        self.lease: LeaseRow | None = None
        self.root: FlowRun | None = None
        self.live_runs: dict[int, FlowRun] = {}
        self.is_closed = False
        """Nothing belongs to it any more, whatever a thread that its code left behind may know of it."""
        self.has_swept_cache = False
        """Whether expired cache entries were removed by this process."""
        # What is kept and said of it.
        self.writer = Writer(folder)
        self.capture = Capture(folder, run_id, attempt, echo=echo)
        self.log = RunLog(self.capture, run_id)
        self.results = ResultStore(folder, self.log)
        self.lineage = Lineage()
        self.beginnings = Beginnings(self.writer)
        # What runs of it.
        self.calls: Calls = calling
        self.gate = Gate()
        self.pool = Pool(self, call_steps, abandon_operation)
        self.callbacks = Callbacks()
        self.watcher = Watcher(self)
        self.timers = self.watcher.timers
        self.timeouts = Timeouts(self)
        # What is asked of it, and what it asks.
        self.nodes = NodeRequests(self)
        self.requests = RunRequests(self)
        self.expectations = Expectations(self.requests.look_soon)
        self.questions = Questions()
        self.activations = Activations(self.gate, self.nodes, self.timeouts)
        # How its process leaves it.
        self.departure = Departure(self)
        self.ending = Ending(self)
        self._made = threading.Lock()
        self._reader: Connection | None = None
        self._telemetry: Writer | None = None
        self._keeper: Keeper | None = None
        self._workers: Workers | None = None

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Capture output and watch for requests; in the thread that will run the flow."""
        self.ending.termination.install()
        marks.mark(self)
        users_threads.install()
        self.capture.start()
        self.watcher.start(
            self.beginnings.write, self.pool.tick, self.capture.tick, self.ending.look, self.requests.look
        )
        forks.live.add(self)

    def leave_to_parent(self) -> None:
        """In a child that user code forked: output still belongs to the run, everything else is refused in words."""
        nothing: Any = forks.LeftBehind(self.root_id)
        self.gate = self.writer = self.pool = self.callbacks = self._telemetry = self._keeper = self._workers = nothing
        self.ending.termination.remove()

    def close(self) -> None:
        """Everything written, output drained, what was replaced put back."""
        forks.live.discard(self)
        try:
            if not self.callbacks.close(cancel_grace_seconds()):
                self.log.line(self.root_id, None, 30, "a done callback of a future did not end and is left behind")
        finally:
            self._close_parts()

    def _close_parts(self) -> None:
        self.is_closed = True
        self.watcher.close()
        self.pool.close()
        if self._workers is not None:
            self._workers.close()
        self.ending.termination.remove()
        if self._keeper is not None:
            self._keeper.close()
        if self._telemetry is not None:
            self._telemetry.close()
        self.capture.close()
        marks.unmark(self)
        if (lease := self.lease) is not None and not self.ending.is_by_signal:
            self.writer.soon(lambda conn: leases.release(conn, lease.owner, lease))
        self.writer.flush()
        self.requests.close()
        guarding.let_go(self.folder, self.root_id)
        if self._reader is not None:
            self._reader.close()
        self.writer.close()  # the last one that can write: where nobody else has the store open, its log is moved in
        if lease is not None and not self.ending.is_by_signal:
            judging.end_presence(self.folder, lease.owner)
        if not os.path.exists(path := database_path(self.folder, "state")):
            raise StoreMissing(f"{path} was removed or moved away during the run: its record is lost.")

    # -- made on need --------------------------------------------------------------------------------------------

    @property
    def telemetry(self) -> Writer:
        """The writer of metrics; its thread starts with the first metric."""
        if self._telemetry is None:
            self._telemetry = Writer(self.folder, "telemetry", linger_seconds=0.1)
        return self._telemetry

    def writers(self) -> list[Writer]:
        """What writes to the store for this run."""
        return [self.writer] if self._telemetry is None else [self.writer, self._telemetry]

    @property
    def keeper(self) -> Keeper:
        """What waits for slots of limits; made, and its modules loaded, with the first task that has tags."""
        if self._keeper is None:
            from ..slots.queue import Keeper

            with self._made:
                if self._keeper is None:
                    self._keeper = Keeper(self.folder, self.writer)
        return self._keeper

    @property
    def workers(self) -> Workers:
        """The run's worker processes; the module is loaded with the first."""
        if self._workers is None:
            from ..runners.processes import Workers

            with self._made:
                if self._workers is None:
                    self._workers = Workers(self)
        return self._workers

    def stop_waiting(self, call: TaskCall | None = None, reason: str | None = None) -> None:
        """One task, or everything of the run, waits for slots no more."""
        if self._keeper is None:
            return
        why = reason or self.requests.cancel_reason or self.ending.by_signal
        self._keeper.cancel(why) if call is None else self._keeper.drop(call, why)

    # -- reading -------------------------------------------------------------------------------------------------

    def read(self, query: Callable[[Connection], T]) -> T:
        """Read committed facts, after everything this process has written so far."""
        self.writer.flush()
        return self.peek(query)

    def peek(self, query: Callable[[Connection], T]) -> T:
        """As ``read``, without waiting: what this process has handed over and not written yet may be missing."""
        with self._made:
            if self._reader is None:
                self._reader = connect(self.folder, "state", readonly=True)
            return query(self._reader)
