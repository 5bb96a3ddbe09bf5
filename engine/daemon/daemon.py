"""The daemon's process: the lock, the signals, the loop and its parts put together, from start to end.

One thread, one loop: sockets of code hosts, pidfds of run processes, a wake pipe from the file watcher, timers, and a
look at the store (``rounds``) after each. It owns nothing that a run needs: kill it and runs go on, start it again and
it adopts them. One daemon per store (``lock``). What is to be done about schedules and runs is not decided here.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ...store.checkpoint import checkpoint, wal_size
from ...store.connection import Connection, Database, connect, database_path, transaction
from ...store.driver_errors import is_driver_error
from ...store.opening import open_store
from ...store.rows import LeaseRow
from ...store.tables import events, leases
from ..errors import FlowdeckError, NotAllowed
from ..system.actors import actor_name
from ..system.clock import Clock, now
from ..system.flow_files import find_flow_files
from ..system.inotify import FileWrites
from ..system.loop import Loop
from .agenda import Agenda
from .dispatcher import Dispatcher
from .flow_files import FlowFiles
from .hosts import Hosts
from .lock import take_lock
from .rounds import Rounds
from .scheduler import Scheduler
from .supervisor import Supervisor
from .systemd import notify, watchdog_seconds

if TYPE_CHECKING:
    from ..control.deployable import Deployment

CHECKPOINT_SECONDS: Final = 30.0
CHECKPOINT_BYTES: Final = 8 * 1024 * 1024
SPIN_SECONDS: Final = 0.05
"""How long the loop stands still after a failure: a store that fails at once must not spin it."""


def run_daemon(folder: Path, paths: Sequence[str | Path], *, limit: int | None = None,
               ready: Callable[[], None] | None = None, start_method: str | None = None,
               deployments: Sequence[Deployment] = ()) -> int:
    """Serve the store until SIGTERM or SIGINT; returns the exit code. ``ready`` is called once all files are loaded.

    ``deployments`` are served beside those the files name themselves. ``start_method="spawn"`` starts a fresh
    interpreter for each run; by default a warm one is forked (not on macOS).
    """
    if limit is not None and limit < 1:
        raise NotAllowed(f"limit={limit}: a daemon that may run nothing is of no use; give 1 or more")
    named = [os.path.abspath(path) for path in paths]
    find_flow_files(named)  # a misspelt path is refused before anything is started
    open_store(folder)
    lock = take_lock(str(folder))
    try:
        spawn = start_method == "spawn" or (start_method is None and sys.platform == "darwin")
        daemon = Daemon(str(folder), named, limit=limit, ready=ready, spawn=spawn, deployments=deployments)
        try:
            daemon.serve()
        finally:
            daemon.close()
    finally:
        os.close(lock)
    return 0


def say(text: str) -> None:
    """One line of the daemon's own, for people and journals."""
    try:
        sys.stderr.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + f"Z {text}\n")
        sys.stderr.flush()
    except OSError:
        return  # whoever read this is gone; the events tell the same, and runs matter more


class Daemon:
    """Puts the parts together and drives them."""

    def __init__(self, folder: str, paths: list[str], *, limit: int | None, ready: Callable[[], None] | None,
                 spawn: bool, deployments: Sequence[Deployment] = (), clock: Clock = now) -> None:
        self._folder = folder
        self._clock = clock
        self._paths = paths
        self._ready = ready
        self._is_ready = False
        self._state = connect(folder, "state")
        self._telemetry = connect(folder, "telemetry")
        self._loop = Loop(self._look, self._trouble)
        self._hosts = Hosts(folder, self._loop, say, spawn=spawn)
        dispatcher = Dispatcher(self._state, self._hosts, say, limit)
        self._files = FlowFiles(paths, self._state, self._hosts, self._loop, say, clock, deployments)
        scheduler = Scheduler(self._state, say, self._files.is_served, dispatcher.free_slots, dispatcher.dispatch)
        agenda = Agenda()
        supervisor = Supervisor(folder, self._state, self._telemetry, self._loop, agenda, say,
                                self._hosts.crash_retries)
        self._rounds = Rounds(self._state, self._hosts, dispatcher, scheduler, supervisor, agenda, say, clock)
        self._files.on_change = self._files_changed
        self._lease: LeaseRow | None = None
        self._writes: FileWrites | None = None
        self._last_trouble = ""

    # -- life ----------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Start, run, stop."""
        self._rounds.skip_old_events()
        self._begin()
        self._loop.on_signal(signal.SIGTERM, lambda: self._stop("SIGTERM"))
        self._loop.on_signal(signal.SIGINT, lambda: self._stop("SIGINT"))
        self._loop.on_signal(signal.SIGHUP, lambda: self._stop("SIGHUP"))
        self._rounds.begin()
        self._files.scan()
        self._every(CHECKPOINT_SECONDS, self._checkpoint)
        if (seconds := watchdog_seconds()) is not None:
            self._every(seconds, lambda: notify("WATCHDOG=1", say))
        self._files_changed()
        self._rest_between_writes()
        self._loop.run()

    def _rest_between_writes(self) -> None:
        try:
            self._writes = FileWrites(database_path(self._folder, "state") + "-wal")
        except OSError as error:
            say(f"the kernel does not tell of writes to the store ({error.strerror}): looking every 25 ms instead")
        else:
            self._loop.rest_between(self._writes)

    def close(self) -> None:
        """Leave runs going, give the lease back."""
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
        self._state.close()
        self._telemetry.close()

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
        say(f"daemon {os.getpid()} serves {self._folder}: {', '.join(self._paths) or 'no flow files'}")

    def _stop(self, why: str) -> None:
        say(f"{why}: the daemon stops; runs go on")
        notify("STOPPING=1", say)
        self._loop.stop()

    def _files_changed(self) -> None:
        """Schedule what is served now. Once every file has been tried the daemon is ready."""
        if not self._is_ready:
            if not self._hosts.settled():
                return
            self._is_ready = True
            self._files.retire_unwanted()
            say(f"ready: {len(self._files)} flow files")
            notify("READY=1", say)
            self._rounds.schedule()
            if self._ready is not None:
                self._ready()
        else:
            self._rounds.schedule()

    def _every(self, seconds: float, callback: Callable[[], None]) -> None:
        def again() -> None:
            self._loop.after(seconds, again)
            callback()

        self._loop.after(seconds, again)

    # -- looking -------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """After each wake-up."""
        self._loop.wake_at(self._rounds.tick())

    def _trouble(self, error: Exception) -> None:
        """A step failed: say it once, look at everything again soon."""
        text = str(error) if isinstance(error, FlowdeckError) else f"{type(error).__name__}: {error}"
        if text != self._last_trouble:
            say(f"trouble: {text}")
            if not isinstance(error, (FlowdeckError, OSError)) and not is_driver_error(error):
                sys.excepthook(type(error), error, error.__traceback__)
        self._last_trouble = text
        self._rounds.look_at_everything()
        time.sleep(SPIN_SECONDS)

    def _checkpoint(self) -> None:
        """Short run processes never grow the log enough to move it themselves."""
        databases: tuple[tuple[Database, Connection], ...] = (
            ("state", self._state), ("telemetry", self._telemetry))
        for database, connection in databases:
            if wal_size(database_path(self._folder, database)) > CHECKPOINT_BYTES:
                second = connect(self._folder, database)
                try:
                    checkpoint(connection, second)
                finally:
                    second.close()


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("flowdeck")
    except PackageNotFoundError:
        return "unknown"

