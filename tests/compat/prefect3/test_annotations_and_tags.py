"""``unmapped``, ``allow_failure``, ``quote``, ``opaque``, ``freeze``; the ``tags`` block."""

from __future__ import annotations

from .names import allow_failure, flow, opaque, quote, tags, task, unmapped
from .records import flow_run, task_runs


@task
def gets(x):
    """What it is given."""
    return x


def test_quote_passes_the_value_itself() -> None:
    """Unchanged."""

    @flow
    def parent():
        return gets(quote([1, 2, 3]))

    assert parent() == [1, 2, 3]


def test_quote_keeps_a_future_a_future() -> None:
    """Nothing is waited for."""

    @task
    def looks(x):
        return hasattr(x, "result")

    @flow
    def parent():
        future = gets.submit(1)
        future.wait()
        return looks(quote(future))

    assert parent() is True


def test_opaque_passes_the_value_itself() -> None:
    """What is inside is not looked at."""

    @task
    def looks(x):
        return hasattr(x[0], "result")

    @flow
    def parent():
        future = gets.submit(1)
        future.wait()
        return looks(opaque([future]))

    assert parent() is True


def test_unmapped_in_a_call_is_its_value() -> None:
    """Outside map it means nothing."""

    @flow
    def parent():
        return unmapped([1]).unwrap()

    assert parent() == [1]


def test_annotations_give_back_their_value() -> None:
    """``unwrap``."""
    assert allow_failure(1).unwrap() == 1
    assert quote("a").unwrap() == "a"


def test_the_same_annotation_of_the_same_value_is_equal() -> None:
    """Another is not."""
    assert allow_failure(1) == allow_failure(1)
    assert not allow_failure(1) == unmapped(1)  # noqa: SIM201 - in Prefect != is another question


def test_tags_reach_the_runs_in_the_block() -> None:
    """Flows and tasks."""

    @task(task_run_name="tagged")
    def any_task():
        pass

    @flow(name="compat tags block")
    def parent():
        any_task()

    with tags("a", "b"):
        parent()
    assert flow_run("compat tags block").tags == {"a", "b"}
    assert {"a", "b"} <= task_runs("compat tags block")[0].tags


def test_tags_nest() -> None:
    """Inner blocks add."""

    @task(task_run_name="{x}")
    def any_task(x):
        pass

    @flow(name="compat nested tags")
    def parent():
        with tags("outer"):
            any_task("one")
            with tags("inner"):
                any_task("two")
            any_task("three")

    parent()
    found = {run.name: run.tags for run in task_runs("compat nested tags")}
    assert found == {"one": {"outer"}, "two": {"outer", "inner"}, "three": {"outer"}}


def test_a_tasks_own_tags_are_merged() -> None:
    """With the block's."""

    @task(tags={"own"}, task_run_name="t")
    def any_task():
        pass

    @flow(name="compat merged tags")
    def parent():
        with tags("block"):
            any_task()

    parent()
    assert task_runs("compat merged tags")[0].tags == {"own", "block"}


def test_tags_of_submitted_tasks() -> None:
    """Those of the block they were submitted in."""

    @task(task_run_name="{x}")
    def any_task(x):
        pass

    @flow(name="compat submitted tags")
    def parent():
        with tags("block"):
            future = any_task.submit("in")
        other = any_task.submit("out")
        future.wait()
        other.wait()

    parent()
    found = {run.name: run.tags for run in task_runs("compat submitted tags")}
    assert found == {"in": {"block"}, "out": set()}


def test_the_block_gives_the_tags() -> None:
    """All that hold inside it."""
    with tags("a") as outer:
        assert outer == {"a"}
        with tags("b") as inner:
            assert inner == {"a", "b"}


def test_with_options_replaces_tags() -> None:
    """They are not added up."""

    @task(tags={"old"})
    def any_task():
        pass

    assert any_task.with_options(tags={"new"}).tags == {"new"}
