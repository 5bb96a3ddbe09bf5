"""What a guard costs each run, in time and memory, and how soon a cancelled run that does not listen is gone.

Time is that of making the guard, measured where the run's process waits for it. Memory is what would be free without it
(USS, of ``smaps_rollup``), and its part of what it shares (PSS): RSS would count the pages of whoever forked it again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing

from flowdeck.engine.control.control import Control
from flowdeck.store.reader import Reader

from .measure import (
    PYTHON,
    REPORT,
    Bench,
    Measure,
    bench,
    median,
    percentile,
    private_megabytes,
    proportional_megabytes,
    spread,
)

SCRIPT = REPORT + """
import sys, time
from flowdeck import flow
from flowdeck.engine.running.run_process import guarding

made = []
guard_run = guarding.guard_run

def timed(*given):
    begun = time.perf_counter()
    guard_run(*given)
    made.append((time.perf_counter() - begun) * 1000)

for module in [module for name, module in list(sys.modules.items()) if name.startswith("flowdeck.")]:
    if getattr(module, "guard_run", None) is guard_run:
        module.guard_run = timed

@flow
def one():
    pass

for _ in range(int(sys.argv[1])):
    one()
report(first=made[0], later=made[1:])
"""
WAITING = """
import os, time
from flowdeck import flow

@flow
def waiting(number: int = 0):
    open(os.path.join(os.environ["FLOWDECK_BENCH"], f"started{number}"), "w").close()
    while not os.path.exists(os.path.join(os.environ["FLOWDECK_BENCH"], "go")):
        time.sleep(0.02)

if __name__ == "__main__":
    waiting()
"""


def guards(pids: list[int]) -> list[int]:
    """Those among them that are guards, by the name they show."""
    found = []
    for pid in pids:
        with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
            if file.read().strip() == "flowdeck-guard":
                found.append(pid)
    return found


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def new_guards(before: set[int]) -> list[int]:
    """Guards that were not there before; somebody else's may come and go meanwhile."""
    found = []
    for pid in set(all_pids()) - before:
        try:
            found += guards([pid])
        except OSError:
            continue
    return found


def gone_after(here: Bench, rounds: int) -> list[float]:
    """Milliseconds from the request to the end of the process of a daemon's run that listens."""
    found = []
    with closing(Reader(here.store)) as reader, closing(Control(here.store, actor="bench")) as control:
        for number in range(rounds):
            run_id = control.trigger("waiting", {"number": number})
            here.wait(lambda number=number: (here.root / f"started{number}").exists())
            lease = here.wait(lambda run_id=run_id: reader.lease_of(run_id))
            pidfd = os.pidfd_open(lease.pid)
            time.sleep(0.0007 * (number * 37 % 40))  # anywhere between two looks of the process
            asked = time.perf_counter()
            control.cancel(run_id)
            here.wait(lambda pidfd=pidfd: is_readable(pidfd), step_seconds=0.0005)
            found.append((time.perf_counter() - asked) * 1000)
            os.close(pidfd)
            here.wait(lambda run_id=run_id: reader.run(run_id).state_name == "Cancelled")
    return found


def is_readable(descriptor: int) -> bool:
    import select

    return bool(select.select([descriptor], [], [], 0)[0])


def run(*, quick: bool) -> Iterator[Measure]:
    rounds = 5 if quick else 20
    with bench() as here:
        figures = [here.run(here.script("one.py", SCRIPT), "20") for _ in range(rounds)]
        firsts = [one["first"] for one in figures]
        later = [each for one in figures for each in one["later"]]
        yield Measure("guard", "a script's first run: making its guard", median(firsts), "ms", budget="≤ 3 ms",
                      passed=median(firsts) <= 3, note=f"{spread(firsts, 2)}; each later run {median(later):.3f} ms")
        waiting = here.script("waiting.py", WAITING)
        before = set(all_pids())
        script = here.start([*PYTHON, str(waiting)])
        here.wait(lambda: (here.root / "started0").exists())
        time.sleep(0.5)
        (pid, *_) = here.wait(lambda: new_guards(before))
        yield memory("beside a script", pid)
        (here.root / "go").touch()
        script.wait()
        (here.root / "go").unlink()
        (here.root / "started0").unlink()
        with here.daemon(waiting), closing(Control(here.store, actor="bench")) as control:
            before = set(all_pids())
            run_id = control.trigger("waiting", {"number": 10_000})
            here.wait(lambda: (here.root / "started10000").exists())
            time.sleep(0.5)
            (pid, *_) = here.wait(lambda: new_guards(before))
            yield memory("of a daemon's run", pid)
            control.cancel(run_id)
            gone = gone_after(here, rounds)
        worst = percentile(gone, 0.95)
        yield Measure("guard", "cancel → its process is gone, p95", worst, "ms", budget="≤ 60 ms", passed=worst <= 60,
                      note=f"p50 {median(gone):.1f}, n={len(gone)}; a daemon's run in its own code")


def memory(what: str, pid: int) -> Measure:
    """Of one guard."""
    own, part = private_megabytes(pid), proportional_megabytes(pid)
    return Measure("guard", f"memory of a guard {what} (USS)", own, "MB", budget="≤ 3 MB", passed=own <= 3,
                   note=f"PSS {part:.1f} MB")
