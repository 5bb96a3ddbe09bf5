"""The processes that a code host starts for runs: what it knows of each, and how one is put under its guard.

A guard says two things to the host, on a pipe of its own: the number of the run's process once it is forked, and how
that ended. The host reads the second when the guard has ended, and never waits for it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from ....store import judging
from ...states import exits as deaths
from ...system import processes
from .guard import ParentGuard, detach, end_with
from .wards import Ward


@dataclass
class Child:
    """A run's process, or its guard, that this host started."""

    run_id: int
    attempt: int
    for_crash_hooks: bool = False
    """Not to run it: to call ``on_crashed`` of a run whose process is dead."""
    said: int | None = None
    """Where its guard says what became of it."""
    pid: int | None = None
    """Of the run's process, once that is known: a child of the guard, or of this host when somebody killed that."""


def last_words(child: Child) -> tuple[deaths.Death, bool] | None:
    """What its guard said of the run's end, and whether it left the record; None when it was killed before."""
    assert child.said is not None
    with open(child.said, "rb", buffering=0) as file:
        os.set_blocking(child.said, False)  # user code may have kept the other end
        said = file.read() or b""
    child.said = None
    _, _, last = said.partition(b"{")
    if not last:
        return None
    words = json.loads(b"{" + last)
    return deaths.Death(**words["death"]), words["is_recorded"]


def is_child(pid: int) -> bool:
    """Whether a process is, living or not, a child of this one."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def guard_child(folder: str, child: Child, pid: int, oom: deaths.OomWatch, say: int) -> None:
    """Be the guard of a run's process that this one has just forked."""
    process = judging.process_identity(pid)  # a zombie, too, until it is waited for
    assert process is not None
    ParentGuard(Ward(folder, child.run_id, child.attempt, process, 0), oom, say).watch()


def guard_alone(folder: str, child: Child, say: int) -> int:
    """In an interpreter made for one run: fork its process before it has anything of the user's; returns there.

    What was started stays as the guard.
    """
    own = os.getpid()
    processes.adopt_orphans(True)
    pid = os.fork()
    if pid != 0:
        oom = deaths.OomWatch()

        def watch() -> None:
            os.write(say, str(pid).encode())
            detach(say)
            guard_child(folder, child, pid, oom, say)

        end_with(watch, folder, child.run_id, child.attempt)
    os.setsid()
    return own
