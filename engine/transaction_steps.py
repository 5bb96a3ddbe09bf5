"""What beginning, committing and rolling back a transaction does, as steps: one path for sync and async code.

A rollback is durable before its first hook runs, and each hook once it is done; a task is RolledBack in the write that
crosses off its last hook. So whoever resumes the run knows what is left, and no hook that was recorded runs twice.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..store import cache, results, runs, staged, tasks
from ..store.rows import CacheRow, ResultRow, StagedRow, TaskRow
from . import codec, masking
from .cache_policies import IsolationLevel
from .caching import entry_of, lock_row, usable
from .clock import now_us
from .context import Frame, current_frame, current_transaction
from .effects import Await, Durable, Sleep, Steps
from .errors import Cancelled, ResultUnreadable, Suspended
from .machine import next_task_state
from .states import State, describe_exception
from .transactions import ResultRecord, TaskTransaction, Transaction, TransactionState

if TYPE_CHECKING:
    from .flow_run import FlowRun
    from .session import Session
    from .subflow_call import SubflowCall
    from .task_call import TaskCall

_POLL_SECONDS = 0.03


class TransactionHooks:
    """Effect: call one hook with its transaction; the answer is what it raised, or None."""

    __slots__ = ("frame", "hook", "transaction")

    def __init__(self, hook: Any, transaction: Transaction, frame: Frame | None) -> None:
        self.hook = hook
        self.transaction = transaction
        self.frame = frame

    def perform(self) -> Exception | None:
        """In this thread; an async hook gets an event loop of its own."""
        from .hooks import run_to_end

        token, block = current_frame.set(self.frame), current_transaction.set(None)
        try:
            run_to_end(self.hook(self.transaction))
        except Exception as error:  # noqa: BLE001 - the user's hook
            return error
        finally:
            current_transaction.reset(block)
            current_frame.reset(token)
        return None

    async def perform_async(self) -> Exception | None:
        """As ``perform``; an async hook in the running event loop."""
        import inspect

        token, block = current_frame.set(self.frame), current_transaction.set(None)
        try:
            outcome = self.hook(self.transaction)
            if inspect.isawaitable(outcome):
                await outcome
        except Exception as error:  # noqa: BLE001 - the user's hook
            return error
        finally:
            current_transaction.reset(block)
            current_frame.reset(token)
        return None


# ---------------------------------------------------------------------------------------------------- begin and end


def begin(block: Transaction) -> Steps:
    """Take the key's lock where asked for, and see whether there is anything to do."""
    if block.key is not None:
        if block.isolation_level is IsolationLevel.SERIALIZABLE:
            yield from _take_lock(block)
        if not block.overwrite and (entry := _known(block)) is not None and not _is_own_of_before(block, entry):
            block.was_known = True
    block.state = TransactionState.COMMITTED if block.was_known else TransactionState.ACTIVE


def end(block: Transaction, error: BaseException | None) -> Steps:
    """Commit, roll back, or leave it to the transaction around."""
    session = _session(block)
    try:
        if session is not None:
            if isinstance(error, Suspended) or (isinstance(error, Cancelled) and session.will_be_resumed()):
                return  # the run goes on in another process, and this transaction with it
            error = (yield from _await_expected(block, session)) or error
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
        _release(block)


def _await_expected(block: Transaction, session: Session) -> Steps:
    """Wait for what was submitted inside; the cancellation that ended the wait, if one did."""
    try:
        for future in block.take_expected():
            yield Await(session, future)
    except Cancelled as error:
        return error
    return None


def read(block: Transaction) -> ResultRecord | None:
    """The value that was committed under the key."""
    entry = _known(block)
    if entry is None:
        return None
    try:
        return ResultRecord(entry.key, codec.decode(entry.codec, _entry_bytes(block, entry), entry.checksum))
    except (OSError, ResultUnreadable) as error:
        _tell(block, 30, f"what was committed under {entry.key!r} cannot be read: {describe_exception(error)}")
        return None


# ---------------------------------------------------------------------------------------------------- tasks inside


