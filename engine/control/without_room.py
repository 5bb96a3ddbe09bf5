"""A cancellation that the store has no room for: an empty file in it, which takes none.

A full disk refuses every write, a request too, while the run that fills it waits for room. The name of an empty file
can still be made on nearly every file system: ``spool/<run>.<attempt>.cancel`` says that this attempt is to end, and
its owner who said so. The run's process looks for it, its guard, and whoever settles a run that died. A second one,
``<run>.<attempt>.now.cancel``, says that no grace is to be given.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Final

from ...store import files
from ...store.connection import Connection
from ...store.errors import StoreError
from ...store.states import is_terminal
from ...store.tables import leases, runs

SPOOL: Final = "spool"


def ask(folder: Path, connection: Connection, run_id: int, *, at_once: bool = False) -> str | None:
    """Ask a live run to end; says in words what becomes of it, None when it has no process that could see that.

    Asked a second time, or ``at_once``, it gets no grace.
    """
    run, lease = runs.get(connection, run_id), leases.of_run(connection, run_id)
    if run is None or is_terminal(run.state_type) or lease is None or leases.judge(lease, folder).is_gone:
        return None
    try:
        if not _make(folder, _path(run_id, run.attempt)) or at_once:
            at_once = True
            _make(folder, _now_path(run_id, run.attempt))
    except (OSError, StoreError):
        return None
    return f"told to end{' at once' if at_once else ''}; the disk is full: its end is recorded once there is room"


def _make(folder: Path, name: str) -> bool:
    """False when it was there."""
    try:
        os.close(files.make(folder, name))
    except FileExistsError:
        return False
    return True


def asked_of(folder: str | Path, run_id: int, attempt: int) -> str | None:
    """Why this attempt is to end, if somebody said so in this way; costs one look at a name."""
    name = _path(run_id, attempt)
    return _words(os.path.join(folder, name)) if files.exists(folder, name) else None


def is_asked_at_once(folder: str | Path, run_id: int, attempt: int) -> bool:
    """Whether whoever asked in this way wants no grace given."""
    return files.exists(folder, _now_path(run_id, attempt))


def _now_path(run_id: int, attempt: int) -> str:
    return f"{SPOOL}/{run_id}.{attempt}.now.cancel"


def _path(run_id: int, attempt: int) -> str:
    return f"{SPOOL}/{run_id}.{attempt}.cancel"


def _words(path: str) -> str:
    try:
        owner = os.lstat(path).st_uid
        name = pwd.getpwuid(owner).pw_name
    except FileNotFoundError:
        name = "somebody"
    except KeyError:
        name = f"user {owner}"
    return f"cancelled by {name} while the disk was full"
