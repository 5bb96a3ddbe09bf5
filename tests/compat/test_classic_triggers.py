"""Prefect 1's triggers and the propagation of skips: what runs, given how everything before it ended."""

from __future__ import annotations

import subprocess
import sys

import pytest
from flowdeck import Flow, Task, flow, signals, task, triggers, unmapped
from flowdeck.state import Failed, Mapped, Skipped, Success, TriggerFailed
from flowdeck.store.reader import Reader


@task
def good() -> int:
    return 1


@task
def bad() -> int:
    raise ValueError("bad luck")


@task
def skip() -> int:
    raise signals.SKIP("not today")


@task
def one_of(x: int) -> int:
    if x == 0:
        raise signals.SKIP("zero")
    if x < 0:
        raise ValueError("negative")
    return x


UPSTREAM = {"g": good, "b": bad, "s": skip}
RUNS, NOT, SKIPS = Success, TriggerFailed, Skipped
TABLE = [
    # upstream: g succeeds, b fails, s is skipped (and counts as success)
    (triggers.all_successful, {"": RUNS, "g": RUNS, "gg": RUNS, "gb": NOT, "bb": NOT, "gs": RUNS}),
    (triggers.all_failed, {"": RUNS, "b": RUNS, "bb": RUNS, "gb": NOT, "gg": NOT, "bs": NOT}),
    (triggers.any_successful, {"": RUNS, "gb": RUNS, "bb": NOT, "bs": RUNS}),
    (triggers.any_failed, {"": RUNS, "gb": RUNS, "gg": NOT, "gs": NOT}),
    (triggers.all_finished, {"": RUNS, "gbs": RUNS, "bb": RUNS}),
    (triggers.always_run, {"gbs": RUNS}),
    (triggers.not_all_skipped, {"g": RUNS, "gs": RUNS, "ss": SKIPS, "gb": NOT, "bs": NOT, "": SKIPS}),
    (triggers.some_failed(at_least=1), {"gb": RUNS, "gg": NOT, "": RUNS}),
    (triggers.some_failed(at_least=0.5, at_most=2), {"gb": RUNS, "ggb": NOT, "bbb": NOT, "bb": RUNS}),
    (triggers.some_successful(at_least=2), {"ggb": RUNS, "gb": NOT, "gs": RUNS}),
    (triggers.some_successful(at_most=0.4), {"gbb": RUNS, "ggb": NOT}),
]  # fmt: skip


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(("trigger", "rows"), TABLE, ids=lambda value: getattr(value, "__name__", ""))
def test_the_table_of_triggers(trigger: object, rows: dict[str, type]) -> None:
    """Each trigger over combinations of upstream states, all in one flow."""

    @task(trigger=trigger, skip_on_upstream_skip=False)
    def watched() -> str:
        return "ran"

    with Flow("table") as flow:
        nodes = {ups: watched(upstream_tasks=[UPSTREAM[letter]() for letter in ups]) for ups in rows}
    states = flow.run().result
    assert {ups: type(states[node]) for ups, node in nodes.items()} == rows


def test_an_unmet_trigger_says_why(reader: Reader) -> None:
    """TriggerFailed is a failure with its cause in words, recorded, and the task's code does not run."""
    ran = []

    @task
    def after(x: int) -> None:
        ran.append(x)

    with Flow("unmet") as flow:
        node = after(bad())
    state = flow.run()
    assert state.is_failed()
    assert isinstance(state.result[node], TriggerFailed)
    assert 'Trigger was "all_successful" but some of the upstream tasks failed: bad ended Failed' in state.result[
        node].message
    assert ran == []
    (run,) = reader.runs()
    rows = {row.name: row for row in reader.tasks(run.id)}
    assert (rows["after"].state_type, rows["after"].state_name) == ("FAILED", "TriggerFailed")
    assert rows["after"].started_at_us is None
    assert "bad ended Failed" in str(rows["after"].cause)


