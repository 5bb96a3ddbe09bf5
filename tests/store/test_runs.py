from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from flowdeck.store.connection import folder_of, transaction
from flowdeck.store.errors import StaleState
from flowdeck.store.rows import RunRow
from flowdeck.store.states import TERMINAL_TYPES
from flowdeck.store.tables import due, events, leases, runs, supervision
from flowdeck.store.tables.run_names import default_name

from .conftest import ACTOR

MakeRun = Callable[..., int]
PENDING, RUNNING, SCHEDULED = ("PENDING", "Pending"), ("RUNNING", "Running"), ("SCHEDULED", "Scheduled")
COMPLETED, FAILED = ("COMPLETED", "Completed"), ("FAILED", "Failed")


def _move(state: sqlite3.Connection, run_id: int, **options: Any) -> None:
    values: dict[str, Any] = {"attempt": 1, "at_us": 2_000, "actor": ACTOR, **options}
    with transaction(state):
        runs.transition(state, run_id, **values)


def _run(state: sqlite3.Connection, run_id: int) -> runs.RunRow:
    row = runs.get(state, run_id)
    assert row is not None
    return row


def test_a_new_run_has_its_flow_its_name_and_its_event(state: sqlite3.Connection, make_run: MakeRun) -> None:
    """One transaction makes all three; a run without a name gets one made from its number."""
    run_id = make_run(flow_description="loads things", parameters='{"a":1}')
    row = _run(state, run_id)
    assert (row.flow_name, row.name, row.parameters, row.attempt) == ("etl", default_name(run_id), '{"a":1}', 1)
    assert (row.created_at_us, row.scheduled_at_us, row.wake_at_us) == (1_000, 1_000, None)
    [event] = events.of_run(state, run_id)
    assert (event.kind, event.from_type, event.to_type, event.to_name, event.actor, event.attempt) == (
        "state", None, "PENDING", "Pending", ACTOR, 1,
    )  # fmt: skip
    [flow] = runs.flows(state)
    assert (flow.name, flow.description, flow.last_run_id) == ("etl", "loads things", run_id)
    make_run()  # says nothing about the description, so it stays
    assert runs.flows(state)[0].description == "loads things"
    assert make_run(name="mine") == 3
    assert _run(state, 3).name == "mine"


def test_names_are_all_different_for_a_long_time() -> None:
    """4 096 runs in a row have 4 096 names."""
    assert len({default_name(number) for number in range(1, 4097)}) == 4096


def test_a_tick_makes_one_run(state: sqlite3.Connection, make_run: MakeRun) -> None:
    """The second attempt for the same schedule and due time returns 0 and leaves no trace."""
    assert make_run(schedule_id=7, due_at_us=500) == 1
    before = events.last_id(state)
    assert make_run(schedule_id=7, due_at_us=500) == 0
    assert events.last_id(state) == before
    assert make_run(schedule_id=7, due_at_us=600) == 2
    assert make_run() == 3  # runs without a schedule are not in each other's way


def test_a_run_may_be_made_ended(state: sqlite3.Connection, make_run: MakeRun) -> None:
    """A skipped tick is a row like any other, with its end and its reason."""
    row = _run(state, make_run(state=("CANCELLED", "Skipped"), cause="the run before is still going"))
    assert (row.ended_at_us, row.cause) == (1_000, "the run before is still going")


