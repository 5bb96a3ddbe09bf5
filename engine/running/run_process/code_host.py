"""A code host: one warm, single-threaded process per flow file that imports it once and forks for each run.

Started by the daemon as ``python -m flowdeck.engine.running.run_process.code_host``; they speak JSON lines over a
socket pair. It holds no database connection and no threads, so forking is safe; where the user's import started
threads, or the daemon asks for ``spawn``, each run gets a fresh interpreter instead. It waits for its runs and leaves a
record of each ending (``states.exits``). When the daemon goes away it goes on until its last run has ended, and ends.
It waits for nothing else: not for the daemon to read, and not for room on the disk.

The daemon says ``{"do": "run", "run": 42, "attempt": 1, "flow": "etl"}`` or ``{"do": "retire"}``. The host says
``loaded`` or ``broken`` once, then ``started`` and ``ended`` (with how) for each run, and ``trouble`` in words.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from ....store import judging
from ....store.location import settle
from ...authoring.loader import FlowFile, load_flow_file
from ...control.deployable import describe
from ...errors import FlowdeckError, StaleState
from ...secrets.masking import mask
from ...secrets.secret import conceal_known
from ...states import exits as deaths
from ...system import processes
from ...system.actors import actor_name
from ...system.clock import now_us
from ...system.dispositions import Inherited, handle
from ...system.flow_files import BrokenFlowFile
from ...system.line import CODE_HOST, Line
from .guard import detach, end_with
from .hosted import Child, guard_alone, guard_child, is_child, last_words
from .python_ending import become_script, end_as_python
from .wards import tell

BROKEN_EXIT_CODE: Final = 70
"""Exit code of a run process that could not even begin; its log says why."""
_OUTPUT_BYTES: Final = 64 * 1024
RECORD_AGAIN_SECONDS: Final = 0.25
"""Between tries to leave a record that the disk has no room for."""


class CodeHost:
    """The host's own loop."""

    def __init__(self, line: Line, folder: str, loaded: FlowFile, *, spawn: bool, open_files: int | None,
                 output: int | None) -> None:
        self._line: Line | None = line
        self._output = output
        """Where what is printed outside of runs can be read: by the daemon, and when that is gone by nobody else.

        None where a daemon of an older version gave it none."""
        self._folder = folder
        self._loaded = loaded
        self._spawn = spawn
        self._children: dict[int, Child] = {}
        self._retired = False
        self._unwritten: list[tuple[int, deaths.Death]] = []
        """Attempts and how they ended, of which no record could be left yet."""
        self._oom = deaths.OomWatch()
        self._open_files = open_files
        """What the user's code may open by default; None where nobody raised it."""
        self._inherited = Inherited(signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> None:
        """Run what the daemon sends until it is gone, or retires this host, and the last run has ended."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGHUP):
            handle(number, self._retire)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the daemon; runs outlive it
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        processes.adopt_orphans(True)  # the run of a guard that was killed
        if self._open_files is not None:  # each live run takes one
            self._open_files = processes.limit_open_files(None)
        while self._children or self._has_to_say() or not self._retired:
            waited, unsent = [self._wake_read], []
            if self._line is not None:
                waited.append(self._line.fileno())
                unsent = [self._line.fileno()] if self._line.unsent_bytes else []
            elif self._output is not None:
                waited.append(self._output)
            ready, writable, _ = select.select(waited, unsent, [], RECORD_AGAIN_SECONDS if self._unwritten else None)
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
                self._reap()
            if self._output in ready and not os.read(self._output, _OUTPUT_BYTES):
                os.close(self._output)  # nobody can print any more
                self._output = None
            if self._line is not None and writable and not self._line.flush():
                self._hang_up()
            if self._line is not None and self._line.fileno() in ready:
                self._obey(self._line.receive())
            self._record()

    def _has_to_say(self) -> bool:
        """Whether somebody would miss something if this host ended now: the daemon, or who looks for a record."""
        return bool(self._unwritten) if self._line is None else self._line.unsent_bytes > 0

    def _retire(self, *_: object) -> None:
        self._retired = True

    def _obey(self, messages: list[dict[str, Any]] | None) -> None:
        if messages is None:
            self._hang_up()
            return
        for message in messages:
            if message["do"] == "retire":
                self._retired = True
            elif message["do"] == "crashed":
                self._start(Child(message["run"], message["attempt"], True), message["flow"])
            elif message["do"] == "run":
                self._start(Child(message["run"], message["attempt"]), message["flow"])

    def _hang_up(self) -> None:
        self._retired = True
        if self._line is not None:
            self._line.close()
            self._line = None

    def _say(self, **message: Any) -> None:
        if self._line is not None and not self._line.send(message):
            self._hang_up()

    def _start(self, child: Child, flow: str) -> None:
        try:
            pid = self._spawned(child, flow) if self._spawn else self._forked(child, flow)
        except OSError as error:
            if child.for_crash_hooks:
                self._say(say="trouble", text=f"run #{child.run_id}: its on_crashed is not called: {error.strerror}")
                return
            self._say(say="not_started", run=child.run_id, attempt=child.attempt,
                      cause=f"no process could be made for it: {error.strerror}")
            return
        self._children[pid] = child
        if child.for_crash_hooks:
            return
        self._say(say="started", run=child.run_id, attempt=child.attempt, pid=child.pid or pid)

    def _forked(self, child: Child, flow: str) -> int:
        """The guard of a run, which forks the run's process; that of crash hooks has none."""
        if child.for_crash_hooks:
            pid = os.fork()
            if pid == 0:
                self._become(child, flow, None)
            return pid
        child.said, say = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.fork()
            if pid == 0:
                self._guard(child, flow, say)
        except OSError:
            os.close(child.said)
            raise
        finally:
            os.close(say)
        first = json.loads(os.read(child.said, 4096) or b"[0]")
        if isinstance(first, list):  # the error of its fork
            os.close(child.said)
            os.waitpid(pid, 0)
            raise OSError(first[0], os.strerror(first[0]) if first[0] else "its guard ended at once")
        child.pid = first
        return pid

    def _guard(self, child: Child, flow: str, say: int) -> NoReturn:
        """In the guard: fork the run's process, say its number, and watch."""
        own = os.getpid()
        try:
            processes.adopt_orphans(True)
            pid = os.fork()
        except OSError as error:
            os.write(say, json.dumps([error.errno]).encode())
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a second host must not go on
            os._exit(1)
        if pid == 0:
            os.close(say)
            self._become(child, flow, own)

        def watch() -> None:
            os.write(say, str(pid).encode())
            os.setsid()
            detach(say)
            self._oom.look()
            guard_child(self._folder, child, pid, self._oom, say)

        end_with(watch, self._folder, child.run_id, child.attempt)

    def _become(self, child: Child, flow: str, guard: int | None) -> NoReturn:
        """In the child: shed what is the host's, and run."""
        code = BROKEN_EXIT_CODE
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._inherited.restore()
            os.setsid()
            if self._line is not None:
                self._line.close()
            for other in (child, *self._children.values()):
                if other.said is not None:
                    os.close(other.said)
            if self._open_files is not None:
                processes.limit_open_files(self._open_files)
            for descriptor in (self._wake_read, self._wake_write, self._output):
                if descriptor is not None:
                    os.close(descriptor)
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.close(null)
            code = run_here(self._folder, child, self._loaded, flow, guard)
        except StaleState:
            code = deaths.STALE_EXIT  # the run was cancelled, or taken by another, before it began
        except BaseException as error:  # noqa: BLE001 - the border of the process: say it in the run's log, then end
            _tell(self._folder, child, error)  # or, on a full disk, not: the exit code tells
        finally:
            os._exit(code)

    def _spawned(self, child: Child, flow: str) -> int:
        child.said, say = os.pipe2(os.O_CLOEXEC)
        os.set_inheritable(say, True)
        try:
            return os.posix_spawn(
                sys.executable,
                [sys.executable, "-P", "-m", CODE_HOST, "--store", self._folder, "--say", str(say),
                 "--run", str(child.run_id), "--attempt", str(child.attempt), "--flow", flow,
                 *(["--crashed"] if child.for_crash_hooks else []),
                 *(["--open-files", str(self._open_files)] if self._open_files is not None else []),
                 self._loaded.path],
                os.environ, setsid=True, setsigdef=self._inherited.defaults(),
                file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            )
        except OSError:
            os.close(child.said)
            raise
        finally:
            os.close(say)

    def _reap(self) -> None:
        """Guards end after their runs; a run whose guard was killed is this host's child, which adopts orphans."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._children.pop(pid, None)
            if child is None or child.for_crash_hooks:
                continue
            if child.pid == pid:
                self._ended(child, self._death(child, pid, status, usage.ru_maxrss * 1024))
            elif (told := last_words(child)) is not None:
                self._ended(child, told[0], is_recorded=told[1])
            elif child.pid is not None and is_child(child.pid):
                self._children[child.pid] = child
            else:  # a guard that was killed before it had forked, or so early that it had said nothing
                self._ended(child, self._death(child, child.pid or pid, status, 0))

    def _death(self, child: Child, pid: int, status: int, max_rss_bytes: int) -> deaths.Death:
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        return deaths.from_wait_status(
            child.run_id, pid, status, max_rss_bytes=max_rss_bytes, ended_at_us=now_us(),
            out_of_memory=killed and self._oom.killed_since_last_look(pid),
        )

    def _ended(self, child: Child, death: deaths.Death, *, is_recorded: bool = False) -> None:
        """See that there is a record, and tell the daemon all the same: there may be no room for it."""
        if not is_recorded:
            self._unwritten.append((child.attempt, death))
            self._record()
        self._say(say="ended", run=child.run_id, attempt=child.attempt, pid=death.pid, death=death._asdict())

    def _record(self) -> None:
        """Write down what is not written down; what does not succeed is tried again."""
        while self._unwritten:
            attempt, death = self._unwritten[0]
            try:
                deaths.write_exit(self._folder, attempt, death)
            except OSError:
                return
            del self._unwritten[0]


def _tell(folder: str, child: Child, error: BaseException) -> None:
    """Leave word in the run's spool: whoever settles the run moves it into the log."""
    text = f"the run could not begin: {error!r}\n{''.join(traceback.format_exception(error))}"
    tell(folder, child.run_id, child.attempt, text.rstrip("\n"))


def run_here(folder: str, child: Child, loaded: FlowFile, flow: str, guard: int | None) -> int:
    """Run a claimed run in this process; returns its exit code."""
    from .entry import execute_run

    os.environ[processes.RUN_MARK] = processes.run_mark(folder, child.run_id, child.attempt)
    if "numpy.random" in sys.modules:
        # Forked runs would all draw the same numbers.
        sys.modules["numpy.random"].seed()
    become_script(loaded.module)
    known = loaded.flows.get(flow) or loaded.imported_flows.get(flow)
    if known is None:
        raise BrokenFlowFile(f"{loaded.path}: holds no flow {flow!r}", path=loaded.path)
    if child.for_crash_hooks:
        from .crash_hooks import run_crash_hooks

        return run_crash_hooks(Path(folder), child.run_id, known)
    return execute_run(
        Path(folder), child.run_id, child.attempt, known, resumable=True, guard=guard, at_end=end_as_python
    )


def _load(path: str) -> tuple[FlowFile | None, dict[str, Any]]:
    """The file and what to tell the daemon about it."""
    try:
        loaded = load_flow_file(path)
        conceal_known()  # also what the file has put into the environment
        flows = [describe(flow) for flow in loaded.flows.values()]
    except FlowdeckError as error:
        broken = error if isinstance(error, BrokenFlowFile) else BrokenFlowFile(f"{path}: {error}", path=path)
        return None, {"say": "broken", "error": mask(str(broken)), "traceback": broken.traceback}
    except KeyboardInterrupt:
        text = f"{path}: it raises KeyboardInterrupt while it is imported; the file must import without an error"
        return None, {"say": "broken", "error": text, "traceback": mask(traceback.format_exc())}
    except Exception as error:  # noqa: BLE001 - the user's annotations and defaults are described by their own code
        text = f"{path}: a flow's parameters cannot be described: {type(error).__name__}: {error}"
        return None, {"say": "broken", "error": mask(text), "traceback": mask(traceback.format_exc())}
    return loaded, {
        "say": "loaded", "flows": flows, "imported_flows": sorted(loaded.imported_flows),
        "imports": list(loaded.imports), "hash": loaded.source_hash, "threads": threading.active_count(),
    }  # fmt: skip


def _run_alone(folder: str, child: Child, path: str, flow: str, say: int) -> int:
    """One run in an interpreter of its own (``spawn``)."""
    guard = None if child.for_crash_hooks else guard_alone(folder, child, say)
    os.close(say)
    try:
        return run_here(folder, child, load_flow_file(path), flow, guard)
    except StaleState:
        return deaths.STALE_EXIT
    except FlowdeckError as error:
        _tell(folder, child, error)
        return BROKEN_EXIT_CODE


def _exit(code: int) -> None:
    """End also when threads that user code started go on."""
    if all(thread.daemon or thread is threading.main_thread() for thread in threading.enumerate()):
        sys.exit(code)
    with suppress(OSError, ValueError):  # the user may have closed them
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def main() -> int:
    """Serve a flow file, or with ``--run`` do one run of it."""
    parser = argparse.ArgumentParser(prog=f"python -m {CODE_HOST}", description=__doc__)
    parser.add_argument("--store", required=True)
    parser.add_argument("--socket", type=int)
    parser.add_argument("--output", type=int)
    parser.add_argument("--spawn", action="store_true")
    parser.add_argument("--open-files", type=int)
    parser.add_argument("--run", type=int)
    parser.add_argument("--attempt", type=int, default=1)
    parser.add_argument("--flow")
    parser.add_argument("--crashed", action="store_true")
    parser.add_argument("--say", type=int)
    parser.add_argument("file")
    options = parser.parse_args()
    settle(options.store)
    conceal_known()  # before the file is imported: what it prints and raises is stored
    # A cache written within the second of an edit would hide the edit from the next host.
    sys.dont_write_bytecode = True
    if options.open_files is not None:
        processes.limit_open_files(options.open_files)  # the daemon raised it for itself
    if options.run is not None:
        child = Child(options.run, options.attempt, options.crashed)
        return _run_alone(options.store, child, options.file, options.flow, options.say)
    for descriptor in (options.socket, options.output):
        if descriptor is not None:
            os.set_inheritable(descriptor, False)  # what user code starts must not hold our line open
    line = Line(socket.socket(fileno=options.socket))
    return host_file(line, options.store, options.file, spawn=options.spawn, open_files=options.open_files,
                     output=options.output)


def host_file(line: Line, folder: str, path: str, *, spawn: bool, open_files: int | None, output: int | None) -> int:
    """Be the code host of a flow file; returns the exit code."""
    own_pid = os.getpid()
    processes.end_with_parent(signal.SIGKILL)  # whose import never ends has no runs, and would hear nothing
    loaded, report = _load(path)
    if os.getpid() != own_pid:
        os._exit(0)  # a child that the file forked: its parent is the host
    processes.end_with_parent(0)
    if loaded is None:
        line.send(report)
        line.finish()
        return 1
    warm_up()
    sys.dont_write_bytecode = False
    gc.collect()
    gc.freeze()
    if line.send(report):
        spawn = spawn or report["threads"] > 1
        CodeHost(line, folder, loaded, spawn=spawn, open_files=open_files, output=output).serve()
    return 0


def warm_up() -> None:
    """Load what runs need before any is forked, also what a script loads only when it comes to it."""
    from ....store import result_files as result_files
    from ....store import writer as writer
    from ....store.tables import logs as logs
    from ....store.tables import staged as staged
    from ...authoring import annotations as annotations
    from ...authoring import views as views
    from ...control import answering as answering
    from ...control import decisions as decisions
    from ...encoding import former_names as former_names
    from ...encoding import json_schema as json_schema
    from ..lifecycle import generators as generators
    from ..lifecycle import repeats as repeats
    from ..lifecycle import subflows as subflows
    from ..slots import steps as steps
    from . import entry as entry
    from . import schedule_filters as schedule_filters

    # The same for all of them, and the system's libraries that say so are loaded with the first call.
    actor_name("")
    judging.own_identity()


if __name__ == "__main__":
    _exit(main())
