"""Everything a run prints or logs, kept: records, ``print``, and what C code and children write to descriptors 1 and 2.

A line goes first to the run's append-only spool with one write, and from there in groups into ``telemetry.db``; a
kill loses nothing that was written. In a run that a person started, lines also appear in their terminal.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....store.connection import Connection, connect
from ....store.errors import StoreError
from ....store.spool import SpoolWriter, drain
from ...secrets.masking import is_active, mask, when_concealed
from ...system.clock import now_us
from ..calls.frame import current_frame
from .echo import for_terminal
from .log_handler import RunHandler
from .masked_output import MaskedOutput

if TYPE_CHECKING:
    from ..calls.frame import Frame

_DRAIN_SECONDS = 0.05
_BROKEN_SECONDS = 1.0
_LONGEST_PARTIAL = 8192
_owner_lock = threading.Lock()
_owner: Capture | None = None


class Capture:
    """The output of one root run. One capture at a time owns the process's descriptors and ``sys.stdout``."""

    def __init__(self, folder: Path, root_id: int, attempt: int, *, echo: bool) -> None:
        self._folder = folder
        self._root_id = root_id
        self._attempt = attempt
        self._echo = echo
        self._spool = SpoolWriter(folder, root_id, attempt)
        self._handler = RunHandler(self)
        self._telemetry: Connection | None = None
        self._next_drain = 0.0
        self._saved: list[int] = []
        self._shows_terminal: bool | None = None
        """Whether the lines that a person sees go to a terminal, which must not obey them; None: not known yet."""
        self._echoed = [0, 0]
        self._drained_sizes = (0, 0, 0)
        self._drain_lock = threading.Lock()
        self._streams: tuple[Any, Any] = (None, None)
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
        self._streams = (sys.stdout, sys.stderr)
        self._saved = [os.dup(1), os.dup(2)]
        os.dup2(self._spool.out_fd, 1)
        os.dup2(self._spool.err_fd, 2)
        self._stop_listening = when_concealed(self._mask_descriptors)
        if is_active():
            self._mask_descriptors()
        sys.stdout = RunStream(self, "stdout", 20, self._saved[0] if self._echo else None, self._streams[0])
        sys.stderr = RunStream(self, "stderr", 30, self._saved[1] if self._echo else None, self._streams[1])
        root = logging.getLogger()
        root.addHandler(self._handler)
        if root.level == logging.WARNING and len(root.handlers) == 1:
            self._root_level = root.level
            root.setLevel(logging.INFO)

    def start_in_worker(self, terminal: tuple[int, int] | None, level: int) -> None:
        """In a worker process of the run: records go to the same spool; who reads descriptors 1 and 2 is our parent."""
        global _owner
        _owner, self._owns = self, True
        self._saved = list(terminal or ())
        sys.stdout = RunStream(self, "stdout", 20, self._saved[0] if terminal else None, sys.stdout)
        sys.stderr = RunStream(self, "stderr", 30, self._saved[1] if terminal else None, sys.stderr)
        root = logging.getLogger()
        root.addHandler(self._handler)
        root.setLevel(level)

    @property
    def terminal(self) -> tuple[int, int] | None:
        """The descriptors of the person's terminal, where lines are shown."""
        return (self._saved[0], self._saved[1]) if self._echo and self._owns and self._saved else None

    @property
    def attempt(self) -> int:
        """The attempt whose spool the lines go to."""
        return self._attempt

    def show_raw(self, stream: str, data: bytes) -> None:
        """Let the person see what a worker's descriptor carried, byte for byte."""
        if (terminal := self.terminal) is not None:
            _write_all(terminal[0 if stream == "stdout" else 1], data)

    def close(self) -> None:
        """Put everything back and move the last lines into the store."""
        global _owner
        if self._owns:
            for stream in (sys.stdout, sys.stderr, *self._streams):
                # The originals, too: bytes written to ``sys.stdout.buffer`` belong to the run.
                with suppress(Exception):  # user code may have put anything there, or closed it
                    stream.flush()
            if self._stop_listening is not None:
                self._stop_listening()
            os.dup2(self._saved[0], 1)
            os.dup2(self._saved[1], 2)
            for masked in self._masked:
                masked.close()
            sys.stdout, sys.stderr = self._streams
            root = logging.getLogger()
            root.removeHandler(self._handler)
            if self._root_level is not None:
                root.setLevel(self._root_level)
        with suppress(FileNotFoundError):  # somebody removed the store: its writer says so
            self._drain(final=True)
        if self._owns:
            for descriptor in self._saved:
                os.close(descriptor)
            with _owner_lock:
                _owner = None
        self._spool.close()
        if self._telemetry is not None:
            self._telemetry.close()

    def _mask_descriptors(self) -> None:
        """From the first secret on, what C code and children write is masked on its way to the spool, too."""
        if self._owns and not self._masked:
            self._masked = [MaskedOutput(1, self._spool.out_fd), MaskedOutput(2, self._spool.err_fd)]

    def tick(self) -> None:
        """Move what is new into the store, at most every 50 ms."""
        now = time.monotonic()
        if now >= self._next_drain:
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
        if sizes == self._drained_sizes and not final:
            return
        if self._echo and self._owns:
            self._echo_raw()
        if self._telemetry is None:
            self._telemetry = connect(self._folder, "telemetry")
        drain(self._folder, self._telemetry, self._root_id, self._attempt, final=final)
        self._drained_sizes = sizes

    def _sizes(self) -> tuple[int, int, int]:
        """Bytes of output so far: records, descriptor 1, descriptor 2."""
        spool = self._spool
        return (
            os.fstat(spool.record_fd).st_size, os.fstat(spool.out_fd).st_size, os.fstat(spool.err_fd).st_size,
        )  # fmt: skip

    def _echo_raw(self) -> None:
        """Show the person what C code and children wrote, byte for byte."""
        for index, path in enumerate((self._spool.out_path, self._spool.err_path)):
            with open(path, "rb", buffering=0) as file:
                file.seek(self._echoed[index])
                while data := file.read(1 << 16):
                    self._echoed[index] += len(data)
                    _write_all(self._saved[index], data)

    def record(
        self, run_id: int, task_seq: int | None, level: int, logger: str, stream: str, message: str,
        *, show: bool = False,
    ) -> None:  # fmt: skip
        """Keep one line; a text of several lines becomes one record. ``show``: the person sees it whatever stream."""
        message = mask(message)
        self._spool.record(now_us(), run_id, task_seq, level, logger, stream, message)
        if self._echo and (show or stream == "log") and (owner := _owner) is not None:
            owner._show(run_id, task_seq, level, message)

    def record_here(self, level: int, logger: str, stream: str, message: str) -> None:
        """Keep one line of whatever run and task the current code belongs to."""
        frame = current_frame.get()
        if frame is None:
            self.record(self._root_id, None, level, logger, stream, message)
        else:
            # Another root run in this process has a capture, and a spool, of its own.
            capture = frame.run.session.capture
            capture.record(frame.run.id, frame.task.seq if frame.task else None, level, logger, stream, message)

    def end_lines(self, frame: Frame) -> None:
        """The code of ``frame`` has returned: an unfinished line that this thread printed is a line."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, RunStream):
                stream.end_line(frame)

    def tell(self, text: str) -> None:
        """Say something to the person who started the run, past the store; in a daemon's run nobody would see it."""
        if self._echo and self._owns:
            shown = for_terminal(text) if os.isatty(self._saved[1]) else text
            _write_all(self._saved[1], f"flowdeck: {shown}\n".encode("utf-8", "backslashreplace"))

    def settle(self) -> None:
        """Have every line written so far in the store; before the run's end is recorded."""
        for masked in self._masked:
            masked.settle()
        try:
            self._drain(final=False)
        except (StoreError, FileNotFoundError):
            # Disk full or locked: the lines are safe in the spool and moved later. Store removed: its writer says so.
            self._next_drain = time.monotonic() + _BROKEN_SECONDS

    def _show(self, run_id: int, task_seq: int | None, level: int, message: str) -> None:
        if self._shows_terminal is None:
            self._shows_terminal = os.isatty(self._saved[1])
        if self._shows_terminal:
            message = for_terminal(message)
        where = f"{run_id}/{task_seq}" if task_seq is not None else f"#{run_id}"
        stamp = time.strftime("%H:%M:%S")
        text = f"{stamp} {logging.getLevelName(level):<7} {where:<8} {message}\n"
        _write_all(self._saved[1], text.encode("utf-8", "backslashreplace"))


