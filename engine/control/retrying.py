"""Retry of a run tree: reading what a plan needs, and asking for it.

Part of ``control``, the one door: everything here happens inside its transactions. That a call whose result was
committed runs again is recorded: the retry's event names who asked and what for, and each such call has an event of
its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from ...store.connection import Connection, data_version
from ...store.rows import CallRow, RunRow
from ...store.tables import nodes, runs
from ...store.tables.nodes import Node
from ..errors import NotAllowed, NotFound
from ..states.allowed import allowed
from ..states.asked import done_by
from ..states.transitions import move_run, run_again
from ..system.clock import now_us
from . import nodes as node_control
from .asking import live_lease
from .call_tree import run_of, stretches, tree
from .forking import fork_checked
from .retry_plan import CallId, Kind, Plan, make_plan
from .transacting import Transactions

RESET_AT_ONCE: Final = 4_000
"""Calls given up in one transaction: it holds the write lock for some hundredths of a second."""
_CLEAN_UP_SECONDS: Final = 3.0
"""How long a retry waits for the process of a run that has just ended."""
_NAMED: Final = 3
"""Nodes that are named one by one to people; of more the number is said."""


class _StillCleansUp(NotAllowed):
    """The run has ended, its process has not yet."""


def root_of(connection: Connection, wanted: Iterable[Node]) -> RunRow:
    """The run that has to be retried for these nodes."""
    roots: dict[int, RunRow] = {}
    for run_id in dict.fromkeys(node.run_id for node in wanted):
        run = runs.get(connection, run_id)
        if run is None:
            raise NotFound(f"there is no run #{run_id}")
        roots[run.root_id or run.id] = run
    if len(roots) != 1:
        raise NotAllowed("nodes of several runs are asked for one run after the other")
    return node_control.root_of(connection, next(iter(roots.values())))


def planned(connection: Connection, wanted: Sequence[Node], kind: Kind) -> tuple[RunRow, Plan]:
    """The run that would be retried, and what of it would run again; refused where a retry would be."""
    root = root_of(connection, wanted)
    if not allowed("retry", root.state_type, root.state_name):
        hint = "; resume it: what is held is tried again" if root.state_type == "PAUSED" else ""
        raise NotAllowed(f"run #{root.id} is {root.state_name}: it cannot be asked to retry{hint}")
    return root, plan(connection, root, wanted, kind)


def check_has_ended(connection: Connection, root: RunRow) -> None:
    """Refuse a run whose process still is there."""
    lease = live_lease(connection, root.id)
    if lease is not None:
        raise _StillCleansUp(f"run #{root.id} has ended but its process {lease.pid} still cleans up; try again")


def plan(connection: Connection, root: RunRow, wanted: Sequence[Node], kind: Kind) -> Plan:
    """What a retry of these nodes runs again; of the root itself the run from its failures, or all of it."""
    rows, links = tree(connection, root.id)
    if Node(root.id) in wanted:
        return make_plan(root.id, kind, f"#{root.id}", rows, links, ())
    chosen: list[CallId] = []
    reopened: list[CallId] = []
    groups = _groups(rows, wanted)
    known = {(row.run_id, row.seq) for row in rows} if any(node.seq is not None for node in wanted) else set()
    for node in wanted:
        if node.is_run:
            run = run_of(connection, node.run_id)
            if run.parent_run_id is not None and run.parent_seq is not None:
                # A subflow that did not complete goes on from its failures; one that did runs again whole.
                is_whole = run.state_type == "COMPLETED" or kind == "all"
                (chosen if is_whole else reopened).append((run.parent_run_id, run.parent_seq))
        elif node in groups:
            chosen += groups[node]
        elif node.seq is not None and (node.run_id, node.seq) in known:
            chosen.append((node.run_id, node.seq))
        else:
            node_control.find(connection, node)  # says what is missing
    target = ", ".join(_label(connection, node, groups) for node in wanted[:_NAMED])
    if len(wanted) > _NAMED:
        target += f" and {len(wanted) - _NAMED:,} more"
    return make_plan(root.id, "from", target, rows, links, chosen, reopened)


def _groups(rows: Iterable[CallRow], wanted: Iterable[Node]) -> dict[Node, list[CallId]]:
    """The calls of the maps among these nodes, as far as there are any."""
    found: dict[tuple[Any, ...], list[CallId]] = {
        (node.run_id, node.scope_seq, node.key, node.map_group): [] for node in wanted if node.map_group is not None
    }
    for row in rows if found else ():
        group = found.get((row.run_id, row.scope_seq, row.key, row.map_group))
        if group is not None:
            group.append((row.run_id, row.seq))
    return {Node(key[0], None, *key[1:]): calls for key, calls in found.items() if calls}


def _label(connection: Connection, node: Node, groups: Mapping[Node, Sequence[CallId]]) -> str:
    if node in groups:
        return node_control.label_of_group(node, len(groups[node]))
    return node_control.find(connection, node).label


def retry(connection: Connection, root: RunRow, planned: Plan, actor: str) -> str:
    """Queue the run's next attempt; what the plan gives up is unfinished from here on.

    In one transaction, so that there is never a part of it. Of very many calls only the first are given up in it, so
    that no write holds up others for long; the others stand in the event. Who asks gives them up next, and if that is
    cut short the process that takes the run does, before anything of it runs (``given_up_later``).
    """
    attempt = root.attempt + 1
    now, later = planned.reset[:RESET_AT_ONCE], planned.reset[RESET_AT_ONCE:]
    move_run(
        connection, root, "retry", at_us=now_us(), actor=actor, new_attempt=attempt, wake_at_us=now_us(),
        intent="none", crash_count=0,
        message=done_by("retry", actor) + ("" if planned.kind == "failed" else f": {planned.target}"),
        data={"intent": "none", "retry": _recorded(planned) | _later(connection, root, later, planned)},
    )
    give_up(connection, root, planned, now, actor)
    return f"queued as attempt {attempt}" + _what(planned)


def _later(connection: Connection, root: RunRow, rows: Sequence[CallRow], planned: Plan) -> dict[str, Any]:
    """What is still to be given up: run, first, last call, and below which attempt a call is one of them."""
    if not rows:
        return {}
    below = {root.id: root.attempt + 1}
    left = []
    for run_id, first, last in stretches(rows):
        if run_id not in below:
            below[run_id] = run_of(connection, run_id).attempt + 1
        left += [
            (run_id, start, min(last, start + RESET_AT_ONCE - 1), below[run_id])
            for start in range(first, last + 1, RESET_AT_ONCE)
        ]
    return {"left": left, "cause": _cause(planned)}


def _cause(planned: Plan) -> str:
    return f"to run again: retry of {planned.target}"


def given_up_later(connection: Connection, root_id: int) -> list[Callable[[Connection], None]]:
    """The writes that finish the last retry of a run: nothing where they were made, in however many pieces."""
    actor, data = nodes.words_of_retry(connection, root_id) or ("", "{}")
    asked = json.loads(data).get("retry", {})
    return [
        partial(
            run_again, run_id=run_id, first=first, last=last, run_attempt=below - (run_id != root_id),
            at_us=now_us(), actor=actor, cause=asked["cause"], below_attempt=below,
        )
        for run_id, first, last, below in asked.get("left", ())
    ]


def _recorded(planned: Plan) -> dict[str, Any]:
    return {"what": planned.kind, "of": planned.target, "again": len(planned.again), "given_up": len(planned.reset),
            "tasks": {f"{part.run_id}/{part.key}": part.calls for part in planned.parts}}


def _what(planned: Plan) -> str:
    if planned.kind == "failed":
        return ""
    return f": {len(planned.again)} calls run again, {planned.kept} keep their results"


def give_up(
    connection: Connection, root: RunRow, planned: Plan, rows: Sequence[CallRow], actor: str
) -> None:
    """These calls are to run again although they have results: each with its event, for the root's next attempt."""
    at_us = now_us()
    attempts = {root.id: root.attempt + 1}
    for run_id, first, last in stretches(rows):
        if run_id not in attempts:
            attempts[run_id] = run_of(connection, run_id).attempt
        run_again(
            connection, run_id, first, last, run_attempt=attempts[run_id], at_us=at_us, actor=actor,
            cause=_cause(planned),
        )


