"""``transaction``: groups of tasks that commit together or roll back; hooks on commit and rollback."""

from __future__ import annotations

from uuid import uuid4

import pytest

from .names import CommitMode, flow, get_transaction, only_here, only_there, task, transaction


def test_a_failure_rolls_back_what_came_before() -> None:
    """Of the tasks in the block that have a hook."""
    noted = []

    @task
    def writes():
        noted.append("write")

    @writes.on_rollback
    def unwrites(txn):
        noted.append("rollback")

    @task
    def fails():
        raise ValueError("no")

    @flow
    def parent():
        with transaction():
            writes()
            fails()

    assert parent(return_state=True).is_failed()
    assert noted == ["write", "rollback"]


def test_success_commits() -> None:
    """At the end of the block, not before."""
    noted = []

    @task
    def writes(x):
        noted.append(f"write {x}")

    @writes.on_commit
    def committed(txn):
        noted.append("commit")

    @writes.on_rollback
    def rolled_back(txn):
        noted.append("rollback")

    @flow
    def parent():
        with transaction():
            writes(1)
            writes(2)
            noted.append("end of block")

    parent()
    assert noted == ["write 1", "write 2", "end of block", "commit", "commit"]


def test_commit_hooks_are_not_called_on_rollback() -> None:
    """Nor the other way round."""
    noted = []

    @task
    def writes():
        noted.append("write")

    @writes.on_commit
    def committed(txn):
        noted.append("commit")

    @flow
    def parent():
        with transaction():
            writes()
            raise ValueError("no")

    parent(return_state=True)
    assert noted == ["write"]


def test_rollback_goes_backwards() -> None:
    """The last first."""
    noted = []

    @task
    def one():
        pass

    @one.on_rollback
    def unone(txn):
        noted.append("one")

    @task
    def two():
        pass

    @two.on_rollback
    def untwo(txn):
        noted.append("two")

    @flow
    def parent():
        with transaction():
            one()
            two()
            raise ValueError("no")

    parent(return_state=True)
    assert noted == ["two", "one"]


def test_the_failed_task_itself_is_not_rolled_back() -> None:
    """It cleans up in its own ``except``; hooks undo what was done."""
    noted = []

    @task
    def fails():
        raise ValueError("no")

    @fails.on_rollback
    def unfails(txn):
        noted.append("rollback")

    @flow
    def parent():
        with transaction():
            fails()

    parent(return_state=True)
    assert not noted


def test_a_failure_outside_the_block_rolls_back_nothing() -> None:
    """It was committed."""
    noted = []

    @task
    def writes():
        noted.append("write")

    @writes.on_rollback
    def unwrites(txn):
        noted.append("rollback")

    @flow
    def parent():
        with transaction():
            writes()
        raise ValueError("afterwards")

    parent(return_state=True)
    assert noted == ["write"]


def test_values_set_in_the_transaction_reach_the_hook() -> None:
    """``set`` and ``get``."""
    noted = []

    @task
    def writes():
        pass

    @writes.on_rollback
    def unwrites(txn):
        noted.append(txn.get("path"))

    @flow
    def parent():
        with transaction() as txn:
            txn.set("path", "/some/file")
            writes()
            raise ValueError("no")

    parent(return_state=True)
    assert noted == ["/some/file"]


def test_a_value_that_was_not_set() -> None:
    """An error, or the default given."""

    @flow
    def parent():
        with transaction() as txn:
            with pytest.raises(ValueError, match="missing"):
                txn.get("missing")
            return txn.get("missing", "default")

    assert parent() == "default"


def test_a_key_makes_the_block_idempotent() -> None:
    """It says whether it was committed before."""
    key = uuid4().hex

    @flow
    def parent():
        with transaction(key=key) as txn:
            if txn.is_committed():
                return "before"
            txn.stage("value")
            return "now"

    assert [parent(), parent()] == ["now", "before"]


def test_transactions_nest() -> None:
    """A failure outside rolls back what is inside."""
    noted = []

    @task
    def inner():
        pass

    @inner.on_rollback
    def uninner(txn):
        noted.append("inner")

    @task
    def outer():
        pass

    @outer.on_rollback
    def unouter(txn):
        noted.append("outer")

    @flow
    def parent():
        with transaction():
            outer()
            with transaction():
                inner()
            raise ValueError("no")

    parent(return_state=True)
    assert noted == ["inner", "outer"]


