from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from flowdeck.store import opening as opening_module
from flowdeck.store.checkpoint import AFFECTED, wal_reset_bug
from flowdeck.store.connection import APPLICATION_ID, MISREADS_NUMBERS, SCHEMA_VERSION, connect, transaction
from flowdeck.store.driver_errors import is_store_trouble, translate
from flowdeck.store.errors import (
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreMissing,
    StoreNewer,
    StoreReadOnly,
    StoreUnsupported,
)
from flowdeck.store.numbered import NamingConnection
from flowdeck.store.opening import open_store
from flowdeck.store.reader import Reader


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_only_the_owner_can_read_a_store_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """Folder 0700, files 0600, the log and shared memory too."""
    folder = tmp_path / "store"
    before = os.umask(umask)
    try:
        open_store(folder)
        connection = connect(folder, "state")
        with transaction(connection):
            connection.execute("INSERT INTO flow VALUES ('a', NULL, 1)")
        modes = {path.name: _mode(path) for path in folder.iterdir()}
        connection.close()
    finally:
        os.umask(before)
    assert _mode(folder) == 0o700
    assert {"state.db", "state.db-wal", "state.db-shm", "telemetry.db"} <= set(modes)
    assert set(modes.values()) == {0o600}


def test_the_pragmas_are_those_of_the_design(folder: Path) -> None:
    """FULL for state, NORMAL for telemetry, foreign keys on, no checkpoint by itself on an affected library."""
    for database, synchronous, auto_vacuum in (("state", 2, 0), ("telemetry", 1, 2)):
        connection = connect(folder, database)  # type: ignore[arg-type]
        value = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "application_id",
                         "user_version", "mmap_size", "auto_vacuum")
        }  # fmt: skip
        assert value == {
            "journal_mode": "wal", "synchronous": synchronous, "foreign_keys": 1, "busy_timeout": 10_000,
            "application_id": APPLICATION_ID, "user_version": SCHEMA_VERSION, "mmap_size": 0,
            "auto_vacuum": auto_vacuum,
        }  # fmt: skip
        automatic = connection.execute("PRAGMA wal_autocheckpoint").fetchone()[0]
        assert automatic == (0 if AFFECTED else 1000)
        connection.close()
        reader = connect(folder, database, readonly=True)  # type: ignore[arg-type]
        assert reader.execute("PRAGMA query_only").fetchone()[0] == 1
        if AFFECTED:
            assert reader.execute("PRAGMA wal_autocheckpoint").fetchone()[0] == 0
        reader.close()


def test_opening_again_changes_nothing(folder: Path) -> None:
    """A second start finds the store and leaves it byte for byte."""
    before = (folder / "state.db").read_bytes()
    open_store(folder)
    open_store(folder, create=False)
    assert (folder / "state.db").read_bytes() == before


