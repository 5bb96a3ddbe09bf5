"""Prefect 1's style on our engine: the graph of a ``with Flow`` block, its runs, their records, and bad input."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from flowdeck import Flow, Parameter, flatten, task, unmapped
from flowdeck.executors import LocalExecutor
from flowdeck.store.reader import Reader

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "etl_workflow.py"


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of the test's own."""
    folder = tmp_path / "store"
    monkeypatch.setenv("FLOWDECK_STORE", str(folder))
    return folder


@task
def one() -> int:
    return 1


@task
def add(x: int, y: int = 10) -> int:
    return x + y


@task
def numbers(count: int) -> list[int]:
    return list(range(count))


@task
def total(values: list[int]) -> int:
    return sum(values)


@task
def fail(reason: str = "no luck") -> int:
    raise ValueError(reason)


def test_the_seed_example_runs_as_a_script(store: Path) -> None:
    """The example prints what it did under Prefect, exits with 0, and its run and three tasks are recorded."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "FLOWDECK_STORE": str(store)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Loading data: RAW DATA" in done.stdout.splitlines()
    reader = Reader(store)
    (run,) = reader.runs()
    assert (run.flow_name, run.state_type, run.state_name) == ("ETL Workflow", "COMPLETED", "Completed")
    rows = reader.tasks(run.id)
    assert [(row.name, row.state_name) for row in rows] == [
        ("extract", "Completed"), ("transform", "Completed"), ("load", "Completed"),
    ]  # fmt: skip
    seqs = {row.name: row.seq for row in rows}
    edges = {(edge.from_seq, edge.to_seq) for edge in reader.edges(run.id)}
    assert {(seqs["extract"], seqs["transform"]), (seqs["transform"], seqs["load"])} <= edges


def test_loading_the_example_does_not_run_it(store: Path) -> None:
    """A loader sees the flow; the unguarded flow.run() in the file runs nothing and leaves no record."""
    from flowdeck.engine.authoring.loader import load_flow_file

    loaded = load_flow_file(EXAMPLE)
    assert list(loaded.flows) == ["ETL Workflow"]
    assert not (store / "state.db").exists() or Reader(store).runs() == []


def test_a_call_in_the_block_runs_nothing() -> None:
    """Drawing builds nodes and edges; the task's function is not called and its value is not there yet."""
    ran = []

    @task
    def noticed() -> int:
        ran.append(1)
        return 1

    with Flow("drawn") as flow:
        node = noticed()
        result = add(node)
    assert ran == []
    assert flow.tasks == {node, result}
    assert [(edge.upstream_task, edge.downstream_task, edge.key) for edge in flow.edges] == [(node, result, "x")]
    with pytest.raises(TypeError, match="decide in a task"):
        assert node


def test_the_state_of_a_run_holds_the_states_of_its_tasks() -> None:
    """``state.result[node].result`` is the node's value, as in Prefect 1."""
    with Flow("sum") as flow:
        first = one()
        second = add(first, y=add(first))
    state = flow.run()
    assert state.is_successful()
    assert not state.is_failed()
    assert state.result[first].result == 1
    assert state.result[second].result == 12
    assert all(node_state.is_successful() for node_state in state.result.values())


def test_nodes_are_found_within_containers() -> None:
    """A node in a list, a tuple or a dict, however deep, is a dependency and arrives as its value."""

    @task
    def see(value: object) -> object:
        return value

    with Flow("nested") as flow:
        first = one()
        seen = see([first, {"k": (first, [first])}, "plain"])
    assert {edge.upstream_task for edge in flow.edges} == {first}
    assert flow.run().result[seen].result == [1, {"k": (1, [1])}, "plain"]


def test_upstream_tasks_wait_without_data(store: Path) -> None:
    """``upstream_tasks``, ``set_upstream`` and ``set_downstream`` order tasks that pass nothing to each other."""
    order: list[str] = []

    @task
    def step(name: str) -> None:
        order.append(name)

    with Flow("ordered") as flow:
        last = step("last")
        middle = step("middle")
        first = step("first", upstream_tasks=[])
        middle.set_upstream(first)
        middle.set_downstream(last)
        step("after", upstream_tasks=[last])
    assert flow.run().is_successful()
    assert order == ["first", "middle", "last", "after"]
    reader = Reader(store)
    assert len(reader.edges(reader.runs()[0].id)) == 3


def test_mapping() -> None:
    """``map`` runs a task per element; mapped results map on, ``unmapped`` is passed whole, a plain call reduces."""
    with Flow("mapped") as flow:
        values = numbers(4)
        more = add.map(values, unmapped(100))
        again = add.map(more, y=unmapped(1))
        pairs = add.map(more, again)
        reduced = total(pairs)
    state = flow.run()
    assert state.is_successful(), state
    assert state.result[more].is_mapped()
    assert state.result[more].result == [100, 101, 102, 103]
    assert state.result[pairs].result == [201, 203, 205, 207]
    assert state.result[reduced].result == 816


