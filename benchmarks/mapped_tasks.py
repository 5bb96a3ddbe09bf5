"""Mapped and submitted tasks, durable, beside the same rows written by hand in groups."""

from __future__ import annotations

from collections.abc import Iterator

from .measure import REPORT, Measure, bench, median, spread

SCRIPT = REPORT + """
import sqlite3, sys, time
from flowdeck import flow, task

ROWS = 100

@task
def step(number):
    return number

def raw_rows(raw, count):
    \"\"\"What a task leaves behind (its row, two events, its result), by hand, ROWS tasks a commit.\"\"\"
    begun = time.perf_counter()
    first = raw.execute("SELECT coalesce(max(seq), 0) FROM task").fetchone()[0]
    for start in range(first, first + count, ROWS):
        raw.execute("BEGIN IMMEDIATE")
        for seq in range(start, start + ROWS):
            raw.execute("INSERT INTO task VALUES (?, 1, 'step', 'COMPLETED', ?, ?)", (seq + 1, begun, begun))
            raw.execute("INSERT INTO event (task, state, at, actor) VALUES (?, 'RUNNING', ?, 'engine')", (seq, begun))
            raw.execute("INSERT INTO event (task, state, at, actor) VALUES (?, 'COMPLETED', ?, 'engine')", (seq, begun))
            raw.execute("INSERT INTO result VALUES (?, 'json', ?)", (seq + 1, b"12345"))
        raw.execute("COMMIT")
    return count / (time.perf_counter() - begun)

@flow
def mapping(rounds: int, count: int):
    raw = sqlite3.connect(os.path.join(os.environ["FLOWDECK_BENCH"], "raw.db"), isolation_level=None)
    raw.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
        "CREATE TABLE task (seq INTEGER PRIMARY KEY, run INTEGER, name TEXT, state TEXT, started REAL, ended REAL);"
        "CREATE TABLE event (id INTEGER PRIMARY KEY AUTOINCREMENT, task INTEGER, state TEXT, at REAL, actor TEXT);"
        "CREATE INDEX event_by_task ON event (task, id);"
        "CREATE TABLE result (seq INTEGER PRIMARY KEY, codec TEXT, data BLOB);")
    floors, mapped, submitted = [], [], []
    step.map(range(200)).wait()
    for _ in range(rounds):
        floors.append(raw_rows(raw, count))
        begun = time.perf_counter()
        step.map(range(count)).wait()
        mapped.append(count / (time.perf_counter() - begun))
        begun = time.perf_counter()
        futures = [step.submit(number) for number in range(count // 2)]
        for future in futures:
            future.result()
        submitted.append(count // 2 / (time.perf_counter() - begun))
    report(floors=floors, mapped=mapped, submitted=submitted)

mapping(int(sys.argv[1]), int(sys.argv[2]))
"""


def run(*, quick: bool) -> Iterator[Measure]:
    with bench() as here:
        found = here.run(here.script("mapping.py", SCRIPT), *(("1", "4000") if quick else ("5", "10000")))
    for word in ("mapped", "submitted"):
        rate = median(found[word])
        yield Measure(
            "mapped_tasks", f"tasks {word}, durable", rate, "/s", median(found["floors"]),
            "their rows by hand, 100 tasks a commit",
            median([floor / ours for floor, ours in zip(found["floors"], found[word], strict=True)]),
            "≥ 5,000 /s", rate >= 5000, spread(found[word]),
        )  # fmt: skip
