"""Prefect 1's flows as processes: on a schedule, under the daemon, told to end, killed, on every executor."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
from flowdeck import Flow, Parameter, Task, context, task
from flowdeck.executors import DaskExecutor, LocalDaskExecutor, LocalExecutor
from flowdeck.schedules import DatesClock, IntervalSchedule, Schedule
from flowdeck.signals import LOOP, SKIP
from flowdeck.state import Success
from flowdeck.store.reader import Reader


@pytest.mark.usefixtures("store")
def test_a_scheduled_flow_runs_at_each_time_and_ends_with_its_schedule(reader: Reader, capfd) -> None:
    """``flow.run()`` waits for each time; each clock gives its parameters; the last state is returned."""
    now = datetime.now(UTC)
    clocks = [
        DatesClock([now + timedelta(seconds=0.5)], parameter_defaults={"x": 1}),
        DatesClock([now + timedelta(seconds=1.0)], parameter_defaults={"x": 2}),
    ]
    with Flow("timed", schedule=Schedule(clocks)) as flow:
        node = task(lambda x, y: (x, y), name="see")(Parameter("x", default=0), Parameter("y", default=9))
    state = flow.run(y=5)
    assert state.result[node].result == (2, 5)
    assert [run.parameters for run in reversed(reader.runs())] == ['{"x": 1, "y": 5}', '{"x": 2, "y": 5}']
    assert "timed runs next at" in capfd.readouterr().err
    assert flow.run().is_pending()  # no more times
    assert flow.run(run_on_schedule=False).result[node].result == (0, 9)


SCHEDULED = """
    from datetime import timedelta
    from flowdeck.schedules import IntervalSchedule
    @task
    def work():
        effect("ran")
        {body}
    with Flow("ticking", schedule=IntervalSchedule(interval=timedelta(seconds={seconds}))) as f:
        work()
    f.run()
    effect("went on")
"""


@pytest.mark.parametrize(("seconds", "body"), [(3600, "pass"), (0.2, "time.sleep(60)")], ids=["waiting", "running"])
def test_ctrl_c_ends_a_flow_that_keeps_its_schedule(script, eventually, seconds: float, body: str) -> None:
    """While it waits and while it runs: exit code 130, one line, no traceback, and the script does not go on."""
    process = script.start(SCHEDULED.format(seconds=seconds, body=body))
    if body == "pass":
        lines: list[str] = []
        reading = threading.Thread(target=lambda: lines.append(process.stderr.readline()), daemon=True)
        reading.start()
        eventually(lambda: lines, 20)
        assert "runs next at" in lines[0]
    else:
        eventually(lambda: (script.folder / "effects").exists(), 20)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    effects = script.folder / "effects"
    assert not effects.exists() or "went on" not in effects.read_text()


def test_the_daemon_keeps_the_schedules_of_a_graph_flow(script, reader: Reader, eventually) -> None:
    """Each clock is a schedule of the flow with its parameters; filters and ends hold; ``flow.run()`` in the file runs
    nothing."""
    script.write("""
        from datetime import timedelta, datetime, timezone
        from flowdeck.schedules import CronClock, DatesClock, IntervalClock, Schedule, filters
        soon = datetime(2030, 1, 1, tzinfo=timezone.utc)
        with Flow("kept", schedule=Schedule([
            IntervalClock(timedelta(seconds=0.5), parameter_defaults={"who": "interval"}),
            CronClock("0 9 * * *", end_date=soon, parameter_defaults={"who": "cron"}),
        ], not_filters=[filters.on_date(2, 29)])) as f:
            task(lambda who: effect(who), name="note")(Parameter("who", default="nobody"))
        f.run()
    """)
    daemon = subprocess.Popen(
        [sys.executable, "-m", "flowdeck", "--store", str(script.store), "daemon", str(script.path)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    try:
        eventually(lambda: (script.folder / "effects").exists(), 30)
        rows = reader.schedules()
        assert [row.kind for row in rows] == ["composite", "composite"]
        listed = subprocess.run(
            [sys.executable, "-m", "flowdeck", "schedules"], capture_output=True, text=True, timeout=60, check=False
        )
        assert "cron 0 9 * * * (UTC), not on 29.2., until 2030-01-01" in listed.stdout, listed.stdout + listed.stderr
        assert set((script.folder / "effects").read_text().split()) == {"interval"}
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=30)


def test_a_filter_of_the_users_own_is_asked_at_each_time(script, reader: Reader, effects, eventually) -> None:
    """In the run's process, which has it: what it refuses is Skipped without a step of its code."""
    script.write("""
        from datetime import timedelta
        from flowdeck.schedules import IntervalClock, Schedule
        def even_seconds(at):
            return at.second % 2 == 0
        def note():
            effect("ran")
        with Flow("even", schedule=Schedule([IntervalClock(timedelta(seconds=1))], filters=[even_seconds])) as f:
            task(note)()
    """)
    daemon = subprocess.Popen(
        [sys.executable, "-m", "flowdeck", "--store", str(script.store), "daemon", str(script.path)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    try:
        eventually(lambda: {"Completed", "Skipped"} <= {run.state_name for run in reader.runs()})
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=60)
    for run in reader.runs():
        even = run.due_at_us // 1_000_000 % 2 == 0
        if run.state_name in ("Completed", "Skipped"):
            assert run.state_name == ("Completed" if even else "Skipped")
        if run.state_name == "Skipped":
            assert run.cause == "left out by its schedule's filter even_seconds"
            assert reader.tasks(run.id) == []


def test_a_killed_graph_goes_on_where_it_was(script, reader: Reader, eventually) -> None:
    """After kill -9 finished calls keep their results: plain, mapped, skipped and merged ones."""
    script.write("""
        from flowdeck import case, merge, unmapped
        @task
        def numbers():
            effect("numbers")
            return [1, 2, 3]
        @task
        def double(x, by):
            effect(f"double {x}")
            return x * by
        @task
        def total(values):
            effect("total")
            if not os.path.exists(HERE + "/go"):
                time.sleep(60)
            return sum(values)
        with Flow("killed") as f:
            doubled = double.map(numbers(), unmapped(2))
            with case(doubled[0] == 2, True):
                a = task(lambda: effect("branch") or "a", name="a")()
            with case(doubled[0] == 2, False):
                b = task(lambda: "b", name="b")()
            task(lambda x, y: effect(f"end {x} {y}"), name="end")(total(doubled), merge(a, b))
        if __name__ == "__main__":
            f.run()
    """)
    process = script.start()
    effects = script.folder / "effects"
    eventually(lambda: effects.exists() and {"total", "branch"} <= set(effects.read_text().split("\n")), 20)
    eventually(lambda: any(row.name == "Merge" and row.state_type == "COMPLETED" for row in reader.tasks(1)), 20)
    process.kill()
    process.wait()
    script.touch("go")
    flowdeck = [sys.executable, "-m", "flowdeck"]
    subprocess.run([*flowdeck, "ls"], capture_output=True, timeout=60, check=False)
    again = subprocess.run([*flowdeck, "retry", "--here", "1"], capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 0, again.stderr
    assert sorted(effects.read_text().splitlines()) == sorted(
        ["numbers", "double 1", "double 2", "double 3", "branch", "total", "total", "end 12 a"]
    )


def busy_at_once(executor: object) -> int:
    """How many of a flow's tasks ran at the same time."""
    lock, busy, most = threading.Lock(), [], []

    @task
    def work(_n: int) -> None:
        with lock:
            busy.append(1)
            most.append(len(busy))
        threading.Event().wait(0.05)
        with lock:
            busy.pop()

    with Flow("executors", executor=executor) as flow:
        work.map(list(range(12)))
    assert flow.run().is_successful()
    return max(most)


@pytest.mark.usefixtures("store")
def test_executors_bound_what_runs_at_once() -> None:
    """LocalExecutor and the sync scheduler run one after another, threads as many as there are workers."""
    assert busy_at_once(LocalExecutor()) == 1
    assert busy_at_once(LocalDaskExecutor(scheduler="sync")) == 1
    assert busy_at_once(LocalDaskExecutor(num_workers=3)) == 3
    assert 1 < busy_at_once(LocalDaskExecutor(scheduler="threads")) <= 12


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LocalDaskExecutor(scheduler="fibres"), "threads"),
        (lambda: LocalDaskExecutor(num_workers=0), "whole number from 1"),
        (lambda: LocalDaskExecutor(pool=None), "are dask's own"),
        (lambda: DaskExecutor(address="tcp://x"), "LocalDaskExecutor"),
    ],
)
def test_executors_that_cannot_be(make, said: str) -> None:
    """Each says what to use."""
    with pytest.raises(Exception, match=said):
        make()


