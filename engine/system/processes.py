"""Processes as the kernel shows them: waiting for a death by pidfd, finding what a run left behind, killing it.

A run's processes are found by its session and process group (a run started by a code host leads both) and by a mark
in their environment, which also finds children that made a session of their own. Linux answers from ``/proc``;
elsewhere only the process group is known. Nothing here knows the store.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

RUN_MARK: Final = "FLOWDECK_RUN_MARK"
"""Environment variable that every process a run starts inherits; its value names the store and the run."""


class ProcessStat(NamedTuple):
    """What ``/proc/PID/stat`` says of one process."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    started_ticks: int
    cpu_ticks: int
    """What it has computed so far, in all its threads."""

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs any more (a zombie waits only to be counted)."""
        return self.state in "ZXx"


def run_mark(folder: str, run_id: int) -> str:
    """The mark of one run of one store."""
    return f"{os.path.realpath(folder)}#{run_id}"


def process_stat(pid: int) -> ProcessStat | None:
    """The process that has this pid now; None when there is none or the platform does not tell."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            content = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = content[content.rindex(b")") + 2:].decode("ascii").split()
    return ProcessStat(pid, fields[0], int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]),
                       int(fields[11]) + int(fields[12]))


def open_pidfd(pid: int, started_ticks: int) -> int | None:
    """A descriptor that becomes readable when that process ends; None when it is gone already.

    ``OSError`` with ENOSYS where the kernel has no pidfd: the caller looks at ``/proc`` from time to time instead.
    """
    if not hasattr(os, "pidfd_open"):
        raise OSError(errno.ENOSYS, "this platform has no pidfd")
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # The pid may have been given to another process between the lease and now: look after it is held.
    stat = process_stat(pid)
    if stat is None or (started_ticks and stat.started_ticks != started_ticks):
        os.close(descriptor)
        return None
    return descriptor


def of_run(leader: int | None, started_ticks: int, mark: str | None) -> list[int]:
    """Live processes that belong to a run: of its leader's session or group, or carrying its mark.

    A session or group is the run's only as long as the number means its leader, or nobody: one that another process
    has been given since is that process's, with all that is in it.
    """
    wanted = None if mark is None else f"{RUN_MARK}={mark}".encode()
    if leader is not None and (holder := process_stat(leader)) is not None and holder.started_ticks != started_ticks:
        leader = None
    found = []
    for stat in _all_processes():
        if stat.ended or stat.pid == os.getpid():
            continue
        if leader in (stat.session, stat.group) or (wanted is not None and _carries(stat.pid, wanted)):
            found.append(stat.pid)
    return found


def of_group(group: int, entry: str) -> list[int]:
    """Live processes of a group, and any that carry this ``NAME=value`` in their environment."""
    wanted = entry.encode()
    return [stat.pid for stat in _all_processes()
            if not stat.ended and stat.pid != os.getpid() and (stat.group == group or _carries(stat.pid, wanted))]


def send(pids: list[int], number: signal.Signals) -> None:
    """Signal each process that still exists and is ours to signal."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def send_to_group(group: int, number: signal.Signals) -> bool:
    """Signal a process group; says whether there was one."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody of another user is in it; the others got the signal
    return True


def kill_all(leader: int | None, started_ticks: int, mark: str | None, timeout_seconds: float) -> bool:
    """Kill everything a run left behind; says whether it was gone within the time."""
    deadline = time.monotonic() + timeout_seconds
    while pids := of_run(leader, started_ticks, mark):
        send(pids, signal.SIGKILL)
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.002)
    return True


def _all_processes() -> Iterator[ProcessStat]:
    if sys.platform != "linux":
        return
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and (stat := process_stat(int(entry))) is not None:
            yield stat


def _carries(pid: int, wanted: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return wanted in file.read().split(b"\0")
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return False
