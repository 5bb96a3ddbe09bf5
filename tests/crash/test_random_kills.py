"""``kill -9`` of a run at random moments, resumed by a daemon or retried by a person: the invariants hold each time.

A failure prints its seed; ``FLOWDECK_CRASH_SEED`` makes the same choices again (the machine's timing still differs).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import pytest

from . import invariants
from .conftest import FLOWDECK, Field, make_seed, rounds
from .invariants import Committed

pytestmark = [pytest.mark.crash, pytest.mark.timeout(60 + 20 * rounds())]


class Undisturbed(NamedTuple):
    """What a run comes to that nobody disturbs."""

    result: bytes
    effects: int
    """How many lines it leaves outside the store."""
    calls: Counter[tuple[object, ...]]
    bodies: frozenset[str]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """One such run."""
    field = Field(tmp_path_factory.mktemp("undisturbed"))
    try:
        assert field.script().wait(60) == 0, field.report()
        result = invariants.result_of(field.store, 1)
        assert result is not None
        calls, begun = invariants.calls_recorded(field.store, 1), field.effects.begun()
        return Undisturbed(result, len(field.effects.lines()), calls, frozenset(begun))
    finally:
        field.close()


class Killer:
    """Kills the process of a run at moments the dice choose, and remembers what was committed then."""

    def __init__(self, field: Field, run_id: int, dice: random.Random, effects_in_all: int) -> None:
        self.field = field
        self.run_id = run_id
        self.dice = dice
        self.effects_in_all = effects_in_all
        self.kills: list[Committed] = []

    def wait_somewhere(self) -> None:
        """Until some random number of effects later; any moment of a start, a replay or an end is as likely."""
        field, now = self.field, len(self.field.effects.lines())
        until = now + self.dice.randrange(0, max(2, self.effects_in_all - now // 2))
        field.wait(lambda: len(field.effects.lines()) >= until or self.has_ended())
        time.sleep(self.dice.random() * 0.004)

    def has_ended(self) -> bool:
        """Whether the run needs no more. A kill makes it Crashed at most."""
        state_type = self.field.run(self.run_id).state_type
        assert state_type not in ("FAILED", "CANCELLED"), self.field.report()
        return state_type in invariants.TERMINAL

    def goes_on(self, was: int) -> bool:
        """Whether another attempt is under way, or the end is there."""
        row = self.field.run(self.run_id)
        return (row.attempt > was and self.field.reader.lease_of(self.run_id) is not None) or (
            self.has_ended() and row.state_type == "COMPLETED"
        )

    def kill(self) -> bool:
        """Kill it and look at what is committed; False when it had ended by itself before."""
        lease = self.field.reader.lease_of(self.run_id)
        if lease is None:
            return False
        os.kill(lease.pid, signal.SIGKILL)
        self.field.wait(lambda: not invariants.is_alive(lease.pid))
        before = invariants.committed(self.field.store, self.run_id, self.field.effects)
        invariants.i3_what_followed_a_call_knows_its_record(before, self.field.effects)
        self.kills.append(before)
        return True


def check_all(field: Field, killer: Killer, wanted: Undisturbed) -> None:
    """Every invariant, after the run has completed."""
    run_id = killer.run_id
    row = field.run(run_id)
    for before in killer.kills:
        invariants.i3_committed_tasks_never_run_again(before, field.effects, invariants.taken_back(field.store))
    invariants.i1_acknowledged_runs_exist(field.store, [run_id])
    invariants.i2_ended_runs_stay_ended(field.store)
    invariants.i4_one_process_at_a_time(field.effects, row.attempt)
    invariants.i6_nothing_runs_without_a_process(field.store)
    assert invariants.result_of(field.store, run_id) == wanted.result
    assert invariants.calls_recorded(field.store, run_id) == wanted.calls
    assert frozenset(field.effects.begun()) == wanted.bodies
    assert field.effects.hooks() == {"hook commit", "hook rollback"}
    field.wait(lambda: not list((field.store / "spool").glob(f"{run_id}.*")))
    invariants.i8_what_was_said_is_stored(field.store, run_id, field.effects)
    invariants.i9_files_are_sound(field.store)
    invariants.i10_events_tell_the_tables(field.store)
    invariants.ended_runs_hold_nothing_open(field.store)


def test_runs_killed_under_a_daemon_go_on(fields: Callable[[str], Field], undisturbed: Undisturbed) -> None:
    """The daemon resumes each killed run by itself, without doing again what was done; it may be killed as well."""
    seed = make_seed()
    print(f"FLOWDECK_CRASH_SEED={seed}")
    dice = random.Random(seed)
    kills = 0
    for number in range((rounds() + 1) // 2):
        print(f"round {number}")
        kills += under_a_daemon(fields(f"daemon{number}"), dice, undisturbed)
    print(f"{kills} kills of runs")


def under_a_daemon(field: Field, dice: random.Random, wanted: Undisturbed) -> int:
    daemon = field.daemon()
    run_id = field.submit("pipeline")
    field.wait(field.effects.lines)
    killer = Killer(field, run_id, dice, wanted.effects)
    for _ in range(dice.choice((1, 2, 2))):
        was = field.run(run_id).attempt
        killer.wait_somewhere()
        targets = dice.choice(("run", "run", "run", "daemon", "daemon then run", "run then daemon"))
        if targets.startswith("daemon"):
            daemon = another_daemon(field, daemon)
        if targets == "daemon":
            continue
        if not killer.kill():
            break
        if targets.endswith("daemon"):
            time.sleep(dice.random() * 0.05)  # it may have begun to settle the run
            daemon = another_daemon(field, daemon)
        field.wait(lambda was=was: killer.goes_on(was))
    field.wait(lambda: killer.has_ended() and field.state(run_id) == "Completed")
    check_all(field, killer, wanted)
    return len(killer.kills)


def another_daemon(field: Field, daemon: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """Kill the daemon, start the next."""
    daemon.kill()
    daemon.wait()
    return field.daemon()


def test_scripts_killed_without_a_daemon_are_retried(
    fields: Callable[[str], Field], undisturbed: Undisturbed
) -> None:
    """``python f.py`` killed: the next look at it says Crashed, and ``flowdeck retry --here`` finishes it."""
    seed = make_seed()
    print(f"FLOWDECK_CRASH_SEED={seed}")
    dice = random.Random(seed)
    kills = 0
    for number in range((rounds() + 1) // 2):
        print(f"round {number}")
        kills += without_a_daemon(fields(f"script{number}"), dice, undisturbed)
    print(f"{kills} kills of runs")


def without_a_daemon(field: Field, dice: random.Random, wanted: Undisturbed) -> int:
    process = field.script()
    field.wait(field.effects.lines)
    killer = Killer(field, 1, dice, wanted.effects)
    for _ in range(dice.choice((1, 2, 2))):
        killer.wait_somewhere()
        if not killer.kill():
            break
        process.wait()
        begun = len(field.effects.lines())
        process = again = field.start(*FLOWDECK, "retry", "--here", "1")
        field.wait(lambda begun=begun, again=again: len(field.effects.lines()) > begun or again.poll() is not None)
    assert process.wait(60) == 0, field.report()
    assert field.state(1) == "Completed"
    check_all(field, killer, wanted)
    return len(killer.kills)
