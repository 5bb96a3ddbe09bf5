"""The ``lease`` table: which live process owns a run, or is the daemon.

A lease names a process for ever by boot id, pid and the pid's start time, so a pid used again is never mistaken for
its owner. Whether the process lives is read from ``/proc``; where there is none, the pid alone must do.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from functools import cache
from typing import Final, Literal, NamedTuple, Protocol

from ..connection import Connection
from ..errors import StaleState
from ..rows import LeaseRow

LEASE_COLUMNS: Final = ", ".join(LeaseRow._fields)
INSERT: Final = f"INSERT INTO lease ({LEASE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
DELETE: Final = "DELETE FROM lease WHERE owner = ?"
DELETE_OF_PROCESS: Final = "DELETE FROM lease WHERE owner = ? AND boot_id = ? AND pid = ? AND pid_started_ticks = ?"
SELECT_ONE: Final = f"SELECT {LEASE_COLUMNS} FROM lease WHERE owner = ?"
SELECT_IN_THE_WAY: Final = f"SELECT {LEASE_COLUMNS} FROM lease WHERE owner = ? OR run_id = ?"
SELECT_OF_RUN: Final = f"SELECT {LEASE_COLUMNS} FROM lease WHERE run_id = ?"
SELECT_ALL: Final = f"SELECT {LEASE_COLUMNS} FROM lease ORDER BY owner"

DAEMON: Final = "daemon"
HAS_PROC: Final[bool] = os.path.exists("/proc/self/stat")

ProcessState = Literal["alive", "frozen", "gone"]


class ProcessIdentity(NamedTuple):
    """What names one process for ever."""

    boot_id: str
    pid: int
    started_ticks: int
    """0 where the platform does not tell."""


class NamesProcess(Protocol):
    """Any row that names a process: a lease, a slot."""

    @property
    def boot_id(self) -> str:
        """The boot the process belongs to."""

    @property
    def pid(self) -> int:
        """Its number in that boot, until it is used again."""

    @property
    def pid_started_ticks(self) -> int:
        """Field 22 of /proc/PID/stat."""


def run_owner(run_id: int) -> str:
    """The owner under which a run's process holds its lease."""
    return f"run/{run_id}"


def acquire(connection: Connection, lease: LeaseRow) -> None:
    """Take a lease; one whose process is gone is taken over. ``StaleState`` names the live holder."""
    for row in connection.execute(SELECT_IN_THE_WAY, (lease.owner, lease.run_id)).fetchall():
        holder = LeaseRow._make(row)
        mine = (holder.boot_id, holder.pid, holder.pid_started_ticks) == lease[4:7]
        if not mine and is_alive(holder):
            raise StaleState(
                f"{holder.owner} is held by process {holder.pid} on {holder.host} ({holder.actor}), which is alive"
            )
        connection.execute(DELETE, (holder.owner,))
    connection.execute(INSERT, lease)


def release(connection: Connection, owner: str, holder: LeaseRow | None = None) -> bool:
    """Give a lease back; with ``holder`` only if that process still has it. Says whether there was one."""
    if holder is None:
        return connection.execute(DELETE, (owner,)).rowcount > 0
    identity = (holder.boot_id, holder.pid, holder.pid_started_ticks)
    return connection.execute(DELETE_OF_PROCESS, (owner, *identity)).rowcount > 0


def get(connection: Connection, owner: str) -> LeaseRow | None:
    """One lease by its owner, or None."""
    row = connection.execute(SELECT_ONE, (owner,)).fetchone()
    return LeaseRow._make(row) if row else None


def of_run(connection: Connection, run_id: int) -> LeaseRow | None:
    """The lease on a run, or None when no process has it."""
    row = connection.execute(SELECT_OF_RUN, (run_id,)).fetchone()
    return LeaseRow._make(row) if row else None


def all(connection: Connection) -> list[LeaseRow]:  # noqa: A001 - read as leases.all
    """Every lease, by owner."""
    return [LeaseRow._make(row) for row in connection.execute(SELECT_ALL)]


# ---------------------------------------------------------------------------------------------------- processes


def this_process(
    owner: str,
    *,
    actor: str,
    at_us: int,
    run_id: int | None = None,
    attempt: int | None = None,
    process_group: int | None = None,
    info: str | None = None,
) -> LeaseRow:
    """A lease naming the calling process."""
    identity = process_identity(os.getpid())
    if identity is None:
        raise RuntimeError("this process cannot find itself in /proc")
    return LeaseRow(
        owner, run_id, attempt, socket.gethostname(), *identity,
        os.getpgid(0) if process_group is None else process_group, actor, at_us, info,
    )  # fmt: skip


def process_identity(pid: int) -> ProcessIdentity | None:
    """Names the process that has this pid now; None when there is none."""
    if not HAS_PROC:
        return ProcessIdentity(boot_id(), pid, 0) if _pid_exists(pid) else None
    fields = _stat_fields(pid)
    return None if fields is None else ProcessIdentity(boot_id(), pid, int(fields[19]))


def process_state(lease: NamesProcess) -> ProcessState:
    """Whether the process of a lease runs, is stopped (SIGSTOP), or is gone. A zombie is gone: it does nothing more."""
    if lease.boot_id != boot_id():
        return "gone"
    if not HAS_PROC:
        return "alive" if _pid_exists(lease.pid) else "gone"
    fields = _stat_fields(lease.pid)
    if fields is None or int(fields[19]) != lease.pid_started_ticks or fields[0] in ("Z", "X", "x"):
        return "gone"
    return "frozen" if fields[0] == "T" else "alive"


def is_alive(lease: NamesProcess) -> bool:
    """Whether the process of a lease exists, running or frozen."""
    return process_state(lease) != "gone"


@cache
def boot_id() -> str:
    """Names this boot of this machine; leases of earlier boots are of processes that are gone."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        if sys.platform == "darwin":
            command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        return "unknown"


def _stat_fields(pid: int) -> list[str] | None:
    """The fields of ``/proc/PID/stat`` from the state on (field 3); the name before them may hold anything."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            content = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return content[content.rindex(b")") + 2 :].decode("ascii").split()


def _pid_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
