"""What a task's call does in a run: what it returns, what it waits for, what is recorded of it."""

from __future__ import annotations

import dataclasses
import threading
from collections import namedtuple

import pytest
from flowdeck import allow_failure, as_completed, flow, quote, task, wait
from flowdeck.engine.errors import MissingContextError, UpstreamFailed, UsageError


@task
def one(x=1):
    return x


@task
def bad(text="boom"):
    raise ValueError(text)


@task
def listed(*things, **named):
    return [list(things), named]


@dataclasses.dataclass(frozen=True)
class Holder:
    value: object
    other: object = None


Pair = namedtuple("Pair", "a b")


def edges(reader, run_id=1):
    """(from, to, kind) of every edge."""
    return sorted((edge.from_seq, edge.to_seq, edge.kind) for edge in reader.edges(run_id))


def test_a_call_returns_its_value_and_is_recorded(reader) -> None:
    """State, times and name; the name counts calls."""

    @flow
    def calls():
        return [one(5), one(x=6), one()]

    assert calls() == [5, 6, 1]
    rows = reader.tasks(1)
    assert [(row.seq, row.name, row.key, row.call_index, row.state_name) for row in rows] == [
        (1, "one", "one", 0, "Completed"), (2, "one[1]", "one", 1, "Completed"), (3, "one[2]", "one", 2, "Completed"),
    ]  # fmt: skip
    assert all(row.created_at_us <= row.started_at_us <= row.ended_at_us for row in rows)
    assert [reader.result(1, seq).preview for seq in (1, 2, 3)] == ["5", "6", "1"]


def test_wrong_arguments_are_python_errors(reader) -> None:
    """Naming the task and its parameters; nothing is recorded of the call."""

    @flow
    def wrong():
        with pytest.raises(TypeError, match=r"task 'one': got an unexpected keyword argument 'z'.*\(x=1\)"):
            one(z=1)
        with pytest.raises(TypeError, match="too many positional"):
            one.submit(1, 2)
        return one(1)

    assert wrong() == 1
    assert len(reader.tasks(1)) == 1
    with pytest.raises(UsageError, match="'wait_for' is a word of the engine"):

        @task
        def reserved(wait_for):
            pass


def test_futures_are_replaced_wherever_they_are(reader) -> None:
    """In lists, tuples, sets, dicts, dataclasses (also frozen ones), named tuples, nested, as * and ** arguments."""

    @flow
    def nested():
        futures = [one.submit(number) for number in range(9)]
        given = Holder([futures[0], {"a": (futures[1],)}], Pair(futures[2], {futures[3]}))
        got = listed(given, frozenset([futures[4]]), futures[5:6], deep=futures[6], more={"x": [futures[7]]})
        assert given.value[0] is futures[0], "the user's own object is not changed"
        return got

    things, named = nested()
    assert things == [Holder([0, {"a": (1,)}], Pair(2, {3})), frozenset([4]), [5]]
    assert type(things[0].other) is Pair
    assert named == {"deep": 6, "more": {"x": [7]}}
    to = max(row.seq for row in reader.tasks(1))
    assert edges(reader) == [(seq, to, "data") for seq in range(1, 9)]


def test_quoted_values_are_not_looked_into(reader) -> None:
    """A future inside arrives as it is, and nothing waits for it."""
    go = threading.Event()

    @task
    def slow():
        assert go.wait(10)
        return 1

    @task
    def inspects(value):
        done = value[0].done()
        go.set()
        return done

    @flow
    def quoting():
        future = slow.submit()
        assert inspects(quote([future])) is False
        return future.result()

    assert quoting() == 1
    assert edges(reader) == []


def test_downstream_of_a_failure_is_not_ready(reader) -> None:
    """It never runs, says which upstream, and passes it on."""
    ran = []

    @task
    def after(x):
        ran.append(x)

    @flow
    def chain():
        first = after.submit(bad.submit())
        second = after.submit([first])
        third = after.submit(1, wait_for=[second])
        assert second.result(raise_on_failure=False).__class__ is UpstreamFailed
        with pytest.raises(UpstreamFailed, match="did not start"):
            after(first)
        third.wait()
        return third.state.name

    assert chain() == "NotReady"
    assert ran == []
    rows = {row.name: (row.state_type, row.state_name, row.cause) for row in reader.tasks(1)}
    assert rows["bad"] == ("FAILED", "Failed", "ValueError: boom")
    assert rows["after"] == ("PENDING", "NotReady", "upstream bad ended Failed")
    assert rows["after[1]"][2] == "upstream after ended NotReady"
    assert rows["after[2]"][1] == rows["after[3]"][1] == "NotReady"
    assert all(row.ended_at_us for row in reader.tasks(1))


