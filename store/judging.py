"""Who may judge whom: whether the process that a row names can be judged from here, and whether it is that process.

Everything that settles, signals, counts or advises asks here. A pid means something only within one PID namespace of
one boot; what another namespace (a container with the store on a volume) knows by a number is another process here.
So each row names boot, namespace, pid and start time, and each process that holds something in a store also holds a
lock on a file of its own in the folder ``alive``: the kernel frees it with the last process that has it, and whoever
can open the store can see from any namespace whether it is held.

What cannot be judged is ``unknown``, with the reason in words: it is shown as recorded and left alone. Signals go only
to processes of this store (a copy of a store is another one), of this namespace, whose start time is the row's.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Final, Literal, NamedTuple, Protocol

from . import files
from .errors import StoreUntrusted

ALIVE_FOLDER: Final = "alive"
_PROCESS: Final = "process"
HAS_PROC: Final[bool] = os.path.exists("/proc/self/stat")

ProcessState = Literal["alive", "frozen", "gone", "unknown"]


class ProcessIdentity(NamedTuple):
    """What names one process for ever."""

    boot_id: str
    pid: int
    started_ticks: int
    """Field 22 of ``/proc/PID/stat``; 0 where the platform does not tell."""
    pid_namespace: str
    """``pid:[4026531836]``; empty where the platform has none."""

    @property
    def pid_started_ticks(self) -> int:
        """As rows call it."""
        return self.started_ticks


class NamesProcess(Protocol):
    """Any row that names a process: a lease, a slot, a lock."""

    @property
    def boot_id(self) -> str:
        """The boot the process belongs to."""

    @property
    def pid_namespace(self) -> str | None:
        """The namespace in which its number means it; None in rows of versions that did not write it."""

    @property
    def pid(self) -> int:
        """Its number there, until it is used again."""

    @property
    def pid_started_ticks(self) -> int:
        """When it began, so that a number used again is not taken for it."""


class Verdict(NamedTuple):
    """What can be said of a process from here."""

    state: ProcessState
    reason: str = ""
    """Of ``unknown``: why it cannot be told."""

    @property
    def is_gone(self) -> bool:
        """It certainly does nothing more."""
        return self.state == "gone"


Where = str | os.PathLike[str] | Callable[[], str] | None
"""The folder of a store, or what finds it when it is needed."""


def same(one: NamesProcess, other: NamesProcess) -> bool:
    """Whether two rows name one process."""
    numbers = [(row.boot_id, row.pid, row.pid_started_ticks, row.pid_namespace or "") for row in (one, other)]
    return numbers[0] == numbers[1]


def judge(row: NamesProcess, folder: Where) -> Verdict:
    """Whether the process of a row runs, is stopped (SIGSTOP), is gone, or cannot be judged from here.

    A zombie is gone: it does nothing more. ``folder`` is the store the row stands in; without it nothing can be said of
    processes of other namespaces.
    """
    if row.boot_id != boot_id():
        return Verdict("gone")
    elsewhere = _out_of_sight(row.pid_namespace)
    if elsewhere is None:
        return _look(row)
    held = None if folder is None else _is_held(folder() if callable(folder) else folder, row)
    if held is None:
        return Verdict("unknown", elsewhere)
    return Verdict("unknown", f"it lives, {elsewhere}") if held else Verdict("gone")


def is_of_here(row: NamesProcess, folder: str | os.PathLike[str], store: str | None) -> bool:
    """Whether the row's numbers mean here what they meant to its process: one boot, one namespace, this very store."""
    here = row.boot_id == boot_id() and _out_of_sight(row.pid_namespace) is None
    return here and (store is None or store == store_name(folder))


def why_not_signalled(row: NamesProcess, folder: str | os.PathLike[str], store: str | None) -> str | None:
    """None when a signal to the row's pid reaches that very process and may be sent; else the reason in words.

    ``store`` is the name of the store that the process works on, as its row has it.
    """
    if row.boot_id != boot_id():
        return "it ended with an earlier boot of this machine"
    elsewhere = _out_of_sight(row.pid_namespace)
    if elsewhere is not None:
        return elsewhere
    if store is not None and store != store_name(folder):
        return "its process works on the store that this one is a copy of"
    if _look(row).state in ("gone", "unknown"):
        return "its process is gone"
    if others_wrote_rows(folder) and not _is_of_store(row, folder):
        return "the process belongs neither to the store's owner nor to a run of this store, whatever the row says"
    return None


