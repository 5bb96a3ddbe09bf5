"""The power goes at random moments of a real run: what was acknowledged is on the disk, and the run goes on from there.

A real run is recorded by a small library in front of libc; from its record the disk of any moment is made (see
``power_loss``), without anything that no sync had vouched for.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from . import invariants
from .conftest import FLOWDECK, Field, make_seed, rounds
from .power_loss import Disk, Operation, read_record

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120 + 3 * rounds())]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, compiled."""
    compiler = shutil.which("cc")
    if compiler is None or os.uname().sysname != "Linux":
        pytest.skip("no C compiler here to build the recorder with")
    library = tmp_path_factory.mktemp("recorder") / "recorder.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, HERE / "disk_recorder.c", "-ldl"], check=True)
    return library


def record_run(field: Field, recorder: Path) -> tuple[Disk, list[Operation]]:
    """The disk before an undisturbed run, and what the run did to it."""
    # Files of a database are neither read nor replaced while this process has it open: that would drop its locks.
    field.reader.close()
    disk = Disk(field.store)
    record = field.root / "record"
    run = field.start(
        *field.command(), LD_PRELOAD=str(recorder), RECORD_TO=str(record), RECORD_BELOW=f"{field.root}/"
    )
    assert run.wait(60) == 0, field.output()
    return disk, read_record(record)


def test_what_was_acknowledged_survives_the_loss_of_power(field: Field, recorder: Path) -> None:
    """Whatever is lost that was not synced: sound files, every call that had returned, and a run that can go on."""
    seed = make_seed()
    print(f"FLOWDECK_CRASH_SEED={seed}")
    dice = random.Random(seed)
    disk, record = record_run(field, recorder)
    wanted, calls = invariants.result_of(field.store, 1), invariants.calls_recorded(field.store, 1)
    assert wanted is not None
    moments = sorted(dice.sample(range(1, len(record)), 3 * rounds()))
    to_resume = set(dice.sample(moments, max(2, rounds() // 5)))
    effects: list[bytes] = []
    for number, operation in enumerate(record, 1):
        if operation.path == str(field.effects.path):
            effects.append(operation.data)
        elif operation.path.startswith(str(field.store)):
            disk.go_on(operation)
        if number in moments:
            print(f"power lost after operation {number} of {len(record)}")
            field.effects.path.write_bytes(b"".join(effects))
            restore(field.store, disk.cut(dice))
            check(field)
            if number in to_resume:
                resume(field, wanted, calls)


def restore(store: Path, files: dict[str, bytes]) -> None:
    """The disk as it came back."""
    shutil.rmtree(store)
    store.mkdir(0o700)
    for name, content in files.items():
        if not name.endswith("-shm"):  # shared memory, made anew by whoever comes first
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(content)


def check(field: Field) -> None:
    """Nothing that was acknowledged is missing, and nothing is broken."""
    invariants.i9_files_are_sound(field.store)
    invariants.i10_events_tell_the_tables(field.store)
    if field.effects.lines():
        invariants.i1_acknowledged_runs_exist(field.store, [1])
    before = invariants.committed(field.store, 1, field.effects)
    invariants.i3_what_followed_a_call_knows_its_record(before, field.effects)
    for path, size in invariants.rows(field.store, "SELECT path, size_bytes FROM result WHERE path IS NOT NULL"):
        assert (field.store / str(path)).stat().st_size == size, f"{path}: its row is there, its content is not"


def resume(field: Field, wanted: bytes, calls: object) -> None:
    """The run goes on, and comes to what it would have come to."""
    if not invariants.rows(field.store, "SELECT 1 FROM flow_run"):
        return
    before = invariants.committed(field.store, 1, field.effects)
    completed = invariants.rows(field.store, "SELECT 1 FROM flow_run WHERE id = 1 AND state_type = 'COMPLETED'")
    if not completed:
        assert field.start(*FLOWDECK, "retry", "--here", "1").wait(60) == 0, field.output()
    assert invariants.result_of(field.store, 1) == wanted
    assert invariants.calls_recorded(field.store, 1) == calls
    invariants.i3_committed_tasks_never_run_again(before, field.effects, invariants.taken_back(field.store))
    invariants.i9_files_are_sound(field.store)
    invariants.i10_events_tell_the_tables(field.store)