def test_a_life_of_a_run(state: sqlite3.Connection, make_run: MakeRun) -> None:
    """Start, end, retry, end: times, durations and attempts are kept as the rows promise."""
    run_id = make_run()
    _move(state, run_id, from_=PENDING, to=RUNNING, started=True)
    assert _run(state, run_id).started_at_us == 2_000
    _move(state, run_id, from_=RUNNING, to=FAILED, at_us=5_000, cause="task 1/3 failed", ended_duration_us=3_000)
    row = _run(state, run_id)
    assert (row.ended_at_us, row.duration_us, row.cause) == (5_000, 3_000, "task 1/3 failed")
    _move(state, run_id, from_type="FAILED", to=SCHEDULED, at_us=6_000, new_attempt=2, wake_at_us=6_000)
    row = _run(state, run_id)
    assert (row.ended_at_us, row.attempt, row.wake_at_us, row.cause) == (None, 2, 6_000, None)
    _move(state, run_id, attempt=2, from_=SCHEDULED, to=RUNNING, at_us=7_000, started=True)
    assert _run(state, run_id).started_at_us == 2_000  # the first start stays
    _move(state, run_id, attempt=2, from_=RUNNING, to=COMPLETED, at_us=9_000, ended_duration_us=2_000)
    row = _run(state, run_id)
    assert (row.duration_us, row.ended_at_us, row.wake_at_us) == (5_000, 9_000, None)
    trail = [(event.attempt, event.from_name, event.to_name) for event in events.of_run(state, run_id)]
    assert trail == [
        (1, None, "Pending"), (1, "Pending", "Running"), (1, "Running", "Failed"), (2, "Failed", "Scheduled"),
        (2, "Scheduled", "Running"), (2, "Running", "Completed"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"from_": PENDING},
        {"from_": ("RUNNING", "Pausing")},
        {"from_": RUNNING, "attempt": 2},
        {"from_type": "PENDING"},
        {"from_type": "RUNNING", "attempt": 7},
    ],
)
def test_another_state_or_attempt_changes_nothing(
    state: sqlite3.Connection, make_run: MakeRun, wrong: dict[str, Any]
) -> None:
    """StaleState says what is and what was expected; neither row nor event is written."""
    run_id = make_run(state=RUNNING)
    before = (_run(state, run_id), events.last_id(state))
    with pytest.raises(StaleState, match=r"run #1 is RUNNING \(Running\), attempt 1; expected"):
        _move(state, run_id, to=COMPLETED, **wrong)
    assert (_run(state, run_id), events.last_id(state)) == before


def test_a_run_that_is_not_there_is_stale(state: sqlite3.Connection) -> None:
    """Pruned meanwhile, for instance."""
    with pytest.raises(StaleState, match="#99 does not exist"):
        _move(state, 99, from_=RUNNING, to=COMPLETED)
    with pytest.raises(StaleState), transaction(state):
        runs.set_intent(state, 99, "pause", at_us=1, actor=ACTOR)


def test_a_transition_needs_to_know_where_it_starts(state: sqlite3.Connection, make_run: MakeRun) -> None:
    """Neither from_ nor from_type is a mistake of the caller."""
    with pytest.raises(ValueError, match="from_ or from_type"):
        _move(state, make_run(), to=RUNNING)


def test_any_name_of_a_type_is_recorded_by_its_own_name(state: sqlite3.Connection, make_run: MakeRun) -> None:
    """from_type accepts Frozen as RUNNING; the event says Frozen."""
    run_id = make_run(state=("RUNNING", "Frozen"))
    _move(state, run_id, from_type="RUNNING", to=("CRASHED", "Crashed"), cause="signal 9 (KILL)", crash_count=1)
    event = events.of_run(state, run_id)[-1]
    assert (event.from_name, event.to_name, event.message) == ("Frozen", "Crashed", "signal 9 (KILL)")
    assert _run(state, run_id).crash_count == 1


def test_a_request_is_noted_with_who_asked(state: sqlite3.Connection, make_run: MakeRun) -> None:
    """The intent changes, the state does not; the event carries the actor."""
    run_id = make_run(state=RUNNING)
    with transaction(state):
        runs.set_intent(state, run_id, "cancel", at_us=3_000, actor="ann@box via console", message="too slow")
    assert runs.intent_of(state, run_id) == ("RUNNING", "Running", "cancel", 1)
    event = events.of_run(state, run_id)[-1]
    assert (event.kind, event.actor, event.message) == ("request", "ann@box via console", "too slow")
    assert json.loads(event.data or "") == {"intent": "cancel"}
    _move(state, run_id, from_=RUNNING, to=("CANCELLED", "Cancelled"), intent="none")
    assert runs.intent_of(state, run_id) == ("CANCELLED", "Cancelled", "none", 1)
    assert runs.intent_of(state, 99) is None


