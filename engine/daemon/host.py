"""One code host as the daemon sees it: its process, its line, what it has. Knows no other and decides nothing.

What a living host was given is its own, however slow it is: it is counted until its process has the run. Nothing here
waits: not for the host to read, not for it to end.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final

from ..states.exits import signal_name
from ..system import orphans, processes
from ..system.flow_files import source_hash
from ..system.line import CODE_HOST, Line
from ..system.loop import Loop
from .host_output import HostOutput
from .nursery import Nursery, Nursling

MOST_GIVEN: Final = 1 + (os.cpu_count() or 1)
"""Runs a host may have that have not begun; the rest stay in the store, in order. More would only wait elsewhere."""
LOOK_SECONDS: Final = 0.25
"""Between looks at those who load."""
HUNG_UP_SECONDS: Final = 1.0
"""How long a process that has closed its line may take to end by itself, and to say so by how it ends."""
PLACE_SECONDS: Final = 2.0
"""How long one load may keep others from beginning. One that only waits (for a server) gives way at once."""
LONG_LOOKS: Final = 4
LONG_SECONDS: Final = 10.0
"""Nobody waits longer to hear what a file holds; not so long where its import computes nothing for some looks."""


class Host:
    """One code host process."""

    def __init__(self, path: str, folder: str, at: float, output: HostOutput, *, nursery: Nursery | None, spawn: bool,
                 open_files: int | None) -> None:
        self.path = path
        self.output = output
        self.flows: dict[str, dict[str, Any]] = {}
        self.imported_flows: list[str] = []
        self.hashes: dict[str, str] = {path: source_hash(path)}
        """What it has loaded: the file and its local imports, each with the hash of its text."""
        self.given: dict[tuple[int, int], bool] = {}
        """Runs and attempts that it was given and that have not begun, and whether it has made the process."""
        self.children: set[tuple[int, int]] = set()
        """Runs and attempts of which it has a process."""
        self.begun_at = self.heard_at = self.used_at = at
        self.gave_way = False
        """While it loads: others begin to load beside it."""
        self.is_long = False
        """Its load takes long: nobody waits to hear what the file holds."""
        self.is_said = False
        """That it takes long."""
        self.is_stuck = False
        self.words: str | None = None
        """How it was ended by us, where that says more than the signal."""
        self._cpu_ticks = -1
        self._rests = 0
        """Looks in a row at which it had computed nothing."""
        ours, theirs = socket.socketpair()
        self.process: subprocess.Popen[bytes] | Nursling
        self.pidfd: int | None = None
        """Of a child; the nursery watches those that it has forked."""
        try:
            if nursery is not None:
                self.process = nursery.bear(path, theirs.fileno(), output)
            else:
                self.process = _child(path, folder, theirs, output, spawn=spawn, open_files=open_files)
                self.pidfd = _pidfd(self.process.pid)
        except BaseException:
            ours.close()
            output.close()
            raise
        finally:
            theirs.close()
            output.handed_over()
        self.line = Line(ours)

    @property
    def room(self) -> int:
        """How many more runs it may be given."""
        return max(0, MOST_GIVEN - len(self.given))

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing of any run."""
        return not self.given and not self.children

    @property
    def is_silent(self) -> bool:
        """Whether it has been given what it has made no process for."""
        return not all(self.given.values())

    def runs(self, flow: str) -> bool:
        """Whether the file can name this flow."""
        return flow in self.flows or flow in self.imported_flows

    def changed(self) -> bool:
        """Whether what it has loaded is no longer what the files say."""
        return is_changed(self.hashes)

    @property
    def is_watched(self) -> bool:
        """Whether its end is told; else it is to be asked for."""
        return self.pidfd is not None or isinstance(self.process, Nursling)

    def watch_end(self, loop: Loop, gone: Callable[[], None]) -> None:
        """Call back when the process has ended, where that can be told."""
        if isinstance(self.process, Nursling):
            self.process.on_gone = gone
        elif self.pidfd is not None:
            loop.watch(self.pidfd, gone)

    def look_at_load(self, now: float) -> None:
        """Whether others begin to load beside it, and whether anybody still waits for it."""
        if not self.process.pid:  # what is to fork it is busy, or being made
            self.begun_at = now
            return
        seconds = now - self.begun_at
        stat = processes.process_stat(self.process.pid)
        if stat is not None:
            rests = stat.state in "ST" and stat.cpu_ticks == self._cpu_ticks
            self._rests = self._rests + 1 if rests else 0
            self._cpu_ticks = stat.cpu_ticks
        self.gave_way |= self._rests > 0 or seconds > PLACE_SECONDS
        self.is_long |= seconds > LONG_SECONDS or (self._rests >= LONG_LOOKS and seconds > PLACE_SECONDS)

    def kill(self, words: str | None = None) -> None:
        """End it at once: one that loads, and so has no runs."""
        self.words = self.words or words
        self.process.send_signal(signal.SIGKILL)

    def ending(self) -> str | None:
        """How the process ended, in words; None while it lives."""
        code = self.process.poll()
        if code is None:
            return None
        if isinstance(self.process, Nursling) and self.process.words is not None:
            return self.process.words
        return f"killed by signal {-code} ({signal_name(-code)})" if code < 0 else f"exit code {code}"

    def close(self) -> None:
        """Close what the daemon holds of it."""
        self.line.close()
        self.output.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None


def is_changed(hashes: dict[str, str]) -> bool:
    """Whether any of the files has another text than this."""
    return any(source_hash(path) != known for path, known in hashes.items())


def _child(path: str, folder: str, line: socket.socket, output: HostOutput, *, spawn: bool,
           open_files: int | None) -> subprocess.Popen[bytes]:
    """A fresh interpreter, where there are no nurseries."""
    command = [sys.executable, "-P", "-m", CODE_HOST, "--store", folder, "--socket", str(line.fileno()),
               "--output", str(output.read_end),
               *(["--open-files", str(open_files)] if open_files is not None else []),
               *(["--spawn"] if spawn else []), path]
    process = subprocess.Popen(
        command, pass_fds=[line.fileno(), output.read_end], stdin=subprocess.DEVNULL,
        stdout=output.write_end, stderr=output.write_end, start_new_session=True,
    )
    orphans.note_started(process.pid)
    return process


def _pidfd(pid: int) -> int | None:
    """Tells of its end, also when something that the file's import started holds the line open."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None  # the line tells, most of the time