def others_wrote_rows(folder: str | os.PathLike[str]) -> bool:
    """Whether this is root in somebody's store: what a row says of a process he may have made up.

    Anybody else the kernel keeps from touching processes that are not his own.
    """
    return os.geteuid() == 0 and os.stat(folder).st_uid != 0


def _is_of_store(row: NamesProcess, folder: str | os.PathLike[str]) -> bool:
    """Whether the store's owner could signal the process himself, or it shows its presence in the store."""
    place = f"/proc/{row.pid}"
    identity = ProcessIdentity(row.boot_id, row.pid, row.pid_started_ticks, row.pid_namespace or "")
    shown = os.path.join(os.path.realpath(folder), ALIVE_FOLDER, _presence_name(identity))
    try:
        if os.stat(place).st_uid == os.stat(folder).st_uid:
            return True
        return any(os.readlink(f"{place}/fd/{number}") == shown for number in os.listdir(f"{place}/fd"))
    except OSError:
        return False  # it ended, or closed a file, meanwhile


def _out_of_sight(namespace: str | None) -> str | None:
    """Why numbers of that namespace mean nothing here; None when they do."""
    own = pid_namespace()
    if namespace and own and namespace != own:
        return f"in another PID namespace ({namespace}; this one is {own}), as of a container"
    if HAS_PROC and not _proc_is_own():
        return "and /proc here shows another PID namespace than this process is in"
    return None


def _look(row: NamesProcess) -> Verdict:
    if not HAS_PROC:
        return Verdict("alive" if _pid_exists(row.pid) else "gone")
    fields = stat_fields(row.pid)
    if fields is None:
        # Mounted with hidepid, /proc does not show the processes of other users.
        hidden = _pid_exists(row.pid) and os.geteuid() != 0 and _hides_processes()
        return (
            Verdict("unknown", "/proc is mounted so that it hides other users' processes")
            if hidden
            else Verdict("gone")
        )
    if int(fields[19]) != row.pid_started_ticks or fields[0] in ("Z", "X", "x"):
        return Verdict("gone")
    return Verdict("frozen" if fields[0] == "T" else "alive")


# ---------------------------------------------------------------------------------------------- naming processes


def process_identity(pid: int) -> ProcessIdentity | None:
    """Names the process that has this pid here and now; None when there is none."""
    if not HAS_PROC:
        return ProcessIdentity(boot_id(), pid, 0, "") if _pid_exists(pid) else None
    fields = stat_fields(pid)
    return None if fields is None else ProcessIdentity(boot_id(), pid, int(fields[19]), pid_namespace())


def own_identity() -> ProcessIdentity:
    """Names the calling process."""
    fields = stat_fields(None)  # /proc/self is right also where /proc shows another namespace
    started = int(fields[19]) if fields is not None else 0
    return ProcessIdentity(boot_id(), os.getpid(), started, pid_namespace())


@cache
def boot_id() -> str:
    """Names this boot of this machine; rows of earlier boots are of processes that are gone."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            return file.read().strip()
    except FileNotFoundError:
        if sys.platform == "darwin":
            import subprocess

            command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        return "unknown"


@cache
def pid_namespace() -> str:
    """Names the PID namespace of this process; empty where the platform has none."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def store_name(folder: str | os.PathLike[str]) -> str:
    """Names the store in this folder, whatever path leads to it; a copy has another name. Empty when it is gone."""
    try:
        status = os.stat(os.path.join(folder, "state.db"))
    except OSError:
        return ""
    return f"{status.st_dev}:{status.st_ino}"


