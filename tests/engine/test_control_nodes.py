"""Cancel of a part of a run tree: one task, a mapped group, a subflow; the rest of the run goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import pytest
from flowdeck import Cancelled, flow, task
from flowdeck.engine.control.control import Control, Node
from flowdeck.engine.errors import NotAllowed, NotFound
from flowdeck.engine.running.run_process.claiming import claim_here
from flowdeck.engine.running.run_process.entry import execute_run
from flowdeck.signals import PAUSE
from flowdeck.store.connection import connect
from flowdeck.store.reader import Reader

LONG = 30.0
ME = "cancelled by tester@here via test"


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


def row_of(reader, name, run_id=1):
    return next((row for row in reader.tasks(run_id) if row.name == name), None)


def state_of(reader, name, run_id=1):
    row = row_of(reader, name, run_id)
    return row.state_name if row else None


@pytest.mark.parametrize("how", ["called", "spins in a thread", "sleeps in a thread", "async", "retry delay, called",
                                 "retry delay, submitted", "retry delay, async"])  # fmt: skip
def test_one_task_is_cancelled_wherever_it_is(reader, meanwhile, eventually, how) -> None:
    """``finally`` runs, it is recorded with who asked, the code around it sees Cancelled and may go on."""
    cleaned, seen = [], []

    def work_long():
        try:
            if "spins" in how:
                end = time.monotonic() + LONG
                while time.monotonic() < end:
                    time.sleep(0.001)
            else:
                for _ in range(int(LONG * 20)):
                    time.sleep(0.05)
        finally:
            cleaned.append(True)

    @task(retries=1 if "retry" in how else 0, retry_delay_seconds=LONG)
    def slow():
        if "retry" in how:
            cleaned.append(True)
            raise ValueError
        work_long()

    @task(retries=1 if "retry" in how else 0, retry_delay_seconds=LONG)
    async def slow_async():
        if "retry" in how:
            cleaned.append(True)
            raise ValueError
        try:
            await asyncio.sleep(LONG)
        finally:
            cleaned.append(True)

    @task
    def other():
        return "other"

    @flow
    def whole():
        try:
            if "async" in how:
                slow_async.submit().result()
            elif "called" in how:
                slow()
            else:
                slow.submit().result()
        except Cancelled as error:
            seen.append(str(error))
        return other()

    name = "slow_async" if "async" in how else "slow"

    def work(control):
        wanted = "AwaitingRetry" if "retry" in how else "Running"
        eventually(lambda: state_of(reader, name) == wanted)
        assert "cancelling" in control.cancel(Node(1, 1)).text

    meanwhile(work)
    started = time.monotonic()
    assert whole() == "other"
    assert time.monotonic() - started < 5
    assert cleaned
    assert seen == [f"task {name} (1/1): {ME}"]
    assert (state_of(reader, name), row_of(reader, name).cause) == ("Cancelled", ME)
    assert reader.run(1).state_name == "Completed"
    asked = [event for event in reader.events(run_id=1) if event.kind == "request"]
    assert [(event.actor, event.message) for event in asked] == [("tester@here via test", f"cancel {name} (1/1)")]


def test_a_mapped_group_is_cancelled_whole(reader, meanwhile, eventually, effects) -> None:
    """What waits for a thread, for another task or runs: all of it; what was done stays, and Prefect's rule holds."""

    @task
    def quick(n):
        return n

    @task
    def slow(n):
        if n == 0:
            return n
        effects(f"began {n}")
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            time.sleep(0.001)
        return None

    @task
    def later(n):
        effects("later")

    @flow
    def whole():
        quick.submit(1)
        late = later.map(slow.map(range(40)))
        late.wait()

    def work(control):
        eventually(lambda: effects.count("began 1"))
        eventually(lambda: len(reader.tasks(1)) == 81)
        eventually(lambda: state_of(reader, "slow") == "Completed" or any(
            row.key == "slow" and row.state_name == "Completed" for row in reader.tasks(1)))
        control.cancel(Node(1, None, 0, "slow", 0))

    meanwhile(work)
    state = whole(return_state=True)
    rows = reader.tasks(1)
    assert [row.state_name for row in rows if row.key == "slow"] == ["Completed"] + ["Cancelled"] * 39
    assert {row.cause for row in rows if row.key == "slow" and row.state_name == "Cancelled"} == {ME}
    assert {row.state_name for row in rows if row.key == "later"} == {"Completed", "NotReady"}
    assert all(row.ended_at_us for row in rows)
    assert state.is_failed() or state.is_cancelled()


