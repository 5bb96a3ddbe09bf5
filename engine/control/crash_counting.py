"""Which deaths of a run's process count against its crash retries: those that may be its own fault.

A machine that is shut down or restarted, a service or container that is stopped, whoever asks a process to end: none of
these says anything of the run, so none counts, in whatever order its processes are told, and killed when they take too
long. A run that completes tasks between its crashes gets on: its count begins anew. One that is told to end again and
again while its daemon goes on and nothing is completed (it may send that signal itself) comes to count.

Says how a death counts; moves nothing.
"""

from __future__ import annotations

import json
import signal
from typing import Any, Final, NamedTuple

from ...store import judging
from ...store.connection import Connection
from ...store.rows import LeaseRow, RunRow
from ...store.tables import leases, supervision
from ..states import exits as deaths
from ..states.machine import RunEvent

ASKS_TO_END: Final = frozenset({signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT})
MOST_TOLD: Final = 5
"""How often in a row a run may be told to end under one daemon, with nothing completed, before that counts."""


class Fate(NamedTuple):
    """How a run's process ended, as far as anybody knows."""

    event: RunEvent
    cause: str
    not_counted: str | None = None
    """Why this is no crash of the run's own, in words."""


class Count(NamedTuple):
    """What a death makes of a run's count of crashes."""

    crashes: int
    is_spared: bool
    """This one does not count."""
    is_first: bool
    """Nothing of the kind went before: no reason to wait before the run goes on."""
    words: str
    """For people, beside the cause."""
    data: str
    """For the event: what the next count goes on from."""


def fate_of(folder: str, lease: LeaseRow) -> Fate:
    """From the boot it lived in, and the record of whoever waited for it."""
    if lease.boot_id != judging.boot_id():
        return Fate("reboot", deaths.REBOOTED, "a restart of the machine")
    return fate_of_death(deaths.read_exit(folder, lease.run_id or 0, lease.pid))


def fate_of_death(death: deaths.Death | None) -> Fate:
    """From what whoever waited for it has said, or left as a record."""
    if death is None:
        return Fate("crash", deaths.UNSEEN)
    number = death.signal if death.signal is not None else (death.exit_code or 0) - 128
    asked = f"an end by {deaths.signal_name(number)}" if number in ASKS_TO_END and death.event == "crash" else None
    return Fate(death.event, death.cause, asked)


def spare(connection: Connection, folder: str, lease: LeaseRow, fate: Fate) -> Fate:
    """A process that was told to end, or whose daemon was, and then killed: by whom does not matter."""
    was_killed = fate.event == "crash" and fate.cause in (deaths.UNSEEN, deaths.KILLED)
    if fate.not_counted is not None or not was_killed or lease.run_id is None:
        return fate
    if deaths.was_told_to_end(folder, lease.run_id, lease.attempt or 1, lease.pid):
        return fate._replace(cause=f"{fate.cause}; it had been told to end", not_counted="an end that was asked for")
    if supervision.has_daemon_stopped(connection, lease.run_id):
        return fate._replace(not_counted="an end while its daemon was stopped")
    return fate


def count(connection: Connection, run: RunRow, fate: Fate, crash_retries: int) -> Count:
    """What this death makes of the count; to be asked while the run is as the death found it."""
    last = _last(connection, run.id)
    completed, before = supervision.completed_tasks(connection, run.id), last.get("completed")
    gets_on = before is not None and completed > before
    known = 0 if gets_on else run.crash_count
    daemon = _living_daemon(connection)
    told, spared = 0, fate.not_counted
    if spared is not None and fate.event != "reboot":
        told = 1 + (last.get("told", 0) if not gets_on and daemon is not None and last.get("daemon") == daemon else 0)
        if told > MOST_TOLD:
            spared = None
    data = {"intent": "none", "completed": max(completed, before or 0), "told": told, "daemon": daemon}
    text = json.dumps(data, separators=(",", ":"))
    if spared is not None:
        return Count(known, True, told <= 1, f"{spared} does not count as a crash", text)
    words = f"{known + 1} of {crash_retries} crash retries"
    if gets_on and run.crash_count:
        words += ", counted anew since tasks were completed"
    return Count(known + 1, False, known == 0, words, text)


def _last(connection: Connection, run_id: int) -> dict[str, Any]:
    """What the count before left; nothing after a person had the run begin again, or of older versions."""
    data = supervision.last_crash_data(connection, run_id)
    found: dict[str, Any] = json.loads(data) if data else {}
    return found


def _living_daemon(connection: Connection) -> str | None:
    lease = leases.get(connection, leases.DAEMON)
    return None if lease is None else f"{lease.boot_id}/{lease.pid_namespace}/{lease.pid}/{lease.pid_started_ticks}"
