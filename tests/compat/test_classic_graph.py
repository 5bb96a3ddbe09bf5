"""Prefect 1's graph: tasks and their options, operators, the flow's interface, parameters, and bad input."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flowdeck import DateTimeParameter, Flow, Parameter, Task, flatten, flow, mapped, task, triggers, unmapped
from flowdeck.state import Cached, Failed, Skipped, Success
from flowdeck.store.reader import Reader

pytestmark = pytest.mark.usefixtures("store")


@task
def one() -> int:
    return 1


@task
def add(x: int, y: int = 10) -> int:
    return x + y


class Scale(Task):
    """A task as Prefect 1's users write one."""

    def __init__(self, by: int, **options: object) -> None:
        self.by = by
        super().__init__(**options)

    def run(self, x: int) -> int:
        return x * self.by


# -- tasks -------------------------------------------------------------------------------------------------------------


def test_a_subclass_with_run() -> None:
    """It keeps what its constructor was given; its name is its class's; calls are copies with names of their own."""
    double, triple = Scale(2), Scale(3, name="triple", max_retries=1, retry_delay=timedelta(seconds=5))
    with Flow("subclass") as flow:
        first = double(Parameter("x"))
        second = triple(first)
        third = double(second)
        maps = triple.map([1, 2])
    assert [node.name for node in (first, second, third, maps)] == ["Scale", "triple", "Scale-2", "triple-2"]
    state = flow.run(x=5)
    assert [state.result[node].result for node in (first, second, third)] == [10, 30, 60]
    assert state.result[maps].result == [3, 6]
    assert (triple.max_retries, triple.retry_delay, triple.run(2)) == (1, timedelta(seconds=5), 6)
    assert isinstance(triple.copy(name="other"), Scale)
    assert triple.copy(name="other").by == 3


def test_options_are_found_under_their_names() -> None:
    """What was given can be read back, from the task and from its calls; what was not has Prefect's default."""
    plain, full = Task(), task(
        one.fn, name="full", slug="the-one", tags=["a"], max_retries=2, retry_delay=timedelta(seconds=1), timeout=5,
        trigger=triggers.all_failed, skip_on_upstream_skip=False, log_stdout=True, nout=2,
    )  # fmt: skip
    with Flow("options"):
        node = full()
    for one_of in (full, node):
        assert (one_of.slug, one_of.tags, one_of.max_retries, one_of.timeout) == ("the-one", {"a"}, 2, 5)
        assert (one_of.trigger, one_of.skip_on_upstream_skip, one_of.log_stdout) == (triggers.all_failed, False, True)
    assert (plain.name, plain.max_retries, plain.trigger) == ("Task", 0, triggers.all_successful)
    assert (plain.skip_on_upstream_skip, plain.slug, plain.timeout, plain.nout) == (True, None, None, None)
    with pytest.raises(AttributeError, match="no_such"):
        _ = plain.no_such


def test_retries_in_prefect_1_words(reader: Reader) -> None:
    """``max_retries`` and ``retry_delay`` try again, ``retry_on`` only for those exceptions; ``timeout`` ends."""
    tries: list[str] = []

    @task(max_retries=2, retry_delay=timedelta(seconds=0))
    def third_time() -> str:
        tries.append("third")
        if tries.count("third") < 3:
            raise ValueError("again")
        return "done"

    @task(max_retries=5, retry_delay=timedelta(seconds=0), retry_on=KeyError)
    def picky() -> None:
        tries.append("picky")
        raise KeyError("x") if tries.count("picky") == 1 else ValueError("y")

    @task(timeout=timedelta(seconds=0.2))
    def endless() -> None:
        while True:
            threading.Event().wait(0.01)

    with Flow("retries") as flow:
        nodes = [third_time(), picky(), endless()]
    states = flow.run().result
    assert [type(states[node]).__name__ for node in nodes] == ["Success", "Failed", "TimedOut"]
    assert (tries.count("third"), tries.count("picky")) == (3, 2)


