"""Retries of tasks and flows within one process: how often, after how long, and what runs again."""

from __future__ import annotations

import time

import pytest
import tenacity
from flowdeck import exponential_backoff, flow, task


def flaky(times, error=ValueError):
    """A body that fails so many times."""
    calls = []

    def body():
        calls.append(time.monotonic())
        if len(calls) <= times:
            raise error(f"failure {len(calls)}")
        return "made it"

    body.calls = calls
    return body


def states(reader, run_id, seq=None):
    """The names a task, or the run itself, went through."""
    return [event.to_name for event in reader.events(run_id=run_id, limit=10_000)
            if event.kind == "state" and event.task_seq == seq]  # fmt: skip


@pytest.mark.parametrize("how", ["call", "submit", "map"])
def test_a_task_is_tried_as_often_as_asked(reader, how) -> None:
    """Three retries are four calls; the row counts them; each attempt is an event with its reason."""
    body = flaky(2)

    @task(retries=3)
    def step(x=None):
        return body()

    @flow
    def whole():
        return {"call": lambda: step(), "submit": lambda: step.submit().result(),
                "map": lambda: step.map([1]).result()[0]}[how]()  # fmt: skip

    assert whole() == "made it"
    row = reader.tasks(1)[0]
    assert (len(body.calls), row.attempt, row.state_name, row.cause) == (3, 3, "Completed", None)
    names = [name for name in states(reader, 1, 1) if name != "Pending"]
    assert names == ["Running", "AwaitingRetry", "Retrying", "AwaitingRetry", "Retrying", "Completed"]
    reasons = [event.message for event in reader.events(run_id=1) if event.to_name == "AwaitingRetry"]
    assert reasons == [f"attempt {n} failed: ValueError: failure {n}; next in 0 s" for n in (1, 2)]


def test_retries_run_out(reader) -> None:
    """The last exception is the outcome."""
    body = flaky(9)
    step = task(retries=2)(lambda: body())

    @flow
    def whole():
        step()

    with pytest.raises(ValueError, match="failure 3"):
        whole()
    assert len(body.calls) == 3
    assert reader.tasks(1)[0].attempt == 3


@pytest.mark.parametrize("delay", [0.05, [0.05], lambda retries: [0.05] * retries, exponential_backoff(0.05),
                                   tenacity.wait_fixed(0.05)])  # fmt: skip
@pytest.mark.parametrize("submitted", [False, True])
def test_delays_pass_between_attempts(reader, delay, submitted) -> None:
    """A number, a list, a function, tenacity's; while it waits the store says until when."""
    body = flaky(1)

    @task(retries=1, retry_delay_seconds=delay)
    def step():
        return body()

    @flow
    def whole():
        return step.submit().result() if submitted else step()

    assert whole() == "made it"
    assert body.calls[1] - body.calls[0] >= 0.045
    assert reader.tasks(1)[0].wake_at_us is None


def test_conditions_decide(reader) -> None:
    """A function of task, run and state, or tenacity's; one that raises means no retry, and the log says so."""
    seen = []

    def condition(one_task, run, state):
        seen.append((one_task.name, run.name, state.name, run.attempt))
        return not isinstance(state.error, KeyError)

    cases = [
        (condition, flaky(1), 2), (condition, flaky(1, KeyError), 1),
        (tenacity.retry_if_exception_type(OSError), flaky(1, OSError), 2),
        (tenacity.retry_if_exception_type(OSError), flaky(1), 1), (lambda *a: 1 / 0, flaky(1), 1),
    ]  # fmt: skip
    for run_id, (retry_condition_fn, body, calls) in enumerate(cases, 1):
        step = task(retries=3, name="step", retry_condition_fn=retry_condition_fn)(lambda body=body: body())
        flow(lambda step=step: step(), name="whole")(return_state=True)
        assert len(body.calls) == calls, run_id
    assert seen[0] == ("step", "step", "Failed", 1)
    assert any("ZeroDivisionError" in row.message for row in reader.logs(5))


