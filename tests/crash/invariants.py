"""The invariants of docs/design.md as plain functions on a store and the effects its runs left outside of it.

Each raises AssertionError with what it found. They read with SQL of their own where the store's reader could share
a mistake with what is tested.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

TERMINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
Row = tuple[object, ...]


class Effects:
    """What the user's code did outside the store: one line each, appended with one write."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[str]:
        """All whole lines so far."""
        try:
            return self.path.read_text().split("\n")[:-1]
        except FileNotFoundError:
            return []

    def hooks(self) -> set[str]:
        """Which hooks of transactions ran."""
        return {line for line in self.lines() if line.startswith("hook ")}

    def begun(self) -> Counter[str]:
        """How often each task's body began."""
        return Counter(line.split()[1] for line in self.lines() if line.startswith("begin "))


class Committed(NamedTuple):
    """What the store knew at the moment of a kill, and how often those bodies had begun by then."""

    names: frozenset[str]
    begun: Counter[str]


def rows(store: Path, query: str, parameters: Iterable[object] = (), database: str = "state") -> list[Row]:
    """An answer of the file itself."""
    with closing(sqlite3.connect(f"file:{store}/{database}.db?mode=ro", uri=True, timeout=10)) as connection:
        return connection.execute(query, tuple(parameters)).fetchall()


def committed(store: Path, root_id: int, effects: Effects) -> Committed:
    """The tasks of a run and its subflows that are recorded as completed, by name. The run's process must be dead.

    What a transaction took back is not committed: it may run again.
    """
    found = rows(
        store,
        "SELECT t.name FROM task_run t JOIN flow_run r ON r.id = t.run_id WHERE ? IN (r.id, r.root_id)"
        " AND t.kind = 'task' AND t.state_type = 'COMPLETED' AND t.state_name <> 'RolledBack'",
        (root_id,),
    )
    return Committed(frozenset(str(name) for (name,) in found), effects.begun())


def i1_acknowledged_runs_exist(store: Path, run_ids: Iterable[int]) -> None:
    """Every number that a submission gave back is a run."""
    known = {run_id for (run_id,) in rows(store, "SELECT id FROM flow_run")}
    assert set(run_ids) <= known, f"acknowledged, but gone: {sorted(set(run_ids) - known)}"


def i2_ended_runs_stay_ended(store: Path) -> None:
    """A root run leaves a terminal state only by somebody's request, or CRASHED by its resumption."""
    left = rows(
        store,
        "SELECT e.run_id, e.from_type, e.to_type, e.to_name, e.actor FROM event e JOIN flow_run r ON r.id = e.run_id"
        " WHERE e.kind = 'state' AND e.task_seq IS NULL AND r.root_id IS NULL AND e.actor = 'engine'"
        f" AND e.from_type IN {TERMINAL} AND NOT (e.from_type = 'CRASHED' AND e.to_name = 'Resuming')",
    )
    assert not left, f"left an end without a request: {left}"


def i3_committed_tasks_never_run_again(before: Committed, effects: Effects, taken_back: Counter[str]) -> None:
    """Bodies of tasks that were recorded as completed at a kill did not begin again after it.

    But once for each time a transaction took them back, which it may have set out to do before the kill.
    """
    after = effects.begun()
    again = {name: (before.begun[name], after[name]) for name in before.names
             if after[name] != before.begun[name]
             and not 0 < after[name] - before.begun[name] <= taken_back[name]}  # fmt: skip
    assert not again, f"ran again although committed (begun before, begun in all): {again}"


def taken_back(store: Path) -> Counter[str]:
    """How often tasks were rolled back with their transaction, by name."""
    return Counter(str(name) for (name,) in rows(
        store,
        "SELECT t.name FROM event e JOIN task_run t ON (t.run_id, t.seq) = (e.run_id, e.task_seq)"
        " WHERE e.kind = 'state' AND e.to_name = 'RolledBack'",
    ))  # fmt: skip


def i3_what_followed_a_call_knows_its_record(before: Committed, effects: Effects) -> None:
    """At a kill, every call that had returned to the flow was committed: the flow noted ``returned NAME`` after it."""
    returned = {line.split()[1] for line in effects.lines() if line.startswith("returned ")}
    assert returned <= before.names, f"returned, but not recorded: {sorted(returned - before.names)}"