def test_allow_failure_lets_it_start(reader) -> None:
    """The parameter is the exception; also in lists, in map and through a chain."""

    @task
    def kinds(values):
        return [type(value).__name__ for value in (values if isinstance(values, list) else [values])]

    @flow
    def tolerant():
        broken, fine = bad.submit(), one.submit(3)
        unready = one.submit(broken)
        return [
            kinds(allow_failure(broken)), kinds(allow_failure([broken, fine])), kinds([allow_failure(broken), fine]),
            kinds(allow_failure(unready)), kinds.map(allow_failure([broken, fine])).result(),
        ]  # fmt: skip

    assert tolerant() == [
        ["ValueError"], ["ValueError", "int"], ["ValueError", "int"], ["UpstreamFailed"], [["ValueError"], ["int"]],
    ]  # fmt: skip


def test_wait_for_orders_without_passing_anything(reader, effects) -> None:
    """A future, several, or a FutureList; the edges say ``wait``."""

    @task
    def note(text, after=None):
        effects(text)
        return text

    @flow
    def ordered():
        first = note.submit("a")
        second = note.submit("b", wait_for=first)
        many = note.map(["c", "c"], wait_for=[second])
        note("d", wait_for=many)
        return note.submit("e", wait_for=[first, many]).result()

    assert ordered() == "e"
    assert effects.lines == ["a", "b", "c", "c", "d", "e"]
    assert edges(reader) == [
        (1, 2, "wait"), (1, 6, "wait"), (2, 3, "wait"), (2, 4, "wait"), (3, 5, "wait"), (3, 6, "wait"),
        (4, 5, "wait"), (4, 6, "wait"),
    ]  # fmt: skip


def test_lineage_follows_objects_not_equality(reader) -> None:
    """From futures and returned objects; not from None, booleans, integers or equal but distinct objects."""

    @task
    def make(value):
        return value

    @flow
    def lineage():
        rows = make(["x"])
        make(rows)
        make([rows])
        make({"deep": {"er": rows}})
        make(["x"])
        for value in (None, True, 7):
            make(make(value))
        make("some text of a task".upper())
        text = make("another text".upper())
        make(text)

    lineage()
    assert edges(reader) == [
        (1, 2, "data"), (1, 3, "data"), (1, 4, "data"), (13, 14, "data"),
    ] or edges(reader) == [(1, 2, "data"), (2, 3, "data"), (2, 4, "data"), (13, 14, "data")]  # fmt: skip


def test_waiting_helpers(reader) -> None:
    """``wait``, ``as_completed``, timeouts, callbacks, ``done``, ``state``."""
    go = threading.Event()
    called = []

    @task
    def slow(x):
        assert go.wait(10)
        return x

    @flow
    def waits():
        quick, held = one.submit(1), slow.submit(2)
        done, not_done = wait([quick, held], timeout=0.2)
        assert (done, not_done) == ({quick}, {held})
        assert held.state.name == "Pending"
        assert held.wait(0.01) is None
        with pytest.raises(TimeoutError, match="no result after"):
            held.result(timeout=0.01)
        with pytest.raises(TimeoutError, match="not all of 2"):
            list(as_completed([quick, held], timeout=0.01))
        held.add_done_callback(lambda future: called.append(1 / 0))
        held.add_done_callback(lambda future: called.append(future.result()))
        after = one.submit(held)
        go.set()
        assert sorted(future.result() for future in as_completed([quick, held, after])) == [1, 2, 2]
        quick.add_done_callback(called.append)
        assert called[-1] is quick
        assert quick.task_run_id == "1/1"
        assert one.map([1, 2]).result(timeout=5) == [1, 2]

    waits()
    assert called[0] == 2


def test_methods_can_be_tasks(reader) -> None:
    """Instance, class and static; their identity and name are the function's."""

    class Tool:
        factor = 2

        @task
        def times(self, x):
            return self.factor * x

        @classmethod
        @task
        def of_class(cls, x):
            return cls.factor + x

        @staticmethod
        @task
        def static(x):
            return x

    @flow
    def methods():
        tool = Tool()
        return [tool.times(4), tool.times.submit(5).result(), tool.times.map([1, 2]).result(), Tool.of_class(1),
                tool.static(9)]  # fmt: skip

    assert methods() == [8, 10, [2, 4], 3, 9]
    assert {row.key for row in reader.tasks(1)} == {"times", "of_class", "static"}


