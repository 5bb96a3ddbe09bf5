"""The ``staged_task`` table: what tasks in transactions hold for their hooks, and how far a rollback has come.

A rollback is written down before its first hook runs and crossed off hook by hook, so that whoever resumes the run
ends it. All writes expect an open write transaction.
"""

from __future__ import annotations

from typing import Final

from ..connection import Connection
from ..rows import StagedRow

STAGED_COLUMNS: Final = ", ".join(StagedRow._fields)
PUT: Final = f"INSERT OR REPLACE INTO staged_task ({STAGED_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
SELECT_ONE: Final = f"SELECT {STAGED_COLUMNS} FROM staged_task WHERE run_id = ? AND task_seq = ?"
SELECT_UNDER_WAY: Final = (
    f"SELECT {STAGED_COLUMNS} FROM staged_task WHERE run_id = ? AND rollback_place IS NOT NULL"
    " ORDER BY transaction_name, rollback_place"
)
SELECT_OF_TRANSACTION: Final = f"SELECT {STAGED_COLUMNS} FROM staged_task WHERE transaction_name = ?"
UPDATE_ROLLBACK: Final = "UPDATE staged_task SET rollback_hooks_done = ?3 WHERE run_id = ?1 AND task_seq = ?2"
DELETE: Final = "DELETE FROM staged_task WHERE run_id = ? AND task_seq = ?"


def put(connection: Connection, row: StagedRow) -> None:
    """Write a staged task, in place of what was written of it before."""
    connection.execute(PUT, row)


def get(connection: Connection, run_id: int, task_seq: int) -> StagedRow | None:
    """What is written of one task, or None."""
    row = connection.execute(SELECT_ONE, (run_id, task_seq)).fetchone()
    return StagedRow._make(row) if row else None


def of_transaction(connection: Connection, name: str) -> list[StagedRow]:
    """The tasks of one transaction that hold something for its end."""
    return [StagedRow._make(row) for row in connection.execute(SELECT_OF_TRANSACTION, (name,))]


def rollbacks_under_way(connection: Connection, run_id: int) -> list[StagedRow]:
    """The tasks that a rollback has still to undo, each transaction's in the order of the rollback."""
    return [StagedRow._make(row) for row in connection.execute(SELECT_UNDER_WAY, (run_id,))]


def rollback_hook_done(connection: Connection, run_id: int, task_seq: int, done: int) -> None:
    """Note how many rollback hooks of a task are done."""
    connection.execute(UPDATE_ROLLBACK, (run_id, task_seq, done))


def remove(connection: Connection, run_id: int, task_seq: int) -> None:
    """Nothing of the task is staged any more."""
    connection.execute(DELETE, (run_id, task_seq))
