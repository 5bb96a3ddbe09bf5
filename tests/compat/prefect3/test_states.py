"""State objects: constructors, types, names, what they hold and say."""

from __future__ import annotations

import pytest

from .names import (
    Cancelled,
    Completed,
    Crashed,
    Failed,
    Paused,
    Pending,
    Running,
    Scheduled,
    State,
    flow,
    task,
)  # fmt: skip


@pytest.mark.parametrize(
    ("make", "kind", "is_final"),
    [
        (Completed, "completed", True), (Failed, "failed", True), (Cancelled, "cancelled", True),
        (Crashed, "crashed", True), (Pending, "pending", False), (Running, "running", False),
        (Paused, "paused", False), (Scheduled, "scheduled", False),
    ],
)  # fmt: skip
def test_every_type_has_a_constructor(make, kind, is_final) -> None:
    """And a question."""
    state = make()
    kinds = ("completed", "failed", "cancelled", "crashed", "pending", "running", "paused", "scheduled")
    assert [name for name in kinds if getattr(state, f"is_{name}")()] == [kind]
    assert state.is_final() is is_final
    assert state.name == kind.capitalize()


def test_a_state_has_a_message() -> None:
    """In words."""
    assert Completed(message="all done").message == "all done"
    assert Completed().message is None


def test_a_state_may_have_another_name() -> None:
    """Its type stays."""
    state = Completed(name="Nothing to do")
    assert state.name == "Nothing to do"
    assert state.is_completed()


def test_a_state_holds_a_value() -> None:
    """Given back by result()."""
    assert Completed(data=[1, 2]).result() == [1, 2]
    assert Completed(data="text").result() == "text"


def test_a_failed_state_holds_an_exception() -> None:
    """Raised by result()."""
    state = Failed(data=ValueError("inside"))
    with pytest.raises(ValueError, match="inside"):
        state.result()
    assert isinstance(state.result(raise_on_failure=False), ValueError)


def test_a_failed_state_with_a_message_only() -> None:
    """An exception with that message."""
    with pytest.raises(Exception, match="in words"):
        Failed(message="in words").result()


def test_a_cancelled_state_raises() -> None:
    """When its result is asked for."""
    with pytest.raises(BaseException, match="stopped"):
        Cancelled(message="stopped").result()


def test_a_crashed_state_raises() -> None:
    """When its result is asked for."""
    with pytest.raises(Exception, match="gone"):
        Crashed(message="gone").result()


def test_a_state_of_unfinished_work_has_no_result() -> None:
    """It raises."""
    for make in (Pending, Running, Scheduled):
        with pytest.raises(Exception, match=r"."):
            make().result()


def test_what_a_call_gives_is_a_state() -> None:
    """Of the public type."""

    @task
    def works():
        return 1

    @flow
    def parent():
        return isinstance(works(return_state=True), State)

    assert parent() is True
    assert isinstance(parent(return_state=True), State)


def test_a_state_says_its_name_and_message() -> None:
    """When printed."""
    text = str(Failed(message="something broke", name="Broken"))
    assert "Broken" in text
    assert "something broke" in text


def test_the_type_compares_with_its_name() -> None:
    """As text."""
    assert Completed().type == "COMPLETED"
    assert Failed().type == "FAILED"
    assert Completed().type != Failed().type


def test_a_failed_flows_message_names_the_exception() -> None:
    """Its text, and where it is useful its type."""

    @flow
    def fails():
        raise RuntimeError("the cause")

    message = fails(return_state=True).message
    assert "RuntimeError" in message
    assert "the cause" in message


def test_the_value_behind_a_completed_flow_state() -> None:
    """The flow's own."""

    @flow
    def works():
        return {"a": [1, 2]}

    assert works(return_state=True).result() == {"a": [1, 2]}
