"""Calling a flow: what it returns, what it raises, and which final state follows from which end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from pydantic import BaseModel

from .names import Cancelled, Completed, Failed, Pending, flow, only_here, only_there, task
from .records import flow_run


class Point(BaseModel):
    """A parameter with parts."""

    x: int
    y: int = 2


def test_a_flow_called_returns_its_value() -> None:
    """As the function would."""

    @flow
    def adds(x, y=3):
        return x + y

    assert adds(2) == 5
    assert adds(x=1, y=1) == 2


def test_an_async_flow_returns_its_value() -> None:
    """Awaited."""

    @flow
    async def adds(x, y=3):
        await asyncio.sleep(0)
        return x + y

    assert asyncio.run(adds(2)) == 5


def test_return_state_gives_the_final_state() -> None:
    """Completed, with the value behind it."""

    @flow
    def value():
        return "x"

    state = value(return_state=True)
    assert state.is_completed()
    assert state.is_final()
    assert (state.name, state.result()) == ("Completed", "x")


def test_an_exception_makes_the_flow_fail_and_comes_out() -> None:
    """The very exception, out of the call and out of the state."""
    error = ValueError("no good")

    @flow
    def fails():
        raise error

    with pytest.raises(ValueError, match="no good") as raised:
        fails()
    assert raised.value is error
    state = fails(return_state=True)
    assert state.is_failed()
    assert state.name == "Failed"
    assert "no good" in state.message
    with pytest.raises(ValueError, match="no good"):
        state.result()
    assert isinstance(state.result(raise_on_failure=False), ValueError)


def test_a_returned_completed_state_is_the_final_state() -> None:
    """With its name, message and value."""

    @flow
    def skips():
        return Completed(message="nothing to do", name="Skipped today", data=7)

    state = skips(return_state=True)
    assert state.is_completed()
    assert (state.name, state.message, state.result()) == ("Skipped today", "nothing to do", 7)
    assert skips() == 7


def test_a_returned_failed_state_is_the_final_state() -> None:
    """Although nothing was raised; the call then raises."""

    @flow
    def gives_up():
        return Failed(message="on purpose")

    state = gives_up(return_state=True)
    assert state.is_failed()
    assert state.message == "on purpose"
    with pytest.raises(Exception, match="on purpose"):
        gives_up()


def test_a_returned_task_state_decides() -> None:
    """The state that a task ended in becomes the flow's."""

    @task
    def fails():
        raise ValueError("from the task")

    @flow
    def passes_on():
        return fails(return_state=True)

    state = passes_on(return_state=True)
    assert state.is_failed()
    with pytest.raises(ValueError, match="from the task"):
        state.result()


def test_returned_states_decide_together() -> None:
    """One failure of several fails the flow, and the message counts."""

    @task
    def fails():
        raise ValueError("no")

    @task
    def works():
        return 1

    @flow
    def several():
        return [works(return_state=True), fails(return_state=True), fails(return_state=True)]

    state = several(return_state=True)
    assert state.is_failed()
    assert state.message.startswith("2/3 states failed.")


def test_returned_states_that_all_completed_complete_the_flow() -> None:
    """And the flow's value is the states' values or the states."""

    @task
    def works(x):
        return x

    @flow
    def several():
        return [works(1, return_state=True), works(2, return_state=True)]

    state = several(return_state=True)
    assert state.is_completed()


def test_returned_futures_decide_together() -> None:
    """As states do."""

    @task
    def maybe(x):
        if x == 2:
            raise ValueError("two")
        return x

    @flow
    def several():
        return maybe.map([1, 2, 3])

    state = several(return_state=True)
    assert state.is_failed()
    assert state.message.startswith("1/3 states failed.")


def test_a_returned_future_decides() -> None:
    """The flow's state is the task's."""

    @task
    def works():
        return "value"

    @flow
    def one():
        return works.submit()

    assert one(return_state=True).is_completed()


@only_here("a flow that returns one future or state returns its value; Prefect returns the State object")
def test_a_returned_future_is_its_value() -> None:
    """Nobody has to unpack it."""

    @task
    def works():
        return "value"

    @flow
    def one():
        return works.submit()

    assert one() == "value"


