"""The daemon's side of code hosts: one warm process per flow file, replaced when the file or its imports change.

A new host takes over once it has loaded the file; until then, and for ever when the file is broken, the last good one
serves. A replaced host takes no new runs and ends with its last one. Starting is limited to as many at once as there
are processors. Nothing here touches the store or imports a user's file: what is learnt is handed to callbacks.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ..states.exits import signal_name
from ..system.flow_files import source_hash
from ..system.line import CODE_HOST, Line
from ..system.loop import Loop

LOADING: Final = "loading"
READY: Final = "ready"
ENDED: Final = "ended"
KILLED: Final = (-signal.SIGKILL, -signal.SIGTERM)
MOST_TRIES: Final = 3
RETRY_SECONDS: Final = 0.1


class Host:
    """One code host process."""

    def __init__(self, path: str, folder: str, *, spawn: bool) -> None:
        self.path = path
        self.state = LOADING
        self.flows: dict[str, dict[str, Any]] = {}
        self.imported_flows: list[str] = []
        self.hashes: dict[str, str] = {path: source_hash(path)}
        """What it has loaded: the file and its local imports, each with the hash of its text."""
        self.running: set[int] = set()
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", CODE_HOST, "--store", folder,
                   "--socket", str(theirs.fileno()), *(["--spawn"] if spawn else []), path]
        try:
            self.process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(),
                start_new_session=True,
            )
        finally:
            theirs.close()
        self.line = Line(ours)

    def runs(self, flow: str) -> bool:
        """Whether the file can name this flow."""
        return flow in self.flows or flow in self.imported_flows

    def changed(self) -> bool:
        """Whether what it has loaded is no longer what the files say."""
        return any(source_hash(path) != known for path, known in self.hashes.items())

    def ending(self) -> str:
        """How the process ended, in words."""
        code = self.process.wait()
        return f"killed by signal {-code} ({signal_name(-code)})" if code < 0 else f"exit code {code}"


class Served:
    """A flow file and the hosts that have it."""

    def __init__(self, path: str, *, on_demand: bool) -> None:
        self.path = path
        self.on_demand = on_demand
        """Not among the daemon's files: kept only while a run needs it."""
        self.current: Host | None = None
        self.loading: Host | None = None
        self.queued = False
        self.again = False
        """It changed while it was being loaded."""
        self.tries = 0
        """Hosts that somebody killed while they loaded the file."""
        self.error: str | None = None
        self.waiting: list[tuple[int, int, str]] = []
        """Runs for the host that is being made: run, attempt, flow."""


