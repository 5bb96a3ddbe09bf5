"""What the examples of Prefect 3's documentation (docs/v3, Apache-2.0) show, in our own words; a test for each kind.

The examples themselves, and what became of each, are listed in docs/migrating-from-prefect.md.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Literal
from uuid import uuid4

import pydantic
import pytest

from .names import (
    INPUTS,
    RUN_ID,
    TASK_SOURCE,
    Artifact,
    CacheKeyFnPolicy,
    Completed,
    Event,
    Failed,
    PrefectFuture,
    RunInput,
    Secret,
    ThreadPoolTaskRunner,
    Variable,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    emit_event,
    flow,
    get_run_logger,
    opaque,
    pause_flow_run,
    quote,
    receive_input,
    resume_flow_run,
    runtime,
    send_input,
    tags,
    task,
    transaction,
    unmapped,
    update_progress_artifact,
    wait,
    with_context,
)  # fmt: skip
from .records import flow_run, log_lines, task_runs


def test_quickstart_map_over_customers() -> None:
    """get-started/quickstart: a task gives a list, another is mapped over it, the futures are returned."""

    @task
    def customer_ids():
        return [f"customer-{n}" for n in range(10)]

    @task
    def process(customer):
        return f"did {customer}"

    @flow
    def main():
        return process.map(customer_ids())

    assert main(return_state=True).is_completed()


def test_hello_world_with_tags(capsys: pytest.CaptureFixture[str]) -> None:
    """examples/hello-world: called several times inside a tags block."""

    @flow(name="docs hello", log_prints=True)
    def hello(name: str = "Marvin") -> None:
        print(f"Hello, {name}!")

    with tags("test"):
        hello()
        for name in ("Zaphod", "Trillian"):
            hello(name)
    assert flow_run("docs hello").tags == {"test"}
    assert flow_run("docs hello").parameters == {"name": "Trillian"}


def test_flow_signature_and_schema() -> None:
    """concepts/flows: a flow keeps its function's signature."""

    @flow
    def typed(x: int, y: str, z: bool | None = None):
        pass

    assert list(inspect.signature(typed).parameters) == ["x", "y", "z"]


def test_final_state_by_what_is_returned() -> None:
    """concepts/flows: a failing task does not fail a flow that returns a state of its own making."""

    @task
    def fails():
        raise ValueError("I fail successfully")

    @task
    def works():
        return "success"

    @flow
    def judged():
        broken, good = fails.submit(), works.submit()
        broken.wait()
        return Completed(message="I am happy") if good.result() == "success" else Failed(message="How?")

    state = judged(return_state=True)
    assert state.is_completed()
    assert state.message == "I am happy"


def test_skipping_by_name() -> None:
    """concepts/flows: a Completed state of another name."""

    @flow(name="docs skip")
    def works(to_do: bool):
        return Completed(message="done") if to_do else Completed(message="nothing to do", name="Skipped")

    assert works(False, return_state=True).name == "Skipped"
    assert flow_run("docs skip").state == "Skipped"


def test_states_of_tasks_returned_together() -> None:
    """concepts/states: one of the two states that a flow returns is Failed."""

    @task
    def toggle(fail: bool):
        return Failed(message="told to") if fail else Completed(message="told to")

    @flow
    def example():
        return toggle(fail=True, return_state=True), toggle(fail=False, return_state=True)

    assert example(return_state=True).is_failed()


def test_a_dataclass_with_a_future_inside() -> None:
    """concepts/tasks: the future is replaced in a copy that the task is given."""

    @dataclass
    class Pipeline:
        base: float
        rate: Any = None

    @task
    def get_rate():
        return 100.0

    @task
    def reads(pipeline):
        return pipeline.rate

    @flow
    def parent():
        return reads(Pipeline(base=42.0, rate=get_rate.submit()))

    assert parent() == 100.0


def test_quote_and_opaque_keep_a_dataclass_whole() -> None:
    """concepts/tasks: two ways to say that nothing inside is to be looked for."""

    @dataclass
    class Pipeline:
        base: float

    @task
    def builds():
        return Pipeline(base=2.0)

    @task
    def reads(pipeline):
        return pipeline.base

    @flow
    def parent():
        return reads(quote(Pipeline(base=1.0))), reads.submit(opaque(builds.submit())).result()

    assert list(parent()) == [1.0, 2.0]


