"""``python observers.py STORE COUNT SEED [again]``: so many look at a store at the same moment, when stdin ends.

Each is a fork of one warm process, with a command or the console's own look of its own choice. With ``again`` they look
one after the other until stdin ends. What goes wrong with one is said in a line that begins with ``observer``.
"""

from __future__ import annotations

import os
import random
import select
import signal
import sys
import time
import traceback

from flowdeck.cli.main import main
from flowdeck.engine.control.control import Control

LOOKS = (["ls"], ["ls", "--json"], ["show", "1"], ["logs", "1"], ["show", "@last"], ["doctor"], ["events"], ["console"])


def look(store: str, words: list[str]) -> int:
    """What one observer does; its exit code."""
    if words != ["console"]:
        return main(["--store", store, *words])
    control = Control(store, actor="tester@here via console")
    for _ in range(3):
        control.reap()
    control.close()
    return 0


def start(store: str, dice: random.Random, gate: int | None) -> int:
    """A fork that looks, once there is nothing more to read at the gate; its pid."""
    words = dice.choice(LOOKS)
    pid = os.fork()
    if pid:
        return pid
    code: object = 99
    talk = os.dup(2)
    said = os.memfd_create("said")
    try:
        if gate is not None:
            os.read(gate, 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(said, 2)
        code = look(store, words)
        sys.stderr.flush()
    except SystemExit as left:
        code = left.code or 0
    except BaseException:
        traceback.print_exc()
    text = os.pread(said, 1 << 16, 0).decode(errors="replace")
    nothing_there = code == 3 and words[0] in ("show", "logs")
    if "Traceback" in text or (code not in ((0, 1) if words == ["doctor"] else (0,)) and not nothing_there):
        os.write(talk, f"observer {' '.join(words)} ended with {code}: {text}\n".encode())
    os._exit(0)


def observe() -> None:
    """What the arguments say."""
    store, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    dice = random.Random(seed)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.argv[4:] == ["again"]:
        # The first process of a container is ended by no signal that it does not handle.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        print("observers ready", flush=True)
        while not select.select([0], [], [], 0.2)[0]:
            os.waitpid(start(store, dice, None), 0)
        return
    observers = [start(store, dice, 0) for _ in range(count)]
    print("observers ready", flush=True)
    deadline = time.monotonic() + 60
    for observer in observers:
        while os.waitpid(observer, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                print(f"observer {observer} does not end", flush=True)
                os.kill(observer, signal.SIGKILL)
            time.sleep(0.005)


observe()
