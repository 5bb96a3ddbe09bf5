"""When a failed attempt is tried again, and after how long."""

from __future__ import annotations

import pytest
import tenacity
from flowdeck import exponential_backoff
from flowdeck.engine.authoring.retries import MAX_DELAYS, RetryPolicy
from flowdeck.engine.errors import UsageError
from hypothesis import given
from hypothesis import strategies as st

ERROR = ValueError("x")
CONTEXT = (None, None, None)


def delays(policy: RetryPolicy, attempts: int = 10) -> list[float | None]:
    """What the policy says after each attempt."""
    return [delay_after(policy, attempt) for attempt in range(1, attempts + 1)]


def delay_after(policy: RetryPolicy, attempt: int, error: BaseException = ERROR, elapsed: float = 0.0) -> float | None:
    """Seconds until the next attempt; None when there is none."""
    verdict = policy.verdict(attempt, error, elapsed, CONTEXT)
    return verdict.delay_seconds if verdict.kind == "again" else None


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
    assert delay_after(only_os, 1, OSError()) == 0
    assert delay_after(only_os, 1, ValueError()) is None


@given(st.floats(0, 10), st.floats(0.001, 100))
def test_jitter_stays_around_the_delay(factor: float, base: float) -> None:
    """Between ``base / (1 + factor)`` and ``base * (1 + factor)``."""
    delay = delay_after(RetryPolicy(1, base, factor), 1)
    assert delay is not None
    assert base / (1 + factor) * 0.9999 <= delay <= base * (1 + factor) * 1.0001


def test_jitter_is_real() -> None:
    """Delays differ from one another, whatever gives them."""
    for delay in (10, [10, 10], exponential_backoff(10), tenacity.wait_fixed(10)):
        policy = RetryPolicy(1, delay, 1)
        said = {delay_after(policy, 1) for _ in range(200)}
        assert len(said) > 100
        assert min(said) < 10 < max(said)


def test_tenacity_stops_decide_how_often() -> None:
    """``stop_after_attempt`` counts the first attempt, ``stop_after_delay`` looks at the time since it began."""
    assert delays(RetryPolicy(tenacity.stop_after_attempt(3), 1), 4) == [1, 1, None, None]
    assert delays(RetryPolicy(tenacity.stop_never, 1), 99)[-1] == 1
    timed = RetryPolicy(tenacity.stop_after_delay(10) | tenacity.stop_after_attempt(5), 1)
    assert [delay_after(timed, n, elapsed=seconds) for n, seconds in ((1, 9), (1, 11), (5, 0))] == [1, None, None]
    before = RetryPolicy(tenacity.stop_before_delay(10), 5)
    assert (delay_after(before, 1, elapsed=4), delay_after(before, 1, elapsed=6)) == (5, None)


def test_exhausted_retries_may_hold() -> None:
    """With ``on_exhausted="pause"``; not where a condition said no."""
    policy = RetryPolicy(1, 0, None, lambda _t, _r, state: state != "bad", on_exhausted="pause")
    assert [policy.verdict(n, ERROR, 0, (None, None, "good")).kind for n in (1, 2)] == ["again", "hold"]
    assert [policy.verdict(n, ERROR, 0, (None, None, "bad")).kind for n in (1, 2)] == ["end", "end"]
    once = RetryPolicy(tenacity.stop_after_attempt(1), on_exhausted="pause")
    assert once.verdict(1, ERROR, 0, CONTEXT).kind == "hold"


def test_a_condition_may_refuse() -> None:
    """It is given the task, the run and the state."""
    seen = []
    policy = RetryPolicy(3, 0, None, lambda *given: seen.append(given) or len(seen) < 2)
    context = ("task", "run", "state")
    assert policy.verdict(1, ERROR, 0, context) == ("again", 0)
    assert policy.verdict(2, ERROR, 0, context) == ("end", 0)
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
        ({"retries": 1, "delay": True}, "must be"), ({"retries": "3"}, "retries must be"),
        ({"retries": tenacity.wait_fixed(1)}, "stop object"), ({"delay": tenacity.stop_never}, "wait object"),
        ({"jitter_factor": "x"}, "retry_jitter_factor"), ({"condition": 5}, "retry_condition_fn"),
        ({"condition": tenacity.stop_never}, "retry object"), ({"crash_retries": -1}, "crash_retries must"),
        ({"condition": tenacity.retry_if_result(bool) | tenacity.retry_always}, "retry_if_result looks at"),
        ({"on_exhausted": "hold"}, "on_exhausted must be"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused_in_words(options: dict, text: str) -> None:
    """The text names the option and what was given."""
    with pytest.raises(UsageError, match=text):
        RetryPolicy(**options, what="task 'x'")
