"""Limits of flows: how many runs of a deployment live at once, and what becomes of the next one.

``@flow(concurrency_limit=N, collision_strategy=…)`` sets it; a limit ``flow:NAME`` (``flowdeck limits set flow:etl 2``)
goes before, and holds at once. Who lives is asked of the rows: runs that are claimed, running or ending, and any with
a process; so nothing leaks. Above the limit a run waits as AwaitingSlot and says at which place (``ENQUEUE``), or is
cancelled with words (``CANCEL_NEW``; not when it goes on after a crash or a retry). The daemon decides this when it
claims, in the claim's transaction. A run that a person starts by hand is theirs: it starts at once, but it counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from ...store.connection import Connection, transaction
from ...store.rows import DeploymentRow, RunRow
from ...store.tables import deployments, limits, runs
from ..states.transitions import claim_due, claim_these, move_run

MOST_NOTED: Final = 50
"""So many of those who wait are told their place; the rest as they come closer."""


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


def claim(
    state: Connection, at_us: int, most: int, actor: str, say: Callable[[str], None]
) -> list[RunRow]:
    """Claim what is due and fits, the longest waiting first; write down what becomes of the rest."""
    wanted = in_force(state)
    if not wanted:
        with transaction(state):
            return claim_due(state, at_us, most, actor)
    plan = _plan(state, wanted, at_us, most)
    if not plan.fits and not plan.cancelled and not plan.waits:
        return []
    with transaction(state):
        plan = _plan(state, wanted, at_us, most)  # again, now that nobody else can change it
        claimed = claim_these(state, plan.fits, at_us, actor)
        for run, limit, holders in plan.cancelled:
            words = f"cancelled: the limit of {limit.slots} for {limit.name} was reached ({_held(holders)}), and its " \
                    "collision strategy is CANCEL_NEW"
            move_run(state, run, "cancel", at_us=at_us, actor=actor, cause=words)
        for run, words in plan.waits:
            move_run(state, run, "await_slot", at_us=at_us, actor=actor, wake_at_us=run.wake_at_us, cause=words)
    for run, limit, _ in plan.cancelled:
        say(f"run #{run.id}: Cancelled: the limit of {limit.slots} for {limit.name} was reached")
    return claimed


class _Plan(NamedTuple):
    fits: list[int]
    cancelled: list[tuple[RunRow, FlowLimit, list[int]]]
    waits: list[tuple[RunRow, str]]


def _plan(state: Connection, wanted: dict[str, FlowLimit], at_us: int, most: int) -> _Plan:
    live: dict[str, list[int]] = {}
    for run_id, key in runs.holders(state):
        live.setdefault(key, []).append(run_id)
    free = runs.due_of_others(state, at_us, wanted, most)
    plan = _Plan([], [], [])
    for limit in wanted.values():
        holders = live.get(limit.name, [])
        room = max(0, limit.slots - len(holders))
        due = runs.due_of(state, at_us, limit.name, room + MOST_NOTED)
        free += [(run.wake_at_us or 0, run.id) for run in due[:room]]
        holders = (holders + [run.id for run in due[:room]])
        place = 0
        for run in due[room:]:
            if limit.strategy == "CANCEL_NEW" and run.attempt == 1 and run.state_name in ("Scheduled", "Late"):
                plan.cancelled.append((run, limit, holders))
                continue
            place += 1
            words = f"waiting for slot flow:{limit.name}, position {place}, held by {_held(holders)}"
            if (run.state_name, run.cause) != ("AwaitingSlot", words):
                plan.waits.append((run, words))
    plan.fits.extend(run_id for _, run_id in sorted(free)[:most])
    return plan


def _held(holders: list[int]) -> str:
    shown = ", ".join(f"#{run_id}" for run_id in holders[:3])
    return (shown or "nobody: the limit is 0") + (f" and {len(holders) - 3} more" if len(holders) > 3 else "")