def test_an_elevator_with_three_workers() -> None:
    """concepts/task-runners: submitted floors, three at a time, waited for together."""
    inside, most, lock = [], [], threading.Lock()

    @task
    def stop_at(floor):
        with lock:
            inside.append(floor)
            most.append(len(inside))
        time.sleep(0.02)
        with lock:
            inside.remove(floor)
        return floor

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=3))
    def elevator():
        floors = [stop_at.submit(floor) for floor in range(8, 0, -1)]
        wait(floors)
        return [future.result() for future in floors]

    assert elevator() == list(range(8, 0, -1))
    assert max(most) <= 3


def test_async_elevator() -> None:
    """how-to/run-work-concurrently: gathered async tasks."""

    @task
    async def stop_at(floor):
        await asyncio.sleep(0.01)
        return floor

    @flow
    async def elevator():
        return await asyncio.gather(*[stop_at(floor) for floor in range(3)])

    assert asyncio.run(elevator()) == [0, 1, 2]


def test_mapping_with_a_static_value() -> None:
    """how-to/run-work-concurrently: one number for all, one list for all."""

    @task
    def add(x, y):
        return x + y

    @task
    def add_all(x, many):
        return x + sum(many)

    @flow
    def sums(numbers: list[int]):
        return add.map(numbers, 5).result(), add_all.map(numbers, unmapped([1, 2, 3])).result()

    assert list(sums([1, 2, 3])) == [[6, 7, 8], [7, 8, 9]]


def test_tasks_made_of_plain_functions_inside_a_task() -> None:
    """how-to/run-work-concurrently: ``task(function).map`` within a task."""

    def words(text: str) -> int:
        return len(text.split())

    def letters(text: str) -> int:
        return len(text)

    @task
    def analyze(texts):
        futures = {fn.__name__: task(fn).map(texts) for fn in (words, letters)}
        wait([future for each in futures.values() for future in each])
        return {name: [future.result() for future in each] for name, each in futures.items()}

    @flow
    def run():
        return analyze(["a b", "c"])

    assert run() == {"words": [2, 1], "letters": [3, 1]}


def test_sorting_out_what_failed() -> None:
    """how-to/run-work-concurrently: the done futures, by their states."""

    @task
    def process(item):
        if item < 0:
            raise ValueError(f"negative: {item}")
        return f"did {item}"

    @flow
    def batch():
        done, not_done = wait(process.map([1, -2, 3]))
        good = [future.result() for future in done if future.state.is_completed()]
        bad = [future.state for future in done if not future.state.is_completed()]
        return sorted(good), len(bad), len(not_done)

    assert list(batch()) == [["did 1", "did 3"], 1, 0]


def test_names_of_runs_from_parameters() -> None:
    """how-to/custom-metadata, run-work-concurrently: templates that look into an argument."""

    @dataclass
    class Model:
        name: str

    @task(task_run_name="train on {data} with {model.name}")
    def train(data, model):
        pass

    @flow(name="docs names", flow_run_name="hello-{who}")
    def parent(who: str):
        train("rows", Model("forest"))

    parent("marvin")
    assert flow_run("docs names").name == "hello-marvin"
    assert task_runs("docs names")[0].name == "train on rows with forest"


def test_inputs_are_validated() -> None:
    """how-to/pass-inputs: a model with a wrong field; no validation when told so."""

    class Model(pydantic.BaseModel):
        a: int
        b: str

    def validates(model):
        return model

    validates.__annotations__["model"] = Model
    assert flow(validates)({"a": 1, "b": "x"}) == Model(a=1, b="x")
    with pytest.raises(Exception, match="a"):
        flow(validates)({"a": "WRONG", "b": "fine"})
    assert flow(validate_parameters=False)(validates)(1) == 1


