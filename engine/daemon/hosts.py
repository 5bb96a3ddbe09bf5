"""The daemon's side of code hosts: one warm process per flow file, replaced when the file or its imports change.

A new host takes over once it has loaded the file; until then, and for ever when the file is broken, the last good one
serves. A replaced host takes no new runs and ends with its last one. No file stands before another: as many load at
once as there are processors, and one that takes long gives way. A host that does not answer is replaced, and what it
was given stays its own; only with its end, or when it hangs up, is that given back. Beyond so many files
(``warm_hosts``) a host that has nothing to do ends, and is made again when a run of its file is due.

Nothing here touches the store or waits: what is learnt is handed to callbacks.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from logging import WARNING
from typing import Any, Final

from ..settings import warm_hosts
from ..system.clock import Clock
from ..system.flow_files import source_hash
from ..system.loop import Loop
from .given import Given, GivenRuns
from .host import HUNG_UP_SECONDS, LOOK_SECONDS, Host
from .host_output import HostOutput
from .loads import Loads
from .nursery import nursery_for
from .saying import Line
from .served import Served, too_warm

KILLED: Final = (-signal.SIGKILL, -signal.SIGTERM)
MOST_TRIES: Final = 3
RETRY_SECONDS: Final = 0.1
STUCK_SECONDS: Final = 10.0
"""How long a host may keep silent about what it was given."""
IDLE_SECONDS: Final = 10.0
"""How long a host is kept for a file that is none of the daemon's."""
FORGET_SECONDS: Final = 0.5
"""How long it is known of such a file that it cannot be imported."""
MOST_HOOK_BYTES: Final = 64 * 1024
"""Crash hooks are asked for only while a host reads."""


