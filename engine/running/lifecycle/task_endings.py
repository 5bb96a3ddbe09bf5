"""The write that ends a task call, its result and its use of the cache included: one transaction, made here, run later.

Making it moves the call by the table of states and pickles its result; a result that is a file is durable by then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from resource import RUSAGE_SELF, getrusage
from typing import TYPE_CHECKING, Any

from ....store.tables import edges, results, tasks
from ...encoding import codec
from ...secrets import masking
from ...states.machine import next_task_state
from ...system.clock import now_us
from ..calls.frame import current_transaction
from ..calls.task_call import Beginning, TaskCall

if TYPE_CHECKING:
    from ....store.connection import Connection
    from ....store.rows import ResultRow, StagedRow, TaskRow
    from ...authoring.transaction import Transaction
    from ...states.state import State
    from ..slots.requests import Ask

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
_FRESH_US = 1000
_peak = (0, 0)
"""Until when, in nanoseconds, the peak of memory last asked for is fresh, and that peak."""


def end_operation(
    call: TaskCall, event: str, state: State, duration_us: int | None, cpu_us: int | None
) -> Callable[[Any], None]:
    """The write that ends the call: rows, events, edges and the journalled result in one transaction."""
    beginning = call.beginning or Beginning(call, call.created_at_us)
    call.attempt = call.attempt or 1
    _, to = call.move(event)
    if state.type == to[0]:
        call.state_name = state.name
    keeps = event == "complete" and call.task.persist_result and not call.is_partial
    stored = _store(call, state.data) if keeps else None
    at_us = now_us()
    peak_rss_bytes = _peak_rss_bytes(duration_us) if duration_us is not None else None
    if call.usage is not None:
        peak_rss_bytes = call.usage.peak_rss_bytes
    ended = call.row(
        (call.state_type, call.state_name), state.message, call.attempt, at_us, duration_us, cpu_us, peak_rss_bytes
    )
    upstream, slots = call.upstream, call.slots
    if slots is not None:
        slots.is_given_back = True
    call.beginning = None
    block = current_transaction.get()
    stage = _staging(call, block) if event == "complete" and block is not None else None
    end_cache = _end_of_cache_use(call, stored) if call.cache is not None else None

    in_row = None
    if stored is not None and results.stands_in_row(stored):
        in_row = (stored.codec, stored.checksum, stored.data, stored.preview)
    # Called in place and new: it has no row yet unless it outlived a tick.
    is_new = call.future is None and not call.is_replay and (stored is None or in_row is not None)

    return _Ending(beginning, ended, stored, in_row, is_new, upstream, slots, end_cache, stage)


def _peak_rss_bytes(duration_us: int) -> int:
    """The process's peak so far; in a row of short calls one that is a millisecond old at the most."""
    global _peak
    at_ns = time.perf_counter_ns()
    if duration_us >= _FRESH_US or at_ns >= _peak[0]:
        _peak = (at_ns + _FRESH_US * 1000, getrusage(RUSAGE_SELF).ru_maxrss * _RSS_UNIT)
    return _peak[1]


class _Ending:
    """The write. One object, where a function would be a dozen: thousands of them wait to be written at a time."""

    __slots__ = ("_beginning", "_end_cache", "_ended", "_in_row", "_is_new", "_slots", "_stage", "_stored", "_upstream")

    def __init__(
        self, beginning: Beginning, ended: TaskRow, stored: ResultRow | None,
        in_row: tuple[str, str, bytes | None, str] | None, is_new: bool, upstream: Sequence[tuple[int, int, str]],
        slots: Ask | None, end_cache: Callable[[Any], None] | None, stage: StagedRow | None,
    ) -> None:  # fmt: skip
        self._beginning = beginning
        self._ended = ended
        self._stored = stored
        self._in_row = in_row
        self._is_new = is_new
        self._upstream = upstream
        self._slots = slots
        self._end_cache = end_cache
        self._stage = stage

    def __call__(self, conn: Connection) -> None:
        ended, middle, began_at_us = self._ended, self._beginning.state, self._beginning.at_us
        at_us = ended.ended_at_us or 0
        if not self._is_new or not tasks.record_new(
            conn, middle, ended, self._in_row, started_at_us=began_at_us, ended_at_us=at_us, actor="engine"
        ):
            is_stored = tasks.record_end(
                conn, middle, ended, self._in_row, started_at_us=began_at_us, ended_at_us=at_us, actor="engine"
            )
            if self._stored is not None and not is_stored:
                results.put(conn, self._stored)
        if self._upstream:
            edges.add(conn, ended.run_id, ended.seq, self._upstream)
        if self._slots is not None:
            self._slots.give_back(conn)
        if self._end_cache is not None:
            self._end_cache(conn)
        if self._stage is not None:
            from ....store.tables import staged

            staged.put(conn, self._stage)


def _staging(call: TaskCall, block: Transaction) -> StagedRow | None:
    from ..transactions.steps import staging

    return staging(call, block) if not block.commits_at_once else None


def _end_of_cache_use(call: TaskCall, stored: Any) -> Callable[[Any], None]:
    from ..transactions import caching

    return caching.ending(call, stored)


def clear_garbage(call: TaskCall) -> None:
    """Once the end is durable: remove the file that its cache entry has left without a name."""
    from ..transactions import caching

    caching.clear_garbage(call)


def let_go(call: TaskCall) -> None:
    """A call ends without an ending of its own: nobody waits for the cache key it had locked."""
    if call.cache is not None:
        from ..transactions import caching

        caching.let_go(call)


def _store(call: TaskCall, value: Any) -> ResultRow:
    """The row of the result, whose file, if it has one, is durable."""
    session = call.run.session
    try:
        if call.task.serializer is None and codec.is_large(value) and not masking.is_active():
            return session.results.store_large(call, value)
        encoded = codec.encode(value, call.task.serializer)
    except KeyboardInterrupt as error:  # the task has completed all the same
        session.ending.note_exit(error)
        encoded = codec.Encoded("none", None, "", codec.preview(value), "its writing was interrupted from the keyboard")
    if encoded.codec == "none":
        session.results.tell_not_stored(call, encoded)
    return session.results.store(call.run.id, call.seq, encoded)


def abandon_operation(call: TaskCall, cause: str) -> Callable[[Any], None]:
    """The write that ends a call whose code did not come back; nothing when it did come back meanwhile."""
    call.run.settle_by_place(call)
    beginning = call.beginning or Beginning(call, call.created_at_us)
    call.beginning = None
    let_go(call)
    at_us = now_us()
    to = next_task_state(beginning.state[0], "cancel")
    ended = call.row((to.state_type, to.state_name), cause, beginning.attempt, at_us)

    def end(conn: Connection) -> None:
        found = tasks.get(conn, ended.run_id, ended.seq)
        if found is None or found.ended_at_us is None:
            tasks.record_end(
                conn, beginning.state, ended, started_at_us=beginning.at_us, ended_at_us=at_us, actor="engine"
            )

    return end
