"""Prefect 1's caching: ``cache_for`` with its validators, across runs and processes' ends alike."""

from __future__ import annotations

from datetime import timedelta

import pytest
from flowdeck import Flow, Parameter, task
from flowdeck.cache_validators import (
    all_inputs,
    all_parameters,
    duration_only,
    never_use,
    partial_inputs_only,
    partial_parameters_only,
)
from flowdeck.state import Cached, Success

pytestmark = pytest.mark.usefixtures("store")
HOUR = timedelta(hours=1)


def runs_of(ran: list[object], **options: object) -> Flow:
    """A flow of one task that notes when it really runs."""

    @task(**options)
    def work(x: int, y: int = 0) -> int:
        ran.append((x, y))
        return len(ran)

    with Flow("cached") as flow:
        work(Parameter("x", default=1), Parameter("y", default=0))
    return flow


@pytest.mark.parametrize(
    ("validator", "same", "other"),
    [
        (None, {"x": 2}, None), (duration_only, {"x": 2, "y": 3}, None), (all_inputs, {}, {"y": 1}),
        (all_parameters, {}, {"x": 2}), (partial_inputs_only(validate_on=["x"]), {"y": 5}, {"x": 2}),
        (partial_parameters_only(validate_on=["y"]), {"x": 5}, {"y": 2}), (never_use, None, {}),
    ],
    ids=repr,
)  # fmt: skip
def test_validators_say_what_must_be_equal(validator: object, same: dict | None, other: dict | None) -> None:
    """What counts as the same call is not run again, and its state is Cached; anything else runs."""
    ran: list[object] = []
    flow = runs_of(ran, cache_for=HOUR, cache_validator=validator)
    (node,) = flow.get_tasks(name="work")
    assert type(flow.run().result[node]) is Success
    if same is not None:
        state = flow.run(**same)
        assert isinstance(state.result[node], Cached)
        assert state.result[node].result == 1
        assert state.is_successful()
        assert len(ran) == 1
    if other is not None:
        assert type(flow.run(**other).result[node]) is Success
        assert len(ran) == 2


def test_an_entry_ends_after_its_time() -> None:
    """``cache_for`` is how long."""
    ran: list[object] = []
    flow = runs_of(ran, cache_for=timedelta(microseconds=1))
    flow.run()
    flow.run()
    assert len(ran) == 2


def test_tasks_share_a_cache_key() -> None:
    """Two tasks of one key take each other's results; without it they do not."""
    ran: list[str] = []

    def noted(name: str) -> object:
        return lambda: ran.append(name) or name

    with Flow("shared") as flow:
        first = task(noted("first"), name="first", cache_for=HOUR, cache_key="both")()
        second = task(noted("second"), name="second", cache_for=HOUR, cache_key="both")(upstream_tasks=[first])
        apart = task(noted("apart"), name="apart", cache_for=HOUR)(upstream_tasks=[second])
    result = flow.run().result
    assert [result[node].result for node in (first, second, apart)] == ["first", "first", "apart"]
    assert ran == ["first", "apart"]


def test_mapped_runs_are_cached_one_by_one() -> None:
    """Those with new arguments run."""
    ran: list[int] = []

    @task(cache_for=HOUR, cache_validator=all_inputs)
    def work(x: int) -> int:
        ran.append(x)
        return x * 10

    with Flow("mapped") as flow:
        node = work.map(Parameter("xs"))
    assert flow.run(xs=[1, 2]).result[node].result == [10, 20]
    assert flow.run(xs=[2, 3]).result[node].result == [20, 30]
    assert sorted(ran) == [1, 2, 3]


def test_what_is_refused() -> None:
    """A validator of the user's own, with what to use; one without ``cache_for`` is warned of."""
    with pytest.raises(Exception, match="cache_key_fn"):
        task(lambda: 1, cache_for=HOUR, cache_validator=lambda state, inputs, parameters: True)
    with pytest.raises(TypeError, match="timedelta"):
        task(lambda: 1, cache_for=60)
    with pytest.warns(UserWarning, match="without cache_for"):
        task(lambda: 1, name="x", cache_validator=all_inputs)
