"""A new store on a real disk for each test, and short ways to make runs and tasks in it."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flowdeck.store.connection import connect, transaction
from flowdeck.store.opening import open_store
from flowdeck.store.rows import TaskRow
from flowdeck.store.tables import runs

ACTOR = "tester@here via test"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "store"
    open_store(place)
    return place


@pytest.fixture
def state(folder: Path) -> Iterator[sqlite3.Connection]:
    connection = connect(folder, "state")
    yield connection
    connection.close()


@pytest.fixture
def telemetry(folder: Path) -> Iterator[sqlite3.Connection]:
    connection = connect(folder, "telemetry")
    yield connection
    connection.close()


@pytest.fixture
def make_run(state: sqlite3.Connection) -> Callable[..., int]:
    """Insert a run with defaults; return its id."""

    def make(**options: Any) -> int:
        values: dict[str, Any] = {
            "flow_name": "etl", "name": "", "state": ("PENDING", "Pending"), "actor": ACTOR, "at_us": 1_000,
        }  # fmt: skip
        with transaction(state):
            return runs.insert(state, **{**values, **options})

    return make


@pytest.fixture
def make_task() -> Callable[..., TaskRow]:
    """A task row with defaults."""
    numbers = itertools.count(1)

    def make(run_id: int, **changes: Any) -> TaskRow:
        seq = changes.pop("seq", None) or next(numbers)
        row = TaskRow(
            run_id=run_id, seq=seq, key="extract", scope_seq=0, call_index=seq, map_group=None, map_index=None,
            name=f"extract-{seq}", kind="task", child_run_id=None, state_type="RUNNING", state_name="Running",
            cause=None, attempt=1, run_attempt=1, created_at_us=1_000, started_at_us=1_000, ended_at_us=None,
            duration_us=None, cpu_us=None, peak_rss_bytes=None, tags="[]", inputs_hash=None, wake_at_us=None,
        )  # fmt: skip
        return row._replace(**changes)

    return make
