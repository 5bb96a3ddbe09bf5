"""Hooks on states: which are called when, with what, in which order, and what becomes of those that fail."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from flowdeck import Failed, flow, get_run_logger, task
from flowdeck.store.reader import Reader


def noting(seen: list[Any], name: str) -> Any:
    """A hook that notes its name, the run's id and the state's name."""

    def hook(_subject: Any, run: Any, state: Any) -> None:
        seen.append((name, run.id, state.name))

    return hook


def test_hooks_run_on_their_state_only_and_in_order(store: Path) -> None:
    """Of flows and tasks; given as options and by decorator."""
    seen: list[Any] = []

    @task(on_completion=[noting(seen, "t1"), noting(seen, "t2")], on_failure=[noting(seen, "never")])
    def work() -> int:
        return 1

    @flow(on_running=[noting(seen, "running")], on_completion=[noting(seen, "f1")], on_failure=[noting(seen, "never")],
          on_cancellation=[noting(seen, "never")], on_crashed=[noting(seen, "never")])
    def main() -> int:
        return work() + work.submit().result()

    main.on_completion(noting(seen, "f2"))
    assert main() == 2
    assert seen == [
        ("running", 1, "Running"), ("t1", "1/1", "Completed"), ("t2", "1/1", "Completed"), ("t1", "1/2", "Completed"),
        ("t2", "1/2", "Completed"), ("f1", 1, "Completed"), ("f2", 1, "Completed"),
    ]


def test_failure_hooks_wait_for_the_last_retry_and_running_hooks_come_with_each(store: Path) -> None:
    """Once, at the end; an attempt each."""
    seen: list[Any] = []

    @task(retries=2, retry_delay_seconds=0, on_failure=[noting(seen, "failed")], on_running=[noting(seen, "running")])
    def work() -> None:
        raise ValueError("no")

    @flow(retries=1, on_failure=[noting(seen, "flow failed")], on_running=[noting(seen, "flow running")])
    def main() -> None:
        work.submit().result()

    assert main(return_state=True).is_failed()
    assert seen[:5] == [("flow running", 1, "Running"), ("running", "1/1", "Running"), ("running", "1/1", "Retrying"),
                        ("running", "1/1", "Retrying"), ("failed", "1/1", "Failed")]
    assert [name for name, _, _ in seen].count("flow running") == 2
    assert seen[-1] == ("flow failed", 1, "Failed")
    assert [name for name, _, _ in seen].count("flow failed") == 1


def test_a_failing_hook_stops_no_other(store: Path, reader: Reader) -> None:
    """Its traceback is in the log."""
    seen: list[Any] = []

    def broken(_flow: Any, _run: Any, _state: Any) -> None:
        raise RuntimeError("hook is broken")

    @task(on_completion=[broken, noting(seen, "after")])
    def work() -> None: ...

    @flow(on_completion=[broken, noting(seen, "flow after")])
    def main() -> None:
        work()

    assert main(return_state=True).is_completed()
    assert [name for name, _, _ in seen] == ["after", "flow after"]
    lines = [(line.task_seq, line.message) for line in reader.logs(1)]
    assert (1, "hook broken failed") in lines
    assert (None, "hook broken failed") in lines
    assert any("RuntimeError: hook is broken" in message for _, message in lines)


def test_async_hooks_and_their_order(store: Path) -> None:
    """Awaited one after the other, in sync and async flows and on the pool."""
    seen: list[str] = []

    async def slow(_subject: Any, _run: Any, _state: Any) -> None:
        await asyncio.sleep(0.01)
        seen.append("slow")

    def quick(_subject: Any, _run: Any, _state: Any) -> None:
        seen.append("quick")

    @task(on_completion=[slow, quick])
    def work() -> None: ...

    @task(on_completion=[slow, quick])
    async def work_async() -> None: ...

    @flow(on_completion=[slow, quick])
    def main() -> None:
        work()
        work.submit().result()

    @flow(on_completion=[slow, quick])
    async def main_async() -> None:
        work()
        await work_async()
        work_async.submit().result()

    main()
    assert seen == ["slow", "quick"] * 3
    seen.clear()
    asyncio.run(main_async())
    assert seen == ["slow", "quick"] * 4


def test_what_a_hook_is_told(store: Path, reader: Reader) -> None:
    """The flow or task itself, a frozen view of the run, and the state with its error; its log lines are the run's."""
    told: dict[str, Any] = {}

    def of_flow(its_flow: Any, run: Any, state: Any) -> None:
        told["flow"] = (its_flow, run, state)
        get_run_logger().warning("from a hook")

    def of_task(its_task: Any, run: Any, state: Any) -> None:
        told["task"] = (its_task, run, state)
        get_run_logger().warning("from a task's hook")

    @task(tags=["b", "a"], on_failure=[of_task])
    def work(n: int) -> None:
        raise ValueError(f"bad {n}")

    @flow(tags=["nightly"], on_failure=[of_flow])
    def main(n: int = 3) -> None:
        work(n)

    assert main(return_state=True).is_failed()
    its_flow, run, state = told["flow"]
    row = reader.run(1)
    assert row is not None
    assert its_flow is main
    assert (run.id, run.name, run.flow_name, run.parameters, run.tags) == (1, row.name, "main", {"n": 3}, ["nightly"])
    assert (run.state_name, run.state_type, run.run_count) == ("Failed", "FAILED", 1)
    assert run.start_time is not None
    assert isinstance(state.error, ValueError)
    with pytest.raises(AttributeError):
        run.name = "other"
    its_task, task_run, state = told["task"]
    assert its_task is work
    assert (task_run.id, task_run.name, task_run.flow_run_id, task_run.parameters, task_run.tags) == (
        "1/1", "work", 1, {"n": 3}, ["a", "b"])
    assert "bad 3" in state.message
    assert {(line.task_seq, line.message) for line in reader.logs(1)} >= {
        (None, "from a hook"), (1, "from a task's hook")}


