"""What those who wait for slots say in the rows of their tasks and runs: for which, at which place, held by whom."""

from __future__ import annotations

from typing import Final

from ....store.connection import Connection
from ....store.errors import StaleState
from ....store.rows import LimitRow
from ....store.tables import limits, tasks
from ...states.machine import next_task_state
from ...states.transitions import move_task
from ...system.clock import now_us
from .requests import Ask

FIRST_WORDS_SECONDS: Final = 0.05
"""Who waits no longer than this has nothing to say."""
_MOST_WORDS: Final = 500
"""So many newcomers are told their place at once."""
_FOLLOWED: Final = 20
"""So many of the first in line are told of each step."""


def news(connection: Connection, waiting: list[Ask], now: float) -> tuple[list[tuple[Ask, str]], bool]:
    """Who is to be told what: the first of the line of each step, the others of their place when they joined.

    And whether that is all; False when some have only just come, or are too many for one time.
    """
    fresh = [ask for ask in waiting if not ask.words and now - ask.asked_at > FIRST_WORDS_SECONDS]
    told: list[tuple[Ask, str]] = []
    lines: dict[str, _Line] = {}
    for ask in [ask for ask in waiting[:_FOLLOWED] if ask.words] + fresh[:_MOST_WORDS]:
        for name in ask.names:
            if name not in lines:
                lines[name] = _Line(name, limits.queue(connection, name), limits.get(connection, name))
        words = max((lines[name] for name in ask.names), key=lambda line: line.place(ask)).words(ask)
        if words and words != ask.words:
            told.append((ask, words))
    newest_told = all(ask.words or now - ask.asked_at > FIRST_WORDS_SECONDS for ask in waiting[-1:])
    return told, bool(waiting) and len(fresh) <= _MOST_WORDS and newest_told


def tell(conn: Connection, told: list[tuple[Ask, str]]) -> None:
    """Write it into the rows of those who still wait."""
    for ask, words in told:
        if not ask.done():
            ask.noted = _note(conn, ask, words) or ask.noted
            if ask.noted or ask.who[0] is None:
                ask.words = words


class _Line:
    """Who waits for one limit, for words."""

    def __init__(self, name: str, queue: limits.Queue, limit: LimitRow | None) -> None:
        self._name = name
        self._queue = queue
        self._limit = limit
        self._places = {row.ask_id: place for place, row in enumerate(queue.waiting, 1)}

    def place(self, ask: Ask) -> int:
        """From 1; 0 when it waits here no more."""
        return self._places.get(ask.ask_id, 0)

    def words(self, ask: Ask) -> str:
        """Empty when it waits here no more."""
        place = self.place(ask)
        return limits.waits_in_words(self._name, self._queue, self._limit, place) if place else ""


def _note(conn: Connection, ask: Ask, words: str) -> bool:
    """In the row of the task that has not begun, or of the code that waits; says whether there is such a row."""
    run_id, task_seq, _ = ask.who
    call, at_us = ask.call, now_us()
    if run_id is None:
        return False
    if call is None or task_seq is None:
        return limits.note_wait(conn, run_id, task_seq, words, at_us=at_us)
    found = tasks.get(conn, run_id, task_seq)
    target = next_task_state("PENDING", "await_slot")
    try:
        if found is None and call.future is None:
            tasks.begin(conn, call.row()._replace(state_type=target[0], state_name=target[1], cause=words), at_us,
                        "engine", message=words)
        elif found is not None and (found.state_type, found.state_name) in (("PENDING", "Pending"), tuple(target),
                                                                            ("SCHEDULED", "AwaitingRetry")):
            move_task(conn, found, "await_slot", run_attempt=call.run.attempt, at_us=at_us, actor="engine", cause=words)
        else:
            return False
    except StaleState:
        return False  # a newer attempt of the run has it; this process hears of that in its own way
    return True