@pytest.mark.usefixtures("store")
def test_a_failure_reaches_a_task_as_its_exception() -> None:
    """A task that runs despite a failure gets the exception in the place of the value."""

    @task(trigger=triggers.any_failed)
    def explain(error: Exception, ok: int) -> str:
        return f"{type(error).__name__} {error} {ok}"

    with Flow("explained") as flow:
        said = explain(bad(), good())
    assert flow.run().result[said].result == "ValueError bad luck 1"


@pytest.mark.usefixtures("store")
def test_trigger_failures_go_on() -> None:
    """What comes after a TriggerFailed task is TriggerFailed as well, unless it runs on failure."""
    with Flow("chain") as flow:
        first = one_of(bad())
        second = one_of(first)
        last = Task(name="clean up", trigger=triggers.all_finished)(upstream_tasks=[second])
    state = flow.run()
    assert [type(state.result[node]) for node in (first, second, last)] == [TriggerFailed, TriggerFailed, Success]
    assert state.is_successful()


@pytest.mark.usefixtures("store")
def test_a_trigger_of_the_users_own() -> None:
    """It is given ``{edge: state}``; it may return, raise a signal, or break."""
    seen = {}

    def curious(upstream_states: dict) -> bool:
        seen.update({edge.key: state.result for edge, state in upstream_states.items()})
        return False

    def broken(upstream_states: dict) -> bool:
        raise KeyError("oops")

    def skips(upstream_states: dict) -> bool:
        raise signals.SKIP("not now")

    def take(x: object = None) -> None:
        return None

    with Flow("own") as flow:
        one = task(take, trigger=curious)(good())
        two = task(take, trigger=broken)(good())
        three = task(take, trigger=skips)(good())
    states = flow.run().result
    assert seen == {"x": 1}
    assert (type(states[one]), states[one].message) == (TriggerFailed, 'Trigger "curious" was not met')
    assert type(states[two]) is TriggerFailed
    assert "KeyError: 'oops'" in states[two].message
    assert (type(states[three]), states[three].message) == (Skipped, "not now")


@pytest.mark.usefixtures("store")
def test_skips_go_on_until_somebody_takes_them() -> None:
    """A skipped task's followers are skipped; with ``skip_on_upstream_skip=False`` one runs and gets None."""
    with Flow("skips") as flow:
        first = skip()
        second = one_of(first)
        third = one_of(second)
        taken = task(lambda x: ("ran", x), name="taken", skip_on_upstream_skip=False)(third)
    state = flow.run()
    assert [type(state.result[node]) for node in (first, second, third)] == [Skipped] * 3
    assert state.result[first].message == "not today"
    assert "Upstream task was skipped: one_of" in state.result[third].message
    assert state.result[taken].result == ("ran", None)
    assert state.is_successful()


def test_a_flow_whose_last_task_is_skipped_succeeds(reader: Reader) -> None:
    """Skipped counts as success; the record says Skipped."""
    with Flow("skipped") as flow:
        one_of(skip())
    assert flow.run().is_successful()
    (run,) = reader.runs()
    assert run.state_type == "COMPLETED"
    assert {row.state_name for row in reader.tasks(run.id)} == {"Skipped"}


@pytest.mark.usefixtures("store")
def test_skips_and_failures_of_mapped_runs_stay_with_their_own() -> None:
    """In a chain of maps each run looks at its own run before it."""
    with Flow("mapped") as flow:
        first = one_of.map([0, 1, -1, 2])
        second = one_of.map(first)
    state = flow.run()
    kinds = [type(one) for one in state.result[second].map_states]
    assert kinds == [Skipped, Success, TriggerFailed, Success]
    assert state.result[second].result[1] == 1
    assert state.result[second].is_mapped()
    assert state.is_failed()


@pytest.mark.usefixtures("store")
def test_a_reduce_sees_every_run_of_a_map() -> None:
    """One failed run fails what takes the whole list; a trigger may run it all the same, with the exception."""

    @task(trigger=triggers.some_failed(at_least=1), skip_on_upstream_skip=False)
    def report(results: list[object]) -> list[str]:
        return [type(result).__name__ for result in results]

    with Flow("reduce") as flow:
        runs = one_of.map([0, 1, -1])
        plain = task(len, name="len")(runs)
        reported = report(runs)
    state = flow.run()
    assert isinstance(state.result[plain], Skipped)  # one run was skipped, and skips come first
    assert state.result[reported].result == ["NoneType", "int", "ValueError"]


