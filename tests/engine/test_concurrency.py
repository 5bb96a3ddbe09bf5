"""``concurrency``, ``rate_limit`` and tag limits: how many at once, in which order, and whose slots come free."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from flowdeck import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    ThreadPoolTaskRunner,
    concurrency,
    create_concurrency_limit,
    delete_global_concurrency_limit_by_name,
    flow,
    rate_limit,
    read_global_concurrency_limit_by_name,
    task,
    upsert_global_concurrency_limit_by_name,
)
from flowdeck.engine.control.control import Control
from flowdeck.store.connection import connect
from flowdeck.store.reader import Reader
from flowdeck.store.tables import limits

set_limit = upsert_global_concurrency_limit_by_name


class Inside:
    """How many are in a block at once, at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = 0
        self.order: list[Any] = []

    def __call__(self, seconds: float = 0.01, name: Any = None) -> None:
        """Be in the block for a while."""
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.order.append(name)
        time.sleep(seconds)
        with self._lock:
            self.now -= 1


@pytest.fixture
def inside() -> Inside:
    """Counts who is inside."""
    return Inside()


def queue_of(store: Path, name: str) -> limits.Queue:
    """Who holds and who waits."""
    connection = connect(store, "state", readonly=True)
    try:
        return limits.queue(connection, name)
    finally:
        connection.close()


def comes_free(store: Path, name: str) -> bool:
    """Nobody waits for a slot to be given back; it is soon."""
    deadline = time.monotonic() + 60
    while queue_of(store, name) != limits.Queue([], []):
        assert time.monotonic() < deadline, queue_of(store, name)
        time.sleep(0.003)
    return True


# ------------------------------------------------------------------------------------------------------- blocks


def test_no_more_are_inside_than_there_are_slots(store: Path, inside: Inside) -> None:
    """Ten tasks at once on two slots: never three inside, and all of them get in."""
    set_limit("db", 2)

    @task
    def work(n: int) -> int:
        with concurrency("db"):
            inside(0.01)
        return n

    @flow
    def main() -> list[int]:
        return work.map(range(10)).result()

    assert main() == list(range(10))
    assert inside.most == 2
    assert comes_free(store, "db")


def test_a_name_without_a_limit_limits_nothing_unless_strict(store: Path) -> None:
    """Prefect's rule; strict names what is missing and how to make it."""

    @flow
    def loose() -> str:
        with concurrency("nothing"):
            return "in"

    @flow
    def strict() -> None:
        with concurrency(["nothing"], strict=True):
            raise AssertionError

    assert loose() == "in"
    with pytest.raises(ConcurrencySlotAcquisitionError, match=r"no limit 'nothing'.*flowdeck limits set nothing"):
        strict()


def test_a_timeout_ends_the_wait_with_words(store: Path) -> None:
    """The error says what was waited for and who has it; the place in the queue is given up."""
    set_limit("db", 1)

    @task
    def hold(release: threading.Event) -> None:
        with concurrency("db"):
            release.wait(20)

    @flow
    def main() -> str:
        release = threading.Event()
        holder = hold.submit(release)
        while not queue_of(store, "db").holders:
            time.sleep(0.005)
        started = time.monotonic()
        with pytest.raises(AcquireConcurrencySlotTimeoutError) as caught, concurrency("db", timeout_seconds=0.4):
            raise AssertionError
        assert 0.3 < time.monotonic() - started < 5
        while queue_of(store, "db").waiting:
            time.sleep(0.003)
        with pytest.raises(TimeoutError), concurrency("db", max_retries=0):
            raise AssertionError
        release.set()
        holder.wait()
        return str(caught.value)

    text = main()
    assert "no slot of db within 0.4 s" in text
    assert "held by 1/1" in text


def test_more_than_the_limit_has_is_refused_at_once(store: Path) -> None:
    """Waiting for what can never be had is an error, not a wait; so is any use of a limit of 0."""
    set_limit("db", 2)
    set_limit("shut", 0)
    with pytest.raises(ConcurrencySlotAcquisitionError, match="3 slots of 'db' were asked for, but it has only 2"), \
            concurrency("db", occupy=3):
        raise AssertionError
    with pytest.raises(ConcurrencySlotAcquisitionError, match="'shut' is 0"), concurrency("shut"):
        raise AssertionError


