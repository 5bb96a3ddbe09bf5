"""Prefect 1's control flow: case, switch, ifelse, merge, apply_map, FilterTask and resources."""

from __future__ import annotations

import pytest
from flowdeck import (
    FilterTask,
    Flow,
    Parameter,
    Task,
    apply_map,
    case,
    flatten,
    ifelse,
    mapped,
    merge,
    resource_manager,
    switch,
    tags,
    task,
    unmapped,
)
from flowdeck.signals import SKIP
from flowdeck.state import Failed, Skipped, Success, TriggerFailed
from flowdeck.store.reader import Reader

pytestmark = pytest.mark.usefixtures("store")


@task
def ident(x: object) -> object:
    return x


@task
def inc(x: int) -> int:
    return x + 1


@task
def negate(x: int) -> int:
    return -x


@task
def is_even(x: int) -> bool:
    return x % 2 == 0


@pytest.mark.parametrize(("value", "expected"), [("a", "took a"), ("b", "took b"), ("c", None)])
def test_case_runs_the_branch_that_matches(value: str, expected: str | None) -> None:
    """The others are skipped, down to the merge, which is skipped when all are."""
    with Flow("case") as flow:
        choice = Parameter("choice")
        with case(choice, "a"):
            a = ident("took a")
        with case(choice, "b"):
            b = ident(ident("took b"))
        merged = merge(a, b)
    state = flow.run(choice=value)
    assert state.is_successful()
    assert state.result[merged].result == expected
    assert isinstance(state.result[a], Success if value == "a" else Skipped)
    assert isinstance(state.result[merged], Skipped if expected is None else Success)


def test_only_the_first_tasks_of_a_block_wait_for_its_condition() -> None:
    """What comes after another task of the block follows that one; tasks outside stay outside."""
    with Flow("first") as flow:
        outside = inc(1)
        with case(outside, 2):
            first = inc(outside)
            second = inc(first)
    (condition,) = flow.get_tasks(name='CompareValue: "2"')
    assert flow.upstream_tasks(first) == {outside, condition}
    assert flow.upstream_tasks(second) == {first}
    assert flow.run().result[second].result == 4


def test_cases_nest() -> None:
    """An inner block's condition belongs to the outer block."""
    with Flow("nested") as flow:
        x, y = Parameter("x"), Parameter("y")
        with case(x, 1):
            with case(y, 1):
                inner = ident("both")
            outer = ident("outer")
    assert [type(flow.run(x=1, y=2).result[node]) for node in (inner, outer)] == [Skipped, Success]
    assert [type(flow.run(x=2, y=1).result[node]) for node in (inner, outer)] == [Skipped, Skipped]
    assert flow.run(x=1, y=1).result[inner].result == "both"


def test_an_empty_case_draws_nothing() -> None:
    """And a value that is not known while drawing is refused."""
    with Flow("empty") as flow:
        x = ident(1)
        with case(x, 2):
            pass
        with pytest.raises(TypeError, match="known while the flow is drawn"):
            case(x, ident(2))
    assert len(flow.tasks) == 2


def test_switch() -> None:
    """The key that equals the condition's result is run."""
    with Flow("switch") as flow:
        branches = {name: ident(name) for name in ("a", "b")}
        switch(Parameter("choice"), branches)
    states = flow.run(choice="b").result
    assert isinstance(states[branches["a"]], Skipped)
    assert states[branches["b"]].result == "b"
    assert 'Provided value "b" did not match "a"' in str(states[flow.get_tasks(name='CompareValue: "a"')[0]].message)


@pytest.mark.parametrize(("value", "taken"), [(0, "no"), (7, "yes"), ([], "no"), ("x", "yes")])
def test_ifelse_goes_by_truth(value: object, taken: str) -> None:
    """Any value counts as true or false, as in Python."""
    with Flow("ifelse") as flow:
        yes, no = ident("yes"), ident("no")
        ifelse(ident(Parameter("value")), yes, no)
        merged = merge(yes, no)
    assert flow.run(value=value).result[merged].result == taken


def test_a_failed_branch_fails_the_merge() -> None:
    """A merge takes skips, not failures."""

    @task
    def breaks() -> None:
        raise ValueError("broken")

    with Flow("failed branch") as flow:
        with case(ident(1), 1):
            a = breaks()
        merged = merge(a, ident(2))
    assert isinstance(flow.run().result[merged], TriggerFailed)


