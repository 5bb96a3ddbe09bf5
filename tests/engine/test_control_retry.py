"""Retry from here: a node and what hangs on it run again, everything else keeps its result; forks; set states."""

from __future__ import annotations

import json
import os
import signal

import pytest
from flowdeck import flow, task
from flowdeck.engine.control import retrying
from flowdeck.engine.control.control import Control, Node
from flowdeck.engine.errors import NotAllowed, NotFound, ParameterError
from flowdeck.engine.running.run_process.claiming import claim_here
from flowdeck.engine.running.run_process.entry import execute_run
from flowdeck.store.connection import connect, transaction


@pytest.fixture
def control(store):
    control = Control(store, actor="tester@here via test")
    yield control
    control.close()


@pytest.fixture
def again(store):
    """Run a queued run here; returns its exit code."""

    def execute(run_id, one_flow):
        return execute_run(store, run_id, claim_here(store, run_id), one_flow)

    return execute


@pytest.fixture
def etl(effects):
    """extract → clean (mapped) → load → report (a subflow), and one task beside them."""

    @task
    def extract(n):
        effects(f"extract {n}")
        return [{"value": n}, {"value": n + 1}]

    @task
    def clean(row):
        effects(f"clean {row['value']}")
        return {"clean": row["value"]}

    @task
    def load(rows):
        effects("load")
        return {"rows": len(rows)}

    @task
    def page(loaded):
        effects("page")
        return ["page", loaded["rows"]]

    @task
    def mail(text):
        effects("mail")
        return text

    @flow
    def report(loaded):
        done = page(loaded)
        mail("hello")
        return done

    @task
    def aside():
        effects("aside")
        return "aside"

    @flow
    def etl(n: int = 1):
        rows = extract(n)
        cleaned = clean.map(rows)
        loaded = load(cleaned)
        aside()
        return report(loaded)

    return etl


def seq_of(reader, name, run_id=1):
    return next(row.seq for row in reader.tasks(run_id) if row.name == name)


def newly(effects, work):
    before = len(effects.lines)
    work()
    return sorted(effects.lines[before:])


def test_a_task_and_everything_downstream_runs_again(reader, effects, etl, control, again) -> None:
    """The plan says so first; the rest keeps its results; the request and each call are recorded with who asked."""
    etl()
    node = Node(1, seq_of(reader, "load"))
    plan = control.plan_retry(node)
    assert {(part.key, part.calls) for part in plan.parts} == {("load", 1), ("report", 1), ("page", 1), ("mail", 1)}
    assert (plan.kept, plan.unfinished, plan.affects_more_than_failed) == (4, 0, True)
    assert reader.run(1).state_name == "Completed"
    outcome = control.retry(node)
    assert outcome.text == "queued as attempt 2: 4 calls run again, 4 keep their results"
    assert newly(effects, lambda: again(1, etl)) == ["load", "mail", "page"]
    assert reader.run(1).state_name == "Completed"
    assert {row.state_name for run in (1, 2) for row in reader.tasks(run)} == {"Completed"}
    events = reader.events(run_id=1, limit=1000)
    asked = next(event for event in events if event.to_name == "Scheduled")
    assert (asked.actor, json.loads(asked.data)["retry"]["given_up"]) == ("tester@here via test", 4)
    (given_up,) = [event for event in events if event.task_seq == node.seq and event.from_type == "COMPLETED"]
    assert (given_up.actor, given_up.to_name) == ("tester@here via test", "Pending")


def test_one_element_of_a_map_runs_again(reader, effects, etl, control, again) -> None:
    """The other element keeps its result; a group runs again whole."""
    etl()
    element = next(row for row in reader.tasks(1) if row.key == "clean" and row.map_index == 1)
    control.retry(Node(1, element.seq))
    assert newly(effects, lambda: again(1, etl)) == ["clean 2", "load", "mail", "page"]
    control.retry(Node(1, None, 0, "clean", 0))
    assert newly(effects, lambda: again(1, etl)) == ["clean 1", "clean 2", "load", "mail", "page"]