def after_task(
    call: TaskCall, state: State, block: Transaction | None, values: dict[str, Any], *, recalled: bool
) -> Steps:
    """A task has ended, or its recorded end was found: commit its part, or hand it to the block."""
    if not state.is_completed():
        if block is not None and not block.commits_at_once:
            block.doom(f"task {call.name} ({call.reference}) {state.name}: {state.message}")
        return
    if state.name == "Cached":
        return  # committed by the one who computed it
    part = call.transaction if call.transaction is not None else TaskTransaction(call, block)
    call.transaction, part.parent = part, block
    row = call.run.session.read(lambda conn: staged.get(conn, call.run.id, call.seq)) if recalled else None
    if row is not None:
        part.commit_hooks_done = row.commit_hooks_done
        part.values.update(_held(row).values)
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
    part = _detached(call.run.id, call.seq)
    part.parent, part.state = block, TransactionState.STAGED
    block.add_child(part)


def staging(call: TaskCall, block: Transaction) -> StagedRow | None:
    """What is to be kept of a task with its end, so that another process can end its transaction."""
    part = call.transaction
    if part is None:
        if not (call.task.hooks["on_rollback"] or call.task.hooks["on_commit"]):
            return None
        part = call.transaction = TaskTransaction(call, block)
    part.is_kept = True
    held = _Held(part.on_rollback_hooks, part.on_commit_hooks, part.all_values)
    return StagedRow(call.run.id, call.seq, block.name, _pickled(call.run.session, held, call.name), 0, None, 0, None)


class _Held(NamedTuple):
    """What another process needs to end a task's part."""

    on_rollback: Sequence[Any]
    on_commit: Sequence[Any]
    values: dict[str, Any]


def _pickled(session: Session, held: _Held, name: str) -> bytes | None:
    data = codec.pickled(tuple(held))
    if isinstance(data, bytes) and masking.is_active() and masking.holds_secret(data):
        data = "they hold the value of a secret"
    if isinstance(data, bytes):
        return data
    text = (f"the transaction hooks of {name} cannot be kept for another process ({data}): if this one is killed in "
            "the middle of a rollback, they are not run again")  # fmt: skip
    if session.root is not None:
        session.run_log(session.root, 30, text)
    return None


def _held(row: StagedRow) -> _Held:
    if row.held is None:
        return _Held((), (), {})
    return _Held(*codec.decode("cloudpickle", row.held, codec.checksum(row.held)))


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


def commit(block: Transaction) -> Steps:
    """Commit hooks of everything inside, then all entries in one write; a hook that raises rolls it back instead."""
    if block.state is TransactionState.ROLLED_BACK or (block.is_committed() and not block.was_known):
        return False
    session, parts = _session(block), _parts(block)
    if session is not None:
        parts = session.read(lambda conn: _kept_parts(conn, parts)) + parts
    for part in parts:
        for hook in part.on_commit_hooks[part.commit_hooks_done :]:
            error = yield TransactionHooks(hook, part, _frame_of(part))
            if error is not None:
                _tell_hook(part, hook, error, "the transaction is rolled back")
                yield from roll_back(block, f"its commit hook {_name_of(hook)} raised {describe_exception(error)}")
                return False
            part.commit_hooks_done += 1
            if session is not None and isinstance(part, TaskTransaction):
                yield Durable(session, _commit_hook_done(part, block))
    yield from _write_entries(parts, session)
    for part in parts:
        part.state = TransactionState.COMMITTED
    return True


def _kept_parts(conn: sqlite3.Connection, parts: list[Transaction]) -> list[Transaction]:
    """What tasks of the blocks left in the store that did not come by in this process: a caller was replayed whole."""
    here = {(part.run_id, part.seq) for part in parts if isinstance(part, TaskTransaction)}
    found: list[Transaction] = []
    for name in (part.name for part in parts if not isinstance(part, TaskTransaction)):
        for row in staged.of_transaction(conn, name):
            if (row.run_id, row.task_seq) not in here and row.held is not None:
                part, held = _detached(row.run_id, row.task_seq), _held(row)
                part.on_commit_hooks, part.commit_hooks_done = list(held.on_commit), row.commit_hooks_done
                part.values.update(held.values)
                found.append(part)
    return found


def _detached(run_id: int, seq: int) -> TaskTransaction:
    """The part of a task whose call is not at hand."""
    part = TaskTransaction(None, None)
    part.run_id, part.seq, part.name = run_id, seq, f"{run_id}/{seq}"
    return part


