"""What Prefect 1's own documentation does, as its readers write it: idioms and examples in our words."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import flowdeck
import pytest
from flowdeck import Edge, Flow, Parameter, Task, task, unmapped
from flowdeck.signals import LOOP
from flowdeck.store.reader import Reader

pytestmark = pytest.mark.usefixtures("store")


class Extract(Task):
    """As in the idiom on testing flows."""

    def run(self) -> int:
        return 10


class Transform(Task):
    def run(self, x: int) -> int:
        return x + 10


class Load(Task):
    def run(self, x: int) -> None:
        self.logger.info("loading %s", x)


def test_testing_flows(reader: Reader) -> None:
    """Composition, states and results of an imperative flow; a task's own logger writes to its run."""
    e, t, load = Extract(), Transform(), Load()
    flow = Flow("testing-example")
    flow.add_edge(upstream_task=e, downstream_task=t, key="x")
    flow.add_edge(upstream_task=t, downstream_task=load, key="x")
    assert e in flow.tasks
    assert len(flow.tasks) == 3
    assert flow.root_tasks() == {e}
    assert flow.terminal_tasks() == {load}
    assert len(flow.edges) == 2
    assert Edge(upstream_task=e, downstream_task=t, key="x") in flow.edges
    state = flow.run()
    assert state.is_successful()
    assert [state.result[node].result for node in (e, t, load)] == [10, 20, None]
    (line,) = [line for line in reader.logs(1) if "loading" in line.message]
    assert (line.message, line.task_seq) == ("loading 20", 3)


def test_imperative_mapping() -> None:
    """Parameters and mapped edges set by hand, outside of any block."""

    class Numbers(Task):
        def run(self, total: int) -> list[int]:
            return list(range(total))

    class Output(Task):
        def run(self, n: int, multiple: int) -> int:
            return n * multiple

    flow = Flow("unmapped-values")
    total, multiple = Parameter("total"), Parameter("multiple")
    numbers, output = Numbers(), Output()
    numbers.set_upstream(total, key="total", flow=flow)
    output.set_upstream(numbers, key="n", mapped=True, flow=flow)
    output.set_upstream(multiple, key="multiple", mapped=False, flow=flow)
    assert flow.parameters() == {total, multiple}
    assert flow.parameters_schema()["required"] == ["total", "multiple"]
    assert flow.run(total=3, multiple=5).result[output].result == [0, 5, 10]


def test_mapping_over_what_is_only_waited_for() -> None:
    """``map(upstream_tasks=[list_task])`` runs once for each element, without taking it."""
    ran: list[int] = []

    @task
    def numbers() -> list[int]:
        return [7, 8, 9]

    @task(max_retries=1, retry_delay=timedelta(seconds=0))
    def work() -> None:
        ran.append(1)

    with Flow("random-mapping") as flow:
        final = work.map(upstream_tasks=[numbers])
    state = flow.run()
    assert len(state.result[final].map_states) == len(ran) == 3


def test_piping() -> None:
    """``|`` orders without passing anything on, ``pipe`` passes on."""
    order: list[str] = []

    @task
    def step(name: str) -> str:
        order.append(name)
        return name

    with Flow("pipes") as flow:
        a, b, c = step("a"), step("b"), step("c")
        assert (c | b | a) is a
        piped = task(lambda x, y: x + y, name="join")
        d = step("d").pipe(piped, y="!")
    state = flow.run()
    assert [name for name in order if name != "d"] == ["c", "b", "a"]
    assert state.result[d].result == "d!"


def test_a_handler_keeps_notes_on_states(reader: Reader) -> None:
    """The old state of a change is the new one of the change before, with what a handler put on it."""

    def timestamper(subject: Any, old_state: Any, new_state: Any) -> Any:
        new_state.number = getattr(old_state, "number", 0) + 1
        subject.logger.info("change %d", new_state.number)
        return new_state

    @task(state_handlers=[timestamper])
    def sleeper() -> None:
        """Nothing."""

    Flow("log-task-duration", tasks=[sleeper]).run()
    assert [line.message for line in reader.logs(1) if line.message.startswith("change")] == ["change 1", "change 2"]


def test_task_looping() -> None:
    """The Fibonacci example, with a table in the place of its web service."""
    fibonacci = [0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144]

    @task(max_retries=5, retry_delay=timedelta(seconds=2))
    def compute_large_fibonacci(M: int) -> int:  # noqa: N803
        loop_payload = flowdeck.context.get("task_loop_result", {})
        n, fib = loop_payload.get("n", 1), loop_payload.get("fib", 1)
        next_fib = fibonacci[n]
        if next_fib > M:
            return fib
        raise LOOP(message=f"Fib {n}={next_fib}", result={"n": n + 1, "fib": next_fib})

    with Flow("fibonacci") as flow:
        fib_num = compute_large_fibonacci(Parameter("M"))
    assert flow.run(M=100).result[fib_num].result == 89


def test_task_run_names(reader: Reader) -> None:
    """A function of the inputs names each run, so that the failed one is seen."""

    @task(task_run_name=lambda **kwargs: f"compute {kwargs['val']}")
    def compute(val: str) -> None:
        if val == "demo":
            raise ValueError("Nope!")

    with Flow("task_run_names") as flow:
        compute.map(["value", "test", "demo"])
    flow.run()
    (failed,) = [row for row in reader.tasks(1) if row.state_type == "FAILED"]
    assert failed.name == "compute demo"


def test_a_tasks_logger_outside_a_run() -> None:
    """It is there, so that a task can be tested by calling its run."""
    Load().run(5)
    assert Transform().run(5) == 15


def test_an_etl_port(reader: Reader, capfd: pytest.CaptureFixture[str]) -> None:
    """The shape of most flows: a parameter with a default, a list, a map, a reduction, output logged."""

    @task(log_stdout=True)
    def load(rows: list[int], table: str) -> None:
        print(f"{len(rows)} rows into {table}")

    with Flow("etl") as flow:
        table = Parameter("table", default="raw")
        rows = task(lambda: [1, 2, 3], name="extract")()
        clean = task(lambda row, table: row * 10, name="clean").map(rows, unmapped(table))
        load(clean, table=table)
    assert flow.run(table="clean").is_successful()
    assert re.search(r"3 rows into clean", capfd.readouterr().out)
    assert any("3 rows into clean" in line.message for line in reader.logs(1))
