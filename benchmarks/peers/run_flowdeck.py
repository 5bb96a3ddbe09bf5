"""Flowdeck as a script runs it: default settings, no daemon."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import Any

from protocol import serve, timed

# isort: split
from flowdeck import flow, task


@task
def step(number: int) -> int:
    return number


@flow
def sequence(count: int) -> dict[str, Any]:
    def work(count: int) -> None:
        for number in range(count):
            step(number)

    return timed(count, work, stored)


@flow
def submission(count: int) -> dict[str, Any]:
    def work(count: int) -> None:
        futures = [step.submit(number) for number in range(count)]
        for future in futures:
            future.result()

    return timed(count, work, stored)


def stored() -> int:
    """The last run's tasks whose completion and result another connection finds in the file."""
    with closing(sqlite3.connect(f"file:{os.environ['FLOWDECK_STORE']}/state.db?mode=ro", uri=True)) as reader:
        return int(reader.execute(
            "SELECT count(*) FROM task_run WHERE run_id = (SELECT max(id) FROM flow_run)"
            " AND state_type = 'COMPLETED' AND result_codec IS NOT NULL"
        ).fetchone()[0])  # fmt: skip


serve({}, {"sequential": sequence, "submitted": submission})
