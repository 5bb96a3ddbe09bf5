"""Calling tasks: values, options, methods, states, timeouts, and tasks outside flows."""

from __future__ import annotations

import asyncio
import time

import pytest

from .names import Cancelled, Completed, Failed, Task, flow, only_here, task
from .records import task_runs


def test_a_task_called_returns_its_value() -> None:
    """At once, in the flow."""

    @task
    def adds(x, y=2):
        return x + y

    @flow
    def parent():
        return adds(1) + adds(1, y=1)

    assert parent() == 5


def test_an_async_task_is_awaited() -> None:
    """In an async flow."""

    @task
    async def adds(x):
        await asyncio.sleep(0)
        return x + 1

    @flow
    async def parent():
        return await adds(1)

    assert asyncio.run(parent()) == 2


def test_a_sync_task_in_an_async_flow() -> None:
    """Called without await."""

    @task
    def adds(x):
        return x + 1

    @flow
    async def parent():
        return adds(1)

    assert asyncio.run(parent()) == 2


def test_a_task_outside_a_flow_runs() -> None:
    """With its value and its state."""

    @task
    def adds(x):
        return x + 1

    assert adds(1) == 2
    state = adds(2, return_state=True)
    assert state.is_completed()
    assert state.result() == 3


def test_an_async_task_outside_a_flow_runs() -> None:
    """Awaited."""

    @task
    async def adds(x):
        return x + 1

    assert asyncio.run(adds(1)) == 2


def test_a_failing_task_outside_a_flow_raises() -> None:
    """Its own exception."""

    @task
    def fails():
        raise ValueError("alone")

    with pytest.raises(ValueError, match="alone"):
        fails()


def test_submit_and_map_need_a_flow_around_them() -> None:
    """RuntimeError: nothing there would wait for them."""

    @task
    def adds(x):
        return x + 1

    with pytest.raises(RuntimeError):
        adds.submit(1)
    with pytest.raises(RuntimeError):
        adds.map([1, 2])


def test_retries_of_a_task_outside_a_flow() -> None:
    """Count as inside."""
    attempts = []

    @task(retries=2)
    def flaky():
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError("not yet")
        return "done"

    assert flaky() == "done"


def test_return_state_of_a_task() -> None:
    """Nothing is raised."""

    @task
    def fails():
        raise ValueError("no")

    @flow
    def parent():
        state = fails(return_state=True)
        return state.is_failed() and "no" in state.message

    assert parent() is True


def test_a_task_may_return_a_state() -> None:
    """Completed with a value, by any name."""

    @task
    def skips():
        return Completed(data=3, name="Not needed")

    @flow
    def parent():
        state = skips(return_state=True)
        return state.name, state.result()

    assert tuple(parent()) == ("Not needed", 3)


@only_here("the call of a task that returns a state gives the value in it; in Prefect the State object")
def test_the_value_in_a_returned_state() -> None:
    """As for flows."""

    @task
    def skips():
        return Completed(data=3, name="Not needed")

    @flow
    def parent():
        return skips()

    assert parent() == 3


def test_a_task_may_return_a_failed_state() -> None:
    """Although it raised nothing."""

    @task
    def gives_up():
        return Failed(message="on purpose")

    @flow
    def parent():
        return gives_up(return_state=True).message

    assert parent() == "on purpose"


def test_a_task_may_return_a_cancelled_state() -> None:
    """And ends so."""

    @task
    def stops():
        return Cancelled(message="enough")

    @flow
    def parent():
        return stops(return_state=True).is_cancelled()

    assert parent() is True


def test_variadic_tasks() -> None:
    """``*args`` and ``**kwargs`` arrive."""

    @task
    def takes(*args, **kwargs):
        return args, kwargs

    @flow
    def parent():
        return takes(1, 2, a=3)

    args, kwargs = parent()
    assert (tuple(args), kwargs) == ((1, 2), {"a": 3})


def test_positional_only_and_keyword_only() -> None:
    """As Python has it."""

    @task
    def takes(a, /, b, *, c):
        return a, b, c

    @flow
    def parent():
        return list(takes(1, 2, c=3))

    assert parent() == [1, 2, 3]


def test_missing_arguments_of_a_task_are_a_type_error() -> None:
    """Raised at the call."""

    @task
    def needs(x):
        return x

    @flow
    def parent():
        with pytest.raises(TypeError):
            needs()
        with pytest.raises(TypeError):
            needs(1, z=2)
        return "fine"

    assert parent() == "fine"


def test_instance_methods_are_tasks() -> None:
    """``self`` is the object."""

    class Job:
        def __init__(self, x: int) -> None:
            self.x = x

        @task
        def add(self, y: int) -> int:
            return self.x + y

    @flow
    def parent():
        return Job(1).add(2) + Job(10).add.submit(2).result()

    assert parent() == 15


def test_class_and_static_methods_are_tasks() -> None:
    """As Python has it."""

    class Job:
        x = 10

        @classmethod
        @task
        def of_class(cls, y):
            return cls.x + y

        @staticmethod
        @task
        def of_nobody(y):
            return y

    @flow
    def parent():
        return Job.of_class(1), Job.of_nobody(2), Job().of_class(3)

    assert tuple(parent()) == (11, 2, 13)


def test_a_method_task_can_be_mapped() -> None:
    """On one object."""

    class Job:
        factor = 2

        @task
        def times(self, y):
            return self.factor * y

    @flow
    def parent():
        return Job().times.map([1, 2, 3]).result()

    assert parent() == [2, 4, 6]


