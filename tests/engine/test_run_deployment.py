"""``run_deployment`` within a run: what is waited for ends with who waits, and each says whose it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

FAMILY = """
    from flowdeck import run_deployment, suspend_flow_run, sleep
    import ctypes

    @flow
    def grandchild():
        effect("grandchild")
        while not os.path.exists(HERE + "/go"):
            time.sleep(0.01)

    @flow
    def child():
        effect("child")
        run_deployment("grandchild")
        return 1

    @task
    def asks():
        run_deployment("child")

    @flow
    def inner():
        asks()

    @flow
    def by_flow():
        run_deployment("child")

    @flow
    def by_task_of_a_subflow():
        inner()

    @flow
    def by_submitted_task():
        asks.submit().result()

    @flow
    def in_c_code():
        asks.submit()
        wait_for("hold")
        ctypes.PyDLL(None).sleep(300)

    @flow(timeout_seconds=2)
    def times_out():
        run_deployment("child")

    @flow
    def does_not_wait():
        run_deployment("child", timeout=0)
        run_deployment("child", as_subflow=False, timeout=0.1)
        run_deployment("child", timeout=0.1)
        effect("waits no more")
        while True:
            time.sleep(0.01)

    @flow(crash_retries=1)
    def dies():
        effect("begins")
        run_deployment("child")
        effect("done")
"""


def of_flow(box, name):
    return [run for run in box.reader.runs(roots_only=True) if run.flow_name == name]


def one(box, name):
    return box.wait(lambda: of_flow(box, name))[0]


def show(box, run_id, *words):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "flowdeck", "--store", str(box.folder), "show", str(run_id), *words],
        capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    return done.stdout


@pytest.fixture
def family(box):
    box.write("family.py", FAMILY)
    box.daemon(FLOWDECK_CANCEL_GRACE_SECONDS="1")
    return box


@pytest.mark.parametrize("name", ["by_flow", "by_task_of_a_subflow", "by_submitted_task", "in_c_code"])
def test_who_waits_takes_along_what_it_waits_for(family, name) -> None:
    """However deep, wherever in the run it is waited for, and if its own process hears nothing at all."""
    run_id = family.submit(name)
    family.wait_effects("grandchild")
    child, grandchild = one(family, "child"), one(family, "grandchild")
    family.wait(lambda: one(family, "grandchild").parent_seq is not None)
    assert "which waits for it" in show(family, child.id)
    assert json.loads(show(family, grandchild.id, "--json"))["parent"] == child.id
    assert f"#{grandchild.id} grandchild: Running, waited for" in show(family, child.id)
    if name == "in_c_code":
        family.touch("hold")
    family.control.cancel(run_id)
    for run in (child, grandchild):
        ended = family.wait_state(run.id, "Cancelled")
        assert "which wait" in ended.cause
    family.wait_state(run_id, "Cancelled")
    assert "tester" in family.reader.run(run_id).cause


@pytest.mark.parametrize("how", ["a part by itself", "its flow's timeout"])
def test_a_wait_that_is_ended_ends_what_it_waited_for(family, how) -> None:
    """The node that waits is cancelled, or its time is up."""
    run_id = family.submit("by_task_of_a_subflow" if how == "a part by itself" else "times_out")
    family.wait(lambda: of_flow(family, "child"))
    if how == "a part by itself":
        family.wait_effects("grandchild")
        inner = next(run for run in family.reader.runs(roots_only=False) if run.flow_name == "inner")
        family.control.cancel(inner.id)
    child = family.wait_state(one(family, "child").id, "Cancelled")
    assert "which waited for it" in child.cause
    for run in of_flow(family, "grandchild"):
        family.wait_state(run.id, "Cancelled")
    assert family.wait(lambda: family.reader.run(run_id).ended_at_us)


def test_what_nobody_waits_for_goes_on(family) -> None:
    """Not waited for, not as a subflow, or no longer: cancelling who asked leaves it alone."""
    run_id = family.submit("does_not_wait")
    family.wait_effects("waits no more")
    family.control.cancel(run_id)
    family.wait_state(run_id, "Cancelled")
    family.touch("go")
    children = of_flow(family, "child")
    assert len(children) == 3, children
    for child in children:
        assert family.wait(lambda child=child: family.reader.run(child.id).ended_at_us)
        assert family.state(child.id) == "Completed"
    assert sorted(child.parent_run_id or 0 for child in of_flow(family, "child")) == [0, run_id, run_id]


def test_who_dies_and_goes_on_waits_for_the_same(family) -> None:
    """A crash, or a suspension, of the one that waits does not end what it waits for, which is found again."""
    run_id = family.submit("dies")
    family.wait_effects("grandchild")
    os.kill(family.reader.lease_of(run_id).pid, 9)
    family.wait(lambda: family.effects().count("begins") == 2)
    family.touch("go")
    family.wait_state(run_id, "Completed")
    assert [run.state_name for run in of_flow(family, "child")] == ["Completed"]