def test_tuples_are_unpacked() -> None:
    """By ``nout``, or by a return annotation that says how many; any item can be picked."""

    @task(nout=2)
    def said() -> object:
        return 1, "a"

    @task
    def annotated() -> tuple[int, str, float]:
        return 2, "b", 0.5

    with Flow("unpacked") as flow:
        a, b = said()
        _, c, d = annotated()
        picked = annotated()[1]
        with pytest.raises(TypeError, match="nout"):
            a, b = one()
    states = flow.run().result
    assert [states[node].result for node in (a, b, c, d, picked)] == [1, "a", "b", 0.5, "b"]


def test_operators_draw_tasks() -> None:
    """On calls and parameters, from both sides, with constants."""
    with Flow("operators") as flow:
        x, y = Parameter("x"), one()
        nodes = [
            x + y, 10 - x, x * 2, x / 2, x // 2, x % 2, x**2, 2**x, -1 + x, x > 3, x >= 7, x < y, x >= 7,
            x & 0, x.or_(y), x == 7, x != 7, x.is_equal(1), x.is_not_equal(1), x.not_(), y.or_(x), add(x) + add(y),
        ]  # fmt: skip
    state = flow.run(x=7)
    assert state.is_successful(), state
    assert [state.result[node].result for node in nodes] == [
        8, 3, 14, 3.5, 3, 1, 49, 128, 6, True, True, False, True, 0, 7, True, False, False, True, False, 1, 28,
    ]  # fmt: skip


def test_comparing_outside_a_block_is_pythons() -> None:
    """Nodes are themselves and nothing else, so that they can stand in sets, lists and dicts."""
    with Flow("identity") as flow:
        a, b = one(), one()
    assert a == a
    assert a != b
    assert a in [b, a]
    assert b not in {a}
    assert len(flow.tasks) == 2


def test_tasks_that_are_not_called_are_nodes_themselves() -> None:
    """The imperative style: ``set_upstream``, ``set_dependencies``, ``bind``, results by the task itself."""
    first, second, third = Task(name="first"), Scale(3, name="second"), task(add.fn, name="third")
    flow = Flow("imperative")
    flow.add_task(first)
    second.set_upstream(first, flow=flow)
    second.set_dependencies(flow, keyword_tasks={"x": one.copy()})
    third.bind(second, y=second, flow=flow)
    third.set_downstream(last := Task(name="last"), flow=flow)
    assert flow.tasks >= {first, second, third, last}
    assert flow.upstream_tasks(third) == {second}
    assert flow.terminal_tasks() == {last}
    state = flow.run()
    assert (state.result[second].result, state.result[third].result) == (3, 6)
    assert isinstance(state.result[first], Success)


def test_pipe_and_uncalled_arguments() -> None:
    """``a.pipe(b)`` is ``b(a)``; a task given without being called is drawn as it is."""
    with Flow("pipe") as flow:
        result = one().pipe(add, y=1).pipe(add, y=2)
        taken = add(one)
    states = flow.run().result
    assert (states[result].result, states[taken].result) == (4, 11)
    assert one in flow.tasks


def test_task_args_change_one_call() -> None:
    """A name, a trigger, retries for this call only."""
    with Flow("task_args") as flow:
        node = add(1, task_args={"name": "special", "tags": ["t"], "skip_on_upstream_skip": False})
        many = add.map([1, 2], task_args={"name": "many"})
    assert (node.name, node.tags, many.name, add.name) == ("special", {"t"}, "many", "add")
    assert flow.run().result[many].result == [11, 12]


def test_what_means_nothing_here_is_said_once() -> None:
    """Options of Prefect's servers and result stores are taken with one warning, others refused by name."""
    with pytest.warns(UserWarning, match="run_config, storage.* mean nothing here"):
        Flow("ported", storage=object(), run_config=object())
    Flow("ported too", storage=object(), run_config=object())  # a second warning would be an error here
    with pytest.raises(Exception, match="has no option 'storag'"):
        Flow("typo", storag=1)
    with pytest.raises(Exception, match="did you mean 'max_retries'"):
        task(one.fn, max_retry=1)