def _claim(state: sqlite3.Connection, now_us: int, limit: int) -> list[RunRow]:
    """What is due of all groups, the longest waiting first."""
    found = [run for group in due.groups(state) for run in due.of_group(state, group, now_us, limit)]
    found.sort(key=lambda run: (run.wake_at_us, run.id))
    return runs.claim_these(state, [run.id for run in found[:limit]], now_us, "daemon", to=PENDING)


def test_claiming_takes_what_is_due_once_and_in_order(state: sqlite3.Connection, make_run: MakeRun) -> None:
    """The longest waiting first, no more than the limit, each once, with an event naming what it waited as."""
    late = make_run(state=SCHEDULED, wake_at_us=50)
    _move(state, late, from_=SCHEDULED, to=("SCHEDULED", "Late"), wake_at_us=50)
    early = make_run(state=SCHEDULED, wake_at_us=20)
    third = make_run(state=SCHEDULED, wake_at_us=60)
    future = make_run(state=SCHEDULED, wake_at_us=5_000)
    with transaction(state):
        claimed = _claim(state, 100, 2)
    assert [run.id for run in claimed] == [early, late]
    assert {run.state_type for run in claimed} == {"PENDING"}
    assert events.of_run(state, late)[-1].from_name == "Late"
    assert events.of_run(state, early)[-1].actor == "daemon"
    assert runs.next_wake(state) == 60
    with transaction(state):
        assert [run.id for run in _claim(state, 100, 10)] == [third]
        assert _claim(state, 100, 10) == []
    assert runs.next_wake(state) == 5_000
    assert _run(state, future).state_type == "SCHEDULED"


def test_claiming_leaves_alone_what_is_not_its_own(state: sqlite3.Connection, make_run: MakeRun) -> None:
    """Asked for, owned by a process, living in its parent's process, or without a time: not to be claimed."""
    make_run(state=SCHEDULED, wake_at_us=10, intent="pause")
    owned = make_run(state=SCHEDULED, wake_at_us=10)
    parent = make_run(state=RUNNING)
    make_run(state=SCHEDULED, wake_at_us=10, parent_run_id=parent, parent_seq=1, root_id=parent)
    sleeping = make_run(state=RUNNING)
    _move(state, sleeping, from_=RUNNING, to=("SCHEDULED", "AwaitingRetry"))
    mine = leases.this_process(folder_of(state), leases.run_owner(owned), actor=ACTOR, at_us=1, run_id=owned, attempt=1)
    with transaction(state):
        leases.acquire(state, mine)
        assert _claim(state, 1_000_000, 10) == []
        leases.release(state, mine.owner)
        assert [run.id for run in _claim(state, 1_000_000, 10)] == [owned]


def test_due_runs_are_found_by_the_index(state: sqlite3.Connection) -> None:
    """The dispatcher's look-ups never walk the table."""
    asked = (
        (runs.SELECT_NEXT_WAKE, (), "flow_run_live"), (supervision.SELECT_ANYTHING_DUE, (1,), "flow_run_live"),
        (due.SELECT_NEXT_ENTRYPOINT, ("a", "b"), "flow_run_due (deployment=? AND entrypoint>?)"),
        (due.SELECT_NEXT_DEPLOYMENT, ("a",), "flow_run_due (deployment>?)"),
        (due.SELECT_DUE_OF_GROUP, ("a", "b", 1, 2), "flow_run_due (deployment=? AND entrypoint=? AND wake_at_us<?)"),
        (supervision.SELECT_FREE_OF_SCHEDULE, (1,), "flow_run_of_schedule (schedule_id=? AND state_name<?)"),
        (supervision.SELECT_FIRST_HELD, (1,), "flow_run_of_schedule (schedule_id=? AND state_name=? AND wake_at_us=?)"),
    )  # fmt: skip
    for statement, values, index in asked:
        plan = " ".join(row[3] for row in state.execute(f"EXPLAIN QUERY PLAN {statement}", values))
        assert index in plan, plan
        assert "SCAN flow_run" not in plan, plan
        assert "TEMP B-TREE" not in plan, plan


