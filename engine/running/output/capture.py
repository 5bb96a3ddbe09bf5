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
from typing import TYPE_CHECKING, Any

from ....store.connection import Connection, connect
from ....store.errors import StoreError
from ....store.spool import SpoolWriter, drain, open_to_read
from ...secrets.masking import is_active, mask, when_concealed
from ...system.clock import now_us
from ..calls.frame import current_frame
from .echo import for_terminal
from .log_handler import RunHandler
from .streams import RunStream, write_all

if TYPE_CHECKING:
    from ..calls.frame import Frame
    from .masked_output import MaskedOutput

_DRAIN_SECONDS = 0.05
_BROKEN_SECONDS = 1.0
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
            from .masked_output import MaskedOutput

            self._masked = [MaskedOutput(1, self._spool.out_fd), MaskedOutput(2, self._spool.err_fd)]

    def tick(self) -> None:
        """Move what is new into the store, at most every 50 ms."""
        now = time.monotonic()
        if now >= self._next_drain:
            self._spool.write_kept()
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
        for index, kind in enumerate(("out", "err")):
            with open(open_to_read(self._folder, self._root_id, self._attempt, kind), "rb", buffering=0) as file:
                file.seek(self._echoed[index])
                while data := file.read(1 << 16):
                    self._echoed[index] += len(data)
                    write_all(self._saved[index], data)

    def record(
        self, run_id: int, task_seq: int | None, level: int, logger: str, stream: str, message: str,
        *, show: bool = False,
    ) -> None:  # fmt: skip
        """Keep one line; a text of several lines becomes one record. ``show``: the person sees it whatever stream."""
        message = mask(message)
        # Only code of the run waits for room on a full disk: the threads that look after it must not.
        is_users = current_frame.get() is not None
        self._spool.record(now_us(), run_id, task_seq, level, logger, stream, message, wait=is_users)
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
            write_all(self._saved[1], f"flowdeck: {shown}\n".encode("utf-8", "backslashreplace"))

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
        write_all(self._saved[1], text.encode("utf-8", "backslashreplace"))


def inherited(folder: str, root_id: int) -> Capture | None:
    """In a process forked from one of the run's: what captures there, with all its descriptors."""
    owner = _owner
    if owner is None or (os.path.abspath(owner._folder), owner._root_id) != (folder, root_id):
        return None
    return owner
