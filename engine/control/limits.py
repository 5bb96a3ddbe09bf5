"""Limits: made, changed, paused and removed within ``Control``'s transactions; what changes holds at once."""

from __future__ import annotations

from pathlib import Path

from ...store.connection import Connection
from ...store.rows import LimitRow
from ...store.tables import limits
from ..errors import NotFound, UsageError
from ..system.clock import now_us


def check(name: str, slots: int, decay: float | None) -> None:
    """Refuse what cannot be a limit, in words."""
    if not name or name in ("tag:", "flow:") or not name.isprintable():
        raise UsageError(f"a limit's name is a printable text, not {name!r}")
    if isinstance(slots, bool) or not isinstance(slots, int) or slots < 0:
        raise UsageError(f"limit {name!r}: the number of slots is a whole number from 0, not {slots!r}")
    if decay is not None and not 0 < decay < float("inf"):
        raise UsageError(f"limit {name!r}: the slots that come back each second are a number above 0, not {decay!r}")


def put(conn: Connection, name: str, slots: int, decay: float | None, *, active: bool, actor: str) -> None:
    """Make or change one."""
    limits.put(conn, name, slots, decay, active=active, at_us=now_us(), actor=actor)


def find(conn: Connection, name: str, folder: Path) -> LimitRow:
    """One limit as it stands; ``NotFound`` names those there are."""
    row = limits.get(conn, name)
    if row is None:
        near = ", ".join(limit.name for limit in limits.all(conn)) or "none"
        raise NotFound(f"no limit {name!r} in {folder}; there are: {near}. "
                       f"`flowdeck limits set {name} N` makes it")
    return row


def switch(conn: Connection, name: str, active: bool, folder: Path, *, actor: str) -> str:
    """Have it hold nobody back, or hold again; returns what it does now."""
    row = find(conn, name, folder)
    put(conn, name, row.slots, row.slot_decay_per_second, active=active, actor=actor)
    return f"limit {name} {'holds again' if active else 'is paused: it holds nobody back'}"


def remove(conn: Connection, name: str, folder: Path, *, actor: str) -> None:
    """Forget it; who waited for it goes on."""
    find(conn, name, folder)
    limits.delete(conn, name, at_us=now_us(), actor=actor)