def test_states_cancelled_decide_the_flow_as_with_prefect(reader, meanwhile, eventually) -> None:
    """One of three submitted tasks cancelled, the flow returns nothing: Cancelled, ``1/3 states cancelled.``"""
    go = threading.Event()

    @task
    def step(n):
        for _ in range(600):
            if n != 1 and go.is_set():
                return n
            time.sleep(0.05)
        return None

    @flow
    def whole():
        return [step.submit(n) for n in range(3)]

    def work(control):
        eventually(lambda: len(reader.tasks(1)) == 3 and reader.tasks(1)[1].state_name == "Running")
        control.cancel(Node(1, 2))
        eventually(lambda: reader.tasks(1)[1].state_name == "Cancelled")
        go.set()

    meanwhile(work)
    state = whole(return_state=True)
    assert (state.type, state.message) == ("CANCELLED", "1/3 states cancelled.")
    assert (reader.run(1).state_name, reader.run(1).cause) == ("Cancelled", "1/3 states cancelled.")


@pytest.mark.parametrize("how", ["runs", "calls", "submits", "swallows", "retry delay", "nested"])
def test_a_subflow_is_cancelled_and_its_parent_goes_on(reader, meanwhile, eventually, how) -> None:
    """Everything under it ends as Cancelled, its hook runs, the parent sees the exception."""
    cleaned, seen, hooks = [], [], []

    @task
    def slow():
        try:
            for _ in range(600):
                time.sleep(0.05)
        finally:
            cleaned.append("task")

    def hook(flow, run, state):
        hooks.append(state.name)

    @flow
    def grandchild():
        slow()

    @flow(on_cancellation=[hook], retries=1 if how == "retry delay" else 0, retry_delay_seconds=LONG)
    def child():
        try:
            if how == "retry delay":
                raise ValueError
            if how == "calls":
                slow()
            elif how == "submits":
                slow.submit()
                slow.submit()
                return "not this"
            elif how == "nested":
                grandchild()
            else:
                for _ in range(600):
                    time.sleep(0.05)
        except Cancelled:
            if how != "swallows":
                raise
        finally:
            cleaned.append("flow")
        return "not this"

    @task
    def other():
        return "other"

    @flow
    def whole():
        try:
            child()
        except Cancelled as error:
            seen.append(str(error))
        return other()

    def work(control):
        wanted = "AwaitingRetry" if how == "retry delay" else "Running"
        eventually(lambda: (run := reader.run(2)) and run.state_name == wanted)
        if how in ("calls", "submits", "nested"):
            owner = 3 if how == "nested" else 2
            eventually(lambda: state_of(reader, "slow", owner) == "Running")
        control.cancel(2)

    meanwhile(work)
    started = time.monotonic()
    assert whole() == "other"
    assert time.monotonic() - started < 6
    assert cleaned
    assert hooks == ["Cancelled"]
    assert len(seen) == 1
    assert seen[0].endswith(ME)
    assert (reader.run(2).state_type, reader.run(2).cause) == ("CANCELLED", ME)
    assert (reader.tasks(1)[0].state_type, reader.tasks(1)[0].cause) == ("CANCELLED", ME)
    for run_id in (2, 3):
        assert {row.state_type for row in reader.tasks(run_id)} <= {"CANCELLED"}
    assert reader.run(1).state_name == "Completed"