def _commit_hook_done(part: TaskTransaction, block: Transaction) -> Any:
    row = StagedRow(part.run_id, part.seq, block.name, None, part.commit_hooks_done, None, 0, None)

    def write(conn: sqlite3.Connection) -> None:
        kept = staged.get(conn, row.run_id, row.task_seq)
        staged.put(conn, row if kept is None else kept._replace(commit_hooks_done=row.commit_hooks_done))

    return write


def _write_entries(parts: list[Transaction], session: Session | None) -> Steps:
    entries = [part.entry for part in parts if isinstance(part, TaskTransaction) and part.entry is not None]
    for part in parts:
        if part.key is not None and part.write_on_commit and not part.was_known:
            made = _entry_of_block(part)
            entries += [made] if made is not None else []
    garbage: list[str] = []
    tidied = [part for part in parts if isinstance(part, TaskTransaction) and (part.is_kept or part.call is None)]

    def write(conn: sqlite3.Connection) -> None:
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
        yield Durable(session, write)
        session.remove_files(garbage)
    else:
        _alone(write)


def _entry_of_block(block: Transaction) -> CacheRow | None:
    encoded = codec.encode(block.staged_value)
    if encoded.codec == "none":
        _tell(block, 30, f"the value of transaction {block.key!r} cannot be kept: {encoded.reason}")
        return None
    session, key = _session(block), str(block.key)
    run_id = block.frame.run.id if block.frame is not None else None
    if session is None or block.frame is None:
        size = len(encoded.data or b"")
        return CacheRow(key, run_id, None, encoded.codec, encoded.checksum, size, encoded.data, None, encoded.preview,
                        now_us(), None)
    stored: ResultRow = session.store_result(block.frame.run.id, 0, encoded)
    entry = entry_of(session, key, stored, None)
    if stored.path is not None:
        session.remove_files([stored.path])
    return entry


# ---------------------------------------------------------------------------------------------------- rollback


class Undo(NamedTuple):
    """One task to be rolled back."""

    row: TaskRow
    part: Transaction
    hooks: Sequence[Any]
    done: int
    entry_key: str | None


def roll_back(block: Transaction, why: str) -> Steps:
    """Undo what completed inside, in reverse order; says whether it did."""
    if block.state is TransactionState.ROLLED_BACK or (block.is_committed() and not block.was_known):
        return False
    session, parts = _session(block), _parts(block)
    for part in parts:
        part.state = TransactionState.ROLLED_BACK
    for part in reversed(parts):
        if not isinstance(part, TaskTransaction):
            for hook in reversed(part.on_rollback_hooks):
                error = yield TransactionHooks(hook, part, _frame_of(part))
                if error is not None:
                    _tell_hook(part, hook, error, "the rollback goes on")
    if session is None:
        return True
    names = {part.name for part in parts if not isinstance(part, TaskTransaction)}
    undos = session.read(lambda conn: _to_undo(conn, names, parts))
    _tell(block, 30, f"transaction {block.key or block.name} is rolled back: {why}")
    if undos:
        cause = f"transaction {block.key or block.name} was rolled back: {why}"
        yield Durable(session, _written_down(session, block.name, undos, cause))
        for undo in undos:
            yield from _undo(session, undo, cause)
    return True


def recover(run: FlowRun) -> Steps:
    """End the rollbacks that a process which is gone had begun in this run; its calls then find them done."""
    session = run.session
    rows = session.read(lambda conn: staged.rollbacks_under_way(conn, run.id))
    for row in rows:
        task_row = _row_of(session, run.id, row.task_seq)
        if task_row is None:
            continue
        part = _detached(run.id, row.task_seq)
        part.frame = Frame(run, None)
        hooks: Sequence[Any] = ()
        try:
            held = _held(row)
            hooks = held.on_rollback
            part.values.update(held.values)
        except ResultUnreadable as error:
            session.run_log(run, 40, f"the rollback hooks of {task_row.name} cannot be read and do not run: {error}")
        session.run_log(run, 30, f"the rollback of {task_row.name} goes on: {row.cause}")
        undo = Undo(task_row, part, hooks, row.rollback_hooks_done, None)
        yield from _undo(session, undo, row.cause or "rolled back")
    if rows:
        run.load_journal()


def _row_of(session: Session, run_id: int, seq: int) -> TaskRow | None:
    return session.read(lambda conn: tasks.get(conn, run_id, seq))


def _hook_done(run_id: int, seq: int, done: int) -> Any:
    return lambda conn: staged.rollback_hook_done(conn, run_id, seq, done)


