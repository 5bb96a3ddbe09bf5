"""Futures by themselves: they settle once, call back in order, and nothing a callback does stops the others."""

from __future__ import annotations

import threading

import pytest
from flowdeck import Completed, State, as_completed, flow, task, wait
from flowdeck.engine.running.calls.futures import Future, FutureList, resolve_futures_to_states


def made(state: State | None = None) -> Future:
    future: Future = Future(None)  # type: ignore[arg-type]
    if state is not None:
        future.resolve(state)
    return future


def test_results_and_failures() -> None:
    """Value, exception raised, exception returned."""
    assert made(State("COMPLETED", data=3)).result() == 3
    broken = made(State("FAILED", error=ValueError("x")))
    with pytest.raises(ValueError, match="x"):
        broken.result()
    assert isinstance(broken.result(raise_on_failure=False), ValueError)
    assert broken.done()
    assert not made().done()
    assert repr(made()) == "<Future task Pending>"


def test_a_state_is_one_and_the_same(store) -> None:
    """However often it is asked for; also of a value that is None, a state of the user's own, and a name of one."""

    @task
    def step(n):
        return Completed(message="as it should", data=n, name="Fine") if n == 2 else None if n == 1 else n

    @task(task_run_name="named {n}")
    def named(n):
        return n

    @flow
    def whole():
        futures = [*step.map([0, 1, 2]), named.submit(3), step.submit(4)]
        wait(futures)
        told = [repr(future) for future in futures]
        states = [future.state for future in futures]
        assert all(future.state is state for future, state in zip(futures, states, strict=True))
        values = [(state.name, state.message, state.result(), state.has_data()) for state in states]
        return told, values, [future.task_run_id for future in futures], [future.result() for future in futures]

    told, values, ids, results = whole()
    assert told == ["<Future step[0] Completed>", "<Future step[1] Completed>", "<Future step[2] Fine>",
                    "<Future named 3 Completed>", "<Future step[3] Completed>"]  # fmt: skip
    assert values == [("Completed", None, 0, True), ("Completed", None, None, True), ("Fine", "as it should", 2, True),
                      ("Completed", None, 3, True), ("Completed", None, 4, True)]  # fmt: skip
    assert (ids, results) == ([f"1/{n}" for n in (1, 2, 3, 4, 5)], [0, None, 2, 3, 4])


def test_looking_counts_as_seen() -> None:
    """``state`` and ``result`` do; ``done``, ``wait`` and the engine's own look do not."""
    for look, seen in ((lambda f: f.state, True), (lambda f: f.result(raise_on_failure=False), True),
                       (lambda f: f.done(), False), (lambda f: f.wait(), False),
                       (lambda f: f.outcome, False)):  # fmt: skip
        future = made(State("FAILED"))
        look(future)
        assert future.handled is seen


def test_waiting_ends_with_the_outcome_from_any_thread() -> None:
    """Many threads may wait for one future."""
    future, got = made(), []
    threads = [threading.Thread(target=lambda: got.append(future.result(10))) for _ in range(20)]
    for thread in threads:
        thread.start()
    future.resolve(State("COMPLETED", data=1))
    for thread in threads:
        thread.join(10)
    assert got == [1] * 20


def test_timeouts() -> None:
    """``wait`` returns, ``result`` raises."""
    future = made()
    assert future.wait(0.01) is None
    with pytest.raises(TimeoutError, match=r"no result after 0.01 s"):
        future.result(0.01)
    ended = made(State("COMPLETED"))
    assert wait([future, ended], 0.01) == ({ended}, {future})
    with pytest.raises(TimeoutError, match="not all of 2"):
        list(as_completed([future, ended], 0.01))
    with pytest.raises(TimeoutError):
        FutureList([ended, future]).result(0.01)


def test_callbacks_run_once_in_order_whatever_they_raise(caplog: pytest.LogCaptureFixture) -> None:
    """What one raises is logged and the next is called all the same."""
    future, called = made(), []
    future.add_done_callback(lambda f: called.append("a"))
    future.add_done_callback(lambda f: 1 / 0)
    future.add_done_callback(lambda f: called.append("b"))
    future.resolve(State("COMPLETED"))
    future.add_done_callback(lambda f: called.append("late"))
    assert called == ["a", "b", "late"]
    assert "ZeroDivisionError" in caplog.text


def test_futures_in_containers_become_states() -> None:
    """Lists, tuples, sets and dicts, at any depth; everything else is left alone."""
    state = State("COMPLETED", data=1)
    future = made(state)
    value = {"a": [future, (future, 3)], "b": {future}, "c": "text"}
    resolved = resolve_futures_to_states(value)
    assert resolved == {"a": [state, (state, 3)], "b": {state}, "c": "text"}
    assert resolve_futures_to_states(FutureList([future])) == [state]
