"""Having a guard beside a process that a person started: made with its first root run, told of each.

Forked where that is safe and cheap: before the process has threads and while it is small. Else a fresh interpreter is
started for it, which takes a moment to be there. It is no child of the process, whose code may wait for all of its
children. While runs live the process adopts what is orphaned beneath it, so that nothing they fork gets away.
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import json
import logging
import os
import select
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ....store import judging
from ...system import processes
from .guard import CompanionGuard, detach, end_with

if TYPE_CHECKING:
    from ...system.orphans import Orphans

MOST_FORKED_PAGES: Final = 40_000
"""Resident pages (some 160 MB): a larger process is not forked, whose memory would be held twice as it changes."""
_MODULE: Final = "flowdeck.engine.running.run_process.guarding"

_CLOSING_SECONDS: Final = 0.1
_REAP_SECONDS: Final = 0.5

logger = logging.getLogger("flowdeck.engine")


class _Guarded(NamedTuple):
    """A run that lives in this process."""

    since_ticks: int
    before: tuple[int, ...]
    """Children of this process that are older than the run, though of the same tick."""
    mark: str
    """What its processes carry in their environment."""


class Companion:
    """This process's end of the lines to and from its guard."""

    def __init__(self, to_guard: int, from_guard: int, *, adopts: bool) -> None:
        self.pid = os.getpid()
        """Of the process that it was made for: a fork of that has none."""
        self._lines = to_guard, from_guard
        self._files = [os.fstat(line) for line in self._lines]
        self.adopts = adopts
        self.guarded: dict[tuple[str, int], _Guarded] = {}
        """By store and run."""

    def say(self, message: dict[str, Any]) -> bool:
        """False when the guard is gone, or does not listen."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})  # which user code may have made deadly
        try:
            if not self._is_whole():
                return False
            os.write(self._lines[0], json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            if hasattr(signal, "sigtimedwait"):
                signal.sigtimedwait({signal.SIGPIPE}, 0)
            return False
        except OSError:
            return False
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return True

    def hear(self) -> None:
        """Wait until the guard has closed what it had open; not for long, it may be stopped."""
        waiting = select.poll()
        waiting.register(self._lines[1], select.POLLIN)
        if waiting.poll(_CLOSING_SECONDS * 1000):
            os.read(self._lines[1], 64)

    def _is_whole(self) -> bool:
        """User code may have closed the lines, and something else may have their numbers."""
        return all(os.path.samestat(os.fstat(line), file) for line, file in zip(self._lines, self._files, strict=True))


_companion: Companion | None = None
_lock = threading.Lock()
_orphans: Orphans | None = None
_reap_at = 0.0
_reaping = threading.Lock()


def guard_run(folder: Path, run_id: int, attempt: int) -> None:
    """Have this process's guard look after a run that begins in it."""
    global _companion, _reap_at
    since = processes.ticks_now()
    before = processes.children_since(since)
    message = {"guard": run_id, "attempt": attempt, "folder": str(folder), "since": since, "before": before}
    with _lock:
        companion = _companion if _companion is not None and _companion.pid == os.getpid() else None
        if companion is None or not companion.say(message):
            try:
                companion = _companion = _start(message)
            except OSError as error:
                logger.warning("run #%d has no guard: %s", run_id, error.strerror or error)
                return
        elif not companion.guarded and companion.adopts:
            processes.adopt_orphans(True)
        _reap_at = time.monotonic() + _REAP_SECONDS  # short runs have nothing to wait for
        companion.guarded[str(folder), run_id] = _Guarded(
            since, before, processes.run_mark(str(folder), run_id, attempt)
        )


def let_go(folder: Path, run_id: int) -> None:
    """The run is over; nothing when this process has no guard, or it was not told of the run."""
    with _lock:
        companion = _companion
        if companion is None or companion.pid != os.getpid() or (str(folder), run_id) not in companion.guarded:
            return
        del companion.guarded[str(folder), run_id]
        if companion.say({"over": run_id, "folder": str(folder)}):
            companion.hear()
        if not companion.guarded and companion.adopts:
            processes.adopt_orphans(False)


