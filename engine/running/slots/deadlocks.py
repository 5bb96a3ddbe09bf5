"""Who waits for slots for ever: those who hold some, and wait for others that are held by those who wait for theirs.

Pure. Each request says within which others it was made (``SlotRow.within``): those are not given back before it has
ended. What nobody waits within may come free at any time, so that only certain knots are found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from ....store.rows import SlotRow
from ....store.tables.limits import holder_in_words

_MOST_ROWS: Final = 5_000
"""More are not looked at: the search takes their square."""


class Knot(NamedTuple):
    """Requests that wait for each other, and the one to end: the last that was made."""

    asks: frozenset[int]
    last: int
    words: str


def find_knot(rows: list[SlotRow], slots_of: Mapping[str, int]) -> Knot | None:
    """A knot among all slots held and waited for; ``slots_of`` are the limits that hold anybody back."""
    if len(rows) > _MOST_ROWS:
        return None
    asks: dict[int, list[SlotRow]] = defaultdict(list)
    for row in rows:
        asks[row.ask_id].append(row)
    within = {ask: _numbers(parts[0].within) for ask, parts in asks.items()}
    stuck = {ask for ask, parts in asks.items() if parts[0].held_at_us is None}
    while go_on := {ask for ask in stuck if _may_go_on(asks, ask, stuck, _kept(within, stuck), slots_of)}:
        stuck -= go_on
    wanted = {row.limit_name for ask in stuck for row in asks[ask]}
    holding = [ask for ask in stuck if wanted & {row.limit_name for held in within[ask] for row in asks.get(held, ())}]
    if not holding:
        return None
    last = max(holding)
    return Knot(frozenset(stuck), last, _words(asks, last, within[last], _kept(within, stuck)))


def _numbers(text: str | None) -> list[int]:
    return [int(number) for number in text.split()] if text else []


def _kept(within: dict[int, list[int]], stuck: Iterable[int]) -> set[int]:
    """What those who wait hold meanwhile."""
    return {held for ask in stuck for held in within[ask]}


def _may_go_on(
    asks: dict[int, list[SlotRow]], ask: int, stuck: set[int], kept: set[int], slots_of: Mapping[str, int]
) -> bool:
    """Whether it gets its slots once everybody who can has given back theirs."""
    for row in asks[ask]:
        if row.kind == "rate" or row.limit_name not in slots_of:
            continue
        rivals = [other for parts in asks.values() for other in parts if other.limit_name == row.limit_name]
        if any(other.ask_id in stuck and other.held_at_us is None and other.id < row.id for other in rivals):
            return False  # slots are given in the order of asking
        taken = sum(other.occupy for other in rivals if other.ask_id in kept and other.held_at_us is not None)
        if taken + row.occupy > slots_of[row.limit_name]:
            return False
    return True


def _words(asks: dict[int, list[SlotRow]], last: int, around: list[int], kept: set[int]) -> str:
    wants = sorted({row.limit_name for row in asks[last]})
    has = sorted({row.limit_name for held in around for row in asks.get(held, ())})
    holders = [row for held in kept for row in asks.get(held, ()) if row.limit_name in wants]
    by = ", ".join(dict.fromkeys(holder_in_words(row) for row in holders))
    return (
        f"deadlock: it holds slots of {', '.join(has)} and waits for {', '.join(wants)}, held by {by}, which would in "
        f"turn wait for it for ever; take them together, concurrency({sorted({*has, *wants})!r}), or always in the "
        "same order"
    )