@pytest.mark.usefixtures("store")
def test_a_map_over_a_skipped_list_is_skipped() -> None:
    """As a whole: it is not known how often it would have run."""
    with Flow("skipped list") as flow:
        mapped = one_of.map(skip())
        after = one_of.map(mapped)
    state = flow.run()
    assert [type(state.result[node]) for node in (mapped, after)] == [Skipped, Skipped]
    assert state.result[mapped].map_states is None


@pytest.mark.usefixtures("store")
def test_a_map_over_what_cannot_be_mapped_fails_in_words() -> None:
    """The value is no list, or failed although the trigger would run: one failure says so."""

    @task(trigger=triggers.all_finished)
    def run_anyway(x: object) -> object:
        return x

    with Flow("unmappable") as flow:
        number = one_of.map(good())
        failed = run_anyway.map(bad())
    states = flow.run().result
    assert type(states[number]) is Failed
    assert "unmappable result" in states[number].message
    assert "'int' object is not iterable" in states[number].message
    assert type(states[failed]) is Failed
    assert "unmappable result" in states[failed].message


@pytest.mark.usefixtures("store")
def test_what_a_map_only_waits_for_counts_for_all_its_runs() -> None:
    """A failed task before a map, or in ``unmapped``, keeps all of it from starting, once."""
    with Flow("before") as flow:
        broken = bad()
        mapped = one_of.map([1, 2], upstream_tasks=[unmapped(broken)])
        fine = one_of.map([1, 2], upstream_tasks=[unmapped(good())])
    states = flow.run().result
    assert isinstance(states[mapped], TriggerFailed)
    assert isinstance(states[fine], Mapped)


@pytest.mark.usefixtures("store")
def test_triggers_in_a_prefect_3_flow() -> None:
    """A task with a trigger keeps it when a ``@flow`` submits it."""

    @task(trigger=triggers.any_failed)
    def notify(error: object) -> str:
        return f"told of {error}"

    @flow
    def outer() -> tuple[str, str]:
        told = notify.submit(bad.submit())
        quiet = notify.submit(good.submit())
        quiet.wait()
        return told.result(), quiet.state.name

    assert outer() == ("told of bad luck", "TriggerFailed")


def test_a_retry_of_the_run_asks_the_triggers_again(script, reader: Reader) -> None:
    """After the mending the branch for failures does not run, and finished tasks keep their results."""
    script.write("""
        from flowdeck.triggers import any_failed
        @task
        def load():
            effect("load")
            return 1
        @task
        def check(x):
            effect("check")
            if not os.path.exists(HERE + "/mended"):
                raise ValueError("not yet")
            return x
        @task(trigger=any_failed)
        def alarm(x):
            effect("alarm")
        with Flow("again") as f:
            x = check(load())
            alarm(x)
        f.set_reference_tasks([x])
    """)
    flowdeck = [sys.executable, "-m", "flowdeck"]
    run_it = [*flowdeck, "run", str(script.path)]
    first = subprocess.run(run_it, capture_output=True, text=True, timeout=60, check=False)
    assert first.returncode == 1, first.stderr
    script.touch("mended")
    again = subprocess.run([*flowdeck, "retry", "--here", "1"], capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 0, again.stderr
    assert (script.folder / "effects").read_text().split() == ["load", "check", "alarm", "check"]
    (run,) = reader.runs()
    assert {row.name: row.state_name for row in reader.tasks(run.id)} == {
        "load": "Completed", "check": "Completed", "alarm": "TriggerFailed",
    }  # fmt: skip


def test_a_trigger_must_be_a_function() -> None:
    """A trigger that is no function is refused where the task is made."""
    with pytest.raises(TypeError, match="trigger is a function"):
        task(lambda: 1, trigger="all_failed")