def calls_recorded(store: Path, root_id: int) -> Counter[tuple[object, ...]]:
    """Every call of a run and its subflows: flow, name, kind, state, whether it was taken back."""
    return Counter(rows(
        store,
        "SELECT r.flow_name, t.name, t.kind, t.state_type, t.state_name = 'RolledBack'"
        " FROM task_run t JOIN flow_run r ON r.id = t.run_id"
        " WHERE ? IN (r.id, r.root_id)",
        (root_id,),
    ))  # fmt: skip


def i3_what_returned_never_begins_again(effects: Effects) -> None:
    """Once a call had returned to its flow its body never began again, whatever died, was looked at or copied since."""
    returned: set[str] = set()
    again = []
    for line in effects.lines():
        word, _, name = line.partition(" ")
        if word == "returned":
            returned.add(name)
        elif word == "begin" and name in returned:
            again.append(name)
    assert not again, f"began again although committed: {again}"


def i3_bodies_ran_as_often_as_recorded(store: Path, effects: Effects) -> None:
    """Every committed body ran, no more often than its run was attempted, and once where that was once."""
    begun = effects.begun()
    wrong = [
        (name, begun[str(name)], attempt)
        for name, attempt in rows(
            store,
            "SELECT t.name, r.attempt FROM task_run t JOIN flow_run r ON r.id = t.run_id"
            " WHERE t.kind = 'task' AND t.state_type = 'COMPLETED'",
        )
        if not 1 <= begun[str(name)] <= int(str(attempt))
    ]
    assert not wrong, f"(task, begun, attempts): {wrong}"


def i4_one_process_at_a_time(effects: Effects, attempt: int, run_id: int | None = None) -> None:
    """The lines of the run's processes do not interleave, and there were no more processes than attempts."""
    order: list[str] = []
    for line in effects.lines():
        if line.startswith("process " if run_id is None else f"process {run_id} "):
            pid = line.split()[-1]
            if not order or order[-1] != pid:
                order.append(pid)
    assert len(order) == len(set(order)), f"processes took turns: {order}"
    assert len(order) <= attempt, f"{len(order)} processes for {attempt} attempts"


def i5_each_tick_has_one_run(store: Path, seconds: int = 1) -> None:
    """No due time of a schedule has two runs, and between the first and the last none is missing."""
    by_schedule: dict[object, list[int]] = defaultdict(list)
    for schedule_id, due_us in rows(
        store, "SELECT schedule_id, due_at_us FROM flow_run WHERE schedule_id IS NOT NULL ORDER BY due_at_us"
    ):
        by_schedule[schedule_id].append(int(str(due_us)))
    for schedule_id, due in by_schedule.items():
        wanted = list(range(due[0], due[-1] + 1, seconds * 1_000_000))
        assert due == wanted, f"schedule {schedule_id}: ticks {sorted(set(wanted) ^ set(due))} differ, or are doubled"


def i6_nothing_runs_without_a_process(store: Path) -> None:
    """Every run that is said to run has a lease of a process that lives."""
    live = "state_type IN ('RUNNING', 'CANCELLING')"
    found = rows(store, f"SELECT id, coalesce(root_id, id), state_name FROM flow_run WHERE {live}")
    for run_id, root_id, name in found:
        lease = rows(store, "SELECT pid FROM lease WHERE run_id = ?", (root_id,))
        still = rows(store, f"SELECT 1 FROM flow_run WHERE id = ? AND {live}", (run_id,))
        if still:
            assert lease, f"run #{run_id} is {name} without a lease"
            assert is_alive(int(str(lease[0][0]))), f"run #{run_id} is {name}, its process {lease[0][0]} is gone"


