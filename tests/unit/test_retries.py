"""When a failed attempt is tried again, and after how long."""

from __future__ import annotations

import pytest
import tenacity
from flowdeck import exponential_backoff
from flowdeck.engine.errors import UsageError
from flowdeck.engine.retries import MAX_DELAYS, RetryPolicy
from hypothesis import given
from hypothesis import strategies as st

ERROR = ValueError("x")
CONTEXT = (None, None, None)


def delays(policy: RetryPolicy, attempts: int = 10) -> list[float | None]:
    """What the policy says after each attempt."""
    return [policy.next_delay(attempt, ERROR, 0.0, CONTEXT) for attempt in range(1, attempts + 1)]


@given(st.integers(0, 20), st.lists(st.floats(0, 1000), max_size=8))
def test_as_many_retries_as_asked_for(retries: int, given_delays: list[float]) -> None:
    """``retries`` counts attempts after the first; the last delay of a list repeats."""
    said = delays(RetryPolicy(retries, given_delays), retries + 3)
    assert said[retries:] == [None] * 3
    wanted = [given_delays[min(n, len(given_delays) - 1)] if given_delays else 0.0 for n in range(retries)]
    assert said[:retries] == wanted


def test_forms_of_delay() -> None:
    """A number, a function of the number of retries, nothing."""
    assert delays(RetryPolicy(2, 1.5), 3) == [1.5, 1.5, None]
    assert delays(RetryPolicy(2, None), 3) == [0.0, 0.0, None]
    assert delays(RetryPolicy(4, exponential_backoff(2)), 5) == [2, 4, 8, 16, None]
    assert delays(RetryPolicy(2, lambda n: [n, n + 1]), 3) == [2, 3, None]


def test_tenacity_objects_speak_for_themselves() -> None:
    """Wait and retry objects of tenacity are used as they are."""
    policy = RetryPolicy(4, tenacity.wait_incrementing(1, 2))
    assert delays(policy, 5) == [1, 3, 5, 7, None]
    only_os = RetryPolicy(3, 0, None, tenacity.retry_if_exception_type(OSError))
    assert only_os.next_delay(1, OSError(), 0, CONTEXT) == 0
    assert only_os.next_delay(1, ValueError(), 0, CONTEXT) is None


@given(st.floats(0, 10), st.floats(0.001, 100))
def test_jitter_stays_around_the_delay(factor: float, base: float) -> None:
    """Never negative, never beyond ``base * (1 + factor)``."""
    delay = RetryPolicy(1, base, factor).next_delay(1, ERROR, 0, CONTEXT)
    assert delay is not None
    assert 0 <= delay <= base * (1 + factor) * 1.0001


def test_a_condition_may_refuse() -> None:
    """It is given the task, the run and the state."""
    seen = []
    policy = RetryPolicy(3, 0, None, lambda *given: seen.append(given) or len(seen) < 2)
    context = ("task", "run", "state")
    assert policy.next_delay(1, ERROR, 0, context) == 0
    assert policy.next_delay(2, ERROR, 0, context) is None
    assert seen == [context, context]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"retries": -1}, "retries must be a whole number"), ({"retries": True}, "retries must be"),
        ({"retries": 1.5}, "retries must be"), ({"retries": 1, "delay": "5"}, "retry_delay_seconds must be"),
        ({"retries": 1, "delay": [1, -1]}, "from 0, not -1"), ({"retries": 1, "delay": object()}, "must be"),
        ({"retries": 99, "delay": [1.0] * (MAX_DELAYS + 1)}, "at most 50"),
        ({"retries": 1, "jitter_factor": -1}, "retry_jitter_factor"),
        ({"retries": 1, "delay": [float("nan")]}, "nan"), ({"retries": 1, "delay": float("inf")}, "inf"),
        ({"retries": 1, "delay": True}, "must be"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused_in_words(options: dict, text: str) -> None:
    """The text names the option and what was given."""
    with pytest.raises(UsageError, match=text):
        RetryPolicy(**options, what="task 'x'")
