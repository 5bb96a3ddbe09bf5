"""The result cache at run time: a call looks its key up before it runs, and its end writes the entry.

An entry is written in the transaction that ends the task, so that neither is there without the other. With
``SERIALIZABLE`` the key's lock row names who computes; it goes with the task's end, and a holder whose process is gone
holds nobody up. What cannot be looked up is run: a broken entry or key never fails a task, and the log says why.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ....store import judging
from ....store.connection import Connection
from ....store.rows import CacheLockRow, CacheRow, ResultRow
from ....store.tables import cache, edges, results, tasks
from ...authoring.cache_policies import CacheContext, CacheOptions, IsolationLevel, is_set
from ...encoding.stable_hash import CacheKeyError, stable_hash, without_secrets
from ...errors import ResultUnreadable
from ...states.state import State, describe_exception
from ...system.clock import in_words, now_us
from ..calls.call_parts import CacheUse
from ..calls.frame import current_transaction
from ..calls.hooks import task_run_view
from ..effects.effects import AwaitTurn, Durable, Steps

if TYPE_CHECKING:
    from ...authoring.transaction import Transaction
    from ..calls.task_call import TaskCall
    from ..run_process.session import Session

_stamping = threading.Lock()
_last_stamp_us = 0


def look_up(call: TaskCall, options: CacheOptions, values: dict[str, Any]) -> Steps[State | None]:
    """The Cached state of a call whose key is known, recorded and durable; None when it has to run."""
    if is_set("FLOWDECK_TASKS_DISABLE_CACHING"):
        return None
    key = key_of(call, options, values)
    if key is None:
        return None
    call.cache = CacheUse(key, options.expiration_us)
    refresh = options.refresh if options.refresh is not None else is_set("FLOWDECK_TASKS_REFRESH_CACHE")
    if options.policy.isolation_level is IsolationLevel.SERIALIZABLE:
        entry = yield from _wait_for_lock(call, call.cache, refresh)
    else:
        entry = None if refresh else call.run.session.read(lambda conn: usable(conn, key))
    if entry is None:
        return None
    state = _restore(call, entry)
    if state is None:
        if options.policy.isolation_level is IsolationLevel.SERIALIZABLE:
            yield from _wait_for_lock(call, call.cache, refresh=True)
        return None
    yield Durable(_cached_operation(call, entry, state))
    call.cache = None
    return state


def key_of(call: TaskCall, options: CacheOptions, values: dict[str, Any]) -> str | None:
    """The key of a call; None when it has none, or none can be made of its arguments."""
    policy, task = options.policy, call.task
    given = task.with_defaults(values)
    inputs = {**task.receiver, **{name: given[name] for name in task.signature.parameters if name in given}}
    context = CacheContext(task, task_run_view(call, State("PENDING")), call.run, inputs)
    try:
        key: Any = policy.compute_key(context, inputs, call.run.parameters)
    except CacheKeyError as error:
        call.run.session.log.task(call, 40, f"{call.name} is not cached: {error}")
        return None
    except Exception as error:  # noqa: BLE001 - the user's key function or policy
        call.run.session.log.task(
            call, 40, f"{call.name} is not cached: its cache key cannot be made: {describe_exception(error)}"
        )
        return None
    if key is None:
        return None
    if not isinstance(key, str):
        call.run.session.log.task(call, 40, f"{call.name} is not cached: its cache key must be a text, not {key!r}")
        return None
    key = without_secrets(key)
    if policy.holds_task:
        key = stable_hash(task.key, key)
    return key if policy.key_storage is None else f"{policy.key_storage}:{key}"


def usable(connection: Connection, key: str) -> CacheRow | None:
    """The entry of a key that has not expired."""
    entry = cache.get(connection, key)
    return entry if entry is not None and not cache.is_stale(entry, now_us()) else None


def source_text(entry: CacheRow) -> str:
    """Where an entry came from and until when it is good."""
    place = "a transaction" if entry.run_id is None else str(entry.run_id)
    if entry.task_seq is not None:
        place = f"{place}/{entry.task_seq}"
    if entry.expires_at_us is None:
        return f"cached from {place}"
    return f"cached from {place}, expires {in_words(entry.expires_at_us)}"


# ---------------------------------------------------------------------------------------------------- the lock


def _wait_for_lock(call: TaskCall, use: CacheUse, refresh: bool) -> Steps[CacheRow | None]:
    """Hold the key's lock, or have the entry that its holder made meanwhile; holds no thread of the pool."""
    session, key = call.run.session, use.key
    if is_held_around(current_transaction.get(), key):  # a block around has it, and would wait for this call
        return None if refresh else session.read(lambda conn: usable(conn, key))
    wanted = lock_row(key, call.run.id, call.seq)
    told = False

    def take(conn: Connection) -> CacheRow | CacheLockRow | None:
        return (None if refresh else usable(conn, key)) or cache.lock(conn, wanted, again=True)

    use.lock = wanted  # whatever ends the wait gives it back, should it have come meanwhile
    while True:
        found = yield Durable(take)
        if isinstance(found, CacheRow):
            use.lock = None
            return found
        if found is None:
            return None
        if not told:
            told = True
            _tell_waiting(call, found)
        with session.expectations.free(*lock_of(key)) as turn:
            yield AwaitTurn(turn, call)


def lock_row(key: str, run_id: int | None, task_seq: int | None) -> CacheLockRow:
    """A lock naming this process."""
    identity = judging.own_identity()
    return CacheLockRow(
        key, run_id, task_seq, os.uname().nodename, identity.boot_id, identity.pid, identity.started_ticks,
        _stamp_us(), identity.pid_namespace,
    )  # fmt: skip


