"""The one place that moves a row: the event is looked up in the table, the row and its event are written together.

``move_run`` and ``move_task`` move the row that was read, by compare-and-set: ``NotAllowed`` where the table has no
such pair, ``StaleState`` where the row has moved since. A live record of a run's process moves at once and has its row
follow in order: it looks the event up itself, and ``record_run_move`` and ``record_task_move`` are the writes of that.
All expect an open write transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypedDict, Unpack

from ...store.connection import Connection
from ...store.rows import RunRow, TaskRow
from ...store.tables import journals, runs, tasks
from .machine import RunEvent, Target, TaskEvent, next_run_state, next_task_state


class Details(TypedDict, total=False):
    """What any move may say besides; left out, ``cause`` and ``wake_at_us`` are cleared."""

    cause: str | None
    message: str | None
    """Of the event, where it says more than the cause."""
    wake_at_us: int | None
    started: bool
    data: Mapping[str, Any] | str | None


class RunDetails(Details, total=False):
    """What a move of a run may say."""

    new_attempt: int | None
    ended_duration_us: int | None
    """Added to the run's duration."""
    intent: str | None
    crash_count: int | None


class TaskDetails(Details, total=False):
    """What a move of a task may say."""

    attempt: int | None
    duration_us: int | None


def move_run(
    connection: Connection, run: RunRow, event: RunEvent, *, at_us: int, actor: str, **more: Unpack[RunDetails]
) -> RunRow:
    """Move a run; returns it as it is then, but for its times."""
    to = next_run_state(run.state_type, event)
    runs.transition(
        connection, run.id, attempt=run.attempt, from_=(run.state_type, run.state_name), to=to, at_us=at_us,
        actor=actor, **more,
    )
    return run._replace(
        state_type=to.state_type, state_name=to.state_name, attempt=more.get("new_attempt") or run.attempt,
        cause=more.get("cause"), wake_at_us=more.get("wake_at_us"), intent=more.get("intent") or run.intent,
    )


def move_task(
    connection: Connection, task: TaskRow, event: TaskEvent, *, run_attempt: int, at_us: int, actor: str,
    **more: Unpack[TaskDetails],
) -> Target:
    """Move a task run, written by that attempt of its run; returns the state it is in then."""
    to = next_task_state(task.state_type, event)
    tasks.transition(
        connection, task.run_id, task.seq, run_attempt=run_attempt, from_=(task.state_type, task.state_name), to=to,
        at_us=at_us, actor=actor, **more,
    )
    return to


def record_run_move(
    connection: Connection, run_id: int, *, attempt: int, from_type: str, to: tuple[str, str], at_us: int, actor: str,
    **more: Unpack[RunDetails],
) -> None:
    """Write down what a live run did by the table; its name in the state before may have changed meanwhile."""
    runs.transition(
        connection, run_id, attempt=attempt, from_type=from_type, to=to, at_us=at_us, actor=actor, **more
    )


def record_task_move(
    connection: Connection, run_id: int, seq: int, *, run_attempt: int, from_: tuple[str, str], to: tuple[str, str],
    at_us: int, actor: str, **more: Unpack[TaskDetails],
) -> None:
    """Write down what a live call did by the table."""
    tasks.transition(
        connection, run_id, seq, run_attempt=run_attempt, from_=from_, to=to, at_us=at_us, actor=actor, **more
    )


def retell_run(connection: Connection, run: RunRow, cause: str, *, at_us: int, actor: str) -> None:
    """A run stays in its state; what is said of it there changes."""
    state = (run.state_type, run.state_name)
    runs.transition(
        connection, run.id, attempt=run.attempt, from_=state, to=state, at_us=at_us, actor=actor, cause=cause
    )


def retell_task(connection: Connection, task: TaskRow, cause: str, *, at_us: int, actor: str) -> None:
    """A task run stays in its state; what is said of it there changes."""
    state = (task.state_type, task.state_name)
    tasks.transition(
        connection, task.run_id, task.seq, run_attempt=task.run_attempt, from_=state, to=state, at_us=at_us,
        actor=actor, cause=cause,
    )


def claim_these(connection: Connection, run_ids: Collection[int], at_us: int, actor: str) -> list[RunRow]:
    """Move root runs that were found to be due; those that moved on meanwhile, or were asked something, stay."""
    return runs.claim_these(connection, run_ids, at_us, actor, to=next_run_state("SCHEDULED", "claim"))


def run_again(
    connection: Connection, run_id: int, first: int, last: int, *, run_attempt: int, at_us: int, actor: str, cause: str,
    below_attempt: int | None = None,
) -> None:
    """Calls from one number to another, as far as they completed, are to run again: many at a time, an event each."""
    journals.give_up(
        connection, run_id, first, last, next_task_state("COMPLETED", "run_again"), run_attempt=run_attempt,
        at_us=at_us, actor=actor, cause=cause, below_attempt=below_attempt,
    )
