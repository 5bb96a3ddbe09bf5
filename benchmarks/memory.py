"""Memory a mapped task costs its process, while the user holds every future, and whether that stays flat; in one map
what it costs at the most, and what collecting garbage costs. What large results cost that a flow has dropped."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from .measure import REPORT, Measure, bench

SCRIPT = REPORT + """
import sys, time
from flowdeck import flow, task

@task
def step(number):
    return number

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

@flow
def mapping(count: int):
    step.map(range(2000)).wait()
    sizes, begun = [resident()], time.perf_counter()
    held = []
    for _ in range(4):
        futures = step.map(range(count // 4))
        futures.wait()
        held.append(futures)
        sizes.append(resident())
    report(sizes=sizes, rate=count / (time.perf_counter() - begun))

mapping(int(sys.argv[1]))
"""
AT_ONCE = REPORT + """
import gc, sys, time
from flowdeck import flow, task

@task
def step(number):
    return number

begun = collecting = 0.0

def look(phase, info):
    global begun, collecting
    if phase == "start":
        begun = time.perf_counter()
    else:
        collecting += time.perf_counter() - begun

def most():
    with open("/proc/self/status") as file:  # getrusage would count the process this one was started by
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))

@flow
def mapping(count: int):
    global collecting
    step.map(range(2000)).wait()
    before, since = most(), time.perf_counter()
    gc.callbacks.append(look)
    futures = step.map(range(count))
    futures.wait()
    report(each=(most() - before) / count, rate=count / (time.perf_counter() - since), collecting=collecting / count)

mapping(int(sys.argv[1]))
"""
DROPPED = REPORT + """
import sys
from flowdeck import flow, task

@task
def chunk(number, size):
    return [bytes(str(number), "ascii") * (size // 10) for _ in range(10)]

def most():
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))

@flow
def one_by_one(count: int, size: int):
    chunk(1, 1000)
    before = most()
    for number in range(count):
        held = chunk(1000 + number, size // 4)
    report(most=most() - before)

one_by_one(int(sys.argv[1]), int(sys.argv[2]))
"""


def run(*, quick: bool) -> Iterator[Measure]:
    count = 20_000 if quick else 100_000
    with bench() as here:
        found = here.run(here.script("mapping.py", SCRIPT), str(count))
        at_once = here.run(here.script("at_once.py", AT_ONCE), str(count))
        dropped, size = here.script("dropped.py", DROPPED), 20_000_000 if quick else 100_000_000
        two, all_of_them = (here.run(dropped, str(number), str(size))["most"] for number in (2, 10 if quick else 100))
    sizes = found["sizes"]
    steps = [(after - before) / (count // 4) for before, after in pairwise(sizes)]
    each = (sizes[-1] - sizes[0]) / count
    yield Measure(
        "memory", f"memory of a mapped task, {count:,} in one run", each, "bytes", None, "", None, "≤ 2,048 bytes",
        each <= 2048, f"by quarters {', '.join(f'{step:,.0f}' for step in steps)}; {found['rate']:,.0f} tasks/s",
    )  # fmt: skip
    yield Measure(
        "memory", f"the same at the most, {count:,} in one map", at_once["each"], "bytes", None, "", None,
        "≤ 2,048 bytes", at_once["each"] <= 2048,
        f"{at_once['rate']:,.0f} tasks/s; collecting garbage {1e6 * at_once['collecting']:.0f} µs a task",
    )  # fmt: skip
    yield Measure(
        "memory", f"{10 if quick else 100} results of {size // 1_000_000} MB one after the other, of two results",
        all_of_them / (2 * size), "×", None, "", None, "≤ 1.25×", all_of_them <= 2.5 * size,
        f"two of them: {two / (2 * size):.2f}×",
    )  # fmt: skip