def test_failure_hooks_run_on_bad_parameters_and_returned_states(store: Path) -> None:
    """The body never ran; the hooks do."""
    seen: list[Any] = []

    @flow(on_failure=[noting(seen, "bad")])
    def main(n: int) -> Any:
        return Failed(message="as I say") if n else None

    assert main("no number", return_state=True).is_failed()  # type: ignore[arg-type]
    assert main(1, return_state=True).is_failed()
    assert [name for name, _, _ in seen] == ["bad", "bad"]


def test_cancellation_hooks(store: Path, script: Any, reader: Reader, eventually: Any, effects: Any) -> None:
    """Called in the run's process when a request cancels it; SIGTERM without one is a crash."""
    from flowdeck.engine.control.control import Control

    text = """
        def told(name):
            def hook(flow, run, state):
                effect(f"{name} {state.name}")
            return hook
        @flow(on_cancellation=[told("cancelled")], on_crashed=[told("crashed")], on_failure=[told("failed")])
        def main():
            effect("in")
            time.sleep(60)
        main()
    """
    process = script.start(text)
    eventually(lambda: effects.count("in"))
    control = Control(store, actor="tester@here via test")
    control.cancel(1)
    control.close()
    assert process.wait(60) == 130
    other = script.start(text)
    eventually(lambda: effects.count("in") == 2)
    other.terminate()
    other.wait(20)
    assert effects.lines == ["in", "cancelled Cancelled", "in", "crashed Crashed"]


def test_after_kill_9_the_daemon_has_the_crash_hooks_called(box: Any) -> None:
    """Once, when no resume is left; with the cause; what they log is the run's."""
    box.write("crashing.py", """
        from flowdeck import get_run_logger
        def told(flow, run, state):
            get_run_logger().warning("hook of attempt %d", run.run_count)
            effect(f"{flow.name} {run.id} {run.parameters} {state.name}: {state.message}")
        @flow(crash_retries=1, on_crashed=[told], on_failure=[told])
        def crashing(n: int = 5):
            effect("in")
            wait_for("never")
    """)
    box.daemon()
    run_id = box.submit("crashing", n=7)
    for attempt in (1, 2):
        box.wait(lambda attempt=attempt: box.effects().count("in") == attempt)
        box.wait(lambda attempt=attempt: box.reader.run(run_id).attempt == attempt and box.state(run_id) != "Pending")
        os.killpg(box.reader.lease_of(run_id).pid, signal.SIGKILL)
    box.wait_effects(f"crashing {run_id} {{'n': 7}} Crashed: killed by signal 9 (SIGKILL)")
    assert len(box.effects()) == 3
    box.wait(lambda: "hook of attempt 2" in [line.message for line in box.reader.logs(run_id)])
    assert box.state(run_id) == "Crashed"
