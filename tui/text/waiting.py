"""Why a run is where it is, in words: what a waiting one waits for, why an ended one ended. Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ...store.rows import RunRow, TaskRow
from . import times

DaemonState = Literal["alive", "frozen", "elsewhere", "dead", "none", "unknown"]
"""``elsewhere``: in a container or the like, where its process cannot be seen from here."""


class Daemon(NamedTuple):
    """What is known about the daemon of this store."""

    state: DaemonState
    pid: int | None = None
    host: str = ""


def daemon_seen(state: Literal["alive", "frozen", "gone", "unknown"], pid: int, host: str) -> Daemon:
    """The daemon, by what can be said of the process of its lease."""
    if state == "gone":
        return Daemon("dead", pid, host)
    return Daemon("elsewhere" if state == "unknown" else state, pid, host)


def daemon_words(daemon: Daemon) -> str:
    """The daemon's state in a few words."""
    match daemon.state:
        case "alive":
            return f"daemon {daemon.pid}"
        case "frozen":
            return f"daemon {daemon.pid} is frozen"
        case "elsewhere":
            return f"daemon {daemon.pid} on {daemon.host}"
        case "dead":
            return f"daemon {daemon.pid} died"
        case "none":
            return "no daemon"
        case _:
            return "daemon ?"


def why_task(task: TaskRow, now_us: int) -> str:
    """One line on a task, raw text from the store inside."""
    return times.localised(_why_task(task, now_us), now_us)


def _why_task(task: TaskRow, now_us: int) -> str:
    if task.state_type == "SCHEDULED" and task.wake_at_us is not None and task.wake_at_us > now_us:
        words = f"retries in {times.span_words(task.wake_at_us - now_us)}"
        return f"{words}; {task.cause}" if task.cause else words
    return task.cause or ""


def why(run: RunRow, now_us: int, daemon: Daemon) -> str:
    """One line, raw text from the store inside: sanitise it before showing."""
    return times.localised(_why(run, now_us, daemon), now_us)


def _why(run: RunRow, now_us: int, daemon: Daemon) -> str:
    asked = _INTENTS.get(run.intent)
    if run.ended_at_us is not None:
        return run.cause or ""
    if run.state_type == "RUNNING" and run.state_name == "Frozen":
        return run.cause or "frozen: waits for thaw"
    if asked and run.state_type != "CANCELLING" and not (run.state_type == "PAUSED" and run.intent == "pause"):
        return run.cause if run.cause and run.state_name == "Pausing" else asked
    match run.state_type:
        case "SCHEDULED":
            return _waits(run, now_us, daemon)
        case "PENDING":
            return run.cause or "its process is being made"
        case "PAUSED":
            return run.cause or _PAUSED.get(run.state_name, "waits for resume")
        case "CANCELLING":
            return run.cause or "waits for its processes to end"
        case _:
            return run.cause or ""


_INTENTS = {"pause": "pause asked for", "freeze": "freeze asked for", "cancel": "cancel asked for"}
_PAUSED = {
    "Paused": "waits for resume",
    "Suspended": "holds no process; waits for resume",
    "AwaitingInput": "waits for input",
}


def _waits(run: RunRow, now_us: int, daemon: Daemon) -> str:
    due = run.wake_at_us if run.wake_at_us is not None else run.scheduled_at_us
    if run.state_name == "AwaitingSlot":
        return run.cause or "waits for a free slot"
    if due > now_us:
        verb = "retries" if run.state_name == "AwaitingRetry" else "starts"
        if run.cause and run.cause.startswith("asleep"):
            verb = "wakes"
        words = f"{verb} in {times.span_words(due - now_us)}"
        return f"{words}; {run.cause}" if run.cause else words
    match daemon.state:
        case "none":
            return "waits for a daemon: none runs"
        case "dead":
            return "waits for a daemon: the last one died"
        case "frozen":
            return "waits for the daemon, which is frozen"
        case _:
            late = f"late by {times.span_words(now_us - due)}" if now_us - due > 5 * times.SECOND_US else "due now"
            return f"{late}; {run.cause}" if run.cause else late