def test_nested_tasks_end_with_the_task_that_called_them(reader, meanwhile, eventually, effects) -> None:
    """Those it called, those it submitted, and those its clean-up would still call."""

    @task
    def inner(n):
        effects(f"inner {n}")
        for _ in range(600):
            time.sleep(0.05)

    @task
    def never():
        effects("never")

    @task
    def outer():
        inner.submit(1)
        try:
            inner(2)
        finally:
            with pytest.raises(Cancelled):
                never()

    @flow
    def whole():
        with pytest.raises(Cancelled):
            outer.submit().result()
        inner_left = [row for row in reader.tasks(1) if row.ended_at_us is None]
        return len(inner_left)

    def work(control):
        eventually(lambda: {"inner 1", "inner 2"} <= set(effects.lines))
        eventually(lambda: state_of(reader, "outer") == "Running")
        control.cancel(Node(1, row_of(reader, "outer").seq))

    meanwhile(work)
    whole()
    assert not effects.count("never")
    assert {row.state_type for row in reader.tasks(1)} == {"CANCELLED"}


def test_a_call_that_does_not_listen_is_left_behind(reader, meanwhile, monkeypatch) -> None:
    """After the grace it is recorded with those words; what it returns later changes nothing."""
    monkeypatch.setenv("FLOWDECK_CANCEL_GRACE_SECONDS", "0.3")
    begun, go = threading.Event(), threading.Event()

    @task
    def deaf():
        begun.set()
        go.wait(LONG)  # a lock: nothing is raised in here before it ends
        return "too late"

    @task
    def other():
        return "other"

    @flow
    def whole():
        future = deaf.submit()
        with pytest.raises(Cancelled):
            future.result()
        go.set()
        time.sleep(0.2)
        return other(), future.state.is_cancelled()

    meanwhile(lambda control: (begun.wait(10), time.sleep(0.1), control.cancel(Node(1, 1))))
    assert whole() == ("other", True)
    row = reader.tasks(1)[0]
    assert (row.state_type, row.cause) == (
        "CANCELLED", f"{ME}; its code did not end within 0.3 s and what it returns is dropped")
    assert reader.result(1, 1) is None


def test_a_task_waiting_for_another_or_at_the_gate_is_cancelled_at_once(reader, meanwhile, eventually, effects) -> None:
    """Its thread-less wait ends; it never runs."""
    go = threading.Event()

    @task
    def first():
        while not go.is_set():
            time.sleep(0.005)
        return 1

    @task
    def second(x):
        effects(f"second {x}")

    @flow
    def whole():
        one = first.submit()
        two, three = second.submit(one), second.submit(2)
        with pytest.raises(Cancelled):
            two.result()
        three.wait()
        effects("saw")
        one.result()

    def work(control):
        eventually(lambda: len(reader.tasks(1)) == 3 and state_of(reader, "first") == "Running")
        control.cancel(Node(1, 2))
        eventually(lambda: reader.tasks(1)[1].state_name == "Cancelled")
        eventually(lambda: effects.count("saw"))
        go.set()

    meanwhile(work)
    whole()
    assert not any(line == "second 1" for line in effects.lines)
    assert reader.tasks(1)[1].cause == ME


def test_a_paused_run_lets_go_of_a_cancelled_task(store, reader, meanwhile, eventually, effects) -> None:
    """Held at the gate, told to end: recorded at once; the others wait on."""
    begun, release = threading.Event(), threading.Event()
    reader_of_flow = Reader(store)

    @task
    def step(n):
        effects(f"step {n}")
        if n == 0:
            begun.set()
            release.wait(10)

    @flow
    def whole():
        running = step.submit(0)
        eventually(lambda: reader_of_flow.run(1).state_name == "Pausing")
        held = [step.submit(1), step.submit(2)]
        running.wait()
        for future in held:
            future.wait()
        return "done"

    def work(control):
        begun.wait(10)
        control.pause(1)
        eventually(lambda: len(reader.tasks(1)) == 3)
        release.set()
        eventually(lambda: reader.run(1).state_name == "Paused")
        control.cancel(Node(1, 2))
        eventually(lambda: reader.tasks(1)[1].state_name == "Cancelled")
        assert reader.tasks(1)[2].state_name == "Pending"
        control.resume(1)

    meanwhile(work)
    assert whole(return_state=True).message.startswith("1/3 states cancelled.")
    assert (effects.count("step 1"), effects.count("step 2")) == (0, 1)
    reader_of_flow.close()