def test_occupy_takes_several_slots(store: Path) -> None:
    """Two of three slots leave room for one more, not for two."""
    set_limit("gpu", 3)
    with concurrency("gpu", occupy=2):
        with concurrency("gpu", timeout_seconds=5):
            assert queue_of(store, "gpu").taken == 3
        with pytest.raises(TimeoutError), concurrency("gpu", occupy=2, timeout_seconds=0.1):
            raise AssertionError
    assert comes_free(store, "gpu")


def test_several_names_are_taken_together_and_never_block_each_other(store: Path, inside: Inside) -> None:
    """Everybody wants two of three limits, in any order: all get through, none of them ever half."""
    for name in ("a", "b", "c"):
        set_limit(name, 1)
    wanted = [["a", "b"], ["b", "a"], ["b", "c"], ["c", "a"], ["c", "b"], ["a", "c"]]

    @task
    def work(names: list[str]) -> None:
        with concurrency(names):
            inside(0.005)

    @flow
    def main() -> None:
        work.map([names for _ in range(4) for names in wanted]).result()

    main()
    assert inside.most == 1
    assert len(inside.order) == 24


def test_first_in_first_out(store: Path, inside: Inside) -> None:
    """Who asked first goes first, also when a later one would fit sooner."""
    set_limit("line", 2)

    @task
    def work(n: int, occupy: int) -> None:
        with concurrency("line", occupy=occupy):
            inside(0.05, n)

    @flow
    def main() -> None:
        futures = []
        for n, occupy in enumerate([2, 1, 2, 1, 1]):
            futures.append(work.submit(n, occupy))
            while len(queue_of(store, "line").holders) + len(queue_of(store, "line").waiting) + len(inside.order) <= n:
                time.sleep(0.001)
        for future in futures:
            future.result()

    main()
    assert inside.order[:3] == [0, 1, 2]
    assert set(inside.order[3:]) == {3, 4}


def test_async_blocks_wait_without_blocking_their_loop(store: Path) -> None:
    """``async with``: while one holds the slot, the others wait and the loop turns."""
    set_limit("db", 1)
    seen: list[str] = []

    @task
    async def work(n: int) -> None:
        async with concurrency("db"):
            seen.append(f"in {n}")
            await asyncio.sleep(0.03)
            seen.append(f"out {n}")

    @flow
    async def main() -> int:
        turned = 0

        async def turn() -> None:
            nonlocal turned
            while True:
                turned += 1
                await asyncio.sleep(0.005)

        turning = asyncio.create_task(turn())
        await asyncio.gather(work(1), work(2), work(3))
        turning.cancel()
        return turned

    assert asyncio.run(main()) > 6
    assert [line.split()[0] for line in seen] == ["in", "out"] * 3


def test_an_error_inside_gives_the_slot_back(store: Path) -> None:
    """Whatever ends the block."""
    set_limit("db", 1)

    @task
    def fail() -> None:
        with concurrency("db"):
            raise ValueError

    @flow
    def main() -> None:
        for _ in range(3):
            with pytest.raises(ValueError):
                fail()
        with concurrency("db", timeout_seconds=5):
            pass

    main()


def test_blocks_work_outside_of_runs(store: Path) -> None:
    """Any code may use them; the holder is then its process."""
    set_limit("db", 1)
    with concurrency("db"):
        assert [limits.holder_in_words(row) for row in queue_of(store, "db").holders] == [f"process {os.getpid()}"]
    assert comes_free(store, "db")


# ------------------------------------------------------------------------------------------ changing a limit


