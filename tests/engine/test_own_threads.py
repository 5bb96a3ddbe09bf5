"""The engine's own threads: nothing that a user's code does ends one of them or holds it up."""

from __future__ import annotations

import os
import threading
import time

import pytest
from flowdeck import CommitMode, flow, task, transaction
from flowdeck.engine.control.control import Control
from flowdeck.engine.running.output.masked_output import MaskedOutput
from flowdeck.store.reader import Reader
from flowdeck.store.writer import Writer


def test_a_done_callback_may_wait_for_what_its_run_records(reader) -> None:
    """It has a thread of its own: other tasks, and their records, go on meanwhile; the flow's end waits for it."""
    told = []

    @task
    def step(x):
        return x

    @flow
    def whole():
        go = threading.Event()

        def waits(future):
            told.append(threading.current_thread().name)
            assert go.wait(30)
            told.append(future.result())

        first = step.submit(1)
        first.add_done_callback(waits)
        others = step.map(range(50)).result()
        go.set()
        return others

    assert whole() == list(range(50))
    assert told in ([1], ["flowdeck-callbacks", 1], ["MainThread", 1])


def test_a_callback_that_waits_does_not_hang_the_run(script) -> None:
    """Nor does one that never ends: it is left behind after the grace."""
    done = script.run("""
        import threading
        from flowdeck import flow, task
        @task
        def step(x):
            while not os.path.exists(HERE + "/go"):
                time.sleep(0.005)
            return x
        @flow
        def whole():
            first, second = step.submit(1), step.submit(2)
            first.add_done_callback(lambda future: print("with", second.result(), flush=True))
            first.add_done_callback(lambda future: sys.exit(3))
            first.add_done_callback(lambda future: print("third", flush=True))
            first.add_done_callback(lambda future: threading.Event().wait())
            open(HERE + "/go", "w").close()
            return first.result() + second.result()
        print(whole())
    """, FLOWDECK_CANCEL_GRACE_SECONDS="0.5")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:3] == ["with 2", "third", "3"]
    assert "a callback of <Future step" in done.stderr
    assert "a done callback of a future did not end" in done.stderr


def test_hooks_staged_by_a_submitted_task_may_use_the_run(reader, effects) -> None:
    """A transaction that commits at once calls them after the task's record, and not on the thread that writes it."""

    @task
    def noted(text):
        effects(text)

    @task
    def stages():
        from flowdeck import get_transaction

        get_transaction().stage(1, on_commit_hooks=[lambda block: effects(threading.current_thread().name)])
        return 1

    @flow
    def whole():
        with transaction(commit_mode=CommitMode.EAGER):
            return stages.submit().result()

    assert whole() == 1
    assert effects.lines == ["flowdeck-worker"]


def test_a_coroutine_that_ends_the_event_loop_ends_no_other_task(script) -> None:
    """``sys.exit`` in a coroutine of the user's own goes through the loop that all async tasks share."""
    done = script.run("""
        import asyncio
        from flowdeck import flow, task
        async def leaves():
            sys.exit(3)
        @task
        async def first():
            other = asyncio.create_task(leaves())
            await asyncio.sleep(0.05)
            return 1
        @task
        async def second(x):
            await asyncio.sleep(0.01)
            return x + 1
        @flow
        def whole():
            return second.submit(first.submit()).result()
        print(whole())
    """)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr


def test_one_waiter_of_a_future_is_woken_and_the_others_wait_on(reader) -> None:
    """A task whose time is up waits for it no more; the flow that waits for the same future gets its value."""
    go = threading.Event()

    @task
    def slow():
        assert go.wait(30)
        return 1

    @task(timeout_seconds=0.2)
    def impatient(held):
        held.future.wait()

    @flow
    def whole():
        future = slow.submit()
        late = impatient.submit(Held(future))
        late.wait()
        assert late.state.name == "TimedOut"
        assert future.wait(0.05) is None
        assert not future.done()
        threading.Timer(0.1, go.set).start()
        return future.result()

    assert whole() == 1


class Held:
    """Keeps a future from being taken for a dependency."""

    def __init__(self, future):
        self.future = future


