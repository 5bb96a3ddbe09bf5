"""Retries of tasks and flows, across restarts too: how often, after how long, what runs again, who is asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import tenacity
from flowdeck import (
    FlowdeckError,
    ThreadPoolTaskRunner,
    create_concurrency_limit,
    exponential_backoff,
    flow,
    task,
)
from flowdeck.engine.control.control import Control
from flowdeck.store.reader import Reader

CLI = (sys.executable, "-P", "-m", "flowdeck")


def flaky(times, error=ValueError):
    """A body that fails so many times."""
    calls = []

    def body():
        calls.append(time.monotonic())
        if len(calls) <= times:
            raise error(f"failure {len(calls)}")
        return "made it"

    body.calls = calls
    return body


def states(reader, run_id, seq=None):
    """The names a task, or the run itself, went through."""
    return [event.to_name for event in reader.events(run_id=run_id, limit=10_000)
            if event.kind == "state" and event.task_seq == seq]  # fmt: skip


@pytest.mark.parametrize("how", ["call", "submit", "map"])
def test_a_task_is_tried_as_often_as_asked(reader, how) -> None:
    """Three retries are four calls; the row counts them; each attempt is an event with its reason."""
    body = flaky(2)

    @task(retries=3)
    def step(x=None):
        return body()

    @flow
    def whole():
        return {"call": lambda: step(), "submit": lambda: step.submit().result(),
                "map": lambda: step.map([1]).result()[0]}[how]()  # fmt: skip

    assert whole() == "made it"
    row = reader.tasks(1)[0]
    assert (len(body.calls), row.attempt, row.state_name, row.cause) == (3, 3, "Completed", None)
    names = [name for name in states(reader, 1, 1) if name != "Pending"]
    assert names == ["Running", "AwaitingRetry", "Retrying", "AwaitingRetry", "Retrying", "Completed"]
    reasons = [event.message for event in reader.events(run_id=1) if event.to_name == "AwaitingRetry"]
    assert reasons == [f"attempt {n} failed: ValueError: failure {n}; next in 0 s" for n in (1, 2)]


def test_retries_run_out(reader) -> None:
    """The last exception is the outcome."""
    body = flaky(9)
    step = task(retries=2)(lambda: body())

    @flow
    def whole():
        step()

    with pytest.raises(ValueError, match="failure 3"):
        whole()
    assert len(body.calls) == 3
    assert reader.tasks(1)[0].attempt == 3


@pytest.mark.parametrize("delay", [0.05, [0.05], lambda retries: [0.05] * retries, exponential_backoff(0.05),
                                   tenacity.wait_fixed(0.05)])  # fmt: skip
@pytest.mark.parametrize("submitted", [False, True])
def test_delays_pass_between_attempts(reader, delay, submitted) -> None:
    """A number, a list, a function, tenacity's; while it waits the store says until when."""
    body = flaky(1)

    @task(retries=1, retry_delay_seconds=delay)
    def step():
        return body()

    @flow
    def whole():
        return step.submit().result() if submitted else step()

    assert whole() == "made it"
    assert body.calls[1] - body.calls[0] >= 0.045
    assert reader.tasks(1)[0].wake_at_us is None


def test_conditions_decide(reader) -> None:
    """A function of task, run and state, or tenacity's; one that raises means no retry, and the log says so."""
    seen = []

    def condition(one_task, run, state):
        seen.append((one_task.name, run.name, state.name, run.attempt))
        return not isinstance(state.error, KeyError)

    cases = [
        (condition, flaky(1), 2), (condition, flaky(1, KeyError), 1),
        (tenacity.retry_if_exception_type(OSError), flaky(1, OSError), 2),
        (tenacity.retry_if_exception_type(OSError), flaky(1), 1), (lambda *a: 1 / 0, flaky(1), 1),
    ]  # fmt: skip
    for run_id, (retry_condition_fn, body, calls) in enumerate(cases, 1):
        step = task(retries=3, name="step", retry_condition_fn=retry_condition_fn)(lambda body=body: body())
        flow(lambda step=step: step(), name="whole")(return_state=True)
        assert len(body.calls) == calls, run_id
    assert seen[0] == ("step", "step", "Failed", 1)
    assert any("ZeroDivisionError" in row.message for row in reader.logs(5))


