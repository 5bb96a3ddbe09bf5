"""Names of runs: templates, functions, defaults; names of flows and tasks."""

from __future__ import annotations

import datetime

import pytest

from .names import flow, runtime, task
from .records import flow_run, flow_runs, task_runs


def test_a_flow_run_has_a_name_by_default() -> None:
    """Two runs, two names."""

    @flow(name="compat default names")
    def any_flow():
        pass

    any_flow()
    any_flow()
    names = [run.name for run in flow_runs("compat default names")]
    assert all(names)
    assert len(set(names)) == 2


def test_a_flow_run_name_is_a_text() -> None:
    """As written."""

    @flow(name="compat fixed name", flow_run_name="always this")
    def any_flow():
        pass

    any_flow()
    assert flow_run("compat fixed name").name == "always this"


def test_a_flow_run_name_is_a_template_of_parameters() -> None:
    """With defaults, and formats as Python has them."""

    @flow(name="compat template", flow_run_name="{x}-on-{day:%A}")
    def any_flow(x, day=datetime.date(2026, 11, 22)):
        pass

    any_flow("run")
    assert flow_run("compat template").name == "run-on-Sunday"


def test_a_flow_run_name_is_made_by_a_function() -> None:
    """Called for each run."""
    made = []

    def make() -> str:
        made.append(1)
        return f"made {len(made)}"

    @flow(name="compat name function", flow_run_name=make)
    def any_flow():
        pass

    any_flow()
    any_flow()
    assert [run.name for run in flow_runs("compat name function")] == ["made 1", "made 2"]


def test_a_name_function_sees_the_run() -> None:
    """Through ``runtime``."""

    def make() -> str:
        return f"{runtime.flow_run.flow_name} with {runtime.flow_run.parameters['x']}"

    @flow(name="compat seeing name", flow_run_name=make)
    def any_flow(x):
        pass

    any_flow(3)
    assert flow_run("compat seeing name").name == "compat seeing name with 3"


def test_the_name_is_set_once() -> None:
    """Not again at a retry."""
    made, attempts = [], []

    def make() -> str:
        made.append(1)
        return f"name {len(made)}"

    @flow(name="compat once named", flow_run_name=make, retries=2)
    def flaky():
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError("not yet")

    flaky()
    assert len(made) == 1
    assert flow_run("compat once named").name == "name 1"


def test_a_subflows_run_name() -> None:
    """By its own template."""

    @flow(name="compat named child", flow_run_name="child {x}")
    def child(x):
        pass

    @flow
    def parent():
        child(1)
        child(2)

    parent()
    assert [run.name for run in flow_runs("compat named child")] == ["child 1", "child 2"]


def test_a_task_run_name_begins_with_the_tasks() -> None:
    """By default."""

    @task(name="compat named task")
    def any_task():
        pass

    @flow(name="compat default task names")
    def parent():
        any_task()
        any_task()

    parent()
    names = [run.name for run in task_runs("compat default task names")]
    assert len(set(names)) == 2
    assert all(name.startswith("compat named task") for name in names)


def test_a_task_run_name_is_a_template() -> None:
    """Of its parameters, defaults too."""

    @task(task_run_name="{x} and {y}")
    def any_task(x, y="default"):
        pass

    @flow(name="compat task template")
    def parent():
        any_task(1)
        any_task.submit(2, y=3).wait()

    parent()
    assert sorted(run.name for run in task_runs("compat task template")) == ["1 and default", "2 and 3"]


def test_a_task_run_name_is_made_by_a_function() -> None:
    """Called for each run."""

    @task(task_run_name=lambda: "made by a function")
    def any_task():
        pass

    @flow(name="compat task name function")
    def parent():
        any_task()

    parent()
    assert task_runs("compat task name function")[0].name == "made by a function"


def test_a_task_name_function_may_take_the_parameters() -> None:
    """When it has a parameter of that name."""

    def make(parameters):
        return f"x is {parameters['x']}"

    @task(task_run_name=make)
    def any_task(x):
        pass

    @flow(name="compat task name from parameters")
    def parent():
        any_task(4)

    parent()
    assert task_runs("compat task name from parameters")[0].name == "x is 4"


def test_a_task_run_name_of_a_futures_value() -> None:
    """Known once the upstream task has ended."""

    @task(task_run_name="number")
    def number():
        return 7

    @task(task_run_name="got {x}")
    def gets(x):
        return x

    @flow(name="compat name of a future")
    def parent():
        gets.submit(number.submit()).wait()

    parent()
    assert sorted(run.name for run in task_runs("compat name of a future")) == ["got 7", "number"]


def test_mapped_runs_have_names_of_their_elements() -> None:
    """By the template."""

    @task(task_run_name="element-{x}")
    def one(x):
        pass

    @flow(name="compat element names")
    def parent():
        one.map([1, 2, 3]).wait()

    parent()
    assert sorted(run.name for run in task_runs("compat element names")) == ["element-1", "element-2", "element-3"]


def test_a_flows_name_must_be_a_text() -> None:
    """Refused where it is written."""
    with pytest.raises(Exception, match="name"):

        @flow(name=lambda: "no")
        def anything():
            pass


@pytest.mark.parametrize(("kind", "option"), [(flow, "flow_run_name"), (task, "task_run_name")])
def test_a_run_name_must_be_text_or_function(kind, option) -> None:
    """Refused where it is written, or at the call."""
    with pytest.raises(Exception, match=option):  # noqa: PT012 - here or there

        @kind(**{option: 5})
        def anything():
            pass

        anything()