def test_requests_that_make_no_sense_are_refused_in_words(reader, control) -> None:
    """Unknown nodes are not found; ended ones cannot be cancelled; nothing is recorded."""

    @task
    def step():
        raise ValueError

    @flow
    def child():
        step()

    @flow
    def whole():
        child()

    whole(return_state=True)
    with pytest.raises(NotFound, match="run #1 has no task 9"):
        control.cancel(Node(1, 9))
    with pytest.raises(NotFound, match="no run #77"):
        control.cancel(77)
    for node in (Node(2), Node(2, 1)):
        with pytest.raises(NotAllowed, match="run #1 is Failed: nothing of it runs"):
            control.cancel(node)
    with pytest.raises(NotAllowed, match="run #2 is part of run #1"):
        control.pause(2)
    assert not [event for event in reader.events() if event.kind == "request"]


def test_an_ended_task_of_a_live_run_is_not_cancelled(reader, meanwhile, eventually) -> None:
    """Said with its state."""
    go = threading.Event()

    @task
    def step():
        return 1

    @flow
    def whole():
        step()
        go.wait(10)

    def work(control):
        eventually(lambda: state_of(reader, "step") == "Completed")
        with pytest.raises(NotAllowed, match=r"task step \(1/1\) is Completed: it cannot be asked to cancel"):
            control.cancel(Node(1, 1))
        go.set()

    meanwhile(work)
    whole()


SLOW = """
@task
def slow(n):
    effect(f"began {n}")
    try:
        for _ in range(600):
            time.sleep(0.05)
    finally:
        effect(f"cleaned {n}")
    return n

@task
def after():
    effect("after")
    return "after"

@flow
def whole():
    try:
        slow.submit(1).result()
    except Cancelled as error:
        effect(str(error))
    wait_for("go")
    after()

if __name__ == "__main__":
    whole()
"""


def test_a_task_of_a_script_is_cancelled_from_outside(reader, script, control, effects, eventually) -> None:
    """``python script.py``: the task ends quickly, the script goes on to its end."""
    process = script.start(SLOW)
    eventually(lambda: effects.count("began 1"))
    eventually(lambda: state_of(reader, "slow") == "Running")
    control.cancel(Node(1, 1))
    eventually(lambda: effects.count("cleaned 1"))
    eventually(lambda: state_of(reader, "slow") == "Cancelled")
    script.touch("go")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert effects.lines[-2:] == [f"task slow (1/1): {ME}", "after"]


def test_a_cancelled_task_stays_so_through_a_crash(box) -> None:
    """The run's process is killed and resumes: what was cancelled by itself does not run again."""
    box.write("crash.py", """
        from flowdeck import Cancelled
        @task
        def slow(n):
            effect(f"began {n}")
            for _ in range(600):
                time.sleep(0.05)

        @flow
        def whole():
            try:
                slow.submit(1).result()
            except Cancelled:
                effect("caught")
            wait_for("go")
            return "done"
    """)
    box.daemon()
    run_id = box.submit("whole")
    box.wait_effects("began 1")
    box.wait_task(run_id, "RUNNING")
    box.control.cancel(Node(run_id, 1))
    box.wait_effects("caught")
    box.wait_task(run_id, "CANCELLED")
    os.kill(box.reader.lease_of(run_id).pid, signal.SIGKILL)
    box.wait(lambda: box.effects().count("caught") == 2)
    box.touch("go")
    box.wait_state(run_id, "Completed")
    assert box.effects().count("began 1") == 1
    assert box.reader.tasks(run_id)[0].cause == ME