def test_a_flow_is_retried_and_its_finished_tasks_are_not(reader, effects) -> None:
    """Prefect's: flow body twice, task once; here without asking for persistence."""

    @task
    def step(x):
        effects(f"step {x}")
        return x * 10

    @flow(retries=2, retry_delay_seconds=0.02)
    def whole():
        effects("body")
        values = [step(1), step.submit(2).result(), *step.map([3, 4]).result()]
        if effects.count("body") < 3:
            raise ValueError("not yet")
        return values

    assert whole() == [10, 20, 30, 40]
    assert effects.lines.count("body") == 3
    assert [effects.count(f"step {n}") for n in (1, 2, 3, 4)] == [1] * 4
    run = reader.run(1)
    assert (run.state_name, run.attempt) == ("Completed", 3)
    assert states(reader, 1) == ["Pending", "Running", "AwaitingRetry", "Retrying", "AwaitingRetry", "Retrying",
                                 "Completed"]  # fmt: skip
    assert len(reader.tasks(1)) == 4


def test_failed_tasks_and_what_hangs_on_them_run_again(reader, effects) -> None:
    """Also a task that was not ready, and one that is not ready a second time."""

    @task
    def first():
        effects("first")
        if effects.count("first") < 3:
            raise ValueError("no")
        return 1

    @task
    def second(x):
        effects("second")
        return x + 1

    @flow(retries=3)
    def whole():
        return second.submit(first.submit()).result()

    assert whole() == 2
    assert (effects.count("first"), effects.count("second")) == (3, 1)
    assert [row.state_name for row in reader.tasks(1)] == ["Completed", "Completed"]
    assert states(reader, 1, 2) == ["Pending", "NotReady"] * 2 + ["Pending", "Running", "Completed"]


def test_flow_retries_end(reader) -> None:
    """Wrong parameters are never retried; a condition that raises ends it in order; so does one that says no."""
    calls = []

    @flow(retries=2)
    def failing():
        calls.append(1)
        raise ValueError

    failing(return_state=True)
    assert len(calls) == 3

    @flow(retries=2)
    def typed(x: int):
        pass

    typed("a", return_state=True)
    assert reader.run(2).attempt == 1
    flow(lambda: 1 / 0, name="a", retries=2, retry_condition_fn=lambda *a: [][1])(return_state=True)
    assert (reader.run(3).state_name, reader.run(3).attempt) == ("Failed", 1)
    assert "retry condition raised IndexError" in "".join(row.message for row in reader.logs(3))
    flow(lambda: 1 / 0, name="b", retries=2, retry_condition_fn=lambda *a: False)(return_state=True)
    assert reader.run(4).attempt == 1


def test_a_tasks_retry_does_not_repeat_the_tasks_it_called(reader, effects) -> None:
    """Finished calls return what they returned, at any depth; the ids stay."""

    @task
    def leaf(x):
        effects(f"leaf {x}")
        return x

    @task
    def middle(x):
        effects("middle")
        return leaf(x) + leaf(x + 1)

    @task(retries=2)
    def outer():
        effects("outer")
        total = middle(1) + sum(leaf.map([10, 20]).result())
        if effects.count("outer") < 3:
            raise ValueError("again")
        return total

    @flow
    def whole():
        return outer()

    assert whole() == 33
    assert [effects.count(f"leaf {n}") for n in (1, 2, 10, 20)] == [1] * 4
    assert (effects.count("middle"), effects.count("outer")) == (1, 3)
    assert len(reader.tasks(1)) == 6


def test_a_nested_failure_is_tried_again_with_its_caller(reader, effects) -> None:
    """The call that failed has one row, and succeeds in the caller's next attempt."""

    @task
    def inner():
        effects("inner")
        if effects.count("inner") == 1:
            raise ValueError("first time")
        return "ok"

    @task(retries=1)
    def outer():
        return inner()

    @flow
    def whole():
        return outer()

    assert whole() == "ok"
    rows = {row.name: (row.state_name, row.seq) for row in reader.tasks(1)}
    assert rows == {"outer": ("Completed", 1), "inner": ("Completed", 2)}


def test_explicitly_failed_states_are_retried(reader) -> None:
    """As in Prefect."""
    from flowdeck import Completed, Failed

    calls = []

    @task(retries=1)
    def says():
        calls.append(1)
        return Failed(message="not yet") if len(calls) == 1 else Completed(data="now")

    @flow
    def whole():
        return says()

    assert whole() == "now"


