"""How a process ended, in words, and the small file by which whoever waited for it tells everybody else.

``<store>/spool/<run>.<attempt>.<pid>.exit`` is written by whoever waited for the process (its guard, or a code host),
under another name first, so a reader finds all of it or nothing. It outlives the daemon: the next one reads it.
"""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from typing import Any, Final, NamedTuple

from ...store import files
from ...store.errors import StoreError
from ...store.spool_lines import FOLDER as SPOOL
from .machine import RunEvent

OUT_OF_MEMORY: Final = "out of memory: killed by the kernel"
KILLED: Final = f"killed by signal {signal.SIGKILL} ({signal.SIGKILL.name})"
UNSEEN: Final = "its process ended and nobody saw how"
REBOOTED: Final = "the machine was restarted while it ran"
SUSPENDED_EXIT: Final = 75
"""Exit code of a process that left its run to go on later (``EX_TEMPFAIL``)."""

STALE_EXIT: Final = 71
"""Exit code of a process that found its run taken by another, moved on or cancelled: no death of the run."""


CANCELLED_EXIT: Final = 130
"""Exit code of a process whose run was cancelled; without a record of that, when the store had no room for one."""


_TOLD: Final = ".told"
_BUILDING: Final = ".new"
_ENDS: Final = (".exit", f".exit{_BUILDING}", ".cancel", _TOLD)
"""One that is being built is its writer's only as long as that lives."""


class Death(NamedTuple):
    """How one run process ended."""

    run_id: int
    pid: int
    exit_code: int | None
    """None when a signal ended it."""
    signal: int | None
    core_dumped: bool
    out_of_memory: bool
    max_rss_bytes: int | None
    ended_at_us: int

    @property
    def event(self) -> RunEvent:
        """What the state machine calls it."""
        if self.out_of_memory:
            return "run_out_of_memory"
        return "cancel" if self.exit_code == CANCELLED_EXIT else "crash"

    @property
    def cause(self) -> str:
        """For people: ``killed by signal 9 (SIGKILL)``."""
        if self.out_of_memory:
            used = f"; it had used {self.max_rss_bytes / 2**20:,.0f} MiB" if self.max_rss_bytes else ""
            return OUT_OF_MEMORY + used
        if self.signal is not None:
            core = ", core dumped" if self.core_dumped else ""
            return f"killed by signal {self.signal} ({signal_name(self.signal)}){core}"
        return f"exited with code {self.exit_code} before it finished"


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRT{number}" if number >= signal.SIGRTMIN else "unknown"


def from_wait_status(run_id: int, pid: int, status: int, *, max_rss_bytes: int | None, out_of_memory: bool,
                     ended_at_us: int) -> Death:
    """What ``wait4`` said."""
    killed = os.WIFSIGNALED(status)
    return Death(run_id, pid, None if killed else os.waitstatus_to_exitcode(status),
                 os.WTERMSIG(status) if killed else None, killed and os.WCOREDUMP(status),
                 out_of_memory and killed and os.WTERMSIG(status) == signal.SIGKILL, max_rss_bytes, ended_at_us)


def write_exit(folder: str, attempt: int, death: Death) -> None:
    """Leave the record for whoever looks after the run; nothing where there is no store any more."""
    path = f"{SPOOL}/{death.run_id}.{attempt}.{death.pid}.exit"
    building = f"{path}{_BUILDING}"
    with suppress(FileNotFoundError):  # the store went, before or meanwhile, and with it whoever would have read this
        with open(files.open_to_write(folder, building), "w", encoding="utf-8") as file:
            file.truncate()
            json.dump(death._asdict(), file)
        files.rename(folder, building, path)


def note_told_to_end(folder: str, run_id: int, attempt: int, pid: int) -> None:
    """That somebody asked a run's process, or its guard, to end: should it be killed later, that is no crash.

    The name of an empty file, which nearly every full disk has room for.
    """
    with suppress(OSError, StoreError):  # asked before; no store any more; not even room for a name
        os.close(files.make(folder, _told_path(run_id, attempt, pid)))


def was_told_to_end(folder: str, run_id: int, attempt: int, pid: int) -> bool:
    """Whether ``note_told_to_end`` was called for this process."""
    return files.exists(folder, _told_path(run_id, attempt, pid))