def test_changing_a_limit_acts_at_once(store: Path) -> None:
    """Raised, removed and paused limits let those in who wait."""
    for name, change in (
        ("raised", lambda: set_limit("raised", 2)),
        ("removed", lambda: delete_global_concurrency_limit_by_name("removed")),
        ("paused", lambda: set_limit("paused", 1, active=False)),
    ):
        set_limit(name, 1)
        entered = threading.Event()

        def second(name: str = name, entered: threading.Event = entered) -> None:
            with concurrency(name):
                entered.set()

        with concurrency(name):
            thread = threading.Thread(target=second)
            thread.start()
            assert not entered.wait(0.1)
            change()
            assert entered.wait(10), name
        thread.join()


def test_a_limit_lowered_below_what_somebody_waits_for_refuses_them(store: Path) -> None:
    """They would wait for ever."""
    set_limit("db", 2)
    outcome: list[BaseException] = []

    def second() -> None:
        try:
            with concurrency("db", occupy=2):
                raise AssertionError
        except ConcurrencySlotAcquisitionError as error:
            outcome.append(error)

    with concurrency("db"):
        thread = threading.Thread(target=second)
        thread.start()
        while not queue_of(store, "db").waiting:
            time.sleep(0.005)
        set_limit("db", 1)
        thread.join(10)
    assert "only 1" in str(outcome[0])
    assert read_global_concurrency_limit_by_name("db").slots == 1


# ------------------------------------------------------------------------------------------------------- rates


def test_rate_limit_lets_slots_through_and_then_as_many_as_come_back(store: Path) -> None:
    """Five at once, then 50 a second: 15 take at least 0.2 s."""
    set_limit("api", 5, slot_decay_per_second=50)
    started = time.monotonic()
    for _ in range(15):
        rate_limit("api")
    assert time.monotonic() - started >= 0.19
    with pytest.raises(TimeoutError):
        rate_limit("api", occupy=5, timeout_seconds=0.01)


def test_rate_limit_in_async_code_and_on_the_wrong_limit(store: Path) -> None:
    """``await rate_limit`` in a coroutine; a limit without decay is refused in words."""
    set_limit("api", 1, slot_decay_per_second=20)
    set_limit("db", 1)

    @flow
    async def main() -> int:
        for _ in range(4):
            await rate_limit("api")
        return 4

    started = time.monotonic()
    assert asyncio.run(main()) == 4
    assert time.monotonic() - started >= 0.14
    with pytest.raises(ConcurrencySlotAcquisitionError, match=r"no rate.*--decay"):
        rate_limit("db")


# -------------------------------------------------------------------------------------------------------- tags


def test_tasks_with_a_limited_tag_wait_for_its_slots(store: Path, inside: Inside, reader: Reader) -> None:
    """Called, submitted and mapped; tags of the call's surroundings count, too."""
    create_concurrency_limit("small", 2)

    @task(tags=["small", "unlimited"])
    def work(n: int) -> int:
        inside(0.01)
        return n

    @flow
    def main() -> list[int]:
        return [work(0), work.submit(1).result(), *work.map(range(2, 12)).result()]

    assert main() == list(range(12))
    assert inside.most == 2
    assert comes_free(store, "tag:small")


def test_every_tag_with_a_limit_needs_a_slot(store: Path, inside: Inside) -> None:
    """The narrower one decides."""
    create_concurrency_limit("wide", 5)
    create_concurrency_limit("narrow", 1)

    @task(tags=["wide", "narrow"])
    def work(n: int) -> None:
        inside(0.005)

    @flow
    def main() -> None:
        work.map(range(6)).result()

    main()
    assert inside.most == 1


def test_a_tag_limit_of_0_refuses_the_task(store: Path, reader: Reader) -> None:
    """Failed with words and never run; its retries are not spent on it."""
    create_concurrency_limit("closed", 0)
    ran = []

    @task(tags=["closed"], retries=3, retry_delay_seconds=0)
    def work() -> None:
        ran.append(1)

    @flow
    def main() -> None:
        future = work.submit()
        future.wait()
        assert future.state.is_failed()
        work()

    with pytest.raises(ConcurrencySlotAcquisitionError, match="'tag:closed' is 0"):
        main()
    assert not ran
    assert [(row.state_name, row.cause) for row in reader.tasks(1)] == [
        ("Failed", "ConcurrencySlotAcquisitionError: the limit 'tag:closed' is 0: nothing may use it; "
                   "`flowdeck limits set tag:closed N` opens it")
    ] * 2