def test_mapping_over_nested_lists_and_the_shortest() -> None:
    """``flatten`` maps over the elements of the elements; the shortest argument says how often a task runs."""

    @task
    def nested() -> list[list[int]]:
        return [[1, 2], [], [3]]

    with Flow("flat") as flow:
        flat = add.map(flatten(nested()), unmapped(0))
        lists = numbers.map([2, 3])
        flat_mapped = add.map(flatten(lists), [10, 20, 30])
    state = flow.run()
    assert state.result[flat].result == [1, 2, 3]
    assert state.result[flat_mapped].result == [10, 21, 30]


def test_mapping_over_nothing_succeeds() -> None:
    """An empty list maps to no task runs, and what reduces it sees an empty list."""
    with Flow("empty") as flow:
        reduced = total(add.map(numbers(0)))
    state = flow.run()
    assert state.is_successful()
    assert state.result[reduced].result == 0


def test_independent_branches_do_not_wait_for_a_mapped_one() -> None:
    """A branch that waits to know how often it runs does not keep another branch from starting."""
    other_has_run = threading.Event()

    @task
    def slow() -> list[int]:
        assert other_has_run.wait(20)
        return [1]

    @task
    def other() -> None:
        other_has_run.set()

    with Flow("branches") as flow:
        add.map(slow())
        other()
    assert flow.run().is_successful()


def test_a_failure_is_a_state_and_no_exception(store: Path) -> None:
    """A failed task fails the flow, what needs it does not start, the rest runs; the record says which and why."""
    with Flow("failing") as flow:
        broken = fail("out of luck")
        never = add(broken)
        fine = one()
    state = flow.run()
    assert state.is_failed()
    assert not state.is_successful()
    assert isinstance(state.result[broken].result, ValueError)
    assert state.result[never].is_failed()
    assert state.result[fine].is_successful()
    (run,) = Reader(store).runs()
    assert (run.state_type, run.state_name) == ("FAILED", "Failed")
    assert "add ended TriggerFailed" in str(run.cause)
    assert any("out of luck" in str(row.cause) for row in Reader(store).tasks(run.id))


def test_a_failed_list_fails_what_maps_over_it() -> None:
    """When it cannot be known how often a mapped task runs, it does not start and says so."""
    with Flow("failing list") as flow:
        mapped = add.map(fail())
    state = flow.run()
    assert state.is_failed()
    assert state.result[mapped].name == "TriggerFailed"


def test_one_failed_element_leaves_its_siblings_alone() -> None:
    """Mapped runs are independent: one fails, the others go on element by element."""

    @task
    def even_only(x: int) -> int:
        if x % 2:
            raise ValueError(f"{x} is odd")
        return x

    with Flow("elements") as flow:
        checked = even_only.map([0, 1, 2])
        after = add.map(checked)
    state = flow.run()
    assert state.is_failed()
    assert [one.is_successful() for one in state.result[checked].map_states] == [True, False, True]
    assert [one.is_successful() for one in state.result[after].map_states] == [True, False, True]


def test_reference_tasks_decide_the_flows_state() -> None:
    """The last tasks decide by default; other reference tasks may be chosen."""

    @task
    def whatever() -> None:
        fail.fn()

    with Flow("reference") as flow:
        first = one()
        whatever(upstream_tasks=[first])
    assert flow.run().is_failed()
    flow.set_reference_tasks([first])
    assert flow.run().is_successful()


def test_parameters() -> None:
    """Values come by ``parameters=`` or by keyword; a default stands in; what is wrong is a ValueError naming it."""
    with Flow("parametrised") as flow:
        x = Parameter("x")
        result = add(x, Parameter("y", default=5))
    assert flow.run(x=1).result[result].result == 6
    assert flow.run(parameters={"x": 1, "y": 1}).result[result].result == 2
    with pytest.raises(ValueError, match="needs x"):
        flow.run()
    with pytest.raises(ValueError, match="no parameter 'z'"):
        flow.run(x=1, z=2)
    with pytest.raises(ValueError, match="did you mean 'x'"):
        flow.run(xx=1)
    with pytest.raises(ValueError, match="has a parameter 'x' already"), flow:
        Parameter("x")


def test_parameters_are_recorded(store: Path) -> None:
    """A run's record shows the parameters it had, defaults included; parameters are no task runs."""
    with Flow("recorded") as flow:
        add(Parameter("x"), Parameter("y", default=5))
    flow.run(x=1)
    reader = Reader(store)
    (run,) = reader.runs()
    assert '"x": 1' in run.parameters
    assert '"y": 5' in run.parameters
    assert [row.name for row in reader.tasks(run.id)] == ["add"]


