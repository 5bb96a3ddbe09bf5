"""Retry of a whole run by replay: finished bodies never run twice, and whatever runs again says why."""

from __future__ import annotations

import datetime
import threading

import pytest
from flowdeck import flow, task
from flowdeck.engine.control.control import Control
from flowdeck.engine.running.run_process.claiming import claim_here
from flowdeck.engine.running.run_process.entry import execute_run


@pytest.fixture
def retry(store):
    """Retry a run here; returns its exit code."""

    def again(run_id, one_flow):
        control = Control(store, actor="tester@here via test")
        control.retry(run_id)
        control.close()
        return execute_run(store, run_id, claim_here(store, run_id), one_flow)

    return again


def lines(reader, run_id=1):
    return [row.message for row in reader.logs(run_id, limit=1000)]


def broken_once(effects, name="broken"):
    """A flag that is set the first time."""
    effects(name)
    return effects.count(name) == 1


def test_finished_tasks_return_what_they_returned(reader, effects, retry) -> None:
    """Called, submitted, mapped, nested, async; values of every kind; the ids stay the same."""

    @task
    def step(x):
        effects(f"step {x}")
        return {"x": (x, {x}), "none": None}

    @task
    def outer():
        effects("outer")
        return [step("a"), step.submit("b").result()]

    @task
    async def later(x):
        effects("later")
        return x

    @flow
    def whole():
        got = [step(1), step.submit(2).result(), step.map([3, 4]).result(), outer(), later.submit(9).result()]
        if broken_once(effects):
            raise ValueError("now")
        return repr(got)

    whole(return_state=True)
    before = [(row.seq, row.name, row.scope_seq) for row in reader.tasks(1)]
    assert retry(1, whole) == 0
    assert [line for line in effects.lines if effects.count(line) != 1] == ["broken", "broken"]
    assert [(row.seq, row.name, row.scope_seq) for row in reader.tasks(1)] == before
    run = reader.run(1)
    assert (run.state_name, run.attempt) == ("Completed", 2)
    assert "(1, {1})" in reader.result(1, 0).preview or run.result_preview
    assert not any("runs again" in line for line in lines(reader))


def test_changed_inputs_run_again_and_say_so(reader, effects, retry) -> None:
    """Only that call; what it feeds runs again when its inputs changed, too."""

    @task
    def double(x):
        effects(f"double {x}")
        return 2 * x

    @flow
    def whole():
        first = broken_once(effects)
        values = [double(1), double(2 if first else 3), double(4)]
        if first:
            raise ValueError
        return values

    whole(return_state=True)
    assert retry(1, whole) == 0
    assert [effects.count(f"double {n}") for n in (1, 2, 3, 4)] == [1, 1, 1, 1]
    assert [line for line in lines(reader) if "runs again" in line] == [
        "double[1] runs again: its inputs are not those of the recorded call (x changed)"
    ]
    assert [(row.seq, row.name, reader.result(1, row.seq).preview) for row in reader.tasks(1)] == [
        (1, "double", "2"), (2, "double[1]", "4"), (3, "double[2]", "8"), (4, "double[1]", "6"),
    ], "what it came to for other inputs is kept"  # fmt: skip


def test_many_mapped_calls_give_back_what_they_came_to(reader, effects, retry) -> None:
    """Whatever their order then; small and large results, those that call others, failed ones among them."""

    @task
    def inner(n):
        return n

    @task
    def step(n):
        effects(f"step {n}")
        if n == 300 and effects.count("step 300") == 1:
            raise ValueError("once")
        return inner(n) if n % 100 == 0 else "x" * n

    @task
    def other(n):
        effects("other")
        return n

    told = []

    @flow
    def whole():
        first = broken_once(effects)
        if first:
            left, right = step.map(range(400)), other.map(range(400))
        else:
            right, left = other.map(range(400)), step.map(range(400))
            left[7].add_done_callback(lambda future: told.append(future.result()))
        right.wait()
        return [future.result() for future in left] == [n if n % 100 == 0 else "x" * n for n in range(400)]

    whole(return_state=True)
    ids = [(row.seq, row.name) for row in reader.tasks(1)]
    assert retry(1, whole) == 0
    assert reader.run(1).result_preview == "True"
    assert (effects.count("step 300"), effects.count("step 299"), effects.count("other")) == (2, 1, 400)
    assert told == ["x" * 7]
    assert [(row.seq, row.name) for row in reader.tasks(1)][: len(ids)] == ids
    assert not any("runs again" in line for line in lines(reader))