def test_a_task_inside_a_subflow_runs_again_and_only_its_path(reader, effects, etl, control, again) -> None:
    """The root is retried; the subflow's other tasks keep their results."""
    etl()
    control.retry(Node(2, seq_of(reader, "mail", 2)))
    assert newly(effects, lambda: again(1, etl)) == ["mail"]
    assert (reader.run(1).attempt, reader.run(2).attempt) == (2, 2)
    control.retry(2)
    assert newly(effects, lambda: again(1, etl)) == ["mail", "page"]


def test_thousands_of_calls_run_again(reader, effects, control, again) -> None:
    """However many are given up: each with its event, the run once."""

    @task
    def step(n):
        effects(f"step {n % 2}")
        return n

    @task
    def other():
        effects("other")

    @flow
    def whole():
        other()
        return sum(step.map(range(4500)).result())

    whole()
    node = Node(1, None, 0, "step", 0)
    plan = control.plan_retry(node)
    assert ([(part.key, part.calls) for part in plan.parts], plan.kept) == ([("step", 4500)], 1)
    last = reader.last_event_id()
    assert control.retry(node).text == "queued as attempt 2: 4500 calls run again, 1 keep their results"
    asked = reader.events(last, limit=10_000)
    assert sum(event.to_name == "Pending" and event.actor == "tester@here via test" for event in asked) == 4500
    of_run = [(event.to_name, json.loads(event.data)["retry"]["given_up"]) for event in asked if event.task_seq is None]
    assert of_run == [("Scheduled", 4500)]
    assert reader.task_counts(1) == {("PENDING", "Pending"): 4500, ("COMPLETED", "Completed"): 1}
    again(1, whole)
    assert (effects.count("step 0"), effects.count("step 1"), effects.count("other")) == (4500, 4500, 1)
    assert (reader.run(1).state_name, reader.run(1).attempt) == ("Completed", 2)


def test_of_two_who_ask_at_once_one_is_told(store, reader, control) -> None:
    """Both see the same plan; the second hears that the run has been asked already."""

    @task
    def step(n):
        return n

    @flow
    def whole():
        step.map(range(2500)).wait()

    whole()
    other = Control(store, actor="other@here via test")
    try:
        assert len(control.plan_retry(1, "all").again) == len(other.plan_retry(1, "all").again) == 2500
        other.retry(1, "all")
        with pytest.raises(NotAllowed, match="run #1 is Scheduled"):
            control.retry(1, "all")
    finally:
        other.close()
    assert reader.run(1).attempt == 2


def test_what_was_decided_since_the_plan_was_shown_counts(reader, effects, control, again) -> None:
    """A call that is counted as completed by hand after the plan was made is given up with the others."""

    @task
    def first():
        return 1

    @task
    def step(n):
        effects("step")
        if effects.count("step") == 1:
            raise ValueError
        return n

    @flow
    def whole():
        return step(first())

    whole(return_state=True)
    assert control.plan_retry(Node(1, 1)).kept == 0
    control.set_state(Node(1, 2), "completed", 7)
    assert len(control.plan_retry(Node(1, 1)).reset) == 1
    control.retry(Node(1, 1))
    again(1, whole)
    assert reader.run(1).state_name == "Completed"


def test_everything_runs_again(effects, etl, control, again) -> None:
    """``--all``: nothing is kept, the run keeps its number."""
    etl()
    plan = control.plan_retry(1, "all")
    assert (plan.kept, len(plan.again)) == (0, 8)
    control.retry(1, "all")
    assert len(newly(effects, lambda: again(1, etl))) == 7