class _Partial(threading.local):
    """The line a thread has begun and not ended, and how much of it was shown."""

    text = ""
    shown = 0


def inherited(folder: str, root_id: int) -> Capture | None:
    """In a process forked from one of the run's: what captures there, with all its descriptors."""
    owner = _owner
    if owner is None or (os.path.abspath(owner._folder), owner._root_id) != (folder, root_id):
        return None
    return owner


class RunStream(io.TextIOBase):
    """``sys.stdout`` and ``sys.stderr`` of a run: whole lines become records of the task that printed them."""

    def __init__(self, capture: Capture, name: str, level: int, echo: int | None, original: Any) -> None:
        self._capture = capture
        self._stream = name
        self._level = level
        self._echo = echo
        self._original = original
        self._partial = _Partial()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Always UTF-8."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """What cannot be encoded is escaped."""
        return "backslashreplace"

    @property
    def buffer(self) -> Any:
        """The descriptor's own binary writer: raw bytes are captured below Python."""
        return getattr(self._original, "buffer", None)

    def reconfigure(self, **_options: Any) -> None:
        """As scripts ask of ``sys.stdout``; lines are kept whole and as UTF-8 whatever they ask."""

    def writable(self) -> bool:
        """Yes."""
        return True

    def isatty(self) -> bool:
        """Whether the person's terminal is behind it."""
        return self._echo is not None and os.isatty(self._echo)

    def fileno(self) -> int:
        """The captured descriptor."""
        return 1 if self._stream == "stdout" else 2

    def write(self, text: str) -> int:
        """Keep whole lines; the rest waits for its end of line or ``flush`` at the run's end."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        pending = self._partial.text + text
        if "\n" in text:
            self._show(pending[: pending.rindex("\n") + 1])
            *lines, pending = pending.split("\n")
            for line in lines:
                self._capture.record_here(self._level, self._stream, self._stream, line)
        self._partial.text = pending
        return len(text)

    def flush(self) -> None:
        """Show what has no end of line yet, and keep it once it is long; short pieces wait for their line."""
        pending = self._partial.text
        self._show(pending)
        if len(pending) > _LONGEST_PARTIAL:
            self._keep(pending)

    def end_line(self, frame: Frame) -> None:
        """Keep the unfinished line of this thread: the code of ``frame`` has ended."""
        pending = self._partial.text
        if pending:
            self._show(pending)
            self._partial.text, self._partial.shown = "", 0
            seq = frame.task.seq if frame.task is not None else None
            frame.run.session.capture.record(frame.run.id, seq, self._level, self._stream, self._stream, pending)

    def _keep(self, text: str) -> None:
        self._partial.text, self._partial.shown = "", 0
        self._capture.record_here(self._level, self._stream, self._stream, text)

    def _show(self, text: str) -> None:
        """Let the person see ``text``, the pending line so far, with one write: threads do not mix within lines."""
        if self._echo is None:
            return
        shown = self._partial.shown
        if len(text) > shown:
            _write_all(self._echo, mask(text[shown:]).encode("utf-8", "backslashreplace"))
        self._partial.shown = 0 if text.endswith("\n") else len(text)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        # The person's terminal or pipe is gone; the record in the spool is what counts.
        return
