"""What earlier attempts of a run recorded, as replay looks it up: which calls, how they ended, what they came to.

A recorded call is known again by what it is a call of and by what it was given. Of equal ones, and of those that were
recorded without their inputs, it is the one in the same place among the calls of its scope, else the first that nobody
has. Whoever takes one has it alone.

In memory is only which calls there are: eight bytes each, and a hash of their inputs once some come in another order.
Their rows, with results that stand in them, are read when they are asked for, some hundred at a time while the calls
come in the order in which they were recorded. A call that is made anew is kept as it was found, because its row changes
from then on.
"""

from __future__ import annotations

import threading
from array import array
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ....store.tables import tasks

if TYPE_CHECKING:
    from ....store.rows import ResultRow, TaskRow
    from ...encoding.fingerprint import Inputs
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


class Found(NamedTuple):
    """The number that a call has for good, and what is recorded of it."""

    seq: int
    call_index: int
    recorded: Recorded | None
    """None: no earlier attempt made this call."""
    before: Recorded | None = None
    """Of a call that none made: what was recorded in its place, of other inputs."""
    came_from: int | None = None
    """The scope in which it was recorded, if that is another one."""


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
        self._taken = bytearray()
        """By number: whether a call of this attempt has this record."""
        self._by_inputs: dict[tuple[int, str, int], list[int]] | None = None
        """The numbers of the calls of a scope, a key and a hash of inputs (0: recorded without), the latest first."""
        self._by_key: dict[tuple[str, int], list[int]] | None = None
        """As that, of any scope."""
        self._stand_ins: dict[int, tuple[int, str]] = {}
        """Calls in whose place one of other inputs was recorded, with their scope and key: what such a one called may
        be what these call."""

    def load(self) -> int:
        """Find out which calls there are; returns the highest number among them."""
        highest = 0
        for seq, scope_seq, key, call_index in self._session.read(lambda conn: tasks.identities(conn, self._run_id)):
            self._note(seq, scope_seq, key, call_index)
            highest = max(highest, seq)
        self._taken = bytearray(highest + 1)
        return highest

    def reopen(self, scope_seq: int) -> None:
        """A task is tried again: what it called so far is recorded now, and counts as it stands."""
        found = self._session.read(lambda conn: tasks.identities(conn, self._run_id, scope_seq))
        with self._lock:
            for seq, _, key, call_index in found:
                self._note(seq, scope_seq, key, call_index)
                self._as_found.pop(seq, None)
                self._let_go(seq)
            self._reads.clear()
            self._by_inputs = self._by_key = None

    @property
    def is_empty(self) -> bool:
        """Whether no call is recorded."""
        return not self._seqs

    def has_calls(self, scope_seq: int, key: str) -> bool:
        """Whether calls of this key are recorded that such a call of this scope may be."""
        return (scope_seq, key) in self._seqs or scope_seq in self._stand_ins

    def seq(self, scope_seq: int, key: str, call_index: int) -> int | None:
        """The number of the call that was recorded in this place; None when none was."""
        found = self._seqs.get((scope_seq, key))
        return (found[call_index] or None) if found is not None and call_index < len(found) else None

    def take(
        self, scope_seq: int, key: str, call_index: int, inputs: Inputs | None, *, new_seq: Callable[[], int],
        may_become: Callable[[TaskRow], bool],
    ) -> Found:
        """The record of a call with these inputs (None: they will not be known, and its place alone says which it is).

        ``may_become`` says of what was recorded in its place whether it may become that of other inputs.
        """
        with self._lock:
            own = self.seq(scope_seq, key, call_index)
            at_place = self._get(own) if own is not None and not self._is_taken(own) else None
            if inputs is None or (at_place is not None and at_place.row.inputs_hash == inputs.text):
                found = at_place
            else:
                found = self._search(scope_seq, key, inputs, at_place)
                if found is None and at_place is not None and may_become(at_place.row):
                    found = at_place
            if found is not None:
                return self._took(found, scope_seq)
            seq, index = new_seq(), self._free_index(scope_seq, key, call_index)
            self._note(seq, scope_seq, key, index)
            self._take(seq)
            if at_place is not None:
                self._stand_ins[seq] = scope_seq, key
            return Found(seq, index, None, at_place)

    def get(self, seq: int) -> Recorded | None:
        """What stands recorded of this call."""
        with self._lock:
            return self._get(seq)

    def keep(self, recorded: Recorded) -> None:
        """The call is made anew: later questions are about what is known of it now, whatever becomes of its row."""
        row = recorded.row
        with self._lock:
            self._as_found[row.seq] = recorded if row.state_type != "COMPLETED" else Recorded(row, None)

    def _equal(self, scope_seq: int, key: str, text: str | None) -> Recorded | None:
        """The first record of these inputs, or of none, that nobody has; a finished one before others."""
        table = self._by_inputs
        if table is None:
            table = self._by_inputs = defaultdict(list)
            found = self._session.peek(lambda conn: tasks.identities_with_inputs(conn, self._run_id))
            for seq, scope, name, inputs_hash, _ in sorted(found, key=lambda row: (row[4], -row[0])):
                table[scope, name, hash(inputs_hash) if inputs_hash is not None else 0].append(seq)
        seqs = table.get((scope_seq, key, hash(text) if text is not None else 0), [])
        while seqs:
            seq = seqs.pop()
            found_there = None if self._is_taken(seq) else self._get(seq)
            if found_there is not None and found_there.row.inputs_hash == text and (
                text is not None or found_there.row.state_type != "COMPLETED"  # a person said how that one ended
            ):
                return found_there
        return None

    def _search(self, scope_seq: int, key: str, inputs: Inputs, at_place: Recorded | None) -> Recorded | None:
        """A record of these inputs: in the same words, in its place, in other words, in the scope that this one stands
        in for; or one that has not begun, whose inputs were not known."""
        found = self._equal(scope_seq, key, inputs.text)
        if found is not None:
            return found
        if at_place is not None and (at_place.row.inputs_hash is None or inputs.may_be(at_place.row.inputs_hash)):
            return at_place
        for text in inputs.others():
            if (found := self._equal(scope_seq, key, text)) is not None:
                return found
        if scope_seq in self._stand_ins:
            for text in (inputs.text, *inputs.others()):
                if (found := self._equal_elsewhere(scope_seq, key, text)) is not None:
                    return found
        return self._equal(scope_seq, key, None)

    def _equal_elsewhere(self, scope_seq: int, key: str, text: str) -> Recorded | None:
        """One that was called by another call of the same task in the same scope, which nobody has."""
        if self._by_key is None:
            self._by_key = defaultdict(list)
            for (_, name, inputs_hash), seqs in (self._by_inputs or {}).items():
                self._by_key[name, inputs_hash].extend(seqs)
        for seq in self._by_key.get((key, hash(text)), ()):
            found = None if self._is_taken(seq) else self._get(seq)
            if found is None or found.row.inputs_hash != text or self._is_taken(found.row.scope_seq):
                continue
            other = self._get(found.row.scope_seq)
            if other is not None and (other.row.scope_seq, other.row.key) == self._stand_ins[scope_seq]:
                return found
        return None

    def _took(self, found: Recorded, scope_seq: int) -> Found:
        row = found.row
        self._take(row.seq)
        if scope_seq == row.scope_seq:
            return Found(row.seq, row.call_index, found)
        index = self._free_index(scope_seq, row.key, 0)
        self._note(row.seq, scope_seq, row.key, index)
        moved = Recorded(row._replace(scope_seq=scope_seq, call_index=index), found.result)
        self._as_found[row.seq] = moved
        return Found(row.seq, index, moved, came_from=row.scope_seq)

    def _free_index(self, scope_seq: int, key: str, wanted: int) -> int:
        """The call index of a new call: its place, unless a recorded one has that."""
        known = self._seqs.get((scope_seq, key))
        return wanted if known is None or wanted >= len(known) or not known[wanted] else len(known)

    def _take(self, seq: int) -> None:
        if seq >= len(self._taken):
            self._taken.extend(bytes(seq + 1 - len(self._taken)))
        self._taken[seq] = 1

    def _let_go(self, seq: int) -> None:
        self._take(seq)
        self._taken[seq] = 0

    def _is_taken(self, seq: int) -> bool:
        return seq < len(self._taken) and self._taken[seq] == 1

    def _get(self, seq: int) -> Recorded | None:
        if (found := self._as_found.get(seq)) is not None:
            return found
        for read in self._reads:
            if (found := read.rows.get(seq)) is not None:
                return found
        return self._look_up(seq)

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
