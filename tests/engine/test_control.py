"""Cancel, pause and resume of runs: from inside the process by request, from outside by signal."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from flowdeck import Cancelled, flow, task
from flowdeck.engine.control.control import Control
from flowdeck.engine.errors import NotAllowed, NotFound
from flowdeck.engine.running.run_process.answers import RunCancelled

LONG = 30.0


@pytest.fixture
def control(store):
    control = Control(store, actor="tester@here via test")
    yield control
    control.close()


@pytest.fixture
def meanwhile(store):
    """Do things from another thread while the flow runs in the main thread; what goes wrong there fails the test."""
    threads, errors = [], []

    def begin(work):
        def guarded():
            own = Control(store, actor="tester@here via test")
            try:
                work(own)
            except BaseException as error:
                errors.append(error)
                own.cancel(1)
                raise
            finally:
                own.close()

        thread = threading.Thread(target=guarded)
        threads.append(thread)
        thread.start()

    yield begin
    for thread in threads:
        thread.join(20)
    assert errors == []


def names(reader, run_id=1, seq=None):
    return [event.to_name for event in reader.events(run_id=run_id, limit=10_000)
            if event.kind == "state" and event.task_seq == seq]  # fmt: skip


@pytest.mark.parametrize("where", ["flow sleeps", "flow spins", "task sleeps", "pool", "waits for a future",
                                   "waits for the rest", "retry delay", "flow retry delay"])  # fmt: skip
def test_cancel_ends_a_run_wherever_it_is(reader, meanwhile, eventually, where) -> None:
    """``finally`` runs, everything is recorded as cancelled by whom, and it takes no time."""
    begun, cleaned = threading.Event(), []

    def spin():
        begun.set()
        try:
            if "spins" in where or where in ("pool", "waits for a future", "waits for the rest"):
                end = time.monotonic() + LONG
                while time.monotonic() < end:
                    time.sleep(0.001)
            time.sleep(LONG)
        finally:
            cleaned.append(True)

    @task
    def slow():
        spin()

    @task
    def after(x):
        raise AssertionError

    @task(retries=1, retry_delay_seconds=LONG)
    def failing():
        begun.set()
        cleaned.append(True)
        raise ValueError

    @flow(retries=1 if where == "flow retry delay" else 0, retry_delay_seconds=LONG)
    def whole():
        if where.startswith("flow s"):
            spin()
        elif where == "task sleeps":
            slow()
        elif where == "retry delay":
            failing()
        elif where == "flow retry delay":
            begun.set()
            cleaned.append(True)
            raise ValueError
        else:
            futures = [slow.submit() for _ in range(3)]
            waiting = after.submit(futures[0])
            if where == "waits for a future":
                waiting.result()
            elif where == "pool":
                time.sleep(LONG)

    def work(control):
        begun.wait(10)
        if "retry" in where:
            eventually(lambda: "AwaitingRetry" in names(reader) + names(reader, seq=1))
        control.cancel(1)

    meanwhile(work)
    started = time.monotonic()
    state = whole(return_state=True)
    assert time.monotonic() - started < 5
    assert state.is_cancelled()
    assert cleaned
    run = reader.run(1)
    assert (run.state_name, run.cause, run.intent) == ("Cancelled", "cancelled by tester@here via test", "none")
    for row in reader.tasks(1):
        assert row.state_type == "CANCELLED" or (row.name, row.state_name) == ("after", "NotReady"), row
        assert row.cause
    assert names(reader)[-1] == "Cancelled"


@pytest.mark.alone
def test_cancel_ends_coroutines(reader, meanwhile) -> None:
    """A gather of tasks and the flow around it, at once."""
    begun, cleaned = threading.Event(), []

    @task
    async def slow():
        begun.set()
        try:
            await asyncio.sleep(LONG)
        finally:
            cleaned.append(1)

    @flow
    async def whole():
        await asyncio.gather(slow(), slow(), slow())

    meanwhile(lambda control: (begun.wait(10), control.cancel(1)))
    started = time.monotonic()
    state = asyncio.run(whole(return_state=True))
    assert time.monotonic() - started < 2
    assert state.is_cancelled()
    assert len(cleaned) == 3
    assert [row.state_type for row in reader.tasks(1)] == ["CANCELLED"] * 3


def test_a_task_that_does_not_listen_is_left_behind(reader, meanwhile, monkeypatch) -> None:
    """After the grace the run is cancelled all the same, and the record says what happened."""
    monkeypatch.setenv("FLOWDECK_CANCEL_GRACE_SECONDS", "0.3")
    begun, go = threading.Event(), threading.Event()

    @task
    def deaf():
        begun.set()
        go.wait(LONG)  # a lock: nothing is raised in here before it ends
        return "too late"

    @flow
    def whole():
        deaf.submit()

    meanwhile(lambda control: (begun.wait(10), control.cancel(1)))
    assert whole(return_state=True).is_cancelled()
    row = reader.tasks(1)[0]
    assert (row.state_type, row.cause) == ("CANCELLED", "did not end within 0.3 s of the cancellation")
    go.set()


def test_cancelled_passes_except_exception(reader, meanwhile) -> None:
    """Code that catches everything catches it not; code that catches it by name may clean up, and calls no more."""
    begun = threading.Event()
    seen = []

    @task
    def never():
        seen.append("never")

    @flow
    def whole():
        try:
            try:
                begun.set()
                time.sleep(LONG)
            except Exception:
                seen.append("exception")
        except Cancelled as error:
            seen.append(str(error))
            with pytest.raises(Cancelled):
                never()
            raise

    meanwhile(lambda control: (begun.wait(10), control.cancel(1)))
    with pytest.raises(RunCancelled) as caught:
        whole()
    assert caught.value.code == 130
    assert seen == ["cancelled by tester@here via test"]


def test_pause_holds_what_has_not_begun(reader, meanwhile, eventually, effects) -> None:
    """Pausing, then Paused once running tasks have finished; resumed it goes on as if nothing had been."""
    first, release = threading.Event(), threading.Event()

    @task
    def step(n):
        effects(n)
        if n == 0:
            first.set()
            release.wait(10)
        return n

    @flow
    def child():
        return step(5)

    @flow
    def whole():
        running = step.submit(0)
        first.wait(10)
        held = step.map([1, 2, 3])
        return [running.result(), *held.result(), step(4), child()]

    def work(control):
        first.wait(10)
        eventually(lambda: len(reader.tasks(1)) >= 1)
        control.pause(1)
        eventually(lambda: "Pausing" in names(reader))
        noted = set(effects.lines)
        release.set()
        eventually(lambda: reader.run(1).state_name == "Paused")
        assert set(effects.lines) == noted
        assert "4" not in noted
        with pytest.raises(NotAllowed, match="is Paused: it cannot be asked to pause"):
            control.pause(1)
        control.resume(1)

    meanwhile(work)
    assert whole() == [0, 1, 2, 3, 4, 5]
    assert names(reader) == ["Pending", "Running", "Pausing", "Paused", "Running", "Completed"]
    causes = [event.message for event in reader.events(run_id=1) if event.to_name == "Paused"]
    assert causes == ["paused by tester@here via test"]


def test_pause_and_resume_again_and_again(reader, meanwhile, eventually) -> None:
    """Async tasks, mapped ones and subflows pass the same gate; nothing is lost or doubled."""
    ran = []

    @task
    async def quick(n):
        ran.append(n)
        await asyncio.sleep(0.002)
        return n

    @task
    def plain(n):
        time.sleep(0.002)
        ran.append(n)
        return n

    @flow
    async def child(n):
        return sum(await asyncio.gather(*(quick(n + k) for k in range(3))))

    @flow
    async def whole():
        total = 0
        for n in range(0, 300, 10):
            total += await child(n)
            total += sum(await asyncio.to_thread(plain.map([n + 5, n + 6]).result))
        return total

    def work(control):
        for _ in range(4):
            eventually(lambda: reader.run(1) and reader.run(1).state_name in ("Running", "Completed"))
            if reader.run(1).state_name == "Completed":
                return
            try:
                control.pause(1)
                eventually(lambda: reader.run(1).state_name in ("Paused", "Completed"))
                count = len(ran)
                time.sleep(0.05)
                assert len(ran) == count or reader.run(1).state_name == "Completed"
                control.resume(1)
            except NotAllowed:
                assert reader.run(1).state_name == "Completed"

    meanwhile(work)
    asyncio.run(whole())
    assert sorted(ran) == sorted(n + k for n in range(0, 300, 10) for k in (0, 1, 2, 5, 6))
    assert "Paused" in names(reader)
    assert reader.run(1).state_name == "Completed"


def test_a_paused_run_can_be_cancelled(reader, meanwhile, eventually) -> None:
    """Without anything of it starting."""
    begun, release = threading.Event(), threading.Event()

    @task
    def step(n):
        begun.set()
        release.wait(10)

    @flow
    def whole():
        step(0)
        step(1)

    def work(control):
        begun.wait(10)
        control.pause(1)
        eventually(lambda: "Pausing" in names(reader))
        release.set()
        eventually(lambda: reader.run(1).state_name == "Paused")
        control.cancel(1)

    meanwhile(work)
    assert whole(return_state=True).is_cancelled()
    assert [row.state_name for row in reader.tasks(1)] == ["Completed"]


def test_a_flow_that_ends_while_paused_is_recorded(reader, meanwhile, eventually) -> None:
    """Its own code may go on (a wait that ran out of time); the record stays legal."""
    begun = threading.Event()

    @task
    def held():
        return 1

    @flow
    def whole():
        begun.set()
        future = None
        while "Pausing" not in names(reader):
            time.sleep(0.005)
        future = held.submit()
        future.wait(0.5)
        return "out of patience"

    def work(control):
        begun.wait(10)
        control.pause(1)
        eventually(lambda: reader.run(1).state_name == "Paused")
        eventually(lambda: time.sleep(0.6) or True)
        control.resume(1)

    meanwhile(work)
    assert whole() == "out of patience"
    assert reader.run(1).state_name == "Completed"


def test_requests_to_runs_without_a_process(reader, control) -> None:
    """They take effect at once, each with its event; what makes no sense is refused in words."""

    @flow
    def whole():
        raise ValueError

    whole(return_state=True)
    with pytest.raises(NotAllowed, match="run #1 is Failed: it cannot be asked to cancel"):
        control.cancel(1)
    with pytest.raises(NotFound, match="no run #9"):
        control.pause(9)
    assert control.retry(1).text == "queued as attempt 2"
    assert control.pause(1).text == "paused"
    assert control.resume(1).text == "queued to continue"
    assert control.cancel(1).text == "cancelled"
    assert names(reader)[-4:] == ["Scheduled", "Paused", "Resuming", "Cancelled"]
    with pytest.raises(NotAllowed, match="read-only"):
        Control(control._folder, actor="x", read_only=True).retry(1)


# -- signals, in real processes --------------------------------------------------------------------------------------

SLEEPS = """
@task
def slow(n):
    effect(f"slow {n}")
    try:
        time.sleep(30)
    finally:
        effect(f"cleaned {n}")

