"""Prefect 1's signals: a task says how it is to end; loops, retries and pauses go through the records."""

from __future__ import annotations

import pickle
import signal as unix_signals
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from flowdeck import Flow, context, pause_task, signals, task
from flowdeck.engine.control.control import Control
from flowdeck.signals import FAIL, LOOP, PAUSE, RETRY, SKIP, SUCCESS, TRIGGERFAIL, VALIDATIONFAIL, signal_from_state
from flowdeck.state import Failed, Skipped, Success, TriggerFailed, ValidationFailed
from flowdeck.store.reader import Reader
from flowdeck.triggers import manual_only


@pytest.mark.parametrize(
    ("raised", "kind", "result"),
    [
        (FAIL("no"), Failed, None), (SUCCESS("yes", result=5), Success, 5), (SKIP("later"), Skipped, None),
        (TRIGGERFAIL("unmet"), TriggerFailed, None), (VALIDATIONFAIL("odd"), ValidationFailed, None),
    ],
)  # fmt: skip
def test_a_signal_decides_how_a_task_ends(reader: Reader, raised: signals.Signal, kind: type, result: object) -> None:
    """Its class and message are the task's state, in the result and in the record; a failure's result is the signal."""

    @task
    def ends() -> None:
        raise raised

    with Flow("signal") as flow:
        node = ends()
    state = flow.run().result[node]
    assert type(state) is kind
    assert state.message == raised.message
    assert state.result == (raised if issubclass(kind, Failed) else result)
    (run,) = reader.runs()
    (row,) = reader.tasks(run.id)
    assert row.state_name == {Success: "Completed"}.get(kind, kind.__name__)
    if kind is not Success:
        assert row.cause == raised.message


@pytest.mark.usefixtures("store")
def test_the_value_of_a_success_goes_on() -> None:
    """``SUCCESS(result=…)`` is a return from anywhere within."""

    @task
    def deep() -> int:
        def within() -> None:
            raise SUCCESS(result=20)

        within()
        return 1

    with Flow("success") as flow:
        node = task(lambda x: x + 1, name="plus")(deep())
    assert flow.run().result[node].result == 21


@pytest.mark.usefixtures("store")
def test_a_fail_is_tried_again_and_a_skip_is_not() -> None:
    """Retries are for failures."""
    tries: list[str] = []

    @task(max_retries=2, retry_delay=timedelta(seconds=0))
    def fails() -> None:
        tries.append("fail")
        raise FAIL("no")

    @task(max_retries=2, retry_delay=timedelta(seconds=0))
    def skips() -> None:
        tries.append("skip")
        raise SKIP("no")

    with Flow("tries") as flow:
        fails()
        skips()
    flow.run()
    assert sorted(tries) == ["fail"] * 3 + ["skip"]


def test_retry_tries_again_whatever_max_retries_says(reader: Reader) -> None:
    """RETRY needs no max_retries; the count of attempts is in the context and in the record."""

    @task
    def patient() -> int:
        if context.task_run_count < 4:
            raise RETRY("not ready yet")
        return context.task_run_count

    with Flow("patient") as flow:
        node = patient()
    assert flow.run().result[node].result == 4
    (run,) = reader.runs()
    assert [row.attempt for row in reader.tasks(run.id)] == [4]


@pytest.mark.usefixtures("store")
def test_retry_at_a_time() -> None:
    """With a start time it waits until then."""
    moments: list[datetime] = []

    @task
    def later() -> None:
        moments.append(datetime.now(UTC))
        if len(moments) == 1:
            raise RETRY(start_time=moments[0] + timedelta(seconds=0.3))

    with Flow("later") as flow:
        later()
    assert flow.run().is_successful()
    assert moments[1] - moments[0] >= timedelta(seconds=0.25)


@pytest.mark.usefixtures("store")
def test_a_loop_goes_on_with_what_it_gave() -> None:
    """``task_loop_result`` is the last turn's result, ``task_loop_count`` the turn; what follows gets the end's."""
    turns: list[tuple[int, int]] = []

    @task
    def powers() -> int:
        value = context.get("task_loop_result", 1)
        turns.append((context.get("task_loop_count", 1), value))
        if value < 50:
            raise LOOP("go on", result=value * 3)
        return value

    with Flow("loop") as flow:
        node = powers()
        after = task(lambda x: -x, name="minus")(node)
    state = flow.run()
    assert turns == [(1, 1), (2, 3), (3, 9), (4, 27), (5, 81)]
    assert (state.result[node].result, state.result[after].result) == (81, -81)


@pytest.mark.usefixtures("store")
def test_each_turn_of_a_loop_has_its_retries() -> None:
    """Retries count anew in each turn, and keep its result."""
    seen: list[tuple[int, int]] = []

    @task(max_retries=1, retry_delay=timedelta(seconds=0))
    def shaky() -> str:
        turn, tried = context.get("task_loop_count", 1), context.task_run_count
        seen.append((turn, tried))
        if tried == 1:
            raise ValueError("first time")
        if turn < 3:
            raise LOOP(result=turn)
        return f"done after {context.task_loop_result}"

    with Flow("shaky") as flow:
        node = shaky()
    assert flow.run().result[node].result == "done after 2"
    assert seen == [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]


@pytest.mark.usefixtures("store")
def test_mapped_tasks_loop_each_on_their_own() -> None:
    """A mapped run loops beside its siblings."""

    @task
    def count_to(top: int) -> int:
        value = context.get("task_loop_result", 0) + 1
        if value < top:
            raise LOOP(result=value)
        return value

    with Flow("mapped loops") as flow:
        node = count_to.map([1, 4, 2])
    assert flow.run().result[node].result == [1, 4, 2]


