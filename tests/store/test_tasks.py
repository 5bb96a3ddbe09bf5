from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from flowdeck.store.connection import transaction
from flowdeck.store.errors import StaleState
from flowdeck.store.rows import (
    ArtifactRow,
    DeploymentRow,
    EdgeRow,
    FlowFileRow,
    MetricRow,
    ResultRow,
    ScheduleRow,
    TaskRow,
)
from flowdeck.store.tables import artifacts, deployments, edges, events, metrics, results, runs, schedules, tasks

from .conftest import ACTOR

MakeRun = Callable[..., int]
MakeTask = Callable[..., TaskRow]
RUNNING, COMPLETED = ("RUNNING", "Running"), ("COMPLETED", "Completed")


def _begin(state: sqlite3.Connection, row: TaskRow) -> None:
    with transaction(state):
        tasks.begin(state, row, 1_000, ACTOR)


def _finish(state: sqlite3.Connection, run_id: int, seq: int, **options: Any) -> None:
    values: dict[str, Any] = {
        "run_attempt": 1, "from_": RUNNING, "to": COMPLETED, "at_us": 2_000, "actor": ACTOR, "duration_us": 900,
    }  # fmt: skip
    with transaction(state):
        tasks.finish(state, run_id, seq, **{**values, **options})


def _next_attempt(state: sqlite3.Connection, run_id: int) -> None:
    with transaction(state):
        runs.transition(state, run_id, attempt=1, from_=RUNNING, to=("FAILED", "Failed"), at_us=5, actor=ACTOR)
        runs.transition(
            state, run_id, attempt=1, from_type="FAILED", to=RUNNING, at_us=6, actor=ACTOR, new_attempt=2
        )


def test_a_task_begins_and_ends_with_its_events(
    state: sqlite3.Connection, make_run: MakeRun, make_task: MakeTask
) -> None:
    """What is read back is what was written; each step left one event."""
    run_id = make_run(state=RUNNING)
    row = make_task(run_id, seq=1)
    _begin(state, row)
    assert tasks.of_run(state, run_id) == [row]
    _finish(state, run_id, 1, cpu_us=5, peak_rss_bytes=6, cause=None, attempt=3)
    ended = tasks.get(state, run_id, 1)
    assert ended == row._replace(
        state_type="COMPLETED", state_name="Completed", ended_at_us=2_000, duration_us=900, cpu_us=5,
        peak_rss_bytes=6, attempt=3,
    )  # fmt: skip
    trail = [(event.task_seq, event.from_name, event.to_name) for event in events.of_run(state, run_id)]
    assert trail == [(None, None, "Running"), (1, None, "Running"), (1, "Running", "Completed")]
    assert tasks.counts(state, run_id) == {COMPLETED: 1}


def test_a_later_attempt_writes_over_and_an_earlier_one_cannot(
    state: sqlite3.Connection, make_run: MakeRun, make_task: MakeTask
) -> None:
    """The attempt is a fencing token: a process of attempt 1 that lives on changes nothing of attempt 2."""
    run_id = make_run(state=RUNNING)
    old = make_task(run_id, seq=1)
    _begin(state, old)
    _next_attempt(state, run_id)
    before = events.last_id(state)
    with pytest.raises(StaleState, match="its run is at attempt 2"):
        _finish(state, run_id, 1)  # nobody of attempt 2 has touched this task yet
    with pytest.raises(StaleState):
        _begin(state, make_task(run_id, seq=2))  # nor may it make new ones
    assert events.last_id(state) == before
    _begin(state, old._replace(run_attempt=2))
    with pytest.raises(StaleState):
        _begin(state, old)
    with pytest.raises(StaleState):
        _finish(state, run_id, 1, run_attempt=1)
    _finish(state, run_id, 1, run_attempt=2)


def test_finishing_twice_or_from_another_state_is_stale(
    state: sqlite3.Connection, make_run: MakeRun, make_task: MakeTask
) -> None:
    """One end only; the text says what the task is."""
    run_id = make_run(state=RUNNING)
    _begin(state, make_task(run_id, seq=1))
    _finish(state, run_id, 1)
    with pytest.raises(StaleState, match=r"task 1/1 is COMPLETED \(Completed\)"):
        _finish(state, run_id, 1)
    with pytest.raises(StaleState, match="task 1/9 does not exist"):
        _finish(state, run_id, 9)