# ------------------------------------------------------------------------------------------- defaults and restarts


def test_defaults_come_from_the_environment(reader, monkeypatch) -> None:
    """For what says nothing itself; a value that does not fit is refused with the variable's name."""
    monkeypatch.setenv("FLOWDECK_TASKS_DEFAULT_RETRIES", "2")
    monkeypatch.setenv("FLOWDECK_TASKS_DEFAULT_RETRY_DELAY_SECONDS", "0.01,0.02")
    monkeypatch.setenv("FLOWDECK_FLOWS_DEFAULT_RETRIES", "1")
    monkeypatch.setenv("FLOWDECK_FLOWS_DEFAULT_RETRY_DELAY_SECONDS", "0.01")
    body, never = flaky(99), flaky(99)
    step, own = task(name="step")(lambda: body()), task(name="own", retries=0)(lambda: never())

    @flow
    def whole():
        own(return_state=True)
        step()

    whole(return_state=True)
    assert (len(body.calls), len(never.calls)) == (6, 2)
    monkeypatch.setenv("FLOWDECK_TASKS_DEFAULT_RETRIES", "many")
    with pytest.raises(FlowdeckError, match="FLOWDECK_TASKS_DEFAULT_RETRIES must be a whole number"):
        task(lambda: 1)
    monkeypatch.setenv("FLOWDECK_FLOWS_DEFAULT_RETRY_DELAY_SECONDS", "soon")
    with pytest.raises(FlowdeckError, match="FLOWDECK_FLOWS_DEFAULT_RETRY_DELAY_SECONDS must be"):
        flow(lambda: 1)


def test_a_waiting_retry_holds_no_thread(reader) -> None:
    """Neither a submitted one, nor one that a task on the pool called itself: a pool of one goes on meanwhile."""
    done = []

    @task(retries=1, retry_delay_seconds=1)
    def slow_to_retry():
        if not done:
            raise ValueError("not before the others")
        return "ok"

    @task
    def calls_it():
        return slow_to_retry()

    @task
    def other(x):
        done.append(x)
        return x

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def whole():
        waiting = [slow_to_retry.submit(), calls_it.submit()]
        others = other.map([1, 2])
        return [future.result() for future in [*waiting, *others]]

    assert whole() == ["ok", "ok", 1, 2]


def test_a_waiting_retry_holds_no_slot(reader) -> None:
    """Of a limited tag: another task with it runs meanwhile."""
    create_concurrency_limit("narrow", 1)
    order = []

    @task(tags=["narrow"], retries=1, retry_delay_seconds=1)
    def first():
        order.append("first")
        if order.count("first") == 1:
            raise ValueError

    @task(tags=["narrow"])
    def second():
        order.append("second")

    @flow
    def whole():
        future = first.submit()
        while not order:
            time.sleep(0.01)
        second.submit().result()
        future.result()

    whole()
    assert order == ["first", "second", "first"]


def test_a_running_retry_says_why(reader, eventually) -> None:
    """Its row has the reason while it runs, and not when it has completed."""
    seen = []

    @task(retries=1)
    def step():
        if reader.tasks(1) and reader.tasks(1)[0].attempt == 1:
            eventually(lambda: reader.tasks(1)[0].state_name == "Retrying")
            seen.append(reader.tasks(1)[0].cause)
            return
        eventually(lambda: reader.tasks(1))
        raise ValueError("first time")

    @flow
    def whole():
        step()

    whole()
    assert seen == ["attempt 1 failed: ValueError: first time"]
    assert reader.tasks(1)[0].cause is None


RESTARTED = """
@task(retries=3, retry_delay_seconds=[0.05, {delay}, 0.05])
def step():
    effect(f"step {{time.time()}}")
    tries = sum(line.startswith("step") for line in open(HERE + "/effects"))
    if tries == {hang_at}:
        open(HERE + "/hangs", "w").close()
        time.sleep(60)
    if tries < {good_at}:
        raise ValueError(f"failure {{tries}}")
    return tries

@flow(retries={flow_retries}, retry_delay_seconds=0.01)
def whole():
    effect("body")
    return {call}

if __name__ == "__main__":
    whole()
"""


