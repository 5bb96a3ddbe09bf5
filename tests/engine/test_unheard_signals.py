"""Signals that the main thread is not woken for: it waits in the engine, and hears of them all the same."""

from __future__ import annotations

import signal
import time

import pytest

WAITS = {
    "a future": "kills.submit().result()",
    "the next future": "next(iter(as_completed([kills.submit()])))",
    "a retry": "kills.submit(); fails()",
    "a slot": "kills.submit(); tagged.submit(); time.sleep(0.3); tagged()",
}


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_whose_handler_the_main_thread_was_not_woken_for_is_heard(script, wait, number):
    """As one that comes in the moment before that thread blocks. Here another thread gets it, which is the same."""
    begun = time.monotonic()
    done = script.run(f"""
        import signal, threading

        @task
        def kills():
            time.sleep(1)
            signal.pthread_kill(threading.get_ident(), {int(number)})
            for _ in range(2000):
                time.sleep(0.01)

        @task(retries=1, retry_delay_seconds=600)
        def fails():
            raise ValueError

        @task(tags=["one"])
        def tagged():
            for _ in range(2000):
                time.sleep(0.01)

        @flow
        def waits():
            {WAITS[wait]}

        create_concurrency_limit("one", 1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        waits()
    """)
    assert done.returncode != 0
    assert time.monotonic() - begun < 15, done.stderr


def test_a_main_thread_that_waits_for_an_async_hook_hears_of_ctrl_c(script):
    """Where an event loop runs already the hook has a thread of its own, and the main thread waits for that."""
    begun = time.monotonic()
    done = script.run("""
        import asyncio, signal, threading

        def kills():
            time.sleep(1)
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            time.sleep(100)

        async def hook(flow, run, state):
            threading.Thread(target=kills, daemon=True).start()
            try:
                await asyncio.sleep(100)
            finally:
                print("the hook ends")

        @flow(on_running=[hook])
        def waits():
            pass

        async def calls():
            waits()

        signal.signal(signal.SIGINT, signal.default_int_handler)
        asyncio.new_event_loop().run_until_complete(calls())  # which leaves Ctrl-C to Python
    """)
    assert done.returncode != 0
    assert "the hook ends" in done.stdout
    assert time.monotonic() - begun < 60, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_comes_on_the_way_into_user_code_ends_that(script, number):
    """The engine was at work in the main thread then, and a moment later the task's own code is."""
    begun = time.monotonic()
    done = script.run(f"""
        import signal

        def name():
            os.kill(os.getpid(), {int(number)})
            return "named"

        @task(task_run_name=name)
        def works():
            for _ in range(2000):
                time.sleep(0.01)

        @flow
        def whole():
            works()

        whole()
    """)
    assert done.returncode != 0
    assert time.monotonic() - begun < 15, done.stderr
    assert signal.Signals(number).name in done.stderr