def _stamp_us() -> int:
    """The time; no two locks of a process have the same."""
    global _last_stamp_us
    with _stamping:
        _last_stamp_us = max(now_us(), _last_stamp_us + 1)
        return _last_stamp_us


def lock_of(key: str) -> tuple[str, Callable[[Connection], bool]]:
    """A key's lock by name, and whether nobody has it: what waits for it waits for."""
    return f"lock of {key}", lambda conn: cache.lock_holder(conn, key) is None


def is_held_around(block: Transaction | None, key: str) -> bool:
    """Whether this block or one around it holds the lock of a key: that holds for what is inside, too."""
    while block is not None:
        if block.lock is not None and block.key == key:
            return True
        block = block.parent
    return False


def _tell_waiting(call: TaskCall, holder: CacheLockRow) -> None:
    """Say on the call's row and in its log whom it waits for."""
    cause = f"waits for {holder.run_id}/{holder.task_seq} (process {holder.pid}), which computes the same cache key"
    row, at_us = call.row()._replace(cause=cause), now_us()

    def write(conn: Connection) -> None:
        found = tasks.get(conn, row.run_id, row.seq)
        from_ = (found.state_type, found.state_name) if found is not None else None
        if found is None or found.state_type == "PENDING":
            tasks.begin(conn, row, at_us, "engine", from_=from_)

    call.run.session.writer.soon(write)
    call.run.session.log.task(call, 20, f"{call.name} {cause}")


def let_go(call: TaskCall) -> None:
    """Give the lock of a call back that ends without an ending of its own."""
    use, call.cache = call.cache, None
    if use is not None and (held := use.lock) is not None:
        call.run.session.writer.soon(lambda conn: cache.unlock(conn, held))


# ---------------------------------------------------------------------------------------------------- entries


def ending(call: TaskCall, stored: ResultRow | None) -> Callable[[Connection], None]:
    """What the write that ends the call does to the cache: the entry, if it has a result, and the lock."""
    use, block = call.cache, current_transaction.get()
    assert use is not None
    entry = entry_of(call.run.session, use.key, stored, use.expiration_us) if stored is not None else None
    if stored is not None and entry is None:
        call.run.session.log.task(call, 30, f"{call.name} is not cached: its result could not be stored")
    if entry is not None and block is not None and not block.commits_at_once:
        from .parts import part_of

        part_of(call, block).entry, entry = entry, None  # nobody uses it before the transaction commits

    session = call.run.session

    def end(conn: Connection) -> None:
        if entry is not None:
            older = cache.put(conn, entry)
            use.garbage = [older] if older is not None else []
            if not session.has_swept_cache:  # what has expired goes with the first entry that a process writes
                session.has_swept_cache = True
                use.garbage += cache.remove_expired(conn, entry.created_at_us)
        if use.lock is not None:
            cache.unlock(conn, use.lock)

    return end


def entry_of(session: Session, key: str, stored: ResultRow, expiration_us: int | None) -> CacheRow | None:
    """The entry for a stored result; None when the result could not be stored."""
    if stored.codec == "none":
        return None
    at_us = now_us()
    path = None if stored.path is None else session.results.files.link(stored.path, "cache", stable_hash(key)[:32])
    return CacheRow(
        key, stored.run_id, stored.seq if stored.seq > 0 else None, stored.codec, stored.checksum, stored.size_bytes,
        stored.data, path, stored.preview, at_us, None if expiration_us is None else at_us + expiration_us,
    )


def clear_garbage(call: TaskCall) -> None:
    """Once the entry is durable: remove the file of the one it replaced."""
    use = call.cache
    if use is not None and use.garbage:
        call.run.session.results.remove(use.garbage)


def _restore(call: TaskCall, entry: CacheRow) -> State | None:
    """The state with the entry's value; None (and a line in the log) when it cannot be read."""
    try:
        value = call.run.session.results.value(_as_result(entry))
    except (OSError, ResultUnreadable) as error:
        call.run.session.log.task(
            call, 30, f"{call.name} runs: what is {source_text(entry)} cannot be read: {describe_exception(error)}"
        )
        return None
    return State("COMPLETED", "Cached", source_text(entry), data=value)


def _as_result(entry: CacheRow) -> ResultRow:
    return ResultRow(0, 0, entry.codec, entry.checksum, entry.size_bytes, entry.data, entry.path, entry.preview)


def _cached_operation(call: TaskCall, entry: CacheRow, state: State) -> Callable[[Connection], None]:
    """The write that ends the call as Cached, with a result of its own."""
    session, pending, at_us = call.run.session, call.row(), now_us()
    call.move("use_cached")
    ended = call.row()._replace(cause=state.message, ended_at_us=at_us)
    path = entry.path
    if path is not None:
        path = session.results.files.link(path, os.path.join("results", str(call.run.id)), str(call.seq))
    stored = ResultRow(
        call.run.id, call.seq, entry.codec, entry.checksum, entry.size_bytes, entry.data, path, entry.preview
    )
    upstream, lock = call.upstream, call.cache.lock if call.cache is not None else None

    def end(conn: Connection) -> None:
        found = tasks.get(conn, pending.run_id, pending.seq)
        if found is None:
            tasks.begin(conn, pending, pending.created_at_us, "engine")
        middle = (pending.state_type, pending.state_name)
        tasks.record_end(conn, middle, ended, started_at_us=at_us, ended_at_us=at_us, actor="engine")
        if upstream:
            edges.add(conn, ended.run_id, ended.seq, upstream)
        results.put(conn, stored)
        if lock is not None:
            cache.unlock(conn, lock)

    return end