def test_running_while_drawing_is_refused() -> None:
    """``flow.run()`` inside the block is a RuntimeError; once the block is closed it runs."""
    with Flow("eager") as flow:
        one()
        with pytest.raises(RuntimeError, match="after the `with` block"):
            flow.run()
    assert flow.run().is_successful()


def test_a_cycle_is_refused_by_name() -> None:
    """A cycle is a ValueError that names its tasks in order, before anything runs."""
    with Flow("round") as flow:
        a = one()
        b = add(a)
        a.set_upstream(b)
    with pytest.raises(ValueError, match=r"has a cycle: one → add → one$"):
        flow.run()
    with pytest.raises(ValueError, match="cycle"):
        flow.validate()


def test_a_wrong_call_is_refused_while_drawing() -> None:
    """Arguments a task does not take, and nodes of another flow, are refused where they are written."""
    with Flow("other"):
        stranger = one()
    with Flow("wrong"):
        with pytest.raises(TypeError, match="add"):
            add()
        with pytest.raises(ValueError, match="another flow"):
            add(stranger)


def test_the_same_task_may_be_called_often(store: Path) -> None:
    """Each call is a node with a name of its own."""
    with Flow("often") as flow:
        first, second = one(), one()
        add(first, second)
    assert [node.name for node in flow.sorted_tasks()] == ["one", "one-2", "add"]
    assert flow.run().is_successful()
    reader = Reader(store)
    assert sorted(row.name for row in reader.tasks(reader.runs()[0].id)) == ["add", "one", "one-2"]


def test_visualize_draws_the_graph(tmp_path: Path) -> None:
    """The figure has every task and edge, mapped ones dashed, coloured by the states of a run."""
    with Flow("figure") as flow:
        values = numbers(Parameter("count", default=2))
        add.map(values)
    figure = flow.visualize(filename=str(tmp_path / "figure.mmd"))
    assert figure == (tmp_path / "figure.mmd").read_text().rstrip("\n")
    assert figure.splitlines() == [
        "graph TD",
        '    n0(["count"])',
        '    n1["numbers"]',
        '    n2["add (mapped)"]',
        "    n0 -->|count| n1",
        "    n1 -.->|x| n2",
    ]
    assert flow.visualize(format="text").splitlines() == ["count", "└─ numbers", "   └─ add (mapped)"]
    assert "style n2 fill:#28a745" in flow.visualize(flow_state=flow.run())


def test_executors_one_after_another() -> None:
    """``LocalExecutor`` runs the tasks of a flow one at a time."""
    running = threading.Lock()

    @task
    def alone(number: int) -> int:
        assert running.acquire(blocking=False), "two tasks ran at the same time"
        try:
            return number
        finally:
            running.release()

    with Flow("alone", executor=LocalExecutor()) as flow:
        mapped = alone.map(list(range(20)))
    assert flow.run().result[mapped].result == list(range(20))
    with Flow("alone by argument") as flow:
        alone.map(list(range(20)))
    assert flow.run(executor=LocalExecutor()).is_successful()


def test_a_flow_can_run_twice(store: Path) -> None:
    """Each call of ``run`` is a run of its own."""
    with Flow("twice") as flow:
        result = one()
    assert [flow.run().result[result].result for _ in range(2)] == [1, 1]
    assert len(Reader(store).runs()) == 2


def test_a_retry_runs_only_what_did_not_complete(store: Path, tmp_path: Path) -> None:
    """A graph is journalled like any flow: after a failure, finished nodes keep their results, the rest runs."""
    file = tmp_path / "counted.py"
    file.write_text(
        "from pathlib import Path\n"
        "from flowdeck import Flow, task\n"
        f"ran, mended = Path({str(tmp_path / 'ran')!r}), Path({str(tmp_path / 'mended')!r})\n"
        "@task\n"
        "def numbers():\n"
        "    with ran.open('a') as file:\n"
        "        file.write('numbers ')\n"
        "    return [1, 2]\n"
        "@task\n"
        "def double(x):\n"
        "    with ran.open('a') as file:\n"
        "        file.write(f'double-{x} ')\n"
        "    return 2 * x\n"
        "@task\n"
        "def total(values):\n"
        "    if not mended.exists():\n"
        "        raise ValueError('not yet')\n"
        "    print('total', sum(values))\n"
        "with Flow('counted') as flow:\n"
        "    total(double.map(numbers()))\n"
        "flow.run()\n"
    )
    flowdeck = [sys.executable, "-m", "flowdeck"]
    first = subprocess.run([*flowdeck, "run", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert first.returncode == 1, first.stderr
    (tmp_path / "mended").touch()
    again = subprocess.run([*flowdeck, "retry", "--here", "1"], capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 0, again.stderr
    assert "total 6" in again.stdout
    assert sorted((tmp_path / "ran").read_text().split()) == ["double-1", "double-2", "numbers"]
    (run,) = Reader(store).runs()
    assert (run.attempt, run.state_type) == (2, "COMPLETED")
