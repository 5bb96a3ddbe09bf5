"""``metric``: numbers of a run and its tasks, over time."""

from __future__ import annotations

import pytest
from flowdeck import flow, metric, task
from flowdeck.engine.errors import MissingContextError, UsageError


def test_metrics_belong_to_their_task(reader) -> None:
    """In order, with the value as given."""

    @task
    def measures(n):
        for k in range(3):
            metric("rows", n * 10 + k)

    @flow
    def whole():
        metric("total", 1.5)
        measures.map([1, 2]).wait()
        metric("\ud800", True)

    whole()
    assert [(row.name, row.value) for row in reader.metrics(1, 1)] == [("rows", 10.0), ("rows", 11.0), ("rows", 12.0)]
    assert [row.value for row in reader.metrics(1, 2)] == [20.0, 21.0, 22.0]
    assert sorted(row.value for row in reader.metrics(1) if row.task_seq is None) == [1.0, 1.5]


def test_what_is_no_metric_is_refused(reader) -> None:
    """In words, at the call."""

    @flow
    def wrong():
        for name, value, words in (("a", "x", "must be a number"), ("", 1, "must be a text"), (3, 1, "must be a text"),
                                   ("a", float("nan"), "not a number"), ("a", None, "must be a number")):  # fmt: skip
            with pytest.raises(UsageError, match=words):
                metric(name, value)
        metric("a", float("inf"))

    wrong()
    assert [row.value for row in reader.metrics(1)] == [float("inf")]
    with pytest.raises(MissingContextError, match=r"metric\(\) needs a run"):
        metric("a", 1)


def test_a_flood_of_metrics_is_all_there(reader) -> None:
    """None is lost at the end of the run."""

    @flow
    def floods():
        for n in range(5_000):
            metric("n", n)

    floods()
    assert [row.value for row in reader.metrics(1)] == list(map(float, range(5_000)))
