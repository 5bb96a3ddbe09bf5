"""A writing process is killed at random moments: what it was told is stored is stored, and the file is sound."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from flowdeck.store.connection import connect
from flowdeck.store.reader import Reader

ROUNDS = int(os.environ.get("FLOWDECK_CRASH_ROUNDS", "6"))

WRITE_UNTIL_KILLED = """
import os, sys, threading
from flowdeck.store import connection, growing_log
from flowdeck.store.tables import runs, tasks
from flowdeck.store.rows import TaskRow
from flowdeck.store.writer import Writer

# So small that checkpoints are among what is interrupted.
for module in (connection, growing_log):
    module.LOG_BYTES = {"state": 128 * 1024, "telemetry": 128 * 1024}
writer = Writer(sys.argv[1])
told = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND)
say = lambda word: os.write(told, (word + "\\n").encode())
run_id = writer.commit(lambda c: runs.insert(
    c, flow_name="f", name="", state=("RUNNING", "Running"), actor="child", at_us=1))
say(f"run {run_id}")

def row(seq):
    return TaskRow(run_id, seq, "k", 0, seq, None, None, f"k-{seq}", "task", None, "RUNNING", "Running", None, 1, 1,
                   1, 1, None, None, None, None, "[]", None, None)

def task(first, step, wait):
    for seq in range(first, 100_000, step):
        begin = lambda c, seq=seq: tasks.begin(c, row(seq), 1, "child")
        end = lambda c, seq=seq: tasks.finish(c, run_id, seq, run_attempt=1, from_=("RUNNING", "Running"),
                                              to=("COMPLETED", "Completed"), at_us=2, actor="child")
        writer.soon(begin)
        if wait:
            writer.commit(end)
            say(f"task {run_id} {seq}")
        else:
            writer.submit(end, lambda value, error, seq=seq: say(f"task {run_id} {seq}"))

for first in (1, 2):
    threading.Thread(target=task, args=(first, 3, True), daemon=True).start()
task(3, 3, False)
"""


def test_nothing_acknowledged_is_lost(folder: Path, tmp_path: Path) -> None:
    """Killed again and again on the same store, by commit() and by submit(): every promise made before is kept."""
    randomness = random.Random(42)
    told = tmp_path / "told"
    told.touch()
    for _ in range(ROUNDS):
        wanted = told.read_bytes().count(b"\n") + randomness.randrange(1, 100)
        child = subprocess.Popen([sys.executable, "-c", WRITE_UNTIL_KILLED, str(folder), str(told)])
        while told.read_bytes().count(b"\n") < wanted:
            assert child.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(randomness.uniform(0.0001, 0.01))
        child.kill()
        child.wait()
    promises = [line.split() for line in told.read_text().splitlines()]
    assert len(promises) > 10 * ROUNDS
    with Reader(folder) as reader:
        run_ids = {int(words[1]) for words in promises if words[0] == "run"}
        assert len(run_ids) == ROUNDS
        for run_id in run_ids:
            assert reader.run(run_id) is not None
            stored = {row.seq: row.state_type for row in reader.tasks(run_id)}
            for words in promises:
                if words[0] == "task" and int(words[1]) == run_id:
                    assert stored[int(words[2])] == "COMPLETED"
            events: dict[int, list[str | None]] = {}
            for event in reader.events(run_id=run_id, limit=1_000_000):
                if event.task_seq is not None:
                    events.setdefault(event.task_seq, []).append(event.to_type)
            for seq, state_type in stored.items():
                # The audit log tells the same as the table: both or neither were stored.
                assert events[seq] == (["RUNNING", "COMPLETED"] if state_type == "COMPLETED" else ["RUNNING"])
            assert events.keys() == stored.keys()
    connection = connect(folder, "state")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("PRAGMA foreign_key_check").fetchone() is None
    connection.close()


OPEN_UNTIL_KILLED = """
import sys
from flowdeck.store.opening import open_store
print(flush=True)
open_store(sys.argv[1])
"""


def test_a_killed_first_start_leaves_a_whole_store_or_none(tmp_path: Path) -> None:
    """Whenever making a store is cut off, the next start finds or makes a sound one."""
    from flowdeck.store.opening import open_store

    randomness = random.Random(7)
    for number in range(max(6, ROUNDS)):
        place = tmp_path / f"store{number}"
        child = subprocess.Popen([sys.executable, "-c", OPEN_UNTIL_KILLED, str(place)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        try:
            child.wait(randomness.uniform(0, 0.01))
        except subprocess.TimeoutExpired:
            child.kill()
        child.communicate()
        open_store(place)
        with Reader(place) as reader:
            assert reader.runs() == []
