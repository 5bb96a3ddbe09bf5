"""``sh("command")``: a shell command as a task, every line of it in the log as it comes, its process tree never left.

The command runs in a process group of its own, beside a guard: a tiny shell that waits on a pipe and kills the group,
and whatever the command started elsewhere, when the run's process is gone, however it went. A text goes to ``sh -c``
as it is; a list is run without any shell. Nothing here ever makes a command of data. What a command leaves running in
the background ends with it; what it made a daemon of (a session of its own) lives on with the run, unless the command
was cancelled or timed out.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..authoring.tasks import Task
from ..errors import CommandFailed, CommandTimedOut, UsageError
from ..running.calls.frame import current_frame
from ..running.effects.interrupts import engine_code, woken_by
from ..secrets.masking import mask
from ..settings import cancel_grace_seconds
from ..states import exits as deaths
from ..system import processes
from ..system.output_files import OutputFile
from .sh_output import Stream, read_outputs

if TYPE_CHECKING:
    from ..running.calls.frame import Frame

OUTPUT: Final = "FLOWDECK_OUTPUT"
"""Names the file that a command writes its outputs to; its value is unique, which also marks the command's tree."""
_SHELL: Final = "/bin/sh"
_TERM_SECONDS: Final = 5.0
"""Between TERM and KILL, unless a run is given less to end."""
_BACKGROUND_SECONDS: Final = 0.1
"""How long what is left in the pipes may take to arrive once the command has ended."""
_POLL_SECONDS: Final = 0.05
_LAST_LINES: Final = 5
_GUARD: Final = (
    'trap "" TERM INT HUP; read -r _; '
    'for p in $(grep -lzxF "$1" /proc/[0-9]*/environ 2>/dev/null); do '
    'p=${p#/proc/}; kill -s KILL "${p%/environ}" 2>/dev/null; done; rm -f "${1#*=}"; kill -s KILL 0'
)
_SEEN: Final = (
    "the words of this command hold the value of a secret, which every user of this machine can see in the list of "
    "processes while it runs: hand it over as sh(…, env={'NAME': secret}), or on the command's standard input"
)


class ShResult(NamedTuple):
    """How a command ended and what it said."""

    exit_code: int
    stdout: str
    """The last ``KEPT_BYTES`` of it."""
    stderr: str
    outputs: dict[str, Any]
    """What it wrote to ``$FLOWDECK_OUTPUT``: lines ``key=value``, ``key<<END … END``, or JSON objects."""

    def __str__(self) -> str:
        return self.stdout.rstrip("\n")


ShResult.__module__ = "flowdeck"


def run_command(
    command: str | Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, Any] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    check: bool = True,
) -> ShResult:
    """Run a command to its end; its lines are in the log as they come.

    ``env`` is added to this process's (None removes a name); ``timeout`` seconds end it by TERM, then KILL; a code
    other than 0 raises ``CommandFailed`` unless ``check=False``.
    """
    words = _words(command)
    _check_timeout(timeout)
    with engine_code():
        running = _Command(words, command, env, cwd, timeout)
        try:
            with woken_by(running.wake):
                running.run()
        finally:
            running.close()
        return running.result(check)


def _check_timeout(timeout: float | None) -> None:
    if timeout is not None and (isinstance(timeout, bool) or not timeout > 0):
        raise UsageError(f"sh: timeout must be more than 0 seconds, not {timeout!r}")


def _words(command: Any) -> list[str]:
    if isinstance(command, str):
        words = [_SHELL, "-c", command]
    elif isinstance(command, Sequence) and command and not isinstance(command, (bytes, bytearray)):
        words = [os.fspath(word) if isinstance(word, os.PathLike) else str(word) for word in command]
    else:
        raise UsageError(f"sh: a command is a text or a list of words, not {command!r}")
    if any("\0" in word for word in words):
        raise UsageError("sh: a command cannot hold a NUL character")
    return words


