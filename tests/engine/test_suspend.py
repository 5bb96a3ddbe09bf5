"""``suspend_flow_run`` and ``Control.suspend``: the process ends and holds nothing; a resume continues by replay."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from textwrap import dedent

import pytest
from flowdeck import flow, suspend_flow_run, task
from flowdeck.engine.control.control import Control
from flowdeck.engine.errors import InputError, NotAllowed, UsageError

FLOWS = """
    from flowdeck import pause_flow_run, suspend_flow_run, PauseTimedOut

    @task
    def step(name):
        effect(name)
        return name

    @task
    def slow(name):
        effect(f"{name} began")
        wait_for(name)
        effect(f"{name} ended")
        return name
"""


def write(box, text):
    """The flow file: what all of them use, and one's own."""
    box.write("f.py", dedent(FLOWS) + dedent(text))


def test_a_suspended_run_holds_no_process_and_continues_by_replay(box) -> None:
    """State Suspended, no lease; after the resume finished work is not done again."""
    write(box, """
        @flow
        def release():
            step("built")
            try:
                answer = suspend_flow_run(wait_for_input=int)
            finally:
                effect("unwound")
            effect(f"answer {answer}")
            suspend_flow_run()
            step("shipped")
            return "done"
    """)
    box.daemon()
    run_id = box.submit("release")
    row = box.wait_state(run_id, "AwaitingInput")
    box.wait(lambda: not any(lease.run_id for lease in box.reader.leases()))
    row = box.reader.run(run_id)
    assert (row.state_type, row.state_name, row.intent) == ("PAUSED", "AwaitingInput", "none")
    assert "awaiting input" in row.cause
    box.control.resume(run_id, 5)
    row = box.wait_state(run_id, "Suspended")
    assert "suspended" in row.cause
    box.wait(lambda: not any(lease.run_id for lease in box.reader.leases()))
    box.control.resume(run_id)
    row = box.wait_state(run_id, "Completed")
    assert box.effects() == ["built", *["unwound"] * 2, "answer 5", "unwound", "answer 5", "shipped"]
    names = box.states(run_id)
    assert "Suspended" in names
    assert names.count("Resuming") == 2
    assert not {"Crashed", "Failed", "Cancelled"} & set(names)


def test_resume_right_after_the_suspension_is_not_lost(box) -> None:
    """However the request falls with the end of the process, the run goes on."""
    write(box, """
        @flow
        def release():
            for number in range(4):
                suspend_flow_run(key=str(number))
                step(f"step {number}")
    """)
    box.daemon()
    run_id = box.submit("release")
    for number in range(4):
        box.wait(lambda: box.reader.run(run_id).state_type == "PAUSED")
        box.control.resume(run_id)
        box.wait_effects(f"step {number}")
    box.wait_state(run_id, "Completed")
    assert box.effects() == [f"step {number}" for number in range(4)]


def test_running_tasks_end_first(box) -> None:
    """A suspension from outside waits for what runs, starts nothing new, and loses none of it."""
    write(box, """
        @flow
        def work():
            first = slow.submit("one")
            second = slow.submit("two", wait_for=[first])
            second.wait()
            step("three")
    """)
    box.daemon()
    run_id = box.submit("work")
    box.wait_effects("one began")
    assert "suspending" in box.control.suspend(run_id).text
    box.wait_state(run_id, "Pausing")
    assert "one ended" not in box.effects()
    box.touch("one")
    row = box.wait_state(run_id, "Suspended")
    assert "tester" in row.cause
    assert box.effects() == ["one began", "one ended"]
    box.touch("two")
    box.control.resume(run_id)
    box.wait_state(run_id, "Completed")
    assert box.effects() == ["one began", "one ended", "two began", "two ended", "three"]


