"""A worker process: runs the functions of tasks, one after another, for the run's process it belongs to.

The journal, retries, hooks and states stay in the run's process; here only the user's function runs. What it prints
and logs goes to the run's spool under the task's name, metrics and artifacts go to the store, ``runtime`` knows the
run. A task that its code calls runs in the run's process, as a call of the task's, recorded like any other. What else
belongs there (submitting, mapping, subflows, pausing) is refused in words.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ....store.connection import Connection, connect
from ....store.writer import Writer
from ...context import current_tags
from ...encoding.tracebacks import user_traceback
from ...errors import RunFailed, UsageError
from ...secrets import masking
from ...secrets.secret import conceal_known
from ...states.state import Cancelled, describe_exception
from ..calls.frame import Frame, current_frame
from ..effects import borders
from ..output.capture import Capture
from ..slots.queue import Keeper
from . import flow_module
from . import payloads as parcels

if TYPE_CHECKING:
    from ..effects.host import Calls, Host

T = TypeVar("T")
Terminal = tuple[int, int] | None
"""The descriptors of the person's terminal, for output and for errors."""
_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024


class StandIn:
    """What stands for a part of the run: it answers what it was given, and refuses the rest in words."""

    def __init__(self, who: str, /, **known: Any) -> None:
        self.__dict__.update(known)
        self.__dict__["_who"] = who

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UsageError(
            f"{self._who} runs in a worker process: tasks, subflows and what pauses or limits the run "
            "belong to the run's own process; call them in the flow, or call the plain function with task.fn(...)"
        )


class SessionStandIn(StandIn):
    """The parts of a session that also work here: output, reads, metrics, artifacts, slots of limits."""

    is_in_worker = True
    is_closed = False

    def read(self, query: Callable[[Connection], T]) -> T:
        """Committed facts."""
        connection = connect(self.folder, "state", readonly=True)
        try:
            return query(connection)
        finally:
            connection.close()

    @property
    def writer(self) -> Writer:
        """Made with the first artifact."""
        return self._writer_of("state")

    @property
    def telemetry(self) -> Writer:
        """Made with the first metric."""
        return self._writer_of("telemetry")

    @property
    def keeper(self) -> Keeper:
        """Slots are held by this very process: they are free once it is gone."""
        keepers: list[Keeper] = self.keepers
        if not keepers:
            keepers.append(Keeper(self.folder, self.writer))
        return keepers[0]

    def _writer_of(self, database: str) -> Writer:
        writers: dict[str, Writer] = self.writers
        if database not in writers:
            writers[database] = Writer(self.folder, database)  # type: ignore[arg-type]
        return writers[database]


class _Calls:
    """How code here calls tasks: over the line. Everything else is refused in words."""

    def __init__(self, worker: _Worker) -> None:
        self.call = worker.call
        self.call_async = worker.call_async

    def __getattr__(self, _name: str) -> Callable[..., Any]:
        return lambda frame, *_args: _refuse(frame)


def _refuse(frame: Frame) -> Any:
    return frame.run.session.gate  # raises, in words