def test_a_missing_store_is_said_to_be_missing(tmp_path: Path) -> None:
    """Reading never makes a store."""
    with pytest.raises(StoreMissing, match="no such folder"):
        open_store(tmp_path / "none", create=False)
    with pytest.raises(StoreMissing, match="not found"):
        Reader(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def _open_in_child(folder: str, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    open_store(folder)
    with closing(connect(folder, "state")) as connection:
        connection.execute("SELECT count(*) FROM flow_run")


def test_many_processes_may_make_the_store_at_once(tmp_path: Path) -> None:
    """Eight first starts at the same moment: one store, nobody fails."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(8)
    children = [
        context.Process(target=_open_in_child, args=(str(tmp_path / "store"), barrier)) for _ in range(8)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * 8
    assert not list((tmp_path / "store").glob("*.new*"))


def test_what_a_crash_left_half_made_is_made_anew(tmp_path: Path) -> None:
    """A file under its building name is not the store."""
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "state.db.new").write_bytes(b"half")
    open_store(folder)
    with closing(connect(folder, "state")) as connection:
        assert connection.execute("SELECT count(*) FROM flow_run").fetchone() == (0,)


@pytest.mark.parametrize(
    ("content", "expected", "words"),
    [
        (b"", StoreCorrupt, "is empty"),
        (b"this is not a database at all, but a text" * 30, StoreCorrupt, "not a database"),
    ],
)
def test_a_file_that_is_no_database_is_refused_and_kept(
    tmp_path: Path, content: bytes, expected: type[StoreError], words: str
) -> None:
    """Nothing of it is overwritten."""
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "state.db").write_bytes(content)
    with pytest.raises(expected, match=words) as caught:
        open_store(folder)
    assert str(folder / "state.db") in str(caught.value)
    assert (folder / "state.db").read_bytes() == content


def test_a_damaged_database_is_refused_by_name_and_never_written(folder: Path) -> None:
    """Reading over the damage says so; the file stays as it is."""
    path = folder / "state.db"
    connection = connect(folder, "state")
    with transaction(connection):
        connection.executemany("INSERT INTO flow VALUES (?, NULL, 1)", [(f"flow {n}" * 20,) for n in range(500)])
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    content = bytearray(path.read_bytes())
    content[4096 * 5 :] = os.urandom(len(content) - 4096 * 5)
    path.write_bytes(content)

    def read() -> None:
        with Reader(folder) as reader:
            reader.flows()
            reader.runs()

    with pytest.raises(StoreCorrupt, match=r"damaged.*restore"):
        read()
    assert path.read_bytes() == bytes(content)


def test_a_lost_database_with_its_log_is_not_replaced(folder: Path) -> None:
    """Making a new file beside an old log would mix the two."""
    (folder / "state.db").unlink()
    (folder / "state.db-wal").write_bytes(b"x" * 100)
    with pytest.raises(StoreCorrupt, match="is missing, but its log"):
        open_store(folder)
    assert not (folder / "state.db").exists()


def test_other_peoples_databases_are_refused(tmp_path: Path) -> None:
    """An SQLite file of another program is left alone."""
    folder = tmp_path / "store"
    folder.mkdir()
    other = sqlite3.connect(folder / "state.db")
    other.execute("CREATE TABLE customers (id)")
    other.close()
    with pytest.raises(StoreUnsupported, match="not one of Flowdeck's"):
        open_store(folder)


def test_a_newer_store_is_refused_with_the_way_out(folder: Path) -> None:
    """An old Flowdeck neither reads nor writes what a newer one made."""
    connection = connect(folder, "state")
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    connection.close()
    for attempt in (lambda: open_store(folder), lambda: Reader(folder)):
        with pytest.raises(StoreNewer, match="pip install -U flowdeck"):
            attempt()


def test_readers_cannot_write(folder: Path) -> None:
    """A read-only connection refuses, as a typed error."""
    connection = connect(folder, "state", readonly=True)
    with pytest.raises(StoreReadOnly), transaction(connection):
        connection.execute("INSERT INTO flow VALUES ('a', NULL, 1)")


def test_a_transaction_is_all_or_nothing(state: sqlite3.Connection) -> None:
    """An exception inside takes everything back and passes through."""

    def half() -> None:
        with transaction(state):
            state.execute("INSERT INTO flow VALUES ('a', NULL, 1)")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert not state.in_transaction
    assert state.execute("SELECT count(*) FROM flow").fetchone() == (0,)
    with pytest.raises(sqlite3.IntegrityError), transaction(state):
        state.execute("INSERT INTO flow VALUES ('a', NULL, 1), ('a', NULL, 1)")


def test_a_held_write_lock_is_named(folder: Path, state: sqlite3.Connection) -> None:
    """Waiting too long for another writer is StoreLocked, with the file's name."""
    other = connect(folder, "state")
    other.execute("PRAGMA busy_timeout=20")
    with transaction(state), pytest.raises(StoreLocked, match=r"state\.db is locked"), transaction(other):
        pass


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_FULL, StoreFull),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreLocked),
        (sqlite3.SQLITE_READONLY_DIRECTORY, StoreReadOnly),
        (sqlite3.SQLITE_CORRUPT_INDEX, StoreCorrupt),
        (sqlite3.SQLITE_NOTADB, StoreCorrupt),
        (sqlite3.SQLITE_IOERR_FSYNC, StoreError),
        (sqlite3.SQLITE_CANTOPEN, StoreMissing),
    ],
)
def test_every_kind_of_trouble_has_its_error_and_names_the_file(code: int, expected: type[StoreError]) -> None:
    """Extended codes too; the text holds the file."""
    error = sqlite3.OperationalError("said")
    error.sqlite_errorcode = code
    error.sqlite_errorname = "SQLITE_X"
    assert is_store_trouble(error)
    translated = translate(error, "/somewhere/state.db")
    assert type(translated) is expected
    assert "/somewhere/state.db" in str(translated)


