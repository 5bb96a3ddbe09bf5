"""The tree of a run, changed row by row, is always the tree that building it from all rows would give."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from flowdeck.store.rows import RunRow, TaskRow
from flowdeck.tui.models.tree import TreeModel, guide, is_live
from flowdeck.tui.models.tree_parts import Counts, GroupKey, TaskKey
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = 1


def task(seq: int, key: str = "work", *, run_id: int = ROOT, state: str = "COMPLETED", **changes) -> TaskRow:
    ended = state in ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
    started = None if state in ("PENDING", "SCHEDULED") else seq * 100
    row = TaskRow(
        run_id=run_id, seq=seq, key=key, scope_seq=0, call_index=seq, map_group=None, map_index=None,
        name=f"{key}-{seq}", kind="task", child_run_id=None, state_type=state, state_name=state.capitalize(),
        cause="it broke" if state == "FAILED" else None, attempt=1, run_attempt=1, created_at_us=seq,
        started_at_us=started, ended_at_us=started + 50 if ended and started is not None else None,
        duration_us=50 if ended else None, cpu_us=None, peak_rss_bytes=None, tags="[]", inputs_hash=None,
        wake_at_us=None,
    )  # fmt: skip
    return row._replace(**changes)


def run(run_id: int, parent_seq: int, state: str = "RUNNING") -> RunRow:
    values = dict.fromkeys(RunRow._fields)
    values |= {
        "id": run_id, "flow_name": "child", "name": f"child-{run_id}", "state_type": state,
        "state_name": state.capitalize(), "attempt": 2, "parent_run_id": ROOT, "parent_seq": parent_seq,
        "started_at_us": 7, "intent": "none",
    }  # fmt: skip
    return RunRow(**values)


def labels(model: TreeModel) -> list[str]:
    return [guide(line.rails) + line.label for line in model.rows()]


def naive(tasks: dict[TaskKey, TaskRow], is_open) -> list[tuple]:
    """The whole tree from all rows at once, with no thought of cost."""

    def group_key(row: TaskRow) -> GroupKey | None:
        return None if row.map_group is None else GroupKey(row.run_id, row.scope_seq, row.key, row.map_group)

    def top_of(run_id: int, scope: int) -> list[TaskRow]:
        return [row for _, row in sorted(tasks.items()) if row.run_id == run_id and row.scope_seq == scope]

    def counts(rows: list[TaskRow]) -> Counts:
        same = {"CRASHED": "FAILED", "SCHEDULED": "PENDING"}
        kinds = Counter(same.get(row.state_type, row.state_type) for row in rows)
        return Counts(kinds["COMPLETED"], kinds["FAILED"], kinds["CANCELLED"], kinds["RUNNING"], kinds["PENDING"])

    def beneath(row: TaskRow) -> list[TaskRow]:
        rows = top_of(row.run_id, row.seq)
        return rows + (top_of(row.child_run_id, 0) if row.child_run_id is not None else [])

    def show(rows: list[TaskRow], rails: tuple[bool, ...], top: bool) -> list[tuple]:
        entries: dict[object, list[TaskRow]] = {}
        for row in rows:
            entries.setdefault(group_key(row) or TaskKey(row.run_id, row.seq), []).append(row)
        out = []
        for i, (key, members) in enumerate(entries.items()):
            here = () if top else (*rails, i < len(entries) - 1)
            if isinstance(key, GroupKey):
                out.append((key, here, counts(members)))
                inner = [(m, i == len(members) - 1) for i, m in enumerate(members)]
                if is_open(key):
                    for member, last in inner:
                        out += one(member, (*here, not last))
            else:
                out += one(members[0], here)
        return out

    def one(row: TaskRow, rails: tuple[bool, ...]) -> list[tuple]:
        key = TaskKey(row.run_id, row.seq)
        rows = beneath(row)
        line = [(key, rails, counts(rows) if rows else None)]
        return line + (show(rows, rails, False) if is_open(key) else [])

    return show(top_of(ROOT, 0), (), True)


STATES = ["PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "CRASHED", "SCHEDULED"]


@st.composite
def families(draw) -> list[TaskRow]:
    """Tasks of a run, nested ones, maps, and subflows with tasks of their own."""
    rows: list[TaskRow] = []
    runs = [ROOT]
    for run_id in runs:
        count = draw(st.integers(0, 9))
        mapped_at: dict[tuple[int, str], int] = {}
        for seq in range(1, count + 1):
            scope = draw(st.sampled_from([0, 0, 0, *range(1, seq)]))
            shape = draw(st.sampled_from(["task", "task", "map", "map", "subflow"]))
            key = draw(st.sampled_from("ab"))
            changes: dict = {"scope_seq": scope}
            if shape == "map":
                changes |= {"map_group": mapped_at.setdefault((scope, key), seq), "map_index": seq}
            if shape == "subflow" and len(runs) < 4:
                runs.append(10 * len(runs))
                changes |= {"kind": "subflow", "child_run_id": runs[-1]}
            rows.append(task(seq, key, run_id=run_id, state=draw(st.sampled_from(STATES)), **changes))
    return rows


@settings(max_examples=300, deadline=None)
@given(families(), st.data())
def test_changed_row_by_row_it_equals_the_tree_built_at_once(rows, data):
    """In whatever order rows come, change and are folded: same rows, same order, same rails, same counts."""
    model = TreeModel(ROOT)
    known: dict[TaskKey, TaskRow] = {}
    changes = data.draw(st.permutations(rows)) if rows else []
    changes += [
        data.draw(st.sampled_from(rows))._replace(state_type=state, state_name=state.capitalize())
        for state in data.draw(st.lists(st.sampled_from(STATES), max_size=5))
        if rows
    ]
    shown = []
    for change in changes:
        known[TaskKey(change.run_id, change.seq)] = change
        applied = model.apply([change])
        if data.draw(st.booleans()) and len(model):
            model.toggle(data.draw(st.sampled_from(model.keys())))
            applied = applied._replace(moved=True)
        expected = naive(known, model.is_open)
        assert [(line.key, line.rails, line.counts) for line in model.rows()] == expected
        assert applied.moved or [key for key, *_ in expected] == shown
        shown = [key for key, *_ in expected]
        assert len(model) == len(shown)
    for i, key in enumerate(shown):
        assert model.index(key) == i
        assert model.keys(i, 3) == shown[i : i + 3]


@settings(max_examples=100, deadline=None)
@given(families(), st.data())
def test_every_row_that_says_something_else_is_named(rows, data):
    """Rows that are not among the changed keys look as before, apart from the rails when rows moved."""
    model = TreeModel(ROOT)
    model.apply(rows)
    if not rows:
        return
    before: dict = {line.key: line for line in model.rows()}
    state = data.draw(st.sampled_from(STATES))
    applied = model.apply([data.draw(st.sampled_from(rows))._replace(state_type=state, attempt=2)])
    for line in model.rows():
        assert line == before[line.key] or line.key in applied.keys


def test_a_map_is_one_row_until_it_is_opened():
    """Its row counts its elements by state and says why the first one failed."""
    model = TreeModel(ROOT)
    states = ["COMPLETED", "FAILED", "RUNNING", "PENDING", "COMPLETED"]
    model.apply([task(1, "load")])
    model.apply(task(i + 2, "train", state=s, map_group=0, map_index=i) for i, s in enumerate(states))
    assert labels(model) == ["load-1", "train"]
    line = model.rows()[1]
    assert line.counts == Counts(completed=2, failed=1, running=1, waiting=1)
    assert (line.counts.total, line.counts.done) == (5, 3)
    assert (line.state_type, line.cause, line.open) == ("RUNNING", "it broke", False)
    assert line.started_at_us == 200
    assert line.ended_at_us is None
    assert is_live(line)
    assert model.toggle(line.key)
    assert labels(model) == ["load-1", "train", "├─ train-2", "├─ train-3", "├─ train-4", "├─ train-5", "╰─ train-6"]
    assert model.toggle(line.key)
    assert len(model) == 2


def test_a_map_that_ended_says_its_worst_state_and_its_whole_time():
    """From the first start to the last end, also after an element ran again."""
    model = TreeModel(ROOT)
    rows = [task(i, "train", map_group=1, map_index=i) for i in (1, 2, 3)]
    model.apply(rows)
    line = model.rows()[0]
    assert (line.state_type, line.duration_us, is_live(line)) == ("COMPLETED", 250, False)
    model.apply([rows[0]._replace(state_type="FAILED", started_at_us=310, ended_at_us=900)])
    line = model.rows()[0]
    assert (line.state_type, line.started_at_us, line.ended_at_us) == ("FAILED", 200, 900)
    model.apply([rows[0]._replace(started_at_us=320, ended_at_us=330)])
    line = model.rows()[0]
    assert (line.state_type, line.started_at_us, line.ended_at_us) == ("COMPLETED", 200, 350)


def test_a_subflow_shows_its_tasks_and_the_state_of_its_run():
    """The child run's row knows more than its place in the parent: pause, cause; its attempts are no tries."""
    model = TreeModel(ROOT)
    model.apply([task(5, "inner", run_id=9), task(6, "inner", run_id=9, state="RUNNING")])
    assert len(model) == 0
    applied = model.apply([task(2, "child", state="RUNNING", kind="subflow", child_run_id=9), task(3)])
    assert applied.moved
    assert labels(model) == ["child-2", "├─ inner-5", "╰─ inner-6", "work-3"]
    applied = model.apply([run(9, 2, "PAUSED")])
    assert TaskKey(ROOT, 2) in applied.keys
    line = model.rows()[0]
    assert (line.kind, line.state_type, line.tries, line.counts) == ("subflow", "PAUSED", 1, Counts(1, running=1))
    assert model.totals() == Counts(2, running=2)


