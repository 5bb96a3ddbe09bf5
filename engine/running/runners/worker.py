"""One worker process as the run sees it: the line it answers on, and the pipes its descriptors 1 and 2 are."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from ...secrets import masking
from ...settings import cancel_grace_seconds
from ...system import processes
from ..effects.interrupts import ProcessSlot
from . import payloads as parcels

if TYPE_CHECKING:
    from ..effects.host import Host

LONGEST_GRACE_SECONDS: Final = 2.0
"""Between SIGTERM and SIGKILL."""
FATE_SECONDS: Final = 2.0
"""How long the server may take to tell how a worker ended."""
_BLOCK: Final = 1 << 18
_MOST_BLOCKS: Final = 64
"""Read at once: what never stops printing holds nobody up."""
_LONGEST_LINE: Final = 64 * 1024
_LONGEST_RECORD: Final = 32 * 1024


class Worker:
    """One worker process."""

    def __init__(self, worker_id: int, line: socket.socket, outputs: list[Output]) -> None:
        self.id = worker_id
        self.line = line
        self.pid = 0
        self.outputs = outputs
        self.known_runs: set[int] = set()
        self.fate: dict[str, Any] | None = None
        """What the server told of its end."""
        self.is_gone = False
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._received = bytearray()
        self._concealed = 0
        self._lock = threading.Lock()

    def new_concealed(self) -> frozenset[str] | None:
        """What it must mask, when that is more than it was told."""
        forms = masking.known_forms()
        if len(forms) == self._concealed:
            return None
        self._concealed = len(forms)
        return forms

    @property
    def has_hung_up(self) -> bool:
        """Whether it ended, or said something, while nobody had asked it anything."""
        poll = select.poll()
        poll.register(self.line, select.POLLIN)
        return self.is_gone or bool(poll.poll(0))

    def wake(self) -> None:
        """Have the thread that waits for it look."""
        with self._lock:
            if self._wake_write >= 0:
                try:
                    os.write(self._wake_write, b"x")
                except BlockingIOError:
                    return  # it is awake already

    def exchange(self, parts: tuple[bytes, ...], slot: ProcessSlot) -> tuple[int, dict[str, Any], bytes] | None:
        """Send, and receive one message; None when the process has ended. Ends the process when the slot says so."""
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        unsent = [memoryview(part) for part in parts if part]
        poll.register(self.line, select.POLLIN | (select.POLLOUT if unsent else 0))
        kill_at: float | None = None
        fate_at: float | None = None
        while True:
            ends = [at - time.monotonic() for at in (kill_at, fate_at) if at is not None]
            ready = dict(poll.poll(max(0.0, min(ends)) * 1000 if ends else None))
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
            events = ready.get(self.line.fileno(), 0)
            if events & select.POLLOUT and unsent and not self._send_some(unsent):
                poll.modify(self.line, select.POLLIN)
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR) and not self._read_some():
                poll.unregister(self.line)
                fate_at = time.monotonic() + FATE_SECONDS
            if (message := self._message()) is not None:
                return message
            now = time.monotonic()
            if self.is_gone or (fate_at is not None and now >= fate_at):
                return self._last_words()
            if slot.error is not None and kill_at is None:
                if not self.pid:
                    return None
                processes.send_to_group(self.pid, signal.SIGTERM)
                kill_at = now + min(LONGEST_GRACE_SECONDS, cancel_grace_seconds())
            elif kill_at is not None and now >= kill_at:
                self.kill()
                kill_at = now + FATE_SECONDS
                fate_at = fate_at or kill_at

    def _send_some(self, unsent: list[memoryview]) -> bool:
        """Says whether there is more to send."""
        try:
            count = self.line.send(unsent[0])
        except BlockingIOError:
            return True
        except ConnectionError:
            unsent.clear()  # it has ended; how is told by who waits for it
            return False
        unsent[0] = unsent[0][count:]
        if not unsent[0]:
            unsent.pop(0)
        return bool(unsent)

    def _read_some(self) -> bool:
        """False when it has closed its end."""
        try:
            data = self.line.recv(_BLOCK)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        self._received += data
        return bool(data)

    def _last_words(self) -> tuple[int, dict[str, Any], bytes] | None:
        """What it had sent before it ended."""
        while self._message_bytes() is None:
            try:
                data = self.line.recv(_BLOCK)
            except (BlockingIOError, ConnectionError):
                break
            if not data:
                break
            self._received += data
        return self._message()

    def _message_bytes(self) -> int | None:
        if len(self._received) < parcels.HEAD.size:
            return None
        _, header_bytes, parcel_bytes = parcels.HEAD.unpack_from(self._received)
        whole: int = parcels.HEAD.size + header_bytes + parcel_bytes
        return whole if len(self._received) >= whole else None

    def _message(self) -> tuple[int, dict[str, Any], bytes] | None:
        whole = self._message_bytes()
        if whole is None:
            return None
        kind, header_bytes, _ = parcels.HEAD.unpack_from(self._received)
        after = parcels.HEAD.size + header_bytes
        header = parcels.header_of(bytes(self._received[parcels.HEAD.size:after]))
        parcel = bytes(memoryview(self._received)[after:whole])
        self._received = self._received[whole:]
        return kind, header, parcel

    def kill(self) -> None:
        """End it and what it started, now."""
        if self.pid and not self.is_gone:
            processes.send_to_group(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Hang up: a worker that waits for work ends."""
        self.line.close()
        with self._lock:
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._wake_write = -1


class Output:
    """What a worker's descriptor 1 or 2 carries: C code and programs the task started. Lines of the task's own."""

    def __init__(self, host: Host, read_fd: int, stream: str) -> None:
        self.read_fd = read_fd
        self.whose: tuple[int, int | None] = (host.root_id, None)
        self._host = host
        self._stream = stream
        self._partial = b""
        self._lock = threading.Lock()
        self.is_open = True

    def read(self) -> bool:
        """Keep what has come; False once the other end is closed for good."""
        with self._lock:
            for _ in range(_MOST_BLOCKS if self.is_open else 0):
                try:
                    data = os.read(self.read_fd, _BLOCK)
                except BlockingIOError:
                    return True
                if not data:
                    self._keep(final=True)
                    return False
                if not masking.is_active():
                    self._host.capture.show_raw(self._stream, data)
                self._partial += data
                self._keep()
            return self.is_open

    def end_task(self) -> None:
        """The task has ended: what it printed is its own to the last byte."""
        self.read()
        with self._lock:
            self._keep(final=True)

    def _keep(self, *, final: bool = False) -> None:
        *lines, self._partial = self._partial.split(b"\n")
        if self._partial and (final or len(self._partial) > _LONGEST_LINE):
            lines, self._partial = [*lines, self._partial], b""
        if masking.is_active():  # whole lines: a secret may come in two pieces
            for line in lines:
                self._host.capture.show_raw(self._stream, masking.mask_bytes(line) + b"\n")
        texts = [line.decode("utf-8", "replace").removesuffix("\r") for line in lines]
        level, length, start = 20 if self._stream == "stdout" else 30, 0, 0
        for place, text in enumerate(texts, 1):
            length += len(text) + 1
            if length >= _LONGEST_RECORD or place == len(texts):
                # Many lines in one record: each is a row of its own in the store.
                whole = "\n".join(texts[start:place]) + "\n"
                self._host.capture.record(*self.whose, level, self._stream, self._stream, whole)
                length, start = 0, place

    def close(self) -> None:
        """Nobody reads any more."""
        self.read()
        with self._lock:
            if self.is_open:
                self._keep(final=True)
                self.is_open = False
                os.close(self.read_fd)