def test_methods_generators_and_timeouts_of_flows() -> None:
    """how-to/write-and-run."""

    class Mine:
        @flow
        def instance(self):
            return "instance"

        @flow
        @classmethod
        def of_class(cls):
            return cls.__name__

        @flow
        @staticmethod
        def static():
            return "static"

    @flow
    def counts():
        yield from range(3)

    @flow(timeout_seconds=0.3)
    def slow():
        time.sleep(5)

    assert [Mine().instance(), Mine.of_class(), Mine.static()] == ["instance", "Mine", "static"]
    assert list(counts()) == [0, 1, 2]
    assert slow(return_state=True).name == "TimedOut"


def test_retries_with_a_handler() -> None:
    """how-to/retries: the handler asks the state for its exception."""
    attempts = []

    class Refused(Exception):
        def __init__(self, code: int) -> None:
            super().__init__(str(code))
            self.code = code

    def handler(a_task, task_run, state) -> bool:
        try:
            state.result()
        except Refused as error:
            return error.code not in (401, 404)
        except Exception:
            return True
        return False

    @task(retries=5, retry_condition_fn=handler)
    def call():
        attempts.append(1)
        raise Refused(503 if len(attempts) < 3 else 404)

    @flow
    def parent():
        return call(return_state=True).is_failed()

    assert parent() is True
    assert len(attempts) == 3


def test_cached_steps() -> None:
    """how-to/cache-workflow-steps: by inputs, with one left out, for a time."""
    calls, key = [], uuid4().hex

    @task(cache_policy=INPUTS - "debug", cache_expiration=timedelta(minutes=1))
    def slow(x, debug=False):
        calls.append(debug)
        return 1

    slow(key)
    slow(key, debug=True)
    assert calls == [False]


def test_a_key_for_what_cannot_be_serialized() -> None:
    """advanced/caching: a key function for an object that refuses."""

    class Refuses:
        name = uuid4().hex

        def __getstate__(self) -> Any:
            raise TypeError("never")

    def by_name(context, parameters):
        return parameters["thing"].name

    @task(cache_policy=CacheKeyFnPolicy(cache_key_fn=by_name) + RUN_ID)
    def use(thing):
        return thing.name

    @flow
    def parent():
        thing = Refuses()
        first, second = use(thing, return_state=True), use(thing, return_state=True)
        return first.name, second.name, first.result() == second.result()

    assert list(parent()) == ["Completed", "Cached", True]


def test_several_tasks_cached_together() -> None:
    """advanced/caching: within a transaction nothing is cached until all is done."""
    loads, key = [], uuid4().hex

    @task(cache_key_fn=lambda *_: f"{key}-1")
    def load():
        loads.append(1)
        return "data"

    @task(cache_key_fn=lambda *_: f"{key}-2")
    def process(data, fail):
        if fail:
            raise RuntimeError("Abort!")
        return len(data)

    @flow
    def both(fail):
        with transaction():
            process(load(), fail)
        return "done"

    assert both(True, return_state=True).is_failed()
    assert both(False) == both(False) == "done"
    assert len(loads) == 2


def test_source_and_inputs_make_a_key() -> None:
    """concepts/caching: policies added up."""

    @task(cache_policy=TASK_SOURCE + INPUTS)
    def adds(x: int):
        return x + 42

    assert adds(1) == 43


def test_a_file_that_is_taken_back(tmp_path) -> None:
    """advanced/transactions: written, found wanting, deleted."""
    path = tmp_path / "side-effect.txt"

    @task
    def write(contents):
        path.write_text(contents)

    @write.on_rollback
    def delete(txn):
        assert txn.get("path") == str(path)
        path.unlink()

    @task
    def check():
        if len(path.read_text().splitlines()) < 2:
            raise ValueError("Not enough data!")

    @flow
    def pipeline(contents):
        with transaction() as txn:
            txn.set("path", str(path))
            write(contents)
            check()

    assert pipeline("one line", return_state=True).is_failed()
    assert not path.exists()
    assert pipeline("two\nlines", return_state=True).is_completed()
    assert path.exists()


def test_an_idempotent_block() -> None:
    """advanced/transactions: the second run leaves early."""
    key, wrote = uuid4().hex, []

    @task
    def writes():
        wrote.append(1)

    @flow
    def pipeline():
        with transaction(key=key) as txn:
            if txn.is_committed():
                return "early"
            writes()
        return "wrote"

    assert [pipeline(), pipeline()] == ["wrote", "early"]
    assert len(wrote) == 1