def test_every_group_that_waits_is_found(state: sqlite3.Connection, make_run: MakeRun) -> None:
    """Deployments and scripts, also where neither is known, each once; the order within is that of the due times."""
    made = {}
    for number, (deployment, entrypoint) in enumerate(
        [(None, None), (None, "/a.py:one"), (None, "/b.py:two"), ("e", "/c.py:e"), ("e", "/d.py:e"), ("x", None)]
    ):
        made[deployment, entrypoint] = [
            make_run(state=SCHEDULED, wake_at_us=wake_us + number, deployment=deployment, entrypoint=entrypoint)
            for wake_us in (300, 100, 200)
        ]
    assert list(due.groups(state)) == sorted(made, key=lambda group: (group[0] or "", group[1] or ""))
    for group, (last, first, second) in made.items():
        assert [run.id for run in due.of_group(state, group, 250, 10)] == [first, second]
        assert [run.id for run in due.of_group(state, group, 10_000, 10)] == [first, second, last]


def test_replaying_the_events_gives_the_states(state: sqlite3.Connection, make_run: MakeRun) -> None:
    """The audit log alone tells each run's state, attempt and intent."""
    first, second = make_run(), make_run(state=SCHEDULED, wake_at_us=5)
    _move(state, first, from_=PENDING, to=RUNNING, started=True)
    with transaction(state):
        _claim(state, 10, 5)
        runs.set_intent(state, first, "pause", at_us=5, actor=ACTOR)
    _move(state, first, from_=RUNNING, to=("PAUSED", "Paused"), intent="none")
    _move(state, second, from_=PENDING, to=("CRASHED", "Crashed"))
    _move(state, second, from_type="CRASHED", to=("SCHEDULED", "Resuming"), new_attempt=2, wake_at_us=1)
    replayed: dict[int, tuple[str, str, str, int]] = {}
    for event in events.after(state, 0):
        assert event.run_id is not None
        state_type, state_name, intent, attempt = replayed.get(event.run_id, ("", "", "none", 0))
        intent = json.loads(event.data or "{}").get("intent", intent)
        if event.kind == "state":
            state_type, state_name, attempt = event.to_type or "", event.to_name or "", event.attempt or 0
        replayed[event.run_id] = (state_type, state_name, intent, attempt)
    assert replayed == {run_id: runs.intent_of(state, run_id) for run_id in (first, second)}


def test_deleting_a_run_takes_what_belongs_to_it(state: sqlite3.Connection, make_run: MakeRun) -> None:
    """Subflow runs go with their parent; a number is never given out again."""
    parent = make_run(state=RUNNING)
    child = make_run(parent_run_id=parent, parent_seq=1, root_id=parent)
    assert [run.id for run in runs.children(state, parent)] == [child] == [r.id for r in runs.of_root(state, parent)]
    with transaction(state):
        state.execute("DELETE FROM flow_run WHERE id = ?", (parent,))
    assert runs.get(state, child) is None
    assert make_run() == child + 1


def test_every_final_type_demands_an_end(state: sqlite3.Connection, make_run: MakeRun) -> None:
    """transition() and the table's CHECK agree about which types are final."""
    for state_type in sorted(TERMINAL_TYPES):
        run_id = make_run(state=RUNNING)
        _move(state, run_id, from_=RUNNING, to=(state_type, state_type.capitalize()))
        assert _run(state, run_id).ended_at_us == 2_000
    assert runs.counts(state) == dict.fromkeys(TERMINAL_TYPES, 1)
    assert runs.live(state) == []
