"""What a person decided for a call that does not run: it counts as completed with a value given by hand, or as skipped.

Written by ``control`` where no process of the run could be running the call, else by its process, which hears of it
as of any request to a node. Such a call has no inputs' fingerprint: it fits any.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from ...store.connection import Connection
from ...store.rows import ResultRow, TaskRow
from ...store.tables import results, tasks
from ..encoding import codec
from ..states.machine import TaskEvent, next_task_state
from ..states.state import State
from ..states.transitions import move_task
from ..system.clock import now_us

EVENTS: Final[dict[str, TaskEvent]] = {"completed": "mark_completed", "skipped": "mark_skipped"}


class Decision(NamedTuple):
    """One decision for one call."""

    word: str
    """``completed`` or ``skipped``."""
    value: Any
    actor: str

    @property
    def event(self) -> TaskEvent:
        """What the state machine calls it."""
        return EVENTS[self.word]

    @property
    def cause(self) -> str:
        """Who decided, in words."""
        return f"marked {self.word} by {self.actor}"

    def state(self) -> State:
        """What the code that called it gets."""
        return State(*next_task_state("FAILED", self.event), self.cause, data=self.value)

    def write(self, connection: Connection, row: TaskRow, run_attempt: int) -> None:
        """Record it, from whatever state the row has."""
        move_task(
            connection, row, self.event, run_attempt=max(row.run_attempt, run_attempt), at_us=now_us(),
            actor=self.actor, cause=self.cause,
        )
        tasks.forget_inputs(connection, row.run_id, row.seq)
        kept = codec.encode(self.value)
        size = len(kept.data or b"")
        results.put(
            connection, ResultRow(row.run_id, row.seq, kept.codec, kept.checksum, size, kept.data, None, kept.preview)
        )