def test_a_subflow_suspends_the_whole_run(box) -> None:
    """Its parent and itself go on by replay, and what both finished stays finished."""
    write(box, """
        @flow
        def inner():
            step("inner one")
            suspend_flow_run()
            step("inner two")
            return "inner"

        @flow
        def outer():
            step("outer one")
            value = inner()
            step("outer two")
            return value
    """)
    box.daemon()
    run_id = box.submit("outer")
    box.wait_state(run_id, "Suspended")
    child = box.reader.runs(roots_only=False)[0]
    assert (child.flow_name, child.state_name) == ("inner", "Suspended")
    box.control.resume(run_id)
    box.wait_state(run_id, "Completed")
    assert box.state(child.id) == "Completed"
    assert box.effects() == ["outer one", "inner one", "inner two", "outer two"]
    assert "Crashed" not in box.states(child.id)


@pytest.mark.parametrize("moment", ["paused", "suspended"])
def test_cancel_of_a_held_run(box, moment) -> None:
    """A suspended run is cancelled at once, with its subflows; so is one that pauses in its process."""
    write(box, """
        @flow
        def inner(leaves):
            (suspend_flow_run if leaves else pause_flow_run)()

        @flow
        def outer(leaves: bool):
            inner(leaves)
    """)
    box.daemon()
    run_id = box.submit("outer", leaves=moment == "suspended")
    box.wait_state(run_id, "Suspended" if moment == "suspended" else "Paused")
    if moment == "suspended":
        assert box.control.cancel(run_id).text == "cancelled"
        assert box.state(run_id) == "Cancelled"
    else:
        box.control.cancel(run_id)
    box.wait_state(run_id, "Cancelled")
    assert [run.state_name for run in box.reader.runs(roots_only=False)] == ["Cancelled", "Cancelled"]


def test_nobody_resumes_in_time(box) -> None:
    """The daemon brings the run back at its time, to hear of it: Failed in words, or what its code makes of it."""
    write(box, """
        @flow
        def strict():
            suspend_flow_run(timeout=0.5)

        @flow
        def lenient():
            try:
                suspend_flow_run(timeout=0.5, wait_for_input=bool)
            except PauseTimedOut:
                step("without an answer")
    """)
    box.daemon()
    strict, lenient = box.submit("strict"), box.submit("lenient")
    row = box.wait_state(strict, "Failed")
    assert "nobody resumed it within 0.5 s" in row.cause
    box.wait_state(lenient, "Completed")
    assert box.effects() == ["without an answer"]


def test_a_daemon_that_starts_later_finds_the_suspended_run(box) -> None:
    """Nobody has to live while a run is suspended."""
    write(box, """
        @flow
        def release():
            step("built")
            suspend_flow_run(wait_for_input=str)
            step("shipped")
    """)
    first = box.daemon()
    run_id = box.submit("release")
    box.wait_state(run_id, "AwaitingInput")
    box.wait(lambda: not any(lease.run_id for lease in box.reader.leases()))
    first.stop(signal.SIGKILL)
    box.control.resume(run_id, "go")
    assert box.state(run_id) == "Resuming"
    box.daemon()
    box.wait_state(run_id, "Completed")
    assert box.effects() == ["built", "shipped"]


def test_killed_while_it_leaves(box) -> None:
    """kill -9 at any moment of leaving: the run is held all the same, and goes on when resumed."""
    write(box, """
        @flow
        def release():
            step("built")
            try:
                suspend_flow_run(wait_for_input=int)
            finally:
                effect("unwinding")
                wait_for("never")
            step("shipped")
    """)
    box.daemon()
    run_id = box.submit("release")
    box.wait_effects("unwinding")
    os.kill(next(lease.pid for lease in box.reader.leases() if lease.run_id), signal.SIGKILL)
    box.wait(lambda: not any(lease.run_id for lease in box.reader.leases()))
    row = box.wait_state(run_id, "AwaitingInput")
    assert "awaiting input" in row.cause
    box.touch("never")
    box.control.resume(run_id, 1)
    box.wait_state(run_id, "Completed")
    assert box.effects() == ["built", "unwinding", "unwinding", "shipped"]