def _to_undo(conn: sqlite3.Connection, names: set[str], parts: list[Transaction]) -> list[Undo]:
    """The completed tasks of the blocks, with what they called themselves, the last that ended first."""
    found: dict[tuple[int, int], Undo] = {}
    for part in parts:
        if isinstance(part, TaskTransaction):
            row = tasks.get(conn, part.run_id, part.seq)
            key = part.entry.key if part.entry is not None else None
            if row is not None:
                found[row.run_id, row.seq] = Undo(row, part, part.on_rollback_hooks, 0, key)
    for name in names:
        for kept in staged.of_transaction(conn, name):
            row = tasks.get(conn, kept.run_id, kept.task_seq)
            if row is None or (row.run_id, row.seq) in found:
                continue
            held, part = _held(kept), _detached(row.run_id, row.seq)
            part.values.update(held.values)
            found[row.run_id, row.seq] = Undo(row, part, held.on_rollback, 0, None)
    for undo in list(found.values()):
        for row in _inside(conn, undo.row):
            found.setdefault((row.run_id, row.seq), Undo(row, _detached(row.run_id, row.seq), (), 0, None))
    completed = [undo for undo in found.values()
                 if undo.row.state_type == "COMPLETED" and undo.row.state_name not in ("RolledBack", "Cached")]
    return sorted(completed, key=lambda undo: (undo.row.ended_at_us or 0, undo.row.seq), reverse=True)


def _inside(conn: sqlite3.Connection, row: TaskRow) -> list[TaskRow]:
    """What a task or subflow called itself, at any depth."""
    if row.child_run_id is not None:
        below = [inner for inner in tasks.of_run(conn, row.child_run_id) if inner.scope_seq == 0]
    else:
        below = tasks.of_scope(conn, row.run_id, row.seq)
    return [inner for one in below for inner in (one, *_inside(conn, one))]


def _written_down(session: Session, name: str, undos: list[Undo], cause: str) -> Any:
    rows = []
    for place, undo in enumerate(undos):
        held = None
        if undo.hooks:
            held = _pickled(session, _Held(list(undo.hooks), (), undo.part.all_values), undo.row.name)
        rows.append(StagedRow(undo.row.run_id, undo.row.seq, name, held, 0, place, undo.done, cause))

    def write(conn: sqlite3.Connection) -> None:
        for row in rows:
            staged.put(conn, row)

    return write


def _undo(session: Session, undo: Undo, cause: str) -> Steps:
    """Run what is left of a task's rollback hooks, the last first, and record that it is rolled back."""
    run_id, seq = undo.row.run_id, undo.row.seq
    hooks, failed = list(reversed(undo.hooks)), []
    for number, hook in enumerate(hooks[undo.done :], undo.done + 1):
        error = yield TransactionHooks(hook, undo.part, _frame_of(undo.part))
        if error is not None:
            failed.append(f"{_name_of(hook)} raised {describe_exception(error)}")
            _tell_hook(undo.part, hook, error, "the rollback goes on")
        if number < len(hooks):
            yield Durable(session, _hook_done(run_id, seq, number))
    text = cause + (f"; its hook {'; '.join(failed)}" if failed else "")
    live = session.live_runs.get(run_id)
    attempt = live.attempt if live is not None else None
    garbage = yield Durable(session, lambda conn: _roll_back_row(conn, undo, attempt, text))
    session.remove_files(garbage)


def _roll_back_row(conn: sqlite3.Connection, undo: Undo, attempt: int | None, cause: str) -> list[str]:
    """The task's last write of a rollback; returns the files of what is no result any more.

    ``attempt`` is that of its run as this process knows it; None for a subflow's run that has ended.
    """
    run_id, seq = undo.row.run_id, undo.row.seq
    staged.remove(conn, run_id, seq)
    found = tasks.get(conn, run_id, seq)
    if found is None or found.state_type != "COMPLETED" or found.state_name == "RolledBack":
        return []
    if attempt is None:
        run = runs.get(conn, run_id)
        attempt = run.attempt if run is not None else found.run_attempt
    to = next_task_state(found.state_type, "roll_back")
    tasks.transition(
        conn, run_id, seq, run_attempt=attempt, from_=(found.state_type, found.state_name),
        to=(to.state_type, to.state_name), at_us=now_us(), actor="engine", cause=cause,
    )
    if undo.entry_key is not None:
        cache.remove(conn, undo.entry_key, run_id, seq)
    path = results.remove(conn, run_id, seq)
    return [path] if path is not None else []


