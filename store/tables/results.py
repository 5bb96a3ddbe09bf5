"""The ``result`` table: journalled results. Bytes go in and come out; nothing here decodes them."""

from __future__ import annotations

from typing import Final

from ..connection import Connection
from ..rows import ResultRow

RESULT_COLUMNS: Final = ", ".join(ResultRow._fields)
PARAMETERS_SEQ: Final = -1
"""Where a run keeps parameters that have no JSON form."""
IN_ROW_BYTES: Final = 256
"""A result up to this size stands in its task's row: a table of its own would cost each task one more page."""
PUT: Final = f"INSERT OR REPLACE INTO result ({RESULT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
PUT_IN_ROW: Final = (
    "UPDATE task_run SET result_codec = ?3, result_checksum = ?4, result_data = ?5, result_preview = ?6"
    " WHERE run_id = ?1 AND seq = ?2"
)
SELECT_IN_ROW: Final = (
    "SELECT run_id, seq, result_codec, result_checksum, coalesce(length(result_data), 0), result_data, NULL,"
    " result_preview FROM task_run WHERE run_id = ?1 AND seq = ?2 AND result_codec IS NOT NULL"
)
SELECT_ONE: Final = f"SELECT {RESULT_COLUMNS} FROM result WHERE run_id = ?1 AND seq = ?2"
SELECT_CODECS: Final = (
    "SELECT seq, codec FROM result WHERE run_id = ?1 UNION ALL"
    " SELECT seq, result_codec FROM task_run WHERE run_id = ?1 AND result_codec IS NOT NULL"
)
DELETE_ONE: Final = "DELETE FROM result WHERE run_id = ? AND seq = ?"
SELECT_OF_RUN: Final = f"SELECT {RESULT_COLUMNS} FROM result WHERE run_id = ? ORDER BY seq"
SELECT_IN_ROWS: Final = (
    "SELECT run_id, seq, result_codec, result_checksum, coalesce(length(result_data), 0), result_data, NULL,"
    " result_preview FROM task_run WHERE run_id = ? AND result_codec IS NOT NULL ORDER BY seq"
)


def stands_in_row(row: ResultRow) -> bool:
    """Whether a task's result is small enough for its row."""
    return row.path is None and row.size_bytes <= IN_ROW_BYTES and len(row.preview) <= IN_ROW_BYTES


def put(connection: Connection, row: ResultRow) -> None:
    """Store a result, replacing an earlier one of the same task run, whose row must stand already.

    Seqs below 1 are the run's own: its result and parameters.
    """
    if row.seq < 1:
        connection.execute(PUT, row)
        return
    if stands_in_row(row):
        shown = (row.codec, row.checksum, row.data, row.preview)
        if connection.execute(PUT_IN_ROW, (row.run_id, row.seq, *shown)).rowcount:
            return
    connection.execute(PUT, row)
    connection.execute(PUT_IN_ROW, (row.run_id, row.seq, None, None, None, None))


def get(connection: Connection, run_id: int, seq: int) -> ResultRow | None:
    """The result of a task run (or, below seq 1, of the run), or None."""
    key = (run_id, seq)
    row = connection.execute(SELECT_IN_ROW, key).fetchone() or connection.execute(SELECT_ONE, key).fetchone()
    return ResultRow._make(row) if row else None


def get_apart(connection: Connection, run_id: int, seq: int) -> ResultRow | None:
    """The result that has a row of its own; None also when it is small and stands in its task's."""
    row = connection.execute(SELECT_ONE, (run_id, seq)).fetchone()
    return ResultRow._make(row) if row else None


def put_apart(connection: Connection, row: ResultRow) -> None:
    """Store a result in a row of its own, whatever its size."""
    connection.execute(PUT, row)


def of_run(connection: Connection, run_id: int) -> list[ResultRow]:
    """Every journalled result of a run, by seq."""
    found = {row[1]: ResultRow._make(row) for row in connection.execute(SELECT_OF_RUN, (run_id,))}
    found |= {row[1]: ResultRow._make(row) for row in connection.execute(SELECT_IN_ROWS, (run_id,))}
    return [found[seq] for seq in sorted(found)]


def codecs(connection: Connection, run_id: int) -> dict[int, str]:
    """How each journalled result of a run is stored, by seq."""
    return dict(connection.execute(SELECT_CODECS, (run_id,)).fetchall())


def remove(connection: Connection, run_id: int, seq: int) -> str | None:
    """Forget the result of a task run; returns its file, which nothing names any more."""
    connection.execute(PUT_IN_ROW, (run_id, seq, None, None, None, None))
    found = connection.execute(SELECT_ONE, (run_id, seq)).fetchone()
    connection.execute(DELETE_ONE, (run_id, seq))
    return ResultRow._make(found).path if found else None