def test_the_identity_of_a_call_is_unique(state: sqlite3.Connection, make_run: MakeRun, make_task: MakeTask) -> None:
    """Two numbers for the same call within a task would break replay; the database refuses."""
    run_id = make_run(state=RUNNING)
    _begin(state, make_task(run_id, seq=1, call_index=0))
    _begin(state, make_task(run_id, seq=2, call_index=0, scope_seq=1))
    with pytest.raises(sqlite3.IntegrityError):
        _begin(state, make_task(run_id, seq=3, call_index=0, scope_seq=1))


def test_tasks_move_between_any_states(state: sqlite3.Connection, make_run: MakeRun, make_task: MakeTask) -> None:
    """Waiting for a retry, trying again, not ready: times and attempts follow."""
    run_id = make_run(state=RUNNING)
    _begin(state, make_task(run_id, seq=1, state_type="PENDING", state_name="Pending", started_at_us=None))
    moves: list[tuple[tuple[str, str], tuple[str, str], dict[str, Any]]] = [
        (("PENDING", "Pending"), RUNNING, {"started": True}),
        (RUNNING, ("SCHEDULED", "AwaitingRetry"), {"wake_at_us": 77, "cause": "ValueError: no"}),
        (("SCHEDULED", "AwaitingRetry"), ("RUNNING", "Retrying"), {"attempt": 2}),
        (("RUNNING", "Retrying"), ("PENDING", "NotReady"), {"data": {"upstream": [3]}}),
    ]
    seen = []
    for from_, to, options in moves:
        with transaction(state):
            tasks.transition(
                state, run_id, 1, run_attempt=1, from_=from_, to=to, at_us=50, actor=ACTOR, **options
            )
        row = tasks.get(state, run_id, 1)
        assert row is not None
        seen.append((row.attempt, row.started_at_us, row.wake_at_us, row.ended_at_us, row.cause))
    assert seen == [
        (1, 50, None, None, None), (1, 50, 77, None, "ValueError: no"), (2, 50, None, None, None),
        (2, 50, None, 50, None),
    ]  # fmt: skip
    last = events.of_run(state, run_id)[-1]
    assert (last.attempt, last.data) == (2, '{"upstream":[3]}')
    with pytest.raises(StaleState), transaction(state):
        tasks.transition(state, run_id, 1, run_attempt=1, from_=RUNNING, to=COMPLETED, at_us=1, actor=ACTOR)


def test_reading_some_of_many(state: sqlite3.Connection, make_run: MakeRun, make_task: MakeTask) -> None:
    """Pages and picks come in the order of the numbers, thousands at once too."""
    run_id = make_run(state=RUNNING)
    with transaction(state):
        for seq in range(1, 1201):
            tasks.begin(state, make_task(run_id, seq=seq), 1, ACTOR)
    assert [row.seq for row in tasks.of_run(state, run_id, after_seq=5, limit=3)] == [6, 7, 8]
    assert [row.seq for row in tasks.by_seq(state, run_id, range(1200, 0, -1))] == list(range(1, 1201))
    assert [row.seq for row in tasks.by_seq(state, run_id, [7, 3, 9999])] == [3, 7]
    assert tasks.by_seq(state, run_id, []) == []
    assert len(tasks.of_run(state, run_id)) == 1200


def test_edges_keep_the_stronger_kind(state: sqlite3.Connection, make_run: MakeRun) -> None:
    """A task both awaited and read feeds data, whichever was said first; another run's task may be the source."""
    run_id, other = make_run(), make_run()
    with transaction(state):
        edges.add(state, run_id, 3, [(run_id, 1, "wait"), (run_id, 2, "data"), (other, 9, "data")])
        edges.add(state, run_id, 3, [(run_id, 1, "data"), (run_id, 2, "wait")])
    assert edges.of_run(state, run_id) == [
        EdgeRow(run_id, 3, run_id, 1, "data"),
        EdgeRow(run_id, 3, run_id, 2, "data"),
        EdgeRow(run_id, 3, other, 9, "data"),
    ]


def test_results_replace_each_other(state: sqlite3.Connection, make_run: MakeRun) -> None:
    """A task that ran again has its latest result; bytes come back as they were."""
    run_id = make_run()
    with transaction(state):
        results.put(state, ResultRow(run_id, 1, "json", "abc", 2, b"{}", None, "{}"))
        results.put(state, ResultRow(run_id, 1, "cloudpickle", "def", 3, bytes(range(256)), None, "<x>"))
        results.put(state, ResultRow(run_id, 2, "none", "", 0, None, None, "cannot be stored"))
    stored = results.get(state, run_id, 1)
    assert stored is not None
    assert (stored.codec, stored.data) == ("cloudpickle", bytes(range(256)))
    assert [row.seq for row in results.of_run(state, run_id)] == [1, 2]
    assert results.get(state, run_id, 5) is None


