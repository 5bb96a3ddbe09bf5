"""The run's end of the fork server: asks it for workers, hears how each ended, and reads what they print."""

from __future__ import annotations

import json
import logging
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ...states.state import describe_exception
from .worker import FATE_SECONDS, Output, Worker

if TYPE_CHECKING:
    from ..effects.host import Host

_PAUSE_SECONDS: Final = 0.05
"""How long to stand still after a failure: what fails at once must not spin."""
logger = logging.getLogger("flowdeck.engine")


class WorkerServer:
    """The fork server's process, and the thread that hears what it and the workers say."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._workers: dict[int, Worker] = {}
        self._last_id = 0
        self._told = b""
        self.is_alive = True
        ours, theirs = socket.socketpair()
        terminal = host.capture.terminal
        extra = ["--terminal", *map(str, terminal)] if terminal is not None else []
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", f"{__package__}.fork_server", "--socket", str(theirs.fileno()), "--parent",
             str(os.getpid()), *extra],
            stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(), *(terminal or ())),
            process_group=0,  # who kills the run's group leaves it to clean up
        )  # fmt: skip
        theirs.close()
        self._control = ours
        self._selector = selectors.DefaultSelector()
        self._selector.register(ours, selectors.EVENT_READ, self._hear)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._woken)
        self._waiting_outputs: list[Output] = []
        self._outputs: set[Output] = set()
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="flowdeck-workers", daemon=True)
        self._thread.start()

    def fork(self) -> Worker:
        """A new worker; it says hello on its line."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
        for read_fd, _ in pipes:
            os.set_blocking(read_fd, False)
        outputs = [Output(self._host, pipes[0][0], "stdout"), Output(self._host, pipes[1][0], "stderr")]
        given = [theirs.fileno(), pipes[0][1], pipes[1][1]]
        with self._lock:
            self._last_id += 1
            worker = self._workers[self._last_id] = Worker(self._last_id, ours, outputs)
            self._waiting_outputs += outputs
            try:
                socket.send_fds(self._control, [json.dumps({"fork": worker.id}).encode()], given)
            except (ConnectionError, OSError):
                worker.is_gone = True
        theirs.close()
        for _, write_fd in pipes:
            os.close(write_fd)
        self._wake()
        return worker

    def forget(self, worker: Worker) -> None:
        """Nobody asks for its fate any more; its output is read to its end all the same."""
        with self._lock:
            self._workers.pop(worker.id, None)
        if worker.pid and not worker.is_gone:
            worker.kill()

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"x")
        except BlockingIOError:
            return

    def _serve(self) -> None:
        while not self._closing and self.is_alive:
            for key, _ in self._selector.select():
                try:
                    key.data()
                except Exception as error:  # noqa: BLE001 - a service tick: a disk gone, no descriptors left
                    logger.warning("hearing worker processes has trouble: %s", describe_exception(error))
                    time.sleep(_PAUSE_SECONDS)

    def _woken(self) -> None:
        os.read(self._wake_read, 4096)
        with self._lock:
            outputs, self._waiting_outputs = self._waiting_outputs, []
        for output in outputs:
            self._outputs.add(output)
            self._selector.register(output.read_fd, selectors.EVENT_READ, self._reader_of(output))

    def _reader_of(self, output: Output) -> Callable[[], None]:
        def read() -> None:
            if not output.read():
                self._selector.unregister(output.read_fd)
                self._outputs.discard(output)
                output.close()

        return read

    def _hear(self) -> None:
        try:
            data = self._control.recv(65536)
        except ConnectionError:
            data = b""
        *lines, self._told = (self._told + data).split(b"\n")
        for line in lines:
            fate = json.loads(line)
            with self._lock:
                worker = self._workers.get(fate["ended"])
            if worker is not None:
                worker.fate = fate
                worker.is_gone = True
                worker.wake()
        if not data:
            self._lost()

    def _lost(self) -> None:
        """The server is gone, and its workers with it."""
        self.is_alive = False
        with self._lock:
            workers = list(self._workers.values())
        for worker in workers:
            worker.is_gone = True
            worker.wake()

    def close(self) -> None:
        """End the server and what is left of its workers, and wait for it."""
        self._closing = True
        with suppress(OSError):  # the server may be gone already
            self._control.shutdown(socket.SHUT_RDWR)
        self._wake()
        self._thread.join()
        try:
            self._process.wait(FATE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._selector.close()
        for output in [*self._outputs, *self._waiting_outputs]:
            output.close()
        self._control.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