def task_states(reader, seq=1):
    return [(event.to_name, event.attempt) for event in reader.events(run_id=1, limit=1000)
            if event.kind == "state" and event.task_seq == seq]  # fmt: skip


@pytest.mark.parametrize("call", ["step()", "step.submit().result()"])
def test_a_restart_during_the_wait_waits_the_rest(reader, script, effects, eventually, call) -> None:
    """kill -9 while a retry is waited for: the next process waits what is left, and counts on."""
    text = RESTARTED.format(delay=1, hang_at=0, good_at=99, flow_retries=0, call=call)
    process = script.start(text)
    eventually(lambda: any(row.state_name == "AwaitingRetry" and row.attempt == 2 for row in reader.tasks(1)))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert subprocess.run([*CLI, "retry", "--here", "1"], check=False).returncode == 1
    times = [float(line.split()[1]) for line in effects.lines if line.startswith("step")]
    assert len(times) == 4, "three retries are four calls, restart or not"
    assert times[2] - times[1] > 0.9
    row = reader.tasks(1)[0]
    assert (row.state_name, row.attempt, row.wake_at_us) == ("Failed", 4, None)
    causes = [event.message for event in reader.events(run_id=1, limit=1000) if event.to_name == "AwaitingRetry"]
    words = "attempt 2 had failed when the run was interrupted; next in "
    waited = [cause for cause in causes if cause.startswith(words)]
    assert len(causes) == 3 + len(waited)
    assert len(waited) == 1 or times[2] - times[1] > 1.01, "nothing is left to wait when the restart takes longer"


def test_an_attempt_that_was_cut_short_is_made_again(reader, script, effects, eventually) -> None:
    """kill -9 in the third attempt: the next process makes the third, and one more is left."""
    process = script.start(RESTARTED.format(delay=0.05, hang_at=3, good_at=99, flow_retries=0, call="step()"))
    eventually(lambda: (script.folder / "hangs").exists())
    eventually(lambda: reader.tasks(1)[0].attempt == 3)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert subprocess.run([*CLI, "retry", "--here", "1"], check=False).returncode == 1
    assert sum(line.startswith("step") for line in effects.lines) == 5
    assert reader.tasks(1)[0].attempt == 4
    assert ("Retrying", 3) in task_states(reader)[-5:]