# -- the flow's interface ----------------------------------------------------------------------------------------------


def test_reading_a_flow() -> None:
    """Roots, ends, edges, order, by name, slug, tag and type."""
    with Flow("read") as flow:
        x = Parameter("x")
        a = add(x)
        b = add(a, task_args={"slug": "bee", "tags": ["t"]})
        c = Scale(2)(b, upstream_tasks=[a])
    assert flow.root_tasks() == {x}
    assert flow.terminal_tasks() == flow.reference_tasks() == {c}
    assert flow.sorted_tasks() == (x, a, b, c)
    assert flow.sorted_tasks(root_tasks=[b]) == (b, c)
    assert flow.parameters() == {x}
    assert (flow.upstream_tasks(c), flow.downstream_tasks(a)) == ({a, b}, {b, c})
    assert {(edge.upstream_task, edge.key) for edge in flow.edges_to(c)} == {(a, None), (b, "x")}
    assert flow.edges_from(b) == flow.edges_to(c) - flow.edges_from(a)
    assert flow.all_upstream_edges()[x] == set()
    assert flow.all_downstream_edges()[b] == flow.edges_from(b)
    assert flow.get_tasks(name="add") == [a, b]
    assert (flow.get_tasks(slug="bee"), flow.get_tasks(tags=["t"])) == ([b], [b])
    assert (flow.get_tasks(task_type=Parameter), flow.get_tasks(task_type=Scale)) == ([x], [c])
    assert flow.slugs[b] == "bee"
    written = flow.serialize()
    assert [entry["name"] for entry in written["tasks"]] == ["add", "add-2", "Scale"]
    edge = {"upstream": "add", "downstream": "add-2", "key": "x", "mapped": False, "flattened": False}
    assert edge in written["edges"]


def test_changing_a_flow() -> None:
    """Chains, edges with values, replacing a task or a parameter, merging flows, copies that are their own."""
    flow = Flow("changed")
    a, b, c = (Task(name=name) for name in "abc")
    flow.chain(a, b, c)
    assert flow.sorted_tasks() == (a, b, c)
    with Flow("sum") as total:
        x = Parameter("x")
        result = add(x, one())
    total.add_edge(5, result, key="y")
    assert total.run(x=1).result[result].result == 6
    copied = total.copy()
    copied.replace(x, 7)
    assert copied.run().result[result].result == 12
    assert (total.parameters(), copied.parameters()) == ({x}, set())
    with Flow("more") as more:
        other = Scale(2)(Parameter("x"))
    with pytest.raises(ValueError, match="merge_parameters"):
        total.update(more)
    total.update(more, merge_parameters=True)
    assert total.run(x=4).result[other].result == 8


def test_a_flow_can_be_made_in_one_call() -> None:
    """From tasks, edges and reference tasks."""
    a, b = Task(name="a"), Task(name="b")
    other = Flow("other")
    edge = other.add_edge(a, b)
    flow = Flow("made", tasks=[a, b], edges=[edge], reference_tasks=[a])
    assert (flow.tasks, flow.edges, flow.reference_tasks()) == ({a, b}, {edge}, {a})
    assert Flow(name="by keyword").name == "by keyword"


def test_mapped_edges_by_hand() -> None:
    """``mapped=True`` on an edge or a call, with the other arguments passed whole."""
    with Flow("edges") as flow:
        numbers = task(lambda: [1, 2, 3], name="numbers")()
        by_edge = add.copy(name="by edge")
        flow.add_edge(numbers, by_edge, key="x", mapped=True)
        flow.add_edge(one(), by_edge, key="y")
        by_call = add(numbers, unmapped(5), mapped=True)
        by_word = add(mapped(numbers), 7)
        twice = add.map(flatten(task(lambda: [[1], [2]], name="nested")()), y=flatten([[10, 20]]))
    states = flow.run().result
    assert states[by_edge].result == [2, 3, 4]
    assert states[by_call].result == [6, 7, 8]
    assert states[by_word].result == [8, 9, 10]
    assert states[twice].result == [11, 22]