def test_only_the_failed_ones_by_default(reader, effects, control, again) -> None:
    """The plan names them; a failure that its caller dealt with is none."""

    @task
    def step(n):
        effects(f"step {n}")
        if n == 2 and effects.count("step 2") <= 2:
            raise ValueError
        return [n]

    @task
    def careful():
        effects("careful")
        return [step(2, return_state=True).name]

    @flow
    def whole():
        done = careful()
        return [step(n) for n in (1, 2, 3)], done

    whole(return_state=True)
    plan = control.plan_retry(1)
    assert [(part.key, part.calls) for part in plan.parts] == [("step", 1)]
    assert not plan.affects_more_than_failed
    control.retry(1)
    assert newly(effects, lambda: again(1, whole)) == ["step 2", "step 3"]


def test_nested_tasks_run_again_within_their_caller(reader, effects, control, again) -> None:
    """The caller's body runs again to make the call anew; its other calls are recalled."""

    @task
    def inner(n):
        effects(f"inner {n}")
        return [n]

    @task
    def outer():
        effects("outer")
        return [inner(1), inner(2)]

    @task
    def after(x):
        effects("after")

    @flow
    def whole():
        after(outer())

    whole()
    second = next(row.seq for row in reader.tasks(1) if row.name == "inner[1]")
    control.retry(Node(1, second))
    assert newly(effects, lambda: again(1, whole)) == ["after", "inner 2", "outer"]
    control.retry(Node(1, seq_of(reader, "outer")))
    assert newly(effects, lambda: again(1, whole)) == ["after", "inner 1", "inner 2", "outer"]


def test_what_the_run_does_not_come_to_again_is_no_longer_waited_for(reader, effects, control, again) -> None:
    """It has no result any more, and says why; the next retry runs it."""
    fail = []

    @task
    def first():
        effects("first")
        if fail:
            raise ValueError
        return [1, 2]

    @task
    def second(x):
        effects("second")
        return [3]

    @flow
    def child(x):
        return second(x)

    @flow
    def whole():
        got = first()
        return second(got), child(got)

    whole()
    fail.append(1)
    control.retry(Node(1, 1))
    assert newly(effects, lambda: again(1, whole)) == ["first"]
    rows = [*reader.tasks(1), *reader.tasks(2)]
    assert [row.state_name for row in rows] == ["Failed", "Skipped", "Skipped", "Skipped"]
    assert {row.cause for row in rows[1:]} == {"the run was to do it again and did not come to it"}
    fail.clear()
    control.retry(1)
    assert newly(effects, lambda: again(1, whole)) == ["first", "second", "second"]
    assert {row.state_name for run in (1, 2) for row in reader.tasks(run)} == {"Completed"}


def test_a_retry_of_thousands_of_calls_that_is_cut_short_is_whole(store, reader, control, again, monkeypatch) -> None:
    """Whoever asked dies after the first piece: the run's process gives up the rest, and each call runs once."""
    ran = []

    @task
    def step(n):
        ran.append(n)
        return n

    @flow
    def whole():
        return sum(step.map(range(4300)).result())

    whole()
    ran.clear()
    with monkeypatch.context() as cut_short:
        cut_short.setattr(retrying, "given_up_later", lambda _conn, _run_id: [])
        control.retry(Node(1, None, 0, "step", 0))
    assert reader.run(1).state_name == "Scheduled"
    assert reader.task_counts(1) == {("PENDING", "Pending"): 4000, ("COMPLETED", "Completed"): 300}
    again(1, whole)
    assert sorted(ran) == list(range(4300))
    connection = connect(store, "state")
    for write in retrying.given_up_later(connection, 1):  # as in a process that goes on after a crash
        with transaction(connection):
            write(connection)
    connection.close()
    assert reader.task_counts(1) == {("COMPLETED", "Completed"): 4300}
    assert reader.run(1).state_name == "Completed"


