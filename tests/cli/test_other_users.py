"""Stores and flow files of other users, as real other users: what cannot be read is never called empty."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flowdeck.cli.main import COMMANDS
from flowdeck.store.opening import open_store

DAEMON, BIN = 1, 2
"""Two users that every Unix has."""
AS = ["setpriv", "--reuid", str(DAEMON), "--regid", str(DAEMON), "--clear-groups", sys.executable, "-c"]
SEVERAL = """
import contextlib, io, json, sys
from flowdeck.cli.main import main
told = {}
for words in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(words)
    told[" ".join(words)] = (code, said.getvalue())
print(json.dumps(told))
"""
NO_STORE_NEEDED = {"demo", "web", "systemd", "tui", "up", "daemon"}
WORDS = {
    "submit": ["etl"], "show": ["1"], "logs": ["1"], "pause": ["1"], "suspend": ["1"], "resume": ["1"],
    "send": ["1", "{}"], "freeze": ["1"], "thaw": ["1"], "cancel": ["1"], "retry": ["1"],
    "set-state": ["1/1", "completed"], "backfill": ["etl"], "lineage": ["1"],
}  # fmt: skip


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of root's that everybody can reach, where another user can be asked what he sees."""
    folder = Path(tempfile.mkdtemp(prefix="users-"))
    folder.chmod(0o755)
    able = os.geteuid() == 0 and shutil.which("setpriv") is not None
    if not able or subprocess.run([*AS, "import flowdeck"], cwd="/", check=False).returncode != 0:
        shutil.rmtree(folder)
        if os.environ.get("CI"):
            pytest.fail("CI needs root, setpriv, and an interpreter that every user can run")
        pytest.skip("needs root, setpriv, and an interpreter that every user can run")
    yield folder
    shutil.rmtree(folder)


def as_daemon(place: Path, *commands: list[str], **environment: str) -> dict[str, tuple[int, str]]:
    """What each command says to the user ``daemon``, with its exit code."""
    ours = ("SUDO_UID", "FLOWDECK_TRUST", "FLOWDECK_STORE")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(
        [*AS, SEVERAL, json.dumps(commands)], cwd=place, env={**kept, "HOME": str(place), **environment},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    told: dict[str, tuple[int, str]] = json.loads(done.stdout)
    return told


def test_a_store_that_may_not_be_read_is_never_called_empty(place: Path) -> None:
    """Every command says that sentence and ends with 5, named or found, as text and JSON; nothing is made beside it."""
    open_store(place / ".flowdeck")
    (place / "flows.py").write_text("from flowdeck import flow\n@flow\ndef etl(): pass\n")
    commands = [[name, *WORDS.get(name, [])] for name in COMMANDS if name not in NO_STORE_NEEDED | {"run", "doctor"}]
    commands += [["run", "flows.py"], ["--json", "ls"], ["--json", "events"], ["vars", "set", "a", "1"], ["doctor"]]
    for told in (as_daemon(place, *commands), as_daemon(place, *commands, FLOWDECK_STORE=str(place / ".flowdeck"))):
        for words, (code, said) in told.items():
            assert (code, "cannot be reached (Permission denied)" in said) == (5, True), f"{words}: {code} {said}"
            assert "Run as the owner of its folder" in said, f"{words}: {said}"
    assert sorted(path.name for path in place.iterdir()) == [".flowdeck", "flows.py"]


@pytest.mark.parametrize("kind", ["link", "group", "found above"])
def test_a_store_that_others_could_write_is_refused_by_every_way_to_it(place: Path, kind: str) -> None:
    """Through a link of somebody else's, with a group that others are in, found above; vouched for, it is used."""
    store = place / ".flowdeck"
    open_store(store)
    for path in (store, *store.iterdir()):
        os.chown(path, DAEMON, DAEMON)
    words = ["--store", str(store), "ls"]
    if kind == "link":
        (place / "link").symlink_to(store)
        os.chown(place / "link", BIN, BIN, follow_symlinks=False)
        words[1] = str(place / "link")
    elif kind == "group":
        os.chown(store, DAEMON, 100)
        store.chmod(0o770)
    else:
        os.chown(store, BIN, DAEMON)
        store.chmod(0o755)
        words = ["ls"]
    ((code, said),) = as_daemon(place, words).values()
    assert code == 5, said
    assert "is not used" in said
    assert "FLOWDECK_TRUST" in said
    ((code, said),) = as_daemon(place, words, FLOWDECK_TRUST=str(place)).values()
    assert code == 0, said


def test_who_asked_is_who_the_kernel_says(place: Path) -> None:
    """Not what the environment claims: LOGNAME, USER and sudo's variables are anybody's to set."""
    store = place / "store"
    open_store(store)
    for path in (store, *store.rglob("*")):
        os.chown(path, DAEMON, DAEMON)
    claims = {"LOGNAME": "root", "USER": "root", "LNAME": "root", "USERNAME": "root"}
    named = ["--store", str(store)]
    told = as_daemon(place, [*named, "vars", "set", "a", "1"], [*named, "--json", "events"], **claims)
    said = told[f"--store {store} --json events"][1]
    actors = {event["actor"] for event in json.loads(said)}
    assert actors
    assert all(actor.startswith("daemon@") for actor in actors), actors


def test_a_daemon_imports_nobody_elses_file(place: Path) -> None:
    """Of a folder that holds one's own file and somebody else's: that one is named with what is wrong, and not run."""
    flows = place / "flows"
    flows.mkdir()
    (place / "ran").mkdir()
    for name, owner in (("mine.py", 0), ("other.py", BIN)):
        code = f"import pathlib\nfrom flowdeck import flow\npathlib.Path('{place}/ran/{name}').touch()\n"
        (flows / name).write_text(f"{code}@flow\ndef {name[:-3]}(): pass\n")
        os.chown(flows / name, owner, owner)
    log = place / "daemon.log"
    with open(log, "wb") as file:
        daemon = subprocess.Popen(
            [sys.executable, "-P", "-m", "flowdeck", "--store", str(place / "store"), "daemon", str(flows)], cwd=place,
            stderr=file, env={name: value for name, value in os.environ.items() if name != "SUDO_UID"},
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while "ready:" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
    finally:
        daemon.terminate()
        daemon.wait(60)
    assert [path.name for path in (place / "ran").iterdir()] == ["mine.py"]
    assert "other.py" in log.read_text()
    assert "belongs to bin" in log.read_text()
