"""The ``result`` table: journalled results. Bytes go in and come out; nothing here decodes them."""

from __future__ import annotations

import sqlite3
from typing import Final

from .rows import ResultRow

RESULT_COLUMNS: Final = ", ".join(ResultRow._fields)
PUT: Final = f"INSERT OR REPLACE INTO result ({RESULT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
SELECT_ONE: Final = f"SELECT {RESULT_COLUMNS} FROM result WHERE run_id = ? AND seq = ?"
SELECT_OF_RUN: Final = f"SELECT {RESULT_COLUMNS} FROM result WHERE run_id = ? ORDER BY seq"


def put(connection: sqlite3.Connection, row: ResultRow) -> None:
    """Store a result, replacing an earlier one of the same task run."""
    connection.execute(PUT, row)


def get(connection: sqlite3.Connection, run_id: int, seq: int) -> ResultRow | None:
    """The result of a task run, or None."""
    row = connection.execute(SELECT_ONE, (run_id, seq)).fetchone()
    return ResultRow._make(row) if row else None


def of_run(connection: sqlite3.Connection, run_id: int) -> list[ResultRow]:
    """Every journalled result of a run."""
    return [ResultRow._make(row) for row in connection.execute(SELECT_OF_RUN, (run_id,))]