def test_an_end_is_recorded_whatever_attempt_a_subflow_is_at(store, reader, control, again) -> None:
    """A subflow that began again since its calls were given up, and is not come to: they are skipped all the same."""
    fail = []

    @task
    def first():
        if fail:
            raise ValueError
        return [1, 2]

    @task
    def second(x):
        return x

    @flow
    def child(x):
        return second(x)

    @flow
    def whole():
        got = first()
        return child(got)

    whole()
    fail.append(1)
    control.retry(Node(1, 1))
    connection = connect(store, "state")
    connection.execute("UPDATE flow_run SET attempt = attempt + 2 WHERE id = 2")
    connection.close()
    again(1, whole)
    assert reader.run(1).state_name == "Failed"
    assert [row.state_name for row in reader.tasks(2)] == ["Skipped"]


def test_a_new_run_is_forked_with_other_parameters(store, reader, effects, etl, control, again) -> None:
    """Finished work is not done again where its inputs are the same; the old run stays as it ended."""
    etl(n=5)
    outcome = control.retry(Node(1, seq_of(reader, "load")), parameters={"n": 5})
    assert outcome.run_id == 3
    run = reader.run(3)
    assert (run.retry_of, run.state_name) == (1, "Scheduled")
    assert run.cause == "forked from #1 at load (1/4): 4 finished calls are kept"
    assert newly(effects, lambda: again(3, etl)) == ["load", "mail", "page"]
    assert reader.run(3).state_name == "Completed"
    assert {row.name for row in reader.tasks(3)} == {row.name for row in reader.tasks(1)}
    assert (reader.run(1).state_name, reader.run(1).attempt) == ("Completed", 1)
    changed = control.retry(1, parameters={"n": 7}).run_id
    assert newly(effects, lambda: again(changed, etl)) == ["clean 7", "clean 8", "extract 7", "load"]
    fresh = control.retry(1, "all", parameters={"n": 5}).run_id
    assert len(newly(effects, lambda: again(fresh, etl))) == 7
    assert {row.state_type for run in reader.runs(roots_only=False) for row in reader.tasks(run.id)} == {"COMPLETED"}


def test_a_fork_keeps_what_lies_within_what_runs_again(reader, effects, control, again, store) -> None:
    """A failed subflow, a large result in a file: the fork has its own record of each."""

    @task
    def big():
        effects("big")
        return "x" * 200_000

    @task
    def ends(x, ok):
        effects("ends")
        if not ok:
            raise ValueError
        return len(x)

    @flow
    def child(ok):
        return ends(big(), ok)

    @flow
    def whole(ok: bool = False):
        return child(ok)

    whole(return_state=True)
    run_id = control.retry(1, parameters={"ok": True}).run_id
    assert newly(effects, lambda: again(run_id, whole)) == ["ends"]
    assert reader.run(run_id).result_preview == "200000"
    kept = [reader.result(run, 1).path for run in (2, 4)]
    assert kept[0] != kept[1]
    assert all((store / path).stat().st_nlink == 2 for path in kept)
    assert reader.run(4).retry_of == 2


def test_parameters_are_checked(box) -> None:
    """As for a new run of the deployment."""
    box.write("one.py", """
        @flow
        def one(n: int = 1):
            raise ValueError(str(n))
    """)
    box.daemon()
    run_id = box.submit("one")
    box.wait_state(run_id, "Failed")
    with pytest.raises(ParameterError, match="did you mean 'n'"):
        box.control.retry(run_id, parameters={"nn": 2})
    fork = box.control.retry(run_id, parameters={"n": 2}).run_id
    assert "ValueError: 2" in box.wait_state(fork, "Failed").cause


