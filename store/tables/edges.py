"""The ``edge`` table: which task run feeds which, or is awaited by it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ..connection import Connection
from ..rows import EdgeRow

EDGE_COLUMNS: Final = ", ".join(EdgeRow._fields)
INSERT: Final = (
    f"INSERT INTO edge ({EDGE_COLUMNS}) VALUES (?, ?, ?, ?, ?) ON CONFLICT (run_id, to_seq, from_run_id, from_seq)"
    " DO UPDATE SET kind = excluded.kind WHERE edge.kind = 'wait'"
)
"""A task that is both awaited and read feeds data: the stronger kind stays."""
SELECT_OF_RUN: Final = f"SELECT {EDGE_COLUMNS} FROM edge WHERE run_id = ? ORDER BY to_seq, from_run_id, from_seq"


def add(connection: Connection, run_id: int, to_seq: int, sources: Iterable[tuple[int, int, str]]) -> None:
    """Note what task ``(run_id, to_seq)`` depends on: ``(from_run_id, from_seq, kind)`` each. Repeats do no harm."""
    connection.executemany(INSERT, [(run_id, to_seq, *source) for source in sources])


def add_rows(connection: Connection, rows: Iterable[EdgeRow]) -> None:
    """Note dependencies of many tasks. Repeats do no harm."""
    connection.executemany(INSERT, rows)


def of_run(connection: Connection, run_id: int) -> list[EdgeRow]:
    """Every dependency of a run's tasks."""
    return [EdgeRow._make(row) for row in connection.execute(SELECT_OF_RUN, (run_id,))]
