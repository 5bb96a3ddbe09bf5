"""Durable tasks called one after another, beside raw fsync commits: a call returns once its record is on disk."""

from __future__ import annotations

from collections.abc import Iterator

from .measure import REPORT, Measure, bench, median, spread

SCRIPT = REPORT + """
import sqlite3, sys, time
from flowdeck import flow, task

@task
def step(number):
    return number

@flow
def sequence(blocks: int, size: int):
    raw = sqlite3.connect(os.path.join(os.environ["FLOWDECK_BENCH"], "raw.db"), isolation_level=None)
    raw.execute("PRAGMA journal_mode=WAL")
    raw.execute("PRAGMA synchronous=FULL")
    raw.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, run INTEGER, name TEXT, state TEXT)")
    raw.executescript(
        "CREATE TABLE task (run INTEGER, seq INTEGER, name TEXT, state TEXT, started REAL, ended REAL,"
        " PRIMARY KEY (run, seq)) WITHOUT ROWID; CREATE UNIQUE INDEX task_by_name ON task (run, name, seq);"
        "CREATE TABLE event (id INTEGER PRIMARY KEY AUTOINCREMENT, task INTEGER, state TEXT, at REAL, actor TEXT);"
        "CREATE INDEX event_by_task ON event (task, id); CREATE TABLE result (seq INTEGER PRIMARY KEY, data BLOB);")
    floors, records, ours, seq = [], [], [], 0
    for block in range(blocks + 1):
        begun = time.perf_counter()
        for number in range(size):
            raw.execute("BEGIN IMMEDIATE")
            raw.execute("INSERT INTO row (run, name, state) VALUES (?, ?, ?)", (1, "step", "COMPLETED"))
            raw.execute("COMMIT")
        middle = time.perf_counter()
        for number in range(size):
            step(number)
        ended = time.perf_counter()
        for number in range(size):
            seq += 1
            raw.execute("BEGIN IMMEDIATE")
            raw.execute("INSERT INTO task VALUES (1, ?, 'step', 'COMPLETED', ?, ?)", (seq, begun, begun))
            for state in ("RUNNING", "COMPLETED"):
                raw.execute(
                    "INSERT INTO event (task, state, at, actor) VALUES (?, ?, ?, 'engine')", (seq, state, begun)
                )
            raw.execute("INSERT INTO result VALUES (?, ?)", (seq, b"12345"))
            raw.execute("COMMIT")
        recorded = time.perf_counter()
        if block:  # the first one warms up
            floors.append(size / (middle - begun))
            ours.append(size / (ended - middle))
            records.append(size / (recorded - ended))
    report(floors=floors, records=records, ours=ours)

sequence(int(sys.argv[1]), int(sys.argv[2]))
"""


def run(*, quick: bool) -> Iterator[Measure]:
    with bench() as here:
        found = here.run(here.script("sequence.py", SCRIPT), *(("8", "100") if quick else ("30", "200")))
    ratio = median([floor / ours for floor, ours in zip(found["floors"], found["ours"], strict=True)])
    rate = median(found["ours"])
    yield Measure(
        "sequential_tasks", "durable task, called in sequence", rate, "/s", median(found["floors"]),
        "sqlite3, WAL, FULL, one row a commit", ratio, "≤ 2× and ≥ 1,500 /s", ratio <= 2 and rate >= 1500,
        spread(found["ours"]),
    )  # fmt: skip
    yield Measure(
        "sequential_tasks", "the same beside its record written by hand", rate, "/s", median(found["records"]),
        "row, two events, result, in one commit",
        median([record / ours for record, ours in zip(found["records"], found["ours"], strict=True)]),
    )  # fmt: skip
