"""More kinds of process faults: who looks on, as another user or in a terminal, and rows of slots and keys that lie."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import random
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Final

from . import invariants
from .box import FLOWDECK, IN_CONTAINER, PLACES, Box
from .invariants import Effects

ANOTHER_UID: Final = 65534
ANOTHER_USER: Final = ("setpriv", f"--reuid={ANOTHER_UID}", f"--regid={ANOTHER_UID}", "--clear-groups")


class Screen:
    """A program in a pseudo terminal; what it draws is kept."""

    def __init__(self, box: Box, command: Sequence[str]) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 140, 0, 0))
        environment = {**os.environ, "FLOWDECK_STORE": str(box.store), "TERM": "xterm-256color", "HOME": str(box.root)}
        for name in ("TMUX", "STY", "NO_COLOR"):
            environment.pop(name, None)
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
                                        cwd=box.root, env=environment)  # fmt: skip
        box.processes.append(self.process)
        os.close(theirs)
        self._ours = ours
        self.drawn = b""
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        with suppress(OSError):  # nobody has the other end any more
            while data := os.read(self._ours, 1 << 16):
                self.drawn = (self.drawn + data)[-(1 << 20):]

    def press(self, keys: bytes) -> None:
        """Keys of a person."""
        with suppress(OSError):
            os.write(self._ours, keys)

    def close(self) -> None:
        """It has ended: nothing more is drawn."""
        self._reading.join(30)
        if not self._reading.is_alive():
            os.close(self._ours)


def consoles_watching(box: Box, dice: random.Random) -> None:
    """One or two real consoles are open, in one namespace or two, while runs die: each settles, none trips."""
    box.ensure_daemon(dice)
    run_ids = [box.submit_work() for _ in range(dice.randrange(1, 3))]
    box.wait_begun(run_ids)
    places = dice.sample(((), IN_CONTAINER), k=dice.randrange(1, 3))
    screens = [Screen(box, (*place, *FLOWDECK)) for place in places]
    for screen in screens:
        box.wait(lambda screen=screen: b"steady" in screen.drawn or screen.process.poll() is not None)
        assert screen.process.poll() is None, screen.drawn[-3000:]
    with_daemon = dice.random() < 0.6
    if not with_daemon:
        box.end_daemon(signal.SIGKILL)
    for run_id in run_ids:
        for screen in screens:
            screen.press(dice.choice((b"j", b"k", b"\r", b"\x1b", b"l")))
        if box.run_pid(run_id) is not None:
            box.kill_run(run_id)
        box.wait_somewhere(dice)
    box.ensure_daemon(dice)
    box.wait_begun(run_ids, 2)
    for screen in screens:
        assert screen.process.poll() is None, screen.drawn[-3000:]
        for key in (b"q", b"\x1b") * 30:  # parted by a moment: together they would be another key
            screen.press(key)
            with suppress(subprocess.TimeoutExpired):
                screen.process.wait(1.0)
                break
        screen.close()
        assert screen.process.returncode == 0, screen.drawn[-3000:]
        assert b"Traceback" not in screen.drawn, screen.drawn[-5000:]


def root_settles_anothers(box: Box, dice: random.Random) -> None:
    """Another user's script dies; root may look only when he vouches for the store, settles it once, and leaves every
    file its owner's, who goes on."""
    theirs = box.root / f"theirs{box.name()}"
    store, place = theirs / "store", theirs / "place"
    for folder in (theirs, place, place / "held", place / "alone"):
        folder.mkdir()
    (place / "effects").touch()
    file = theirs / "work.py"
    shutil.copy(box.file, file)
    subprocess.run(["chown", "-R", f"{ANOTHER_UID}:{ANOTHER_UID}", str(theirs)], check=True)
    environment = {"FLOWDECK_STORE": str(store), "CRASH_PLACE": str(place), "HOME": str(theirs)}
    words = (sys.executable, "-P", str(file), "steady", json.dumps({"name": "theirs"}))
    script = box.begin(*ANOTHER_USER, *words, **environment)
    effects = Effects(place / "effects")
    box.wait(lambda: "returned theirs-1" in effects.lines())
    looks = (["ls"], ["show", "1"], ["logs", "1"], ["ls", "--json"])
    assert box.begin(*FLOWDECK, *dice.choice(looks), **environment).wait(60) == 5
    script.kill()
    script.wait()
    vouched = {**environment, "FLOWDECK_TRUST": str(theirs)}
    observers = [box.begin(*dice.choice(((), IN_CONTAINER)), *FLOWDECK, *dice.choice(looks), **vouched)
                 for _ in range(dice.randrange(1, 6))]  # fmt: skip
    assert {observer.wait(90) for observer in observers} == {0}, box.report()
    assert box.begin(*FLOWDECK, "ls", **vouched).wait(60) == 0
    assert invariants.rows(store, "SELECT state_name, attempt, crash_count FROM flow_run") == [("Crashed", 1, 1)]
    assert {path.lstat().st_uid for path in (store, *store.rglob("*"))} == {ANOTHER_UID}
    (place / "enough").touch()
    assert box.begin(*ANOTHER_USER, *FLOWDECK, "retry", "--here", "1", **environment).wait(90) == 0, box.report()
    invariants.i2_ended_runs_stay_ended(store)
    invariants.i3_what_returned_never_begins_again(effects)
    invariants.i9_files_are_sound(store)
    invariants.i10_events_tell_the_tables(store)
    box.wait(lambda: not box.of_store(store))


def forged_claims(box: Box, dice: random.Random) -> None:
    """Rows of slots and of keys of the cache come to name strangers: none of them is touched, and nobody waits for them
    for ever."""
    box.ensure_daemon(dice)
    box.control.set_limit("narrow", 1)
    run_ids = [box.submit_work("holding") for _ in range(dice.randrange(1, 3))]
    box.wait_begun(run_ids)
    box.wait(lambda: any(line.startswith("holds ") for line in box.effects.lines()))
    box.end_everything(signal.SIGKILL, {lease.run_id for lease in box.reader.leases() if lease.run_id})
    with closing(sqlite3.connect(box.store / "state.db", timeout=30)) as connection:
        for table in ("slot", "cache_lock"):
            for (row,) in connection.execute(f"SELECT rowid FROM {table}").fetchall():
                column, value = dice.choice((
                    ("pid", box.stranger().pid), ("pid", 1), ("boot_id", "another"), ("pid_started_ticks", 0),
                    ("pid_namespace", "pid:[1]"), ("pid_namespace", None),
                ))  # fmt: skip
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, row))
        connection.commit()
    box.release(box.observers(dice, dice.randrange(1, 5)))
    before = len(box.effects.lines())
    box.daemon(dice.choice(PLACES))
    box.wait(lambda: any(line.startswith("holds ") for line in box.effects.lines()[before:]))
