"""Where a task's inputs came from: recorded from futures, states and results, not from equality."""

from __future__ import annotations

import pytest

from .names import flow, quote, task
from .records import task_runs


def upstream(flow_name: str, run_name: str = "down") -> set[str]:
    """Names of the task runs that this one got its inputs from."""
    return next(run.upstream for run in task_runs(flow_name) if run.name == run_name)


@task(task_run_name="up {x}")
def up(x):
    """Something to come from; a new object each time."""
    return [x]


@task(task_run_name="plain {x}")
def plain(x):
    """What it is given."""
    return x


@task(task_run_name="down")
def down(*values, **named):
    """Something to go to."""
    return len(values) + len(named)


def test_from_a_future() -> None:
    """Passed as an argument."""

    @flow(name="lineage future")
    def parent():
        down.submit(up.submit(1)).wait()

    parent()
    assert upstream("lineage future") == {"up 1"}


def test_from_a_state() -> None:
    """Passed as an argument."""

    @flow(name="lineage state")
    def parent():
        down(up(1, return_state=True))

    parent()
    assert upstream("lineage state") == {"up 1"}


def test_from_a_result() -> None:
    """The object that the task returned."""

    @flow(name="lineage result")
    def parent():
        down(up(1))

    parent()
    assert upstream("lineage result") == {"up 1"}


def test_from_several_futures_in_a_list() -> None:
    """All of them."""

    @flow(name="lineage list")
    def parent():
        down.submit([up.submit(1), up.submit(2)]).wait()

    parent()
    assert upstream("lineage list") == {"up 1", "up 2"}


def test_from_a_dict_of_futures() -> None:
    """All of them."""

    @flow(name="lineage dict")
    def parent():
        down.submit({"a": up.submit(1), "b": {"c": up.submit(2)}}).wait()

    parent()
    assert upstream("lineage dict") == {"up 1", "up 2"}


def test_from_keyword_arguments() -> None:
    """As from positional ones."""

    @flow(name="lineage keywords")
    def parent():
        down(a=up(1), b=2)

    parent()
    assert upstream("lineage keywords") == {"up 1"}


def test_from_wait_for() -> None:
    """Although no value is passed."""

    @flow(name="lineage wait_for")
    def parent():
        down.submit(wait_for=[up.submit(1)]).wait()

    parent()
    assert upstream("lineage wait_for") == {"up 1"}


def test_from_both_at_once() -> None:
    """Data and order."""

    @flow(name="lineage both")
    def parent():
        down.submit(up.submit(1), wait_for=[up.submit(2)]).wait()

    parent()
    assert upstream("lineage both") == {"up 1", "up 2"}


@pytest.mark.parametrize("value", [None, True, False, 3])
def test_not_from_values_that_everybody_shares(value) -> None:
    """None, booleans, small numbers."""

    @flow(name=f"lineage shared {value}")
    def parent():
        down(plain(value))

    parent()
    assert upstream(f"lineage shared {value}") == set()


def test_not_from_equal_but_other_objects() -> None:
    """Equality is no lineage."""

    @flow(name="lineage equality")
    def parent():
        kept = up(1)
        down([1])
        assert kept == [1]

    parent()
    assert upstream("lineage equality") == set()


def test_not_from_nothing() -> None:
    """Constants."""

    @flow(name="lineage constants")
    def parent():
        down("text", [1, 2])

    parent()
    assert upstream("lineage constants") == set()


def test_a_map_over_futures_goes_element_by_element() -> None:
    """Each downstream run knows its own."""

    @task(task_run_name="mapped {x[0]}")
    def mapped(x):
        return x

    @flow(name="lineage map")
    def parent():
        mapped.map(up.map([1, 2])).wait()

    parent()
    assert upstream("lineage map", "mapped 1") == {"up 1"}
    assert upstream("lineage map", "mapped 2") == {"up 2"}


def test_a_chain() -> None:
    """Only the next before."""

    @flow(name="lineage chain")
    def parent():
        down(text(up(1)))

    @task(task_run_name="text")
    def text(x):
        return [str(x)]

    parent()
    assert upstream("lineage chain") == {"text"}
    assert upstream("lineage chain", "text") == {"up 1"}


def test_quoted_futures_are_not_looked_at() -> None:
    """Nothing waits, nothing is recorded."""

    @flow(name="lineage quote")
    def parent():
        future = up.submit(1)
        future.wait()
        down(quote([future]))

    parent()
    assert upstream("lineage quote") == set()
