from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from flowdeck.store import doctor, spool
from flowdeck.store.connection import connect, transaction
from flowdeck.store.doctor import Finding, examine
from flowdeck.store.tables import leases

from .conftest import ACTOR


def _unwell(folder: Path) -> list[Finding]:
    return [finding for finding in examine(folder) if finding.level != "ok" and finding.subject != "file system"]


def test_a_sound_store_has_no_findings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything looked at is said to be fine, the SQLite library first."""
    monkeypatch.setattr(doctor, "LOW_SPACE_BYTES", 0)
    monkeypatch.setattr(doctor, "NO_SPACE_BYTES", 0)
    assert _unwell(folder) == []
    said = examine(folder)
    assert said[0].subject == "sqlite"
    assert sqlite3.sqlite_version in said[0].text
    assert {"permissions", "file system", "disk", "state.db", "telemetry.db", "daemon"} <= {f.subject for f in said}


def test_a_missing_folder_and_a_missing_file(tmp_path: Path, folder: Path) -> None:
    """Said, not raised, and not made."""
    assert "does not exist" in _unwell(tmp_path / "none")[0].text
    assert not (tmp_path / "none").exists()
    (folder / "telemetry.db").unlink()
    [finding] = _unwell(folder)
    assert (finding.level, finding.subject) == ("bad", "telemetry.db")


def test_damage_and_foreign_files_are_bad(folder: Path) -> None:
    """With the remedy, and the file as it was."""
    (folder / "state.db").write_bytes(b"no database" * 500)
    [finding] = _unwell(folder)
    assert (finding.level, finding.subject) == ("bad", "state.db")
    assert "restore" in finding.remedy
    assert (folder / "state.db").read_bytes() == b"no database" * 500


def test_dangling_rows_are_bad(folder: Path, state: sqlite3.Connection) -> None:
    """Rows that refer to nothing are named by table."""
    state.execute("PRAGMA foreign_keys=OFF")
    state.execute("INSERT INTO edge VALUES (99, 1, 99, 2, 'data')")
    [finding] = _unwell(folder)
    assert "rows of edge" in finding.text


def test_wide_permissions_are_told_with_the_command(folder: Path) -> None:
    """Each path that others can read."""
    folder.chmod(0o755)
    (folder / "state.db").chmod(0o644)
    remedies = [finding.remedy for finding in _unwell(folder)]
    assert remedies == [f"chmod 700 {folder}", f"chmod 600 {folder / 'state.db'}"]


def test_network_disks_and_little_space(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system is bad; a filling disk first a warning, then bad."""
    monkeypatch.setattr(doctor, "filesystem_type", lambda _: "nfs4")
    monkeypatch.setattr(doctor, "free_bytes", lambda _: 10)
    levels = {finding.subject: finding.level for finding in examine(folder)}
    assert (levels["file system"], levels["disk"]) == ("bad", "bad")
    monkeypatch.setattr(doctor, "filesystem_type", lambda _: "9p")
    monkeypatch.setattr(doctor, "free_bytes", lambda _: doctor.LOW_SPACE_BYTES - 1)
    levels = {finding.subject: finding.level for finding in examine(folder)}
    assert (levels["file system"], levels["disk"]) == ("warn", "warn")


def test_dead_owners_and_left_output(folder: Path, state: sqlite3.Connection, make_run: Callable[..., int]) -> None:
    """A lease whose process is gone, a run without its process, and its output files are named."""
    run_id = make_run(state=("RUNNING", "Running"))
    with transaction(state):
        lease = leases.this_process(folder, leases.run_owner(run_id), actor=ACTOR, at_us=1, run_id=run_id, attempt=1)
        leases.acquire(state, lease._replace(boot_id="earlier"))
    writer = spool.SpoolWriter(folder, run_id, 1)
    writer.record(1, run_id, None, 20, "flow", "log", "last words")
    writer.close()
    texts = " / ".join(f"{finding.level} {finding.text}" for finding in examine(folder))
    assert f"warn run/{run_id} is held by process {lease.pid}, which is gone" in texts
    assert f"warn run #{run_id}" in texts
    assert f"ok output files of 1 attempts (#{run_id})" in texts


def test_versions_newer_and_older(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer store is bad with the way out; an older one will be migrated."""
    monkeypatch.setattr(doctor, "SCHEMA_VERSION", 4)
    assert {finding.level for finding in _unwell(folder)} == {"warn"}
    connection = connect(folder, "state")
    connection.execute("PRAGMA user_version=9")
    connection.close()
    bad = [finding for finding in _unwell(folder) if finding.level == "bad"]
    assert bad[0].remedy == "Upgrade: pip install -U flowdeck"
