"""What earlier attempts of a run recorded, as replay looks it up: which calls, how they ended, what they came to.

In memory is only which calls there are: eight bytes each. Their rows, with results that stand in them, are read when
they are asked for, some hundred at a time while the calls come in the order in which they were recorded. A call that is
made anew is kept as it was found, because its row changes from then on.
"""

from __future__ import annotations

import threading
from array import array
from typing import TYPE_CHECKING, NamedTuple

from ....store.tables import tasks

if TYPE_CHECKING:
    from ....store.rows import ResultRow, TaskRow
    from ..run_process.session import Session

_FIRST_READ = 4
_LONGEST_READ = 256
_NEAR = 16
"""A call so little after the end of a read is one of a sequence: more are read at once."""
_READS_KEPT = 8
"""Threads come to the calls in sequences of their own: a map where it submits them, the pool where they begin."""


class Recorded(NamedTuple):
    """One recorded call, and its result if that stands in its row."""

    row: TaskRow
    result: ResultRow | None


class _Read(NamedTuple):
    """Calls that were read together: how many were asked for, and the first after them."""

    rows: dict[int, Recorded]
    size: int
    until: int


class Journal:
    """The recorded calls of one run; safe from any thread."""

    def __init__(self, session: Session, run_id: int) -> None:
        self._session = session
        self._run_id = run_id
        self._lock = threading.Lock()
        self._seqs: dict[tuple[int, str], array[int]] = {}
        """By calling task and key: the number of each call in its order, 0 where none was recorded."""
        self._reads: list[_Read] = []
        """The last ones, the latest first."""
        self._as_found: dict[int, Recorded] = {}
        """Calls that were made anew."""

    def load(self) -> int:
        """Find out which calls there are; returns the highest number among them."""
        highest = 0
        for seq, scope_seq, key, call_index in self._session.read(lambda conn: tasks.identities(conn, self._run_id)):
            self._note(seq, scope_seq, key, call_index)
            highest = max(highest, seq)
        return highest

    def reopen(self, scope_seq: int) -> None:
        """A task is tried again: what it called so far is recorded now, and counts as it stands."""
        found = self._session.read(lambda conn: tasks.identities(conn, self._run_id, scope_seq))
        with self._lock:
            for seq, _, key, call_index in found:
                self._note(seq, scope_seq, key, call_index)
                self._as_found.pop(seq, None)
            self._reads.clear()

    @property
    def is_empty(self) -> bool:
        """Whether no call is recorded."""
        return not self._seqs

    def seq(self, scope_seq: int, key: str, call_index: int) -> int | None:
        """The number of this call; None when no earlier attempt made it."""
        found = self._seqs.get((scope_seq, key))
        return (found[call_index] or None) if found is not None and call_index < len(found) else None

    def get(self, seq: int) -> Recorded | None:
        """What stands recorded of this call."""
        with self._lock:
            if (found := self._as_found.get(seq)) is not None:
                return found
            for read in self._reads:
                if (found := read.rows.get(seq)) is not None:
                    return found
            return self._look_up(seq)

    def keep(self, recorded: Recorded) -> None:
        """The call is made anew: later questions are about what is known of it now, whatever becomes of its row."""
        row = recorded.row
        with self._lock:
            self._as_found[row.seq] = recorded if row.state_type != "COMPLETED" else Recorded(row, None)

    def _note(self, seq: int, scope_seq: int, key: str, call_index: int) -> None:
        calls = self._seqs.get((scope_seq, key))
        if calls is None:
            calls = self._seqs[scope_seq, key] = array("q")
        if call_index >= len(calls):
            calls.extend([0] * (call_index + 1 - len(calls)))
        calls[call_index] = seq

    def _look_up(self, seq: int) -> Recorded | None:
        """All that is asked for was committed before the journal was loaded: nothing has to be waited for."""
        before = next((read for read in self._reads if 0 <= seq - read.until <= _NEAR), None)
        size = min(_LONGEST_READ, 4 * before.size) if before is not None else _FIRST_READ
        found = self._session.peek(lambda conn: tasks.with_results(conn, self._run_id, seq, size))
        rows = {row.seq: Recorded(row, result) for row, result in found}
        self._reads.insert(0, _Read(rows, size, max(rows, default=seq) + 1))
        del self._reads[_READS_KEPT:]
        return rows.get(seq)