def test_a_merge_takes_many_branches_in_order() -> None:
    """The first that is not None, also among more than nine."""
    with Flow("many") as flow:
        merged = merge(*[ident(None) for _ in range(9)], ident("tenth"), ident("eleventh"))
    assert flow.run().result[merged].result == "tenth"


def test_comparing_a_task_draws_a_comparison() -> None:
    """``case(x == 5, True)`` is no trap."""
    with Flow("compared") as flow:
        x = Parameter("x")
        with case(x == 5, True):
            five = ident("five")
        with case(x != 5, True):
            other = ident("other")
    states = flow.run(x=5).result
    assert (states[five].result, type(states[other])) == ("five", Skipped)


def inc_or_negate(x: object) -> object:
    """Prefect's own example of apply_map."""
    with case(is_even(x), True):
        a = negate(x)
    with case(is_even(x), False):
        b = inc(x)
    return merge(a, b)


def test_apply_map_maps_a_whole_branching_function() -> None:
    """Each element takes its own branch."""
    with Flow("apply_map") as flow:
        result = apply_map(inc_or_negate, range(5))
        of_task = apply_map(inc_or_negate, ident([10, 11]))
    state = flow.run()
    assert state.is_successful(), state
    assert state.result[result].result == [0, 2, -2, 4, -4]
    assert state.result[of_task].result == [-10, 12]


def test_apply_map_passes_whole_what_is_unmapped_or_outside() -> None:
    """``unmapped`` arguments, constants, closures; collections of elements are made element by element."""
    with Flow("whole") as flow:
        outside = ident([100, 200])

        def draw(x: object, y: object) -> object:
            return ident([x, ident(y), outside, "c"])

        result = apply_map(draw, [1, 2], unmapped(ident([7, 8])))
    assert flow.run().result[result].result == [[1, [7, 8], [100, 200], "c"], [2, [7, 8], [100, 200], "c"]]


def test_apply_map_with_flatten_and_upstream_tasks() -> None:
    """Elements of elements; an order within the function goes element by element."""
    with Flow("flat") as flow:

        def draw(x: object) -> object:
            first = inc(x)
            return negate(x, upstream_tasks=[first])

        result = apply_map(draw, flatten(ident([[1], [2, 3]])))
    assert flow.run().result[result].result == [-1, -2, -3]


def test_mapped_in_a_plain_call() -> None:
    """``mapped(x)`` maps over that argument only."""
    with Flow("marked") as flow:
        result = task(lambda x, y: (x, y), name="pair")(mapped(ident([1, 2])), [3, 4])
    assert flow.run().result[result].result == [(1, [3, 4]), (2, [3, 4])]


def test_filter_task() -> None:
    """By default what failed or is None is left out; a function of one's own decides otherwise."""

    @task
    def invert(x: int) -> float | None:
        return None if x == 4 else 1 / x

    with Flow("filter") as flow:
        kept = FilterTask()(invert.map([-1, 0, 2, 4]))
        even = FilterTask(filter_func=lambda x: x % 2 == 0, name="even")(ident([1, 2, 3, 4]))
        again = inc.map(even)
    state = flow.run()
    assert state.result[kept].result == [-1.0, 0.5]
    assert state.result[even].result == [2, 4]
    assert state.result[again].result == [3, 5]


EVENTS: list[str] = []


@resource_manager
class Database:
    """A resource for tests."""

    def __init__(self, name: str, broken: bool = False) -> None:
        self.name = name
        self.broken = broken

    def setup(self) -> list[str]:
        if self.broken:
            raise OSError("no database")
        EVENTS.append(f"open {self.name}")
        return EVENTS

    def cleanup(self, resource: list[str]) -> None:
        resource.append(f"close {self.name}")


@task
def use(connection: list[str], what: str) -> None:
    EVENTS.append(f"use {what}")
    if what == "badly":
        raise ValueError("bad query")


@pytest.mark.parametrize(("what", "kind"), [("well", Success), ("badly", Failed)])
def test_a_resource_is_cleaned_up_come_what_may(what: str, kind: type) -> None:
    """Set up before the block's tasks, cleaned up after all of them; what failed in the block fails the flow."""
    EVENTS.clear()
    with Flow("resource") as flow:
        name = Parameter("name")
        with Database(name) as connection:
            use(connection, what)
    state = flow.run(name="db")
    assert ["open db", f"use {what}", "close db"] == EVENTS
    assert isinstance(state, kind)
    assert {node.name for node in flow.get_tasks()} == {"name", "Database", "Database.setup", "Database.cleanup", "use"}