def test_a_waiting_task_says_what_it_waits_for_and_holds_no_thread(
    store: Path, reader: Reader, eventually: Any
) -> None:
    """AwaitingSlot, with its place and the holder; with one thread in the pool other tasks run meanwhile."""
    create_concurrency_limit("one", 1)
    release, ran = threading.Event(), threading.Event()

    @task(tags=["one"])
    def hold() -> None:
        release.wait(30)

    @task(tags=["one"])
    def wait_in_line(n: int) -> int:
        return n

    @task
    def other() -> None:
        ran.set()

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
    def main() -> list[int]:
        holder = hold.submit()
        while not queue_of(store, "tag:one").holders:
            time.sleep(0.002)
        waiting = wait_in_line.map(range(3))
        other.submit().result()
        assert ran.is_set()
        rows = eventually(lambda: [row for row in reader.tasks(1) if row.state_name == "AwaitingSlot"] or None)
        eventually(lambda: len([row for row in reader.tasks(1) if row.state_name == "AwaitingSlot"]) == 3)
        assert rows[0].state_type == "SCHEDULED"
        assert rows[0].cause is not None
        assert rows[0].cause.startswith("waiting for slot tag:one, position 1 of ")
        assert rows[0].cause.endswith("held by 1/1")
        release.set()
        holder.result()
        return waiting.result()

    assert main() == [0, 1, 2]
    names = [event.to_name for event in reader.events(run_id=1) if event.task_seq == 2]
    assert names[0] == "Pending"
    assert "AwaitingSlot" in names
    assert names[-2:] == ["Running", "Completed"]


def test_running_code_says_what_it_waits_for(store: Path, reader: Reader, eventually: Any) -> None:
    """In its row's cause, which is empty again once it has the slot."""
    set_limit("db", 1)
    release, entered = threading.Event(), threading.Event()

    @task
    def work() -> None:
        with concurrency("db"):
            entered.set()
            release.wait(30)

    @flow
    def main() -> None:
        with concurrency("db"):
            future = work.submit()
            eventually(lambda: any((row.cause or "").startswith("waiting for slot db, position 1 of 1, held by #1")
                                   for row in reader.tasks(1)))
        assert entered.wait(20)
        eventually(lambda: all(row.cause is None for row in reader.tasks(1)))
        release.set()
        future.result()

    main()


def test_a_retry_delay_holds_no_slot(store: Path) -> None:
    """Given back at AwaitingRetry: others run while one waits to be tried again."""
    create_concurrency_limit("one", 1)
    order: list[str] = []

    @task(tags=["one"], retries=1, retry_delay_seconds=0.5)
    def flaky() -> None:
        order.append("flaky")
        if order.count("flaky") == 1:
            raise ValueError

    @task(tags=["one"])
    def other() -> None:
        order.append("other")

    @flow
    def main() -> None:
        first = flaky.submit()
        while "flaky" not in order:
            time.sleep(0.002)
        other.submit().result()
        first.result()

    main()
    assert order == ["flaky", "other", "flaky"]


def test_nested_submits_in_a_bounded_pool_do_not_deadlock(store: Path, inside: Inside) -> None:
    """Tasks that hold slots wait for tasks that need threads, and other limits; one thread is enough."""
    create_concurrency_limit("outer", 2)
    create_concurrency_limit("inner", 1)
    set_limit("db", 1)

    @task(tags=["inner"])
    def inner(n: int) -> int:
        with concurrency("db"):
            inside(0.002)
        return n

    @task(tags=["outer"])
    def outer(n: int) -> int:
        with concurrency("db", timeout_seconds=30):
            pass
        return sum(inner.map([n, n]).result())

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def main() -> int:
        return sum(outer.map(range(5)).result())

    assert main() == 20
    assert inside.most == 1


