"""The daemon's side of the nursery, which forks code hosts: asked for one at a time, heard of as they are born and end.

A host that it forks is no child of the daemon: its pidfd comes with the news of its birth, and how it ended is told.
Nothing here waits. A nursery that was killed is made again with the next host; the hosts it had forked go on, but for
those that were loading, which the kernel ends with it.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from ..system import orphans
from ..system.clock import Clock
from ..system.line import NURSERY
from ..system.loop import Loop
from .host_output import HostOutput

_ROOM: Final = "x" * 8192
"""For the command lines of hosts, which they write over that of the nursery."""


STUCK_SECONDS: Final = 20.0
"""How long a nursery may keep silent about a host that it was asked for."""


class Nursling:
    """A code host that a nursery forks; to who watches it as a child that was started."""

    def __init__(self) -> None:
        self.pid = 0
        """Not known before its birth is told."""
        self.pidfd: int | None = None
        self.returncode: int | None = None
        self.words: str | None = None
        """How it ended, where no exit code says so."""
        self.on_gone: Callable[[], None] = lambda: None
        self._unsent: list[int] = []

    def poll(self) -> int | None:
        """The exit code, less than zero for a signal; None while it lives or that is not known yet."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Now, or as soon as it is born."""
        if self.returncode is None and self.pidfd is None:
            self._unsent.append(number)
        elif self.returncode is None and self.pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def born(self, pid: int, pidfd: int) -> None:
        """It has a process."""
        self.pid, self.pidfd = pid, pidfd
        for number in self._unsent:
            self.send_signal(number)

    def ended(self, code: int, words: str | None = None) -> None:
        """It has none any more."""
        self.returncode, self.words = code, words
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None
        self.on_gone()


def nursery_for(folder: str, loop: Loop, clock: Clock, *, spawn: bool, open_files: int | None) -> Nursery | None:
    """One where forks are wanted and the platform can hand over descriptors and pidfds."""
    if spawn or sys.platform != "linux" or not hasattr(os, "pidfd_open") or not hasattr(socket, "send_fds"):
        return None
    return Nursery(folder, loop, clock, open_files=open_files)


class Nursery:
    """Starts the nursery's process with the first host, and tells each host's watcher what became of it."""

    def __init__(self, folder: str, loop: Loop, clock: Clock, *, open_files: int | None) -> None:
        self._folder = folder
        self._loop = loop
        self._clock = clock
        self._open_files = open_files
        self._line: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = 0
        self._nurslings: dict[int, Nursling] = {}
        self._heard_at = 0.0
        """When it was last known to be well."""

    def bear(self, path: str, line: int, output: HostOutput) -> Nursling:
        """A host for the file that has this end of its line, and prints there; ``OSError`` where none can be made now.
        """
        ours = self._line or self._start()
        if all(nursling.pidfd is not None for nursling in self._nurslings.values()):
            self._heard_at = self._clock().monotonic  # until now there was nothing to answer
        self._numbers += 1
        words = json.dumps({"host": self._numbers, "path": path}).encode()
        try:
            socket.send_fds(ours, [words], [line, output.read_end, output.write_end])
        except BlockingIOError:
            raise OSError(errno.EAGAIN, "the nursery of code hosts is busy") from None
        except OSError:
            self._lost()
            raise
        nursling = self._nurslings[self._numbers] = Nursling()
        return nursling

    def look(self) -> None:
        """From time to time, while hosts are being made: one that does not answer is ended, and made again."""
        if self._process is not None and self._clock().monotonic - self._heard_at > STUCK_SECONDS \
                and any(nursling.pidfd is None for nursling in self._nurslings.values()):
            self._process.kill()

    def close(self) -> None:
        """Hang up: the nursery ends."""
        if self._line is not None and self._process is not None:
            self._loop.forget(self._line.fileno())
            self._line.close()
            self._process.returncode = 0  # nobody waits for it
        self._line = None

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-P", "-m", NURSERY, "--store", self._folder, "--socket", str(theirs.fileno()),
                   *(["--open-files", str(self._open_files)] if self._open_files is not None else []),
                   "--room", _ROOM]
        try:
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        orphans.note_started(self._process.pid)
        ours.setblocking(False)
        self._line = ours
        self._loop.watch(ours.fileno(), self._hear)
        return ours

    def _hear(self) -> None:
        while self._line is not None:
            try:
                words, descriptors, _, _ = socket.recv_fds(self._line, 4096, 1)
            except BlockingIOError:
                return
            except OSError:
                words, descriptors = b"", []
            if not words:
                self._lost()
                return
            self._heard_at = self._clock().monotonic
            self._take(json.loads(words), descriptors)

    def _take(self, said: dict[str, Any], descriptors: list[int]) -> None:
        match said:
            case {"born": number, "pid": pid} if descriptors:
                os.set_inheritable(descriptors[0], False)
                self._nurslings[number].born(pid, descriptors[0])
            case {"ended": number, "status": code}:
                self._nurslings.pop(number).ended(code)
            case {"unborn": number, "errno": code}:
                self._nurslings.pop(number).ended(1, f"no process could be made for it: {os.strerror(code)}")

    def _lost(self) -> None:
        """The nursery is gone: what it forked is watched from here."""
        if self._line is None:
            return
        self._loop.forget(self._line.fileno())
        self._line.close()
        self._line = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        nurslings, self._nurslings = self._nurslings, {}
        for nursling in nurslings.values():
            if nursling.pidfd is None:
                nursling.ended(-signal.SIGKILL)  # before it had a process, or by the kernel, with the nursery
            else:
                self._loop.watch(nursling.pidfd, partial(self._gone, nursling, nursling.pidfd))

    def _gone(self, nursling: Nursling, pidfd: int) -> None:
        self._loop.forget(pidfd)
        nursling.ended(-signal.SIGKILL, "it ended after what had forked it, which alone could tell how")
