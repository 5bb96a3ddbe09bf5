"""What waiting costs: processor time of a run's process while a thousand of its tasks wait, or while it sleeps."""

from __future__ import annotations

import time
from collections.abc import Iterator

from .daemon_idle import cpu_seconds
from .measure import FLOWDECK, REPORT, Measure, bench

SCRIPT = REPORT + """
import asyncio, sys, threading, time
from flowdeck import INPUTS, flow, task

@task(retries=1, retry_delay_seconds=600)
async def waits_for_its_retry(n):
    raise ValueError("again")

@task(cache_policy=INPUTS.configure(isolation_level="SERIALIZABLE"))
async def waits_for_a_key():
    begun.set()
    await asyncio.to_thread(ended.wait)

@task
async def waits():
    await asyncio.to_thread(ended.wait)

begun, ended = threading.Event(), threading.Event()

@flow
def waiting(kind: str, count: int, seconds: float):
    futures = [waits.submit()]
    if kind == "retry":
        futures += [waits_for_its_retry.submit(n) for n in range(count)]
    elif kind == "key":
        futures += [waits_for_a_key.submit() for _ in range(count)]
        begun.wait()
    time.sleep(5)  # until all of them wait
    before = time.process_time()
    time.sleep(seconds)
    report(share=(time.process_time() - before) / seconds * 100)
    os._exit(0)

waiting(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
"""
ASLEEP = """
import os, subprocess, sys
from flowdeck import flow, sleep

@flow
def asleep():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(os.environ["FLOWDECK_BENCH"] + "/pid", "w") as file:
        file.write(str(os.getpid()))
    try:
        sleep(300)
    finally:
        child.kill()
"""


def run(*, quick: bool) -> Iterator[Measure]:
    seconds, count = (3, 300) if quick else (10, 1000)
    idle = 0.0
    for kind, what in (
        ("nothing", "a run with one task under way"),
        ("retry", f"{count:,} async tasks that wait for a retry"),
        ("key", f"{count:,} async tasks that wait for one cache key"),
    ):
        with bench() as here:
            share = here.run(here.script("waiting.py", SCRIPT), kind, str(count), str(seconds))["share"]
        idle = idle if kind != "nothing" else share
        more = share - idle
        yield Measure(
            "waiting", f"{what}, processor", share, "%", budget="" if kind == "nothing" else "≤ 1 % of a core more",
            passed=None if kind == "nothing" else more <= 1, note=f"over {seconds} s; {more:+.2f} for what waits",
        )  # fmt: skip
    with bench() as here, here.daemon(here.script("asleep.py", ASLEEP)):
        here.start([*FLOWDECK, "submit", "asleep"]).wait()
        place = here.root / "pid"
        here.wait(lambda: place.exists() and place.read_text())
        pid = int(place.read_text())
        time.sleep(2)
        before = cpu_seconds(pid)
        time.sleep(seconds)
        share = (cpu_seconds(pid) - before) / seconds * 100
        here.start([*FLOWDECK, "cancel", "1"]).wait()
    yield Measure("waiting", "a durable sleep with a child process, processor", share, "%",
                  budget="≤ 1 % of a core", passed=share <= 1, note=f"over {seconds} s")