def test_a_callable_object_is_a_task() -> None:
    """Named after its class when it has no name."""

    class Adder:
        def __call__(self, x):
            return x + 1

    adds = task(Adder())

    @flow
    def parent():
        return adds(1)

    assert parent() == 2
    assert adds.name == "Adder"


def test_a_lambda_is_a_task() -> None:
    """With a name given."""
    adds = task(lambda x: x + 1, name="adds")

    @flow
    def parent():
        return adds(1)

    assert parent() == 2


def test_the_decorator_makes_a_task() -> None:
    """Whose plain function stays reachable."""

    @task
    def adds(x):
        """What it does."""
        return x + 1

    assert isinstance(adds, Task)
    assert adds.fn(1) == 2
    assert (adds.name, adds.description, adds.__name__) == ("adds", "What it does.", "adds")


def test_options_are_attributes() -> None:
    """As given."""

    @task(name="n", description="d", tags={"a"}, version="v1", retries=2, retry_delay_seconds=3, timeout_seconds=4,
          log_prints=True)  # fmt: skip
    def any_task():
        pass

    got = any_task
    assert (got.name, got.description, got.tags, got.version) == ("n", "d", {"a"}, "v1")
    assert (got.retries, got.retry_delay_seconds, got.timeout_seconds, got.log_prints) == (2, 3, 4.0, True)


def test_with_options_makes_a_changed_copy() -> None:
    """The original keeps its own; hooks too."""

    @task(name="first", retries=1, tags={"a"})
    def original():
        return 1

    copy = original.with_options(name="second", retries=0)
    assert (copy.name, copy.retries, copy.tags) == ("second", 0, {"a"})
    assert (original.name, original.retries) == ("first", 1)

    @flow
    def parent():
        return copy()

    assert parent() == 1


def test_a_task_times_out() -> None:
    """Failed, by the name TimedOut."""

    @task(timeout_seconds=0.2)
    def slow():
        time.sleep(5)

    @flow
    def parent():
        state = slow(return_state=True)
        return state.is_failed(), state.name

    assert tuple(parent()) == (True, "TimedOut")


def test_an_async_task_times_out() -> None:
    """The same for coroutines."""

    @task(timeout_seconds=0.2)
    async def slow():
        await asyncio.sleep(5)

    @flow
    async def parent():
        state = await slow(return_state=True)
        return state.is_failed(), state.name

    assert tuple(asyncio.run(parent())) == (True, "TimedOut")


def test_a_task_timeout_raises_timeout_error() -> None:
    """Python's own."""

    @task(timeout_seconds=0.2)
    def slow():
        time.sleep(5)

    @flow
    def parent():
        slow()

    with pytest.raises(TimeoutError):
        parent()


def test_a_task_timeout_is_no_crash() -> None:
    """Failed, retried as any failure."""
    attempts = []

    @task(timeout_seconds=0.3, retries=1)
    def slow_once():
        attempts.append(1)
        if len(attempts) == 1:
            time.sleep(5)
        return "done"

    @flow
    def parent():
        return slow_once()

    assert parent() == "done"


def test_a_task_in_time_is_not_touched() -> None:
    """It completes."""

    @task(timeout_seconds=10)
    def quick():
        return 1

    @flow
    def parent():
        return quick()

    assert parent() == 1


def test_a_timeout_of_a_submitted_task() -> None:
    """Seen in its future."""

    @task(timeout_seconds=0.3)
    def slow():
        for _ in range(100):
            time.sleep(0.05)

    @flow
    def parent():
        future = slow.submit()
        future.wait()
        return future.state.name

    assert parent() == "TimedOut"


@only_here("a TimeoutError that the user's code raises by itself is a failure; Prefect calls it TimedOut")
def test_a_timeout_error_of_the_tasks_own() -> None:
    """Failed, not TimedOut."""

    @task(timeout_seconds=10)
    def raises():
        raise TimeoutError("mine")

    @flow
    def parent():
        return raises(return_state=True).name

    assert parent() == "Failed"


def test_system_exit_in_a_task_is_a_crash() -> None:
    """Recorded as Crashed, not as Failed."""

    @task(task_run_name="leaves")
    def leaves():
        raise SystemExit(2)

    @flow(name="compat task exits")
    def parent():
        leaves()

    with pytest.raises(SystemExit):
        parent()
    assert [run.state for run in task_runs("compat task exits")] == ["Crashed"]


def test_an_exception_group_is_an_exception() -> None:
    """With its members."""

    @task
    def fails():
        raise ExceptionGroup("several", [ValueError("a"), KeyError("b")])

    @flow
    def parent():
        return fails(return_state=True).result(raise_on_failure=False)

    assert [type(error) for error in parent().exceptions] == [ValueError, KeyError]


def test_a_task_that_returns_an_exception_completed() -> None:
    """A value like another."""

    @task
    def returns():
        return ValueError("a value")

    @flow
    def parent():
        state = returns(return_state=True)
        return state.is_completed(), str(state.result())

    assert tuple(parent()) == (True, "a value")


def test_mutating_an_argument_is_seen_by_the_caller() -> None:
    """Arguments are passed as they are, not copied."""
    box = []

    @task
    def fills(items):
        items.append(1)

    @flow
    def parent():
        fills(box)

    parent()
    assert box == [1]