def test_errors_of_statements_are_not_the_stores() -> None:
    """A violated constraint is the caller's fault, not the file's."""
    error = sqlite3.IntegrityError("said")
    error.sqlite_errorcode = sqlite3.SQLITE_CONSTRAINT_UNIQUE
    assert not is_store_trouble(error)


def test_network_file_systems_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new store on NFS is refused before anything is made."""
    monkeypatch.setattr(opening_module, "filesystem_type", lambda _: "nfs4")
    with pytest.raises(StoreUnsupported, match="network file system"):
        open_store(tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 6, 23), False), ((3, 7, 0), True), ((3, 40, 1), True), ((3, 44, 5), True), ((3, 44, 6), False),
        ((3, 45, 0), True), ((3, 50, 6), True), ((3, 50, 7), False), ((3, 51, 2), True), ((3, 51, 3), False),
        ((3, 52, 0), False), ((4, 0, 0), False),
    ],
)  # fmt: skip
def test_which_libraries_have_the_wal_reset_bug(version: tuple[int, int, int], affected: bool) -> None:
    """The published range, with the two maintenance lines that got the fix."""
    assert wal_reset_bug(version) is affected


# ------------------------------------------------------------------------------------------ another user's store

NOBODY = 65534
READ_AS_NOBODY = """
import os, sys
from flowdeck.store.errors import StoreError
from flowdeck.store.reader import Reader
os.setgroups([]); os.setgid({uid}); os.setuid({uid})
try:
    print("rows", len(Reader(sys.argv[1]).flows()))
except StoreError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A store other users can reach and read, but not write."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    folder = place / "store"
    open_store(folder)
    connection = connect(folder, "state")
    with transaction(connection):
        connection.execute("INSERT INTO flow VALUES ('a', NULL, 1)")
    connection.close()
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(place)


def _read_as_nobody(folder: Path) -> str:
    script = READ_AS_NOBODY.format(uid=NOBODY)
    return subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=True, cwd="/"
    ).stdout


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")


@needs_root
def test_a_store_without_permission_is_said_to_be_so(shared: Path) -> None:
    """The folder is 0700: another user gets a typed error, not a traceback of SQLite's."""
    assert _read_as_nobody(shared).startswith("StoreReadOnly")


@needs_root
def test_a_folder_one_may_not_write_but_others_may_is_refused_clearly(shared: Path) -> None:
    """Without shared memory its owner's commits could be torn in half: no guess is made."""
    shared.chmod(0o755)
    for file in shared.iterdir():
        file.chmod(0o644)
    said = _read_as_nobody(shared)
    assert said.startswith("StoreReadOnly"), said
    assert "its owner may be writing" in said


@needs_root
def test_a_folder_nobody_may_write_is_read(shared: Path) -> None:
    """A read-only copy (an archive, a mounted image) needs no shared memory."""
    for file in shared.iterdir():
        file.chmod(0o444)
    shared.chmod(0o555)
    assert _read_as_nobody(shared) == "rows 1\n"


@pytest.mark.filterwarnings("error")
def test_numbered_places_take_their_values_by_name(tmp_path: Path) -> None:
    """What connections are made of on Pythons that take ``?1`` for a name gives what the driver gives elsewhere."""
    with closing(NamingConnection(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (a, b, c)")
        connection.execute("INSERT INTO t VALUES (?1, ?2, ?1)", (7, None))
        connection.executemany("INSERT INTO t VALUES (?2, ?1, ?3)", [(1, 2, 3), (4, 5, 6)])
        connection.execute("INSERT INTO t VALUES (?, ?, ?)", [8, 9, 10])
        connection.execute("INSERT INTO t VALUES (:a, :a, :b)", {"a": 11, "b": 12})
        found = connection.execute("SELECT a, b, c FROM t WHERE ?1 IS NULL OR a = ?1", (None,)).fetchall()
    assert found == [(7, None, 7), (2, 1, 3), (5, 4, 6), (8, 9, 10), (11, 11, 12)]
    open_store(tmp_path / "store")
    with closing(connect(tmp_path / "store", "state")) as connection:
        assert isinstance(connection, NamingConnection) == MISREADS_NUMBERS