class Retries:
    """Plans retries and asks for them on behalf of one actor; the last plan stands while nothing is written."""

    def __init__(self, store: Transactions, actor: str) -> None:
        self._store = store
        self._actor = actor
        self._last: tuple[tuple[int, int, tuple[Node, ...], Kind], tuple[RunRow, Plan]] | None = None

    def plan(self, wanted: Sequence[Node], kind: Kind) -> tuple[RunRow, Plan]:
        """The last plan if it was this one and nothing was written since, else a new one."""

        def look(conn: Connection) -> tuple[RunRow, Plan]:
            runs.get(conn, wanted[0].run_id)  # reads, so that the version is that of what is read
            asked = (data_version(conn), self._store.writes, tuple(wanted), kind)
            if self._last is None or self._last[0] != asked:
                self._last = asked, planned(conn, wanted, kind)
            return self._last[1]

        return self._store.read(look)

    def ask(self, wanted: Sequence[Node], kind: Kind, parameters: dict[str, Any] | None) -> tuple[int, str]:
        """Have it run again, or as a new run with these parameters; returns which run does, and what was done."""

        def ask(conn: Connection) -> tuple[int, str]:
            root, plan = known
            if runs.get(conn, root.id) != root:
                root, plan = planned(conn, wanted, kind)
            check_has_ended(conn, root)
            if parameters is None:
                return root.id, retry(conn, root, plan, self._actor)
            return fork_checked(conn, self._store.folder, root, plan, parameters, self._actor)

        # Nothing but another such request changes a run that has ended: it is planned without the write lock.
        known = self.plan(wanted, kind)
        deadline = time.monotonic() + _CLEAN_UP_SECONDS
        while True:
            try:
                answer = self._store.write(ask)
                break
            except _StillCleansUp:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        if parameters is None and len(known[1].reset) > RESET_AT_ONCE:
            for write in self._store.read(lambda conn: given_up_later(conn, answer[0])):
                self._store.write(write)
        return answer
