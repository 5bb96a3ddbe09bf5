"""What earlier attempts of a run recorded, as replay looks it up: which calls, how they ended, what they came to.

In memory is only which calls there are: eight bytes each. Their rows, with results that stand in them, are read when
they are asked for, some hundred at a time while the calls come in the order in which they were recorded. A call that is
made anew is kept as it was found, because its row changes from then on.
"""

from __future__ import annotations

import threading
from array import array
from typing import TYPE_CHECKING, NamedTuple

from ..store import tasks

if TYPE_CHECKING:
    from ..store.rows import ResultRow, TaskRow
    from .session import Session

_FIRST_READ = 4
_LONGEST_READ = 256
_NEAR = 16
"""A call so little after the last read is one of a sequence: more are read at once."""


class Recorded(NamedTuple):
    """One recorded call, and its result if that stands in its row."""

    row: TaskRow
    result: ResultRow | None


class Journal:
    """The recorded calls of one run; safe from any thread."""

    def __init__(self, session: Session, run_id: int) -> None:
        self._session = session
        self._run_id = run_id
        self._lock = threading.Lock()
        self._seqs: dict[tuple[int, str], array[int]] = {}
        """By calling task and key: the number of each call in its order, 0 where none was recorded."""
        self._read: dict[int, Recorded] = {}
        """The rows of the last read."""
        self._read_until = 0
        self._read_size = _FIRST_READ
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
            self._read.clear()

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
            return self._as_found.get(seq) or self._read.get(seq) or self._look_up(seq)

    def keep(self, recorded: Recorded) -> None:
        """The call is made anew: later questions are about what is known of it now."""
        with self._lock:
            self._as_found[recorded.row.seq] = recorded

    def _note(self, seq: int, scope_seq: int, key: str, call_index: int) -> None:
        calls = self._seqs.get((scope_seq, key))
        if calls is None:
            calls = self._seqs[scope_seq, key] = array("q")
        if call_index >= len(calls):
            calls.extend([0] * (call_index + 1 - len(calls)))
        calls[call_index] = seq

    def _look_up(self, seq: int) -> Recorded | None:
        """All that is asked for was committed before the journal was loaded: nothing has to be waited for."""
        in_sequence = 0 <= seq - self._read_until <= _NEAR
        self._read_size = min(_LONGEST_READ, 4 * self._read_size) if in_sequence else _FIRST_READ
        size = self._read_size

        found = self._session.peek(lambda conn: tasks.with_results(conn, self._run_id, seq, size))
        self._read = {row.seq: Recorded(row, result) for row, result in found}
        self._read_until = max(self._read, default=seq) + 1
        return self._read.get(seq)