def test_a_cancelled_state_among_those_returned_cancels() -> None:
    """When none failed; the message counts."""

    @task
    def works():
        return 1

    @task
    def cancelled():
        return Cancelled(message="stopped")

    @flow
    def several():
        return [works(return_state=True), works(return_state=True), cancelled(return_state=True)]

    state = several(return_state=True)
    assert state.is_cancelled()
    assert state.message == "1/3 states cancelled."


def test_a_cancellation_counts_more_than_a_failure() -> None:
    """Cancelled, when both are returned: what failed may have done so because of it."""

    @task
    def fails():
        raise ValueError("no")

    @task
    def cancelled():
        return Cancelled()

    @flow
    def both():
        return [fails(return_state=True), cancelled(return_state=True)]

    state = both(return_state=True)
    assert state.is_cancelled()
    assert state.message == "1/2 states cancelled."


def test_no_return_and_only_good_tasks_completes() -> None:
    """The value is None."""

    @task
    def works():
        return 1

    @flow
    def nothing():
        works()
        works.submit().wait()

    state = nothing(return_state=True)
    assert state.is_completed()
    assert nothing() is None


def test_a_failed_call_that_is_caught_does_not_fail_the_flow() -> None:
    """What the flow returns decides."""

    @task
    def fails():
        raise ValueError("no")

    @flow
    def tolerant():
        try:
            fails()
        except ValueError:
            return "fine"

    assert tolerant() == "fine"


def test_a_failed_task_that_is_not_caught_fails_the_flow() -> None:
    """By its exception."""

    @task
    def fails():
        raise ValueError("from inside")

    @flow
    def strict():
        fails()
        return "never"

    with pytest.raises(ValueError, match="from inside"):
        strict()


def test_a_value_returned_beside_a_failed_submit_completes() -> None:
    """A flow that returns a value is judged by it, when it has looked at the failed future."""

    @task
    def fails():
        raise ValueError("no")

    @flow
    def looks():
        future = fails.submit()
        future.wait()
        return future.state.is_failed()

    assert looks() is True


def test_parameters_are_coerced_by_their_types() -> None:
    """Text to number, dict to model."""

    @flow
    def typed(number: int, point: Point, items: list[float]):
        return number, point, items

    assert typed("3", {"x": "1"}, ["1.5", 2]) == (3, Point(x=1, y=2), [1.5, 2.0])


def test_validation_can_be_switched_off() -> None:
    """The value arrives as it was given."""

    @flow(validate_parameters=False)
    def untyped(number: int):
        return number

    assert untyped("3") == "3"


def test_a_value_of_the_wrong_type_fails_the_run() -> None:
    """Failed, recorded, with the parameter's name in the message; the function is not called."""
    called = []

    @flow(name="compat wrong type")
    def typed(number: int):
        called.append(number)

    state = typed("three", return_state=True)
    assert state.is_failed()
    assert "number" in state.message
    assert not called
    assert flow_run("compat wrong type").state == "Failed"


def test_missing_arguments_are_a_type_error() -> None:
    """As with any function."""

    @flow
    def needs(x):
        return x

    with pytest.raises(TypeError, match="x"):
        needs()


def test_unknown_arguments_are_a_type_error() -> None:
    """As with any function."""

    @flow
    def needs(x):
        return x

    with pytest.raises(TypeError, match="z"):
        needs(1, z=2)


def test_variadic_flows() -> None:
    """``*args`` and ``**kwargs`` arrive."""

    @flow
    def takes(*args, **kwargs):
        return args, kwargs

    args, kwargs = takes(1, 2, a=3)
    assert (tuple(args), kwargs) == ((1, 2), {"a": 3})


def test_keyword_only_parameters() -> None:
    """By name."""

    @flow
    def takes(*, a: int, b: int = 2):
        return a + b

    assert takes(a=1) == 3


def test_instance_methods_are_flows() -> None:
    """``self`` is the object."""

    class Job:
        def __init__(self, x: int) -> None:
            self.x = x

        @flow
        def run(self, y: int) -> int:
            return self.x + y

    assert Job(1).run(2) == 3
    assert Job(5).run(y=2) == 7


