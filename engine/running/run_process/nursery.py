"""Where code hosts come from: an interpreter that has loaded the engine once and forks a host for each flow file.

Started by the daemon as ``python -m flowdeck.engine.running.run_process.nursery``. It runs nothing of a user's, has no
threads and no connection to a store, so a fork of it is as good as a fresh interpreter, and there within milliseconds.
Where something beside the flow file has the name of a module that was loaded here, the file finds its own, as in
``python FILE``, and the engine keeps what it has.

The daemon says ``{"host": 1, "path": …}``, and beside it sends the host's end of its line and both ends of the pipe
that it prints to; the nursery says ``{"born": 1, "pid": …}`` with the pidfd beside it, or ``{"unborn": 1, "errno":
…}``, and ``{"ended": 1, "status": …}``.
It ends with the daemon; hosts with runs go on.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from importlib.machinery import FrozenImporter
from typing import Any, NoReturn

from ....store.location import settle
from ...authoring.flows import flow
from ...authoring.tasks import task as task
from ...control.deployable import describe
from ...schedules.schedule import Interval
from ...system import processes
from ...system.line import CODE_HOST, NURSERY, Line
from .code_host import host_file, warm_up

ROOM_FOR_WORDS = 8192
"""Bytes of its command line that hosts, which inherit it, write theirs over."""


class Nursery:
    """The loop: forks hosts and says how they ended."""

    def __init__(self, line: socket.socket, folder: str, *, open_files: int | None) -> None:
        self._line = line
        self._folder = folder
        self._open_files = open_files
        self._own_pid = os.getpid()
        self._hosts: dict[int, int] = {}
        """By process: the number that the daemon gave it."""
        self._names = frozenset(
            name for name in sys.modules
            if "." not in name and name not in ("__main__", "flowdeck", "encodings", *sys.builtin_module_names)
            and FrozenImporter.find_spec(name) is None
        )  # fmt: skip
        """What was loaded here and would not be there already when a script begins."""
        self._beside: dict[str, tuple[int, frozenset[str]]] = {}
        """Folders: when they changed last, and what in them has a name that was loaded here."""
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> None:
        """Until the daemon is gone."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        while True:
            ready, _, _ = select.select([self._line.fileno(), self._wake_read], [], [])
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
                self._reap()
            if self._line.fileno() in ready:
                try:
                    words, descriptors, _, _ = socket.recv_fds(self._line, 65536, 3)
                except ConnectionResetError:  # it is gone, and has not heard the last of what was said
                    return
                if not words:
                    return
                asked = json.loads(words)
                self._bear(asked["host"], asked["path"], descriptors)

    def _say(self, descriptors: tuple[int, ...] = (), **message: Any) -> None:
        with suppress(OSError):  # the daemon is gone, which the next look tells
            socket.send_fds(self._line, [json.dumps(message).encode()], descriptors)

    def _bear(self, number: int, path: str, descriptors: list[int]) -> None:
        namesakes = self._namesakes(os.path.dirname(path))
        try:
            pid = os.fork()
            if pid == 0:
                self._become(path, descriptors, namesakes)
        except OSError as error:
            self._say(unborn=number, errno=error.errno)
            return
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        self._hosts[pid] = number
        pidfd = os.pidfd_open(pid)  # ended or not, nobody has waited for it
        self._say((pidfd,), born=number, pid=pid)
        os.close(pidfd)

    def _reap(self) -> None:
        while self._hosts:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._say(ended=self._hosts.pop(pid), status=os.waitstatus_to_exitcode(status))

    def _become(self, path: str, descriptors: list[int], namesakes: frozenset[str]) -> NoReturn:
        """In the child: be the file's host."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            for own in (self._line.fileno(), self._wake_read, self._wake_write):
                os.close(own)
            processes.end_with_parent(signal.SIGKILL)
            if os.getppid() != self._own_pid:
                os._exit(1)  # it had ended before the kernel was asked to tell
            talk, output, prints = descriptors
            for descriptor in (1, 2):
                os.dup2(prints, descriptor)
            os.close(prints)
            for descriptor in (talk, output):
                os.set_inheritable(descriptor, False)  # what user code starts must not hold our line open
            words = [sys.executable, "-P", "-m", CODE_HOST, "--store", self._folder, "--socket", str(talk),
                     "--output", str(output),
                     *(["--open-files", str(self._open_files)] if self._open_files is not None else []), path]
            for name in [name for name in sys.modules if name.partition(".")[0] in namesakes]:
                del sys.modules[name]
            processes.show_words(words)
            line = Line(socket.socket(fileno=talk))
            code = host_file(line, self._folder, path, spawn=False, open_files=self._open_files, output=output)
            _end_as_interpreter()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        except BaseException:  # noqa: BLE001 - the border of the process: a second nursery must not go on
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)

    def _namesakes(self, folder: str) -> frozenset[str]:
        """What was loaded here and is not what the folder's own files are to find."""
        try:
            changed = os.stat(folder).st_mtime_ns
            known = self._beside.get(folder)
            if known is None or known[0] != changed:
                stems = {name.partition(".")[0] for name in os.listdir(folder)}
                known = self._beside[folder] = changed, self._names & stems
        except OSError:
            return frozenset()  # the file's import says what is wrong
        return known[1]


def _rehearse() -> None:
    """Load what is loaded only when a flow is made and described: of the standard library, nobody else's."""

    @flow(schedule=Interval(60))
    def rehearsed() -> None:
        """Nothing."""

    describe(rehearsed)


def _end_as_interpreter() -> None:
    """What Python does at its end, but for taking apart what the process held."""
    if all(thread.daemon or thread is threading.main_thread() for thread in threading.enumerate()):
        atexit._run_exitfuncs()
    with suppress(OSError, ValueError):  # the user may have closed them
        sys.stdout.flush()
        sys.stderr.flush()


def main() -> None:
    """Serve the daemon at the other end of the socket."""
    parser = argparse.ArgumentParser(prog=f"python -m {NURSERY}", description=__doc__)
    parser.add_argument("--store", required=True)
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--open-files", type=int)
    parser.add_argument("--room", help="for the command lines of hosts")
    options = parser.parse_args()
    settle(options.store)
    processes.end_with_parent(signal.SIGKILL)
    # A cache written within the second of an edit would hide the edit from the next host.
    sys.dont_write_bytecode = True
    if options.open_files is not None:
        processes.limit_open_files(options.open_files)  # the daemon raised it for itself
    warm_up()
    _rehearse()
    gc.collect()
    gc.freeze()
    os.set_inheritable(options.socket, False)
    Nursery(socket.socket(fileno=options.socket), options.store, open_files=options.open_files).serve()


if __name__ == "__main__":
    main()
