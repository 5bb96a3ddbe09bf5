"""``retries`` of a task: counts, delays, conditions, states on the way."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from .names import Failed, exponential_backoff, flow, only_here, task
from .records import task_runs


@pytest.mark.parametrize("fails_always", [True, False])
def test_retries_count_attempts_after_the_first(fails_always: bool) -> None:
    """Three retries are four attempts; the states on the way have their names."""
    attempts = []

    @task(retries=3)
    def flaky():
        attempts.append(1)
        if fails_always or len(attempts) < 4:
            raise ValueError("no")

    name = f"compat retry names {fails_always}"

    @flow(name=name)
    def parent():
        return flaky(return_state=True).is_failed()

    assert parent() is fails_always
    assert len(attempts) == 4
    end = "Failed" if fails_always else "Completed"
    assert task_runs(name)[0].history == ["Running", "Retrying", "Retrying", "Retrying", end]


def test_no_more_retries_than_needed() -> None:
    """Two attempts where the second works."""
    attempts = []

    @task(retries=10)
    def flaky():
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError("not yet")

    @flow
    def parent():
        flaky()

    parent()
    assert len(attempts) == 2


def test_a_run_counts_its_attempts() -> None:
    """In its record."""
    attempts = []

    @task(retries=2)
    def flaky():
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError("not yet")

    @flow(name="compat task attempts")
    def parent():
        flaky()

    parent()
    assert task_runs("compat task attempts")[0].attempts == 3


def test_the_last_exception_comes_out() -> None:
    """Not the first."""
    attempts = []

    @task(retries=1)
    def broken():
        attempts.append(1)
        raise ValueError(f"attempt {len(attempts)}")

    @flow
    def parent():
        broken()

    with pytest.raises(ValueError, match="attempt 2"):
        parent()


def test_async_tasks_are_retried() -> None:
    """The same for coroutines."""
    attempts = []

    @task(retries=2)
    async def flaky():
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError("not yet")
        return "done"

    @flow
    async def parent():
        return await flaky()

    assert asyncio.run(parent()) == "done"


def test_submitted_tasks_are_retried() -> None:
    """Seen in the future."""
    attempts = []

    @task(retries=1)
    def flaky():
        attempts.append(1)
        if len(attempts) < 2:
            raise ValueError("not yet")
        return "done"

    @flow
    def parent():
        return flaky.submit().result()

    assert parent() == "done"


def test_mapped_tasks_are_retried_one_by_one() -> None:
    """Only the one that failed."""
    attempts = []

    @task(retries=1)
    def flaky(x):
        attempts.append(x)
        if x == 2 and attempts.count(2) == 1:
            raise ValueError("not yet")
        return x

    @flow
    def parent():
        return flaky.map([1, 2, 3]).result()

    assert parent() == [1, 2, 3]
    assert sorted(attempts) == [1, 2, 2, 3]


def test_a_delay_is_waited_for() -> None:
    """Between attempts."""
    times = []

    @task(retries=1, retry_delay_seconds=0.3)
    def flaky():
        times.append(time.monotonic())
        if len(times) == 1:
            raise ValueError("not yet")

    @flow
    def parent():
        flaky()

    parent()
    assert times[1] - times[0] >= 0.29


def test_a_list_of_delays() -> None:
    """One for each retry; the last one repeats."""
    times = []

    @task(retries=3, retry_delay_seconds=[0.05, 0.3])
    def flaky():
        times.append(time.monotonic())
        if len(times) < 4:
            raise ValueError("not yet")

    @flow
    def parent():
        flaky()

    parent()
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[0] >= 0.04
    assert gaps[1] >= 0.29
    assert gaps[2] >= 0.29


def test_a_function_makes_the_delays() -> None:
    """It is given the number of retries."""
    given = []

    def delays(retries):
        given.append(retries)
        return [0.01] * retries

    @task(retries=2, retry_delay_seconds=delays)
    def flaky():
        raise ValueError("no")

    assert given == [2]

    @flow
    def parent():
        return flaky(return_state=True).is_failed()

    assert parent() is True


def test_exponential_backoff_doubles() -> None:
    """From its factor on."""
    assert exponential_backoff(10)(5) == [10, 20, 40, 80, 160]
    assert exponential_backoff(0.5)(3) == [0.5, 1.0, 2.0]


def test_a_condition_may_refuse() -> None:
    """It gets task, run and state."""
    attempts, seen = [], []

    def is_transient(a_task, run, state):
        seen.append((a_task.name, state.is_failed()))
        try:
            state.result()
        except ConnectionError:
            return True
        except Exception:
            return False

    @task(retries=3, retry_condition_fn=is_transient, name="conditional")
    def broken():
        attempts.append(1)
        raise ConnectionError("again") if len(attempts) == 1 else ValueError("for good")

    @flow
    def parent():
        broken(return_state=True)
        return 1

    parent()
    assert len(attempts) == 2
    assert seen == [("conditional", True), ("conditional", True)]


def test_a_condition_that_breaks_means_no_retry() -> None:
    """The task failed; nothing else happens."""
    attempts = []

    def breaks(a_task, run, state):
        raise RuntimeError("in the condition")

    @task(retries=3, retry_condition_fn=breaks)
    def broken():
        attempts.append(1)
        raise ValueError("the cause")

    @flow
    def parent():
        return str(broken(return_state=True).result(raise_on_failure=False))

    assert parent() == "the cause"
    assert len(attempts) == 1


def test_a_returned_failed_state_is_retried() -> None:
    """As an exception is."""
    attempts = []

    @task(retries=2)
    def gives_up():
        attempts.append(1)
        return Failed(message="no") if len(attempts) < 3 else "done"

    @flow
    def parent():
        return gives_up()

    assert parent() == "done"
    assert len(attempts) == 3


def test_a_jitter_must_not_be_negative() -> None:
    """Refused where it is written."""
    with pytest.raises(Exception, match="jitter"):

        @task(retries=1, retry_delay_seconds=1, retry_jitter_factor=-10)
        def any_task():
            pass


def test_a_delay_must_be_a_number() -> None:
    """Refused where it is written."""
    with pytest.raises(Exception, match="retry"):

        @task(retries=1, retry_delay_seconds="soon")
        def any_task():
            pass


def test_not_more_than_fifty_delays() -> None:
    """Refused where it is written."""
    with pytest.raises(Exception, match="50"):

        @task(retries=60, retry_delay_seconds=[1] * 51)
        def any_task():
            pass


def test_a_condition_must_be_callable() -> None:
    """Refused where it is written."""
    with pytest.raises(Exception, match="retry_condition_fn"):

        @task(retries=1, retry_condition_fn="always")
        def any_task():
            pass


def test_a_caught_exception_is_no_failure() -> None:
    """A task that handles its own trouble is not retried."""
    attempts = []

    @task(retries=3)
    def handles():
        attempts.append(1)
        try:
            raise ValueError("no")
        except ValueError:
            return "handled"

    @flow
    def parent():
        return handles()

    assert parent() == "handled"
    assert len(attempts) == 1


def test_downstream_waits_for_the_retries() -> None:
    """And runs once the upstream task made it."""
    attempts = []

    @task(retries=2, retry_delay_seconds=0.05)
    def flaky():
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError("not yet")
        return 5

    @task
    def doubles(x):
        return 2 * x

    @flow
    def parent():
        return doubles.submit(flaky.submit()).result()

    assert parent() == 10


@only_here("any tenacity object decides about retries")
def test_tenacity_objects_are_taken() -> None:
    """A wait and a condition."""
    import tenacity

    attempts = []

    @task(retries=3, retry_delay_seconds=tenacity.wait_fixed(0.01),
          retry_condition_fn=tenacity.retry_if_exception_type(ConnectionError))  # fmt: skip
    def flaky():
        attempts.append(1)
        raise ConnectionError("again") if len(attempts) == 1 else ValueError("for good")

    @flow
    def parent():
        return flaky(return_state=True).is_failed()

    assert parent() is True
    assert len(attempts) == 2