def test_an_eager_inner_transaction_commits_by_itself() -> None:
    """At its own end."""
    noted = []

    @task
    def inner():
        pass

    @inner.on_commit
    def committed(txn):
        noted.append("commit")

    @flow
    def parent():
        with transaction():
            with transaction(commit_mode=CommitMode.EAGER):
                inner()
            noted.append("after inner")

    parent()
    assert noted == ["commit", "after inner"]


def test_a_caught_failure_inside_the_block_has_rolled_back() -> None:
    """The flow goes on."""
    noted = []

    @task
    def writes():
        pass

    @writes.on_rollback
    def unwrites(txn):
        noted.append("rollback")

    @flow
    def parent():
        try:
            with transaction():
                writes()
                raise ValueError("no")
        except ValueError:
            noted.append("caught")
        return "fine"

    assert parent() == "fine"
    assert noted == ["rollback", "caught"]


def test_several_hooks() -> None:
    """All of them."""
    noted = []

    @task
    def writes():
        pass

    @writes.on_rollback
    def first(txn):
        noted.append("first")

    @flow
    def parent():
        with transaction():
            writes()
            writes()
            raise ValueError("no")

    parent(return_state=True)
    assert noted == ["first", "first"]


def test_a_failing_rollback_hook_hides_nothing() -> None:
    """The exception of the flow stays the one that comes out."""

    @task
    def writes():
        pass

    @writes.on_rollback
    def breaks(txn):
        raise RuntimeError("in the hook")

    @flow
    def parent():
        with transaction():
            writes()
            raise ValueError("the cause")

    with pytest.raises(ValueError, match="the cause"):
        parent()


def test_the_current_transaction_can_be_asked_for() -> None:
    """Inside the block only."""

    @flow
    def parent():
        before = get_transaction()
        with transaction() as txn:
            inside = get_transaction() is txn
        return before is None, inside

    assert parent()[1] is True


def test_a_task_of_its_own_commits_at_once() -> None:
    """Without a block around it."""
    noted = []

    @task
    def writes():
        noted.append("write")

    @writes.on_commit
    def committed(txn):
        noted.append("commit")

    @flow
    def parent():
        writes()
        noted.append("after")

    parent()
    assert noted == ["write", "commit", "after"]


def test_a_failed_task_of_its_own_rolls_nothing_back() -> None:
    """There is no block around it."""
    noted = []

    @task
    def fails():
        raise ValueError("no")

    @fails.on_rollback
    def undo(txn):
        noted.append("rollback")

    @flow
    def parent():
        fails(return_state=True)
        noted.append("after")
        return 1

    parent()
    assert noted == ["after"]


@only_here("on_commit and on_rollback are options of @task as well; in Prefect of Task alone")
def test_hooks_as_options() -> None:
    """``on_commit`` and ``on_rollback`` of @task."""
    noted = []

    @task(on_commit=[lambda txn: noted.append("commit")], on_rollback=[lambda txn: noted.append("rollback")])
    def writes():
        pass

    @flow
    def parent():
        writes()

    parent()
    assert noted == ["commit"]


def test_submitted_tasks_in_a_transaction() -> None:
    """Are staged and rolled back with it."""
    noted = []

    @task
    def writes():
        return 1

    @writes.on_rollback
    def undo(txn):
        noted.append("rollback")

    @flow
    def parent():
        with transaction():
            writes.submit().wait()
            raise ValueError("no")

    parent(return_state=True)
    assert noted == ["rollback"]


@only_here("a task outside a flow is a run of its own that has ended, so that a block around it cannot undo it")
def test_a_transaction_of_tasks_outside_a_flow_is_refused() -> None:
    """Rather than silently not rolled back."""

    @task
    def writes():
        pass

    with transaction(), pytest.raises(Exception, match="flow"):
        writes()


@only_there("a task outside a flow is a run of its own that has ended, so that a block around it cannot undo it")
def test_a_transaction_outside_a_flow() -> None:
    """Works as well."""
    noted = []

    @task
    def writes():
        pass

    @writes.on_rollback
    def undo(txn):
        noted.append("rollback")

    with pytest.raises(ValueError, match="no"), transaction():  # noqa: PT012 - it is the block that counts
        writes()
        raise ValueError("no")
    assert noted == ["rollback"]
