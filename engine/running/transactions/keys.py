"""A transaction's key: what was committed under it, and its lock. In a run by its session, else by a connection."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from ....store import files
from ....store.alone import commit_alone, read_alone
from ....store.rows import CacheRow
from ....store.tables import cache
from ...authoring.transaction import Transaction
from ..effects.effects import AwaitTurn, Durable, Steps
from .caching import is_held_around, lock_of, lock_row, usable
from .parts import frame_of, session_of, tell

if TYPE_CHECKING:
    from ..calls.frame import Frame

_FIRST_LOOK_SECONDS: Final = 0.02
_LAST_LOOK_SECONDS: Final = 0.25
"""Outside of runs nobody tells when a key is free: looks come more and more rarely."""


def known_entry(block: Transaction) -> CacheRow | None:
    """The entry of the key."""
    session, key = session_of(block), block.key
    if key is None:
        return None
    if session is None:
        return commit_alone(lambda conn: usable(conn, key))
    found: CacheRow | None = session.read(lambda conn: usable(conn, key))
    return found


def is_own_of_before(block: Transaction, entry: CacheRow) -> bool:
    """Whether an earlier attempt of this run made it: then the block's calls are to be replayed, not left out."""
    run = cast("Frame", block.frame).run if block.frame is not None else None
    return run is not None and entry.run_id == run.id and entry.created_at_us < run.attempt_began_at_us


def entry_bytes(block: Transaction, entry: CacheRow) -> bytes:
    """The stored bytes of an entry, from its row or file."""
    if entry.path is None:
        return entry.data or b""
    session = session_of(block)
    folder = session.folder if session is not None else _store_folder()
    return files.read(folder, entry.path)


def take_lock(block: Transaction) -> Steps[None]:
    """Hold the key's lock, unless a block around has it; waits for a live holder, and says so."""
    session, frame, key = session_of(block), frame_of(block), str(block.key)
    if is_held_around(block.parent, key):
        return
    run_id = frame.run.id if frame is not None else None
    wanted = lock_row(key, run_id, frame.task.seq if frame is not None and frame.task is not None else None)
    told = False
    block.lock = wanted  # whatever ends the wait gives it back, should it have come meanwhile
    while True:
        if session is not None:
            holder = yield Durable(lambda conn: cache.lock(conn, wanted))
        else:
            holder = commit_alone(lambda conn: cache.lock(conn, wanted))
        if holder is None:
            return
        if not told:
            told = True
            who = f"process {holder.pid} (run {holder.run_id})"
            tell(block, 20, f"transaction {key!r} waits for {who}, which has its key")
        name, is_free = lock_of(key)
        if session is not None:
            with session.expectations.free(name, is_free) as turn:
                yield AwaitTurn(turn)
        else:
            seconds = _FIRST_LOOK_SECONDS
            while not read_alone(is_free):
                time.sleep(seconds)
                seconds = min(2 * seconds, _LAST_LOOK_SECONDS)


def release_lock(block: Transaction, *, waits: bool = True) -> None:
    """Give the key's lock back, if it is held or was asked for."""
    held, block.lock = block.lock, None
    if held is None:
        return
    session = session_of(block)
    if session is not None:
        (session.writer.commit if waits else session.writer.soon)(lambda conn: cache.unlock(conn, held))
    else:
        commit_alone(lambda conn: cache.unlock(conn, held))


def _store_folder() -> Path:
    from ....store.location import settled_store

    return settled_store()