def test_hooks_with_more_arguments() -> None:
    """how-to/state-change-hooks: a partial, put on a copy of the task."""
    seen: dict[str, Any] = {}

    def hook(a_task, run, state, **more):
        seen.update(state=state.name, **more)

    @task
    def bad():
        raise ValueError("meh")

    @flow
    def fine(x: str = "foo"):
        watched = bad.with_options(on_failure=[partial(hook, x=x)])
        return "bar", watched(return_state=True).is_failed()

    assert list(fine()) == ["bar", True]
    assert seen == {"state": "Failed", "x": "foo"}


def test_logging_from_threads_of_ones_own() -> None:
    """how-to/add-logging: the context is copied into each."""

    def process(path):
        get_run_logger().info("Processing %s", path)
        return path

    @task
    def process_all(paths):
        contexts = [copy_context() for _ in paths]
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda context, path: context.run(process, path), contexts, paths))

    @flow(name="docs threads log")
    def parent():
        return process_all(["a", "b"])

    assert parent() == ["a", "b"]
    assert ("INFO", "Processing b") in log_lines("docs threads log", "Processing a", "Processing b")


def logs_and_doubles(item):
    """Runs in a process of the task's own."""
    get_run_logger().info("Processing %s", item)
    return item * 2


def test_logging_from_processes_of_ones_own() -> None:
    """how-to/add-logging: the function takes the run with it."""

    @task
    def process_all(items):
        with multiprocessing.get_context("fork").Pool(2) as pool:
            return pool.map(with_context(logs_and_doubles), items)

    @flow(name="docs processes log")
    def parent():
        return process_all([1, 2])

    assert parent() == [2, 4]
    assert ("INFO", "Processing 2") in log_lines("docs processes log", "Processing 1", "Processing 2")


def test_logs_are_seen_by_pytest(caplog: pytest.LogCaptureFixture) -> None:
    """how-to/test-workflows: caplog has what a run logger says."""
    caplog.set_level(logging.INFO)

    @flow
    def talks():
        get_run_logger().info("Logging from flow")

    talks()
    assert "Logging from flow" in caplog.messages


def test_a_run_that_knows_its_name() -> None:
    """how-to/access-runtime-info."""

    @flow(flow_run_name="quick-fox")
    def moody(name: str):
        return f"{name} instead of {runtime.flow_run.name}"

    assert moody("Marvin") == "Marvin instead of quick-fox"


def test_progress_and_a_report() -> None:
    """how-to/artifacts."""

    @task
    def fetch():
        progress = create_progress_artifact(progress=0.0, description="fetching")
        for batch in range(1, 3):
            update_progress_artifact(artifact_id=progress, progress=batch * 50)

    @flow
    def etl():
        fetch()
        return create_markdown_artifact(key="gtm-report", markdown="# Sales", description="Quarterly")

    assert etl()


@pytest.mark.filterwarnings("ignore:Artifact creation outside")
def test_an_artifact_outside_of_runs_is_fetched() -> None:
    """how-to/artifacts: made by a plain function, got by its key."""
    key = f"reach-out-{uuid4().hex}"
    assert Artifact.get(key) is None
    create_table_artifact(key=key, table=[{"customer": "12345", "churn": 0.85}], description="Reach out!")
    found = Artifact.get(key)
    assert (found.key, found.type, found.description, found.flow_run_id) == (key, "table", "Reach out!", None)
    assert "12345" in found.data


def test_an_event_that_follows_a_state() -> None:
    """how-to/state-change-hooks: a hook emits an event that names the state's own as the one before."""
    emitted = []

    def tell(flow, flow_run, state):
        about = {"prefect.resource.id": f"flow-run.{flow_run.id}"}
        stub = Event(event="Failed", resource=about, id=state.id, occurred=state.timestamp)
        emitted.append((emit_event(event="my-app.handled", resource=about, follows=stub), state))

    @flow(on_failure=[tell])
    def failing():
        raise ValueError("oops!")

    assert failing(return_state=True).is_failed()
    ((event, state),) = emitted
    assert event.event == "my-app.handled"
    assert event.follows == state.id


