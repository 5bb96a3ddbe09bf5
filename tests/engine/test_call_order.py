"""A retry finds what finished by what it is and what it was given, in whatever order its calls come this time."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest
from flowdeck import flow, task
from flowdeck.engine.control.control import Control
from flowdeck.engine.running.run_process.claiming import claim_here
from flowdeck.engine.running.run_process.entry import execute_run


@pytest.fixture
def retry(store):
    """Retry a run here; returns its exit code."""

    def again(one_flow, run_id=1):
        control = Control(store, actor="tester@here via test")
        control.retry(run_id)
        control.close()
        return execute_run(store, run_id, claim_here(store, run_id), one_flow)

    return again


class Turns:
    """Lets callers through in the order that is given, whichever comes first."""

    def __init__(self, order):
        self.order = list(order)
        self.turn = threading.Condition()

    def wait(self, who):
        with self.turn:
            assert self.turn.wait_for(lambda: self.order[0] == who, timeout=60)

    def done(self):
        with self.turn:
            self.order.pop(0)
            self.turn.notify_all()

    async def take(self, who):
        while self.order[0] != who:
            await asyncio.sleep(0.001)


class Opaque:
    """What a fingerprint cannot read."""

    def __init__(self, n):
        self.n = n


def run_twice(reader, effects, retry, make):
    """One attempt in one order that fails at its end, a retry in another: each body once, and the same results."""
    orders = [[0, 1, 2], [2, 0, 1]]
    whole = make(lambda: orders[effects.count("whole") - 1])
    if asyncio.iscoroutine(state := whole(return_state=True)):
        asyncio.run(state)
    assert reader.run(1).state_name == "Failed"
    before = [(row.seq, row.name, row.scope_seq) for row in reader.tasks(1)]
    assert retry(whole) == 0, [row.message for row in reader.logs(1, limit=1000)]
    ran = [line for line in effects.lines if line != "whole"]
    assert sorted(ran) == sorted(set(ran)), "no body ran twice"
    assert [(row.seq, row.name, row.scope_seq) for row in reader.tasks(1)] == before
    assert [row.state_name for row in reader.tasks(1)] == ["Completed"] * len(before)
    return ran


@task
async def first(i):
    return Opaque(i)


def chains(effects, order, second):
    """Gathered chains whose second steps come in an order of their own."""

    @flow
    async def whole():
        effects("whole")
        turns = Turns(order())

        async def chain(i):
            value = await first(i)
            await turns.take(i)
            got = second(value, turns)
            return await got if asyncio.iscoroutine(got) or asyncio.isfuture(got) else got

        got = await asyncio.gather(*(chain(i) for i in range(3)))
        assert got == [0, 10, 20]
        if effects.count("whole") == 1:
            raise ValueError("at the end")

    return whole


@pytest.mark.parametrize("kind", ["task", "to_thread", "subflow", "submitted", "mapped", "nested", "generator"])
def test_gathered_chains_find_their_own(reader, effects, retry, kind) -> None:
    """By what each was given, an object that came from a task among it, however the second steps are called."""

    @task
    async def later(value):
        effects(f"later {value.n}")
        return 10 * value.n

    @task
    def sooner(value):
        effects(f"sooner {value.n}")
        return 10 * value.n

    @flow
    async def child(value):
        effects(f"child {value.n}")
        return await later(value)

    @task
    async def outer(value):
        effects(f"outer {value.n}")
        return await later(value)

    @task
    async def items(value):
        effects(f"items {value.n}")
        yield 10 * value.n

    async def one(value, turns):
        if kind == "task":
            got = await later(value)
        elif kind == "to_thread":
            got = await asyncio.to_thread(sooner, value)
        elif kind == "subflow":
            got = await child(value)
        elif kind == "submitted":
            got = await asyncio.to_thread(sooner.submit(value).result)
        elif kind == "mapped":
            got = (await asyncio.to_thread(sooner.map([value]).result))[0]
        elif kind == "nested":
            got = await outer(value)
        else:
            got = sum([item async for item in items(value)])
        turns.done()
        return got

    run_twice(reader, effects, retry, lambda order: chains(effects, order, one))


def test_threads_find_their_own(reader, effects, retry) -> None:
    """Of an executor of the flow's own, and those of a submitted task that submits."""

    @task
    def leaf(n):
        effects(f"leaf {n}")
        return 10 * n

    @task
    def outer(ns):
        effects("outer")
        return [future.result() for future in [leaf.submit(n) for n in ns]]

    def make(order):
        @flow
        def whole():
            effects("whole")
            turns = Turns(order())

            def one(n):
                turns.wait(n)
                got = leaf(n)
                turns.done()
                return got

            with ThreadPoolExecutor(3) as pool:
                futures = [pool.submit(copy_context().run, one, n) for n in range(3)]
                assert [future.result() for future in futures] == [0, 10, 20]
            assert outer.submit([5, 6]).result() == [50, 60]
            if effects.count("whole") == 1:
                raise ValueError("at the end")

        return whole

    run_twice(reader, effects, retry, make)


