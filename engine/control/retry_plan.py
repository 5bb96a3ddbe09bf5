"""What a retry runs again: worked out from the rows alone, shown before anything is asked. Pure: no I/O.

A chosen call runs again with everything beneath it (the calls it makes, the run a subflow's place stands for) and
everything downstream (what it feeds or is awaited by). What called it has to run again, too, to make the call anew,
and so has the place of its run in a parent; their other calls keep their results. What depends on it in no way that
left a trace (a number handed on, a branch of the flow's code) is compared when the run comes to it: a call whose
inputs changed runs again by itself.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from ...store.rows import CallRow, EdgeRow

CallId = tuple[int, int]
Kind = Literal["failed", "from", "all"]


class Part(NamedTuple):
    """The calls of one task that run again."""

    run_id: int
    key: str
    calls: int
    lost: int
    """Those among them that had completed: their results are given up."""


class Plan(NamedTuple):
    """What a retry would run again."""

    root_id: int
    kind: Kind
    target: str
    """The run or the node, for people: ``#42`` or ``load[3] (42/7)``."""
    parts: tuple[Part, ...]
    again: frozenset[CallId]
    """Every call that is known to run again."""
    reset: tuple[CallRow, ...]
    """Those that have a result now and are to run all the same: the set that is recorded with the request."""
    unfinished: int
    """Calls that did not complete, which run again in any case."""
    kept: int
    """Calls whose results are kept."""

    @property
    def affects_more_than_failed(self) -> bool:
        """Whether finished work is done anew."""
        return bool(self.reset)

    def in_words(self) -> list[str]:
        """Lines for people: what runs again, and what is kept."""
        lines = [f"retry {self.target}"]
        lines += [f"  again  {_times(part)}" for part in self.parts]
        if not self.parts:
            lines.append("  again  the flow's own code; no call is known that has to run")
        lines.append(f"  kept   {self.kept} finished {'call' if self.kept == 1 else 'calls'}")
        return lines


def _times(part: Part) -> str:
    named = f"{part.key} ×{part.calls}" if part.calls > 1 else part.key
    if not part.lost:
        return f"{named}, did not complete"
    return named if part.lost == part.calls else f"{named}, {part.lost} of them completed"


def make_plan(
    root_id: int, kind: Kind, target: str, rows: Sequence[CallRow], edges: Iterable[EdgeRow], chosen: Iterable[CallId],
    reopened: Iterable[CallId] = (),
) -> Plan:
    """The plan of a retry of a run tree; ``rows`` are all its calls in order, ``reopened`` only have their body run."""
    calls = {(row.run_id, row.seq): row for row in rows}
    places = {row.child_run_id: key for key, row in calls.items() if row.child_run_id is not None}
    forced = set(calls) if kind == "all" else _closure(calls, places, edges, chosen, reopened)
    again = set(forced)
    parts: Counter[tuple[int, str]] = Counter()
    lost: Counter[tuple[int, str]] = Counter()
    reset: list[CallRow] = []
    done = 0
    for key, row in calls.items():
        is_done = row.state_type == "COMPLETED"
        done += is_done
        if key in forced:
            if is_done:
                reset.append(row)
                lost[row.run_id, row.key] += 1
        elif is_done or not _is_reached(key, calls, places, forced):
            continue
        else:
            again.add(key)
        parts[row.run_id, row.key] += 1
    return Plan(
        root_id, kind, target, tuple(Part(run, name, count, lost[run, name]) for (run, name), count in parts.items()),
        frozenset(again), tuple(reset), len(again) - len(reset), done - len(reset),
    )


def _closure(
    calls: dict[CallId, CallRow], places: dict[int, CallId], edges: Iterable[EdgeRow], chosen: Iterable[CallId],
    reopened: Iterable[CallId],
) -> set[CallId]:
    """The chosen calls, what is beneath and downstream of them, and what called them."""
    work = [(key, True) for key in chosen] + [(key, False) for key in reopened]
    if not work:
        return set()
    beneath: defaultdict[CallId, list[CallId]] = defaultdict(list)
    feeds: defaultdict[CallId, list[CallId]] = defaultdict(list)
    for key, row in calls.items():
        if row.scope_seq:
            beneath[row.run_id, row.scope_seq].append(key)
        elif (place := places.get(row.run_id)) is not None:
            beneath[place].append(key)
    for edge in edges:
        feeds[edge.from_run_id, edge.from_seq].append((edge.run_id, edge.to_seq))
    whole: set[CallId] = set()
    bodies: set[CallId] = set()
    while work:
        key, is_whole = work.pop()
        found = calls.get(key)
        if found is None or key in whole or (not is_whole and key in bodies):
            continue
        if is_whole:
            whole.add(key)
            work += [(below, True) for below in beneath.get(key, ())]
        bodies.add(key)
        work += [(fed, True) for fed in feeds.get(key, ())]
        caller = (found.run_id, found.scope_seq) if found.scope_seq else places.get(found.run_id)
        if caller is not None:
            work.append((caller, False))
    return bodies


def _is_reached(
    key: CallId, calls: dict[CallId, CallRow], places: dict[int, CallId], forced: set[CallId]
) -> bool:
    """Whether no call around it returns a recorded result, which would keep the run from coming to it."""
    around = calls[key]
    while True:
        caller = (around.run_id, around.scope_seq) if around.scope_seq else places.get(around.run_id)
        if caller is None or caller not in calls:
            return True
        around = calls[caller]
        if around.state_type == "COMPLETED" and caller not in forced:
            return False
