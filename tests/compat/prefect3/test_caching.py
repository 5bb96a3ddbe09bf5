"""Cached task runs: policies, keys, expiration, refresh, across calls, flows and tasks."""

from __future__ import annotations

import asyncio
import datetime
import threading
import time
from uuid import uuid4

import pytest

from .names import (
    DEFAULT,
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    RUN_ID,
    TASK_SOURCE,
    CacheKeyFnPolicy,
    IsolationLevel,
    MemoryLockManager,
    flow,
    task,
    task_input_hash,
)  # fmt: skip


def unique() -> str:
    """A key of this test's own: caches outlive flows."""
    return uuid4().hex


def test_the_same_call_within_a_run_is_cached() -> None:
    """By the DEFAULT policy: same source, same run, same inputs."""
    calls = []

    @task(persist_result=True, cache_policy=DEFAULT)
    def slow(x):
        calls.append(x)
        return x + 1

    @flow
    def parent():
        first, second = slow(1, return_state=True), slow(1, return_state=True)
        return first.name, second.name, second.result()

    assert tuple(parent()) == ("Completed", "Cached", 2)
    assert calls == [1]


def test_other_inputs_are_another_call() -> None:
    """Nothing is cached."""
    calls = []

    @task(persist_result=True, cache_policy=DEFAULT)
    def slow(x):
        calls.append(x)
        return x

    @flow
    def parent():
        return [slow(1), slow(2), slow(1)]

    assert parent() == [1, 2, 1]
    assert calls == [1, 2]


def test_the_default_policy_does_not_reach_over_runs() -> None:
    """Another run calls again."""
    calls = []

    @task(persist_result=True, cache_policy=DEFAULT)
    def slow(x):
        calls.append(x)
        return x

    @flow
    def parent():
        return slow(1)

    parent()
    parent()
    assert calls == [1, 1]


def test_inputs_reach_over_runs() -> None:
    """The value of the first run serves the second."""
    calls, key = [], unique()

    @task(cache_policy=INPUTS)
    def slow(x):
        calls.append(x)
        return len(calls)

    @flow
    def parent():
        return slow(key)

    assert (parent(), parent()) == (1, 1)
    assert len(calls) == 1


def test_an_input_can_be_left_out() -> None:
    """``INPUTS - "name"``."""
    calls, key = [], unique()

    @task(cache_policy=INPUTS - "debug")
    def slow(x, debug=False):
        calls.append(debug)
        return "value"

    @flow
    def parent():
        return [slow(key), slow(key, debug=True)]

    assert parent() == ["value", "value"]
    assert calls == [False]


def test_policies_add_up() -> None:
    """Both must agree."""
    calls, key = [], unique()

    @task(cache_policy=INPUTS + RUN_ID)
    def slow(x):
        calls.append(x)

    @flow
    def parent():
        slow(key)
        slow(key)

    parent()
    parent()
    assert len(calls) == 2


def test_flow_parameters_are_a_key() -> None:
    """Another parameter of the flow calls again."""
    calls, key = [], unique()

    @task(cache_policy=FLOW_PARAMETERS)
    def slow():
        calls.append(1)

    @flow
    def parent(x):
        slow()

    parent(key)
    parent(key)
    parent(key + "other")
    assert len(calls) == 2


def test_task_source_is_a_key() -> None:
    """Whatever the inputs."""
    calls = []

    @task(cache_policy=TASK_SOURCE + RUN_ID)
    def slow(x):
        calls.append(x)
        return x

    @flow
    def parent():
        return [slow(1), slow(2)]

    assert parent() == [1, 1]
    assert calls == [1]


def test_no_cache() -> None:
    """Every call runs."""
    calls = []

    @task(cache_policy=NO_CACHE, persist_result=True)
    def slow(x):
        calls.append(x)

    @flow
    def parent():
        slow(1)
        slow(1)

    parent()
    assert calls == [1, 1]


