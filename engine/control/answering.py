"""Answers and messages from outside a run, and what becomes of a held run that has no process.

Called within ``Control``'s transactions and the daemon's: nothing here needs the run's code. An answer is checked
against the JSON schema of what was asked; the code's own validators see it when the run goes on.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from ...store.connection import Connection, transaction
from ...store.rows import InputRow, RunRow
from ...store.states import is_terminal
from ...store.tables import events, inputs, runs, supervision
from ..errors import InputError
from ..secrets.secret import refuse_values
from ..states.machine import RunEvent
from ..states.transitions import move_run, move_task
from ..system.clock import now_us
from .questions import EXPIRED, expire, first_question, words_of


class Held(NamedTuple):
    """How a held run without a process is to be shown."""

    event: RunEvent
    cause: str


def answer(conn: Connection, run: RunRow, run_input: Any, actor: str) -> InputRow | None:
    """Answer what the run asks; returns the next question when one is left, else None.

    A resume without input answers every question that wants none. ``InputError`` names what is wrong with the input.
    """
    asked = inputs.open_requests(conn, run.id)
    wanting = [request for request in asked if request.json_schema is not None]
    if not wanting and run_input is not None:
        raise InputError(f"run #{run.id} asks for no input; resume it without")
    at_us = now_us()
    if wanting:
        value = check(run.id, wanting[0], run_input)
        _respond(conn, wanting[0], value, actor, at_us)
    for request in asked:
        if request.json_schema is None:
            _respond(conn, request, None, actor, at_us)
    return first_question(wanting[1:])


def check(run_id: int, request: InputRow, run_input: Any) -> Any:
    """The input as it is stored; ``InputError`` in words when it does not fit what was asked."""
    from ..encoding.json_schema import describe_fields, problems, secret_texts

    schema: dict[str, Any] = json.loads(request.json_schema or "{}")
    names = list(schema.get("properties", {}))
    if run_input is None:
        run_input = {}
    elif names == ["value"] and not (isinstance(run_input, dict) and set(run_input) == {"value"}):
        run_input = {"value": run_input}
    wrong = problems(run_input, schema)
    if wrong:
        said = "; ".join(f"{place}: {text}" if place else text for place, text in wrong[:5])
        raise InputError(
            f"run #{run_id} is {words_of(request)}; the input was refused: {said}. "
            f"It wants {describe_fields(schema)}: `flowdeck resume {run_id} -i NAME=VALUE`"
        )
    for place, text in secret_texts(run_input, schema):
        if not text.startswith("secret:"):
            raise InputError(
                f"run #{run_id}: {place} is a secret, and a value would have to be stored: put it into "
                f"FLOWDECK_SECRET_… of the run's process or a file of its user, and give its name, {place}=secret:NAME"
            )
    refuse_values(f"the answer to run #{run_id}", json.dumps(run_input, ensure_ascii=False))
    return run_input


def _respond(conn: Connection, request: InputRow, value: Any, actor: str, at_us: int) -> None:
    text = None if request.json_schema is None else json.dumps(value, ensure_ascii=False)
    inputs.insert(conn, request.run_id, request.key, "response", sender=actor, at_us=at_us, value=text)
    if text is not None:
        # The value itself may be private: it stands in its table, not in the audit log.
        events.append(conn, at_us=at_us, kind="input", actor=actor, run_id=request.run_id,
                      message=f"answered: {words_of(request).removeprefix('awaiting input: ')}")


def held(conn: Connection, run: RunRow, fallback: RunEvent, cause: str) -> Held:
    """The state of a run that is held although its process is gone: what it asks comes before how that ended."""
    first = first_question(inputs.open_requests(conn, run.id))
    if first is not None and first.json_schema is not None:
        return Held("await_input", f"{words_of(first)}; {cause}")
    return Held(fallback, cause)


def until_us(conn: Connection, root_id: int) -> int | None:
    """When the first of its open questions is over; None when they wait for ever."""
    times = [request.until_us for request in inputs.open_requests(conn, root_id) if request.until_us is not None]
    return min(times, default=None)


def end_overdue(state: Connection, at_us: int) -> list[int]:
    """Runs without a process whose time to be answered is over go on, so that their code hears of it."""
    if not (found := inputs.overdue(state, at_us)):
        return []
    gone_on = []
    with transaction(state):
        for run_id in found:
            run = runs.get(state, run_id)
            if run is not None and run.state_type == "PAUSED" and expire_overdue(state, run, at_us):
                gone_on.append(run_id)
    return gone_on


def expire_overdue(conn: Connection, run: RunRow, at_us: int) -> bool:
    """Time answers the questions of a run without a process that are over; it is queued when none is left."""
    over = [request for request in inputs.open_requests(conn, run.id)
            if request.until_us is not None and request.until_us <= at_us]
    free = False
    for request in over:
        free = expire(conn, run.id, request)
    if not over:
        return False
    move_run(
        conn, run, "requeue" if free else "await_input", at_us=at_us, actor="engine", intent="none", cause=EXPIRED,
        wake_at_us=at_us if free else until_us(conn, run.id),
    )
    return True


def cancel_parts(conn: Connection, run: RunRow, at_us: int, actor: str) -> None:
    """A run without a process was cancelled: so are its subflows and tasks that wait to go on."""
    cause = f"its run #{run.id} was cancelled"
    for part in [*reversed(runs.of_root(conn, run.id)), run]:
        for task in supervision.live_tasks(conn, part.id):
            move_task(
                conn, task, "cancel", run_attempt=max(task.run_attempt, part.attempt), at_us=at_us, actor=actor,
                cause=cause,
            )
        if part.id != run.id and not is_terminal(part.state_type):
            move_run(conn, part, "cancel", at_us=at_us, actor=actor, intent="none", cause=cause)