def i8_what_was_said_is_stored(store: Path, root_id: int | None, effects: Effects) -> None:
    """Every line that a process had logged or printed before it noted so is in the log once, in the order said.

    Of one run, or with None of all: speakers are no two runs' then.
    """
    told: dict[str, list[str]] = defaultdict(list)
    for line in effects.lines():
        if line.startswith("said "):
            _, speaker, number = line.split()
            told[speaker].append(number)
    stored: dict[str, list[str]] = defaultdict(list)
    for (message,) in rows(
        store,
        "SELECT message FROM log WHERE (? IS NULL OR root_id = ?) AND message LIKE 'saying %' ORDER BY line",
        (root_id, root_id), "telemetry",
    ):  # fmt: skip
        _, speaker, number = str(message).split()
        stored[speaker].append(number)
    for speaker, numbers in told.items():
        kept = stored[speaker]
        assert kept[: len(numbers)] == numbers, (
            f"{speaker} said {len(numbers)} lines, {len(kept)} are stored; first difference at "
            f"{next((a, b) for a, b in zip([*numbers, None], [*kept, None, None], strict=False) if a != b)}"
        )
        assert len(kept) <= len(numbers) + 1, f"{speaker}: {len(kept)} lines for {len(numbers)} said"


def i9_files_are_sound(store: Path) -> None:
    """SQLite finds both files intact, and nothing refers to what is not there."""
    for database in ("state", "telemetry"):
        assert rows(store, "PRAGMA integrity_check", database=database) == [("ok",)]
        assert rows(store, "PRAGMA foreign_key_check", database=database) == []


def i10_events_tell_the_tables(store: Path) -> None:
    """Going through the events: each begins where the one before ended, and the last ones are what the tables say."""
    with closing(sqlite3.connect(f"file:{store}/state.db?mode=ro", uri=True, timeout=10)) as connection:
        connection.execute("BEGIN")  # one snapshot: other runs may go on meanwhile
        events = connection.execute(
            "SELECT id, run_id, task_seq, from_type, from_name, to_type, to_name FROM event WHERE kind = 'state'"
            " ORDER BY id"
        ).fetchall()
        runs = connection.execute("SELECT id, state_type, state_name FROM flow_run").fetchall()
        tasks = connection.execute("SELECT run_id, seq, state_type, state_name FROM task_run").fetchall()
    told: dict[tuple[object, object], tuple[object, object]] = {}
    broken = []
    for event_id, run_id, task_seq, *states in events:
        from_, to = tuple(states[:2]), (states[2], states[3])
        if told.get((run_id, task_seq), (None, None)) != from_:
            broken.append((event_id, run_id, task_seq, told.get((run_id, task_seq)), from_, to))
        told[run_id, task_seq] = to
    now: dict[tuple[object, object], tuple[object, object]] = {(run_id, None): (*state,) for run_id, *state in runs}
    now |= {(run_id, seq): (*state,) for run_id, seq, *state in tasks}
    keys = told.keys() | now.keys()
    different = {key: (told.get(key), now.get(key)) for key in keys if told.get(key) != now.get(key)}
    assert not different, f"(events, tables) differ: {different}"
    assert not broken, f"events that do not follow each other (id, run, task, was, from, to): {broken[:5]}"


def ended_runs_hold_nothing_open(store: Path) -> None:
    """Within an ended run no task and no subflow is open, and a completed run has its result."""
    open_tasks = rows(
        store,
        "SELECT t.run_id, t.seq, t.name, t.state_name, r.state_name FROM task_run t JOIN flow_run r ON r.id = t.run_id"
        f" WHERE r.state_type IN {TERMINAL} AND t.ended_at_us IS NULL",
    )
    assert not open_tasks, f"open tasks of ended runs: {open_tasks}"
    open_runs = rows(
        store,
        "SELECT c.id, c.state_name, r.id, r.state_name FROM flow_run c JOIN flow_run r ON r.id = c.root_id"
        f" WHERE r.state_type IN {TERMINAL} AND c.state_type NOT IN {TERMINAL}",
    )
    assert not open_runs, f"open subflow runs of ended runs: {open_runs}"


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and is not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def result_of(store: Path, run_id: int) -> bytes | None:
    """The bytes of a run's own result."""
    found = rows(store, "SELECT data FROM result WHERE run_id = ? AND seq = 0", (run_id,))
    return bytes(found[0][0]) if found and isinstance(found[0][0], bytes) else None


