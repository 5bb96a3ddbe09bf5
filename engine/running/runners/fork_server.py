"""The fork server of a run's worker processes: a fresh, single-threaded interpreter that forks one on request.

Started by ``fork_client`` as ``python -m flowdeck.engine.running.runners.fork_server``: the run's own process has
threads, so it must not fork. It runs no user code, holds no database connection, and forks workers that each lead a
process group of their own. It tells how each one ended, kills what it left behind, and ends with the run's process: no
worker outlives either of them.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from typing import Any, Final, NoReturn

from ...states import exits as deaths
from ...system import processes
from ...system.dispositions import Inherited
from .worker_main import Terminal, work

_SET_PARENT_DEATH_SIGNAL: Final = 1
_FDS_OF_A_WORKER: Final = 3


class WorkerHost:
    """The server's loop. Requests: ``{"fork": id}`` with the worker's socket and its two output pipes."""

    def __init__(self, control: socket.socket, parent: int, terminal: Terminal) -> None:
        self._control: socket.socket | None = control
        self._terminal = terminal
        self._parent = processes.open_pidfd(parent, 0) if hasattr(os, "pidfd_open") else None
        self._children: dict[int, int] = {}
        self._ending = False
        self._oom = deaths.OomWatch()
        self._inherited = Inherited(signal.SIGINT)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> None:
        """Until the run's process closes its end or is gone, or SIGTERM came and the last worker has ended."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        while self._control is not None and not (self._ending and not self._children):
            waited = [self._wake_read, self._control.fileno()]
            waited += [self._parent] if self._parent is not None else []
            ready, _, _ = select.select(waited, [], [])
            if self._parent in ready:
                break
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
                self._reap()
            if self._control is not None and self._control.fileno() in ready:
                self._obey(self._control)
        for pid in self._children:
            _kill_group(pid)

    def _end(self, *_: object) -> None:
        self._ending = True

    def _obey(self, control: socket.socket) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(control, 4096, _FDS_OF_A_WORKER)
        except ConnectionError:
            data, descriptors = b"", []
        if not data:
            self._control = None
            return
        request = json.loads(data)
        try:
            self._fork(request["fork"], descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _fork(self, worker_id: int, descriptors: list[int]) -> None:
        own_pid = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._say({"ended": worker_id, "trouble": error.strerror or "fork failed"})
            return
        if pid == 0:
            self._become(descriptors, own_pid)
        self._children[pid] = worker_id

    def _become(self, descriptors: list[int], host_pid: int) -> NoReturn:
        """In the child: shed what is the host's, and work."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._inherited.restore()
            os.setpgid(0, 0)
            if sys.platform == "linux":
                ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGKILL))
            if os.getppid() != host_pid:
                os._exit(1)  # it died before it could be seen dying
            own, out, err = descriptors
            null = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((null, 0), (out, 1), (err, 2)):
                os.dup2(source, target)
            for descriptor in (null, out, err, self._wake_read, self._wake_write):
                os.close(descriptor)
            if self._parent is not None:
                os.close(self._parent)
            assert self._control is not None
            self._control.close()
            work(socket.socket(fileno=own), self._terminal)
            code = 0
        finally:
            os._exit(code)

    def _reap(self) -> None:
        for pid, worker_id in list(self._children.items()):
            try:
                seen = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if seen is None:
                    continue
                _kill_group(pid)  # while its pid is still its own
                _, status, usage = os.wait4(pid, 0)
            except ChildProcessError:
                del self._children[pid]
                continue
            del self._children[pid]
            killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            self._say({
                "ended": worker_id, "pid": pid, "status": status, "max_rss_bytes": usage.ru_maxrss * 1024,
                "cpu_us": round((usage.ru_utime + usage.ru_stime) * 1e6),
                "out_of_memory": killed and self._oom.killed_since_last_look(pid),
            })

    def _say(self, message: dict[str, Any]) -> None:
        try:
            if self._control is not None:
                self._control.sendall(json.dumps(message).encode() + b"\n")
        except ConnectionError:
            self._control = None


def _kill_group(pid: int) -> None:
    """Kill a worker and whatever it started and left."""
    processes.send_to_group(pid, signal.SIGKILL)


def main() -> int:
    """Serve the run that started this process."""
    parser = argparse.ArgumentParser(prog="python -m flowdeck.engine.running.runners.fork_server", description=__doc__)
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--terminal", type=int, nargs=2)
    options = parser.parse_args()
    for descriptor in (options.socket, *(options.terminal or ())):
        os.set_inheritable(descriptor, False)
    terminal = (options.terminal[0], options.terminal[1]) if options.terminal else None
    importlib.import_module("cloudpickle")
    gc.collect()
    gc.freeze()
    WorkerHost(socket.socket(fileno=options.socket), options.parent, terminal).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