def double(x: int) -> int:
    if x == 2:
        raise SKIP("two")
    return x * 2


@pytest.mark.usefixtures("store")
def test_tasks_in_processes() -> None:
    """``scheduler="processes"``: signals, loops, handlers and classes go through worker processes."""
    import os

    class Where(Task):
        def __init__(self, word: str) -> None:
            self.word = word
            super().__init__(name="where")

        def run(self) -> tuple[str, int]:
            self.logger.info("here")
            return self.word, os.getpid()

    def forgive(_task: object, _old: object, new: object) -> object:
        return Success("forgiven", result=-1) if new.is_failed() else new

    @task
    def loop() -> tuple[int, int]:
        turn = context.get("task_loop_count", 1)
        if turn < 3:
            raise LOOP(result=turn * 10)
        return turn, context.task_loop_result

    @task(state_handlers=[forgive])
    def fails() -> None:
        raise ValueError("no")

    with Flow("processes", executor=LocalDaskExecutor(scheduler="processes", num_workers=2)) as flow:
        where, looped, failed = Where("there")(), loop(), fails()
        doubled = task(double).map([1, 2, 3])
    state = flow.run()
    assert state.is_successful(), state
    word, pid = state.result[where].result
    assert word == "there"
    assert pid != os.getpid()
    assert state.result[looped].result == (3, 20)
    assert state.result[failed].result == -1
    assert state.result[doubled].result == [2, None, 6]


@pytest.mark.usefixtures("store")
def test_a_schedule_can_be_set_later() -> None:
    """``flow.schedule`` is read and set; what is none is refused."""
    with Flow("later") as flow:
        task(lambda: None, name="nothing")()
    assert flow.schedule is None
    flow.schedule = hourly = IntervalSchedule(interval=timedelta(hours=1))
    assert flow.schedule is hourly
    assert [one.describe() for one in flow.schedules] == ["every hour"]
    with pytest.raises(ValueError, match="give a cron text"):
        flow.schedule = object()
