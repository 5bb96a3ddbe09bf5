"""What may be asked of a whole run: each request in one write transaction, acted on now or noted for its process.

When nothing of the run lives, the state machine moves it; else its intent is set, and its process sees that within
about 100 ms. There is always an event naming who asked.
"""

from __future__ import annotations

import json
import os
import signal
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from ...store import judging
from ...store.connection import Connection, connect, transaction
from ...store.rows import LeaseRow, RunRow
from ...store.states import TERMINAL_TYPES
from ...store.tables import events, inputs, leases, runs, supervision
from ..errors import NotAllowed, NotFound
from ..secrets.secret import refuse_values
from ..states.allowed import Request, allowed
from ..states.asked import done_by
from ..states.transitions import move_run
from ..system import processes
from ..system.clock import now_us
from . import awaited, reaping
from .answering import answer, cancel_parts, expire_overdue, until_us
from .questions import words_of


class Asked(NamedTuple):
    """A run that something is asked of, and by whom."""

    conn: Connection
    run: RunRow
    lease: LeaseRow | None
    """Of its live process, unless that has left the run and only cleans up behind itself."""
    actor: str
    folder: Path


def find(conn: Connection, request: Request, run_id: int, actor: str, folder: Path) -> Asked:
    """The root run of that number, if this makes sense in its state."""
    run = runs.get(conn, run_id)
    if run is None:
        raise NotFound(f"there is no run #{run_id} in {folder}")
    if run.root_id is not None:
        raise NotAllowed(
            f"run #{run_id} is part of run #{run.root_id} and lives in its process; {request} #{run.root_id} instead"
        )
    if not allowed(request, run.state_type, run.state_name):
        raise NotAllowed(f"run #{run_id} is {run.state_name}: it cannot be asked to {request}")
    if run.intent == "cancel" and request not in ("cancel", "thaw", "retry"):
        raise NotAllowed(f"run #{run_id} is to be cancelled: it cannot be asked to {request} any more")
    lease = live_lease(conn, run_id)
    has_left = lease is not None and lease.attempt is not None and lease.attempt < run.attempt
    return Asked(conn, run, None if has_left else lease, actor, folder)


def live_lease(conn: Connection, run_id: int) -> LeaseRow | None:
    """The lease of the run's live process."""
    lease = leases.of_run(conn, run_id)
    return lease if lease is not None and leases.is_alive(lease, conn) else None


def is_root(conn: Connection, run_id: int) -> bool:
    """Whether there is such a run, and it has a process of its own."""
    run = runs.get(conn, run_id)
    return run is not None and run.root_id is None


def pause(asked: Asked) -> str:
    """No new task starts."""
    conn, run, lease, actor, _ = asked
    if lease is None:
        move_run(conn, run, "pause", at_us=now_us(), actor=actor, cause=done_by("pause", actor))
        return "paused"
    runs.set_intent(conn, run.id, "pause", at_us=now_us(), actor=actor, message="pause")
    return "pausing: running tasks finish, no new one starts"


def suspend(asked: Asked) -> str:
    """As ``pause``, and its process ends."""
    conn, run, lease, actor, _ = asked
    if run.entrypoint is None and run.deployment is None:
        raise NotAllowed(f"run #{run.id}: no file holds its flow, so nothing could go on with it; pause it")
    if lease is None:
        if run.state_type in ("PENDING", "RUNNING"):
            raise NotAllowed(f"run #{run.id} is {run.state_name} and has no process this moment; try again")
        if run.state_name == "AwaitingInput":
            raise NotAllowed(f"run #{run.id} holds no process already; it is {run.cause}")
        move_run(conn, run, "suspend", at_us=now_us(), actor=actor, cause=done_by("suspend", actor))
        return "suspended: it holds no process"
    runs.set_intent(conn, run.id, "pause", at_us=now_us(), actor=actor, message="suspend")
    return "suspending: running tasks finish, then its process ends"


def resume(asked: Asked, run_input: Any) -> str:
    """Go on, with the answer to what it asks; ``InputError`` for a wrong one."""
    conn, run, lease, actor, _ = asked
    if lease is None and run.wake_at_us is not None and run.wake_at_us <= now_us():
        expire_overdue(conn, run, now_us())
        return "too late: its time to be resumed was over; it goes on to hear of that"
    left = answer(conn, run, run_input, actor)
    if left is not None:
        words = words_of(left)
        if lease is None:
            wake_at_us = until_us(conn, run.id)
            move_run(conn, run, "await_input", at_us=now_us(), actor=actor, cause=words, wake_at_us=wake_at_us)
        return f"answered; it is still {words}"
    if lease is None:
        move_run(conn, run, "requeue", at_us=now_us(), actor=actor, wake_at_us=now_us(), intent="none")
        return "queued to continue"
    runs.set_intent(conn, run.id, "none", at_us=now_us(), actor=actor, message="resume")
    return "resumed"


