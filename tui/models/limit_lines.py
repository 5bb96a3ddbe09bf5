"""Limits and their queues as the lines of a list: each limit, beneath it who has its slots and who waits. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

from .news import Limits

if TYPE_CHECKING:
    from ...store.tables.usages import Usage, Who

NAMED = 200
"""Of each limit so many holders, and as many waiters, are told by the names of what they run."""

Key = tuple[str, str]
"""The limit's name, and who of it: ``""`` for the limit itself."""


class LimitLine(NamedTuple):
    """What one line shows; texts are raw, as stored."""

    key: Key
    kind: Literal["limit", "holds", "waits", "more"]
    usage: Usage
    who: Who | None = None
    name: str = ""
    """What the run or the task is called; of ``more`` how many there are."""
    place: int = 0
    """In the queue, from 1."""
    last: bool = False
    """Nothing of this limit follows."""
    open: bool = True


def lines_of(limits: Limits, folded: Collection[str]) -> list[LimitLine]:
    """All lines, top to bottom."""
    lines: list[LimitLine] = []
    for usage in limits.usages:
        is_open = usage.name not in folded
        lines.append(LimitLine((usage.name, ""), "limit", usage, open=is_open))
        beneath = list(_beneath(usage, limits)) if is_open else []
        lines += [*beneath[:-1], *(line._replace(last=True) for line in beneath[-1:])]
    return lines


def _beneath(usage: Usage, limits: Limits) -> Iterator[LimitLine]:
    groups: tuple[tuple[Literal["holds", "waits"], tuple[Who, ...]], ...] = (
        ("holds", usage.holders), ("waits", usage.waiting),
    )  # fmt: skip
    for kind, people in groups:
        seen: dict[str, int] = {}
        for place, who in enumerate(people[:NAMED], 1):
            times = seen[who.who] = seen.get(who.who, 0) + 1
            name = limits.names.get((who.run, who.task), "") if who.run is not None else who.name
            key = usage.name, f"{kind} {who.who} {times}"
            yield LimitLine(key, kind, usage, who, name, place if kind == "waits" else 0)
        if len(people) > NAMED:
            words = "hold slots" if kind == "holds" else "wait"
            yield LimitLine((usage.name, f"{kind} more"), "more", usage, None, f"{len(people) - NAMED:,} more {words}")


def place_words(place: int) -> str:
    """``next``, ``2nd``, ``3rd``, …"""
    if place == 1:
        return "next"
    ending = "th" if 10 < place % 100 < 20 else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}"
