"""Who holds a store's locks, as the kernel's list of them says: nothing of the store is opened for it.

(Closing a file drops all locks that its process has on it, so asking the file itself would take SQLite's away.) Whoever
waits for a lock has it named: the process, its command, whether it is stopped, and what helps. Only exclusive locks
hold others up: that of writing, the others of the shared memory file (a checkpoint, a recovery), and the database's.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

_WRITE_LOCK_BYTE: Final = 120
"""Of the shared memory file, as SQLite lays it out."""
_MOST_LETTERS: Final = 60


class Holder(NamedTuple):
    """A process that has an exclusive lock on a database."""

    pid: int
    is_stopped: bool
    command: str


def lock_holder(path: str | Path) -> Holder | None:
    """Who holds everybody up who wants to write this database, or reads it; None when that is nobody of whom is known.

    Processes of other PID namespaces are seen from those above theirs only.
    """
    try:
        with open("/proc/locks", encoding="ascii") as file:
            lines = file.read().splitlines()
    except OSError:
        return None  # another system than Linux
    found: list[tuple[int, int]] = []
    for rank, file_name in enumerate((f"{path}-shm", str(path))):
        try:
            status = os.stat(file_name)
        except OSError:
            continue
        wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        for fields in (line.split() for line in lines):
            if len(fields) == 8 and fields[1] == "POSIX" and fields[3] == "WRITE" and fields[5] == wanted:
                is_writing = rank == 0 and _covers(fields[6], fields[7], _WRITE_LOCK_BYTE)
                found.append((0 if is_writing else rank + 1, int(fields[4])))
    holders = [(is_stopped(pid), -rank, pid) for rank, pid in found if pid > 0]
    if not holders:
        return None
    stopped, _, pid = max(holders)  # one that is stopped lets go of nothing, others do in a moment
    return Holder(pid, stopped, command_of(pid))


def _covers(first: str, last: str, byte: int) -> bool:
    return int(first) <= byte and (last == "EOF" or byte <= int(last))


def is_stopped(pid: int) -> bool:
    """Whether it was stopped, by Ctrl-Z or SIGSTOP, or by a debugger."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            content = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return content[content.rindex(b")") + 2 :][:1] in (b"T", b"t")


def command_of(pid: int) -> str:
    """What it was started as, cut short; empty when that cannot be told."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).rstrip(b"\0").split(b"\0")
    except OSError:
        return ""
    text = b" ".join(words).decode("utf-8", "replace")
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}…"


def named(holder: Holder) -> str:
    """``process 123 (python flow.py)``."""
    return f"process {holder.pid} ({holder.command})" if holder.command else f"process {holder.pid}"


def holder_words(path: str | Path) -> str:
    """Who holds the lock and what helps, as a sentence; who else could be asked when nobody is known."""
    holder = lock_holder(path)
    if holder is None or holder.pid == os.getpid():
        return f"See who has it open with `fuser {path}`, then try again."
    said = f"{named(holder)[0].upper()}{named(holder)[1:]} has it"
    if holder.is_stopped:
        return f"{said} and is stopped: let it go on with `kill -CONT {holder.pid}`, or end it."
    return f"{said}: see what it does with `ps -fp {holder.pid}`, then try again."