def test_a_resource_that_cannot_be_set_up_is_not_cleaned_up() -> None:
    """The clean-up is skipped, the flow fails."""
    EVENTS.clear()
    with Flow("no resource") as flow, Database("db", broken=True) as connection:
        used = use(connection, "well")
    state = flow.run()
    assert EVENTS == []
    assert state.is_failed()
    assert isinstance(state.result[used], TriggerFailed)
    (cleanup,) = flow.get_tasks(name="Database.cleanup")
    assert isinstance(state.result[cleanup], Skipped)


def test_tasks_of_a_resources_block_wait_for_it_without_its_value(reader: Reader) -> None:
    """Also those that are not given the resource; the order is in the records."""
    EVENTS.clear()
    with Flow("waits") as flow, Database("db"):
        use([], "silently")
    assert flow.run().is_successful()
    assert EVENTS == ["open db", "use silently", "close db"]
    (run,) = reader.runs()
    rows = {row.name: row.seq for row in reader.tasks(run.id)}
    edges = {(edge.from_seq, edge.to_seq) for edge in reader.edges(run.id)}
    assert {(rows["Database.setup"], rows["use"]), (rows["use"], rows["Database.cleanup"])} <= edges


def test_mapped_branches_are_taken_run_by_run() -> None:
    """``switch``, ``ifelse``, ``merge`` with ``mapped=True``: of tasks that were called and of those that were not."""

    @task
    def small() -> str:
        return "small"

    @task
    def large() -> str:
        return "large"

    with Flow("branches") as flow:
        numbers = ident.map([1, 5, 2])
        ifelse(_over_three.map(numbers), large, small, mapped=True)
        sizes = merge(large, small, mapped=True)
        a, b = ident("was a"), negate.map([1, 2])
        switch(ident.map(["a", "b"]), {"a": a, "b": b}, mapped=True)
        letters = merge(a, b, mapped=True)
    state = flow.run()
    assert isinstance(state, Success)
    assert state.result[sizes].result == ["small", "large", "small"]
    assert state.result[letters].result == ["was a", -2]


@task
def _over_three(x: int) -> bool:
    return x > 3


@task
def around(x: int) -> list[int]:
    if x == 2:
        raise SKIP("no")
    return [x, -x]


def test_flatten_takes_what_there_is() -> None:
    """Bare items, texts whole; in a plain call a flat list; of a run that has no result the one that it was for."""
    with Flow("flat") as flow:
        bare = ident.map(flatten([1, [2, 3], "ab", ("cd", range(2))]))
        plain = ident(flatten(around.map([1, 3])))
        given = ident(flatten(ident([[1], 2])))
        skipped = inc.map(flatten(around.map([1, 2, 3])))
        twice = inc.map(flatten(flatten(ident([[[1, 2]], [[3]]]))))
    state = flow.run()
    assert state.result[bare].result == [1, 2, 3, "ab", "cd", range(2)]
    assert state.result[plain].result == [1, -1, 3, -3]
    assert state.result[given].result == [1, 2]
    assert state.result[skipped].result == [2, 0, None, 4, -2]
    assert [type(one) for one in state.result[skipped].map_states] == [Success, Success, Skipped, Success, Success]
    assert state.result[twice].result == [2, 3, 4]


def test_tags_around_what_is_drawn_are_its_tags(reader: Reader) -> None:
    """Called, mapped, put in without a call, made of a class in the block; nested blocks add up; no others get them."""

    class Made(Task):
        def run(self) -> int:
            return 1

    @task(tags=["own"])
    def tagged() -> int:
        return 1

    @task(name="put in")
    def put_in() -> int:
        return 1

    with Flow("tags") as flow:
        with tags("db"):
            ident(1)
            with tags("slow"):
                negate.map([1])
                tagged()
            flow.add_task(put_in)
            made = Made(name="made")
        made()
        inc(1)
    assert isinstance(flow.run(), Success)
    found = {row.key: row.tags for row in reader.tasks(1)}
    assert found == {
        "ident": '["db"]', "negate": '["db", "slow"]', "tagged": '["db", "own", "slow"]', "put in": '["db"]',
        "made": '["db"]', "inc": "[]",
    }  # fmt: skip