def reap_orphans() -> None:
    """Now and then, in the background: wait for what this process adopted, and for nothing that its code started."""
    global _orphans, _reap_at
    now = time.monotonic()
    companion = _companion
    if now < _reap_at or companion is None or companion.pid != os.getpid() or not companion.adopts:
        return
    if not _reaping.acquire(blocking=False):
        return
    try:
        _reap_at = now + _REAP_SECONDS
        if _orphans is None:
            from ...system.orphans import Orphans

            _orphans = Orphans(knows_all=False)
        _orphans.reap()
    finally:
        _reaping.release()


def family_of(folder: Path, run_id: int) -> processes.Family | None:
    """The descendants of this process that are one of its runs'; None where orphans get away."""
    companion = _companion
    if companion is None or companion.pid != os.getpid() or not companion.adopts:
        return None
    guarded = companion.guarded.get((str(folder), run_id))
    if guarded is None:
        return None
    marks = tuple(other.mark for key, other in companion.guarded.items() if key != (str(folder), run_id))
    return processes.Family(companion.pid, guarded.since_ticks, guarded.before, marks)


def _start(message: dict[str, Any]) -> Companion:
    processes.adopt_orphans(False)  # or the guard, which is to be nobody's child here, came back as one
    heard, to_guard = os.pipe2(os.O_CLOEXEC)
    from_guard, said = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(to_guard, False)
    adopts = sys.platform == "linux"
    try:
        own = judging.own_identity()
        if threading.active_count() == 1 and _resident_pages() <= MOST_FORKED_PAGES:
            _fork(own, heard, said, message, adopts=adopts)
        else:
            _spawn(own, heard, said, message, adopts=adopts)
    except BaseException:
        os.close(to_guard)
        os.close(from_guard)
        raise
    finally:
        os.close(heard)
        os.close(said)
    if adopts:
        processes.adopt_orphans(True)
    return Companion(to_guard, from_guard, adopts=adopts)


def _fork(own: judging.ProcessIdentity, heard: int, said: int, message: dict[str, Any], *, adopts: bool) -> None:
    with warnings.catch_warnings():
        # Threads of libraries in C: none of them holds what the guard needs.
        warnings.simplefilter("ignore", DeprecationWarning)
        between = os.fork()
    if between != 0:
        os.waitpid(between, 0)
        return
    try:
        gc.disable()
        if os.fork() != 0:
            os._exit(0)
    except BaseException:  # noqa: BLE001 - a second process of the script must not go on in its code
        os._exit(1)
    _be(own, heard, said, message, adopts=adopts)


def _be(own: judging.ProcessIdentity, heard: int, said: int, message: dict[str, Any], *, adopts: bool) -> None:
    def watch() -> None:
        os.setsid()
        detach(heard, said)
        guard = CompanionGuard(own, heard, said, adopts=adopts)
        guard.obey(message)
        guard.watch()

    end_with(watch, message["folder"], message["guard"], message["attempt"])


def _spawn(own: judging.ProcessIdentity, heard: int, said: int, message: dict[str, Any], *, adopts: bool) -> None:
    """By way of a shell, which ends at once: the guard is no child of this process."""
    line, back = (fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10) for descriptor in (heard, said))
    try:
        # Not by descriptor 0: to what it starts in the background dash gives /dev/null in its place.
        words = ["/bin/sh", "-c", '"$@" <&3 3<&- &', "flowdeck-guard", sys.executable, "-P", "-m", _MODULE,
                 "--process", json.dumps(own), "--first", json.dumps(message),
                 *(["--adopts"] if adopts else [])]
        environment = {name: value for name, value in os.environ.items() if name != processes.RUN_MARK}
        shell = os.posix_spawn(
            words[0], words, environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, line, 3),
                (os.POSIX_SPAWN_DUP2, back, 1),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ],
        )  # fmt: skip
    finally:
        os.close(line)
        os.close(back)
    os.waitpid(shell, 0)


def _resident_pages() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1])
    except FileNotFoundError:
        return 0


def main() -> None:
    """Be the guard of the process that started this one."""
    parser = argparse.ArgumentParser(prog=f"python -m {_MODULE}", description=__doc__)
    parser.add_argument("--process", required=True)
    parser.add_argument("--first", required=True)
    parser.add_argument("--adopts", action="store_true")
    options = parser.parse_args()
    own = judging.ProcessIdentity(*json.loads(options.process))
    # What are standard input and output become the lines.
    _be(own, os.dup(0), os.dup(1), json.loads(options.first), adopts=options.adopts)


if __name__ == "__main__":
    main()