def test_a_crew_from_a_variable() -> None:
    """how-to/variables: set, read in a flow with a default, changed, removed."""
    name = f"crew_{uuid4().hex}"

    @flow
    def mission():
        return ", ".join(Variable.get(name, default=["Backup"]))

    assert mission() == "Backup"
    Variable.set(name, ["Zaphod", "Arthur"])
    assert mission() == "Zaphod, Arthur"
    Variable.unset(name)


def test_a_crew_in_async_code() -> None:
    """how-to/variables: awaited in an async flow."""
    name = f"crew_{uuid4().hex}"

    @flow
    async def mission():
        return await Variable.get(name, default=["Backup"])

    assert asyncio.run(mission()) == ["Backup"]
    Variable.set(name, ["Zaphod"])
    assert asyncio.run(mission()) == ["Zaphod"]
    Variable.unset(name)


def test_a_secret_is_kept(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """how-to/store-secrets: saved, loaded by name in a flow, changed only when told so."""
    monkeypatch.setenv("FLOWDECK_SECRETS", str(tmp_path))
    name = f"party-{uuid4().hex}"
    Secret(value="surprise on the 15th").save(name)

    @flow
    def reads():
        return len(Secret.load(name).get())

    assert reads() == len("surprise on the 15th")
    with pytest.raises(ValueError, match="overwrite"):
        Secret(value="on the 16th").save(name)
    Secret(value="on the 16th").save(name, overwrite=True)
    assert reads() == len("on the 16th")


def test_large_values_are_not_kept_in_memory() -> None:
    """advanced/results: of a flow and of a task; who asks gets them."""

    @flow(cache_result_in_memory=False, persist_result=True)
    def large():
        return "large"

    @task(cache_result_in_memory=False, persist_result=True)
    def larger():
        return "larger"

    @flow
    def parent():
        return large(return_state=True).result(), larger()

    assert list(parent()) == ["large", "larger"]


def test_a_figure_of_the_calls() -> None:
    """how-to/visualize: what is called and what feeds what, as mermaid; no task runs."""

    @task(name="Print Hello")
    def hello(name):
        raise AssertionError("it ran")

    @flow(name="docs figure")
    def parent(name="world"):
        hello(hello(name))

    drawn = parent.generate_mermaid_graph()
    assert drawn.count("Print Hello") >= 2
    assert drawn.count("-->") == 1


def test_futures_are_annotated() -> None:
    """how-to/run-work-concurrently: the name in an annotation."""

    @task
    def one():
        return 1

    @flow
    def parent():
        futures: list[PrefectFuture[int]] = [one.submit()]
        assert isinstance(futures[0], PrefectFuture)
        return [future.result() for future in futures]

    assert parent() == [1]


class ShirtOrder(RunInput):
    """advanced/interactive: what a person is asked for, with a rule of its own."""

    size: Literal["small", "large"]
    color: Literal["red", "green"]

    @pydantic.model_validator(mode="after")
    def in_stock(self) -> ShirtOrder:
        """Green is there in large only."""
        if self.color == "green" and self.size == "small":
            raise ValueError("Green is only in stock in large.")
        return self


def test_a_shirt_is_ordered() -> None:
    """advanced/interactive: a pause that waits for a valid order."""

    def answer(run_id: Any) -> None:
        while flow_run("docs shirt").state not in ("Paused", "AwaitingInput"):
            time.sleep(0.05)
        resume_flow_run(run_id, run_input={"size": "large", "color": "green"})

    @flow(name="docs shirt")
    def get_order():
        threading.Thread(target=answer, args=(runtime.flow_run.id,), daemon=True).start()
        order = pause_flow_run(wait_for_input=ShirtOrder, timeout=30, poll_interval=1)
        return order.size, order.color

    assert list(get_order()) == ["large", "green"]


def test_a_greeter() -> None:
    """advanced/interactive: names are sent to a run until the exit signal."""

    @flow
    def greeter():
        me = runtime.flow_run.id
        for text in ("andrew", "EXIT"):
            send_input(text, flow_run_id=me)
        greetings = []
        for name in receive_input(str, timeout=20, poll_interval=0.1):
            if name == "EXIT":
                break
            greetings.append(f"Hello, {name}!")
        return greetings

    assert greeter() in (["Hello, andrew!"], [])