class Hosts:
    """All code hosts of the daemon."""

    def __init__(self, folder: str, loop: Loop, say: Callable[[str], None], clock: Clock, *, spawn: bool,
                 open_files: int | None = None) -> None:
        self._folder = folder
        self._clock = clock
        self._loop = loop
        self._say = say
        self._spawn = spawn
        self._open_files = open_files
        self._nursery = nursery_for(folder, loop, clock, spawn=spawn, open_files=open_files)
        self.served: dict[str, Served] = {}
        self._all: set[Host] = set()
        self._given = GivenRuns()
        self._loads = Loads(self.served, self._start, loop, say)
        self._most_warm, self._looks = warm_hosts(), False
        self.on_loaded: Callable[[Served, Host, dict[str, Any]], None] = lambda *_: None
        self.on_broken: Callable[[Served, str, str | None], None] = lambda *_: None
        self.on_long: Callable[[Served, str | None], None] = lambda *_: None
        """Nobody waits any longer to hear what a file holds; later, in words: its import takes long."""
        self.on_ended: Callable[[int, int, int, dict[str, object] | None], None] = lambda *_: None
        self.on_refused: Callable[[int, int, str, bool], None] = lambda *_: None
        """A run that could not be given to a process: run, attempt, why, and whether to try again."""
        self.on_room: Callable[[], None] = lambda: None
        """A host may be given more than before."""
        self.on_stuck: Callable[[list[Given]], None] = lambda _: None
        """A host does not answer: these runs are its own, and nobody is to wait for them."""
        self._loads.on_long = self._long
        self._loads.on_refused = lambda served, why: self._broken(served, why, None)

    # -- files ---------------------------------------------------------------------------------------------------

    def know(self, path: str, text_hash: str) -> None:
        """What the store knows of this text of a file holds: it may be used before a host has loaded it."""
        served = self.served[path] = Served(path, on_demand=False)
        served.is_known = True
        served.hashes = {path: text_hash}

    def serve(self, path: str, *, on_demand: bool = False, first: bool = False) -> Served:
        """Have a host for the file, or a new one when it was there already; ``first``: before others."""
        served = self.served.get(path)
        if served is None:
            served = self.served[path] = Served(path, on_demand=on_demand)
        elif not on_demand:
            served.on_demand = False
        if served.loading is not None:
            served.again = True
            if served.loading.gave_way:
                served.loading.kill()
        else:
            self._loads.add(served, first=first)
        return served

    def need(self, path: str) -> None:
        """A run of the file is due, or soon: have its host ready."""
        served = self.served.get(path)
        if served is not None and served.current is None and served.loading is None and not served.is_wanted \
                and served.is_served:
            served.is_wanted = True
            self.serve(path, first=True)

    def drop(self, path: str) -> None:
        """The file is gone: its hosts take no new runs."""
        served = self.served.get(path)
        if served is not None:
            if served.loading is not None:
                served.loading.kill()
            self._drop_served(served)
            self.on_room()

    def tried(self) -> bool:
        """Whether of each file it is known what it holds, or that this takes long."""
        return all(served.is_tried for served in self.served.values())

    def close(self) -> None:
        """Hang up: each host ends with its last run."""
        for served in self.served.values():
            if served.loading is not None:
                served.loading.kill()
        for host in list(self._all):
            self._forget(host)
            host.process.returncode = 0  # nobody waits for it: it outlives us when it has runs
        if self._nursery is not None:
            self._nursery.close()

    # -- runs ----------------------------------------------------------------------------------------------------

    def room(self, path: str, flow: str) -> int:
        """How many runs of the flow may be claimed for the file's host now; has one made where there is none.

        Also 1 where ``run`` would refuse one for good: then that is to be said.
        """
        served = self.served.get(path)
        if served is None or (served.current is None and not served.is_being_made):
            if not os.path.isfile(path):
                return 1
            if served is not None and served.error is not None:
                return 1
            self.serve(path, on_demand=served is None or served.on_demand, first=True).is_wanted = True
            return 0
        host = served.current
        if host is None or (served.is_being_made and not host.runs(flow)):
            if not served.is_wanted:
                served.is_wanted = True
                if served.queued:
                    self.serve(path, on_demand=served.on_demand, first=True)
            return 0
        return host.room if host.runs(flow) else 1

    def waits_for(self, path: str) -> str | None:
        """Why no run of the file begins, where that may take long."""
        served = self.served.get(path)
        return served.waits_for if served is not None else None

    def run(self, path: str, run_id: int, attempt: int, flow: str) -> None:
        """Give a claimed run to the file's host, or say why not."""
        served = self.served.get(path) or Served(path, on_demand=True)
        why_not, host = served.why_not(flow), served.current
        if why_not is not None or host is None:
            self.on_refused(run_id, attempt, *(why_not or ("its code host is being made", True)))
        elif self._send(host, {"do": "run", "run": run_id, "attempt": attempt, "flow": flow}):
            self._given.add(host, (run_id, attempt), self._clock().monotonic)
            self._look_soon()
        else:
            self.on_refused(run_id, attempt, "its code host has just ended", True)

    def holds(self, run_id: int, attempt: int) -> bool:
        """Whether a living host has been given this attempt, and its process has not begun."""
        return (run_id, attempt) in self._given

    def begun(self, run_id: int, attempt: int) -> bool:
        """The run has its process: says whether a host of ours was given it. There is room for another."""
        had = self._given.begun((run_id, attempt))
        if had:
            self.on_room()
        return had

    def tell_crashed(self, path: str, run_id: int, attempt: int, flow: str) -> None:
        """Have ``on_crashed`` of a dead run called, where its file is loaded and has such hooks."""
        served = self.served.get(path)
        if served is None or not served.flows.get(flow, {}).get("has_crash_hooks"):
            return
        host = served.current
        if host is None:
            served.crashed.append((run_id, attempt, flow))
            self.need(path)
        elif host.line.unsent_bytes > MOST_HOOK_BYTES:
            self._say(Line(f"run #{run_id}: its on_crashed is not called: its code host does not answer", WARNING))
        else:
            self._send(host, {"do": "crashed", "run": run_id, "attempt": attempt, "flow": flow})

    def crash_retries(self, flow: str) -> int | None:
        """How often a run of the flow may be resumed after a crash; None where its file is not loaded."""
        found = (served.flows[flow] for served in self.served.values() if flow in served.flows)
        return next((int(entry["crash_retries"]) for entry in found), None)

    def _send(self, host: Host, message: dict[str, Any]) -> bool:
        sent = host.line.send(message)
        self._watch_unsent(host)
        return sent

    def _watch_unsent(self, host: Host) -> None:
        if host in self._all and host.line.fileno() >= 0:
            ready = partial(self._flush, host) if host.line.unsent_bytes else None
            self._loop.watch_writable(host.line.fileno(), ready)

    def _flush(self, host: Host) -> None:
        host.line.flush()
        self._watch_unsent(host)

    # -- processes -----------------------------------------------------------------------------------------------

    def _start(self, served: Served) -> Host:
        output = HostOutput(served.path, self._loop, self._say, self._clock)
        host = Host(served.path, self._folder, self._clock().monotonic, output, nursery=self._nursery,
                    spawn=self._spawn, open_files=self._open_files)
        self._all.add(host)
        self._loop.watch(host.line.fileno(), partial(self._hear, served, host))
        host.watch_end(self._loop, partial(self._gone, served, host))
        self._look_soon()
        return host

    def _long(self, served: Served, text: str | None) -> None:
        self.on_long(served, text)
        self.on_room()

    def _hear(self, served: Served, host: Host) -> None:
        messages = host.line.receive()
        if messages is None:
            self._hung_up(served, host)
            return
        if messages:
            host.heard_at = self._clock().monotonic
        for message in messages:
            self._take(served, host, message)

    def _take(self, served: Served, host: Host, message: dict[str, Any]) -> None:
        match message.pop("say"):
            case "loaded":
                self._loaded(served, host, message)
            case "broken":
                if served.loading is host:
                    self._broken(served, message["error"], message["traceback"])
            case "started":
                given = message["run"], message["attempt"]
                host.children.add(given)
                if given in host.given:
                    host.given[given] = True
            case "not_started":
                if self._given.take_back(host, (message["run"], message["attempt"])):
                    self.on_refused(message["run"], message["attempt"], message["cause"], True)
            case "ended":
                given = message["run"], message["attempt"]
                host.children.discard(given)
                self._given.take_back(host, given)
                self.on_ended(*given, message["pid"], message["death"])
                self.on_room()
            case "trouble":
                self._say(Line(f"{served.path}: its code host: {message['text']}", WARNING))

    def _loaded(self, served: Served, host: Host, report: dict[str, Any]) -> None:
        if served.loading is not host:
            return  # it was to be ended: the file has changed, or is gone
        host.flows = {flow["name"]: flow for flow in report["flows"]}
        host.imported_flows = report["imported_flows"]
        host.hashes = {served.path: report["hash"], **{path: source_hash(path) for path in report["imports"]}}
        replaced, served.current, served.loading, served.error = served.current, host, None, None
        served.tries = 0
        if replaced is not None:
            self._send(replaced, {"do": "retire"})
        self.on_loaded(served, host, report)
        served.flows, served.hashes, served.is_loaded = host.flows, host.hashes, True
        crashed, served.crashed = served.crashed, []
        for dead in crashed:
            self.tell_crashed(served.path, *dead)
        if not served.is_wanted and not crashed:
            self._cool(served)
        served.is_wanted = False
        self._next(served)
        self.on_room()

    def _broken(self, served: Served, error: str, traceback: str | None) -> None:
        served.loading = None
        served.is_known = served.is_wanted = False
        served.error = error
        self.on_broken(served, error, traceback)
        if served.on_demand:
            self._loop.after(FORGET_SECONDS, partial(self._forget_broken, served))
        self._next(served)
        self.on_room()

    def _forget_broken(self, served: Served) -> None:
        """Who starts a run of it later may have mended it."""
        if served.on_demand and served.error is not None and not served.is_being_made:
            self._drop_served(served)

    def _next(self, served: Served) -> None:
        if served.again:
            served.again = False
            if self.served.get(served.path) is served:
                self.serve(served.path, on_demand=served.on_demand)
        self._loads.start()

    def _hung_up(self, served: Served, host: Host) -> None:
        """Its line is closed; whether it has ended, its pidfd says, or it is asked. What has not begun goes back."""
        self._loop.forget(host.line.fileno())
        host.line.close()
        if host is served.loading:
            words = f"{served.path}: its import closed the files of its process, as os.closerange does"
            self._loop.after(HUNG_UP_SECONDS, partial(host.kill, words))
        self._give_back(host, "its code host has hung up")
        if served.current is host:
            self._replace(served, "hung up")
        if not host.is_watched:
            self._ask_for_end(served, host)

    def _ask_for_end(self, served: Served, host: Host, seconds: float = 0.01) -> None:
        if host.ending() is not None:
            self._gone(served, host)
        elif host in self._all:
            self._loop.after(seconds, partial(self._ask_for_end, served, host, min(2 * seconds, 1.0)))

    def _gone(self, served: Served, host: Host) -> None:
        """The host process has ended, as it should or not. What it said before is heard first."""
        how = host.ending()
        if how is None or host not in self._all:
            return
        while host.line.fileno() >= 0 and (messages := host.line.receive()):
            for message in messages:
                self._take(served, host, message)
        self._forget(host)
        if served.stuck is host:
            served.stuck = None
        self._give_back(host, f"its code host ended ({how})")
        if host is served.loading:
            self._load_ended(served, host, how)
        elif host is served.current:
            self._replace(served, f"ended ({how})")

    def _forget(self, host: Host) -> None:
        if host.line.fileno() >= 0:
            self._loop.forget(host.line.fileno())
        if host.pidfd is not None:
            self._loop.forget(host.pidfd)
        host.close()
        self._all.discard(host)

    def _give_back(self, host: Host, why: str) -> None:
        for given in list(host.given):
            if self._given.take_back(host, given):
                self.on_refused(*given, why, True)

    def _load_ended(self, served: Served, host: Host, how: str) -> None:
        if self.served.get(served.path) is not served:
            served.loading = None
        elif served.again:  # ended because the file has changed meanwhile
            served.loading = None
            self._next(served)
        elif host.words is not None:
            self._broken(served, host.words, None)
        elif host.process.returncode in KILLED and served.tries < MOST_TRIES:
            # Somebody killed it: that says nothing about the file.
            served.tries += 1
            served.loading = None
            served.queued = True
            self._say(f"{served.path}: its code host was ended while it loaded the file ({how}); trying again")
            self._loop.after(RETRY_SECONDS * 2 ** served.tries, partial(self._load_again, served))
        else:
            text = f"{served.path}: the process that imported it ended: {how}; run the file by hand to see why"
            self._broken(served, text, None)
        self._loads.start()

    def _replace(self, served: Served, what: str) -> None:
        """The host that served the file does not any more: another is to."""
        host, served.current = served.current, None
        if host is None or self.served.get(served.path) is not served:
            return
        self._say(Line(f"{served.path}: its code host {what}; starting another", WARNING))
        seconds = served.rest_after_death(self._clock().monotonic - host.begun_at)
        if not served.is_being_made and seconds == 0:
            self.serve(served.path, on_demand=served.on_demand, first=True)
        elif not served.is_being_made:
            served.queued = True
            self._loop.after(seconds, partial(self._load_again, served))

    def _load_again(self, served: Served) -> None:
        served.queued = False
        if self.served.get(served.path) is served:
            self._loads.add(served)

    def _let_go(self, served: Served) -> None:
        host, served.current = served.current, None
        if host is not None:
            self._send(host, {"do": "retire"})

    def _drop_served(self, served: Served) -> None:
        if self.served.get(served.path) is served:
            del self.served[served.path]
        self._let_go(served)

    # -- looking after them --------------------------------------------------------------------------------------

    def _look_soon(self) -> None:
        """While a file loads, a run is given or a host is kept for a while only, it is looked at that."""
        if not self._looks:
            self._looks = True
            self._loop.after(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._looks = False
        now = self._clock().monotonic
        for served in list(self.served.values()):
            if served.loading is not None:
                self._loads.look(served, served.loading, now)
            elif served.on_demand and served.current is not None and now - served.current.used_at > IDLE_SECONDS \
                    and served.current.is_idle:
                self._drop_served(served)
        for host in self._given.silent(now - STUCK_SECONDS):
            if not host.is_stuck:
                self._stuck(host)
        if self._nursery is not None:
            self._nursery.look()
        self._loads.start()
        if self._given or any(served.loading is not None or (served.on_demand and served.current is not None)
                              for served in self.served.values()):
            self._look_soon()

    def _stuck(self, host: Host) -> None:
        """It does not answer (stopped, or swapped out): new runs go to another, what it was given is its own."""
        host.is_stuck = True
        served = self.served.get(host.path)
        self._say(Line(f"{host.path}: its code host (pid {host.process.pid}) has not answered for {STUCK_SECONDS:g} s; "
                       f"it keeps {', '.join(f'#{run_id}' for run_id, _ in host.given)}", WARNING))
        self.on_stuck(list(host.given))
        if served is not None and served.current is host and served.stuck is None:
            served.stuck = host
            self._let_go(served)
            if not served.is_being_made:
                self.serve(served.path, on_demand=served.on_demand, first=True)

    def _cool(self, loaded: Served) -> None:
        for served in too_warm(self.served.values(), loaded, self._most_warm):
            self._let_go(served)
