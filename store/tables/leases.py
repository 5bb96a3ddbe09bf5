"""The ``lease`` table: which live process owns a run, or is the daemon.

A lease names a process for ever by boot, PID namespace, pid and start time, so that a number used again, or one of a
container's, is never mistaken for its owner. Whether the process lives is for ``judging`` to say.
"""

from __future__ import annotations

import os
from typing import Final

from .. import judging
from ..connection import Connection, folder_of
from ..errors import StaleState
from ..judging import NamesProcess, Verdict
from ..rows import LeaseRow

LEASE_COLUMNS: Final = ", ".join(LeaseRow._fields)
INSERT: Final = f"INSERT INTO lease ({LEASE_COLUMNS}) VALUES ({', '.join('?' * len(LeaseRow._fields))})"
DELETE: Final = "DELETE FROM lease WHERE owner = ?"
DELETE_OF_PROCESS: Final = (
    "DELETE FROM lease WHERE owner = ? AND boot_id = ? AND pid = ? AND pid_started_ticks = ? AND pid_namespace IS ?"
)
SELECT_ONE: Final = f"SELECT {LEASE_COLUMNS} FROM lease WHERE owner = ?"
SELECT_IN_THE_WAY: Final = f"SELECT {LEASE_COLUMNS} FROM lease WHERE owner = ? OR run_id = ?"
SELECT_OF_RUN: Final = f"SELECT {LEASE_COLUMNS} FROM lease WHERE run_id = ?"
SELECT_ALL: Final = f"SELECT {LEASE_COLUMNS} FROM lease ORDER BY owner"

DAEMON: Final = "daemon"


def run_owner(run_id: int) -> str:
    """The owner under which a run's process holds its lease."""
    return f"run/{run_id}"


def acquire(connection: Connection, lease: LeaseRow) -> None:
    """Take a lease; one whose process is gone is taken over. ``StaleState`` names the live holder."""
    for row in connection.execute(SELECT_IN_THE_WAY, (lease.owner, lease.run_id)).fetchall():
        holder = LeaseRow._make(row)
        verdict = judge(holder, connection)
        if not judging.same(holder, lease) and not verdict.is_gone:
            seen = f"of which nothing can be told here: {verdict.reason}" if verdict.reason else "which is alive"
            raise StaleState(
                f"{holder.owner} is held by process {holder.pid} on {holder.host} ({holder.actor}), {seen}"
            )
        connection.execute(DELETE, (holder.owner,))
    connection.execute(INSERT, lease)


def release(connection: Connection, owner: str, holder: LeaseRow | None = None) -> bool:
    """Give a lease back; with ``holder`` only if that process still has it. Says whether there was one."""
    if holder is None:
        return connection.execute(DELETE, (owner,)).rowcount > 0
    identity = (holder.boot_id, holder.pid, holder.pid_started_ticks, holder.pid_namespace)
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
    folder: str | os.PathLike[str],
    owner: str,
    *,
    actor: str,
    at_us: int,
    run_id: int | None = None,
    attempt: int | None = None,
    process_group: int | None = None,
    info: str | None = None,
) -> LeaseRow:
    """A lease naming the calling process, which works on the store in this folder."""
    judging.show_presence(folder, owner)
    identity = judging.own_identity()
    return LeaseRow(
        owner, run_id, attempt, os.uname().nodename, *identity[:3],
        os.getpgid(0) if process_group is None else process_group, actor, at_us, info,
        identity.pid_namespace, os.geteuid(), judging.store_name(folder),
    )  # fmt: skip


def is_alive(row: NamesProcess, where: Connection | str | os.PathLike[str] | None = None) -> bool:
    """Whether the process of a row exists, running or frozen, or may exist where it cannot be seen from here."""
    return not judge(row, where).is_gone


def judge(row: NamesProcess, where: Connection | str | os.PathLike[str] | None) -> Verdict:
    """What can be said of the process of a row; ``where`` is the store it stands in, or a connection to it."""
    if where is None or isinstance(where, (str, os.PathLike)):
        return judging.judge(row, where)
    return judging.judge(row, lambda: folder_of(where))
