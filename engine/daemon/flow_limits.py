"""Limits of flows: how many runs of a deployment live at once, and what becomes of the next one.

``@flow(concurrency_limit=N, collision_strategy=…)`` sets it; a limit ``flow:NAME`` (``flowdeck limits set flow:etl 2``)
goes before, and holds at once. Who lives is asked of the rows: runs that are claimed, running or ending, and any with
a process; so nothing leaks. Above the limit a run waits as AwaitingSlot and says at which place (``ENQUEUE``), or is
cancelled with words (``CANCEL_NEW``; not when it goes on after a crash or a retry). Who claims (``claims``) asks what
is said here. A run that a person starts by hand is theirs: it starts at once, but it counts.
"""

from __future__ import annotations

from typing import NamedTuple

from ...store.connection import Connection
from ...store.rows import DeploymentRow, RunRow
from ...store.tables import deployments, limits, runs


class FlowLimit(NamedTuple):
    """How many runs of one deployment may live at once."""

    name: str
    slots: int
    strategy: str


def is_limited(state: Connection, deployment: DeploymentRow) -> bool:
    """Whether only ``claim`` may say when a run of this deployment starts."""
    return deployment.concurrency_limit is not None or limits.get(state, f"flow:{deployment.name}") is not None


def in_force(state: Connection) -> dict[str, FlowLimit]:
    """The limit of each deployment that has one."""
    found: dict[str, FlowLimit] = {}
    named = {row.name.removeprefix("flow:"): row for row in limits.all(state) if row.name.startswith("flow:")}
    for row in deployments.limited(state):
        if row.concurrency_limit is not None:
            found[row.name] = FlowLimit(row.name, row.concurrency_limit, row.collision_strategy or "ENQUEUE")
    for name, limit in named.items():
        if limit.active:
            known = found.get(name)
            found[name] = FlowLimit(name, limit.slots, known.strategy if known is not None else "ENQUEUE")
        else:
            found.pop(name, None)
    return found


class Above(NamedTuple):
    """What becomes of runs that are due and do not fit within the limit of their flow."""

    cancelled: list[tuple[RunRow, str]]
    waits: list[tuple[RunRow, str]]


def above(limit: FlowLimit, holders: list[int], due: list[RunRow]) -> Above:
    """Words for those who are due and do not fit, the longest waiting first; ``holders`` have the slots."""
    found = Above([], [])
    place = 0
    for run in due:
        if limit.strategy == "CANCEL_NEW" and run.attempt == 1 and run.state_name in ("Scheduled", "Late"):
            found.cancelled.append((run, f"cancelled: the limit of {limit.slots} for {limit.name} was reached "
                                         f"({_held(holders)}), and its collision strategy is CANCEL_NEW"))
            continue
        place += 1
        found.waits.append((run, f"waiting for slot flow:{limit.name}, position {place}, held by {_held(holders)}"))
    return found


def holders(state: Connection) -> dict[str, list[int]]:
    """The runs that have a slot of each deployment's or flow's limit."""
    found: dict[str, list[int]] = {}
    for run_id, name in runs.holders(state):
        found.setdefault(name, []).append(run_id)
    return found


def _held(holders: list[int]) -> str:
    shown = ", ".join(f"#{run_id}" for run_id in holders[:3])
    return (shown or "nobody: the limit is 0") + (f" and {len(holders) - 3} more" if len(holders) > 3 else "")


