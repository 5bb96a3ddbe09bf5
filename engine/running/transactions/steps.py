"""What beginning and committing a transaction does, as steps: one path for sync and async code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ....store.alone import commit_alone
from ....store.connection import Connection
from ....store.rows import CacheRow, ResultRow, StagedRow
from ....store.tables import cache, results, staged
from ...authoring.cache_policies import IsolationLevel
from ...authoring.transaction import ResultRecord, Transaction, TransactionState
from ...encoding import codec
from ...errors import ResultUnreadable, Suspended
from ...states.state import Cancelled, State, describe_exception
from ...system.clock import now_us
from ..effects.effects import Await, Durable, Steps
from .caching import entry_of, usable
from .hooks import call_hook
from .kept import Held, held_by, pickled_hooks
from .keys import entry_bytes, is_own_of_before, known_entry, release_lock, take_lock
from .parts import TaskTransaction, detached_part, part_of, parts_of, session_of, tell
from .rollback import roll_back

if TYPE_CHECKING:
    from ..calls.subflow_call import SubflowCall
    from ..calls.task_call import TaskCall
    from ..run_process.session import Session


# ---------------------------------------------------------------------------------------------------- begin and end


def begin(block: Transaction) -> Steps[None]:
    """Take the key's lock where asked for, and see whether there is anything to do."""
    if block.key is not None:
        if block.isolation_level is IsolationLevel.SERIALIZABLE:
            yield from take_lock(block)
        if not block.overwrite and (entry := known_entry(block)) is not None and not is_own_of_before(block, entry):
            block.was_known = True
    block.state = TransactionState.COMMITTED if block.was_known else TransactionState.ACTIVE


def end(block: Transaction, error: BaseException | None) -> Steps[None]:
    """Commit, roll back, or leave it to the transaction around."""
    session = session_of(block)
    try:
        if session is not None:
            if isinstance(error, Suspended) or (isinstance(error, Cancelled) and session.ending.will_be_resumed()):
                return  # the run goes on in another process, and this transaction with it
            error = (yield from _await_expected(block)) or error
        why = describe_exception(error) if error is not None else block.failure
        if why is not None:
            yield from roll_back(block, why)
        elif block.commits_at_once:
            yield from commit(block)
        elif block.parent is not None:
            block.parent.add_child(block)
        elif block.commit_mode is not None and block.commit_mode.name == "OFF":
            yield from roll_back(block, "nobody committed it (CommitMode.OFF)")
        else:
            yield from commit(block)
        if block.parent is not None and block.is_rolled_back():
            block.parent.doom(why or "a transaction inside it was rolled back")
    finally:
        release_lock(block)


def _await_expected(block: Transaction) -> Steps[BaseException | None]:
    """Wait for what was submitted inside; the cancellation that ended the wait, if one did."""
    try:
        for future in block.take_expected():
            yield Await(future)
    except Cancelled as error:
        return error
    return None


def read(block: Transaction) -> ResultRecord | None:
    """The value that was committed under the key."""
    entry = known_entry(block)
    if entry is None:
        return None
    try:
        return ResultRecord(entry.key, codec.decode(entry.codec, entry_bytes(block, entry), entry.checksum))
    except (OSError, ResultUnreadable) as error:
        tell(block, 30, f"what was committed under {entry.key!r} cannot be read: {describe_exception(error)}")
        return None


# ---------------------------------------------------------------------------------------------------- tasks inside


def after_task(
    call: TaskCall, state: State, block: Transaction | None, values: dict[str, Any], *, recalled: bool
) -> Steps[None]:
    """A task has ended, or its recorded end was found: commit its part, or hand it to the block."""
    if not state.is_completed():
        if block is not None and not block.commits_at_once:
            block.doom(f"task {call.name} ({call.reference}) {state.name}: {state.message}")
        return
    if state.name == "Cached":
        return  # committed by the one who computed it
    part = part_of(call, block)
    part.parent = block
    row = call.run.session.read(lambda conn: staged.get(conn, call.run.id, call.seq)) if recalled else None
    if row is not None:
        part.commit_hooks_done = row.commit_hooks_done
        part.values.update(held_by(row).values)
    if block is None or block.commits_at_once:
        if part.on_commit_hooks:
            yield from commit(part)
        part.state = TransactionState.COMMITTED
        return
    if recalled and call.task.caching is not None:
        part.entry = _entry_of_recalled(call, values)
    part.state = TransactionState.STAGED
    block.add_child(part)


def after_subflow(call: SubflowCall, state: State, block: Transaction) -> None:
    """A subflow has ended inside a block: its place in its parent is rolled back with it."""
    if block.commits_at_once:
        return
    if not state.is_completed():
        block.doom(f"subflow {call.name} ({call.run.id}/{call.seq}) {state.name}: {state.message}")
        return
    part = detached_part(call.run.id, call.seq)
    part.parent, part.state = block, TransactionState.STAGED
    block.add_child(part)


