"""The daemon: runs schedules and submitted flows, looks after every run of the store, and says what it decides.

One thread, one loop: sockets of code hosts, pidfds of run processes, a wake pipe from the file watcher, timers, and a
look at ``PRAGMA data_version`` every 25 ms. It owns nothing that a run needs: kill it and runs go on, start it again
and it adopts them. One daemon per store, held by a lock on ``daemon.lock``.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ...store.checkpoint import checkpoint, wal_size
from ...store.connection import Connection, Database, connect, database_path, transaction
from ...store.errors import StoreReadOnly
from ...store.opening import open_store
from ...store.rows import LeaseRow, RunRow
from ...store.tables import events, leases, runs
from ..control.answering import end_overdue
from ..control.reaping import lease_info
from ..errors import FlowdeckError, NotAllowed
from ..system.actors import actor_name
from ..system.clock import now_us
from ..system.flow_files import find_flow_files
from ..system.inotify import FileWrites
from ..system.loop import Loop
from .dispatcher import Dispatcher
from .flow_files import FlowFiles
from .hosts import Hosts
from .scheduler import Scheduler
from .supervisor import Supervisor

if TYPE_CHECKING:
    from ..control.deployable import Deployment

LONGEST_SLEEP_SECONDS: Final = 30.0
"""Timers are never set further ahead, so that a clock that jumps is noticed."""
ORPHAN_SECONDS: Final = 1.0
"""Between looks for runs that claim to run without a process."""
CHECKPOINT_SECONDS: Final = 30.0
CHECKPOINT_BYTES: Final = 8 * 1024 * 1024
CLOCK_JUMP_SECONDS: Final = 2.0
EVENTS_AT_ONCE: Final = 2000
LOCK_FILE: Final = "daemon.lock"


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
    lock = _take_lock(str(folder))
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
                 spawn: bool, deployments: Sequence[Deployment] = ()) -> None:
        self._folder = folder
        self._paths = paths
        self._ready = ready
        self._is_ready = False
        self._state = connect(folder, "state")
        self._telemetry = connect(folder, "telemetry")
        self._loop = Loop(self._look, self._trouble)
        self._hosts = Hosts(folder, self._loop, say, spawn=spawn)
        self._dispatcher = Dispatcher(self._state, self._hosts, say, limit)
        self._files = FlowFiles(paths, self._state, self._hosts, self._loop, say, deployments)
        self._scheduler = Scheduler(self._state, say, self._files.is_served, self._dispatcher.free_slots,
                                    self._dispatcher.dispatch)
        self._supervisor = Supervisor(folder, self._state, self._telemetry, self._loop, say, self._crash_retries)
        self._lease: LeaseRow | None = None
        self._writes: FileWrites | None = None
        self._data_version = -1
        self._event_id = 0
        self._next_pump: float | None = 0.0
        self._clock_offset = time.time() - time.monotonic()
        self._last_trouble = ""
        self._connect_parts()

    def _connect_parts(self) -> None:
        self._files.on_change = self._files_changed
        self._hosts.on_ended = self._run_process_reaped
        self._supervisor.on_process_ended = self._run_process_ended
        self._supervisor.on_crashed = self._run_crashed

    # -- life ----------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Start, run, stop."""
        self._event_id = events.last_id(self._state)
        self._begin()
        self._loop.on_signal(signal.SIGTERM, lambda: self._stop("SIGTERM"))
        self._loop.on_signal(signal.SIGINT, lambda: self._stop("SIGINT"))
        self._loop.on_signal(signal.SIGHUP, lambda: self._stop("SIGHUP"))
        self._supervisor.adopt()
        for lease in self._supervisor.adopted():
            if lease.run_id is not None and lease_info(lease).get("resumable"):
                self._dispatcher.adopt(lease.run_id)
        self._supervisor.obey()
        self._files.scan()
        self._every(ORPHAN_SECONDS, self._look_for_orphans)
        self._every(CHECKPOINT_SECONDS, self._checkpoint)
        self._start_watchdog()
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
                events.append(self._state, at_us=now_us(), kind="daemon", actor=self._lease.actor,
                              message="the daemon stopped; runs go on")
        self._state.close()
        self._telemetry.close()

    def _begin(self) -> None:
        info = json.dumps({"paths": self._paths, "version": _version()})
        lease = leases.this_process(leases.DAEMON, actor=actor_name("daemon"), at_us=now_us(), info=info)
        with transaction(self._state):
            leases.acquire(self._state, lease)
            events.append(self._state, at_us=now_us(), kind="daemon", actor=lease.actor,
                          message=f"the daemon started with {', '.join(self._paths) or 'no paths'}", data=info)
        self._lease = lease
        say(f"daemon {os.getpid()} serves {self._folder}: {', '.join(self._paths) or 'no flow files'}")

    def _stop(self, why: str) -> None:
        say(f"{why}: the daemon stops; runs go on")
        _notify("STOPPING=1")
        self._loop.stop()

    def _files_changed(self) -> None:
        """Schedule what is served now. Once every file has been tried the daemon is ready."""
        if not self._is_ready:
            if not self._hosts.settled():
                return
            self._is_ready = True
            self._files.retire_unwanted()
            say(f"ready: {len(self._files)} flow files")
            _notify("READY=1")
            self._scheduler.reload()
            if self._ready is not None:
                self._ready()
        else:
            self._scheduler.reload()

    def _every(self, seconds: float, callback: Callable[[], None]) -> None:
        def again() -> None:
            self._loop.after(seconds, again)
            callback()

        self._loop.after(seconds, again)

    def _start_watchdog(self) -> None:
        interval_us = int(os.environ.get("WATCHDOG_USEC", "0") or 0)
        if interval_us > 0 and os.environ.get("NOTIFY_SOCKET"):
            self._every(interval_us / 2e6, lambda: _notify("WATCHDOG=1"))

    # -- looking -------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """After each wake-up: what changed in the store, what is due."""
        version = self._state.execute("PRAGMA data_version").fetchone()[0]
        if version != self._data_version:
            self._data_version = version
            self._read_events()
        now = time.monotonic()
        self._check_clock(now)
        due_us = self._scheduler.next_due_us() if self._is_ready else None
        if due_us is not None and due_us <= now_us():
            self._scheduler.tick()
            self._next_pump = now
        if self._next_pump is not None and now >= self._next_pump:
            wait_seconds = self._dispatcher.pump()
            self._next_pump = None if wait_seconds is None else now + min(wait_seconds, LONGEST_SLEEP_SECONDS)
        self._arm()

    def _look_for_orphans(self) -> None:
        self._supervisor.look()
        self._supervisor.look_for_orphans()
        for run_id in end_overdue(self._state):
            say(f"run #{run_id}: nobody answered in time: it goes on to hear of it")
        self._dispatcher.recount()
        self._next_pump = 0.0

    def _arm(self) -> None:
        """Wake exactly at the next due time when it comes before the next look."""
        times = []
        due_us = self._scheduler.next_due_us() if self._is_ready else None
        if due_us is not None:
            times.append((due_us - now_us()) / 1e6)
        if self._next_pump is not None:
            times.append(self._next_pump - time.monotonic())
        self._loop.wake_within(min(times) if times else LONGEST_SLEEP_SECONDS)

    def _read_events(self) -> None:
        """Other processes wrote something: act on what concerns us."""
        schedules_changed = runs_changed = asked = False
        while True:
            found = events.after(self._state, self._event_id, EVENTS_AT_ONCE)
            for event in found:
                self._event_id = event.id
                if event.task_seq is None and event.actor != "engine":
                    schedules_changed |= event.kind == "schedule"
                    asked |= event.kind == "request"
                if event.task_seq is None:
                    runs_changed |= event.kind in ("state", "limit")
            if len(found) < EVENTS_AT_ONCE:
                break
        if schedules_changed and self._is_ready:
            self._scheduler.reload()
        if runs_changed or asked:
            self._supervisor.look()
            self._supervisor.obey()
            self._scheduler.release_queued()
            self._next_pump = 0.0

    def _check_clock(self, now: float) -> None:
        """The wall clock and the monotonic clock part when somebody sets the time, or the machine slept."""
        offset = time.time() - now
        jump, self._clock_offset = offset - self._clock_offset, offset
        if abs(jump) < CLOCK_JUMP_SECONDS:
            return
        say(f"the clock jumped by {jump:+.0f} s")
        if jump < 0 and self._is_ready:
            self._scheduler.clock_was_set_back()
        self._next_pump = 0.0

    def _trouble(self, error: Exception) -> None:
        """A step failed: say it once, look at everything again soon."""
        text = str(error) if isinstance(error, FlowdeckError) else f"{type(error).__name__}: {error}"
        if text != self._last_trouble:
            say(f"trouble: {text}")
            if not isinstance(error, (FlowdeckError, sqlite3.Error, OSError)):
                sys.excepthook(type(error), error, error.__traceback__)
        self._last_trouble = text
        self._data_version = -1
        self._next_pump = time.monotonic() + 0.5
        time.sleep(0.05)  # a store that fails at once must not spin the loop

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

    # -- runs ----------------------------------------------------------------------------------------------------

    def _run_process_reaped(self, run_id: int, attempt: int, pid: int) -> None:
        self._supervisor.host_says_ended(run_id, attempt, pid)
        if not self._supervisor.is_watched(run_id):
            self._run_process_ended(run_id)

    def _run_process_ended(self, run_id: int) -> None:
        self._dispatcher.ended(run_id)
        self._scheduler.release_queued()
        self._next_pump = 0.0

    def _run_crashed(self, run_id: int) -> None:
        run = runs.get(self._state, run_id)
        path, flow = self._dispatcher.place(run) if run is not None else (None, "")
        if run is not None and path is not None:
            self._hosts.tell_crashed(path, run.id, run.attempt, flow)

    def _crash_retries(self, run: RunRow) -> int | None:
        for served in self._hosts.served.values():
            if served.current is not None and run.flow_name in served.current.flows:
                return int(served.current.flows[run.flow_name]["crash_retries"])
        return None


def _take_lock(folder: str) -> int:
    """Hold ``daemon.lock``; ``NotAllowed`` names the daemon that has it."""
    path = os.path.join(folder, LOCK_FILE)
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreReadOnly(
            f"{path} cannot be written ({error.strerror}). Run as the store's owner, or name another --store."
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(lock, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise NotAllowed(f"a daemon (pid {pid}) serves {folder} already; use it, end it with `kill {pid}`, "
                         "or name another --store") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _notify(text: str) -> None:
    """Tell systemd, when it asked to be told."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(text.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            say(f"systemd cannot be told {text!r} at {address}: {error.strerror}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("flowdeck")
    except PackageNotFoundError:
        return "unknown"

