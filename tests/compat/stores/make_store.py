"""Makes ``store-NAME.tar.gz``: a store of one version of Flowdeck, with the flow files and the effects it belongs to.

Run it with the Python of the version whose store is to be kept, for each version that changes what stores hold::

    OLD/.venv/bin/python tests/compat/stores/make_store.py NAME

NAME is the version or commit. Everything in the store is made by real processes of that version: a script, ``run``,
``submit`` and a daemon, which is killed at the end together with the runs under way. ``made.json`` in the archive says
which runs there are, how each is to be made to go on, and which bodies may run then; the tests believe it. Nothing but
the command line of that version, its public names and the names of the tables is used.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
WAIT_SECONDS = 120.0


class Kept(NamedTuple):
    """A run of the store: what it is left as, and what is to come of it."""

    flow: str
    state_name: str
    """As listed when the store was packed."""
    goes_on: list[str]
    """The command that lets it go on; empty where a daemon does so by itself."""
    ran: list[str]
    """The bodies that run once it goes on, in order; no other may."""
    replays: bool = True
    """Whether its code gets all values again that it had got before."""
    here: bool = False
    """Whether the command itself runs it, and no daemon is to be there."""
    holds_code: bool = False
    """Whether its results hold code, which only the same Python can read."""


KEPT = [
    Kept("kinds", "Failed", ["retry", "{run}"], ["broken", "gate", "fed"]),
    Kept("suspended", "Suspended", ["resume", "{run}"], ["step 2"]),
    Kept("asking", "AwaitingInput", ["resume", "{run}", "-i", "amount=12"], ["step 3"]),
    Kept("pausing", "AwaitingInput", ["resume", "{run}", "-i", "value=5"], ["step 2"]),
    Kept("asleep", "Scheduled", [], ["step 2"]),
    Kept("killed", "Running", [], ["in flight", "commit of Point(x=1)", "commit of Point(x=2)", "beside 4"]),
    Kept("undoing", "Running", [], ["undo first Point(x=1)", "put 1"]),
    Kept("looping", "Running", [], ["turn 3", "turn 4", "turn 5", "end"], replays=False),
    Kept("queued", "Scheduled", [], []),
    Kept("by_value", "Failed", ["retry", "--here", "{run}"], ["gate"], here=True, holds_code=True),
    Kept("cached", "Completed", ["run", "flows/cached.py"], [], here=True),
]


class Workshop:
    """A folder with a store, the flows, and the processes of the version that this Python belongs to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = root / "store"
        self.effects = root / "effects"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("FLOWDECK")}
        self.environment |= {"FLOWDECK_STORE": str(self.store), "FLOWDECK_SUSPEND_AFTER_SECONDS": "1"}
        shutil.copytree(HERE / "flows", root / "flows", ignore=shutil.ignore_patterns("__pycache__"))

    def flowdeck(self, *words: str, code: int = 0) -> str:
        """One command; what it wrote."""
        done = subprocess.run([sys.executable, "-P", "-m", "flowdeck", *words], cwd=self.root, text=True, check=False,
                              stdin=subprocess.DEVNULL, capture_output=True, env=self.environment)
        if done.returncode != code:
            raise SystemExit(f"flowdeck {' '.join(words)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def json(self, *words: str) -> Any:
        """What a command says as JSON."""
        return json.loads(self.flowdeck(*words, "--json"))

    def start_daemon(self) -> subprocess.Popen[bytes]:
        """A daemon on the folder of flows, once it knows all of them."""
        with open(self.root / "daemon.log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "flowdeck", "daemon", "flows"], cwd=self.root, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        flows = {kept.flow for kept in KEPT} | {"ticking"}
        self.until(f"the daemon has loaded {flows}", lambda: flows <= {each["flow"] for each in self.json("flows")})
        return process

    def until(self, what: str, condition: Callable[[], object]) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise SystemExit(f"waited {WAIT_SECONDS:g} s until {what}; see {self.root}")
            time.sleep(0.1)

    def until_effect(self, line: str) -> None:
        """Wait until user code has noted this."""
        self.until(f"effects hold {line!r}", lambda: line in self.effects.read_text("utf-8").splitlines())

    def until_state(self, run: str, name: str) -> None:
        """Wait until a run is in a state."""
        self.until(f"run {run} is {name}", lambda: self.json("show", run)["state_name"] == name)

    def live_processes(self) -> list[int]:
        """Of the runs that have one."""
        with closing(sqlite3.connect(self.store / "state.db")) as connection:
            return [pid for (pid,) in connection.execute("SELECT pid FROM lease WHERE run_id IS NOT NULL")]


def is_gone(pid: int) -> bool:
    """Whether a process does nothing more; one that nobody has waited for still has its number."""
    try:
        os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return True
    return False


def make(root: Path, name: str) -> None:
    """The store, as it is left by processes that were killed."""
    shop = Workshop(root)
    shop.flowdeck("vars", "set", "city", '{"name": "Oslo"}')
    shop.flowdeck("limits", "set", "database", "3")
    daemon = shop.start_daemon()
    try:
        runs = make_runs(shop, daemon.pid)
    finally:
        processes = shop.live_processes()
        daemon.kill()
        daemon.wait()
        for pid in processes:
            os.killpg(pid, signal.SIGKILL)
            shop.until(f"process {pid} is gone", functools.partial(is_gone, pid))
    facts = {
        "version": name,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "root": str(root),
        "runs": [{**kept._asdict(), "run": runs[kept.flow]} for kept in KEPT],
    }
    (root / "made.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")


def make_runs(shop: Workshop, daemon: int) -> dict[str, int]:
    """All runs, each in the state it is to be kept in; their numbers."""
    asked = ("kinds", "suspended", "asking", "pausing", "asleep", "killed", "undoing", "looping")
    runs = {flow: shop.flowdeck("submit", flow).strip() for flow in asked}
    shop.flowdeck("send", runs["asking"], '"hello"')
    shop.until_state(runs["asking"], "AwaitingInput")
    shop.flowdeck("resume", runs["asking"], "-i", "approved=true", "-i", "note=fine")
    script = subprocess.run([sys.executable, "flows/script.py"], cwd=shop.root, env=shop.environment, check=False,
                            stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if script.returncode != 1 or "not mended yet" not in script.stderr:
        raise SystemExit(f"the script was to fail: {script.stdout}{script.stderr}")
    shop.flowdeck("run", "flows/cached.py")
    for line in ("asking ran step 2", "asleep ran step 1", "killed ran in flight", "undoing ran undo first Point(x=1)",
                 "looping ran turn 3", "ticking ran tick of often"):
        shop.until_effect(line)
    states = {kept.flow: kept.state_name for kept in KEPT}
    for flow, run in runs.items():
        shop.until_state(run, states[flow])
    # A daemon that is stopped takes no run, and nobody else settles runs while there is one.
    os.kill(daemon, signal.SIGSTOP)
    runs["queued"] = shop.flowdeck("submit", "queued", "-p", "numbers=[1, 2, 3]", "-p", "city=Bergen").strip()
    listed = {run["flow"]: run for run in shop.json("ls")}
    assert all(listed[flow]["state_name"] == state for flow, state in states.items()), listed
    return {flow: listed[flow]["id"] for flow in states}


def pack(root: Path, archive: Path) -> None:
    """Everything the store belongs to, without what names whoever made it or is made anew when it is opened."""

    def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if member.name.endswith(("-shm", "__pycache__", "daemon.log")):
            return None
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(archive, "w:gz", compresslevel=9) as file:
        for part in sorted(os.listdir(root)):
            file.add(root / part, part, filter=kept)


def main() -> None:
    """Make the store in a folder of its own, and pack it beside this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", help="the version or commit that this Python has installed")
    name = parser.parse_args().name
    archive = HERE / f"store-{name}.tar.gz"
    root = Path(tempfile.mkdtemp(prefix=f"flowdeck-store-{name}-"))
    make(root, name)
    pack(root, archive)
    shutil.rmtree(root)
    print(f"{archive}: {os.path.getsize(archive)} bytes")


if __name__ == "__main__":
    main()