def staging(call: TaskCall, block: Transaction) -> StagedRow | None:
    """What is to be kept of a task with its end, so that another process can end its transaction."""
    part = call.transaction
    if part is None:
        if not (call.task.hooks["on_rollback"] or call.task.hooks["on_commit"]):
            return None
        part = part_of(call, block)
    part.is_kept = True
    held = Held(part.on_rollback_hooks, part.on_commit_hooks, part.all_values)
    kept = pickled_hooks(call.run.session, held, call.name)
    return StagedRow(call.run.id, call.seq, block.name, kept, 0, None, 0, None)


def _entry_of_recalled(call: TaskCall, values: dict[str, Any]) -> CacheRow | None:
    """The cache entry of a task whose result an earlier attempt recorded but did not commit."""
    from .caching import key_of

    options, session = call.task.caching, call.run.session
    key = key_of(call, options, values) if options is not None else None
    stored = session.read(lambda conn: results.get(conn, call.run.id, call.seq))
    if key is None or stored is None or options is None or session.read(lambda conn: usable(conn, key)) is not None:
        return None
    return entry_of(session, key, stored, options.expiration_us)


# ---------------------------------------------------------------------------------------------------- commit


def commit(block: Transaction) -> Steps[bool]:
    """Commit hooks of everything inside, then all entries in one write; a hook that raises rolls it back instead."""
    if block.state is TransactionState.ROLLED_BACK or (block.is_committed() and not block.was_known):
        return False
    session, parts = session_of(block), parts_of(block)
    if session is not None:
        parts = [_opened(row) for row in session.read(lambda conn: _kept_parts(conn, parts))] + parts
    for part in parts:
        for hook in part.on_commit_hooks[part.commit_hooks_done :]:
            failed = yield from call_hook(part, hook, "the transaction is rolled back")
            if failed is not None:
                yield from roll_back(block, f"its commit hook {failed}")
                return False
            part.commit_hooks_done += 1
            if session is not None and isinstance(part, TaskTransaction):
                yield Durable(_commit_hook_done(part, block))
    yield from _write_entries(parts, session)
    for part in parts:
        part.state = TransactionState.COMMITTED
    return True


def _kept_parts(conn: Connection, parts: list[Transaction]) -> list[StagedRow]:
    """What tasks of the blocks left in the store that did not come by in this process: a caller was replayed whole."""
    here = {(part.run_id, part.seq) for part in parts if isinstance(part, TaskTransaction)}
    found: list[StagedRow] = []
    for name in (part.name for part in parts if not isinstance(part, TaskTransaction)):
        for row in staged.of_transaction(conn, name):
            if (row.run_id, row.task_seq) not in here and row.held is not None:
                found.append(row)
    return found


def _opened(row: StagedRow) -> Transaction:
    """A part with what was kept of it. Code of the user's classes runs: not within a look into the store."""
    part, held = detached_part(row.run_id, row.task_seq), held_by(row)
    part.on_commit_hooks, part.commit_hooks_done = list(held.on_commit), row.commit_hooks_done
    part.values.update(held.values)
    return part


def _commit_hook_done(part: TaskTransaction, block: Transaction) -> Any:
    row = StagedRow(part.run_id, part.seq, block.name, None, part.commit_hooks_done, None, 0, None)

    def write(conn: Connection) -> None:
        kept = staged.get(conn, row.run_id, row.task_seq)
        staged.put(conn, row if kept is None else kept._replace(commit_hooks_done=row.commit_hooks_done))

    return write


def _write_entries(parts: list[Transaction], session: Session | None) -> Steps[None]:
    entries = [part.entry for part in parts if isinstance(part, TaskTransaction) and part.entry is not None]
    for part in parts:
        if part.key is not None and part.write_on_commit and not part.was_known:
            made = _entry_of_block(part)
            entries += [made] if made is not None else []
    garbage: list[str] = []
    tidied = [part for part in parts if isinstance(part, TaskTransaction) and (part.is_kept or part.call is None)]

    def write(conn: Connection) -> None:
        garbage.clear()
        for entry in entries:
            older = cache.put(conn, entry)
            garbage.extend([older] if older is not None else [])
        for part in tidied:
            if not part.on_commit_hooks:
                staged.remove(conn, part.run_id, part.seq)
            else:
                staged.put(conn, StagedRow(part.run_id, part.seq, "", None, part.commit_hooks_done, None, 0, None))

    if not entries and not tidied:
        return
    if session is not None:
        yield Durable(write)
        session.results.remove(garbage)
    else:
        commit_alone(write)


def _entry_of_block(block: Transaction) -> CacheRow | None:
    encoded = codec.encode(block.staged_value)
    if encoded.codec == "none":
        tell(block, 30, f"the value of transaction {block.key!r} cannot be kept: {encoded.reason}")
        return None
    session, key = session_of(block), str(block.key)
    run_id = block.frame.run.id if block.frame is not None else None
    if session is None or block.frame is None:
        size = len(encoded.data or b"")
        return CacheRow(key, run_id, None, encoded.codec, encoded.checksum, size, encoded.data, None, encoded.preview,
                        now_us(), None)
    stored: ResultRow = session.results.store(block.frame.run.id, 0, encoded)
    entry = entry_of(session, key, stored, None)
    if stored.path is not None:
        session.results.remove([stored.path])
    return entry