def test_a_killed_loop_goes_on_where_it_was(script, reader: Reader, eventually) -> None:
    """Turns that were recorded are not made again after kill -9."""
    script.write("""
        from flowdeck.signals import LOOP
        @task
        def steps():
            turn = context.get("task_loop_count", 1)
            effect(f"turn {turn} from {context.get('task_loop_result', 'nothing')}")
            if turn == 3 and not os.path.exists(HERE + "/go"):
                time.sleep(60)
            if turn < 5:
                raise LOOP(result=turn * 10)
            return "end"
        with Flow("loops") as f:
            steps()
        if __name__ == "__main__":
            f.run()
    """)
    process = script.start()
    effects = script.folder / "effects"
    eventually(lambda: effects.exists() and "turn 3" in effects.read_text(), 20)
    process.send_signal(unix_signals.SIGKILL)
    process.wait()
    script.touch("go")
    flowdeck = [sys.executable, "-m", "flowdeck"]
    subprocess.run([*flowdeck, "ls"], capture_output=True, timeout=60, check=False)
    again = subprocess.run([*flowdeck, "retry", "--here", "1"], capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 0, again.stderr
    assert effects.read_text().splitlines() == [
        "turn 1 from nothing", "turn 2 from 10", "turn 3 from 20", "turn 3 from 20", "turn 4 from 30", "turn 5 from 40",
    ]  # fmt: skip


SCRIPT_THAT_PAUSES = """
    from flowdeck import pause_task
    from flowdeck.signals import PAUSE
    from flowdeck.triggers import manual_only
    @task
    def build():
        effect("build")
        return "v1"
    {task}
    with Flow("deployment") as f:
        deploy(build())
    state = f.run()
    effect(state)
"""


@pytest.mark.parametrize(
    "text",
    [
        "@task(trigger=manual_only)\n    def deploy(version):\n        effect('deploy ' + version)",
        "@task\n    def deploy(version):\n        pause_task('look first')\n        effect('deploy ' + version)",
        "@task\n    def deploy(version):\n        if not context.get('resume'):\n            raise PAUSE('look')\n"
        "        effect('deploy ' + version)",
    ],
    ids=["manual_only", "pause_task", "PAUSE"],
)
def test_a_pause_waits_for_a_person(script, reader: Reader, eventually, text: str) -> None:
    """The run is Paused, with who asked, until somebody resumes it; then the task runs."""
    process = script.start(SCRIPT_THAT_PAUSES.format(task=text))
    eventually(lambda: reader.runs() and reader.runs()[0].state_name == "Paused", 20)
    (run,) = reader.runs()
    assert "task deploy (1/2) waits for a person" in str(run.cause)
    assert (script.folder / "effects").read_text().split() == ["build"]
    control = Control(script.store, actor="a person")
    control.resume(run.id)
    control.close()
    process.communicate(timeout=30)
    lines = (script.folder / "effects").read_text().splitlines()
    assert lines[:2] == ["build", "deploy v1"]
    assert "Success" in lines[2]


def test_who_was_let_go_on_is_not_held_again_after_a_kill(script, reader: Reader, eventually) -> None:
    """A person's word outlives the process it was said to."""
    text = (
        "@task(trigger=manual_only)\n    def deploy(x):\n        effect('begun')\n"
        "        while not os.path.exists(HERE + '/go'): time.sleep(0.01)"
    )
    process = script.start(SCRIPT_THAT_PAUSES.format(task=text))
    eventually(lambda: reader.runs() and reader.runs()[0].state_name == "Paused", 20)
    control = Control(script.store, actor="a person")
    control.resume(1)
    control.close()
    eventually(lambda: "begun" in (script.folder / "effects").read_text(), 20)
    eventually(lambda: reader.runs()[0].state_name == "Running", 20)
    process.kill()
    process.wait()
    script.touch("go")
    flowdeck = [sys.executable, "-m", "flowdeck"]
    subprocess.run([*flowdeck, "ls"], capture_output=True, timeout=60, check=False)
    again = subprocess.run([*flowdeck, "retry", "--here", "1"], capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 0, again.stderr
    lines = (script.folder / "effects").read_text().splitlines()
    assert (lines.count("build"), lines.count("begun")) == (1, 2)


def test_a_paused_run_can_be_cancelled(script, reader: Reader, eventually) -> None:
    """A task that waits for a person ends with its run."""
    text = "@task(trigger=manual_only)\n    def deploy(x): effect('no')"
    process = script.start(SCRIPT_THAT_PAUSES.format(task=text))
    eventually(lambda: reader.runs() and reader.runs()[0].state_name == "Paused", 20)
    control = Control(script.store, actor="a person")
    control.cancel(1)
    control.close()
    process.communicate(timeout=30)
    eventually(lambda: reader.runs()[0].state_name == "Cancelled", 20)
    assert "no" not in (script.folder / "effects").read_text().split()


def test_signals_outside_of_tasks() -> None:
    """They are exceptions with a state: picklable, found by state, and pause_task asks for no duration."""
    failed = FAIL("no", result=3)
    again = pickle.loads(pickle.dumps(failed))
    assert (type(again), again.message, again.result, again.state.result) == (FAIL, "no", 3, 3)
    assert isinstance(failed.state, Failed)
    assert [signal_from_state(state) for state in (Success(), Failed(), Skipped(), TriggerFailed())] == [
        SUCCESS, FAIL, SKIP, TRIGGERFAIL,
    ]  # fmt: skip
    assert issubclass(PAUSE, signals.PrefectStateSignal)
    with pytest.raises(PAUSE):
        pause_task()
    with pytest.raises(ValueError, match="duration"):
        pause_task(duration=timedelta(minutes=1))
    assert callable(manual_only)