class Hosts:
    """All code hosts of the daemon."""

    def __init__(self, folder: str, loop: Loop, say: Callable[[str], None], *, spawn: bool) -> None:
        self._folder = folder
        self._loop = loop
        self._say = say
        self._spawn = spawn
        self.served: dict[str, Served] = {}
        self._all: set[Host] = set()
        self._queue: deque[str] = deque()
        self._most_loading = os.cpu_count() or 1
        self.on_loaded: Callable[[Served, Host, dict[str, Any]], None] = lambda *_: None
        self.on_broken: Callable[[Served, str, str | None], None] = lambda *_: None
        self.on_started: Callable[[int, int, int], None] = lambda *_: None
        self.on_ended: Callable[[int, int, int], None] = lambda *_: None
        self.on_refused: Callable[[int, int, str, bool], None] = lambda *_: None
        """A run that could not be given to a process: run, attempt, why, and whether to try again."""

    # -- files ---------------------------------------------------------------------------------------------------

    def serve(self, path: str, *, on_demand: bool = False) -> Served:
        """Have a host for the file, or a new one when it was there already."""
        served = self.served.get(path)
        if served is None:
            served = self.served[path] = Served(path, on_demand=on_demand)
        elif not on_demand:
            served.on_demand = False
        if served.loading is not None:
            served.again = True
        elif not served.queued:
            served.queued = True
            self._queue.append(path)
            self._start_queued()
        return served

    def drop(self, path: str) -> None:
        """The file is gone: its hosts take no new runs."""
        served = self.served.pop(path, None)
        if served is None:
            return
        for host in (served.current, served.loading):
            if host is not None:
                self._retire(host)
        for run_id, attempt, _ in served.waiting:
            self.on_refused(run_id, attempt, f"its file {path} is gone", False)

    def settled(self) -> bool:
        """Whether no file is being loaded."""
        return all(served.loading is None and not served.queued for served in self.served.values())

    def close(self) -> None:
        """Hang up: each host ends with its last run."""
        for host in list(self._all):
            self._loop.forget(host.line.fileno())
            host.line.close()
            host.process.returncode = 0  # nobody waits for it: it outlives us when it has runs
        self._all.clear()

    # -- runs ----------------------------------------------------------------------------------------------------

    def run(self, path: str, run_id: int, attempt: int, flow: str) -> None:
        """Give a claimed run to the file's host, making one when there is none."""
        served = self.served.get(path)
        if served is None or (served.current is None and served.loading is None and not served.queued):
            if not os.path.isfile(path):
                self.on_refused(run_id, attempt, f"its file {path} is gone", False)
                return
            if served is None or served.error is None or served.on_demand:
                served = self.serve(path, on_demand=served is None or served.on_demand)
            else:
                self.on_refused(run_id, attempt, f"its file cannot be imported: {served.error}", False)
                return
        host = served.current
        being_made = served.loading is not None or served.queued
        if host is not None and (host.runs(flow) or not being_made):
            self._send(served, host, run_id, attempt, flow)
        else:
            served.waiting.append((run_id, attempt, flow))

    def tell_crashed(self, path: str, run_id: int, attempt: int, flow: str) -> None:
        """Have ``on_crashed`` of a dead run called, where its file is loaded and has such hooks."""
        served = self.served.get(path)
        host = served.current if served is not None else None
        if host is not None and host.flows.get(flow, {}).get("has_crash_hooks"):
            host.line.send({"do": "crashed", "run": run_id, "attempt": attempt, "flow": flow})

    def crash_retries(self, flow: str) -> int | None:
        """How often a run of the flow may be resumed after a crash; None where its file is not loaded."""
        for served in self.served.values():
            if served.current is not None and flow in served.current.flows:
                return int(served.current.flows[flow]["crash_retries"])
        return None

    def _send(self, served: Served, host: Host, run_id: int, attempt: int, flow: str) -> None:
        if not host.runs(flow):
            known = f"it holds {', '.join(host.flows)}" if host.flows else "it holds none"
            self.on_refused(run_id, attempt, f"{served.path} holds no flow {flow!r}; {known}", False)
            self._retire_if_idle(served)
        elif host.line.send({"do": "run", "run": run_id, "attempt": attempt, "flow": flow}):
            host.running.add(run_id)
        else:
            self.on_refused(run_id, attempt, "its code host has just ended", True)

    # -- processes -----------------------------------------------------------------------------------------------

    def _start_queued(self) -> None:
        loading = sum(served.loading is not None for served in self.served.values())
        while self._queue and loading < self._most_loading:
            served = self.served.get(self._queue.popleft())
            if served is None or not served.queued:
                continue
            served.queued = False
            host = served.loading = Host(served.path, self._folder, spawn=self._spawn)
            self._all.add(host)
            self._loop.watch(host.line.fileno(), partial(self._hear, served, host))
            loading += 1

    def _hear(self, served: Served, host: Host) -> None:
        messages = host.line.receive()
        for message in messages or ():
            match message.pop("say"):
                case "loaded":
                    self._loaded(served, host, message)
                case "broken":
                    self._broken(served, host, message["error"], message["traceback"])
                case "started":
                    self.on_started(message["run"], message["attempt"], message["pid"])
                case "not_started":
                    host.running.discard(message["run"])
                    self.on_refused(message["run"], message["attempt"], message["cause"], True)
                case "ended":
                    host.running.discard(message["run"])
                    self.on_ended(message["run"], message["attempt"], message["pid"])
                    self._retire_if_idle(served)
        if messages is None:
            self._gone(served, host)

    def _loaded(self, served: Served, host: Host, report: dict[str, Any]) -> None:
        host.state = READY
        host.flows = {flow["name"]: flow for flow in report["flows"]}
        host.imported_flows = report["imported_flows"]
        host.hashes = {served.path: report["hash"], **{path: source_hash(path) for path in report["imports"]}}
        replaced, served.current, served.loading, served.error = served.current, host, None, None
        served.tries = 0
        if replaced is not None:
            self._retire(replaced)
        self.on_loaded(served, host, report)
        waiting, served.waiting = served.waiting, []
        for run_id, attempt, flow in waiting:
            self._send(served, host, run_id, attempt, flow)
        self._next(served)

    def _broken(self, served: Served, host: Host, error: str, traceback: str | None) -> None:
        served.loading = None
        served.error = error
        host.state = ENDED
        self.on_broken(served, error, traceback)
        waiting, served.waiting = served.waiting, []
        for run_id, attempt, flow in waiting:
            if served.current is not None:
                self._send(served, served.current, run_id, attempt, flow)
            else:
                self.on_refused(run_id, attempt, f"its file cannot be imported: {error}", False)
        self._next(served)

    def _next(self, served: Served) -> None:
        if served.again:
            served.again = False
            self.serve(served.path, on_demand=served.on_demand)
        self._start_queued()

    def _gone(self, served: Served, host: Host) -> None:
        """The host process has ended, as it should or not."""
        self._loop.forget(host.line.fileno())
        host.line.close()
        self._all.discard(host)
        how = host.ending()
        if host is served.loading and host.process.returncode in KILLED and served.tries < MOST_TRIES:
            # Somebody killed it: that says nothing about the file.
            served.tries += 1
            served.loading = None
            served.queued = True
            self._say(f"{served.path}: its code host was ended while it loaded the file ({how}); trying again")
            self._loop.after(RETRY_SECONDS * 2 ** served.tries, partial(self._load_again, served))
        elif host is served.loading:
            self._broken(served, host, f"{served.path}: the process that imported it ended: {how}; "
                         "run the file by hand to see why", None)
        elif host is served.current:
            served.current = None
            self._say(f"{served.path}: its code host ended ({how}); starting another")
            if self.served.get(served.path) is served:
                self.serve(served.path, on_demand=served.on_demand)
        host.state = ENDED

    def _load_again(self, served: Served) -> None:
        if self.served.get(served.path) is served and served.queued:
            self._queue.append(served.path)
        self._start_queued()

    def _retire(self, host: Host) -> None:
        host.line.send({"do": "retire"})

    def _retire_if_idle(self, served: Served) -> None:
        host = served.current
        if served.on_demand and host is not None and not host.running and not served.waiting:
            self.served.pop(served.path, None)
            self._retire(host)