class _Command:
    """One command on its way. Used from one thread; only ``wake`` may come from others."""

    def __init__(
        self, words: list[str], shown: Any, env: Mapping[str, Any] | None, cwd: Any, timeout: float | None
    ) -> None:
        self._words = words
        self._shown = shown if isinstance(shown, str) else " ".join(words)
        self._timeout = timeout
        self._frame: Frame | None = current_frame.get()
        self._streams = Stream("stdout", 20), Stream("stderr", 30)
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._guard: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline = -1
        self._timed_out = False
        self._interrupted = False
        self._output_file = OutputFile()
        self._output = self._output_file.path
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._environment = _environment(env, self._output)
        self._cwd = cwd

    def wake(self) -> None:
        """The code around it is to end."""
        self._interrupted = True
        try:
            os.write(self._wake_write, b"x")
        except OSError:
            return  # it has ended meanwhile

    # -- its life ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """From start to end; the tree is gone when this returns or raises."""
        self._say(20, "log", f"$ {self._shown}")
        if any(mask(word) != word for word in self._words):
            self._say(30, "log", _SEEN)
        try:
            if not self._interrupted:
                self._start()
                self._attend()
        finally:
            self._end_tree()
        for stream in self._streams:
            self._record(stream, stream.rest())

    def _start(self) -> None:
        read_end, self._lifeline = os.pipe2(os.O_CLOEXEC)
        try:
            self._guard = subprocess.Popen(
                [_SHELL, "-c", _GUARD, "flowdeck-guard", f"{OUTPUT}={self._output}"], stdin=read_end,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0, cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath)},
            )  # fmt: skip
        finally:
            os.close(read_end)
        try:
            self._process = subprocess.Popen(
                self._words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=self._environment, cwd=self._cwd, process_group=self._guard.pid, bufsize=0,
            )  # fmt: skip
        except OSError as error:
            raise CommandFailed(_why_not_started(error, self._words, self._cwd)) from None

    def _attend(self) -> None:
        """Pass its lines on until it has ended, time is over, or somebody wants it to end."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        assert process.stderr is not None
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        with selectors.DefaultSelector() as selector:
            for pipe, stream in zip((process.stdout, process.stderr), self._streams, strict=True):
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ, stream)
            selector.register(self._wake_read, selectors.EVENT_READ)
            pidfd = _pidfd(process.pid)
            if pidfd is not None:
                selector.register(pidfd, selectors.EVENT_READ)
            try:
                while process.poll() is None and not self._interrupted:
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        self._timed_out = True
                        break
                    patience = _POLL_SECONDS if pidfd is None else 60.0
                    self._pump(selector, patience if left is None else min(patience, left))
                if self._timed_out or self._interrupted:
                    self._ask_to_end(selector)
                until = time.monotonic() + _BACKGROUND_SECONDS
                while len(selector.get_map()) > 1 + (pidfd is not None) and time.monotonic() < until:
                    if not self._pump(selector, 0.01, pipes_only=True):
                        until = min(until, time.monotonic() + _POLL_SECONDS)
            finally:
                if pidfd is not None:
                    os.close(pidfd)

    def _pump(self, selector: selectors.BaseSelector, seconds: float, *, pipes_only: bool = False) -> bool:
        """Pass on what has arrived; says whether anything had."""
        any_data = False
        for key, _ in selector.select(seconds):
            if not isinstance(key.data, Stream):
                continue
            try:
                data = os.read(key.fd, 1 << 16)
            except BlockingIOError:
                continue
            if not data:
                selector.unregister(key.fileobj)
                continue
            any_data = True
            self._record(key.data, key.data.feed(data))
        if pipes_only and not any_data:
            time.sleep(0.001)  # the other descriptors are ready all the time
        return any_data

    def _ask_to_end(self, selector: selectors.BaseSelector) -> None:
        """TERM, and a while to heed it; the KILL follows with the tree."""
        process = self._process
        assert process is not None
        processes.send(self._tree(), signal.SIGTERM)
        until = time.monotonic() + min(_TERM_SECONDS, cancel_grace_seconds() / 2)
        while (process.poll() is None or self._tree()) and time.monotonic() < until:
            self._pump(selector, 0.01, pipes_only=True)

    def _tree(self) -> list[int]:
        """What lives of the command, at any depth, without the guard."""
        guard = self._guard
        if guard is None:
            return []
        return [pid for pid in processes.of_group(guard.pid, f"{OUTPUT}={self._output}") if pid != guard.pid]

    def _end_tree(self) -> None:
        """Nothing of it is left."""
        try:
            if self._guard is not None:
                ended = self._process is not None and self._process.poll() is not None
                while not (ended and not self._interrupted and not self._timed_out) and (tree := self._tree()):
                    processes.send(tree, signal.SIGKILL)
                    if self._process is not None:
                        self._process.poll()
                    time.sleep(0.002)
                processes.send_to_group(self._guard.pid, signal.SIGKILL)
        finally:
            for process in (self._guard, self._process):
                if process is not None:
                    if process.returncode is None:
                        process.kill()
                    process.wait()
                    for pipe in (process.stdout, process.stderr):
                        if pipe is not None:
                            pipe.close()
            if self._lifeline >= 0:
                os.close(self._lifeline)  # after the guard is gone: it would kill a group that may be another's by then
                self._lifeline = -1

    def close(self) -> None:
        """Release what it needed."""
        for descriptor in (self._wake_read, self._wake_write):
            os.close(descriptor)
        try:
            self._outputs = read_outputs(self._output, self._say)
        finally:
            self._output_file.close()

    # -- its words -----------------------------------------------------------------------------------------------

    def result(self, check: bool) -> ShResult:
        """What became of it, or the error that says so."""
        assert self._process is not None
        code = self._process.returncode
        out, err = self._streams
        result = ShResult(code, out.text(), err.text(), self._outputs)
        if self._timed_out:
            raise CommandTimedOut(self._with_last(f"took longer than {self._timeout:g} s and was ended"), result)
        if code != 0 and check:
            how = f"exited with code {code}" if code > 0 else f"killed by signal {-code} ({deaths.signal_name(-code)})"
            raise CommandFailed(self._with_last(how), result)
        return result

    def _with_last(self, how: str) -> str:
        last = "\n".join(self._last)
        return f"{how}: {last[-1000:]}" if last else how

    def _record(self, stream: Stream, lines: list[str]) -> None:
        for line in lines:
            if line.strip():
                self._last.append(line)
            self._say(stream.level, stream.name, line)

    def _say(self, level: int, stream: str, text: str) -> None:
        frame = self._frame
        if frame is None:
            data = f"{text}\n".encode("utf-8", "backslashreplace")
            os.write(2 if stream == "stderr" else 1, data)
            return
        seq = frame.task.seq if frame.task is not None else None
        frame.run.session.capture.record(frame.run.id, seq, level, "flowdeck.sh", stream, text, show=True)


def _environment(extra: Mapping[str, Any] | None, output: str) -> dict[str, str]:
    environment = dict(os.environ)
    for name, value in (extra or {}).items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = _plain(value)
    environment[OUTPUT] = output
    return environment


def _plain(value: Any) -> str:
    """A secret's value is for the command; anything else as text."""
    reveal = getattr(value, "get_secret_value", None)
    return str(reveal() if callable(reveal) else value)


