"""A chain of 5,000 tasks, each given what the one before came to: called, submitted, or all submitted first."""

from __future__ import annotations

from collections.abc import Iterator

from .measure import REPORT, Measure, bench

SCRIPT = REPORT + """
import sys, threading, time
from flowdeck import flow, task

@task
def add(number):
    return number + 1

@flow
def called(length: int):
    value = 0
    for _ in range(length):
        value = add(value)
    return value

@flow
def submitted(length: int):
    value = add.submit(0)
    for _ in range(length - 1):
        value = add.submit(value)
    return value.result()

@flow
def held(length: int):
    go = threading.Event()

    @task
    def first():
        go.wait()
        return 0

    value = first.submit()
    for _ in range(length):
        value = add.submit(value)
    go.set()
    return value.result()

length, rates = int(sys.argv[1]), {}
for chain in (called, submitted, held):
    begun = time.perf_counter()
    assert chain(length) == length
    rates[chain.name] = length / (time.perf_counter() - begun)
report(**rates)
"""
WHAT = {"called": "called", "submitted": "submitted", "held": "all submitted, then begun"}


def run(*, quick: bool) -> Iterator[Measure]:
    length = 1000 if quick else 5000
    with bench() as here:
        found = here.run(here.script("chain.py", SCRIPT), str(length))
    for key, what in WHAT.items():
        yield Measure("task_chain", f"chain of {length:,} tasks, {what}", found[key], "/s")