def test_the_writers_thread_waits_for_itself_in_nothing(store) -> None:
    """``flush`` there is refused, as ``commit`` is; what a callback raises ends neither the thread nor its group."""
    raised, told = [], []
    writer = Writer(store)

    def flushes(_value, _error):
        try:
            writer.flush()
        except RuntimeError as error:
            raised.append(str(error))
        raise SystemExit(3)

    writer.submit(lambda conn: 1, flushes)
    writer.submit(lambda conn: 2, lambda value, error: told.append((value, error)))
    writer.flush()
    assert writer.commit(lambda conn: 3) == 3
    writer.close()
    assert raised == ["flush() inside the writer's own thread would wait for itself"]
    assert told == [(2, None)]


def test_a_writer_without_descriptors_goes_on(script) -> None:
    """Not one more file can be opened: what is committed is acknowledged, and the thread lives."""
    done = script.run("""
        import resource
        from flowdeck import flow, task
        @task
        def step(x):
            return x
        @flow
        def whole():
            step(0)
            step.submit(0).result()
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            lowest = os.open("/dev/null", os.O_RDONLY)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, limits[1]))
            end = time.monotonic() + 0.3
            total = 0
            while time.monotonic() < end:
                total += step(1) + step.submit(1).result()
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            return total > 0
        print(whole())
    """)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_a_pool_whose_threads_cannot_be_made_makes_them_later(script) -> None:
    """Submitting raises nothing and nothing is forgotten."""
    done = script.run("""
        import threading
        from flowdeck import flow, task
        @task
        def step(x):
            return x
        start, refused = threading.Thread.start, []
        def refuse(thread):
            if thread.name.startswith("flowdeck-worker") and len(refused) < 5:
                refused.append(1)
                raise RuntimeError("can't start new thread")
            start(thread)
        @flow
        def whole():
            threading.Thread.start = refuse
            return [step.submit(1).result(), sum(step.map(range(9)).result()), len(refused)]
        print(whole())
    """)
    assert (done.returncode, done.stdout) == (0, "[1, 36, 5]\n"), done.stderr


def test_masked_output_waits_for_room_on_the_disk(tmp_path) -> None:
    """A full disk ends no thread that others' output goes through; what was printed meanwhile comes later."""
    full, target = os.open("/dev/full", os.O_WRONLY), os.open(os.devnull, os.O_WRONLY)
    masked = MaskedOutput(target, full)
    os.write(target, b"first\n")
    time.sleep(0.1)
    room = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    os.dup2(room, full)
    os.write(target, b"second\n")
    masked.settle()
    os.close(target)
    masked.close()
    assert (tmp_path / "out").read_text() == "first\nsecond\n"
    for descriptor in (full, room):
        os.close(descriptor)


@pytest.mark.parametrize("kind", ["SystemExit", "ValueError"])
def test_a_log_handler_that_raises_ends_no_thread(script, kind) -> None:
    """Handlers of the user's hear what the engine says on its own threads."""
    done = script.run(f"""
        import logging
        from flowdeck import flow, task
        class Raises(logging.Handler):
            def emit(self, record):
                raise {kind}("no")
        @task(timeout_seconds=0.1)
        def late():
            end = time.monotonic() + 0.2
            while time.monotonic() < end:
                pass
        @task
        def step(x):
            return x
        @flow
        def whole():
            logging.getLogger().addHandler(Raises())
            future = step.submit(1)
            future.add_done_callback(lambda done: 1 / 0)
            assert late.submit().result(raise_on_failure=False) is not None
            return step.submit(future).result()
        print(whole())
    """)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_a_run_whose_result_takes_long_to_pickle_hears_of_its_cancellation(script, store, eventually) -> None:
    """Timers and requests go on meanwhile; what it then came to is Cancelled, and its result is no result."""
    script.start("""
        from flowdeck import flow
        class Slow:
            def __reduce__(self):
                open(HERE + "/pickles", "w").close()
                wait_for("go")
                return Slow, ()
        @flow
        def whole():
            return [Slow(), "x" * 200_000]
        whole()
    """)
    here = script.folder
    eventually((here / "pickles").exists)
    reader, control = Reader(store), Control(store, actor="tester@here via test")
    control.cancel(1)
    eventually(lambda: reader.run(1).state_name == "Cancelling")
    script.touch("go")
    eventually(lambda: reader.run(1).state_name == "Cancelled")
    assert [path for path in store.glob("results/**/*") if path.is_file()] == []
    control.close()
    reader.close()