def test_class_and_static_methods_are_flows() -> None:
    """Decorated above and below, as Python allows."""

    class Job:
        x = 10

        @classmethod
        @flow
        def of_class(cls, y: int) -> int:
            return cls.x + y

        @staticmethod
        @flow
        def of_nobody(y: int) -> int:
            return y

    assert Job.of_class(1) == 11
    assert Job.of_nobody(2) == 2
    assert Job().of_class(3) == 13


def test_async_methods_are_flows() -> None:
    """Awaited."""

    class Job:
        @flow
        async def run(self, y: int) -> int:
            return y + 1

    assert asyncio.run(Job().run(1)) == 2


def test_the_function_stays_reachable() -> None:
    """``flow.fn`` is the plain function, which records nothing."""

    @flow(name="compat plain fn")
    def plain(x):
        return x * 2

    assert plain.fn(4) == 8


def test_the_flow_keeps_the_functions_name_and_doc() -> None:
    """And takes its description from the docstring."""

    @flow
    def documented():
        """What it is for."""

    assert documented.__name__ == "documented"
    assert documented.__doc__ == "What it is for."
    assert documented.description == "What it is for."


@only_there("a flow is called what its function is called, so that code and command line use one name")
def test_the_default_name_has_dashes() -> None:
    """Prefect writes dashes for underscores."""

    @flow
    def my_small_flow():
        pass

    assert my_small_flow.name == "my-small-flow"


def test_a_flow_may_have_a_name() -> None:
    """Any text."""

    @flow(name="Another Name")
    def other():
        pass

    assert other.name == "Another Name"


def test_with_options_makes_a_changed_copy() -> None:
    """The original keeps its own."""

    @flow(name="first", retries=1, description="old")
    def original():
        return 1

    copy = original.with_options(name="second", retries=3)
    assert (copy.name, copy.retries, copy.description) == ("second", 3, "old")
    assert (original.name, original.retries) == ("first", 1)
    assert copy() == 1


def test_with_options_can_set_back_to_nothing() -> None:
    """``retries=0`` and ``timeout_seconds=0``… are values, not omissions."""

    @flow(retries=3, retry_delay_seconds=5)
    def original():
        pass

    copy = original.with_options(retries=0, retry_delay_seconds=0)
    assert copy.retries == 0
    assert copy.retry_delay_seconds == 0


def test_a_flow_needs_a_function() -> None:
    """A clear error where it is written."""
    with pytest.raises(Exception, match=r"callable|function"):
        flow(3)  # type: ignore[call-overload]


def test_reserved_parameter_names_are_refused_for_tasks() -> None:
    """``return_state`` and ``wait_for`` belong to the engine."""
    with pytest.raises(Exception, match="wait_for"):

        @task
        def takes(wait_for):
            pass


def test_a_generator_flow_yields() -> None:
    """Its values come one by one."""

    @flow
    def counts():
        yield 1
        yield 2

    assert list(counts()) == [1, 2]


def test_an_async_generator_flow_yields() -> None:
    """Its values come one by one."""

    @flow
    async def counts():
        yield 1
        yield 2

    async def collect() -> list[Any]:
        return [item async for item in counts()]

    assert asyncio.run(collect()) == [1, 2]


def test_system_exit_in_a_flow_is_a_crash() -> None:
    """Not a failure of the user's logic."""

    @flow(name="compat exits")
    def leaves():
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        leaves()
    assert flow_run("compat exits").state == "Crashed"


def test_a_returned_pending_state_is_no_end() -> None:
    """A flow cannot end in a state that is not final: it does not complete."""

    @flow(name="compat returns pending")
    def unfinished():
        return Pending()

    with contextlib.suppress(BaseException):  # Prefect raises its Abort; ours is Failed and says why
        assert not unfinished(return_state=True).is_completed()
    assert flow_run("compat returns pending").state != "Completed"


@only_here("an unseen failure of a submitted task fails the flow even when it returns a value")
def test_an_unseen_failure_fails_the_flow() -> None:
    """Nothing misreported: Prefect says Completed here and logs a warning."""

    @task
    def fails():
        raise ValueError("no")

    @flow
    def careless():
        fails.submit()
        return "value"

    assert careless(return_state=True).is_failed()