def test_code_that_does_not_unwind_is_left_all_the_same(box) -> None:
    """After the grace the process ends, whatever its code does."""
    write(box, """
        @flow
        def release():
            step("built")
            try:
                suspend_flow_run()
            finally:
                while not os.path.exists(f"{HERE}/go"):
                    try:
                        time.sleep(0.05)
                    except BaseException:
                        pass
            step("shipped")
    """)
    box.daemon(FLOWDECK_CANCEL_GRACE_SECONDS="0.5")
    run_id = box.submit("release")
    box.wait_state(run_id, "Suspended")
    box.wait(lambda: not any(lease.run_id for lease in box.reader.leases()))
    box.touch("go")
    box.control.resume(run_id)
    box.wait_state(run_id, "Completed")
    assert box.effects() == ["built", "shipped"]


SCRIPT = """
    @task
    def step(name):
        effect(name)

    @flow
    def release():
        step("built")
        effect(f"answer {suspend_flow_run(wait_for_input=int)}")
        step("shipped")

    if __name__ == "__main__":
        release()
        effect("not reached")
"""


def test_a_script_that_suspends_says_how_it_goes_on(store, reader, script, effects) -> None:
    """It ends with exit code 75; the text names the command; the run goes on wherever its file is."""
    ended = script.run(SCRIPT)
    assert ended.returncode == 75
    assert "awaiting input" in ended.stderr
    assert "flowdeck resume 1" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert reader.run(1).state_name == "AwaitingInput"
    assert reader.leases() == []
    here = subprocess.run([sys.executable, "-m", "flowdeck", "resume", "1", "-i", "value=8", "--here"], check=False,
                          capture_output=True, text=True)
    assert here.returncode == 0, here.stderr
    assert effects.lines == ["built", "answer 8", "shipped"]
    assert reader.run(1).state_name == "Completed"


def test_a_daemon_takes_over_a_suspended_script(box) -> None:
    """Any daemon of the store does: the run knows its file."""
    path = box.root / "script.py"
    box.write("../script.py", """
        from flowdeck import suspend_flow_run

        @task
        def step(name):
            effect(name)

        @flow
        def release():
            step("built")
            suspend_flow_run()
            step("shipped")

        if __name__ == "__main__":
            release()
    """)
    assert box.script(str(path)).wait(20) == 75
    box.daemon()
    box.control.resume(1)
    box.wait_state(1, "Completed")
    assert box.effects() == ["built", "shipped"]


def test_a_task_cannot_suspend_its_run(store) -> None:
    """It would begin anew: refused with what to do instead."""

    @task
    def asks() -> None:
        suspend_flow_run()

    @flow
    def outer() -> None:
        asks()

    with pytest.raises(UsageError, match=r"pause_flow_run\(\)"):
        outer()


def test_what_cannot_be_suspended(box) -> None:
    """A run that has ended, or is suspended already, is refused in words."""
    write(box, """
        @flow
        def quick():
            step("done")

        @flow
        def held():
            suspend_flow_run()
    """)
    box.daemon()
    quick, held = box.submit("quick"), box.submit("held")
    box.wait_state(quick, "Completed")
    box.wait_state(held, "Suspended")
    for run_id in (quick, held):
        with pytest.raises(NotAllowed, match="cannot be asked to suspend"):
            box.control.suspend(run_id)
    with (
        closing(Control(box.folder, actor="tester", read_only=True)) as control,
        pytest.raises(NotAllowed, match="read-only"),
    ):
        control.resume(held)


def test_a_resumed_run_is_not_said_to_be_retried(box) -> None:
    """Its history speaks of going on, not of another try."""
    write(box, """
        @flow
        def release():
            suspend_flow_run()
            step("shipped")
    """)
    box.daemon()
    run_id = box.submit("release")
    box.wait_state(run_id, "Suspended")
    box.control.resume(run_id)
    box.wait_state(run_id, "Completed")
    assert box.states(run_id)[-4:] == ["Resuming", "Pending", "Running", "Completed"]


