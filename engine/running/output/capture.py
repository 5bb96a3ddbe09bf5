"""Everything a run prints or logs, kept: records, ``print``, and what C code and children write to descriptors 1 and 2.

A line goes first to the run's append-only spool with one write, and from there in groups into ``telemetry.db``; a
kill loses nothing that was written. In a run that a person started, lines also appear in their terminal.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ....store.connection import Connection, connect
from ....store.errors import StoreError
from ....store.spool import SpoolWriter, drain
from ...encoding.tracebacks import user_traceback
from ...secrets.masking import is_active, mask, when_concealed
from ...states.state import describe_exception
from ...system.clock import now_us
from ..calls.frame import Speaker, Speakers, current_frame
from .log_handler import before_children, take_records
from .streams import RunStream, write_all

if TYPE_CHECKING:
    from ..calls.flow_run import FlowRun
    from ..calls.frame import Frame, Slot
    from ..calls.task_call import TaskCall
    from ..effects.host import Subject
    from .masked_output import MaskedOutput
    from .streams import Unfinished
    from .unfinished import UnfinishedLines

_DRAIN_SECONDS = 0.05
_BROKEN_SECONDS = 1.0
_owner_lock = threading.Lock()
_owner: Capture | None = None


ENGINE_LOGGER: Final = "flowdeck.engine"
"""The name that the engine's own lines bear."""
_TOLD: Final = "_flowdeck_told_in_run"
"""Marks an exception whose traceback is in the log: on its way up from a task it is not told again in full."""