# ---------------------------------------------------------------------------------------------------- where it is


def _parts(block: Transaction) -> list[Transaction]:
    """The transaction and everything it is responsible for, in the order of their ends; what is committed left out."""
    found: list[Transaction] = []
    for child in block.children:
        if not child.is_committed() or child.was_known:
            found += _parts(child)
    return [*found, block]


def _session(block: Transaction) -> Session | None:
    frame = _frame_of(block)
    return frame.run.session if frame is not None else None


def _frame_of(block: Transaction) -> Frame | None:
    if isinstance(block, TaskTransaction) and block.call is not None:
        return Frame(block.call.run, block.call)
    if block.frame is None and block.parent is not None:
        return _frame_of(block.parent)
    return block.frame if block.frame is not None else current_frame.get()


def _name_of(hook: Any) -> str:
    name = getattr(hook, "__name__", None)
    return name if isinstance(name, str) else repr(hook)


def _tell(block: Transaction, level: int, text: str) -> None:
    frame = _frame_of(block)
    if frame is None:
        import logging

        logging.getLogger("flowdeck.engine").log(level, "%s", text)
    elif frame.task is not None:
        frame.run.session.task_log(frame.task, level, text)
    else:
        frame.run.session.run_log(frame.run, level, text)


def _tell_hook(block: Transaction, hook: Any, error: Exception, then: str) -> None:
    frame = _frame_of(block)
    if frame is None:
        _tell(block, 40, f"hook {_name_of(hook)} failed: {describe_exception(error)}; {then}")
        return
    ids = frame.run.id, frame.task.seq if frame.task is not None else None
    frame.run.session.capture.record_exception(ids, f"hook {_name_of(hook)} failed; {then}", error)


def _known(block: Transaction) -> CacheRow | None:
    """The entry of the key."""
    session, key = _session(block), block.key
    if key is None:
        return None
    found: CacheRow | None = (
        session.read(lambda conn: usable(conn, key)) if session is not None else _alone(lambda conn: usable(conn, key))
    )
    return found


def _is_own_of_before(block: Transaction, entry: CacheRow) -> bool:
    """Whether an earlier attempt of this run made it: then the block's calls are to be replayed, not left out."""
    run = block.frame.run if block.frame is not None else None
    return run is not None and entry.run_id == run.id and entry.created_at_us < run.attempt_began_at_us


def _entry_bytes(block: Transaction, entry: CacheRow) -> bytes:
    if entry.path is None:
        return entry.data or b""
    session = _session(block)
    folder = session.folder if session is not None else _store_folder()
    return (Path(folder) / entry.path).read_bytes()


def _take_lock(block: Transaction) -> Steps:
    session, frame, key = _session(block), _frame_of(block), str(block.key)
    run_id = frame.run.id if frame is not None else None
    wanted = lock_row(key, run_id, frame.task.seq if frame is not None and frame.task is not None else None)
    told = False
    while True:
        if session is not None:
            holder = yield Durable(session, lambda conn: cache.lock(conn, wanted))
        else:
            holder = _alone(lambda conn: cache.lock(conn, wanted))
        if holder is None:
            block.lock = wanted
            return
        if not told:
            told = True
            who = f"process {holder.pid} (run {holder.run_id})"
            _tell(block, 20, f"transaction {key!r} waits for {who}, which has its key")
        if session is not None:
            yield Sleep(session, _POLL_SECONDS)
        else:
            time.sleep(_POLL_SECONDS)


def _release(block: Transaction) -> None:
    held, block.lock = block.lock, None
    if held is None:
        return
    session = _session(block)
    if session is not None:
        session.writer.commit(lambda conn: cache.unlock(conn, held))
    else:
        _alone(lambda conn: cache.unlock(conn, held))


def _alone(work: Any) -> Any:
    """Outside a run: one transaction on a connection of its own."""
    from contextlib import closing

    from ..store.connection import connect, open_store, transaction

    folder = _store_folder()
    open_store(folder)
    with closing(connect(folder, "state")) as connection, transaction(connection):
        return work(connection)


def _store_folder() -> Path:
    from ..store.location import find_store

    return find_store()
