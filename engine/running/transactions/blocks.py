"""Transactions as ``authoring/transaction.py`` asks for them: each step carried out where it is asked, to its end."""

from __future__ import annotations

from ...authoring.transaction import ResultRecord, Transaction
from ..effects.effects import drive, drive_async
from ..effects.interrupts import engine_code
from . import rollback, steps
from .keys import release_lock
from .parts import host_of


def read(block: Transaction) -> ResultRecord | None:
    """What its key stands for; None when nothing was committed under it."""
    with engine_code():
        return steps.read(block)


def commit(block: Transaction) -> bool:
    """Commit now; says whether it did."""
    with engine_code():
        return drive(host_of(block), steps.commit(block))


def roll_back(block: Transaction) -> bool:
    """Roll back now; says whether it did."""
    with engine_code():
        return drive(host_of(block), rollback.roll_back(block, "rollback() was called"))


def begin(block: Transaction) -> None:
    """Enter it."""
    with engine_code():
        drive(host_of(block), steps.begin(block))


def give_up(block: Transaction) -> None:
    """It could not be entered: what it had taken for that is given back."""
    with engine_code():
        release_lock(block, waits=False)


async def begin_async(block: Transaction) -> None:
    """As ``begin``, in the running event loop."""
    await drive_async(host_of(block), steps.begin(block))


def end(block: Transaction, error: BaseException | None) -> None:
    """Leave it: commit, or roll back after an error."""
    with engine_code():
        drive(host_of(block), steps.end(block, error))


async def end_async(block: Transaction, error: BaseException | None) -> None:
    """As ``end``, in the running event loop."""
    await drive_async(host_of(block), steps.end(block, error))