def cancel(asked: Asked, *, at_once: bool = False) -> str:
    """End it with all its parts. ``at_once``, or asked for a second time: its code gets no grace."""
    conn, run, lease, actor, _ = asked
    at_once = at_once or run.intent == "cancel" or run.state_type == "CANCELLING"
    awaited.end_all(conn, run.id, at_once, asked.folder)
    if lease is None:
        cancel_parts(conn, run, now_us(), actor)
        move_run(conn, run, "cancel", at_us=now_us(), actor=actor, cause=done_by("cancel", actor), intent="none")
        return "cancelled"
    runs.set_intent(
        conn, run.id, "cancel", at_us=now_us(), actor=actor, message=supervision.AT_ONCE if at_once else "cancel"
    )
    reason = judging.why_not_signalled(lease, asked.folder, lease.store)
    if run.state_name == "Frozen" and reason is not None:
        return f"cancelling, once it is thawed where its process is: here it is {reason}"
    if run.state_name == "Frozen":
        _signal(lease, signal.SIGCONT)
    return f"cancelling at once: its process {lease.pid} is killed" if at_once else "cancelling"


def skip(asked: Asked) -> str:
    """A run that waits for its time does not run."""
    conn, run, lease, actor, _ = asked
    if lease is not None:
        raise NotAllowed(f"run #{run.id} has its process already: cancel it instead")
    move_run(conn, run, "skip", at_us=now_us(), actor=actor, cause=done_by("skip", actor), intent="none")
    return "skipped"


def freeze(asked: Asked) -> str:
    """Stop its processes where they are."""
    conn, run, _, actor, folder = asked
    move_run(conn, run, "freeze", at_us=now_us(), actor=actor, cause=done_by("freeze", actor))
    # The state's write lock is held here; with the other one, too, it is not stopped holding either.
    with closing(connect(folder, "telemetry")) as telemetry, transaction(telemetry):
        lease = _own_group(asked)
        try:
            _signal(lease, signal.SIGSTOP)
            _signal_commands(asked, signal.SIGSTOP)
        except BaseException:
            _signal(lease, signal.SIGCONT)  # nothing of this is recorded: nobody would know that it is stopped
            raise
    return "frozen"


def thaw(asked: Asked) -> str:
    """Let its processes go on."""
    move_run(asked.conn, asked.run, "thaw", at_us=now_us(), actor=asked.actor)
    _signal_commands(asked, signal.SIGCONT)
    _signal(_own_group(asked), signal.SIGCONT)
    return "running again"


def send(
    conn: Connection, run_id: int, kind: str, value: Any, *, sender: str | None, actor: str, folder: Path
) -> str:
    """Put a message into a run's inbox; returns its key."""
    run = runs.get(conn, run_id)
    if run is None:
        raise NotFound(f"there is no run #{run_id} in {folder}")
    if run.state_type in TERMINAL_TYPES:
        raise NotAllowed(f"run #{run_id} is {run.state_name}: nobody would read what is sent to it")
    key, at_us = f"{kind}-{os.urandom(16).hex()}", now_us()
    text = json.dumps(value, ensure_ascii=False)
    refuse_values(f"the message for run #{run_id}", text)
    inputs.insert(conn, run_id, key, "message", sender=sender or actor, at_us=at_us, value=text)
    events.append(conn, at_us=at_us, kind="input", actor=actor, run_id=run_id, message=f"sent a message: {kind}")
    return key


def _own_group(asked: Asked) -> LeaseRow:
    if asked.lease is None:
        raise NotAllowed(f"run #{asked.run.id} has no process that could be stopped or continued")
    reason = judging.why_not_signalled(asked.lease, asked.folder, asked.lease.store)
    if reason is not None:
        raise NotAllowed(
            f"run #{asked.run.id} cannot be stopped or continued from here: its process {asked.lease.pid} is {reason}; "
            "ask there, or pause the run instead"
        )
    return asked.lease


def _signal(lease: LeaseRow, number: signal.Signals) -> None:
    """To the whole process group when the run has its own, else to its process alone; what has ended needs none."""
    with suppress(ProcessLookupError):
        if not reaping.owns_group(lease):
            os.kill(lease.pid, number)
            return
        os.killpg(lease.pid, number)
    # Worker processes lead groups of their own within the run's session.
    of_run = map(processes.process_stat, processes.of_run(lease.pid, lease.pid_started_ticks, None))
    processes.send([stat.pid for stat in of_run if stat is not None and stat.group != lease.pid], number)


def _signal_commands(asked: Asked, number: signal.Signals) -> None:
    """What a run started into groups of its own, as ``sh`` does; not the guards of those groups."""
    attempt = asked.run.attempt if asked.lease is None else asked.lease.attempt or 1
    processes.send(processes.of_run(None, 0, processes.run_mark(str(asked.folder), asked.run.id, attempt)), number)