def test_a_flow_is_retried_and_its_finished_tasks_are_not(reader, effects) -> None:
    """Prefect's: flow body twice, task once; here without asking for persistence."""

    @task
    def step(x):
        effects(f"step {x}")
        return x * 10

    @flow(retries=2, retry_delay_seconds=0.02)
    def whole():
        effects("body")
        values = [step(1), step.submit(2).result(), *step.map([3, 4]).result()]
        if effects.count("body") < 3:
            raise ValueError("not yet")
        return values

    assert whole() == [10, 20, 30, 40]
    assert effects.lines.count("body") == 3
    assert [effects.count(f"step {n}") for n in (1, 2, 3, 4)] == [1] * 4
    run = reader.run(1)
    assert (run.state_name, run.attempt) == ("Completed", 3)
    assert states(reader, 1) == ["Pending", "Running", "AwaitingRetry", "Retrying", "AwaitingRetry", "Retrying",
                                 "Completed"]  # fmt: skip
    assert len(reader.tasks(1)) == 4


def test_failed_tasks_and_what_hangs_on_them_run_again(reader, effects) -> None:
    """Also a task that was not ready, and one that is not ready a second time."""

    @task
    def first():
        effects("first")
        if effects.count("first") < 3:
            raise ValueError("no")
        return 1

    @task
    def second(x):
        effects("second")
        return x + 1

    @flow(retries=3)
    def whole():
        return second.submit(first.submit()).result()

    assert whole() == 2
    assert (effects.count("first"), effects.count("second")) == (3, 1)
    assert [row.state_name for row in reader.tasks(1)] == ["Completed", "Completed"]
    assert states(reader, 1, 2) == ["Pending", "NotReady"] * 2 + ["Pending", "Running", "Completed"]


def test_flow_retries_end(reader) -> None:
    """Wrong parameters are never retried; a condition that raises ends it in order; so does one that says no."""
    calls = []

    @flow(retries=2)
    def failing():
        calls.append(1)
        raise ValueError

    failing(return_state=True)
    assert len(calls) == 3

    @flow(retries=2)
    def typed(x: int):
        pass

    typed("a", return_state=True)
    assert reader.run(2).attempt == 1
    flow(lambda: 1 / 0, name="a", retries=2, retry_condition_fn=lambda *a: [][1])(return_state=True)
    assert (reader.run(3).state_name, reader.run(3).attempt) == ("Failed", 1)
    assert "retry condition raised IndexError" in "".join(row.message for row in reader.logs(3))
    flow(lambda: 1 / 0, name="b", retries=2, retry_condition_fn=lambda *a: False)(return_state=True)
    assert reader.run(4).attempt == 1


def test_a_tasks_retry_does_not_repeat_the_tasks_it_called(reader, effects) -> None:
    """Finished calls return what they returned, at any depth; the ids stay."""

    @task
    def leaf(x):
        effects(f"leaf {x}")
        return x

    @task
    def middle(x):
        effects("middle")
        return leaf(x) + leaf(x + 1)

    @task(retries=2)
    def outer():
        effects("outer")
        total = middle(1) + sum(leaf.map([10, 20]).result())
        if effects.count("outer") < 3:
            raise ValueError("again")
        return total

    @flow
    def whole():
        return outer()

    assert whole() == 33
    assert [effects.count(f"leaf {n}") for n in (1, 2, 10, 20)] == [1] * 4
    assert (effects.count("middle"), effects.count("outer")) == (1, 3)
    assert len(reader.tasks(1)) == 6


def test_a_nested_failure_is_tried_again_with_its_caller(reader, effects) -> None:
    """The call that failed has one row, and succeeds in the caller's next attempt."""

    @task
    def inner():
        effects("inner")
        if effects.count("inner") == 1:
            raise ValueError("first time")
        return "ok"

    @task(retries=1)
    def outer():
        return inner()

    @flow
    def whole():
        return outer()

    assert whole() == "ok"
    rows = {row.name: (row.state_name, row.seq) for row in reader.tasks(1)}
    assert rows == {"outer": ("Completed", 1), "inner": ("Completed", 2)}


def test_explicitly_failed_states_are_retried(reader) -> None:
    """As in Prefect."""
    from flowdeck import Completed, Failed

    calls = []

    @task(retries=1)
    def says():
        calls.append(1)
        return Failed(message="not yet") if len(calls) == 1 else Completed(data="now")

    @flow
    def whole():
        return says()

    assert whole() == "now"
