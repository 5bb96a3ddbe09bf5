"""``kill -9`` of the daemon at random moments, among submissions and starting runs: nothing is lost or doubled."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from . import invariants
from .conftest import Field, make_seed, rounds

pytestmark = [pytest.mark.crash, pytest.mark.timeout(90 + 10 * rounds())]


def holds(field: Field) -> bool:
    """Whether nothing is said to run that has no process (I6)."""
    try:
        invariants.i6_nothing_runs_without_a_process(field.store)
    except AssertionError:
        return False
    return True


@pytest.mark.alone
def test_killed_daemons_lose_and_double_nothing(field: Field) -> None:
    """Every acknowledged run is executed once to its end, whatever moment its daemon died at; runs never notice."""
    seed = make_seed()
    print(f"FLOWDECK_CRASH_SEED={seed}")
    dice = random.Random(seed)
    field.daemon()
    submitted: dict[int, int] = {}
    for _ in range(rounds()):
        daemon = field.processes[-1]
        for _ in range(dice.randrange(1, 4)):
            submitted[field.submit("short", number=len(submitted))] = len(submitted)
        time.sleep(dice.random() ** 2 * 0.3)  # most of what is fragile happens in the first moments
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.wait()
        invariants.i9_files_are_sound(field.store)
        field.daemon()
        field.wait(lambda: holds(field), seconds=2.0)
    field.wait(lambda: all(field.state(run_id) in ("Completed", "Failed", "Crashed") for run_id in submitted))
    invariants.i1_acknowledged_runs_exist(field.store, submitted)
    assert {run_id: field.state(run_id) for run_id in submitted} == dict.fromkeys(submitted, "Completed")
    begun = field.effects.begun()
    for run_id, number in submitted.items():
        assert begun[f"short-{number}"] == field.run(run_id).attempt == 1, f"#{run_id}: {begun[f'short-{number}']}"
    invariants.i2_ended_runs_stay_ended(field.store)
    invariants.i5_each_tick_has_one_run(field.store)
    invariants.i9_files_are_sound(field.store)
    field.wait(lambda: not field.reader.runs(flow="ticking", states=["RUNNING", "PENDING"]))
    invariants.i10_events_tell_the_tables(field.store)
    invariants.ended_runs_hold_nothing_open(field.store)
