"""The state machine: one pure table, state × event → state, for flow runs and for task runs.

Everything that says which state may follow which stands in this file and nowhere else. It imports no I/O, no clock
and no threads; it does not know who asks. ``docs/state-machine.md`` and the exhaustive tests are generated from it.
A pair that is not in the table is refused with ``NotAllowed``; nothing is allowed by default.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from ..errors import NotAllowed

RunEvent = Literal[
    "claim", "release", "mark_late", "await_slot", "start", "begin_pause", "pause", "await_input", "suspend", "resume",
    "requeue", "sleep",
    "freeze", "thaw", "await_retry", "begin_cancel", "cancel", "skip", "complete", "fail", "time_out", "crash",
    "run_out_of_memory", "reboot", "resume_crashed", "retry",
]
TaskEvent = Literal[
    "await_slot", "start", "retry_now", "await_retry", "hold", "complete", "use_cached", "fail", "time_out", "cancel",
    "skip", "crash", "not_ready", "trigger_fail", "run_again", "roll_back", "loop", "mark_completed", "mark_skipped",
]


class Target(NamedTuple):
    """Where an event leads."""

    state_type: str
    state_name: str


_END_BY_CODE: Final[dict[str, Target]] = {
    "complete": Target("COMPLETED", "Completed"),
    "fail": Target("FAILED", "Failed"),
    "time_out": Target("FAILED", "TimedOut"),
}
_END_BY_FATE: Final[dict[str, Target]] = {
    "crash": Target("CRASHED", "Crashed"),
    "run_out_of_memory": Target("CRASHED", "OutOfMemory"),
    "reboot": Target("CRASHED", "Rebooted"),
}
_RETRY: Final[dict[str, Target]] = {"retry": Target("SCHEDULED", "Scheduled")}
_CANCELLED: Final = Target("CANCELLED", "Cancelled")
_SUSPENDED: Final = Target("PAUSED", "Suspended")
_AWAITING_INPUT: Final = Target("PAUSED", "AwaitingInput")

RUN_TABLE: Final[dict[str, dict[str, Target]]] = {
    # Waits for its time, a slot or a process; nothing of it lives, so requests act at once.
    "SCHEDULED": {
        "claim": Target("PENDING", "Pending"),
        "mark_late": Target("SCHEDULED", "Late"),
        "await_slot": Target("SCHEDULED", "AwaitingSlot"),
        "pause": Target("PAUSED", "Paused"),
        "suspend": _SUSPENDED,
        # Its code asked, and its process died before it was held.
        "await_input": _AWAITING_INPUT,
        "cancel": _CANCELLED,
        "skip": Target("CANCELLED", "Skipped"),
        # A run in AwaitingRetry may still have its process, which starts the next attempt itself.
        "start": Target("RUNNING", "Running"),
        **_END_BY_FATE,
    },
    "PENDING": {
        "start": Target("RUNNING", "Running"),
        "release": Target("SCHEDULED", "Scheduled"),
        "begin_cancel": Target("CANCELLING", "Cancelling"),
        "cancel": _CANCELLED,
        "fail": _END_BY_CODE["fail"],
        **_END_BY_FATE,
    },
    "RUNNING": {
        "begin_pause": Target("RUNNING", "Pausing"),
        "pause": Target("PAUSED", "Paused"),
        "await_input": _AWAITING_INPUT,
        "suspend": _SUSPENDED,
        # Its process leaves: it goes on by replay at the time it sleeps until.
        "sleep": Target("SCHEDULED", "Scheduled"),
        "resume": Target("RUNNING", "Running"),
        "freeze": Target("RUNNING", "Frozen"),
        "thaw": Target("RUNNING", "Running"),
        "await_retry": Target("SCHEDULED", "AwaitingRetry"),
        "begin_cancel": Target("CANCELLING", "Cancelling"),
        "cancel": _CANCELLED,
        **_END_BY_CODE,
        **_END_BY_FATE,
    },
    # May hold a process (which ends or resumes it) or none (then a resume queues it again).
    "PAUSED": {
        "resume": Target("RUNNING", "Running"),
        "requeue": Target("SCHEDULED", "Resuming"),
        # What it waits for has changed.
        "pause": Target("PAUSED", "Paused"),
        "await_input": _AWAITING_INPUT,
        "suspend": _SUSPENDED,
        "begin_cancel": Target("CANCELLING", "Cancelling"),
        "cancel": _CANCELLED,
        "fail": _END_BY_CODE["fail"],
        **_END_BY_FATE,
    },
    # However its processes end now, the run was cancelled.
    "CANCELLING": {"cancel": _CANCELLED},
    "CANCELLED": _RETRY,
    "COMPLETED": _RETRY,
    "FAILED": _RETRY,
    "CRASHED": {"resume_crashed": Target("SCHEDULED", "Resuming"), **_RETRY},
}
"""State type → event → state, for flow runs."""

_BY_PERSON: Final[dict[str, Target]] = {
    "mark_completed": Target("COMPLETED", "Completed"),
    "mark_skipped": Target("COMPLETED", "Skipped"),
}
"""A person decides for a call that does not run: with a result given by hand, or none."""

TASK_TABLE: Final[dict[str, dict[str, Target]]] = {
    "PENDING": {
        "await_slot": Target("SCHEDULED", "AwaitingSlot"),
        "start": Target("RUNNING", "Running"),
        # A later process of the run goes on with a call whose attempts have begun before.
        "retry_now": Target("RUNNING", "Retrying"),
        "await_retry": Target("SCHEDULED", "AwaitingRetry"),
        "use_cached": Target("COMPLETED", "Cached"),
        "not_ready": Target("PENDING", "NotReady"),
        "trigger_fail": Target("FAILED", "TriggerFailed"),
        "skip": Target("CANCELLED", "Skipped"),
        "fail": _END_BY_CODE["fail"],
        "cancel": _CANCELLED,
        "crash": _END_BY_FATE["crash"],
        # NotReady has ended; the run's next attempt makes it new.
        **_BY_PERSON,
        "run_again": Target("PENDING", "Pending"),
    },
    "RUNNING": {
        "retry_now": Target("RUNNING", "Retrying"),
        # It asked to run again with what it gave.
        "loop": Target("RUNNING", "Looped"),
        "await_retry": Target("SCHEDULED", "AwaitingRetry"),
        "hold": Target("PAUSED", "Paused"),
        "cancel": _CANCELLED,
        "skip": Target("CANCELLED", "Skipped"),
        "crash": _END_BY_FATE["crash"],
        "not_ready": Target("PENDING", "NotReady"),
        "run_again": Target("PENDING", "Pending"),
        **_END_BY_CODE,
    },
    # Waits for a slot of a limit, or for its next attempt, which may come to wait for a slot, too.
    "SCHEDULED": {
        "await_slot": Target("SCHEDULED", "AwaitingSlot"),
        "start": Target("RUNNING", "Running"),
        "retry_now": Target("RUNNING", "Retrying"),
        "skip": Target("CANCELLED", "Skipped"),
        "cancel": _CANCELLED,
        "crash": _END_BY_FATE["crash"],
        "fail": _END_BY_CODE["fail"],
        **_BY_PERSON,
        "run_again": Target("PENDING", "Pending"),
    },
    # Its retries have run out and a person is to say what happens.
    "PAUSED": {
        "retry_now": Target("RUNNING", "Retrying"),
        "cancel": _CANCELLED,
        "skip": Target("CANCELLED", "Skipped"),
        "crash": _END_BY_FATE["crash"],
        "fail": _END_BY_CODE["fail"],
        **_BY_PERSON,
        "run_again": Target("PENDING", "Pending"),
    },
    "COMPLETED": {
        "roll_back": Target("COMPLETED", "RolledBack"),
        "run_again": Target("PENDING", "Pending"),
        **_BY_PERSON,
    },
    "FAILED": {"run_again": Target("PENDING", "Pending"), **_BY_PERSON},
    "CANCELLED": {"run_again": Target("PENDING", "Pending"), **_BY_PERSON},
    "CRASHED": {"run_again": Target("PENDING", "Pending"), **_BY_PERSON},
}
"""State type → event → state, for task runs. ``run_again``: the run's next attempt reaches, or is to reach, it anew."""


def next_run_state(state_type: str, event: str) -> Target:
    """The state a flow run goes to; raises ``NotAllowed`` naming both when the table has no such pair."""
    return _look_up(RUN_TABLE, "run", state_type, event)


def next_task_state(state_type: str, event: str) -> Target:
    """The state a task run goes to; raises ``NotAllowed`` naming both when the table has no such pair."""
    try:
        return TASK_TABLE[state_type][event]
    except KeyError:
        return _look_up(TASK_TABLE, "task run", state_type, event)


def _look_up(table: dict[str, dict[str, Target]], what: str, state_type: str, event: str) -> Target:
    try:
        return table[state_type][event]
    except KeyError:
        raise NotAllowed(f"a {what} that is {state_type} cannot {event.replace('_', ' ')}") from None
