"""Zombies of what this process adopted: waited for, so that none collect. Its own children are left to their starter.

The first process of a container, and one that adopts orphans (``processes.adopt_orphans``), becomes the parent of what
others started and did not wait for. The kernel does not say of a child whether it was adopted. Whoever knows all that
it has started itself says so; else only what is seen to have had another parent, or stands in a session that a child of
this process could not be in, is known for adopted: the rest stays a zombie rather than being taken from who waits.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from .processes import ProcessStat, process_stat

_started: set[int] = set()


def note_started(pid: int) -> None:
    """Code of ours has started this process, and waits for it."""
    _started.add(pid)


class Orphans:
    """What became this process's by the death of its parent."""

    def __init__(self, *, knows_all: bool) -> None:
        self._knows_all = knows_all
        """All that this process starts is said by ``note_started``, from now on."""
        if knows_all:
            _started.update(child.pid for child in _children(os.getpid()))
        self._sessions = {os.getsid(0)}
        self._descended: set[tuple[int, int]] = set()
        """By number and start: what was seen to be no child, but a descendant."""

    def reap(self) -> None:
        """Wait for the zombies among them; to be called now and then."""
        own = os.getpid()
        self._sessions.add(os.getsid(0))
        descended: set[tuple[int, int]] = set()
        children = list(_children(own))
        _started.intersection_update(child.pid for child in children)
        for child in children:
            name = child.pid, child.started_ticks
            is_adopted = child.pid not in _started and (
                self._knows_all or name in self._descended or child.session not in {*self._sessions, child.pid}
            )
            if is_adopted and child.ended:
                with suppress(ChildProcessError):  # somebody did wait for it
                    os.waitpid(child.pid, os.WNOHANG)
            elif is_adopted:
                descended.add(name)
            if not self._knows_all:
                descended.update(_below(child.pid))
        self._descended = descended


def _below(parent: int) -> Iterator[tuple[int, int]]:
    for child in _children(parent):
        yield child.pid, child.started_ticks
        yield from _below(child.pid)


def _children(parent: int) -> Iterator[ProcessStat]:
    """Living or not, of all threads of a process; none where the kernel lists none."""
    try:
        threads = os.listdir(f"/proc/{parent}/task")
    except OSError:
        return
    for thread in threads:
        try:
            with open(f"/proc/{parent}/task/{thread}/children", encoding="ascii") as file:
                pids = [int(word) for word in file.read().split()]
        except OSError:
            continue
        for pid in pids:
            if (stat := process_stat(pid)) is not None:
                yield stat