def test_a_run_that_has_not_begun_is_suspended_and_a_paused_one_too(box) -> None:
    """Also from outside, whatever holds it; a resume is enough for each."""
    write(box, """
        @flow
        def waits():
            step("began")
            pause_flow_run()
            step("ended")
    """)
    run_ids = []
    daemon = box.daemon()
    run_ids.append(box.submit("waits"))
    box.wait_state(run_ids[0], "Paused")
    box.control.suspend(run_ids[0])
    box.wait_state(run_ids[0], "Suspended")
    daemon.stop()
    run_ids.append(box.submit("waits"))
    assert "holds no process" in box.control.suspend(run_ids[1]).text
    assert box.state(run_ids[1]) == "Suspended"
    box.daemon()
    box.control.resume(run_ids[0])
    box.wait_state(run_ids[0], "Completed")
    box.control.resume(run_ids[1])
    box.wait_state(run_ids[1], "Paused")
    box.control.resume(run_ids[1])
    box.wait_state(run_ids[1], "Completed")
    assert box.effects() == ["began", "ended", "began", "ended"]


def test_a_flow_that_yields_may_suspend(box) -> None:
    """Its items are those of an undisturbed run."""
    write(box, """
        @flow
        def yields():
            yield step("one")
            suspend_flow_run()
            yield step("two")
    """)
    box.daemon()
    run_id = box.submit("yields")
    box.wait_state(run_id, "Suspended")
    box.control.resume(run_id)
    row = box.wait_state(run_id, "Completed")
    assert "one" in row.result_preview
    assert box.effects() == ["one", "two"]


def test_killed_at_any_moment_every_step_happens_once(box) -> None:
    """kill -9 at random moments of pauses, suspensions, sleeps and messages: nothing is lost, nothing done twice."""
    write(box, """
        from flowdeck import receive_input, sleep

        @flow(crash_retries=1000)
        def mixed():
            total = 0
            for number in range(4):
                step(f"a{number}")
                total += pause_flow_run(wait_for_input=int)
                step(f"b{number}")
                sleep(0.3)
                total += suspend_flow_run(wait_for_input=int)
                step(f"c{number}")
                total += next(receive_input(int, timeout=60))
                step(f"d{number}")
            return total
    """)
    chance = random.Random(22)
    box.daemon(FLOWDECK_SUSPEND_AFTER_SECONDS="0.1")
    run_id = box.submit("mixed")
    for number in range(4):
        box.control.send(run_id, "int-auto", {"value": number})
    kills, next_kill, answers, deadline = 0, time.monotonic() + 0.4, 0, time.monotonic() + 40
    while (row := box.reader.run(run_id)).ended_at_us is None and answers < 100 and time.monotonic() < deadline:
        if row.state_name == "AwaitingInput":
            with suppress(NotAllowed, InputError):  # answered a moment ago; its process has not seen it yet
                box.control.resume(run_id, 10)
                answers += 1
        if time.monotonic() > next_kill and kills < 4:
            next_kill = time.monotonic() + chance.uniform(0.05, 0.6)
            for lease in box.reader.leases():
                if lease.run_id is not None:
                    with suppress(ProcessLookupError):
                        os.kill(lease.pid, signal.SIGKILL)
                    kills += 1
        time.sleep(0.01)
    assert row.state_name == "Completed", box.report()
    assert row.result_preview == str(8 * 10 + 0 + 1 + 2 + 3)
    assert answers == 8
    steps = [f"{letter}{number}" for number in range(4) for letter in "abcd"]
    assert list(dict.fromkeys(box.effects())) == steps
    done = [task.state_name for task in box.reader.tasks(run_id)]
    assert done == ["Completed"] * 16