def test_a_flows_retries_survive_a_restart(reader, script, effects, eventually) -> None:
    """The bodies of both processes together are as many as were asked for, the interrupted one not counted."""
    text = RESTARTED.format(delay=0.05, hang_at=6, good_at=99, flow_retries=2, call="step()")
    process = script.start(text)
    eventually(lambda: (script.folder / "hangs").exists())
    eventually(lambda: reader.tasks(1)[0].attempt == 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert subprocess.run([*CLI, "retry", "--here", "1"], check=False).returncode == 1
    assert effects.lines.count("body") == 4
    assert sum(line.startswith("step") for line in effects.lines) == 4 + 2 + 3 + 4
    assert reader.run(1).state_name == "Failed"
    # A person who has a failed run tried again gives it all its retries anew.
    assert subprocess.run([*CLI, "retry", "--here", "1"], check=False).returncode == 1
    assert effects.lines.count("body") == 7


def test_a_subflows_wait_and_count_survive_a_restart(reader, script, effects, eventually) -> None:
    """kill -9 while a subflow waits for its retry: its next attempt is due when it was, and is the last."""
    process = script.start("""
        @flow(retries=1, retry_delay_seconds=1)
        def sub():
            effect(f"sub {time.time()}")
            raise ValueError("no")

        @flow
        def whole():
            sub()

        if __name__ == "__main__":
            whole()
    """)
    eventually(lambda: (run := reader.run(2)) is not None and run.state_name == "AwaitingRetry")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert subprocess.run([*CLI, "retry", "--here", "1"], check=False).returncode == 1
    times = [float(line.split()[1]) for line in effects.lines]
    assert len(times) == 2
    assert times[1] - times[0] > 0.9


def test_retries_and_crash_retries_of_a_run_are_counted_apart(box) -> None:
    """A crash uses up no retry, a failure no crash retry; both are said."""
    box.write("etl.py", """
        @flow(retries=1, retry_delay_seconds=0.05, crash_retries=1)
        def etl():
            effect("body")
            number = len(open(HERE + "/effects").readlines())
            if number == 1:
                raise ValueError("failed")
            if number == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return number
    """)
    box.daemon()
    run_id = box.submit("etl")
    row = box.wait_state(run_id, "Completed", "Failed", "Crashed")
    if row.state_name == "Crashed":
        row = box.wait_state(run_id, "Completed", "Failed")
    assert (row.state_name, row.attempt, row.crash_count, row.result_preview) == ("Completed", 3, 1, "3")
    messages = [event.message for event in box.reader.events(run_id=run_id)
                if event.to_name in ("AwaitingRetry", "Resuming")]  # fmt: skip
    assert messages == [
        "attempt 1 failed: ValueError: failed; next in 0.05 s",
        "killed by signal 9 (SIGKILL); resumes by replay (1 of 1 crash retries)",
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------- held for a person


def test_a_daemons_run_is_held_too(box) -> None:
    """``show`` says why; killed it stays held; resume gives the task all its retries again."""
    box.write("etl.py", """
        @task(retries=1, on_exhausted="pause")
        def step():
            effect("step")
            if not os.path.exists(HERE + "/mended"):
                raise ValueError("broken")
            return "mended"

        @flow
        def etl():
            return step.submit().result()
    """)
    box.daemon()
    run_id = box.submit("etl")
    row = box.wait_state(run_id, "Paused")
    assert "task step (1/1) failed after 2 attempts: ValueError: broken; held for a person" in row.cause
    shown = subprocess.run([*CLI, "--store", str(box.folder), "show", str(run_id)], capture_output=True, text=True,
                           check=False).stdout  # fmt: skip
    assert "held for a person: resume tries it again" in shown
    box.control.resume(run_id)
    box.wait(lambda: len(box.effects()) == 4)
    box.wait(lambda: box.states(run_id).count("Paused") == 2)  # before that the row may still say the first
    os.kill(box.reader.lease_of(run_id).pid, signal.SIGKILL)
    box.wait_state(run_id, "Suspended")
    box.touch("mended")
    box.control.resume(run_id)
    row = box.wait_state(run_id, "Completed")
    assert (row.result_preview, len(box.effects())) == ("'mended'", 5)


@pytest.mark.parametrize("how", ["call", "submit"])
def test_a_task_whose_retries_ran_out_holds_its_run(reader, store, eventually, how) -> None:
    """The run is Paused and says which task and why; resume tries it again with all its retries."""
    body = flaky(3)

    @task(retries=1, on_exhausted="pause")
    def step():
        return body()

    @flow
    def whole():
        return step() if how == "call" else step.submit().result()

    with resumed_when_paused(store, reader, eventually) as seen:
        assert whole() == "made it"
    assert len(body.calls) == 4
    run, row = seen[0]
    assert run.cause == ("task step (1/1) failed after 2 attempts: ValueError: failure 2; held for a person: resume "
                         "tries it again, cancel ends the run")  # fmt: skip
    assert (row.state_type, row.state_name, row.attempt) == ("PAUSED", "Paused", 2)
    assert row.cause.startswith("attempt 2 failed: ValueError: failure 2; held for a person")
    assert (reader.run(1).state_name, reader.tasks(1)[0].attempt) == ("Completed", 4)


def test_a_held_run_may_be_held_again_and_cancelled(reader, store, eventually) -> None:
    """Cancel ends it: the task and the run are Cancelled; nothing else began meanwhile."""
    begun = []

    @task(on_exhausted="pause")
    def step():
        raise ValueError("never")

    @task
    def other(x):
        begun.append(x)

    @flow
    def whole():
        step.submit().wait()
        other(1)

    def act(control, times):
        (control.resume if times == 1 else control.cancel)(1)

    with resumed_when_paused(store, reader, eventually, act, times=2), pytest.raises(SystemExit):
        whole()
    assert reader.run(1).state_name == "Cancelled"
    assert [row.state_name for row in reader.tasks(1)] == ["Cancelled"]
    assert begun == []


def test_a_flow_may_be_held_too(reader, store, eventually) -> None:
    """Its next attempt begins when somebody resumes it; finished tasks are not repeated."""
    body, once = flaky(3), flaky(0)
    step = task(name="step")(lambda: once())

    @flow(retries=1, on_exhausted="pause")
    def whole():
        step()
        return body()

    with resumed_when_paused(store, reader, eventually) as seen:
        assert whole() == "made it"
    assert "flow whole failed in attempt 2: ValueError: failure 2; held for a person" in seen[0][0].cause
    assert (len(body.calls), len(once.calls)) == (4, 1)
    assert reader.run(1).attempt == 4


def test_a_held_run_that_loses_its_process_goes_on_with_all_its_retries(reader, script, effects, eventually) -> None:
    """Suspended, then queued by resume; the task has its retries anew."""
    process = script.start("""
        @task(retries=1, on_exhausted="pause")
        def step():
            effect("step")
            if sum(line == "step\\n" for line in open(HERE + "/effects")) < 4:
                raise ValueError("not yet")

        @flow
        def whole():
            step()

        if __name__ == "__main__":
            whole()
    """)
    eventually(lambda: reader.run(1) is not None and reader.run(1).state_name == "Paused")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with closing_control(script.store) as control:
        control.reap()
        assert reader.run(1).state_name == "Suspended"
        control.resume(1)
    assert execute_here(script, 1) == 0
    assert effects.count("step") == 4
    assert reader.tasks(1)[0].state_name == "Completed"


@contextmanager
def closing_control(store):
    control = Control(store, actor="tester@here via test")
    try:
        yield control
    finally:
        control.close()


@contextmanager
def resumed_when_paused(store, reader, eventually, act=lambda control, _times: control.resume(1), times=1):
    """While inside, somebody acts whenever the run is paused; gives the rows they saw."""
    seen = []

    def person():
        with closing_control(store) as control, Reader(store) as own:
            for number in range(1, times + 1):
                eventually(lambda: own.run(1) is not None and own.run(1).state_name == "Paused")
                seen.append((own.run(1), own.tasks(1)[0] if own.tasks(1) else None))
                act(control, number)
                eventually(lambda: own.run(1).state_name != "Paused")

    thread = threading.Thread(target=person)
    thread.start()
    try:
        yield seen
    finally:
        thread.join()


def execute_here(script, run_id):
    """A process that takes a queued run, as a daemon's would."""
    program = (
        "import sys; from pathlib import Path; from flowdeck.engine.authoring.loader import find_flow;"
        "from flowdeck.engine.running.run_process.claiming import claim_here; "
        "from flowdeck.engine.running.run_process.entry import execute_run; folder = Path(sys.argv[1]);"
        "sys.exit(execute_run(folder, int(sys.argv[2]), claim_here(folder, int(sys.argv[2])), find_flow(sys.argv[3])))"
    )
    command = [sys.executable, "-P", "-c", program, str(script.store), str(run_id), str(script.path)]
    return subprocess.run(command, check=False, timeout=60).returncode


@pytest.mark.parametrize("how", ["step()", "step.submit().result()"])
def test_ctrl_c_ends_a_held_run(reader, script, eventually, how) -> None:
    """Cancelled, the task too."""
    process = script.start(f"""
        @task(on_exhausted="pause")
        def step():
            raise ValueError("no")

        @flow
        def whole():
            {how}

        if __name__ == "__main__":
            whole()
    """)
    eventually(lambda: reader.run(1) is not None and reader.run(1).state_name == "Paused")
    process.send_signal(signal.SIGINT)
    process.wait(20)
    assert reader.run(1).state_name == "Cancelled"
    assert [row.state_name for row in reader.tasks(1)] == ["Cancelled"]


def test_a_held_run_that_is_told_to_end_stays_held(box) -> None:
    """SIGTERM, as when the machine shuts down: Suspended with its words; resume tries again."""
    box.write("etl.py", """
        @task(retries=1, on_exhausted="pause")
        def step():
            effect("step")
            if len(open(HERE + "/effects").readlines()) < 3:
                raise ValueError("no")

        @flow
        def etl():
            step()
    """)
    box.daemon()
    run_id = box.submit("etl")
    box.wait_state(run_id, "Paused")
    os.kill(box.reader.lease_of(run_id).pid, signal.SIGTERM)
    box.wait_state(run_id, "Suspended")
    box.control.resume(run_id)
    box.wait_state(run_id, "Completed")
    assert box.effects() == ["step"] * 3
