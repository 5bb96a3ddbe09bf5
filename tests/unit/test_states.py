"""State objects and the rule that makes one of many."""

from __future__ import annotations

import pytest
from flowdeck import Completed, Failed, State
from flowdeck.engine.errors import RunCrashed, RunFailed, UpstreamFailed
from flowdeck.engine.states.state import aggregate, describe_exception
from flowdeck.store.states import NAMES, STATE_TYPES
from hypothesis import given
from hypothesis import strategies as st

STATES = st.sampled_from([State(kind, name) for kind, names in NAMES.items() for name in names])
FINAL = STATES.filter(lambda state: state.is_final())


def test_states_say_what_they_are() -> None:
    """Exactly one question about the type is answered yes."""
    for kind in STATE_TYPES:
        state = State(kind)
        answers = [
            state.is_completed(), state.is_failed(), state.is_crashed(), state.is_cancelled(), state.is_cancelling(),
            state.is_running(), state.is_pending(), state.is_paused(), state.is_scheduled(),
        ]  # fmt: skip
        assert answers.count(True) == 1
        assert state.name == NAMES[kind][0]
    with pytest.raises(ValueError, match="no state type 'DONE'"):
        State("DONE")


def test_result_gives_the_value_or_raises_what_ended_it() -> None:
    """Also for states without an exception."""
    error = ValueError("boom")
    assert Completed(data=3).result() == 3
    assert Completed().result() is None
    with pytest.raises(ValueError, match="boom"):
        State("FAILED", error=error).result()
    assert State("FAILED", error=error).result(raise_on_failure=False) is error
    with pytest.raises(RunFailed, match="no luck"):
        Failed(message="no luck").result()
    with pytest.raises(RunCrashed):
        State("CRASHED").result()
    with pytest.raises(UpstreamFailed):
        State("PENDING", "NotReady").result()
    assert Failed(data=3).result(raise_on_failure=False) == 3


@given(st.lists(FINAL, min_size=1, max_size=8))
def test_aggregate_follows_prefects_rule(states: list[State]) -> None:
    """Any cancelled: Cancelled with their count; else any failed or crashed: Failed; else Completed."""
    failed = sum(s.is_failed() or s.is_crashed() or s.name == "NotReady" for s in states)
    cancelled = sum(s.is_cancelled() and s.name != "Skipped" for s in states)
    outcome = aggregate(states)
    assert outcome.data == states
    if cancelled:
        assert (outcome.type, outcome.message) == ("CANCELLED", f"{cancelled}/{len(states)} states cancelled.")
    elif failed:
        assert (outcome.type, outcome.message) == ("FAILED", f"{failed}/{len(states)} states failed.")
    else:
        assert (outcome.type, outcome.message) == ("COMPLETED", "All states completed.")


def test_aggregate_tells_the_first_reason() -> None:
    """The words of the first failure with words stand in the message."""
    states = [State("FAILED"), State("FAILED", message="ValueError: x"), State("COMPLETED")]
    assert aggregate(states).message == "2/3 states failed. First: ValueError: x"


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no")


class Evil(Exception):
    def __str__(self):
        return 3  # type: ignore[return-value]


def test_any_exception_is_described_in_one_short_line() -> None:
    """Whatever its text is."""
    assert describe_exception(ValueError("a\n  b\x00")) == "ValueError: a b\x00"
    assert describe_exception(KeyError()) == "KeyError"
    assert describe_exception(Mute()).startswith("Mute: <its text cannot be made")
    assert describe_exception(Evil()).startswith("Evil: <its text cannot be made")
    long = describe_exception(ValueError("x" * 10**6))
    assert len(long) == 300
    assert long.endswith("…")