class Capture:
    """The output of one root run. One capture at a time owns the process's descriptors and ``sys.stdout``."""

    def __init__(self, folder: Path, root_id: int, attempt: int, *, echo: bool) -> None:
        self._folder = folder
        self.root_id = root_id
        self._attempt = attempt
        self._echo = echo
        self._spool = SpoolWriter(folder, root_id, attempt, whose=self._whose)
        self._speakers = Speakers(root_id)
        self._unfinished: UnfinishedLines | None = None
        self._pid = os.getpid()
        self._telemetry: Connection | None = None
        self._next_drain = 0.0
        self._saved: list[int] = []
        self._shows_terminal: bool | None = None
        """Whether the lines that a person sees go to a terminal, which must not obey them; None: not known yet."""
        self._echoed = [0, 0]
        self._echo_fds: tuple[int, int] | None = None
        self._echo_lock = threading.Lock()
        self._drained_sizes = (0, 0, 0)
        self._drain_lock = threading.Lock()
        self._streams: tuple[Any, Any] = (None, None)
        self._ours: tuple[Any, Any] = (None, None)
        self._led: list[Any] = []
        """Python's streams that lead to ours."""
        self._root_level: int | None = None
        self._owns = False
        self._masked: list[MaskedOutput] = []
        self._stop_listening: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin to capture this process's output."""
        global _owner
        with _owner_lock:
            self._owns = _owner is None
            if self._owns:
                _owner = self
        if not self._owns:
            return
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        self._saved = [os.dup(1), os.dup(2)]
        os.dup2(self._spool.out_fd, 1)
        os.dup2(self._spool.err_fd, 2)
        self._stop_listening = when_concealed(self._mask_descriptors)
        if is_active():
            self._mask_descriptors()
        if self._echo:
            self._echo_fds = self._spool.open_raw()
        self._put_streams(*(self._saved if self._echo else (None, None)))
        root = logging.getLogger()
        take_records(_capturing)
        before_children(_before_child)
        if root.level == logging.WARNING and not root.handlers:
            self._root_level = root.level
            root.setLevel(logging.INFO)
        self._spool.marks_from_here()

    def start_in_worker(self, terminal: tuple[int, int] | None, level: int) -> None:
        """In a worker process of the run: records go to the same spool; who reads descriptors 1 and 2 is our parent."""
        global _owner
        _owner, self._owns = self, True
        self._saved = list(terminal or ())
        self._spool.whose = None
        self._put_streams(*(terminal or (None, None)))
        take_records(_capturing)
        logging.getLogger().setLevel(level)

    def _put_streams(self, out: int | None, err: int | None) -> None:
        """Ours in place of Python's; and whoever holds on to Python's own writes to ours as well."""
        self._streams = (sys.stdout, sys.stderr)
        ours = RunStream(self, "stdout", 20, out, sys.stdout), RunStream(self, "stderr", 30, err, sys.stderr)
        self._ours = ours
        for stream, originals in zip(ours, ((sys.stdout, sys.__stdout__), (sys.stderr, sys.__stderr__)), strict=True):
            for original in originals:
                # What was bound before the run (a handler made at the file's top) looks its ``write`` up anew.
                with suppress(AttributeError, TypeError):  # whatever stands there may take no attributes
                    original.write, original.flush = stream.write, stream.flush  # type: ignore[method-assign, union-attr]
                    self._led.append(original)
        sys.stdout, sys.stderr = ours

    def _take_streams_away(self) -> None:
        for original in self._led:
            for name in ("write", "flush"):
                original.__dict__.pop(name, None)
        self._led.clear()
        sys.stdout, sys.stderr = self._streams
        for stream in self._ours:
            stream.lead_to(self._stream_now)

    def _stream_now(self, name: str) -> Any:
        """Where something that still holds a stream of this capture, which is over, prints to."""
        place = 0 if name == "stdout" else 1
        return self._streams[place] if _owner is None else _owner._ours[place]

    @property
    def terminal(self) -> tuple[int, int] | None:
        """The descriptors of the person's terminal, where lines are shown."""
        return (self._saved[0], self._saved[1]) if self._echo and self._owns and self._saved else None

    @property
    def trouble(self) -> str | None:
        """What keeps lines from being written, in words; None while all is well."""
        return self._spool.trouble

    @property
    def attempt(self) -> int:
        """The attempt whose spool the lines go to."""
        return self._attempt

    def show_raw(self, stream: str, data: bytes) -> None:
        """Let the person see what a worker's descriptor carried, byte for byte."""
        if (terminal := self.terminal) is not None:
            write_all(terminal[0 if stream == "stdout" else 1], data)

    def close(self) -> None:
        """Put everything back and move the last lines into the store."""
        global _owner
        if self._owns:
            for stream in (sys.stdout, sys.stderr, *self._ours):
                with suppress(Exception):  # user code may have put anything there, or closed it
                    stream.flush()
            self._take_streams_away()
            for stream in self._streams:
                # Bytes that somebody wrote to its buffer belong to the run.
                with suppress(Exception):
                    stream.flush()
            if self._stop_listening is not None:
                self._stop_listening()
            os.dup2(self._saved[0], 1)
            os.dup2(self._saved[1], 2)
            self._spool.before = None
            for masked in self._masked:
                masked.close()
            root = logging.getLogger()
            if self._root_level is not None and root.level == logging.INFO:
                root.setLevel(self._root_level)
            self._spool.mark(now_us(), is_cut=True)
        if self._unfinished is not None:
            self._unfinished.write()
        with suppress(FileNotFoundError):  # somebody removed the store: its writer says so
            self._drain(final=True)
        if self._owns:
            for descriptor in (*self._saved, *(self._echo_fds or ())):
                os.close(descriptor)
            with _owner_lock:
                _owner = None
        self._spool.close()
        if self._telemetry is not None:
            self._telemetry.close()

    def _mask_descriptors(self) -> None:
        """From the first secret on, what C code and children write is masked on its way to the spool, too."""
        if self._owns and not self._masked:
            from .masked_output import MaskedOutput

            self._masked = [MaskedOutput(1, self._spool.out_fd), MaskedOutput(2, self._spool.err_fd)]
            self._spool.before = self._take_masked

    def _take_masked(self) -> None:
        for masked in self._masked:
            masked.take()

    def tick(self) -> None:
        """Move what is new into the store, at most every 50 ms."""
        now = time.monotonic()
        if now >= self._next_drain:
            self._spool.write_kept()
            self._spool.mark(now_us())
            if self._unfinished is not None:
                self._unfinished.tick()
            self._next_drain = now + _DRAIN_SECONDS
            try:
                self._drain(final=False)
            except (StoreError, FileNotFoundError):
                # Disk full or locked: the lines are safe in the spool and are moved later.
                self._next_drain = now + _BROKEN_SECONDS

    def _drain(self, *, final: bool) -> None:
        with self._drain_lock:
            self._drain_locked(final=final)

    def _drain_locked(self, *, final: bool) -> None:
        sizes = self._sizes()
        if (sizes == self._drained_sizes and not final) or not self._spool.is_in_place():
            return  # moved away with the store, the lines stay with it, and are moved by who finds them there
        if self._echo and self._owns:
            self._echo_raw()
        if self._telemetry is None:
            self._telemetry = connect(self._folder, "telemetry")
        drain(self._folder, self._telemetry, self.root_id, self._attempt, final=final, live=not final)
        self._drained_sizes = sizes

    def _sizes(self) -> tuple[int, int, int]:
        """Bytes of output so far: records, descriptor 1, descriptor 2."""
        spool = self._spool
        return (
            os.fstat(spool.record_fd).st_size, os.fstat(spool.out_fd).st_size, os.fstat(spool.err_fd).st_size,
        )  # fmt: skip

    def _echo_raw(self) -> None:
        """Show the person what C code and children wrote, byte for byte."""
        if self._echo_fds is None:
            return
        with self._echo_lock:
            for index, descriptor in enumerate(self._echo_fds):
                while data := os.pread(descriptor, 1 << 16, self._echoed[index]):
                    self._echoed[index] += len(data)
                    write_all(self._saved[index], data)

    def _whose(self) -> Speaker:
        """Asked when raw output has come: whose it is. The person sees it before what follows."""
        if self._echo and self._owns and self._pid == os.getpid():
            self._echo_raw()
        return self._speakers.look()

    def enter(self, slot: Slot, frame: Frame, *, is_coroutine: bool = False) -> Callable[[], None]:
        """Code of ``frame`` begins: what the descriptors carried so far was others'. Returns what it calls to go on."""
        self.show_what_came()
        return self._speakers.enter(slot, frame, is_coroutine=is_coroutine)

    def leave(self, slot: Slot, frame: Frame) -> None:
        """Code of ``frame`` has ended, and with it its unfinished lines."""
        self.end_lines(frame)
        self._take_masked()
        self._spool.mark(now_us(), is_cut=self._speakers.is_alone(slot))
        self._speakers.leave(slot)

    def show_what_came(self) -> None:
        """What stands in the descriptors now was written before what follows, which is shown, or written by another."""
        self._take_masked()
        self._spool.mark(now_us())

    def tell_unfinished(self, line: Unfinished, run_id: int, task_seq: int | None, stream: str) -> None:
        """Who looks at the run sees this line as it grows."""
        if self._unfinished is None:
            from .unfinished import UnfinishedLines

            self._unfinished = UnfinishedLines(self._spool)
        self._unfinished.add(line, run_id, task_seq, stream)

    def changed_unfinished(self) -> None:
        """One of those lines is another now."""
        if self._unfinished is not None:
            self._unfinished.is_stale = True

    def end_unfinished(self, line: Unfinished) -> None:
        """It is kept as a whole line instead."""
        if self._unfinished is not None:
            self._unfinished.end(line)

    def record(
        self, run_id: int, task_seq: int | None, level: int, logger: str, stream: str, message: str,
        *, show: bool | None = None,
    ) -> None:  # fmt: skip
        """Keep one line; a text of several lines becomes one record. ``show``: whether the person sees it here."""
        message = mask(message)
        # Only code of the run waits for room on a full disk: the threads that look after it must not.
        is_users = current_frame.get() is not None
        self._spool.record(now_us(), run_id, task_seq, level, logger, stream, message, wait=is_users)
        if show is None:
            show = stream == "log"
        if self._echo and show and (owner := _owner) is not None:
            owner._show(run_id, task_seq, level, message)

    @property
    def append(self) -> Callable[[int, bytes, bool], None]:
        """Keeps one line that was made a record already; at last whether to wait for room."""
        return self._spool.append

    def record_here(self, level: int, logger: str, stream: str, message: str, *, show: bool = True) -> None:
        """Keep one line of whatever run and task the current code belongs to."""
        frame = current_frame.get()
        if frame is None or frame.run.session.is_closed:
            self.record(self.root_id, None, level, logger, stream, message, show=show)
        else:
            # Another root run in this process has a capture, and a spool, of its own.
            capture, seq = frame.run.session.capture, frame.task.seq if frame.task else None
            capture.record(frame.run.id, seq, level, logger, stream, message, show=show)

    def show_here(self, level: int, message: str) -> None:
        """Let the person see a line of the current code that is kept."""
        frame = current_frame.get()
        if self._echo and (owner := _owner) is not None:
            place = (self.root_id, None) if frame is None else (frame.run.id, frame.task.seq if frame.task else None)
            owner._show(*place, level, mask(message))

    def end_lines(self, frame: Frame) -> None:
        """The code of ``frame`` has returned: an unfinished line that this thread printed is a line."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, RunStream):
                stream.end_line(frame)

    def tell(self, text: str) -> None:
        """Say something to the person who started the run, past the store; in a daemon's run nobody would see it."""
        if self._echo and self._owns:
            from .echo import for_terminal

            shown = for_terminal(text) if os.isatty(self._saved[1]) else text
            write_all(self._saved[1], f"flowdeck: {shown}\n".encode("utf-8", "backslashreplace"))

    def settle(self) -> None:
        """Have every line written so far in the store; before the run's end is recorded."""
        for masked in self._masked:
            masked.settle()
        self._spool.mark(now_us())
        try:
            self._drain(final=False)
        except (StoreError, FileNotFoundError):
            # Disk full or locked: the lines are safe in the spool and moved later. Store removed: its writer says so.
            self._next_drain = time.monotonic() + _BROKEN_SECONDS

    def _show(self, run_id: int, task_seq: int | None, level: int, message: str) -> None:
        if self._shows_terminal is None:
            self._shows_terminal = os.isatty(self._saved[1])
        if self._shows_terminal:
            from .echo import for_terminal

            message = for_terminal(message)
        where = f"{run_id}/{task_seq}" if task_seq is not None else f"#{run_id}"
        stamp = time.strftime("%H:%M:%S")
        text = f"{stamp} {logging.getLevelName(level):<7} {where:<8} {message}\n"
        write_all(self._saved[1], text.encode("utf-8", "backslashreplace"))


