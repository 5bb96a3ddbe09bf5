"""``kill -9`` of a run at random moments, resumed by a daemon or retried by a person: the invariants hold each time.

A failure prints its seed; ``FLOWDECK_CRASH_SEED`` makes the same choices again (the machine's timing still differs).
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

import pytest

from . import invariants
from .conftest import FLOWDECK, Field, make_seed, rounds
from .invariants import Committed

pytestmark = [pytest.mark.crash, pytest.mark.timeout(60 + 20 * rounds())]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int]:
    """The result of a run that nobody disturbs, and how many effects it leaves."""
    field = Field(tmp_path_factory.mktemp("undisturbed"))
    try:
        assert field.script().wait(60) == 0, field.report()
        result = invariants.result_of(field.store, 1)
        assert result is not None
        return result, len(field.effects.lines())
    finally:
        field.close()


def kill_somewhere(field: Field, run_id: int, dice: random.Random, effects_in_all: int) -> Committed | None:
    """Kill the run's process after a random number of effects; None when it had ended by itself before."""
    now = len(field.effects.lines())
    until = now + dice.randrange(0, max(2, effects_in_all - now // 2))
    field.wait(lambda: len(field.effects.lines()) >= until or field.run(run_id).state_type in invariants.TERMINAL)
    time.sleep(dice.random() * 0.004)
    lease = field.reader.lease_of(run_id)
    if lease is None:
        return None
    os.kill(lease.pid, signal.SIGKILL)
    field.wait(lambda: not invariants.is_alive(lease.pid))
    return invariants.committed(field.store, run_id, field.effects)


def check_all(field: Field, run_id: int, kills: list[Committed], wanted: bytes) -> None:
    """Every invariant, after the run has completed."""
    row = field.run(run_id)
    for before in kills:
        invariants.i3_committed_tasks_never_run_again(before, field.effects)
    invariants.i1_acknowledged_runs_exist(field.store, [run_id])
    invariants.i2_ended_runs_stay_ended(field.store)
    invariants.i4_one_process_at_a_time(field.effects, row.attempt)
    invariants.i6_nothing_runs_without_a_process(field.store)
    assert invariants.result_of(field.store, run_id) == wanted
    field.wait(lambda: not list((field.store / "spool").glob(f"{run_id}.*")))
    invariants.i8_what_was_said_is_stored(field.store, run_id, field.effects)
    invariants.i9_files_are_sound(field.store)
    invariants.i10_events_tell_the_tables(field.store)
    invariants.ended_runs_hold_nothing_open(field.store)


def test_runs_killed_under_a_daemon_go_on(fields: Callable[[str], Field], undisturbed: tuple[bytes, int]) -> None:
    """The daemon resumes each killed run by itself, without doing again what was done."""
    seed = make_seed()
    print(f"FLOWDECK_CRASH_SEED={seed}")
    dice = random.Random(seed)
    for number in range((rounds() + 1) // 2):
        print(f"round {number}")
        under_a_daemon(fields(f"daemon{number}"), dice, *undisturbed)


def under_a_daemon(field: Field, dice: random.Random, wanted: bytes, effects_in_all: int) -> None:
    field.daemon()
    run_id = field.submit("pipeline")
    field.wait(field.effects.lines)
    kills = []
    for _ in range(dice.choice((1, 1, 2))):
        was = field.run(run_id).attempt
        before = kill_somewhere(field, run_id, dice, effects_in_all)
        if before is None:
            break
        invariants.i3_what_followed_a_call_knows_its_record(before, field.effects)
        kills.append(before)
        field.wait(lambda was=was: field.run(run_id).attempt > was or field.state(run_id) == "Completed")
        field.wait(lambda: field.reader.lease_of(run_id) or field.state(run_id) == "Completed")
    field.wait(lambda: field.state(run_id) == "Completed")
    check_all(field, run_id, kills, wanted)


def test_scripts_killed_without_a_daemon_are_retried(
    fields: Callable[[str], Field], undisturbed: tuple[bytes, int]
) -> None:
    """``python f.py`` killed: the next look at it says Crashed, and ``flowdeck retry --here`` finishes it."""
    seed = make_seed()
    print(f"FLOWDECK_CRASH_SEED={seed}")
    dice = random.Random(seed)
    for number in range((rounds() + 1) // 2):
        print(f"round {number}")
        without_a_daemon(fields(f"script{number}"), dice, *undisturbed)


def without_a_daemon(field: Field, dice: random.Random, wanted: bytes, effects_in_all: int) -> None:
    process = field.script()
    field.wait(field.effects.lines)
    kills = []
    for _ in range(dice.choice((1, 1, 2))):
        before = kill_somewhere(field, 1, dice, effects_in_all)
        if before is None:
            break
        process.wait()
        invariants.i3_what_followed_a_call_knows_its_record(before, field.effects)
        kills.append(before)
        begun = len(field.effects.lines())
        process = again = field.start(*FLOWDECK, "retry", "--here", "1")
        field.wait(lambda begun=begun, again=again: len(field.effects.lines()) > begun or again.poll() is not None)
    assert process.wait(60) == 0, field.report()
    assert field.state(1) == "Completed"
    check_all(field, 1, kills, wanted)
