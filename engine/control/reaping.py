"""Settling runs whose process is gone: what they end as, with the cause in words, and whether they go on by replay.

One transaction per run: its tasks, its subflow runs, the run itself, its lease, and where it is allowed the next
attempt. Works with and without a daemon; ``reap_dead_runs`` is what the console and the command line call when none
runs. Which state follows which is looked up in ``machine``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from ...store import judging, spool
from ...store.connection import Connection, connect, transaction
from ...store.rows import LeaseRow, RunRow
from ...store.states import is_terminal
from ...store.tables import leases, limits, runs, supervision
from ..errors import NotAllowed
from ..states import exits as deaths
from ..states.asked import done_as_asked
from ..states.machine import RunEvent, TaskEvent
from ..states.transitions import move_run, move_task
from ..system import processes
from ..system.clock import now_us
from ..system.output_files import sweep_outputs
from . import without_room
from .answering import held, until_us
from .crash_counting import Count, Fate, count, fate_of, fate_of_death, spare

ACTOR: Final = "engine"
DEFAULT_CRASH_RETRIES: Final = 3
FIRST_RESUME_SECONDS: Final = 0.05
"""Wait before a run goes on that crashed for the first time: no more than its end needs to settle."""
NEXT_RESUME_SECONDS: Final = 1.0
"""Wait after the next crash; doubles with each one more."""
LONGEST_RESUME_SECONDS: Final = 300.0
STARTING_SECONDS: Final = 1.0
"""How long a claimed run may be without a lease: its process is being made."""
_LEFTOVER_SECONDS: Final = 0.2


class Settled(NamedTuple):
    """What became of a run whose process was gone."""

    run_id: int
    state_name: str
    cause: str
    resumes_at_us: int | None
    """When it goes on by replay; None when it does not by itself."""


def drain(folder: str, telemetry: Connection, run_id: int, until_attempt: int) -> None:
    """Move what a dead run left in its spool into the log, in order, and remove the files.

    Up to the attempt that is dead: a later one may have begun, and writes into files of its own.
    """
    for attempt in spool.attempts_of(folder, run_id):
        if attempt <= until_attempt:
            spool.drain(folder, telemetry, run_id, attempt, final=True)


def kill_leftovers(folder: str, lease: LeaseRow, timeout_seconds: float = _LEFTOVER_SECONDS) -> bool:
    """Kill what a run's process left behind; says whether all of it is gone.

    A script's group belongs to the shell it was started from, and a number that is used again to a stranger: then only
    what carries the run's mark is touched. Nothing is of a process whose numbers mean others here.
    """
    if lease.run_id is None or not judging.is_of_here(lease, folder, lease.store):
        return True
    mark = processes.run_mark(folder, lease.run_id, lease.attempt or 1)
    leader = lease.pid if owns_group(lease) and not judging.others_wrote_rows(folder) else None
    return not processes.kill_all(
        lambda: processes.of_run(leader, lease.pid_started_ticks, mark), timeout_seconds
    )


def owns_group(lease: LeaseRow) -> bool:
    """Whether session and group of a run's process are the run's alone: its code host made them for it.

    A script may lead a group, too: the shell's, in which the rest of its pipeline stands.
    """
    info = lease_info(lease)
    # Leases of versions without guards do not speak of one.
    is_hosted = info["guard"] is not None if "guard" in info else bool(info.get("resumable"))
    return is_hosted and lease.process_group == lease.pid


def lease_info(lease: LeaseRow | None) -> dict[str, Any]:
    """What the owner wrote about itself; empty when nothing."""
    if lease is None or not lease.info:
        return {}
    info: dict[str, Any] = json.loads(lease.info)
    return info


def settle(connection: Connection, run_id: int, fate: Fate, *, at_us: int, resumable: bool,
           attempt: int, lease: LeaseRow | None = None,
           crash_retries: int = DEFAULT_CRASH_RETRIES) -> Settled | None:
    """Give a run without a process the state it has earned.

    ``lease`` is the one of the dead process, None when none ever had it; ``attempt`` is the one whose fate is told.
    When the run has another lease or attempt by now, somebody else has settled this death: None, nothing changes.
    """
    with transaction(connection):
        found = leases.of_run(connection, run_id)
        if found is None or lease is None:
            if found is not lease:
                return None
        elif not judging.same(found, lease) or not leases.judge(found, connection).is_gone:
            return None
        if found is not None:
            leases.release(connection, found.owner, found)
            limits.release_process(connection, found, at_us)
        run = runs.get(connection, run_id)
        told = found.attempt if found is not None else attempt  # a process that tries again renews its lease
        if run is None or told != run.attempt:
            return None  # it had left the run already, to go on later, or is settled
        ended = is_terminal(run.state_type, run.state_name)
        counted = count(connection, run, fate, crash_retries)
        for child in reversed(runs.of_root(connection, run_id)):
            if not is_terminal(child.state_type, child.state_name):
                words = f"its run #{run_id} ended: {fate.cause}"
                _end(connection, child, _event_for(child, run, fate), words, at_us,
                     crashes=child.crash_count + (not counted.is_spared))
        if ended:
            return None
        event = _event_for(run, run, fate)
        if run.state_type == "PAUSED" and event != "cancel" and (resumable or run.entrypoint is not None):
            return _suspend(connection, run, fate, at_us)
        if event == "cancel":
            return _end(connection, run, event, _cancel_cause(connection, run, fate), at_us, lease)
        settled = _end(connection, run, event, fate.cause, at_us, lease, counted.crashes, counted.data)
        if resumable and (counted.is_spared or counted.crashes <= crash_retries):
            return _resume(connection, run, settled, counted, at_us)
        return settled


def _event_for(run: RunRow, root: RunRow, fate: Fate) -> RunEvent:
    """Whatever ended a run that was to be cancelled, it was cancelled."""
    return "cancel" if run.state_type == "CANCELLING" or "cancel" in (run.intent, root.intent) else fate.event


def _cancel_cause(connection: Connection, run: RunRow, fate: Fate) -> str:
    known = run.cause if run.state_type == "CANCELLING" else None
    return f"{known or done_as_asked(connection, run.id, 'cancel')}; {fate.cause}"


def _end(connection: Connection, run: RunRow, event: RunEvent, cause: str, at_us: int,
         lease: LeaseRow | None = None, crashes: int | None = None, data: str | None = None) -> Settled:
    _end_tasks(connection, run, event, cause, at_us)
    crashed = event in ("crash", "run_out_of_memory", "reboot")
    ran_us = None if lease is None else _ran_us(lease, at_us)
    ended = move_run(connection, run, event, at_us=at_us, actor=ACTOR, cause=cause, intent="none",
                     ended_duration_us=ran_us, crash_count=crashes if crashed else None, data=data,
                     # A subflow that waited for its retry goes on waiting until then when its parent calls it again.
                     wake_at_us=run.wake_at_us if crashed and run.root_id is not None else None)
    return Settled(run.id, ended.state_name, cause, None)


def _ran_us(lease: LeaseRow, at_us: int) -> int:
    """For how long its process had the run: nobody's monotonic clock saw the end, so the wall clock says it.

    No longer than since the process began by the kernel's clock, should the wall clock have been set meanwhile.
    """
    ran_us = max(0, at_us - lease.acquired_at_us)
    ticks = processes.ticks_now()
    if ticks and lease.boot_id == judging.boot_id():
        ran_us = min(ran_us, (ticks + 1 - lease.pid_started_ticks) * 1_000_000 // os.sysconf("SC_CLK_TCK"))
    return max(0, ran_us)


def _end_tasks(connection: Connection, run: RunRow, event: RunEvent, cause: str, at_us: int) -> None:
    for row in supervision.live_tasks(connection, run.id):
        # What was held had failed as often as it may; a resumed run tries it as often again.
        ends: TaskEvent = "fail" if row.state_type == "PAUSED" else "crash"
        fate: TaskEvent = "cancel" if event == "cancel" else ends
        duration_us = at_us - row.started_at_us if row.started_at_us is not None else None
        # What waited for a retry goes on waiting until then when the run is resumed.
        wake_at_us = row.wake_at_us if fate == "crash" else None
        move_task(connection, row, fate, run_attempt=max(row.run_attempt, run.attempt), at_us=at_us, actor=ACTOR,
                  cause=row.cause if fate == "fail" else cause, duration_us=duration_us, wake_at_us=wake_at_us)


def _suspend(connection: Connection, run: RunRow, fate: Fate, at_us: int) -> Settled:
    """A paused run that lost its process is still paused: it goes on by replay when somebody resumes it."""
    _end_tasks(connection, run, fate.event, fate.cause, at_us)
    event, cause = held(connection, run, "suspend", f"{fate.cause} while paused; resume it to go on by replay")
    left = move_run(connection, run, event, at_us=at_us, actor=ACTOR, cause=cause, intent="none",
                    new_attempt=run.attempt + 1, wake_at_us=until_us(connection, run.id))
    if run.intent == "none":
        # Somebody had resumed it, and its process died before it saw that.
        queued = move_run(connection, left, "requeue", at_us=at_us, actor=ACTOR, wake_at_us=at_us,
                          message="resumed before")
        return Settled(run.id, queued.state_name, f"{fate.cause} while it was to go on", at_us)
    return Settled(run.id, left.state_name, cause, None)


def _resume(connection: Connection, run: RunRow, settled: Settled, counted: Count, at_us: int) -> Settled:
    """Queue the next attempt, or leave it paused when somebody had asked for that."""
    crashed = runs.get(connection, run.id)
    assert crashed is not None
    seconds = FIRST_RESUME_SECONDS
    if not counted.is_first:
        again = 0 if counted.is_spared else counted.crashes - 2
        seconds = min(NEXT_RESUME_SECONDS * 2 ** again, LONGEST_RESUME_SECONDS)
    wake_at_us = max(at_us + round(seconds * 1e6), run.wake_at_us or 0)
    queued = move_run(connection, crashed, "resume_crashed", at_us=at_us, actor=ACTOR, new_attempt=run.attempt + 1,
                      wake_at_us=wake_at_us,
                      cause=f"{settled.cause}; resumes by replay ({counted.words})")
    if run.intent in ("pause", "freeze") or run.state_name in ("Pausing", "Frozen"):
        event, cause = held(connection, queued, "pause",
                            f"{settled.cause} while it was to pause; resume it to go on by replay")
        paused = move_run(connection, queued, event, at_us=at_us, actor=ACTOR, cause=cause,
                          wake_at_us=until_us(connection, run.id))
        return Settled(run.id, paused.state_name, cause, None)
    return settled._replace(resumes_at_us=wake_at_us)


def release_claim(connection: Connection, run: RunRow, why: str, at_us: int) -> bool:
    """Give a claimed run back whose process never came to be, to its place in the queue; False when it has moved on."""
    with transaction(connection):
        now = runs.get(connection, run.id)
        if now is None or (now.state_type, now.attempt) != (run.state_type, run.attempt):
            return False
        if leases.of_run(connection, run.id) is not None:
            return False
        try:
            wake_at_us = min(at_us, now.scheduled_at_us) if now.attempt == 1 else at_us
            move_run(connection, now, "release", at_us=at_us, actor=ACTOR, wake_at_us=wake_at_us, message=why)
        except NotAllowed:
            return False
    return True


def reap_dead_runs(folder: str | Path) -> list[Settled]:
    """Settle every run whose process is gone. Does nothing while a daemon lives: that is its work."""
    connection = connect(folder, "state")
    telemetry = connect(folder, "telemetry")
    try:
        daemon = leases.get(connection, leases.DAEMON)
        if daemon is not None and leases.is_alive(daemon, folder):
            return []
        settled = []
        for lease in leases.all(connection):
            if lease.run_id is not None and not leases.is_alive(lease, folder):
                settled.append(reap(connection, telemetry, str(folder), lease, now_us()))
        settled += reap_without_process(connection, telemetry, str(folder), now_us())
        return [one for one in settled if one is not None]
    finally:
        connection.close()
        telemetry.close()


def reap(connection: Connection, telemetry: Connection, folder: str, lease: LeaseRow, at_us: int,
         crash_retries: int | None = None, death: deaths.Death | None = None) -> Settled | None:
    """Settle the run of one dead lease; ``death`` is what its host has told of it, where it could.

    Nothing when somebody else has settled it: what has the run's mark may be a new attempt's.
    """
    run_id = lease.run_id
    found = leases.of_run(connection, run_id) if run_id is not None else None
    if run_id is None or found is None or not judging.same(found, lease):
        return None
    lease, last_attempt = found, found.attempt or 1
    info = lease_info(lease)
    resumable = bool(info.get("resumable"))
    run = runs.get(connection, run_id)
    if resumable or (run is not None and _is_cancelled(run)):
        kill_leftovers(folder, lease)
    drain(folder, telemetry, run_id, last_attempt)
    fate = fate_of(folder, lease) if death is None else fate_of_death(death)
    fate = spare(connection, folder, lease, fate)
    if (why := without_room.asked_of(folder, run_id, last_attempt)) is not None:
        fate = Fate("cancel", why)
    known = info.get("crash_retries") if crash_retries is None else crash_retries
    settled = settle(connection, run_id, fate, at_us=at_us, resumable=resumable, lease=lease,
                     attempt=last_attempt,
                     crash_retries=DEFAULT_CRASH_RETRIES if known is None else int(known))
    deaths.forget_exits(folder, run_id, last_attempt)
    judging.sweep_presences(folder)
    sweep_outputs()
    return settled


def reap_without_process(
    connection: Connection, telemetry: Connection, folder: str, at_us: int,
    is_given: Callable[[int, int], bool] = lambda _run_id, _attempt: False,
) -> list[Settled | None]:
    """Runs that claim to run although no process holds their lease; those that may just be starting are left.

    ``is_given`` says of a run and its attempt whether a living code host has it: that is its own, however slow it is.
    """
    settled: list[Settled | None] = []
    for run in supervision.without_process(connection):
        if at_us - supervision.last_change_us(connection, run.id) < STARTING_SECONDS * 1e6:
            continue
        if run.state_type == "PENDING":
            if not is_given(run.id, run.attempt):
                release_claim(connection, run, "its process never began", at_us)
            continue
        drain(folder, telemetry, run.id, run.attempt)
        settled.append(settle(connection, run.id, Fate("crash", deaths.UNSEEN), at_us=at_us,
                              resumable=run.deployment is not None, attempt=run.attempt))
    return settled


def _is_cancelled(run: RunRow) -> bool:
    return run.state_type in ("CANCELLING", "CANCELLED") or run.intent == "cancel"