def test_a_request_without_a_process_is_honoured_by_the_next_one(reader, store, control, effects) -> None:
    """Asked while the run waits for its retry: the task does not run then; the next retry ends that."""

    @task
    def fragile(n):
        effects(f"fragile {n}")
        raise ValueError

    @flow
    def whole():
        try:
            return fragile.submit(1).result()
        except Cancelled as error:
            return str(error)

    assert whole(return_state=True).is_failed()
    control.retry(1)
    with pytest.raises(NotAllowed, match=r"task fragile \(1/1\) is Failed"):
        control.cancel(Node(1, 1))
    # As a crash in the middle of it leaves it.
    connection = connect(store, "state")
    connection.execute("UPDATE task_run SET state_type = 'CRASHED', state_name = 'Crashed'")
    connection.close()
    assert "not run when the run goes on" in control.cancel(Node(1, 1)).text
    assert execute_run(store, 1, claim_here(store, 1), whole) == 0
    assert effects.count("fragile 1") == 1
    assert reader.run(1).result_preview == f"'task fragile (1/1): {ME}'"
    assert state_of(reader, "fragile") == "Cancelled"
    control.retry(1)
    assert execute_run(store, 1, claim_here(store, 1), whole) == 1
    assert effects.count("fragile 1") == 2


@pytest.mark.parametrize("submitted", [False, True])
def test_a_task_waiting_for_a_slot_is_cancelled(reader, control, meanwhile, eventually, effects, submitted) -> None:
    """It leaves the queue of the limit; who holds the slot keeps it."""
    control.set_limit("tag:busy", 1)
    held, go = threading.Event(), threading.Event()

    @task(tags=["busy"])
    def holds():
        held.set()
        while not go.is_set():
            time.sleep(0.005)

    @task(tags=["busy"])
    def waits():
        effects("waits")

    @flow
    def whole():
        holder = holds.submit()
        held.wait(10)
        with pytest.raises(Cancelled):
            waits.submit().result() if submitted else waits()
        go.set()
        holder.result()

    def work(own):
        eventually(lambda: state_of(reader, "waits") == "AwaitingSlot")
        own.cancel(Node(1, 2))

    meanwhile(work)
    whole()
    assert not effects.lines
    assert (state_of(reader, "waits"), row_of(reader, "waits").cause) == ("Cancelled", ME)


@pytest.mark.parametrize("how", ["called", "submitted", "async"])
def test_a_held_task_gets_its_outcome_from_a_person(reader, meanwhile, eventually, effects, how) -> None:
    """``on_exhausted="pause"``: marked as completed with a result, it gives that; the run goes on when resumed."""

    @task(on_exhausted="pause")
    def fragile():
        effects("fragile")
        raise ValueError

    @task(on_exhausted="pause")
    async def fragile_async():
        effects("fragile")
        raise ValueError

    @task
    def after(x):
        return x

    @flow
    def whole():
        if how == "called":
            return after(fragile())
        return after((fragile if how == "submitted" else fragile_async).submit().result())

    def work(control):
        eventually(lambda: reader.run(1) and reader.run(1).state_name == "Paused")
        assert "flowdeck resume 1" in control.set_state(Node(1, 1), "completed", {"rows": 3}).text
        eventually(lambda: reader.tasks(1)[0].state_name == "Completed")
        control.resume(1)

    meanwhile(work)
    assert whole() == {"rows": 3}
    row = reader.tasks(1)[0]
    assert (row.state_name, row.cause) == ("Completed", "marked completed by tester@here via test")
    assert effects.count("fragile") == 1


@pytest.mark.parametrize("how", ["called", "submitted"])
@pytest.mark.parametrize("held_by", ["its retries", "PAUSE"])
def test_a_decision_opens_no_gate(reader, meanwhile, eventually, effects, how, held_by) -> None:
    """The task is Completed as decided, its code does not run again, and nothing goes on before the run is resumed."""

    @task(on_exhausted="pause" if held_by == "its retries" else "fail")
    def fragile():
        effects("fragile")
        raise PAUSE("look") if held_by == "PAUSE" else ValueError

    @flow
    def whole():
        got = fragile() if how == "called" else fragile.submit().result()
        effects(f"on with {got}")
        return got

    def work(control):
        eventually(lambda: reader.run(1) and reader.run(1).state_name == "Paused")
        control.set_state(Node(1, 1), "completed", 3)
        if how == "submitted" or held_by == "its retries":
            eventually(lambda: reader.tasks(1)[0].state_name == "Completed")
        time.sleep(0.2)  # time in which nothing may happen
        assert effects.lines == ["fragile"]
        control.resume(1)

    meanwhile(work)
    assert whole() == 3
    assert reader.tasks(1)[0].state_name == "Completed"
    assert effects.lines == ["fragile", "on with 3"]


