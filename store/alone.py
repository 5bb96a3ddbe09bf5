"""One transaction in the store that is found, for code outside of runs: on a connection of its own, closed after it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TypeVar

from .connection import Connection, connect, transaction
from .opening import own_store

T = TypeVar("T")


def commit_alone(work: Callable[[Connection], T]) -> T:
    """Do ``work`` in one transaction, durable on return; the store is made if there is none."""
    folder = own_store()
    with closing(connect(folder, "state")) as connection, transaction(connection):
        return work(connection)


def read_alone(query: Callable[[Connection], T]) -> T:
    """What is committed now; the store is made if there is none."""
    folder = own_store()
    with closing(connect(folder, "state", readonly=True)) as connection:
        return query(connection)
