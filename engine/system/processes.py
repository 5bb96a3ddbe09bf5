"""Processes as the kernel shows them: waiting for a death by pidfd, finding what a run left behind, killing it.

A run's processes are found in three ways, because each alone misses some: by its session and process group (a run
started by a code host leads both), by a mark in their environment, which also finds children that made a session of
their own, and as descendants of a process that adopts orphans (a *subreaper*), which misses nothing that was forked,
whatever became of its environment. Linux answers from ``/proc``; elsewhere only the process group is known. Nothing
here knows the store.
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

_SET_PARENT_DEATH_SIGNAL: Final = 1
_SET_CHILD_SUBREAPER: Final = 36
_SET_NAME: Final = 15
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


def run_mark(folder: str, run_id: int, attempt: int) -> str:
    """The mark of one attempt at one run of one store."""
    return f"{os.path.realpath(folder)}#{run_id}.{attempt}"


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


class Family(NamedTuple):
    """A process whose descendants are a run's, as far as they began with it and are no other run's."""

    ancestor: int
    since_ticks: int = 0
    """What began earlier is not the run's, nor what that started."""
    before: tuple[int, ...] = ()
    """Of those that began within the same tick: the children that were there when the run began."""
    other_marks: tuple[str, ...] = ()
    """Of other runs that live in the same process. While there are any, only marked processes can be told apart."""


def of_run(leader: int | None, started_ticks: int, mark: str | None, family: Family | None = None) -> list[int]:
    """Live processes that belong to a run, without the calling one: of its leader's session or group, carrying its
    mark, or of its family.

    A session or group is the run's only as long as the number means its leader, or nobody: one that another process
    has been given since is that process's, with all that is in it.
    """
    wanted = None if mark is None else f"{RUN_MARK}={mark}".encode()
    if leader is not None and (holder := process_stat(leader)) is not None and holder.started_ticks != started_ticks:
        leader = None
    own = os.getpid()
    stats = {stat.pid: stat for stat in _all_processes()}
    born = _members(family, stats, wanted) if family is not None else ()
    return [
        stat.pid
        for stat in stats.values()
        if not stat.ended
        and stat.pid != own
        and (
            leader in (stat.session, stat.group)
            or stat.pid in born
            or (wanted is not None and _carries(stat.pid, wanted))
        )
    ]


def _members(family: Family, stats: dict[int, ProcessStat], wanted: bytes | None) -> set[int]:
    """The run's among the descendants."""
    children: dict[int, list[ProcessStat]] = {}
    for stat in stats.values():
        children.setdefault(stat.parent, []).append(stat)
    others = [f"{RUN_MARK}={mark}".encode() for mark in family.other_marks]
    found: set[int] = set()
    looked: list[tuple[ProcessStat, bool]] = [(child, False) for child in children.get(family.ancestor, ())]
    while looked:
        stat, is_known = looked.pop()
        if stat.started_ticks < family.since_ticks:
            continue
        if stat.started_ticks == family.since_ticks and stat.pid in family.before:
            continue
        if others and not is_known:
            if any(_carries(stat.pid, other) for other in others):
                continue
            is_known = wanted is not None and _carries(stat.pid, wanted)
        if is_known or not others:
            found.add(stat.pid)
        looked += [(child, is_known) for child in children.get(stat.pid, ())]
    return found


def children_since(ticks: int) -> tuple[int, ...]:
    """This process's children that began at that tick or later; for nearly nothing where it has none."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return ()
    own = os.getpid()
    return tuple(stat.pid for stat in _all_processes() if stat.parent == own and stat.started_ticks >= ticks)


def ticks_now() -> int:
    """The present in the ticks in which the kernel tells when processes began."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def adopt_orphans(wanted: bool) -> bool:
    """Have descendants that lose their parent become children of this process (or no longer); says whether they do.

    Then whatever is forked stays within the family, also what forks twice and makes a session of its own. Nobody but
    this process can wait for those, so it has to.
    """
    if sys.platform != "linux":
        return False
    return _prctl(_SET_CHILD_SUBREAPER, int(wanted)) and wanted


def limit_open_files(soft: int | None) -> int:
    """Let this process open that many files, or (None) as many as it may; returns how many it could before."""
    import resource

    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if soft is None else soft, hard))
    return before


def name_self(name: bytes) -> None:
    """The name that ``ps`` and ``top`` show for this process; at most 15 bytes. Nothing where there is none."""
    if sys.platform == "linux":
        _prctl(_SET_NAME, name)


def end_with_parent(number: int) -> None:
    """Have the kernel send this signal when the parent ends; 0 for none."""
    if sys.platform == "linux":
        _prctl(_SET_PARENT_DEATH_SIGNAL, int(number))


def show_words(words: Sequence[str]) -> None:
    """Have ``ps`` show these words as the command of this process, as far as what it was started with leaves room."""
    if sys.platform != "linux":
        return
    with open("/proc/self/stat", "rb") as file:
        content = file.read()
    begin, end = map(int, content[content.rindex(b")") + 2:].split()[45:47])
    if not 0 < begin < end:
        return  # the kernel does not tell whom it does not trust
    ctypes: Any = importlib.import_module("ctypes")
    shown = b"".join(os.fsencode(word) + b"\0" for word in words)[: end - begin - 1]
    ctypes.memset(begin, 0, end - begin)
    ctypes.memmove(begin, shown, len(shown))


def _prctl(option: int, value: int | bytes) -> bool:
    # The package around it costs 2 ms more to load, which every script would pay.
    ctypes: Any = importlib.import_module("_ctypes")
    function = ctypes.dlsym(ctypes.dlopen(None, 0), "prctl")
    return bool(ctypes.call_function(function, (option, value, 0, 0, 0)) == 0)


def of_group(group: int, entry: str) -> list[int]:
    """Live processes of a group, and any that carry this ``NAME=value`` in their environment."""
    wanted = entry.encode()
    return [stat.pid for stat in _all_processes()
            if not stat.ended and stat.pid != os.getpid() and (stat.group == group or _carries(stat.pid, wanted))]


def send(pids: Iterable[int], number: signal.Signals) -> list[int]:
    """Signal each process that still exists; returns those that are not ours to signal: of other users."""
    refused = []
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
        except PermissionError:
            refused.append(pid)
    return refused


def send_to_group(group: int, number: signal.Signals) -> bool:
    """Signal a process group; says whether there was one."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody of another user is in it; the others got the signal
    return True


def kill_all(find: Callable[[], list[int]], timeout_seconds: float) -> list[int]:
    """Kill what is found until nothing more is; returns what goes on: after that time, or because it is not ours."""
    deadline = time.monotonic() + timeout_seconds
    while pids := find():
        refused = send(pids, signal.SIGKILL)
        if len(refused) == len(pids) or time.monotonic() >= deadline:
            return pids
        time.sleep(0.002)
    return []


def named(pids: Iterable[int]) -> str:
    """Processes in words: ``12 (sleep, of user 0)``."""
    words = []
    for pid in pids:
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                name = file.read().strip()
            words.append(f"{pid} ({name}, of user {os.stat(f'/proc/{pid}').st_uid})")
        except OSError:
            words.append(str(pid))  # it has just ended, or /proc hides it
    return ", ".join(words)


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