class _Worker:
    """The worker's loop."""

    def __init__(self, line: socket.socket, terminal: Terminal) -> None:
        self._line = line
        self._terminal = terminal
        self._capture: Capture | None = None
        self._folder = Path()
        self._root_id = 0
        self._runs: dict[int, dict[str, Any]] = {}
        self._writers: dict[str, Writer] = {}
        self._keepers: list[Keeper] = []
        self._in_task = False
        self._pid = os.getpid()
        self._calls: Calls = _Calls(self)
        self._calling = threading.Lock()
        """One question on the line at a time."""

    def serve(self) -> None:
        """Until the run's process closes its end."""
        signal.signal(signal.SIGTERM, self._terminated)
        self._spare_children()
        self._send(parcels.HELLO, {"pid": os.getpid()})
        while (received := self._receive()) is not None:
            kind, header, parcel = received
            if kind == parcels.SET_UP:
                self._set_up(header, parcel)
            else:
                self._run(header, parcel)

    def call(
        self, frame: Frame, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any], return_state: bool, wait_for: Any
    ) -> Any:
        """A task that the code here calls runs in the run's process, as a call of this task's."""
        if os.getpid() != self._pid:
            _refuse(frame)  # a process of the task's own: the line is not its
        if wait_for is not None:
            raise UsageError(f"{task.name}(): wait_for needs futures, which a worker process has none of")
        parcel = parcels.pack_call(task.name, task, args, kwargs, task.fn)
        with self._calling:
            self._send(parcels.CALL, {"return_state": return_state}, parcel)
            received = self._receive()
        if received is None:
            raise Cancelled("the run's process is gone")
        _, header, answer = received
        if header["text"] is None:
            return parcels.unpack(answer)
        raise parcels.unpack_error(answer) if answer else RunFailed(header["text"])

    async def call_async(self, *call: Any) -> Any:
        """As ``call``, from async code."""
        import asyncio

        return await asyncio.to_thread(self.call, *call)

    def close(self) -> None:
        """End what was opened, then what modules of the user's want ended."""
        for keeper in self._keepers:
            keeper.close()
        for writer in self._writers.values():
            writer.close()
        _end_modules()

    def _spare_children(self) -> None:
        """Children of the task's own (a pool, say) do not take TERM for their parent's; none is lost on the way."""
        masks = threading.local()

        def before() -> None:
            masks.kept = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

        def after() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, masks.kept)

        def after_in_child() -> None:
            if signal.getsignal(signal.SIGTERM) == self._terminated:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
            after()

        os.register_at_fork(before=before, after_in_parent=after, after_in_child=after_in_child)

    def _terminated(self, _number: int, _frame: object) -> None:
        if self._in_task:
            raise Cancelled("its worker process was told to end")
        os._exit(0)

    def _set_up(self, header: dict[str, Any], parcel: bytes) -> None:
        sys.path[:] = header["path"]
        sys.argv[:] = header["argv"]
        os.environ.clear()
        os.environ.update(header["environment"])
        flow_module.stand_in(header["flow_module"])
        self._folder, self._root_id = Path(header["folder"]), header["root_id"]
        conceal_known()
        with suppress(OSError):  # it is gone; the run's process stands there too
            os.chdir(header["cwd"])
        self._capture = Capture(self._folder, self._root_id, header["attempt"], echo=self._terminal is not None)
        self._capture.start_in_worker(self._terminal, header["log_level"])
        if not parcel:
            return
        try:
            initializer, arguments, _ = parcels.unpack(parcel)
            initializer(*arguments)
        except BaseException as error:  # noqa: BLE001 - the user's initializer
            self._send(parcels.UNSENDABLE, {"text": f"the initializer failed: {describe_exception(error)}",
                                             "ends": True})
            os._exit(1)

    def _run(self, header: dict[str, Any], parcel: bytes) -> None:
        if header["concealed"] is not None:
            masking.adopt(header["concealed"])
        known = len(masking.known_forms())
        if header["run"] is not None:
            self._runs[header["run"]["id"]] = header["run"]
        before = _cpu_us()
        _forget_peak()
        try:
            fn, args, kwargs = parcels.unpack(parcel)
        except BaseException as broken:  # noqa: BLE001 - the user's classes, modules that are not there
            text = f"what it was given cannot be read in its worker process: {describe_exception(broken)}"
            self._send(parcels.UNSENDABLE, {"text": text})
            return
        del parcel
        frame = self._frame(header, kwargs)
        tokens = current_frame.set(frame), current_tags.set(header["tags"])
        value: Any = None
        error: BaseException | None = None
        try:
            self._in_task = True
            value = _call(fn, args, kwargs, header["is_async"])
        except BaseException as raised:  # noqa: BLE001 - the user's task
            error = raised
        if os.getpid() != self._pid:
            borders.end_child(frame, error)
        self._in_task = False
        self._end_output(frame)
        current_frame.reset(tokens[0])
        current_tags.reset(tokens[1])
        usage: dict[str, Any] = {
            "cpu_us": _cpu_us() - before, "peak_rss_bytes": getrusage(RUSAGE_SELF).ru_maxrss * _RSS_UNIT,
        }  # fmt: skip
        if len(forms := masking.known_forms()) != known:
            usage["concealed"] = forms
        if error is not None:
            self._send_error(error, usage)
        else:
            self._send_value(value, usage)

    def _frame(self, header: dict[str, Any], kwargs: dict[str, Any]) -> Frame:
        known, task = self._runs[header["run_id"]], header["task"]
        who = f"task {task['name']}"
        session: Host = SessionStandIn(
            who, root_id=self._root_id, folder=self._folder, capture=self._capture, writers=self._writers,
            keepers=self._keepers, calls=self._calls,
        )  # fmt: skip
        parent = None if known["parent_id"] is None else SimpleNamespace(run=SimpleNamespace(id=known["parent_id"]))
        flow = StandIn(who, name=known["flow"], version=known["version"])
        run = StandIn(
            who, id=known["id"], name=known["name"], attempt=header["run_attempt"], flow=flow, parent=parent,
            parameters=known["parameters"], session=session, is_root=parent is None,
        )  # fmt: skip
        call = StandIn(
            who, **task, again=parcels.unpack(header["again"]) if header["again"] is not None else None, run=run,
            reference=f"{known['id']}/{task['seq']}", values_of_parameters=lambda: dict(kwargs),
            task=StandIn(who, name=task["key"], is_async=header["is_async"]),
        )  # fmt: skip
        made: Any = (run, call)
        return Frame._make(made)

    def _end_output(self, frame: Frame) -> None:
        assert self._capture is not None
        self._capture.end_lines(frame)
        for writer in self._writers.values():
            writer.flush()

    def _send_value(self, value: Any, usage: dict[str, Any]) -> None:
        try:
            parcel = parcels.pack(value)
        except BaseException as error:  # noqa: BLE001 - whatever the user's __reduce__ raises
            text = (
                f"its result, a {type(value).__name__}, cannot be sent from its worker process: "
                f"{describe_exception(error)}; return plain data, or run the task in a thread"
            )
            self._send(parcels.UNSENDABLE, {"text": text, **usage})
            return
        self._send(parcels.RETURNED, usage, parcel)

    def _send_error(self, error: BaseException, usage: dict[str, Any]) -> None:
        told = {**usage, "text": describe_exception(error), "traceback": user_traceback(error)}
        try:
            parcel = parcels.pack_error(error.with_traceback(None))
        except BaseException as broken:  # noqa: BLE001 - the user's __reduce__
            told["text"] += f" (the exception itself cannot be sent: {describe_exception(broken)})"
            parcel = b""
        self._send(parcels.RAISED, told, parcel)

    def _send(self, kind: int, header: dict[str, Any], parcel: bytes = b"") -> None:
        for part in parcels.message(kind, header, parcel):
            self._line.sendall(part)

    def _receive(self) -> tuple[int, dict[str, Any], bytes] | None:
        head = self._read(parcels.HEAD.size)
        if head is None:
            return None
        kind, header_bytes, parcel_bytes = parcels.HEAD.unpack(head)
        header, parcel = self._read(header_bytes), self._read(parcel_bytes)
        if header is None or parcel is None:
            return None
        return kind, parcels.header_of(header), parcel

    def _read(self, length: int) -> bytes | None:
        data = bytearray(length)
        view = memoryview(data)
        while view:
            count = self._line.recv_into(view)
            if count == 0:
                return None
            view = view[count:]
        return bytes(data)


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], is_async: bool) -> Any:
    if is_async:
        import asyncio

        return asyncio.run(fn(*args, **kwargs))
    return fn(*args, **kwargs)


def _cpu_us() -> int:
    own, children = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
    return round((own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime) * 1e6)


def _forget_peak() -> None:
    """Have the kernel count the peak of memory anew for this task; where it does not, the peak is the worker's."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        return


def work(line: socket.socket, terminal: Terminal) -> None:
    """Serve until the run's process closes the line; then end as an interpreter does, as far as a fork can."""
    worker = _Worker(line, terminal)
    try:
        worker.serve()
    except ConnectionError:
        os._exit(0)  # the run's process is gone
    finally:
        worker.close()


def _end_modules() -> None:
    import atexit

    if "multiprocessing.util" in sys.modules:
        sys.modules["multiprocessing.util"]._exit_function()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