def _why_not_started(error: OSError, words: list[str], cwd: Any) -> str:
    if cwd is not None and not os.path.isdir(cwd):
        return f"could not start: the folder {os.fspath(cwd)!r} does not exist"
    if isinstance(error, FileNotFoundError):
        return f"could not start: there is no command {words[0]!r}"
    return f"could not start {words[0]!r}: {error.strerror or error}"


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


async def run_command_async(
    command: str | Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, Any] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    check: bool = True,
) -> ShResult:
    """As ``run_command``, in a thread of its own: the event loop goes on meanwhile."""
    import asyncio

    words = _words(command)
    _check_timeout(timeout)
    running = _Command(words, command, env, cwd, timeout)
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[BaseException | None] = loop.create_future()

    def run() -> None:
        error: BaseException | None = None
        try:
            running.run()
        except BaseException as raised:  # noqa: BLE001 - raised where it is awaited
            error = raised
        loop.call_soon_threadsafe(ended.set_result, error)

    threading.Thread(target=run, name="flowdeck-sh", daemon=True).start()  # asyncio's own pool has few
    try:
        error = await asyncio.shield(ended)
    except asyncio.CancelledError:
        running.wake()
        await asyncio.wait([ended])
        raise
    finally:
        running.close()
    if error is not None:
        raise error
    return running.result(check)


sh: Task[..., ShResult] = Task(run_command, name="sh", description="A shell command.")
"""The task: call it, ``sh.submit(…)``, ``sh.map([…])``, ``sh.with_options(retries=2)(…)``."""

async_sh: Task[..., Any] = Task(run_command_async, name="sh", description="A shell command.")
"""``await async_sh(…)`` in async flows and tasks, where ``sh(…)``, as any plain function, blocks the event loop."""
