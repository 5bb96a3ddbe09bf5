"""The wall clock is set while runs go on: what is waited for takes as long as it should, nothing is refused."""

from __future__ import annotations

from typing import Any

from flowdeck.store.reader import Reader

JUMPS = """
import time as _time
_real, shift = _time.time_ns, [0]
_time.time_ns = lambda: _real() + shift[0]
import threading
from datetime import timedelta
from flowdeck import *
DAY = 86_400 * 10**9
tries = []
@task(retries=1, retry_delay_seconds=0.5)
def flaky(days):
    tries.append(days)
    shift[0] += days * DAY
    if len(tries) < 2:
        raise ValueError("once")
@task(timeout_seconds=20)
def timed(days):
    shift[0] += days * DAY
    time.sleep(0.1)
@flow
def jumps(days):
    tries.clear()
    flaky.submit(days).result()
    threading.Timer(0.1, lambda: shift.__setitem__(0, shift[0] + days * DAY)).start()
    slept_from = time.monotonic()
    sleep(0.5)
    assert time.monotonic() - slept_from > 0.45
    timed(days)
    timed.map([days, -days, days]).result()
    rate_limit("rate")
    shift[0] += days * DAY
    rate_limit("rate")
    with concurrency("limit"):
        shift[0] -= 9 * days * DAY
    return "through"
upsert_global_concurrency_limit_by_name("rate", 1, slot_decay_per_second=10)
upsert_global_concurrency_limit_by_name("limit", 1)
began = time.monotonic()
assert jumps(-1) == "through"
assert jumps(1) == "through"
assert time.monotonic() - began < 40
"""


def test_a_clock_that_is_set_back_or_forth(script: Any, reader: Reader) -> None:
    """Retries, sleeps, timeouts, rates and limits wait as long as they should; every end is recorded."""
    done = script.run(JUMPS)
    assert done.returncode == 0, done.stderr
    for run in reader.runs():
        assert run.state_name == "Completed"
        assert 0 < run.duration_us < 40_000_000
        assert {row.state_name for row in reader.tasks(run.id)} == {"Completed"}
        assert all(row.duration_us < 20_000_000 for row in reader.tasks(run.id))
