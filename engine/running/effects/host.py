"""Who performs user code, and whose it is: the protocols by which effects, pool and callers know their run.

A *host* is what code finds as ``frame.run.session`` wherever it runs. Five play it: the run's own process
(``run_process.session.Session``), a worker process, which sends questions over its line
(``runners.worker_main.SessionStandIn``), a process that ``with_context`` was taken to, the child that user code forked
and that has none of the run's threads (``run_process.forks.LeftBehind`` in the place of its parts), and ``outside``,
where a script takes slots or opens transactions with no run around. Only the first has everything; what another does
not have, it refuses by ``UsageError``, in words for whoever wrote the code. So nobody asks where it is: it does what it
would do in the run's process, and is told if that cannot be.

A *subject* is what has a place in the tree of a run: a call of a task, a call of a flow, or a run. An *owner* is a
subject whose user code runs: a call of a task, or a run.

**On which thread.** Everything here may be called on any thread that code of the run runs on, and on the watcher's and
the writer's; what waits says so. Nothing may be called while a lock of the engine is held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ...authoring.engine import Calls as Calls

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeVar

    from ....store.connection import Connection
    from ....store.writer import Writer
    from ..calls.flow_run import FlowRun
    from ..calls.task_call import TaskCall
    from ..output.capture import Capture
    from ..run_process.activations import Activations
    from ..run_process.ending import Ending
    from ..run_process.node_requests import NodeRequests
    from ..run_process.timers import Timers
    from ..runners.callbacks import Callbacks
    from ..runners.processes import Workers
    from ..runners.threads import Pool
    from ..slots.queue import Keeper
    from .gate import Gate

    T = TypeVar("T")

class Host(Protocol):
    """What performs the steps of runs, and what code of a run asks."""

    is_in_worker: bool
    """Whether the run's own process is another one."""
    is_closed: bool
    """Whether the run is over: what still runs of its code belongs to it no more."""
    root_id: int
    folder: Path
    """Of the store."""

    @property
    def calls(self) -> Calls:
        """How code here calls tasks and flows."""

    @property
    def gate(self) -> Gate:
        """Shut while the run is paused, broken once it is to end. Waiting at it blocks."""

    @property
    def activations(self) -> Activations:
        """User code that runs now; around each activation, on the thread that runs it."""

    @property
    def nodes(self) -> NodeRequests:
        """What single calls and runs were told, and who of them waits. Written by the watcher, read by all."""

    @property
    def timers(self) -> Timers:
        """Callbacks after a time, on the watcher's thread: they may not block, nor run user code."""

    @property
    def pool(self) -> Pool:
        """Where submitted calls run."""

    @property
    def callbacks(self) -> Callbacks:
        """Where done callbacks of futures run; nobody is blocked by handing one over."""

    @property
    def workers(self) -> Workers:
        """Worker processes; who asks for one blocks its thread."""

    @property
    def writer(self) -> Writer:
        """What is to be kept. ``commit`` blocks; ``soon`` and ``submit`` do not, and call back on the writer's thread,
        where nothing may block."""

    @property
    def keeper(self) -> Keeper:
        """Slots of limits; calls back on its own thread."""

    @property
    def capture(self) -> Capture:
        """What the run prints and logs."""

    @property
    def ending(self) -> Ending:
        """How the run's process ends what it started; blocks for the grace at most."""

    def read(self, query: Callable[[Connection], T], /) -> T:
        """Committed facts, after everything this process has written so far: blocks until that is committed."""

    def stop_waiting(self, call: TaskCall | None = None, reason: str | None = None) -> None:
        """One task, or everything of the run, waits for slots no more."""


class Subject(Protocol):
    """What has a place in the tree of a run, and words may be for: a call of a task or flow, or a run."""

    @property
    def name(self) -> str:
        """What people read."""

    @property
    def run(self) -> FlowRun:
        """The run it belongs to; a run is its own."""

    @property
    def seq(self) -> int | None:
        """Its number in its run; None of a run."""

    @property
    def scope_seq(self) -> int:
        """The number of the task that called it; 0 when the flow did, and of a run."""


class Owner(Subject, Protocol):
    """A subject whose user code runs, waits and is interrupted: a call of a task, or a run."""

    attempt: int
    state_type: str
    timeout_seconds: float | None
    interruption: BaseException | None
    """What its present attempt was interrupted with when its time was up."""
    is_partial: bool
    """Its body yielded to a caller who stopped early."""
    told_to_end: str | None
    """Who cancelled it by itself."""

    def tell_to_end(self, reason: str) -> None:
        """It was cancelled by itself: remember why. On the watcher's thread, or on its own."""