def test_failures_are_not_cached() -> None:
    """The next call runs."""
    calls, key = [], unique()

    @task(cache_policy=INPUTS)
    def flaky(x):
        calls.append(x)
        if len(calls) == 1:
            raise ValueError("not yet")
        return "done"

    @flow
    def parent():
        first = flaky(key, return_state=True)
        return first.is_failed(), flaky(key)

    assert tuple(parent()) == (True, "done")


def test_a_key_function_decides() -> None:
    """Equal keys, one call."""
    calls, key = [], unique()

    @task(cache_key_fn=lambda context, parameters: f"{key}-{parameters['x'] % 2}")
    def slow(x):
        calls.append(x)
        return x

    @flow
    def parent():
        return [slow(1), slow(2), slow(3), slow(4)]

    assert parent() == [1, 2, 1, 2]
    assert calls == [1, 2]


def test_a_key_function_gets_values_not_futures() -> None:
    """What the task would get."""
    seen, key = [], unique()

    def by_value(context, parameters):
        seen.append(parameters["x"])
        return f"{key}-{parameters['x']}"

    @task
    def number():
        return 5

    @task(cache_key_fn=by_value)
    def gets(x):
        return x

    @flow
    def parent():
        return gets.submit(number.submit()).result()

    assert parent() == 5
    assert seen == [5]


def test_a_key_function_sees_the_task() -> None:
    """Through its context."""
    seen, key = [], unique()

    def by_task(context, parameters):
        seen.append(context.task.name)
        return f"{key}-{context.task.name}"

    @task(cache_key_fn=by_task, name="keyed")
    def slow():
        return 1

    @flow
    def parent():
        slow()

    parent()
    assert seen == ["keyed"]


def test_two_tasks_may_share_a_key() -> None:
    """The second gets the value of the first."""
    key = unique()

    @task(cache_key_fn=lambda *_: key)
    def one():
        return "from one"

    @task(cache_key_fn=lambda *_: key)
    def two():
        return "from two"

    @flow
    def parent():
        return [one(), two()]

    assert parent() == ["from one", "from one"]


def test_no_key_means_no_cache() -> None:
    """A key function may return None."""
    calls = []

    @task(cache_key_fn=lambda *_: None)
    def slow():
        calls.append(1)

    @flow
    def parent():
        slow()
        slow()

    parent()
    assert len(calls) == 2


def test_a_cache_expires() -> None:
    """After its time the task runs again."""
    calls, key = [], unique()

    @task(cache_key_fn=lambda *_: key, cache_expiration=datetime.timedelta(seconds=1.5))
    def slow():
        calls.append(1)
        return len(calls)

    @flow
    def parent():
        return slow(return_state=True).name

    assert parent() == "Completed"
    assert parent() == "Cached"
    time.sleep(1.6)
    assert parent() == "Completed"


def test_a_cache_that_has_not_expired() -> None:
    """Serves."""
    key = unique()

    @task(cache_key_fn=lambda *_: key, cache_expiration=datetime.timedelta(hours=1))
    def slow():
        return 1

    @flow
    def parent():
        return [slow(return_state=True).name, slow(return_state=True).name]

    assert parent() == ["Completed", "Cached"]


def test_refresh_cache_runs_and_keeps() -> None:
    """The new value serves from then on."""
    calls, key = [], unique()

    @task(cache_key_fn=lambda *_: key)
    def slow():
        calls.append(1)
        return len(calls)

    @flow
    def parent():
        return [slow(), slow.with_options(refresh_cache=True)(), slow()]

    assert parent() == [1, 2, 2]


def test_the_input_hash_of_prefect_2_is_there() -> None:
    """``cache_key_fn=task_input_hash``."""
    calls, key = [], unique()

    @task(cache_key_fn=task_input_hash)
    def slow(x):
        calls.append(x)
        return x

    @flow
    def parent():
        return [slow(key), slow(key)]

    assert parent() == [key, key]
    assert len(calls) == 1


def test_async_tasks_are_cached() -> None:
    """The same."""
    calls, key = [], unique()

    @task(cache_policy=INPUTS)
    async def slow(x):
        calls.append(x)
        return "value"

    @flow
    async def parent():
        return [await slow(key), await slow(key)]

    assert asyncio.run(parent()) == ["value", "value"]
    assert len(calls) == 1


