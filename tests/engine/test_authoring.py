"""What can be a task or a flow, states as return values, what code knows of its run, and runs of deployments."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flowdeck import (
    Cancelled,
    Completed,
    Crashed,
    Failed,
    FlowdeckError,
    Paused,
    flow,
    opaque,
    quote,
    runtime,
    tags,
    task,
)  # fmt: skip
from flowdeck.store.reader import Reader


@pytest.fixture
def here(store: Path) -> Path:
    """A store for flows called in the test."""
    return store


def test_methods_of_every_kind(here: Path) -> None:
    """Instance, class and static methods, the decorator above or below Python's own."""

    class Warehouse:
        prefix = "w"

        def __init__(self, name: str) -> None:
            self.name = name

        @task
        def own(self, text: str) -> str:
            return f"{self.name}-{text}"

        @classmethod
        @task
        def of_class(cls, text: str) -> str:
            return f"{cls.prefix}-{text}"

        @task
        @classmethod
        def of_class_too(cls, text: str) -> str:
            return f"{cls.prefix}+{text}"

        @staticmethod
        @task
        def plain(text: str) -> str:
            return text.upper()

        @task
        @staticmethod
        def plain_too(text: str) -> str:
            return text.lower()

        @flow
        def load(self, text: str) -> list[str]:
            return [
                self.own(text), self.of_class(text), self.of_class_too(text), self.plain(text), self.plain_too(text),
                Warehouse.of_class_too.with_options(name="renamed")(text), self.own.submit(text).result(),
                *self.own.map(["x", "y"]).result(),
            ]

    assert Warehouse("a").load("T") == ["a-T", "w-T", "w+T", "T", "t", "w+T", "a-T", "a-x", "a-y"]


def test_partials_and_objects_that_can_be_called(here: Path, reader: Reader) -> None:
    """Each is named after what it stands for."""

    class Adder:
        def __call__(self, number: int) -> int:
            return number + 1

    class Waiter:
        async def __call__(self, number: int) -> int:
            await asyncio.sleep(0)
            return number + 2

    def power(base: int, exponent: int) -> int:
        return int(base**exponent)

    @flow
    def calls() -> list[int]:
        return [task(Adder())(1), task(Waiter()).submit(1).result(), task(partial(power, exponent=3))(2)]

    assert calls() == [2, 3, 8]
    run = reader.find("@last")
    assert run is not None
    assert {row.key for row in reader.tasks(run.id)} == {"Adder", "Waiter", "power"}