def test_a_subflow_that_is_made_anew_shows_its_new_run():
    """A retry of the parent may start another child run; the earlier one's tasks are no longer beneath it."""
    model = TreeModel(ROOT)
    model.apply([task(1, "child", kind="subflow", child_run_id=9), task(1, "old", run_id=9), task(2)])
    model.apply([task(1, "child", kind="subflow", child_run_id=12)])
    assert labels(model) == ["child-1", "work-2"]
    model.apply([task(1, "new", run_id=12), task(2, "old", run_id=9)])
    assert labels(model) == ["child-1", "╰─ new-1", "work-2"]
    assert model.index(TaskKey(9, 1)) is None


def test_a_row_can_be_brought_to_light():
    """What a link leads to is opened down to it."""
    model = TreeModel(ROOT)
    model.apply([task(i, "t", map_group=0, map_index=i) for i in range(1, 5)])
    model.apply([task(9, "inner", scope_seq=3)])
    model.set_all_open(False)
    assert len(model) == 1
    assert model.index(TaskKey(ROOT, 9)) is None
    assert model.reveal(TaskKey(ROOT, 9)) == 4
    assert model.keys(4, 1) == [TaskKey(ROOT, 9)]


def cpu_seconds_of_changes(count: int, *, opened: bool, growing: bool) -> float:
    """CPU time of 300 changes to a map of so many elements, each followed by drawing a window."""
    model = TreeModel(ROOT)
    rows = [task(i, "train", state="RUNNING", map_group=0, map_index=i) for i in range(1, count + 1)]
    model.apply(rows)
    model.set_open(GroupKey(ROOT, 0, "train", 0), opened)
    done = [row._replace(state_type="COMPLETED", state_name="Completed") for row in rows[:300]]
    new = [task(count + i, "train", map_group=0, map_index=count + i) for i in range(1, 301)]
    started = time.process_time()
    for change in new if growing else done:
        model.apply([change])
        model.rows(len(model) // 2, 40)
    return time.process_time() - started


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("growing", [False, True])
def test_a_change_among_a_hundred_thousand_tasks_costs_what_is_in_sight(opened, growing):
    """Neither a change, nor a new task, nor a window looks at every task: a hundred times as many cost the same."""
    few = min(cpu_seconds_of_changes(1_000, opened=opened, growing=growing) for _ in range(3))
    many = cpu_seconds_of_changes(100_000, opened=opened, growing=growing)
    assert many < 30 * few + 0.02


def test_guides_in_ascii():
    """Without box characters the tree still shows."""
    assert guide((True, False), ascii_only=True) == "|  `- "
    assert guide((), ascii_only=True) == ""
