"""What users' code writes and reads wherever it is: by its run's connections, or outside of runs by one of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TypeVar

from ...store.connection import Connection, connect, transaction
from ...store.location import find_store
from ...store.opening import open_store
from ..running.calls.frame import current_frame
from ..running.effects.interrupts import engine_code
from ..secrets.secret import conceal_known

T = TypeVar("T")


def know_secrets() -> None:
    """Outside of runs nobody has learnt yet what is to be masked: do so before a text is made storable."""
    if current_frame.get() is None:
        conceal_known()


def commit(work: Callable[[Connection], T]) -> T:
    """Do ``work`` in one transaction, durable on return."""
    frame = current_frame.get()
    with engine_code():
        if frame is not None:
            return frame.run.session.writer.commit(work)
        folder = find_store()
        open_store(folder)
        with closing(connect(folder, "state")) as connection, transaction(connection):
            return work(connection)


def read(query: Callable[[Connection], T]) -> T:
    """What is committed now, in the run's store or the one that is found."""
    frame = current_frame.get()
    with engine_code():
        if frame is not None:
            return frame.run.session.read(query)
        folder = find_store()
        open_store(folder)
        with closing(connect(folder, "state", readonly=True)) as connection:
            return query(connection)