def test_mapped_calls_are_compared_one_by_one(reader, effects, retry) -> None:
    """Of a map whose list changed only the changed elements run again, and what is new."""

    @task
    def step(n):
        effects(f"step {n}")
        return n

    @flow
    def whole():
        if broken_once(effects):
            step.map([1, 2, 3]).wait()
            raise ValueError
        return step.map([1, 5, 3, 4]).result()

    whole(return_state=True)
    assert retry(1, whole) == 0
    assert reader.run(1).result_preview == "[1, 5, 3, 4]"
    assert [effects.count(f"step {n}") for n in (1, 2, 3, 4, 5)] == [1, 1, 1, 1, 1]
    assert [line for line in lines(reader) if "runs again" in line] == [
        "step[1] runs again: its inputs are not those of the recorded call (n changed)"
    ]


def test_what_could_not_be_kept_runs_again_and_says_so(reader, effects, retry) -> None:
    """Unpicklable results and ``persist_result=False``; said when it ends and when it runs again."""

    @task
    def opens():
        effects("opens")
        return threading.Lock()

    @task(persist_result=False)
    def private():
        effects("private")

    @task
    def uses(lock):
        effects("uses")

    @flow
    def whole():
        uses(opens())
        private()
        if broken_once(effects):
            raise ValueError

    whole(return_state=True)
    assert any("opens" in line and "is not journalled" in line for line in lines(reader))

    assert retry(1, whole) == 0
    assert (effects.count("opens"), effects.count("private"), effects.count("uses")) == (2, 2, 1)
    said = [line for line in lines(reader) if "runs again" in line]
    assert any("opens runs again: its result could not be journalled" in line for line in said)
    assert any("private runs again: persist_result=False" in line for line in said)


def test_large_results_are_files(reader, store, effects, retry) -> None:
    """Over 64 KiB; readable by their owner only; read back by the next attempt; a damaged one runs again."""

    @task
    def big(n):
        effects(f"big {n}")
        return "x" * n

    @flow
    def whole():
        sizes = [len(big(100_000)), len(big(60_000)), len(big(200_000))]
        if broken_once(effects):
            raise ValueError
        return sizes

    whole(return_state=True)
    rows = [reader.result(1, seq) for seq in (1, 2, 3)]
    assert [row.path is not None for row in rows] == [True, False, True]
    assert all(row.data is None for row in rows if row.path)
    paths = [store / row.path for row in rows if row.path]
    assert [path.stat().st_mode & 0o777 for path in paths] == [0o600, 0o600]
    with open(paths[1], "r+b") as file:
        file.write(b"damage")
    assert retry(1, whole) == 0
    assert (effects.count("big 100000"), effects.count("big 60000"), effects.count("big 200000")) == (1, 1, 2)
    assert any("recorded result cannot be read" in line and "checksum" in line for line in lines(reader))
    paths[0].unlink()
    effects.path.unlink()
    whole(return_state=True)


def test_subflows_are_replayed_as_a_whole_or_continued(reader, effects, retry) -> None:
    """A finished child returns its result; a failed child goes on where it failed, under its old number."""

    @task
    def step(x):
        effects(f"step {x}")
        return x

    @flow
    def child(x):
        effects(f"child {x}")
        step(x)
        if x == 2 and broken_once(effects):
            raise ValueError
        return x

    @flow
    def parent():
        return [child(1), child(2), child(3)]

    parent(return_state=True)
    assert retry(1, parent) == 0
    assert effects.lines == ["child 1", "step 1", "child 2", "step 2", "broken", "child 2", "broken", "child 3",
                             "step 3"]  # fmt: skip
    runs = [(row.id, row.state_name, row.attempt) for row in reader.children(1)]
    assert runs == [(2, "Completed", 1), (3, "Completed", 2), (4, "Completed", 1)]
    assert [row.child_run_id for row in reader.tasks(1)] == [2, 3, 4]


def test_a_journalled_call_whose_upstream_fails_now_does_not_start(reader, effects, retry) -> None:
    """Its record says NotReady, and a further attempt runs it."""

    @task(persist_result=False)
    def source():
        effects("source")
        if effects.count("source") == 2:
            raise ValueError("gone")
        return 1

    @task
    def sink(x):
        effects("sink")
        return x

    @flow
    def whole():
        value = sink.submit(source.submit()).result()
        if broken_once(effects):
            raise ValueError
        return value

    whole(return_state=True)
    assert retry(1, whole) == 1
    assert [row.state_name for row in reader.tasks(1)] == ["Failed", "NotReady"]
    assert retry(1, whole) == 0
    assert [row.state_name for row in reader.tasks(1)] == ["Completed", "Completed"]
    assert effects.count("sink") == 2


