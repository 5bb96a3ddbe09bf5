"""How a command comes to its store and to the run it was told: one place for missing stores and unknown runs.

Reading commands create nothing. When no daemon watches, they first let dead runs be recorded as dead, so that no
listing calls a run alive whose process is gone.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..engine.errors import NotFound, UsageError
from ..store.errors import StoreError
from ..store.location import find_store
from ..store.rows import RunRow, TaskRow
from ..tui.text.waiting import Daemon, daemon_seen
from .output import Output, one_line

if TYPE_CHECKING:
    from ..store.reader import Reader

_NEED_A_PROCESS: Final = frozenset({"PENDING", "RUNNING", "PAUSED", "CANCELLING"})
"""Types a run may be in only while its process lives, or, for PAUSED, may be."""

_NO_ROOM_BYTES: Final = 64 * 1024
"""What a commit needs at most, mostly; with less left runs wait."""

FILL_HINT = (
    "no runs yet; two commands that make some:\n"
    "  flowdeck demo              the shipped examples, live in the console\n"
    "  flowdeck run FILE[:FLOW]   one of your own flows, here and now"
)


def folder_of(args: Namespace) -> Path:
    """The store's folder, which may not exist yet."""
    return find_store(args.store)


def open_reader(args: Namespace, out: Output) -> Reader | None:
    """A reader on the store, dead runs recorded as dead; None when there is no store yet."""
    folder = folder_of(args)
    if not store_exists(folder):
        return None
    from ..store.opening import open_store
    from ..store.reader import Reader

    open_store(folder, create=False)
    reader = Reader(folder)
    record_dead_runs(folder, reader, out)
    return reader


def require_reader(args: Namespace, out: Output, what: str) -> Reader:
    """Like ``open_reader``; raises ``NotFound`` for ``what`` when there is no store yet."""
    reader = open_reader(args, out)
    if reader is None:
        raise NotFound(f"no {what}: there is no store at {folder_of(args)} yet; name another with --store FOLDER")
    return reader


def store_exists(folder: Path) -> bool:
    """Whether a store was ever made in the folder; ``StoreReadOnly`` where this user may not know."""
    from ..store.connection import database_path, look_at

    return look_at(database_path(folder, "state")) is not None


def find_run(reader: Reader, ref: str) -> RunRow:
    """The run somebody named; raises ``NotFound`` with the way to the names there are."""
    run = reader.find(ref)
    if run is None:
        raise NotFound(_unknown(ref))
    return run


def find_run_or_task(reader: Reader, ref: str) -> tuple[RunRow, TaskRow | None]:
    """The run, or the run and one task of it, that somebody named as ``42``, ``42/7`` or ``42/extract[3]``."""
    run = reader.find(ref)
    if run is not None:
        refuse_two_meanings(run, ref, reader.find_task(ref))
        return run, None
    if "/" in ref:
        task = reader.find_task(ref)
        if task is not None:
            owner = reader.run(task.run_id)
            if owner is not None:
                return owner, task
        owner = reader.find(ref.split("/", 1)[0])
        if owner is not None:
            named = ref.split("/", 1)[1]
            raise NotFound(f"run #{owner.id} has no task {named!r}; `flowdeck show {owner.id}` lists its tasks")
    raise NotFound(_unknown(ref))


def refuse_two_meanings(run: RunRow | None, ref: str, task: TaskRow | None) -> None:
    """Raise ``UsageError`` when a word is the name of one run, and names a task of another as well."""
    if run is not None and task is not None:
        raise UsageError(
            f"{ref!r} could be run #{run.id}, which has that name, or task {task.run_id}/{task.seq}; "
            f"say {run.id} or {task.run_id}/{task.seq}"
        )


def _unknown(ref: str) -> str:
    if ref == "@failed":
        return "no run has failed or crashed; `flowdeck ls` lists all"
    if ref == "@last":
        return "there is no run yet; `flowdeck run FILE` makes one"
    return f"no run {ref!r}; `flowdeck ls` lists them (a run is named 42, #42, by its name, @last or @failed)"


def daemon_of(reader: Reader) -> Daemon:
    """What can be said of the store's daemon."""
    from ..store.tables.leases import DAEMON, judge

    lease = next((lease for lease in reader.leases() if lease.owner == DAEMON), None)
    if lease is None:
        return Daemon("none")
    return daemon_seen(judge(lease, reader.folder).state, lease.pid, lease.host)


def disk_trouble(folder: Path) -> str | None:
    """Why runs under way can record nothing, when their disk is full: they cannot write that down themselves."""
    from ..store.driver_errors import free_bytes

    if free_bytes(folder / "state.db") >= _NO_ROOM_BYTES:
        return None
    return "the disk of its store is full: what it records waits for room"


def _has_dead_lease(reader: Reader) -> bool:
    """Whether a run's process died after the run's end was recorded: its last output is still in its spool."""
    from ..store.tables.leases import is_alive

    return any(lease.run_id is not None and not is_alive(lease, reader.folder) for lease in reader.leases())


def record_dead_runs(folder: Path, reader: Reader, out: Output) -> None:
    """Records runs whose process is gone, unless a living daemon does so itself."""
    if reader.daemon() is not None:
        return
    if not any(run.state_type in _NEED_A_PROCESS for run in reader.live_runs()) and not _has_dead_lease(reader):
        return
    from ..engine.control.reaping import reap_dead_runs

    try:
        reap_dead_runs(folder)
    except StoreError as error:  # to be looked at it need not be writable
        out.say_once(f"runs whose process has died may still show as running: {one_line(str(error))}", "yellow")
