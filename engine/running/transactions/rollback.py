"""Rolling a transaction back: its tasks undone, the last that ended first, and ended by whoever resumes the run.

A rollback is durable before its first hook runs, and each hook once it is done; a task is RolledBack in the write that
crosses off its last hook. So whoever resumes the run knows what is left, and no hook that was recorded runs twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ....store.connection import Connection
from ....store.rows import StagedRow, TaskRow
from ....store.tables import cache, results, runs, staged, tasks
from ...authoring.transaction import Transaction, TransactionState
from ...errors import ResultUnreadable
from ...states.transitions import move_task
from ...system.clock import now_us
from ..calls.frame import Frame
from ..effects.effects import Durable, Steps
from .hooks import call_hook
from .kept import Held, held_by, pickled_hooks
from .parts import TaskTransaction, detached_part, parts_of, session_of, tell

if TYPE_CHECKING:
    from ..calls.flow_run import FlowRun
    from ..run_process.session import Session


class Undo(NamedTuple):
    """One task to be rolled back."""

    row: TaskRow
    part: Transaction
    hooks: Sequence[Any]
    done: int
    entry_key: str | None
    kept: StagedRow | None = None
    """What another process left of it, unopened."""


def _opened(undo: Undo) -> Undo:
    """With the hooks and values that were kept. Code of the user's classes runs: not within a look into the store."""
    if undo.kept is None:
        return undo
    held = held_by(undo.kept)
    undo.part.values.update(held.values)
    return undo._replace(hooks=held.on_rollback, kept=None)


def roll_back(block: Transaction, why: str) -> Steps[bool]:
    """Undo what completed inside, in reverse order; says whether it did."""
    if block.state is TransactionState.ROLLED_BACK or (block.is_committed() and not block.was_known):
        return False
    session, parts = session_of(block), parts_of(block)
    for part in parts:
        part.state = TransactionState.ROLLED_BACK
    for part in reversed(parts):
        if not isinstance(part, TaskTransaction):
            for hook in reversed(part.on_rollback_hooks):
                yield from call_hook(part, hook, "the rollback goes on")
    if session is None:
        return True
    names = {part.name for part in parts if not isinstance(part, TaskTransaction)}
    undos = [_opened(undo) for undo in session.read(lambda conn: _to_undo(conn, names, parts))]
    tell(block, 30, f"transaction {block.key or block.name} is rolled back: {why}")
    if undos:
        cause = f"transaction {block.key or block.name} was rolled back: {why}"
        yield Durable(_written_down(session, block.name, undos, cause))
        for undo in undos:
            yield from _undo(session, undo, cause)
    return True


def recover(run: FlowRun) -> Steps[None]:
    """End the rollbacks that a process which is gone had begun in this run; its calls then find them done."""
    session = run.session
    rows = session.read(lambda conn: staged.rollbacks_under_way(conn, run.id))
    for row in rows:
        task_row = _row_of(session, run.id, row.task_seq)
        if task_row is None:
            continue
        part = detached_part(run.id, row.task_seq)
        part.frame = Frame(run, None)
        hooks: Sequence[Any] = ()
        try:
            held = held_by(row)
            hooks = held.on_rollback
            part.values.update(held.values)
        except ResultUnreadable as error:
            session.log.run(run, 40, f"the rollback hooks of {task_row.name} cannot be read and do not run: {error}")
        session.log.run(run, 30, f"the rollback of {task_row.name} goes on: {row.cause}")
        undo = Undo(task_row, part, hooks, row.rollback_hooks_done, None)
        yield from _undo(session, undo, row.cause or "rolled back")
    if rows:
        run.load_journal()


def _row_of(session: Session, run_id: int, seq: int) -> TaskRow | None:
    return session.read(lambda conn: tasks.get(conn, run_id, seq))


def _hook_done(run_id: int, seq: int, done: int) -> Any:
    return lambda conn: staged.rollback_hook_done(conn, run_id, seq, done)


def _to_undo(conn: Connection, names: set[str], parts: list[Transaction]) -> list[Undo]:
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
            found[row.run_id, row.seq] = Undo(row, detached_part(row.run_id, row.seq), (), 0, None, kept)
    for undo in list(found.values()):
        for row in _inside(conn, undo.row):
            found.setdefault((row.run_id, row.seq), Undo(row, detached_part(row.run_id, row.seq), (), 0, None))
    completed = [undo for undo in found.values()
                 if undo.row.state_type == "COMPLETED" and undo.row.state_name not in ("RolledBack", "Cached")]
    return sorted(completed, key=lambda undo: (undo.row.ended_at_us or 0, undo.row.seq), reverse=True)


def _inside(conn: Connection, row: TaskRow) -> list[TaskRow]:
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
            held = pickled_hooks(session, Held(list(undo.hooks), (), undo.part.all_values), undo.row.name)
        rows.append(StagedRow(undo.row.run_id, undo.row.seq, name, held, 0, place, undo.done, cause))

    def write(conn: Connection) -> None:
        for row in rows:
            staged.put(conn, row)

    return write


def _undo(session: Session, undo: Undo, cause: str) -> Steps[None]:
    """Run what is left of a task's rollback hooks, the last first, and record that it is rolled back."""
    run_id, seq = undo.row.run_id, undo.row.seq
    hooks, failed = list(reversed(undo.hooks)), []
    for number, hook in enumerate(hooks[undo.done :], undo.done + 1):
        words = yield from call_hook(undo.part, hook, "the rollback goes on")
        if words is not None:
            failed.append(words)
        if number < len(hooks):
            yield Durable(_hook_done(run_id, seq, number))
    text = cause + (f"; its hook {'; '.join(failed)}" if failed else "")
    live = session.live_runs.get(run_id)
    attempt = live.attempt if live is not None else None
    garbage = yield Durable(lambda conn: _roll_back_row(conn, undo, attempt, text))
    session.results.remove(garbage)


def _roll_back_row(conn: Connection, undo: Undo, attempt: int | None, cause: str) -> list[str]:
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
    move_task(conn, found, "roll_back", run_attempt=attempt, at_us=now_us(), actor="engine", cause=cause)
    if undo.entry_key is not None:
        cache.remove(conn, undo.entry_key, run_id, seq)
    path = results.remove(conn, run_id, seq)
    return [path] if path is not None else []