def test_submits_that_wait_find_their_own(reader, effects, retry) -> None:
    """Also those that are made before what they wait for is known, in another order than then; edges fit."""

    @task
    def source(n):
        effects(f"source {n}")
        return Opaque(n)

    @task
    def sink(value):
        effects(f"sink {value.n}")
        return 10 * value.n

    def make(order):
        @flow
        def whole():
            effects("whole")
            got = {n: sink.submit(source.submit(n)) for n in order()}
            assert {n: future.result() for n, future in got.items()} == {0: 0, 1: 10, 2: 20}
            if effects.count("whole") == 1:
                raise ValueError("at the end")

        return whole

    run_twice(reader, effects, retry, make)
    assert {(edge.from_seq, edge.to_seq) for edge in reader.edges(1)} == {(1, 2), (3, 4), (5, 6)}


class Adder:
    """Settings of its own, and something that its calls change."""

    def __init__(self, by):
        self.by = by
        self.lock = threading.Lock()
        self.calls = 0


def test_a_methods_object_is_one_of_its_inputs(reader, effects, retry) -> None:
    """By what its attributes say; what its finished calls did to it does not count, nor that an object is new."""

    class Adding(Adder):
        @task
        def add(self, n):
            effects(f"add {self.by} {n}")
            self.calls += 1
            return self.by + n

    @flow
    def whole():
        again = effects.count("whole")
        effects("whole")
        one, two, new = Adding(1), Adding(100), Adding(7)
        pairs = [(one, 5), (two, 5), (one, 5), (one, 6)] if not again else [(new, 5), (two, 5), (one, 5), (one, 5)]
        got = [adder.add(n) for adder, n in pairs]
        if not again:
            raise ValueError("at the end")
        assert got == [12, 105, 6, 6]

    whole(return_state=True)
    assert retry(whole) == 0, [row.message for row in reader.logs(1, limit=1000)]
    assert effects.lines == [
        "whole", "add 1 5", "add 100 5", "add 1 5", "add 1 6", "whole", "add 7 5",
    ]  # fmt: skip


def test_a_new_call_before_others_takes_nothing_of_theirs(reader, effects, retry) -> None:
    """The results of those that follow are found, also where objects are known by where they came from."""

    @task
    def load(name):
        effects(f"load {name}")
        return Opaque(name)

    @task
    def save(value):
        effects(f"save {value.n}")
        return value.n

    @flow
    def whole():
        again = effects.count("whole")
        effects("whole")
        got = [save(load(name)) for name in (["new"] if again else []) + ["a", "b", "c"]]
        if not again:
            raise ValueError("at the end")
        assert got == ["new", "a", "b", "c"]

    whole(return_state=True)
    assert retry(whole) == 0
    assert effects.lines[7:] == ["whole", "load new", "save new"]


def test_what_an_unfinished_task_finished_is_kept_when_its_inputs_change(reader, effects, retry) -> None:
    """The tasks within it, and the tasks of a subflow, that are given what they were given; also in a third try."""

    @task
    def inner(n):
        effects(f"inner {n}")
        return n

    @task
    def outer(version):
        got = inner(1) + inner(2)
        if version < 3:
            raise ValueError(version)
        return got

    @task
    def done(version):
        return inner(10)

    @flow
    def child(version):
        return inner(3) + inner(4)

    @flow
    def whole():
        effects("whole")
        version = effects.count("whole")
        got = done(version) + child(version)
        return got + outer(version)

    whole(return_state=True)
    assert retry(whole) == 1
    assert retry(whole) == 0
    assert reader.run(1).result_preview == "20"
    assert sorted(set(effects.lines) - {"whole"}) == sorted(line for line in effects.lines if line != "whole")