def test_a_decision_is_honoured_by_the_next_process(box) -> None:
    """Asked of a frozen process that is then killed: the one that resumes takes it."""
    box.write("held.py", """
        @task(on_exhausted="pause")
        def fragile():
            effect("fragile")
            raise ValueError
        @flow
        def held():
            return fragile()
    """)
    box.daemon()
    run_id = box.submit("held")
    box.wait_state(run_id, "Paused")
    pid = box.reader.lease_of(run_id).pid
    os.kill(pid, signal.SIGSTOP)
    box.control.set_state(Node(run_id, 1), "skipped")
    os.kill(pid, signal.SIGKILL)
    box.wait_state(run_id, "Suspended")
    box.control.resume(run_id)
    box.wait_state(run_id, "Completed")
    assert box.effects() == ["fragile"]
    assert box.reader.tasks(run_id)[0].state_name == "Skipped"


def test_async_subflows_and_tasks_awaited_in_place_are_cancelled(reader, meanwhile, eventually) -> None:
    """A subflow among others in a gather, and a task awaited directly: each alone, the rest goes on."""
    seen = []

    @task
    async def slow(n):
        await asyncio.sleep(LONG if n else 0.01)
        return n

    @flow
    async def child(n):
        return await slow(n)

    async def guarded(work):
        try:
            return await work
        except Cancelled as error:
            seen.append(str(error))
            return "cancelled"

    @flow
    async def whole():
        first = await asyncio.gather(guarded(child(0)), guarded(child(1)), guarded(slow(2)))
        return [*first, await slow(0)]

    def work(control):
        eventually(lambda: sorted(row.state_name for row in reader.tasks(1)) == ["Completed", "Running", "Running"])
        running = [row for row in reader.tasks(1) if row.state_name == "Running"]
        for row in running:
            control.cancel(Node(1, row.seq))

    meanwhile(work)
    assert asyncio.run(whole()) == [0, "cancelled", "cancelled", 0]
    assert len(seen) == 2
    assert all(text.endswith(ME) for text in seen)
    assert sorted(run.state_name for run in reader.runs(roots_only=False)) == ["Cancelled", "Completed", "Completed"]


def test_a_task_that_swallows_its_cancellation_has_ended_as_it_says(reader, meanwhile, eventually) -> None:
    """It returned a value in time: that is its result, and the request stays in the record."""

    @task
    def tidy():
        try:
            for _ in range(600):
                time.sleep(0.05)
        except Cancelled:
            return "tidied up"

    @flow
    def whole():
        return tidy.submit().result()

    meanwhile(lambda control: (eventually(lambda: state_of(reader, "tidy") == "Running"), control.cancel(Node(1, 1))))
    assert whole() == "tidied up"
    assert state_of(reader, "tidy") == "Completed"


def test_a_clean_up_that_fails_is_told_with_the_cancellation(reader, meanwhile, eventually) -> None:
    """Cancelled all the same, not tried again, and its cause has both."""

    @task(retries=5)
    def messy():
        try:
            for _ in range(600):
                time.sleep(0.05)
        finally:
            raise ValueError("left open")

    @flow
    def whole():
        with pytest.raises(Cancelled):
            messy.submit().result()

    meanwhile(lambda control: (eventually(lambda: state_of(reader, "messy") == "Running"), control.cancel(Node(1, 1))))
    whole()
    row = row_of(reader, "messy")
    assert (row.state_name, row.attempt) == ("Cancelled", 1)
    assert row.cause == f"{ME}; ending, its code raised ValueError: left open"