def test_mapping_over_many_kinds_of_things() -> None:
    """Ranges, sets, texts of tasks, generators made by tasks; the shortest decides; nothing gives an empty group."""
    with Flow("kinds") as flow:
        over_range = add.map(range(3))
        over_text = task(str.upper, name="upper").map(task(lambda: "abc", name="letters")())
        shortest = add.map([1, 2, 3], [10, 20])
        none = add.map(task(list, name="nothing")())
        reduced = task(sum, name="sum")(none)
    state = flow.run()
    assert state.is_successful(), state
    results = [state.result[node].result for node in (over_range, over_text, shortest, none, reduced)]
    assert results == [[10, 11, 12], ["A", "B", "C"], [11, 22], [], 0]


def test_states_given_beforehand() -> None:
    """``task_states`` stand for tasks, which then do not run."""
    with Flow("given") as flow:
        first = one()
        second = add(first)
        third = add(second)
    state = flow.run(task_states={first: Success(result=5), second: Cached(result=100)})
    assert state.result[third].result == 110
    assert state.result[first].result == 5
    assert isinstance(flow.run(task_states={second: Skipped("not needed")}).result[third], Skipped)
    assert isinstance(flow.run(task_states={first: Failed("no")}).result[second], Failed)


# -- parameters --------------------------------------------------------------------------------------------------------


def test_parameters_required_and_not() -> None:
    """A default makes it optional, and so does ``required=False``; then it is None."""
    with Flow("parameters") as flow:
        a = Parameter("a", required=False)
        node = task(lambda a, b: (a, b), name="pair")(a, Parameter("b", default=2, tags=["t"]))
    assert flow.run().result[node].result == (None, 2)
    assert flow.run(a=1, b=None).result[node].result == (1, None)
    assert (a.required, a.default) == (False, None)


def test_datetime_parameter() -> None:
    """A text becomes a time, in UTC unless it says otherwise; what is none is refused before anything runs."""
    with Flow("times") as flow:
        node = task(lambda at: at, name="see")(DateTimeParameter("at", required=False))
    see = lambda **given: flow.run(**given).result[node].result  # noqa: E731
    assert see(at="2027-01-31T09:00") == datetime(2027, 1, 31, 9, tzinfo=UTC)
    assert see(at="2027-01-31T09:00+02:00").utcoffset() == timedelta(hours=2)
    assert see(at=datetime(2027, 1, 1, tzinfo=UTC)) == datetime(2027, 1, 1, tzinfo=UTC)
    assert see() is None
    with pytest.raises(ValueError, match="parameter 'at' needs an ISO 8601 time"):
        flow.run(at="soon")


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_a_task_that_depends_on_itself() -> None:
    """A cycle of one is a cycle, named, at once when asked to validate."""
    loop = add.copy(name="loop")
    flow = Flow("self")
    with pytest.raises(ValueError, match="has a cycle: loop → loop"):
        flow.add_edge(loop, loop, key="x", validate=True)
    with pytest.raises(ValueError, match="cycle"):
        flow.run()


def test_a_longer_cycle_is_named_whole() -> None:
    """With every task of it, also inside the block."""
    with Flow("round") as flow:
        a, b, c = one(), add(1), add(2)
        a.set_upstream(b)
        b.set_upstream(c)
        c.set_upstream(a)
        with pytest.raises(ValueError, match=r"cycle: .* → .* → .* → "):
            flow.validate()


def test_duplicate_slugs() -> None:
    """A slug names one task of a flow."""
    with Flow("slugs"):
        one(task_args={"slug": "s"})
        with pytest.raises(ValueError, match="slug 's' already"):
            add(1, task_args={"slug": "s"})


