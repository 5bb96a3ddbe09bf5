"""Stores filled with SQL, for measures on many runs. Their runs were never executed."""

from __future__ import annotations

import time
from pathlib import Path

from flowdeck.store.connection import connect
from flowdeck.store.opening import open_store

FLOWS = ("ingest", "clean", "report", "train", "sync")


def seed(folder: Path, *, runs: int) -> None:
    """A store with so many ended runs, one a second up to now; every hundredth failed."""
    open_store(folder)
    connection = connect(folder, "state")
    now_us = time.time_ns() // 1000
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO flow (name, created_at_us) VALUES (?, ?)", [(name, now_us) for name in FLOWS])
    connection.execute(
        "WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < :runs),"
        " r AS (SELECT id, :now - (:runs - id) * 1000000 AS at, id % 100 = 0 AS bad FROM n)"
        " INSERT INTO flow_run (id, flow_name, name, parameters, tags, state_type, state_name, cause, intent, attempt,"
        " crash_count, created_at_us, scheduled_at_us, started_at_us, ended_at_us, duration_us, actor)"
        " SELECT id, CASE id % 5 WHEN 0 THEN 'ingest' WHEN 1 THEN 'clean' WHEN 2 THEN 'report' WHEN 3 THEN 'train'"
        " ELSE 'sync' END, 'seeded-' || id, '{}', '[]', iif(bad, 'FAILED', 'COMPLETED'),"
        " iif(bad, 'Failed', 'Completed'),"
        " iif(bad, 'ValueError: no rows', NULL), 'none', 1, 0, at, at, at, at + 500000, 500000, 'seed' FROM r",
        {"runs": runs, "now": now_us},
    )
    connection.execute(
        "INSERT INTO task_run (run_id, seq, key, scope_seq, call_index, name, kind, state_type, state_name, attempt,"
        " run_attempt, created_at_us, started_at_us, ended_at_us, duration_us, tags)"
        " SELECT id, 1, 'step', 0, 0, 'step', 'task', 'COMPLETED', 'Completed', 1, 1, created_at_us, created_at_us,"
        " ended_at_us, 500000, '[]' FROM flow_run WHERE id > :runs - 1000",
        {"runs": runs},
    )
    connection.execute("COMMIT")
    connection.close()