def stat_fields(pid: int | None) -> list[str] | None:
    """The fields of ``/proc/PID/stat`` from the state on (field 3), of this process for None; None when it is gone."""
    try:
        with open(f"/proc/{'self' if pid is None else pid}/stat", "rb") as file:
            content = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return content[content.rindex(b")") + 2 :].decode("ascii").split()


@cache
def _proc_is_own() -> bool:
    """Whether /proc numbers processes as this process does (``unshare --pid`` alone leaves the outer one mounted)."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


@cache
def _hides_processes() -> bool:
    return stat_fields(1) is None


def _pid_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


# -------------------------------------------------------------------------------------------- being seen to live


_shown: dict[tuple[int, str], int] = {}
"""By process (a fork is another) and store: the descriptor that holds the lock."""
_owners: dict[tuple[int, str], set[str]] = {}
"""What of the process is named by rows there: its runs, by their leases' owners, and itself, where no run is around."""
_lock = threading.Lock()


def show_presence(folder: str | os.PathLike[str], owner: str | None = None) -> None:
    """Let everybody who can open the store see that this process lives, until it and its forks have ended.

    To be done before the first row that names it is written, and ended by each ``owner`` of such rows; None stands for
    the process itself, unless somebody has shown it already. ``OSError`` when the folder cannot be written.
    """
    key = os.getpid(), os.path.realpath(folder)
    if key in _shown and (owner is None or owner in _owners[key]):
        return
    with _lock:
        owners = _owners.setdefault(key, set())
        if owner is not None or not owners:
            owners.add(owner or _PROCESS)
        while key not in _shown:
            path = f"{ALIVE_FOLDER}/{_presence_name(own_identity())}"
            descriptor = files.open_to_write(key[1], path)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if _is_named(key[1], path, descriptor):
                _shown[key] = descriptor
            else:
                os.close(descriptor)  # somebody swept it before it was locked


def end_presence(folder: str | os.PathLike[str], owner: str | None = None) -> None:
    """No row of this owner names this process any more; with the last of them nobody need look for it."""
    key = os.getpid(), os.path.realpath(folder)
    with _lock:
        owners = _owners.get(key, set())
        owners.discard(owner or _PROCESS)
        descriptor = None if owners else _shown.pop(key, None)
        if descriptor is None:
            return
        path = f"{ALIVE_FOLDER}/{_presence_name(own_identity())}"
        with suppress(OSError):  # the store was removed, or user code has closed all descriptors
            if _is_named(key[1], path, descriptor):
                files.remove(key[1], path)
                os.close(descriptor)


def sweep_presences(folder: str | os.PathLike[str]) -> None:
    """Remove the files of processes that ended without doing so."""
    try:
        names = files.names(folder, ALIVE_FOLDER)
    except files.UNUSABLE as error:
        files.leave_alone(error)
        return
    for name in names:
        _is_locked(folder, name, and_remove=True)


def _is_named(folder: str, path: str, descriptor: int) -> bool:
    """Whether the open file is the one that has this name now."""
    try:
        return os.path.samestat(os.lstat(os.path.join(folder, path)), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _presence_name(identity: ProcessIdentity) -> str:
    namespace = identity.pid_namespace.strip("pid:[]") or "0"
    return f"{namespace}-{identity.pid}-{identity.started_ticks}"


def _is_held(folder: str | os.PathLike[str], row: NamesProcess) -> bool | None:
    """Whether the process of a row still holds its lock; None when that cannot be read."""
    identity = ProcessIdentity(row.boot_id, row.pid, row.pid_started_ticks, row.pid_namespace or "")
    return _is_locked(folder, _presence_name(identity))


def _is_locked(folder: str | os.PathLike[str], name: str, *, and_remove: bool = False) -> bool | None:
    """``and_remove`` one that is not: while it is locked here, so that nobody locks what loses its name."""
    try:
        descriptor = files.open_to_read(folder, f"{ALIVE_FOLDER}/{name}")
    except FileNotFoundError:
        return False
    except (OSError, StoreUntrusted):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if and_remove and _is_named(os.fspath(folder), f"{ALIVE_FOLDER}/{name}", descriptor):
            files.remove(folder, f"{ALIVE_FOLDER}/{name}")
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