@pytest.mark.parametrize(
    ("draw", "error", "said"),
    [
        (lambda flow: flow.run(), RuntimeError, "after the `with` block"),
        (lambda flow: flow.add_edge(1, add), ValueError, "is no task call"),
        (lambda flow: flow.add_edge(one(), add(1), key="z"), TypeError, "no argument 'z'"),
        (lambda flow: flow.add_edge(one(), Parameter("p")), ValueError, "nothing can come before it"),
        (lambda flow: flow.set_reference_tasks([Task()]), ValueError, "is not in flow"),
        (lambda flow: flow.edges_to(add), ValueError, "is not in flow"),
        (lambda flow: flow.replace(Task(name="t"), 1), ValueError, "is not in flow"),
        (lambda _: add(), TypeError, "missing a required argument: 'x'"),
        (lambda _: add(1, z=2), TypeError, "unexpected keyword argument 'z'"),
        (lambda _: bool(one()), TypeError, "decide in a task"),
        (lambda _: list(one()), TypeError, "use .map"),
        (lambda _: Parameter("no name"), ValueError, "Python name"),
        (lambda _: Scale(2, max_retries=-1), Exception, "whole number from 0"),
        (lambda _: task(one.fn, retry_delay=timedelta(1)), ValueError, "needs max_retries"),
        (lambda _: task(one.fn, max_retries=1, retries=2), ValueError, "say the same"),
        (lambda _: task(one.fn, max_retries=1, retry_on="ValueError"), TypeError, "exception classes"),
        (lambda _: task(one.fn, nout=-1), ValueError, "nout"),
        (lambda _: task(one.fn, state_handlers=[1]), TypeError, "state_handlers"),
        (lambda _: Flow(""), ValueError, "needs a name"),
        (lambda flow: flow.__enter__(), RuntimeError, "open already"),
        (lambda flow: flow.register("project"), Exception, "flowdeck daemon"),
    ],
)  # fmt: skip
def test_mistakes_while_drawing(draw, error: type[Exception], said: str) -> None:
    """Each is refused where it is made, naming the thing."""
    with Flow("mistaken") as flow, pytest.raises(error, match=said):
        draw(flow)