def test_tasks_call_tasks_and_themselves(reader) -> None:
    """Recursion and nesting, in the caller's thread and on the pool; a bounded pool does not lock itself up."""

    @task
    def countdown(n):
        return [n, *(countdown(n - 1) if n else [])]

    @task
    def tree(depth):
        if not depth:
            return 1
        return sum(tree.map([depth - 1] * 2).result())

    @flow
    def nested():
        return countdown(5), tree(3)

    assert nested() == ([5, 4, 3, 2, 1, 0], 8)
    from flowdeck.executors import LocalExecutor, ThreadPoolTaskRunner

    for runner in (LocalExecutor(), ThreadPoolTaskRunner(max_workers=2)):
        assert nested.with_options(task_runner=runner)()[1] == 8


def test_tasks_run_outside_flows(reader) -> None:
    """As a run of their own."""
    assert one(4) == 4
    run = reader.find("@last")
    assert (run.flow_name, run.state_name) == ("one", "Completed")
    assert [row.name for row in reader.tasks(run.id)] == ["one"]
    with pytest.raises(ValueError, match="boom"):
        bad()
    assert reader.find("@last").state_type == "FAILED"
    assert bad(return_state=True).is_failed()
    with pytest.raises(MissingContextError, match=r"one.submit\(\) needs a run around it"):
        one.submit()


def test_exceptions_of_every_kind_are_recorded(reader) -> None:
    """Without a text, with a million characters, with lone surrogates and NULs."""

    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    @task
    def raises(error):
        raise error

    @flow
    def collects():
        errors = [Mute(), ValueError("x" * 10**6), ValueError("\ud800 \x00 €"), RecursionError("deep")]
        return [type(raises(error, return_state=True).error).__name__ for error in errors]

    assert collects() == ["Mute", "ValueError", "ValueError", "RecursionError"]
    causes = [row.cause for row in reader.tasks(1)]
    assert all(cause and len(cause) <= 300 for cause in causes)
    assert "€" in causes[2]
    assert reader.log_count(1) >= 4


@pytest.mark.parametrize(("error", "kind"), [(SystemExit(3), "CRASHED"), (KeyboardInterrupt(), "CANCELLED")])
def test_exits_inside_a_task(reader, error, kind) -> None:
    """``sys.exit`` is a crash of the task; Ctrl-C ends the run."""

    @task
    def leaves():
        raise error

    @flow
    def whole():
        leaves()

    state = whole(return_state=True)
    assert state.type == kind
    assert reader.tasks(1)[0].state_type == kind
    assert reader.run(1).state_type == kind

    @flow
    def submitted():
        leaves.submit()

    assert submitted(return_state=True).type in (kind, "FAILED")
    assert reader.tasks(2)[0].state_type == kind


def test_a_returned_state_is_the_tasks_state(reader) -> None:
    """Completed with data, Failed with words, and one that is not final."""
    from flowdeck import Completed, Failed, State

    @task
    def says(state):
        return state

    @flow
    def states():
        assert says(quote(Completed(data=3, name="Empty"))) == 3
        assert says(quote(Failed(message="no")), return_state=True).is_failed()
        assert says(quote(State("RUNNING")), return_state=True).is_failed()

    states()
    assert [(row.state_type, row.state_name) for row in reader.tasks(1)] == [
        ("COMPLETED", "Empty"), ("FAILED", "Failed"), ("FAILED", "Failed"),
    ]  # fmt: skip


def test_hooks_of_tasks(reader) -> None:
    """Called with task, run and state, after the record is durable; for submitted ones too."""
    called = []

    @task(on_completion=[lambda t, run, state: called.append((t.name, reader.tasks(1)[run.seq - 1].state_name))])
    def fine():
        pass

    @task(retries=1)
    def failing():
        raise ValueError("x")

    @failing.on_failure
    def note(t, run, state):
        called.append((t.name, state.message))

    @flow
    def whole():
        fine()
        fine.submit().wait()
        failing.submit().wait()
        failing(return_state=True)
        return 1

    whole(return_state=True)
    assert called == [("fine", "Completed")] * 2 + [("failing", "ValueError: x")] * 2