def test_cancel_and_pause_reach_those_who_wait(store: Path, reader: Reader, eventually: Any) -> None:
    """A paused run takes no slot for what has not begun; a cancelled one leaves the queue at once."""
    create_concurrency_limit("one", 1)
    control = Control(store, actor="tester@here via test")
    began: list[int] = []

    @task(tags=["one"])
    def work(n: int) -> None:
        began.append(n)

    @flow
    def main() -> None:
        work.map(range(3)).wait()

    def outside() -> None:
        eventually(lambda: len(queue_of(store, "tag:one").waiting) == 3)
        control.pause(1)
        eventually(lambda: reader.run(1).state_name == "Paused")  # type: ignore[union-attr]
        held.give_back_now()
        eventually(lambda: not queue_of(store, "tag:one").holders)
        time.sleep(0.1)
        assert not began
        blocked = Held()
        control.resume(1)
        eventually(lambda: queue_of(store, "tag:one").waiting)
        control.cancel(1)
        eventually(lambda: not queue_of(store, "tag:one").waiting)
        blocked.give_back_now()

    class Held:
        """The one slot, held from outside."""

        def __init__(self) -> None:
            self.block = concurrency("tag:one")
            self.block.__enter__()

        def give_back_now(self) -> None:
            """Let the next one have it."""
            self.block.__exit__()

    held = Held()
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            outside()
        except BaseException as error:
            errors.append(error)
            control.cancel(1)

    thread = threading.Thread(target=guarded)
    thread.start()
    state = main(return_state=True)
    thread.join()
    control.close()
    assert not errors, errors
    assert state.is_cancelled()
    assert not began
    assert {row.state_name for row in reader.tasks(1)} == {"Cancelled"}


# --------------------------------------------------------------------------------------------------- processes


def test_a_killed_holder_frees_its_slots_at_once(store: Path, script: Any, eventually: Any) -> None:
    """kill -9 of a process that holds the slot: the next one in another process goes on without any daemon."""
    set_limit("db", 1)
    holder = script.start("""
        @flow
        def hold():
            with concurrency("db"):
                effect("holding")
                time.sleep(600)
        hold()
    """)
    eventually(lambda: queue_of(store, "db").holders)
    entered = threading.Event()

    def second() -> None:
        with concurrency("db"):
            entered.set()

    thread = threading.Thread(target=second)
    thread.start()
    assert not entered.wait(0.2)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert entered.wait(10)
    thread.join()


@pytest.mark.alone
def test_two_processes_share_a_limit_and_waste_none_of_it(store: Path, script: Any, effects: Any) -> None:
    """200 tasks of 10 ms on two slots take about a second, and never run three at a time."""
    create_concurrency_limit("two", 2)
    script.write("""
        @task(tags=["two"])
        def work(n):
            started = time.monotonic_ns()
            time.sleep(0.01)
            effect(f"{started} {time.monotonic_ns()}")
        @flow
        def main():
            work.map(range(100)).wait()
        wait_for("go")
        main()
    """)
    processes = [script.start(), script.start()]
    time.sleep(0.3)
    script.touch("go")
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, out + err
    spans = [tuple(map(int, line.split())) for line in effects.lines]
    assert len(spans) == 200
    edges = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    most = now = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    assert most == 2
    took = (edges[-1][0] - edges[0][0]) / 1e9
    assert took < 6, took


def test_who_cannot_be_looked_after_while_it_waits_is_told_so(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no thread left for the one that looks, a wait would never end; the next one tries anew."""
    set_limit("one", 1)
    refused = []
    start = threading.Thread.start

    def no_thread(thread: threading.Thread) -> None:
        if thread.name == "flowdeck-slots" and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", no_thread)

    @task
    def waits() -> str:
        with pytest.raises(ConcurrencySlotAcquisitionError, match="can't start new thread"), concurrency("one"):
            raise AssertionError
        with pytest.raises(TimeoutError), concurrency("one", timeout_seconds=0.1):
            raise AssertionError
        return "told"

    @flow
    def main() -> str:
        with concurrency("one"):
            return waits.submit().result()

    assert main() == "told"
    assert refused
    assert comes_free(store, "one")