def test_submitted_tasks_are_cached() -> None:
    """Seen in the future's state."""
    key = unique()

    @task(cache_policy=INPUTS)
    def slow(x):
        return x

    @flow
    def parent():
        first = slow.submit(key)
        first.wait()
        second = slow.submit(key)
        second.wait()
        return first.state.name, second.state.name

    assert tuple(parent()) == ("Completed", "Cached")


def test_a_cached_value_flows_on() -> None:
    """Downstream does not see a difference."""
    key = unique()

    @task(cache_policy=INPUTS)
    def slow(x):
        return [x]

    @task
    def gets(x):
        return x

    @flow
    def parent():
        slow(key)
        return gets(slow.submit(key))

    assert parent() == [key]


def test_methods_share_a_cache() -> None:
    """By their inputs but the object."""
    calls, key = [], unique()

    class Job:
        def __init__(self) -> None:
            self.number = len(calls)

        @task(cache_key_fn=lambda context, parameters: key)
        def slow(self):
            calls.append(1)
            return "value"

    @flow
    def parent():
        return [Job().slow(), Job().slow()]

    assert parent() == ["value", "value"]
    assert len(calls) == 1


def test_inputs_that_cannot_be_hashed_run() -> None:
    """Nothing is cached; nothing breaks."""
    calls = []

    @task(cache_policy=INPUTS, persist_result=True)
    def slow(lock):
        calls.append(1)
        return "value"

    @flow
    def parent():
        lock = threading.Lock()
        return [slow(lock), slow(lock)]

    assert parent() == ["value", "value"]
    assert len(calls) == 2


def test_persist_result_false_caches_nothing() -> None:
    """Even with a policy."""
    calls, key = [], unique()

    @task(cache_policy=INPUTS, persist_result=False)
    def slow(x):
        calls.append(x)

    @flow
    def parent():
        slow(key)
        slow(key)

    parent()
    assert len(calls) == 2


def test_a_policy_from_a_function() -> None:
    """``CacheKeyFnPolicy``."""
    calls, key = [], unique()

    @task(cache_policy=CacheKeyFnPolicy(cache_key_fn=lambda context, parameters: key))
    def slow():
        calls.append(1)

    @flow
    def parent():
        slow()
        slow()

    parent()
    assert len(calls) == 1


def test_serializable_runs_once() -> None:
    """The second waits for the first, and takes its value."""
    calls, key = [], unique()
    policy = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE, lock_manager=MemoryLockManager())

    @task(cache_policy=policy)
    def slow(x):
        calls.append(x)
        time.sleep(0.3)
        return "value"

    @flow
    def parent():
        futures = [slow.submit(key), slow.submit(key)]
        return [future.result() for future in futures]

    assert parent() == ["value", "value"]
    assert len(calls) == 1


def test_a_cached_run_calls_completion_hooks() -> None:
    """It completed."""
    key, noted = unique(), []

    @task(cache_policy=INPUTS, on_completion=[lambda a_task, run, state: noted.append(state.name)])
    def slow(x):
        return x

    @flow
    def parent():
        slow(key)
        slow(key)

    parent()
    assert noted == ["Completed", "Cached"]


def test_a_result_storage_key_is_a_cache_key() -> None:
    """One value under one name."""
    calls, key = [], unique()

    @task(result_storage_key=f"{key}-{{parameters[x]}}", persist_result=True)
    def slow(x):
        calls.append(x)
        return len(calls)

    @flow
    def parent():
        return [slow("a"), slow("a"), slow("b")]

    assert parent() == [1, 1, 2]


@pytest.mark.parametrize("policy", [INPUTS, TASK_SOURCE, RUN_ID])
def test_no_cache_adds_nothing(policy) -> None:
    """``X + NO_CACHE`` is X."""
    assert (policy + NO_CACHE) == policy


def test_a_policy_made_of_two_is_no_longer_either() -> None:
    """A new object; the parts stay."""
    both = INPUTS + RUN_ID
    assert both != INPUTS
    assert both != RUN_ID
    assert both == INPUTS + RUN_ID
