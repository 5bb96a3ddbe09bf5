"""What is due and may begin now, what waits and for what: one look, then one transaction that claims.

Runs wait in groups (``store.tables.due``): a group whose host is full, is being made or does not answer stands before
no other. Within a group, and among those that may begin, the longest waiting goes first. Only so many are claimed as
hosts and limits have room for; the others stay in the store as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from ...store.connection import Connection, transaction
from ...store.rows import RunRow
from ...store.tables import due
from ..control import reaping
from ..errors import NotAllowed, StaleState
from ..states.transitions import claim_these, move_run
from . import flow_limits
from .flow_limits import FlowLimit
from .place import Place

MOST_TOLD: Final = 50
"""So many of a group are told what they wait for; the rest as they come closer."""


class Rooms(NamedTuple):
    """What the claims ask about hosts."""

    place: Callable[[RunRow], Place]
    room: Callable[[Place], int]
    """How many runs the host of a place takes now."""
    waits_for: Callable[[Place], str | None]
    """In words, where that may take long."""


class Look(NamedTuple):
    """What one look at those who are due found."""

    fits: list[RunRow]
    limited: dict[int, FlowLimit]
    """Of those that fit, by number: the limit of their flow."""
    told: list[tuple[RunRow, str]]
    cancelled: list[tuple[RunRow, str]]
    behind: set[str]
    """Files with runs that are due and did not fit."""


def look(state: Connection, rooms: Rooms, at_us: int, free: int | None, slots_words: str) -> Look:
    """Who may begin now, with ``free`` slots of the daemon's own (None: without end); ``slots_words`` for who has none.
    """
    limits = flow_limits.in_force(state)
    live = flow_limits.holders(state) if limits else {}
    taken: dict[str, int] = {}
    found = Look([], {}, [], [], set())
    fits: list[tuple[int, int, RunRow, str]] = []
    rest: list[RunRow] = []
    for group in due.groups(state):
        first = due.of_group(state, group, at_us, 1)
        if not first:
            continue
        place = rooms.place(first[0])
        room = max(0, rooms.room(place) - taken.get(place.path, 0))
        limit = limits.get(first[0].deployment or first[0].flow_name)
        holders = live.get(limit.name, []) if limit is not None else []
        slots = max(0, limit.slots - len(holders)) if limit is not None else room
        words = rooms.waits_for(place)
        begin = min(room, slots)
        is_told = limit is not None or words is not None or free is not None
        rows = due.of_group(state, group, at_us, begin + (MOST_TOLD if is_told else 1))
        taken[place.path] = taken.get(place.path, 0) + len(rows[:begin])
        fits += [(run.wake_at_us or 0, run.id, run, place.path) for run in rows[:begin]]
        if len(rows) > begin:
            found.behind.add(place.path)
        if limit is not None:
            found.limited.update((run.id, limit) for run in rows[:begin])
            above = flow_limits.above(limit, holders + [run.id for run in rows[:slots]], rows[slots:])
            found.cancelled.extend(above.cancelled)
            found.told.extend(above.waits)
            live.setdefault(limit.name, []).extend(run.id for run in rows[:begin])
        elif words is not None:
            found.told.extend((run, words) for run in rows)
        else:
            rest += rows[begin:]
    fits.sort(key=lambda entry: entry[:2])
    found.fits.extend(run for _, _, run, _ in fits[:free])
    if free is not None and len(fits) >= free:
        found.behind.update(path for *_, path in fits[free:])
        found.told.extend((run, slots_words) for run in [*(run for _, _, run, _ in fits[free:]), *rest])
    return found


def claim(state: Connection, found: Look, at_us: int, say: Callable[[str], None]) -> list[RunRow]:
    """Claim what fits and write down what becomes of the rest; what has moved on meanwhile is left alone."""
    told = [(run, words) for run, words in found.told if (run.state_name, run.cause) != ("AwaitingSlot", words)]
    if not found.fits and not told and not found.cancelled:
        return []
    with transaction(state):
        claimed = claim_these(state, _still_fitting(state, found), at_us, reaping.ACTOR)
        for run, words in found.cancelled:
            with suppress(StaleState, NotAllowed):
                move_run(state, run, "cancel", at_us=at_us, actor=reaping.ACTOR, cause=words)
        for run, words in told:
            with suppress(StaleState, NotAllowed):
                move_run(state, run, "await_slot", at_us=at_us, actor=reaping.ACTOR, wake_at_us=run.wake_at_us,
                         cause=words)
    for run, words in found.cancelled:
        say(f"run #{run.id}: Cancelled: {words.removeprefix('cancelled: ').partition(' (')[0]}")
    return claimed


def _still_fitting(state: Connection, found: Look) -> list[int]:
    """Now that nobody else can change it: somebody may have started a run of a limited flow by hand."""
    if not found.limited:
        return [run.id for run in found.fits]
    live = flow_limits.holders(state)
    fitting = []
    for run in found.fits:
        limit = found.limited.get(run.id)
        if limit is not None:
            holders = live.setdefault(limit.name, [])
            if len(holders) >= limit.slots:
                continue
            holders.append(run.id)
        fitting.append(run.id)
    return fitting