@pytest.mark.parametrize("given", [datetime.date(2024, 1, 1), (1, 2), {1: "a"}, {3}, "\ud800", [1, {"a": None}], 2**80])
def test_parameters_are_the_same_in_every_attempt(reader, effects, retry, given) -> None:
    """Also those that JSON would change: dates, tuples, sets, integer keys, objects."""

    @flow
    def whole(value):
        effects(repr(value))
        if len(effects.lines) == 1:
            raise ValueError

    whole(given, return_state=True)
    assert retry(1, whole) == 0
    assert effects.lines[0] == effects.lines[1]


def test_ids_are_stable_for_nested_tasks_and_threads(reader, effects, retry) -> None:
    """Whatever order the threads run in."""

    @task
    def leaf(x):
        effects(f"leaf {x}")
        return x

    @task
    def branch(x):
        return sum(leaf.map([100 + x * 10 + n for n in range(3)]).result()) + leaf(x)

    @flow
    def whole():
        total = sum(branch.map(range(6)).result())
        if broken_once(effects):
            raise ValueError
        return total

    whole(return_state=True)
    before = {(row.scope_seq, row.key, row.call_index): row.seq for row in reader.tasks(1)}
    assert retry(1, whole) == 0
    assert {(row.scope_seq, row.key, row.call_index): row.seq for row in reader.tasks(1)} == before
    assert len(effects.lines) == len(set(effects.lines)) + 1


def test_a_changed_flow_goes_on_with_what_fits(reader, effects, retry) -> None:
    """Fewer, more and other calls than before."""

    @task
    def step(x):
        effects(f"step {x}")
        return x

    @flow(name="whole")
    def before():
        step(1)
        step(2)
        raise ValueError

    @task
    def other():
        effects("other")

    @flow(name="whole")
    def after():
        other()
        return [step(1), step(2), step(3)]

    before(return_state=True)
    assert retry(1, after) == 0
    assert effects.lines == ["step 1", "step 2", "other", "step 3"]
    assert {row.name: row.seq for row in reader.tasks(1)} == {"step": 1, "step[1]": 2, "other": 3, "step[2]": 4}


class Model:
    """An object that a fingerprint cannot read."""

    def __init__(self, inner=None):
        self.inner = inner


def test_an_object_that_tasks_pass_on_makes_nothing_run_again(reader, effects, retry) -> None:
    """Returned by several tasks (itself, in a tuple, in an object), called, submitted or mapped: each has it still."""
    one = Model()

    @task
    def make():
        return Model()

    @task
    def the_one():
        return one

    @task
    def same(x):
        return x

    @task
    def wrap(x):
        return x, [1]

    @task
    def hold(x):
        return Model(x)

    @task
    def use(name, x, y=None):
        effects(f"use {name}")
        return name

    @flow
    def inner(x):
        effects("inner")
        return 1

    @flow
    def whole():
        b = make()
        use("before", b)
        c = same(b)
        use("b", b)
        use("c", c)
        use("both", c, b)
        use("list", [b, c, make()])
        use.submit("future", same.submit(b)).wait()
        mapped = same.map([b, c]).result()
        use.map(["m1", "m2"], mapped).wait()
        use.map(["f1", "f2"], same.map([b, c])).wait()
        pair = wrap(b)
        use("tuple", pair[0])
        use("b again", b)
        held = hold(c)
        use("held", held.inner)
        inner(c)
        first = the_one()
        use("first", first)
        second = the_one()
        use("second", second)
        use("first again", first)
        if broken_once(effects):
            raise ValueError("now")

    with pytest.raises(ValueError, match="now"):
        whole()
    assert retry(1, whole) == 0
    assert [line for line in effects.lines if effects.count(line) > 1] == ["broken", "broken"]
    assert not [line for line in lines(reader) if "runs again" in line]


def test_another_tasks_object_makes_a_call_run_again(reader, effects, retry) -> None:
    """Of the same class, but not what the finished call was given."""

    @task
    def make(n):
        return Model()

    @task
    def use(x):
        effects("use")

    @flow
    def whole():
        models = [make(1), make(2)]
        again = not broken_once(effects)
        use(models[again])
        if not again:
            raise ValueError("now")

    with pytest.raises(ValueError, match="now"):
        whole()
    assert retry(1, whole) == 0
    assert effects.count("use") == 2
    assert [line for line in lines(reader) if "(x changed)" in line]