def test_a_task_is_marked_as_done_by_hand(reader, effects, control, again) -> None:
    """Mark success and continue: with a result, with none, as skipped; a retry does not run it."""

    @task(persist_result=False)
    def fragile(n):
        effects(f"fragile {n}")
        raise ValueError

    @task
    def after(x):
        effects(f"after {x}")
        return x

    @flow
    def child():
        return fragile(9)

    @flow
    def whole():
        states = [fragile(n, return_state=True) for n in range(3)]
        return [after(state.result()) for state in states], child()

    whole(return_state=True)
    assert reader.run(1).state_name == "Failed"
    assert "is Completed: a retry does not run it and it gives {'rows': 3}" in control.set_state(
        Node(1, 1), "completed", {"rows": 3}).text
    control.set_state(Node(1, 2), "completed")
    assert "is Skipped" in control.set_state(Node(1, 3), "skipped").text
    row = reader.tasks(1)[0]
    assert (row.state_name, row.cause) == ("Completed", "marked completed by tester@here via test")
    control.retry(1)
    assert newly(effects, lambda: again(1, whole)) == [
        "after None", "after None", "after {'rows': 3}", "fragile 9"]
    place = next(row for row in reader.tasks(1) if row.kind == "subflow")
    control.set_state(Node(1, place.seq), "completed", [1])
    control.retry(1)
    assert newly(effects, lambda: again(1, whole)) == []
    assert reader.run(1).state_name == "Completed"
    assert [row.state_name for row in reader.tasks(1)][:3] == ["Completed", "Completed", "Skipped"]


def test_a_run_that_waits_can_be_skipped(reader, etl, control) -> None:
    """Recorded with who; what has ended cannot be."""
    etl()
    with pytest.raises(NotAllowed, match="run #1 is Completed: it cannot be asked to skip"):
        control.skip(1)
    control.retry(1)
    assert control.skip(1).text == "skipped"
    assert (reader.run(1).state_name, reader.run(1).cause) == ("Skipped", "skipped by tester@here via test")


def test_what_makes_no_sense_is_refused(reader, etl, control) -> None:
    """Unknown nodes, runs that are not over, runs that are subflows."""
    etl()
    with pytest.raises(NotFound, match="no task 99"):
        control.plan_retry(Node(1, 99))
    with pytest.raises(NotFound, match="no run #99"):
        control.retry(99)
    control.retry(1)
    with pytest.raises(NotAllowed, match="run #1 is Scheduled: it cannot be asked to retry"):
        control.retry(Node(1, 1))
    with pytest.raises(NotAllowed, match="read-only"):
        Control(control._folder, actor="x", read_only=True).retry(Node(1, 1))
    with pytest.raises(NotAllowed, match="is a run"):
        control.set_state(Node(2), "completed")


def test_retry_from_here_with_a_daemon(box) -> None:
    """The daemon takes it up, runs the chosen path and leaves the rest alone."""
    box.write("steps.py", """
        @task
        def one():
            effect("one")
            return ["one"]
        @task
        def two(x):
            effect("two")
            return ["two"]
        @task
        def three(x):
            effect("three")
        @flow
        def steps():
            three(two(one()))
    """)
    box.daemon()
    run_id = box.submit("steps")
    box.wait_state(run_id, "Completed")
    box.control.retry(Node(run_id, 2))
    box.wait(lambda: box.reader.run(run_id).attempt == 2 and box.state(run_id) == "Completed")
    assert box.effects() == ["one", "two", "three", "two", "three"]


def test_a_kill_during_a_retry_from_here_loses_nothing(box) -> None:
    """What was given up runs again after the kill, what was kept does not; the set stays as it was asked."""
    box.write("steps.py", """
        @task
        def one():
            effect("one")
            return ["one"]
        @task
        def two(x):
            effect("two")
            if os.path.exists(HERE + "/hold"):
                wait_for("go")
            return ["two"]
        @task
        def three(x):
            effect("three")
        @flow
        def steps():
            three(two(one()))
    """)
    box.daemon()
    run_id = box.submit("steps")
    box.wait_state(run_id, "Completed")
    box.touch("hold")
    box.control.retry(Node(run_id, 2))
    box.wait(lambda: box.effects().count("two") == 2)
    os.kill(box.reader.lease_of(run_id).pid, signal.SIGKILL)
    box.wait(lambda: box.effects().count("two") == 3)
    box.touch("go")
    box.wait_state(run_id, "Completed")
    assert [box.effects().count(name) for name in ("one", "two", "three")] == [1, 3, 2]
    assert {row.state_name for row in box.reader.tasks(run_id)} == {"Completed"}
