"""Stores that cannot be written or are damaged in part: what can be read is shown, and what is wrong is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..mounts import mounted
from .conftest import Cli


@pytest.fixture
def read_only(seeded: Cli, tmp_path: Path) -> Iterator[Path]:
    """A copy of the seeded store, mounted so that nobody can write."""
    source, place = tmp_path / "source", tmp_path / "place"
    shutil.copytree(seeded.store, source)
    (source / "spool").mkdir(exist_ok=True)
    (source / "spool" / "2.1.rec").write_text('[5,2,null,20,"flow","log","waits in the spool"]\n')
    (source / "spool" / "2.1.rec").chmod(0o600)
    yield from mounted(place, f"mount --bind {source} {place}", f"mount -o remount,ro,bind {place}")


def test_a_read_only_file_system_is_looked_at(read_only: Path, cli: Cli) -> None:
    """The doctor says what it is, and asks for nothing that cannot be done; listings, logs and a run's page work."""
    done = cli("--store", str(read_only), "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is mounted read-only" in done.stdout
    for unfit in ("let Flowdeck open it for writing", "run as its owner", "journal mode"):
        assert unfit not in done.stdout
    for words in (("ls",), ("show", "2"), ("events",), ("logs", "1")):
        done = cli("--store", str(read_only), *words)
        assert done.returncode == 0, done.stderr
    assert "extracting 2" in done.stdout
    assert "waits in the spool" in cli("--store", str(read_only), "logs", "2").stdout
    done = cli("--store", str(read_only), "run", f"{cli.flows}:etl")
    assert done.returncode == 5
    assert "Traceback" not in done.stderr


def test_damage_is_told_of_the_file_that_is_damaged(seeded: Cli, cli: Cli, tmp_path: Path) -> None:
    """Lines in telemetry.db that cannot be read: named in the hint, with what is lost with it; runs are shown."""
    store = tmp_path / "store"
    shutil.copytree(seeded.store, store)
    path = store / "telemetry.db"
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    with path.open("r+b") as file:
        for offset in range(4096, path.stat().st_size, 4096):
            file.seek(offset)
            file.write(b"\xaa" * 2000)
    done = cli("logs", "1")
    assert done.returncode == 5
    assert f"{path} is damaged" in done.stderr
    assert f"sqlite3 {path} .recover" in done.stderr
    assert "output and metrics only" in done.stderr
    done = cli("show", "1")
    assert done.returncode == 0, done.stderr
    assert "extract" in done.stdout
    assert f"its output cannot be read: {path} is damaged" in done.stderr
    done = cli("ls", "--json")
    assert [run["id"] for run in json.loads(done.stdout)] == [2, 1]


def test_a_scripts_store_is_in_its_files_when_it_has_ended(cli: Cli) -> None:
    """A copy of the databases is a copy of all: nothing is left in their logs alone."""
    assert cli("run", f"{cli.flows}:etl").returncode == 0
    assert [path.name for path in cli.store.iterdir() if path.name.endswith("-wal") and path.stat().st_size] == []
