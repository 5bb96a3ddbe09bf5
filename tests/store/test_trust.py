"""Whom the store trusts, on real files of real users: root makes the files, other users try."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flowdeck.store import files
from flowdeck.store.connection import connect, transaction
from flowdeck.store.errors import StoreUntrusted
from flowdeck.store.opening import open_store

DAEMON, BIN = 1, 2
"""Two users that every Unix has, each with a group of his own."""
OPEN_AND_SAY = """
import sys
from flowdeck.store.errors import StoreError
from flowdeck.store.reader import Reader
from flowdeck.store.opening import open_store
try:
    open_store(sys.argv[1])
    Reader(sys.argv[1]).close()
    print("used")
except StoreError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of root's that everybody can reach."""
    folder = Path(tempfile.mkdtemp(prefix="trust-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def says(place: Path) -> Callable[..., str]:
    """``says(uid, store)``: what opening a store gives as that user."""
    words = ["setpriv", "--reuid", str(DAEMON), "--regid", str(DAEMON), "--clear-groups", sys.executable]
    able = os.geteuid() == 0 and shutil.which("setpriv") is not None
    if not able or subprocess.run([*words, "-c", "import flowdeck"], cwd="/", check=False).returncode != 0:
        if os.environ.get("CI"):
            pytest.fail("CI needs root, setpriv, and an interpreter that every user can run")
        pytest.skip("needs root, setpriv, and an interpreter that every user can run")

    def open_as(uid: int, store: Path, **environment: str) -> str:
        words = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", sys.executable]
        kept = {name: value for name, value in os.environ.items() if name not in ("SUDO_UID", "FLOWDECK_TRUST")}
        return subprocess.run(
            [*words, "-c", OPEN_AND_SAY, str(store)], capture_output=True, text=True, check=True, cwd=place,
            env={**kept, "HOME": str(place), **environment},
        ).stdout  # fmt: skip

    return open_as


def give(path: Path, uid: int, mode: int | None = None) -> None:
    """Make somebody the owner of a path and all below it."""
    for one in (path, *path.rglob("*")):
        os.chown(one, uid, uid, follow_symlinks=False)
    if mode is not None:
        path.chmod(mode)


def made_for(uid: int, folder: Path) -> Path:
    """A store of that user's."""
    open_store(folder)
    give(folder, uid)
    return folder


def test_a_store_of_ones_own_is_used_and_one_of_roots(place: Path, says: Callable[..., str]) -> None:
    """What is trusted: oneself, and root."""
    assert says(DAEMON, made_for(DAEMON, place / "own")) == "used\n"
    given = made_for(0, place / "roots")
    given.chmod(0o555)
    for file in given.iterdir():
        file.chmod(0o444)
    assert says(DAEMON, given) == "used\n"


def test_a_store_of_somebody_else_is_refused_with_the_remedies(place: Path, says: Callable[..., str]) -> None:
    """Readable or not, written by everybody or not: its owner, how to work as him, how to vouch for him."""
    store = made_for(BIN, place / "store")
    store.chmod(0o777)
    for file in store.iterdir():
        file.chmod(0o666)
    for uid in (DAEMON, 0):
        said = says(uid, store)
        assert said.startswith("StoreUntrusted"), said
        assert all(word in said for word in ("bin", "sudo -u bin", "--store", f"FLOWDECK_TRUST={store}")), said
    store.chmod(0o700)
    assert says(DAEMON, store).startswith("StoreReadOnly")
    assert "Run as the owner of its folder: sudo -u bin" in says(DAEMON, store)


@pytest.mark.parametrize("name", ["", "state.db", "telemetry.db", "state.db-wal", "state.db-journal"])
def test_what_others_may_write_is_refused_with_the_command(place: Path, says: Callable[..., str], name: str) -> None:
    """The folder as each file in it, also those SQLite keeps beside the databases."""
    store = made_for(DAEMON, place / "store")
    path = store / name
    path.touch()
    give(store, DAEMON)
    path.chmod(0o777)
    said = says(DAEMON, store)
    assert said.startswith("StoreUntrusted"), said
    assert f"chmod go-w {path}" in said


@pytest.mark.parametrize("name", ["state.db", "telemetry.db-wal", "state.db-shm"])
def test_links_in_place_of_the_databases_are_refused_whoever_vouches(
    place: Path, says: Callable[..., str], name: str
) -> None:
    """A link may lead to whatever its maker likes; no file of a store is one."""
    store = made_for(DAEMON, place / "store")
    target = place / "elsewhere"
    (store / name).rename(target) if (store / name).exists() else target.touch()
    (store / name).symlink_to(target)
    give(store, DAEMON)
    assert says(DAEMON, store).startswith("StoreUntrusted")
    assert "is a link" in says(DAEMON, store, FLOWDECK_TRUST=str(store))


def test_who_may_put_another_store_in_its_place_is_asked_too(place: Path, says: Callable[..., str]) -> None:
    """Each folder above, links on the way, and their targets; a sticky folder as /tmp is fine."""
    above = place / "above"
    store = made_for(DAEMON, above / "deeper" / "store")
    assert says(DAEMON, store) == "used\n"
    above.chmod(0o1777)
    assert says(DAEMON, store) == "used\n"
    above.chmod(0o777)
    assert f"chmod go-w {above}" in says(DAEMON, store)
    above.chmod(0o755)
    os.chown(above, BIN, BIN)
    assert "belongs to bin" in says(DAEMON, store)
    os.chown(above, 0, 0)
    link = place / "link"
    link.symlink_to(store)
    assert says(DAEMON, link) == "used\n"
    os.chown(link, BIN, BIN, follow_symlinks=False)
    assert f"{link} belongs to bin" in says(DAEMON, link)


def test_a_group_of_ones_own_may_write_and_no_other(place: Path, says: Callable[..., str]) -> None:
    """With a umask of 002 everything is writable by the user's own group: nobody else is in it."""
    above = place / "home"
    store = made_for(DAEMON, above / "store")
    give(above, DAEMON, 0o775)
    for file in (store, *store.iterdir()):
        file.chmod(file.stat().st_mode | 0o020)
    assert says(DAEMON, store) == "used\n"
    os.chown(above, DAEMON, 100)
    said = says(DAEMON, store)
    assert f"chmod g-w {above}" in said
    assert "group users" in said


def test_an_access_list_that_lets_others_write_is_seen(place: Path, says: Callable[..., str]) -> None:
    """The mode's group bits say only what the list gives at most: the list itself is looked for."""
    store = made_for(DAEMON, place / "store")
    nobody = 0xFFFFFFFF
    entries = [(0x01, 7, nobody), (0x02, 7, BIN), (0x04, 0, nobody), (0x10, 7, nobody), (0x20, 0, nobody)]
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(store, "system.posix_acl_access", packed)
    except OSError as error:
        pytest.skip(f"the file system has no access lists: {error}")
    assert "access list" in says(DAEMON, store)


def test_root_by_sudo_works_for_whoever_called_it(place: Path, says: Callable[..., str]) -> None:
    """Root trusts root, with sudo its caller; nobody else, unless FLOWDECK_TRUST names the store or a folder above."""
    store = made_for(DAEMON, place / "store")
    assert says(0, store).startswith("StoreUntrusted")
    assert says(0, store, SUDO_UID=str(DAEMON)) == "used\n"
    assert says(0, store, SUDO_UID=str(BIN)).startswith("StoreUntrusted")
    assert says(BIN, store, SUDO_UID=str(DAEMON)).startswith("StoreReadOnly")
    for vouched in (store, place, f"/nowhere:{store}"):
        assert says(0, store, FLOWDECK_TRUST=str(vouched)) == "used\n"
    assert says(0, store, FLOWDECK_TRUST=str(place / "sto")).startswith("StoreUntrusted")


def test_what_root_makes_in_a_store_belongs_to_its_owner(
    place: Path, says: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Databases and their logs, spool, results with their folders, whatever the umask; nothing of root's is left."""
    store = made_for(DAEMON, place / "store")
    monkeypatch.setenv("SUDO_UID", str(DAEMON))
    before = os.umask(0o077)
    try:
        connection = connect(store, "state")
        with transaction(connection):
            connection.execute("INSERT INTO flow VALUES ('a', NULL, 1)")
        os.close(files.open_to_append(store, "spool/1.1.rec"))
        os.close(files.make(store, "results/42/1.bin"))
        files.link(store, "results/42/1.bin", "results/43/1.bin")
        (store / "telemetry.db").unlink()
        open_store(store)
        owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in (store, *store.rglob("*"))}
        connection.close()
    finally:
        os.umask(before)
    assert len(owners) > 9
    assert set(owners.values()) == {(DAEMON, DAEMON)}


@pytest.mark.parametrize("made", ["file", "folder"])
def test_nothing_below_a_store_is_reached_through_a_link(tmp_path: Path, made: str) -> None:
    """Neither a link in a file's place nor one in its folder's: not read, not written, not listed, not linked."""
    store, outside = tmp_path / "store", tmp_path / "outside"
    open_store(store)
    outside.mkdir()
    (outside / "1.1.rec").write_text("root's own")
    if made == "folder":
        (store / "spool").symlink_to(outside)
    else:
        (store / "spool").mkdir(mode=0o700)
        (store / "spool" / "1.1.rec").symlink_to(outside / "1.1.rec")
    path = "spool/1.1.rec"
    for attempt in (files.read, files.open_to_append, files.open_to_write):
        with pytest.raises(StoreUntrusted, match="is a link"):
            attempt(store, path)
    with pytest.raises(StoreUntrusted, match="is a link"):
        files.link(store, path, "copy")
    if made == "folder":
        for attempt in (files.remove, files.names):
            with pytest.raises(StoreUntrusted, match="is a link"):
                attempt(store, "spool" if attempt is files.names else path)
    else:
        assert files.remove(store, path)  # the link, not what it leads to
    assert (outside / "1.1.rec").read_text() == "root's own"


@pytest.mark.parametrize("path", ["../outside", "/etc/hostname", "results/../../outside", "", "results//x", "."])
def test_a_path_of_a_row_stays_within_the_store(tmp_path: Path, path: str) -> None:
    """Whatever a row says: nothing above or beside the store is opened, removed or linked."""
    store = tmp_path / "store"
    open_store(store)
    (tmp_path / "outside").write_text("mine")
    for attempt in (files.read, files.remove, files.open_to_write):
        with pytest.raises((StoreUntrusted, IsADirectoryError)):
            attempt(store, path)
    assert (tmp_path / "outside").read_text() == "mine"


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """A pipe in a file's place is refused at once."""
    store = tmp_path / "store"
    open_store(store)
    os.mkfifo(store / "daemon.log", 0o600)
    for attempt in (files.read, files.open_to_append):
        with pytest.raises(StoreUntrusted):
            attempt(store, "daemon.log")


def test_a_second_name_of_somebody_elses_file_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hard link cannot be told from a file but by its owner and its number of names."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    monkeypatch.setenv("SUDO_UID", str(DAEMON))
    store = made_for(DAEMON, place / "store")
    os.close(files.open_to_append(store, "spool/1.1.out"))
    (place / "outside").write_text("of root's")
    os.link(place / "outside", store / "spool" / "1.1.rec")
    assert files.read(store, "spool/1.1.out") == b""
    with pytest.raises(StoreUntrusted):
        files.read(store, "spool/1.1.rec")
