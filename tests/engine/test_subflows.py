"""Flows called within flows: runs of their own, and places in their parent."""

from __future__ import annotations

import json

import pytest
from flowdeck import flow, task
from flowdeck.engine.errors import ParameterError


@task
def step(x=1):
    return x


@task
def bad():
    raise ValueError("boom")


@flow
def child(x: int = 1):
    return step(x) + 1


def test_a_subflow_is_a_run_and_a_place_in_its_parent(reader) -> None:
    """Each points to the other; the child's root is the run whose process it lives in."""

    @flow
    def grandchild():
        return child(5)

    @flow
    def parent():
        return grandchild() + child(x="7")

    assert parent() == 14
    root, grand, first, second = sorted(reader.runs(roots_only=False), key=lambda run: run.id)
    assert [run.flow_name for run in (root, grand, first, second)] == ["parent", "grandchild", "child", "child"]
    assert (root.parent_run_id, root.root_id) == (None, None)
    assert [(run.parent_run_id, run.parent_seq, run.root_id) for run in (grand, first, second)] == [
        (1, 1, 1), (2, 1, 1), (1, 2, 1),
    ]  # fmt: skip
    places = [(row.kind, row.child_run_id, row.state_name, row.name) for row in reader.tasks(1)]
    assert places == [("subflow", 2, "Completed", "grandchild"), ("subflow", 4, "Completed", "child")]
    assert json.loads(second.parameters) == {"x": "7"}
    assert all(run.state_name == "Completed" and run.duration_us is not None for run in (root, grand, first, second))


def test_a_failing_subflow_raises_in_its_parent(reader) -> None:
    """The parent may catch it; both records say why."""

    @flow
    def failing():
        bad()

    @flow
    def parent():
        with pytest.raises(ValueError, match="boom"):
            failing()
        assert failing(return_state=True).is_failed()
        return "caught"

    assert parent() == "caught"
    assert [row.cause for row in reader.children(1)] == ["ValueError: boom"] * 2
    assert [row.state_name for row in reader.tasks(1)] == ["Failed", "Failed"]

    @flow
    def uncaught():
        failing()

    assert uncaught(return_state=True).message == "ValueError: boom"


def test_wrong_parameters_fail_the_child(reader) -> None:
    """And with it a parent that does not catch."""

    @flow
    def parent():
        child("many")

    with pytest.raises(ParameterError, match="'x'"):
        parent()
    assert reader.run(2).state_name == "Failed"


def test_futures_are_inputs_of_subflows(reader) -> None:
    """Waited for, replaced, edged; a failed one keeps the child from starting."""

    @flow
    def parent():
        assert child(step.submit(4)) == 5
        assert child(x=3, wait_for=[step.submit(9)]) == 4
        state = child(bad.submit(), return_state=True)
        return state.name

    assert parent() == "NotReady"
    edges = {(edge.from_seq, edge.to_seq, edge.kind) for edge in reader.edges(1)}
    rows = {row.seq: row.name for row in reader.tasks(1)}
    assert {(rows[a], rows[b], kind) for a, b, kind in edges} >= {
        ("step", "child", "data"), ("step[1]", "child[1]", "wait"),
    }  # fmt: skip
    assert len(reader.children(1)) == 2


def test_results_of_subflows_are_lineage(reader) -> None:
    """A task that gets what a subflow returned hangs on it."""

    @flow
    def makes():
        return [step(1)]

    @flow
    def parent():
        step(makes())

    parent()
    assert [(edge.from_seq, edge.to_seq) for edge in reader.edges(1)] == [(1, 2)]


def test_subflows_in_tasks_and_on_the_pool(reader) -> None:
    """Called from submitted tasks, many at once, recursively."""

    @flow
    def countdown(n: int):
        return n + countdown(n - 1) if n else 0

    @task
    def calls(n):
        return child(n) + countdown(2)

    @flow
    def parent():
        return calls.map(range(5)).result()

    assert parent() == [n + 4 for n in range(5)]
    assert len(reader.runs(roots_only=False)) == 1 + 5 + 5 * 3
    assert {run.state_name for run in reader.runs(roots_only=False)} == {"Completed"}


def test_a_subflow_has_retries_and_hooks_of_its_own(reader) -> None:
    """The parent sees only the end."""
    seen = []

    @flow(retries=1, on_completion=[lambda flow, run, state: seen.append(run.id)])
    def second_time():
        seen.append("body")
        if len(seen) == 1:
            raise ValueError
        return "ok"

    @flow
    def parent():
        return second_time()

    assert parent() == "ok"
    assert seen == ["body", "body", 2]
    assert (reader.run(2).attempt, reader.run(1).attempt) == (2, 1)
