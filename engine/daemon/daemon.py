"""The daemon's process: the lock, the signals, the loop and its parts put together, from start to end.

One thread, one loop: sockets of code hosts, pidfds of run processes, a wake pipe from the file watcher, timers, and a
look at the store (``rounds``) after each. It owns nothing that a run needs: kill it and runs go on, start it again and
it adopts them. One daemon per store (``lock``), and it ends with its store: when another or none stands in its folder
it says so, does nothing more there and leaves. What is to be done about schedules and runs is not decided here.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from logging import ERROR, WARNING
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ...store.checkpoint import checkpoint, wal_size
from ...store.connection import DATABASES, connect, database_path, look_at, transaction
from ...store.driver_errors import is_driver_error, store_errors
from ...store.errors import StoreError
from ...store.location import settle
from ...store.opening import open_store
from ...store.rows import LeaseRow
from ...store.tables import events, leases
from ..errors import FlowdeckError, NotAllowed
from ..secrets.secret import conceal_known
from ..system import processes
from ..system.actors import actor_name
from ..system.clock import Clock, now
from ..system.flow_files import find_flow_files
from ..system.inotify import FileWrites
from ..system.loop import Loop
from ..system.orphans import Orphans
from .agenda import Agenda
from .dispatcher import Dispatcher
from .flow_files import FlowFiles
from .hosts import Hosts
from .lock import take_lock
from .rounds import Rounds
from .saying import Line, Saying
from .scheduler import Scheduler
from .supervisor import Supervisor
from .systemd import notify, watchdog_seconds

if TYPE_CHECKING:
    from ..control.deployable import Deployment

CHECKPOINT_SECONDS: Final = 30.0
CHECKPOINT_BYTES: Final = 8 * 1024 * 1024
SPIN_SECONDS: Final = 0.05
ORPHANS_SECONDS: Final = 0.5
"""How long the loop stands still after a failure: a store that fails at once must not spin it."""


def run_daemon(folder: Path, paths: Sequence[str | Path], *, limit: int | None = None,
               ready: Callable[[], None] | None = None, start_method: str | None = None,
               deployments: Sequence[Deployment] = (), as_json: bool = False) -> int:
    """Serve the store until SIGTERM or SIGINT; returns the exit code. ``ready`` is called once all files are loaded.

    ``deployments`` are served beside those the files name themselves. ``start_method="spawn"`` starts a fresh
    interpreter for each run; by default a warm one is forked (not on macOS). What it says goes to standard error, as
    JSON (``as_json``) to standard output.
    """
    if limit is not None and limit < 1:
        raise NotAllowed(f"limit={limit}: a daemon that may run nothing is of no use; give 1 or more")
    named = [os.path.abspath(path) for path in paths]
    find_flow_files(named)  # a misspelt path is refused before anything is started
    open_store(folder)
    settle(folder)
    conceal_known()
    lock = take_lock(str(folder))
    try:
        spawn = start_method == "spawn" or (start_method is None and sys.platform == "darwin")
        saying = Saying(sys.stdout if as_json else sys.stderr, lambda: now().us, as_json=as_json)
        daemon = Daemon(str(folder), named, limit=limit, ready=ready, spawn=spawn, deployments=deployments,
                        saying=saying)
        try:
            daemon.serve()
        finally:
            daemon.close()
    finally:
        os.close(lock)
    return daemon.exit_code


class Daemon:
    """Puts the parts together and drives them."""

    def __init__(self, folder: str, paths: list[str], *, limit: int | None, ready: Callable[[], None] | None,
                 spawn: bool, saying: Saying, deployments: Sequence[Deployment] = (), clock: Clock = now) -> None:
        self.exit_code = 0
        self._folder = folder
        self._say = say = saying
        self._clock = clock
        self._paths = paths
        self._ready = ready
        self._is_ready = False
        self._state = connect(folder, "state")
        self._telemetry = connect(folder, "telemetry")
        self._store_file = look_at(database_path(folder, "state"))
        self._loop = Loop(self._look, self._trouble)
        self._hosts = Hosts(folder, self._loop, say, clock, spawn=spawn, open_files=_raise_open_files())
        dispatcher = Dispatcher(self._state, self._hosts, say, limit)
        self._is_alone = not deployments
        """No code of a user's is in this process."""
        self._files = FlowFiles(paths, self._state, self._hosts, self._loop, say, clock, deployments)
        scheduler = Scheduler(self._state, say, self._files.is_served, dispatcher.may_begin, dispatcher.dispatch)
        agenda = Agenda()
        supervisor = Supervisor(folder, self._state, self._telemetry, self._loop, agenda, say,
                                self._hosts.crash_retries)
        self._rounds = Rounds(self._state, self._hosts, dispatcher, scheduler, supervisor, agenda, say, clock)
        self._files.on_change = self._files_changed
        self._lease: LeaseRow | None = None
        self._writes: FileWrites | None = None
        self._last_trouble = ""
        self._terminals = [descriptor for descriptor in (0, 1, 2) if os.isatty(descriptor)]
        """Where a person sees it, or stops it."""

    # -- life ----------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Start, run, stop."""
        self._rounds.skip_old_events()
        self._begin()
        self._loop.on_signal(signal.SIGTERM, lambda: self._stop("SIGTERM"))
        self._loop.on_signal(signal.SIGINT, lambda: self._stop("SIGINT"))
        self._loop.on_signal(signal.SIGHUP, self._reload)
        self._rounds.begin()
        self._files.scan()
        self._every(CHECKPOINT_SECONDS, self._checkpoint)
        if os.getpid() == 1:  # of a container: what others leave there is this process's to wait for
            self._every(ORPHANS_SECONDS, Orphans(knows_all=self._is_alone).reap)
        if (seconds := watchdog_seconds()) is not None:
            self._every(seconds, lambda: notify("WATCHDOG=1", self._say))
        self._files_changed(None)
        self._rest_between_writes()
        self._loop.run()

    def _rest_between_writes(self) -> None:
        try:
            self._writes = FileWrites(database_path(self._folder, "state") + "-wal")
        except OSError as error:
            self._say(f"the kernel does not tell of writes to the store ({error.strerror}): looking every 25 ms")
        else:
            self._loop.rest_between(self._writes)

    def close(self) -> None:
        """Leave runs going, give the lease back; a small store then stands in its files and not in their logs alone."""
        self._files.close()
        self._hosts.close()
        self._loop.close()
        if self._writes is not None:
            self._writes.close()
        if self._lease is not None:
            with transaction(self._state):
                leases.release(self._state, leases.DAEMON, self._lease)
                events.append(self._state, at_us=self._clock().us, kind="daemon", actor=self._lease.actor,
                              message="the daemon stopped; runs go on")
                for lease in leases.all(self._state):
                    if lease.run_id is not None:
                        events.append(self._state, at_us=self._clock().us, kind="daemon", actor=self._lease.actor,
                                      run_id=lease.run_id, message="the daemon stopped; the run goes on")
            if self.exit_code == 0:
                self._leave_tidy()
        self._state.close()
        self._telemetry.close()

    def _leave_tidy(self) -> None:
        try:
            with store_errors(self._folder):
                self._checkpoint(0)
        except StoreError as error:  # nothing is lost: what could not be moved stays in the log
            self._say(Line(f"the logs of {self._folder} stay as they are: {error}", WARNING))

    def _begin(self) -> None:
        info = json.dumps({"paths": self._paths, "version": _version()})
        lease = leases.this_process(
            self._folder, leases.DAEMON, actor=actor_name("daemon"), at_us=self._clock().us, info=info
        )
        with transaction(self._state):
            leases.acquire(self._state, lease)
            events.append(self._state, at_us=lease.acquired_at_us, kind="daemon", actor=lease.actor,
                          message=f"the daemon started with {', '.join(self._paths) or 'no paths'}", data=info)
        self._lease = lease
        self._say(f"daemon {os.getpid()} serves {self._folder}: {', '.join(self._paths) or 'no flow files'}")

    def _reload(self) -> None:
        if any(not os.isatty(descriptor) for descriptor in self._terminals):
            self._stop("SIGHUP, its terminal is gone")
            return
        self._say("SIGHUP: loading every flow file again; runs go on")
        self._files.reload()

    def _stop(self, why: str) -> None:
        self._say(f"{why}: the daemon stops; runs go on")
        notify("STOPPING=1", self._say)
        self._loop.stop()

    def _files_changed(self, path: str | None) -> None:
        """Schedule what is served now, whatever else is still being loaded.

        Once of every file is known what it holds, or that its import takes long, the daemon is ready.
        """
        self._rounds.schedule(path)
        if self._is_ready or not self._files.tried():
            return
        self._is_ready = True
        self._files.retire_unwanted()
        self._rounds.schedule()
        self._say(f"ready: {len(self._files)} flow files")
        notify("READY=1", self._say)
        if self._ready is not None:
            self._ready()

    def _every(self, seconds: float, callback: Callable[[], None]) -> None:
        def again() -> None:
            self._loop.after(seconds, again)
            callback()

        self._loop.after(seconds, again)

    # -- looking -------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """After each wake-up."""
        if self._has_lost_store():
            return
        self._loop.wake_at(self._rounds.tick())

    def _has_lost_store(self) -> bool:
        """Whether the folder holds this store no more: what is written now would reach nobody."""
        found = look_at(database_path(self._folder, "state"))
        if found is not None and self._store_file is not None and os.path.samestat(found, self._store_file):
            return False
        if self.exit_code == 0:
            self.exit_code = StoreError.exit_code
            became = "was removed or moved away" if found is None else "was replaced by another"
            self._say(Line(f"the store {self._folder} {became}: the daemon ends; start it again where its store is",
                           ERROR))
            notify("STOPPING=1", self._say)
            self._loop.stop()
        return True

    def _trouble(self, error: Exception) -> None:
        """A step failed: say it once, look at everything again soon."""
        if self._has_lost_store():
            return
        text = str(error) if isinstance(error, FlowdeckError) else f"{type(error).__name__}: {error}"
        if text != self._last_trouble:
            is_known = isinstance(error, (FlowdeckError, OSError)) or is_driver_error(error)
            self._say.trouble(text, None if is_known else error)
        self._last_trouble = text
        self._rounds.look_at_everything()
        time.sleep(SPIN_SECONDS)

    def _checkpoint(self, more_than_bytes: int = CHECKPOINT_BYTES) -> None:
        """Short run processes never grow the log enough to move it themselves."""
        for database in DATABASES:
            if wal_size(database_path(self._folder, database)) > more_than_bytes:
                first = connect(self._folder, database)
                second = connect(self._folder, database)
                try:
                    checkpoint(first, second)
                finally:
                    first.close()
                    second.close()


def _raise_open_files() -> int | None:
    """Each process that is watched takes a descriptor: take as many as may be had; returns how many were the default.
    """
    try:
        return processes.limit_open_files(None)
    except (OSError, ValueError):
        return None  # as on macOS, where the kernel has a limit of its own


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("flowdeck")
    except PackageNotFoundError:
        return "unknown"