def test_mistakes_when_running() -> None:
    """Unknown and missing parameters, and what Prefect 1's run takes and this does not, each with what to use."""
    with Flow("runs") as flow:
        add(Parameter("x"))
    for given, said in [
        ({}, "needs x"), ({"x": 1, "y": 2}, "no parameter 'y'"), ({"parameters": {"xx": 1}}, "did you mean 'x'"),
        ({"x": 1, "return_tasks": []}, "every task's state is in the result"),
        ({"x": 1, "runner_cls": object}, "one engine"), ({"x": 1, "run_on_schedule": True}, "has no schedule"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=said):
            flow.run(**given)


def test_operators_belong_to_a_flow() -> None:
    """Outside of any, there is nothing to draw into."""
    with pytest.raises(ValueError, match="belongs to no flow"):
        _ = Parameter("x") + 1
    with pytest.raises(ValueError, match="belongs to no flow"):
        Task(name="t").set_upstream(Task(name="u"))


def test_constants_that_cannot_be_pickled(reader: Reader) -> None:
    """A lock as an argument or a result is passed on; its record says that it cannot be kept, and nothing breaks."""
    lock = threading.Lock()
    with Flow("unpicklable") as flow:
        same = task(lambda thing: thing, name="same")(lock)
        seen = task(lambda thing: thing is lock, name="seen")([same, lock][0])
        maps = task(lambda thing, n: (thing is lock, n), name="maps").map(unmapped(lock), [1, 2])
    state = flow.run()
    assert state.is_successful(), state
    assert state.result[seen].result is True
    assert state.result[maps].result == [(True, 1), (True, 2)]
    (run,) = reader.runs()
    assert run.state_type == "COMPLETED"


def test_odd_names() -> None:
    """Quotes, control characters and other scripts in names reach the figures unharmed."""
    with Flow('odd "name"\x1b[31m') as flow:
        first = one(task_args={"name": 'say "hi"\n\x07'})
        add(first, task_args={"name": "größe → Ω"})
    assert "\x1b" not in flow.visualize(format="mermaid") + flow.visualize(format="text")
    assert "#quot;hi#quot;" in flow.visualize(format="mermaid")
    assert '\\"hi\\"' in flow.visualize(format="dot")
    assert flow.run().is_successful()


# -- figures -----------------------------------------------------------------------------------------------------------


def test_visualize_as_text_and_dot(tmp_path: Path) -> None:
    """The tree for a terminal and graphviz's words; the file's ending says which; states mark and colour."""

    @task
    def fails(x: int) -> None:
        raise ValueError("no")

    with Flow("figure") as flow:
        x = Parameter("x")
        a = add(x)
        b = add.map([1, 2])
        c = add(a, y=fails(a))
        Task(name="end")(upstream_tasks=[c, b])
    plain = flow.visualize(filename=str(tmp_path / "figure.txt"))
    assert (tmp_path / "figure.txt").read_text() == plain + "\n"
    assert plain.splitlines() == [
        "x", "└─ add", "   └─ fails", "      └─ add-3 ← add", "         └─ end ← add-2", "add-2 (mapped)",
    ]  # fmt: skip
    state = flow.run(x=1)
    marked = flow.visualize(flow_state=state, format="text").splitlines()
    assert marked[1:4] == ["└─ ✔ add", "   └─ ✘ fails  Failed", "      └─ ✘ add-3  TriggerFailed ← add"]
    assert marked[-1] == "✔ add-2 (mapped: 2 Success)"
    dot = flow.visualize(flow_state=state, filename=str(tmp_path / "figure.dot"), horizontal=True)
    assert dot.startswith("digraph {")
    assert "rankdir=LR" in dot
    assert '[label="fails", shape=box, style=filled, fillcolor="#eb000080"]' in dot
    with pytest.raises(ValueError, match="format 'gif'"):
        flow.visualize(format="gif")


def test_a_function_has_no_picture_before_it_runs() -> None:
    """What ``@flow`` calls is known once it ran; the error says where to look."""

    @flow
    def function() -> None:
        one()

    with pytest.raises(Exception, match="graph in the console"):
        function.visualize()
    with Flow("drawn") as drawn:
        one()
    assert drawn.generate_mermaid_graph().startswith("graph TD")


def test_a_picture_needs_graphviz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the error says what to do instead."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with Flow("picture") as flow:
        one()
    with pytest.raises(Exception, match=r"install graphviz.*\.dot"):
        flow.visualize(filename=str(tmp_path / "figure.svg"))


def test_the_flow_block_type_checks(tmp_path: Path) -> None:
    """``with Flow("x") as f`` is a graph for mypy, ``@flow`` stays a function with its types."""
    file = tmp_path / "typed.py"
    file.write_text(
        "from flowdeck import Flow, Parameter, case, flow, signals, task, triggers\n"
        "from flowdeck.schedules import IntervalSchedule, clocks, filters\n"
        "@task\ndef one() -> int:\n    return 1\n"
        "@flow\ndef func(x: int) -> str:\n    return str(x)\n"
        "with Flow('x', schedule=IntervalSchedule()) as f:\n"
        "    a = one()\n    with case(Parameter('p'), 1):\n        b = one()\n"
        "f.set_reference_tasks([a])\nstate = f.run(executor=None)\nstate.is_successful()\n"
        "text: str = func(1)\nraise signals.SKIP('x')\n"
    )
    public = Path(sys.modules["flowdeck"].__file__ or "").resolve().parent
    (tmp_path / "flowdeck").mkdir()
    for path in [*public.iterdir(), *(public.parent / name for name in ("store", "engine"))]:
        (tmp_path / "flowdeck" / path.name).symlink_to(path)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache"),
         "typed.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False, env={"MYPYPATH": "."},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
