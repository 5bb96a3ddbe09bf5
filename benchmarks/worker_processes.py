"""Tasks in worker processes: the first, each isolated and each pooled one; beside a fresh interpreter and a pool."""

from __future__ import annotations

from collections.abc import Iterator

from .measure import REPORT, Measure, bench, median, spread

SCRIPT = REPORT + """
import concurrent.futures, multiprocessing, subprocess, sys, time
from flowdeck import ProcessPoolTaskRunner, flow, task

def same(number):
    return number

step = task(same, name="step")
alone = task(same, name="alone", isolation="process")

def ms_each(count, work):
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000 / count

def one_process():
    subprocess.run([sys.executable, "-c", "pass"], check=True)

@flow(task_runner=ProcessPoolTaskRunner(max_workers=2))
def whole(rounds: int):
    found = {name: [] for name in ("isolated", "fresh", "pooled", "executor")}
    first = ms_each(1, lambda: alone(0))
    context = multiprocessing.get_context("forkserver")
    with concurrent.futures.ProcessPoolExecutor(2, context) as executor:
        list(executor.map(same, range(10)))
        step.map(range(10)).wait()
        for _ in range(rounds):
            found["fresh"].append(ms_each(20, lambda: [one_process() for _ in range(20)]))
            found["isolated"].append(ms_each(20, lambda: [alone(number) for number in range(20)]))
            found["executor"].append(ms_each(1000, lambda: list(executor.map(same, range(1000)))))
            found["pooled"].append(ms_each(1000, lambda: step.map(range(1000)).wait()))
    report(first=first, **found)

if __name__ == "__main__":
    whole(int(sys.argv[1]))
"""


def run(*, quick: bool) -> Iterator[Measure]:
    with bench() as here:
        found = here.run(here.script("workers.py", SCRIPT), "2" if quick else "8")
    yield Measure("worker_processes", "the first task in a process (starts the fork server)", found["first"], "ms")
    for ours, floor, what, floor_what in (
        ("isolated", "fresh", 'isolation="process", one after another', "python -c pass, no record"),
        ("pooled", "executor", "ProcessPoolTaskRunner(2), mapped", "ProcessPoolExecutor(2).map, no record"),
    ):
        yield Measure(
            "worker_processes", what, median(found[ours]), "ms", median(found[floor]), floor_what,
            median([a / b for a, b in zip(found[ours], found[floor], strict=True)]), note=spread(found[ours], 2),
        )  # fmt: skip