@flow
def whole():
    try:
        BODY
    finally:
        effect("flow cleaned")

if __name__ == "__main__":
    whole()
"""


@pytest.mark.parametrize("body", ["slow(1)", "time.sleep(0.01); effect('slow 1'); time.sleep(30)",
                                  "slow.submit(1).result()"])  # fmt: skip
@pytest.mark.parametrize(
    ("number", "code", "state"), [(signal.SIGINT, 130, "Cancelled"), (signal.SIGTERM, 143, "Crashed")]
)
def test_signals_from_outside(reader, script, effects, eventually, body, number, code, state) -> None:
    """Ctrl-C cancels, SIGTERM without a request is a crash; either way ``finally`` runs and everything is recorded."""
    process = script.start(SLEEPS.replace("BODY", body), FLOWDECK_CANCEL_GRACE_SECONDS="0.5")
    eventually(lambda: effects.count("slow 1"))
    eventually(lambda: reader.run(1).state_name == "Running")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    # Ctrl-C outside a task stays Python's KeyboardInterrupt, which ends a script by its signal: 130 in a shell.
    assert process.returncode in (code, -number if number == signal.SIGINT else code), err
    run = reader.run(1)
    assert run.state_name == state
    assert ("SIGTERM" if number == signal.SIGTERM else "Ctrl-C") in run.cause
    assert "flow cleaned" in effects.lines
    assert all(row.ended_at_us for row in reader.tasks(1))
    assert reader.leases() == []


def test_ctrl_c_in_an_async_flow(reader, script, effects, eventually) -> None:
    """asyncio turns it into a cancellation of the main coroutine; the run is cancelled."""
    process = script.start("""
        import asyncio
        @task
        async def slow():
            effect("slow")
            await asyncio.sleep(30)
        @flow
        async def whole():
            await slow()
        asyncio.run(whole())
    """)
    eventually(lambda: effects.count("slow"))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert reader.run(1).state_type == "CANCELLED"
    assert reader.tasks(1)[0].state_type == "CANCELLED"


def test_sigterm_with_a_request_is_a_cancellation(reader, script, control, effects, eventually) -> None:
    """Also when the signal is faster than the run's own look at its requests."""
    process = script.start(SLEEPS.replace("BODY", "slow(1)"))
    eventually(lambda: effects.count("slow 1"))
    eventually(lambda: reader.run(1).state_name == "Running")
    os.kill(process.pid, signal.SIGSTOP)
    control.cancel(1)
    os.kill(process.pid, signal.SIGTERM)
    os.kill(process.pid, signal.SIGCONT)
    process.communicate(timeout=60)
    assert (reader.run(1).state_name, reader.run(1).cause) == ("Cancelled", "cancelled by tester@here via test")
    assert process.returncode == 130