class RunLog:
    """The engine's own lines in the log of one root run; from any thread."""

    def __init__(self, capture: Capture, root_id: int) -> None:
        self._capture = capture
        self._root_id = root_id

    def line(self, run_id: int, seq: int | None, level: int, text: str) -> None:
        """About a run, or within it about a task, known by its number."""
        self._capture.record(run_id, seq, level, ENGINE_LOGGER, "log", text)

    def task(self, call: Subject, level: int, text: str) -> None:
        """About a task or the call of a subflow."""
        self.line(call.run.id, call.seq, level, text)

    def run(self, run: FlowRun, level: int, text: str) -> None:
        """About a run."""
        self.line(run.id, None, level, text)

    def task_exception(self, call: TaskCall, error: BaseException) -> None:
        """The traceback of a failed attempt, without our frames."""
        self.exception((call.run.id, call.seq), f"{call.name} failed", error)

    def run_exception(self, run: FlowRun, error: BaseException) -> None:
        """As ``task_exception``, for the flow function."""
        self.exception((run.id, None), f"flow {run.flow.name} failed", error)

    def exception(self, ids: tuple[int, int | None], what: str, error: BaseException) -> None:
        """Keep a user's traceback without our frames, in one record; one line when this very error was told before."""
        if error.__dict__.get(_TOLD) == self._root_id:
            self.line(*ids, 40, f"{what}: {describe_exception(error)}")
            return
        error.__dict__[_TOLD] = self._root_id
        self.line(*ids, 40, f"{what}\n{user_traceback(error)}")


def _capturing() -> Capture | None:
    """What captures in this process now."""
    return _owner


def _before_child() -> None:
    """What one program wrote comes before what the next one writes, through another descriptor, too."""
    if (owner := _owner) is not None and owner._owns:
        owner.show_what_came()


def inherited(folder: str, root_id: int) -> Capture | None:
    """In a process forked from one of the run's: what captures there, with all its descriptors."""
    owner = _owner
    if owner is None or (os.path.abspath(owner._folder), owner.root_id) != (folder, root_id):
        return None
    return owner
