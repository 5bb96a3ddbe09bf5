"""The ``metric`` table, in the telemetry database: values measured by runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ..connection import Connection
from ..rows import MetricRow

METRIC_COLUMNS: Final = ", ".join(MetricRow._fields)
INSERT: Final = f"INSERT INTO metric ({METRIC_COLUMNS}) VALUES (?, ?, ?, ?, ?)"
SELECT_OF_RUN: Final = f"SELECT {METRIC_COLUMNS} FROM metric WHERE run_id = ? ORDER BY id"
SELECT_OF_TASK: Final = f"SELECT {METRIC_COLUMNS} FROM metric WHERE run_id = ? AND task_seq = ? ORDER BY id"


def append(connection: Connection, rows: Iterable[MetricRow]) -> None:
    """Store measured values."""
    connection.executemany(INSERT, rows)


def of_run(connection: Connection, run_id: int, task_seq: int | None = None) -> list[MetricRow]:
    """What a run, or one of its tasks, measured, oldest first."""
    if task_seq is None:
        rows = connection.execute(SELECT_OF_RUN, (run_id,))
    else:
        rows = connection.execute(SELECT_OF_TASK, (run_id, task_seq))
    return [MetricRow._make(row) for row in rows]
