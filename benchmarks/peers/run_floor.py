"""The floor: what a durable record costs when it is written by hand with sqlite3 (WAL, synchronous=FULL)."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from typing import Any

from protocol import serve, timed

ROWS = 100
"""Tasks a commit, where they do not wait for each other."""


def main(folder: str) -> None:
    raw = sqlite3.connect(os.path.join(folder, "raw.db"), isolation_level=None)
    raw.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
        "CREATE TABLE row (id INTEGER PRIMARY KEY, run INTEGER, name TEXT, state TEXT);"
        "CREATE TABLE task (seq INTEGER PRIMARY KEY, run INTEGER, name TEXT, state TEXT, started REAL, ended REAL);"
        "CREATE TABLE event (id INTEGER PRIMARY KEY AUTOINCREMENT, task INTEGER, state TEXT, at REAL, actor TEXT);"
        "CREATE INDEX event_by_task ON event (task, id);"
        "CREATE TABLE result (seq INTEGER PRIMARY KEY, codec TEXT, data BLOB);"
    )

    def record() -> None:
        now = time.time()
        seq = raw.execute("INSERT INTO task (run, name, state, started, ended) VALUES (1, 'step', 'COMPLETED', ?, ?)",
                          (now, now)).lastrowid  # fmt: skip
        raw.execute("INSERT INTO event (task, state, at, actor) VALUES (?, 'RUNNING', ?, 'engine')", (seq, now))
        raw.execute("INSERT INTO event (task, state, at, actor) VALUES (?, 'COMPLETED', ?, 'engine')", (seq, now))
        raw.execute("INSERT INTO result VALUES (?, 'json', ?)", (seq, b"12345"))

    def one_row(count: int) -> None:
        for number in range(count):
            raw.execute("BEGIN IMMEDIATE")
            raw.execute("INSERT INTO row (run, name, state) VALUES (1, 'step', ?)", (str(number),))
            raw.execute("COMMIT")

    def one_by_one(count: int) -> None:
        for _ in range(count):
            raw.execute("BEGIN IMMEDIATE")
            record()
            raw.execute("COMMIT")

    def grouped(count: int) -> None:
        for first in range(0, count, ROWS):
            raw.execute("BEGIN IMMEDIATE")
            for _ in range(first, min(first + ROWS, count)):
                record()
            raw.execute("COMMIT")

    def rounds_of(work: Any) -> Any:
        return lambda count: timed(count, work, lambda: count)

    serve(
        {"synchronous": raw.execute("PRAGMA synchronous").fetchone()[0], "sqlite": sqlite3.sqlite_version},
        {"row": rounds_of(one_row), "sequential": rounds_of(one_by_one), "submitted": rounds_of(grouped)},
    )


main(sys.argv[1])