def test_artifacts_and_metrics(
    state: sqlite3.Connection, telemetry: sqlite3.Connection, make_run: MakeRun
) -> None:
    """They come back in the order they were made; an artifact's key has versions."""
    run_id = make_run()
    with transaction(state):
        first = artifacts.insert(state, ArtifactRow(0, run_id, None, "report", "markdown", None, "# 1", 5))
        second = artifacts.insert(state, ArtifactRow(0, run_id, 2, "report", "markdown", "d", "# 2", 6))
    assert [row.id for row in artifacts.of_run(state, run_id)] == [first, second]
    assert [row.data for row in artifacts.of_key(state, "report")] == ["# 2", "# 1"]
    values = [MetricRow(run_id, None, 1, "rows", 5.0), MetricRow(run_id, 2, 2, "rows", 7.5)]
    with transaction(telemetry):
        metrics.append(telemetry, values)
    assert metrics.of_run(telemetry, run_id) == values
    assert metrics.of_run(telemetry, run_id, 2) == values[1:]


def _deployment(name: str = "etl/nightly") -> DeploymentRow:
    return DeploymentRow(name, "etl", "/f.py", "/f.py:etl", None, "{}", "{}", "[]", "hash", 5, None, None)


def test_a_reload_keeps_what_people_and_time_did_to_a_schedule(state: sqlite3.Connection) -> None:
    """Paused stays paused, the last tick stays known; the next one is kept unless the spec changed."""
    row = ScheduleRow(0, "etl/nightly", "default", "cron", '{"cron":"0 6 * * *"}', "{}", "latest", 86400.0, "skip",
                      True, 100, None)  # fmt: skip
    with transaction(state):
        deployments.upsert(state, _deployment())
        schedule_id = schedules.upsert(state, row)
        schedules.advance(state, schedule_id, 200, 100)
        assert schedules.set_active(state, schedule_id, False)
        assert not schedules.set_active(state, 99, False)
        assert schedules.upsert(state, row._replace(overlap="queue", next_due_at_us=150)) == schedule_id
    kept = schedules.get(state, schedule_id)
    assert kept is not None
    assert (kept.active, kept.next_due_at_us, kept.last_due_at_us, kept.overlap) == (False, 200, 100, "queue")
    assert kept.active is False  # a bool, not a number
    with transaction(state):
        schedules.upsert(state, row._replace(spec='{"cron":"0 7 * * *"}', next_due_at_us=300))
        schedules.set_active(state, schedule_id, True, next_due_at_us=310)
    changed = schedules.all(state)[0]
    assert (changed.active, changed.next_due_at_us, changed.last_due_at_us) == (True, 310, 100)
    with transaction(state):
        schedules.advance(state, schedule_id, None)
    assert schedules.of_deployment(state, "etl/nightly")[0].next_due_at_us is None
    with transaction(state):
        deployments.delete(state, "etl/nightly")  # takes its schedules along
    assert schedules.all(state) == []


def test_deployments_and_flow_files(state: sqlite3.Connection) -> None:
    """Stored by name and by path, changed in place; broken files are listed as problems."""
    with transaction(state):
        deployments.upsert(state, _deployment())
        deployments.upsert(state, _deployment()._replace(source_hash="new"))
        deployments.upsert_file(state, FlowFileRow("/f.py", "h", None, None, 5))
        deployments.upsert_file(state, FlowFileRow("/g.py", "h", "line 3: bad", "Traceback", 5))
    assert deployments.all(state) == [_deployment()._replace(source_hash="new")]
    assert deployments.of_file(state, "/f.py") == deployments.all(state)
    assert deployments.get(state, "none") is None
    assert [row.path for row in deployments.files(state)] == ["/f.py", "/g.py"]
    assert [row.error for row in deployments.problems(state)] == ["line 3: bad"]
    with transaction(state):
        deployments.upsert_file(state, FlowFileRow("/g.py", "h2", None, None, 6))
        deployments.delete_file(state, "/f.py")
    assert deployments.problems(state) == []
    assert deployments.get_file(state, "/f.py") is None