def _told_path(run_id: int, attempt: int, pid: int) -> str:
    return f"{SPOOL}/{run_id}.{attempt}.{pid}{_TOLD}"


def read_exit(folder: str, run_id: int, pid: int) -> Death | None:
    """The record of that process of the run, if it is there."""
    return next((death for path in _records(folder, run_id)
                 if (death := _read(folder, path)) is not None and death.pid == pid), None)


def forget_exits(folder: str, run_id: int, until_attempt: int | None = None) -> None:
    """Remove the records of a run, or of its attempts so far: that of a later one is for who settles that.

    With them goes what was asked for by a name there: a cancellation (``control.without_room``), an end.
    """
    for path in _records(folder, run_id):
        attempt = path.split(".")[1]
        if until_attempt is not None and attempt.isdecimal() and int(attempt) > until_attempt:
            continue
        files.remove(folder, path)


def recorded_runs(folder: str) -> set[int]:
    """The runs that have a record lying there."""
    names = _names(folder)
    return {int(name.split(".")[0]) for name in names if name.endswith(_ENDS) and name.split(".")[0].isdecimal()}


def _names(folder: str) -> list[str]:
    try:
        return files.names(folder, SPOOL)
    except files.UNUSABLE as error:
        files.leave_alone(error)
        return []


def _records(folder: str, run_id: int) -> list[str]:
    names = _names(folder)
    return [f"{SPOOL}/{name}" for name in names if name.startswith(f"{run_id}.") and name.endswith(_ENDS)]


def _read(folder: str, path: str) -> Death | None:
    try:
        values: dict[str, Any] = json.loads(files.read(folder, path))
        return Death(**values)
    except files.UNUSABLE as error:
        files.leave_alone(error)
        return None
    except (FileNotFoundError, ValueError, TypeError):
        return None  # another Flowdeck's record, or one removed meanwhile: then nobody saw how it ended


class OomWatch:
    """Counts the kernel's out-of-memory kills in this process's control group, so that one can be told from kill -9."""

    def __init__(self) -> None:
        self._files = _counter_files()
        self._last = self._count()

    def look(self) -> None:
        """What was counted until now was other processes."""
        self._last = self._count()

    def killed_since_last_look(self, pid: int) -> bool:
        """Whether the kernel says it killed this process for lack of memory.

        Its log names the pid. Where the log may not be read, a grown counter is the next best evidence.
        """
        count = self._count()
        grew, self._last = count > self._last, count
        named = _kernel_log_names(pid)
        return grew if named is None else named

    def _count(self) -> int:
        total = 0
        for path in self._files:
            try:
                with open(path, encoding="ascii") as file:
                    total += sum(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
            except (OSError, ValueError, IndexError):
                continue
        return total


def _counter_files() -> list[str]:
    """``memory.events`` (version 2) and ``memory.oom_control`` (version 1) of our control group and those above."""
    try:
        with open("/proc/self/cgroup", encoding="ascii", errors="replace") as file:
            lines = [line.strip().split(":", 2) for line in file]
    except FileNotFoundError:
        return []
    found = []
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if controllers == "":
            found.append(f"/sys/fs/cgroup{path.rstrip('/')}/memory.events")
        elif "memory" in controllers.split(","):
            found.append(f"/sys/fs/cgroup/memory{path.rstrip('/')}/memory.oom_control")
    return [path for path in found if os.path.exists(path)]


def _kernel_log_names(pid: int) -> bool | None:
    """Whether the kernel's log says it killed this process for lack of memory; None where it may not be read."""
    try:
        descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    wanted = (f"Killed process {pid} ".encode(), f"Killed process {pid},".encode(), f"task={pid},".encode())
    boundary = _uptime_us() - 60_000_000
    try:
        while True:
            try:
                record = os.read(descriptor, 8192)
            except BlockingIOError:
                return False
            except BrokenPipeError:
                continue  # the ring went round; the next read stands at its new beginning
            stamp = record.split(b";", 1)[0].split(b",")
            recent = len(stamp) > 2 and stamp[2].isdigit() and int(stamp[2]) > boundary
            if recent and b"emory" in record and any(word in record for word in wanted):
                return True
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _uptime_us() -> int:
    with open("/proc/uptime", encoding="ascii") as file:
        return int(float(file.read().split()[0]) * 1e6)