def test_children_end_with_a_cancelled_run(reader, script, control, effects, eventually) -> None:
    """Also one that made a session of its own."""
    process = script.start("""
        import subprocess
        @flow
        def whole():
            child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
            effect(child.pid)
            child.wait()
        whole()
    """)
    (pid,) = eventually(lambda: effects.lines)
    control.cancel(1)
    process.communicate(timeout=60)
    assert reader.run(1).state_name == "Cancelled"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


@pytest.mark.alone
def test_cancel_of_a_running_script_is_quick(reader, script, control, effects, eventually) -> None:
    """Request to recorded end, well under a second."""
    process = script.start(SLEEPS.replace("BODY", "slow(1)"))
    eventually(lambda: effects.count("slow 1"))
    eventually(lambda: reader.run(1).state_name == "Running")
    begun = time.monotonic()
    control.cancel(1)
    eventually(lambda: reader.run(1).state_name == "Cancelled")
    assert time.monotonic() - begun < 1.5
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run #1 was cancelled: cancelled by tester@here via test" in err
    assert "Traceback" not in err


def test_freeze_and_thaw(reader, script, control, effects, eventually) -> None:
    """Nothing of it runs while it is frozen."""
    process = script.start("""
        @flow
        def whole():
            while not os.path.exists(HERE + "/go"):
                effect("tick")
                time.sleep(0.005)
        whole()
    """)
    eventually(lambda: effects.lines)
    eventually(lambda: reader.run(1).state_name == "Running")
    control.freeze(1)
    eventually(lambda: Path(f"/proc/{process.pid}/stat").read_text().split()[2] == "T")
    count = len(effects.lines)
    assert subprocess.run([sys.executable, "-c", "pass"], check=True).returncode == 0
    assert (len(effects.lines), reader.run(1).state_name) == (count, "Frozen")
    control.thaw(1)
    script.touch("go")
    process.communicate(timeout=60)
    assert reader.run(1).state_name == "Completed"
