"""Who has slots of which limit and who waits for them: what ``flowdeck limits`` and the console's limits screen show.

The limits of flows have no slot rows: the runs that live are their slots, those that await one their queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from ..connection import Connection
from ..rows import LimitRow, RunRow, SlotRow
from . import deployments, limits, runs
from .limits import Queue, holder_in_words, rate_used

_RUNNING: Final = ("PENDING", "RUNNING", "CANCELLING", "PAUSED")


class Who(NamedTuple):
    """Somebody who has slots of a limit, or waits for them."""

    who: str
    """``#42``, ``42/7``, or ``process 4711``."""
    run: int | None
    task: int | None
    name: str
    """The run's name, or of slots who runs it."""
    slots: int
    pid: int | None
    host: str | None
    since_us: int
    """Since when it has them, or has asked for them."""


class Usage(NamedTuple):
    """A limit and its use."""

    name: str
    slots: int
    decay: float | None
    """How many slots of a rate come back each second."""
    active: bool
    taken: float
    holders: tuple[Who, ...]
    waiting: tuple[Who, ...]
    """In the order of asking."""

    @property
    def full(self) -> bool:
        """Whether the next who asks must wait."""
        return self.active and self.taken >= self.slots


def usages(connection: Connection, now_us: int) -> list[Usage]:
    """Every limit with who uses it, those of flows by their runs; by name."""
    known = {limit.name: limit for limit in limits.all(connection)}
    found = [
        _usage(limit, limits.queue(connection, limit.name), now_us)
        for limit in known.values() if not limit.name.startswith("flow:")
    ]  # fmt: skip
    limited = deployments.limited(connection)
    of_flows = {f"flow:{row.name}": row.concurrency_limit for row in limited if row.concurrency_limit}
    named = {name: limit for name, limit in known.items() if name.startswith("flow:")}
    if of_flows or named:
        live = runs.live(connection)
        for name in sorted({*of_flows, *named}):
            found.append(_flow_usage(name, named.get(name), of_flows.get(name), live))
    return sorted(found, key=lambda usage: usage.name)


def _usage(limit: LimitRow, queue: Queue, now_us: int) -> Usage:
    return Usage(
        limit.name, limit.slots, limit.slot_decay_per_second, limit.active,
        round(queue.taken + rate_used(limit, now_us), 3),
        tuple(_slot(row) for row in queue.holders if row.kind == "hold"), tuple(_slot(row) for row in queue.waiting),
    )  # fmt: skip


def _slot(row: SlotRow) -> Who:
    return Who(
        holder_in_words(row), row.run_id, row.task_seq, row.actor, row.occupy, row.pid, row.host,
        row.held_at_us or row.asked_at_us,
    )  # fmt: skip


def _flow_usage(name: str, limit: LimitRow | None, own: int | None, live: Sequence[RunRow]) -> Usage:
    deployment = name.removeprefix("flow:")
    of_this = [run for run in live if (run.deployment or run.flow_name) == deployment and run.root_id is None]
    holders = tuple(_run(run) for run in of_this if run.state_type in _RUNNING)
    waiting = tuple(_run(run) for run in of_this if run.state_name == "AwaitingSlot")
    slots = limit.slots if limit is not None else own or 0
    return Usage(name, slots, None, limit is None or limit.active, len(holders), holders, waiting)


def _run(run: RunRow) -> Who:
    return Who(f"#{run.id}", run.id, None, run.name, 1, None, None, run.started_at_us or run.created_at_us)