@pytest.mark.parametrize(
    ("returned", "ends"),
    [
        (Cancelled(message="nothing to do"), ("CANCELLED", "Cancelled", "nothing to do")),
        (Cancelled(name="TooLate"), ("CANCELLED", "TooLate", None)),
        (Crashed(message="lost"), ("CRASHED", "Crashed", "lost")),
        (Completed(name="Skipped for today", data=3), ("COMPLETED", "Skipped for today", None)),
        (Failed(message="bad rows"), ("FAILED", "Failed", "bad rows")),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_returned_state_ends_the_run(here: Path, reader: Reader, returned: Any, ends: tuple[Any, ...]) -> None:
    """Of a flow and of a task."""

    @task
    def leaf() -> Any:
        return returned

    @flow
    def ends_so() -> Any:
        return leaf(return_state=True)

    state = ends_so(return_state=True)
    assert (state.type, state.name, state.message) == ends
    run = reader.find("@last")
    assert run is not None
    row = reader.tasks(run.id)[0]
    assert (row.state_type, row.state_name, row.cause) == ends
    assert (run.state_type, run.state_name) == ends[:2]


def test_a_state_that_is_not_final_cannot_be_returned(here: Path) -> None:
    """The run fails with words."""

    @flow
    def stops() -> Any:
        return Paused(message="later")

    state = stops(return_state=True)
    assert state.is_failed()
    assert "not final" in state.message


def test_what_running_code_knows_of_its_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the flow, in a task of it, in a subflow; nothing outside; an environment variable stands in."""
    assert (runtime.flow_run.id, runtime.flow_run.parameters, runtime.task_run.name) == (None, {}, None)
    assert (runtime.flow_run.tags, runtime.flow_run.run_count, runtime.deployment.name) == ([], 0, None)

    @task(tags=["leafy"])
    def leaf(number: int) -> dict[str, Any]:
        part = runtime.task_run
        return {"name": part.name, "task": part.task_name, "parameters": part.parameters, "tags": part.tags,
                "count": part.run_count, "id": part.id, "flow": runtime.flow_run.name}

    @flow
    def inner() -> tuple[Any, ...]:
        return runtime.flow_run.flow_name, runtime.flow_run.parent_flow_run_id, runtime.flow_run.root_flow_run_id

    @flow(name="outer", version="7", flow_run_name="the run of {day}")
    def outer(day: str) -> list[Any]:
        part = runtime.flow_run
        own = (part.id, part.name, part.flow_version, part.parameters, part.tags, part.run_count)
        assert part.scheduled_start_time.tzinfo is not None
        return [own, leaf(5), inner(), runtime.deployment.name]

    with tags("night"):
        own, of_task, of_inner, deployment = outer("monday")
    run_id = own[0]
    assert own == (run_id, "the run of monday", "7", {"day": "monday"}, ["night"], 1)
    assert of_task == {"name": "leaf", "task": "leaf", "parameters": {"number": 5}, "tags": ["leafy", "night"],
                       "count": 1, "id": f"{run_id}/1", "flow": "the run of monday"}
    assert of_inner == ("inner", run_id, run_id)
    assert deployment is None
    monkeypatch.setenv("FLOWDECK__RUNTIME__FLOW_RUN__NAME", "made up")
    monkeypatch.setenv("FLOWDECK__RUNTIME__TASK_RUN__RUN_COUNT", "4")
    assert (runtime.flow_run.name, runtime.task_run.run_count) == ("made up", 4)
    with pytest.raises(AttributeError, match="no attribute 'colour'; it has id, name"):
        _ = runtime.flow_run.colour


def test_opaque_values_are_looked_into_no_further_than_themselves(here: Path) -> None:
    """A future is resolved, a list of futures is passed as it is; quoted, neither is."""

    @task
    def one() -> int:
        return 1

    @task
    def kinds(*values: Any) -> list[str]:
        return [type(value).__name__ for value in values]

    @flow
    def passes() -> list[str]:
        future = one.submit()
        found: list[str] = kinds(opaque(future), opaque([future]), quote(future), [future])
        return found

    assert passes() == ["int", "list", "Future", "list"]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda a_task, _flow: a_task.delay(1), "no task workers"),
        (lambda a_task, _flow: a_task.serve(), "no task workers"),
        (lambda _task, a_flow: a_flow.serve(name="x", cron="* * * * *", interval=3), "give one of interval"),
        (lambda _task, a_flow: a_flow.serve(name="x", corn="* * * * *"), "did you mean 'cron'"),
        (lambda _task, a_flow: a_flow.to_deployment("x", parameters={"day": 1}), "has no parameter 'day'"),
        (lambda _task, a_flow: a_flow.deploy(work_pool_name="p"), "flowdeck daemon"),
        (lambda a_task, _flow: a_task.with_options(retrys=1), "did you mean 'retries'"),
        (lambda a_task, _flow: task(a_task.fn, on_completion=print), "on_completion takes a list"),
        (lambda a_task, _flow: task(a_task.fn, on_failure=["mail"]), "must be a function"),
        (lambda a_task, _flow: task(a_task.fn, timeout_seconds="soon"), "timeout_seconds must be more than 0"),
        (lambda a_task, _flow: task(a_task.fn, name=5), "name must be a text"),
        (lambda _task, _flow: flow(3), "@flow needs a function"),
    ],
)
def test_what_has_no_meaning_here_is_refused_with_the_remedy(call: Callable[..., Any], says: str) -> None:
    """One error of ours that names it."""

    @task
    def leaf(number: int) -> int:
        return number

    @flow
    def tree() -> None:
        pass

    with pytest.raises(FlowdeckError, match=says):
        call(leaf, tree)


def test_a_run_has_deployments_run_and_makes_each_once(box: Any) -> None:
    """The daemon runs it; a retry of the asking run finds the run it made."""
    box.write("both.py", """
        from flowdeck import run_deployment

        @flow
        def child(n: int):
            effect("child")
            if n < 0:
                raise ValueError("negative")
            return n

        @flow(retries=1)
        def parent():
            made = run_deployment("child/child", parameters={"n": 5})
            assert made.state.is_completed(), made
            effect("asked")
            bad = run_deployment("child", parameters={"n": -1})
            assert bad.state.is_failed() and "negative" in bad.state.message
            later = run_deployment("child", parameters={"n": 2}, timeout=0)
            import os
            if not os.path.exists(HERE + "/once"):
                assert not later.state.is_completed()  # nobody waited
                open(HERE + "/once", "w").close()
                raise RuntimeError("once")
    """)
    box.daemon()
    run_id = box.submit("parent")
    box.wait_state(run_id, "Completed")
    box.wait(lambda: sum(run.flow_name == "child" and run.ended_at_us is not None for run in box.reader.runs()) == 3)
    made = sorted(run.parameters for run in box.reader.runs() if run.flow_name == "child")
    assert made == ['{"n": -1}', '{"n": 2}', '{"n": 5}']


def test_a_script_serves_its_flows_under_names_of_their_own(box: Any) -> None:
    """Schedules, parameters and a pause of each deployment hold, beside the flows of the file itself."""
    path = box.write("served.py", """
        from flowdeck import serve

        @flow
        def etl(source: str = "us"):
            effect(source)

        if __name__ == "__main__":
            serve(
                etl.to_deployment("nightly", interval=0.5, parameters={"source": "eu"}),
                etl.to_deployment("held", cron="* * * * *", paused=True),
            )
    """)
    process = box.script(path)
    box.wait_effects("eu", "eu")
    assert {row.name: row.flow_name for row in box.reader.deployments()} == {
        "etl": "etl", "nightly": "etl", "held": "etl",
    }
    assert {row.deployment: row.active for row in box.reader.schedules()} == {"nightly": True, "held": False}
    run_id = box.submit("held", source="asked")
    box.wait_state(run_id, "Completed")
    assert "asked" in box.effects()
    process.terminate()
    assert process.wait(60) == 0


@pytest.mark.parametrize("name", [None, "nightly"])
def test_a_served_flow_keeps_the_schedule_that_stands_on_it(box: Any, name: str | None) -> None:
    """Under whatever name it is served, and once: the file's own deployment does not fire beside it."""
    path = box.write("served.py", f"""
        @flow(schedule=Interval(0.5))
        def etl():
            effect("ran")

        if __name__ == "__main__":
            etl.serve({"" if name is None else repr(name)})
    """)
    process = box.script(path)
    box.wait_effects("ran", "ran")
    assert {(row.deployment, row.active) for row in box.reader.schedules()} == {(name or "etl", True)}
    ticks = [run.scheduled_at_us for run in box.reader.runs()]
    assert len(ticks) == len(set(ticks))
    process.terminate()
    assert process.wait(60) == 0


def test_a_default_keeps_its_type_in_a_submitted_run(box: Any) -> None:
    """What JSON would change (a date, a tuple) is left to the function."""
    box.write("etl.py", """
        from datetime import date

        @flow
        def etl(day=date(2020, 1, 1), pair=(1, 2), n=3):
            effect(f"{type(day).__name__} {type(pair).__name__} {n}")
    """)
    box.daemon()
    box.wait_state(box.submit("etl"), "Completed")
    box.wait_state(box.submit("etl", n=4), "Completed")
    assert box.effects() == ["date tuple 3", "date tuple 4"]
