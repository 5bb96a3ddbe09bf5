"""Retry of a run tree: reading what a plan needs, asking for it, and forking a new run from a step.

Part of ``control``, the one door: everything here happens inside its write transaction. That a call whose result was
committed runs again is recorded: the retry's event names who asked and what for, and each such call has an event of
its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ...store.connection import Connection
from ...store.result_files import ResultFiles, folder_of
from ...store.rows import CallRow, EdgeRow, RunRow
from ...store.states import TERMINAL_TYPES
from ...store.tables import edges, journals, nodes, results, runs, tasks
from ...store.tables.nodes import Node
from ..errors import NotAllowed, NotFound
from ..states.machine import next_run_state, next_task_state
from ..system.clock import now_us
from . import nodes as node_control
from .retry_plan import CallId, Kind, Plan, make_plan

PARAMETERS_SEQ: Final = -1
"""Where a run keeps parameters that have no JSON form."""
RESET_AT_ONCE: Final = 4_000
"""Calls given up in one transaction: it holds the write lock for some hundredths of a second."""
_NAMED: Final = 3
"""Nodes that are named one by one to people; of more the number is said."""


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


def plan(connection: Connection, root: RunRow, wanted: Sequence[Node], kind: Kind) -> Plan:
    """What a retry of these nodes runs again; of the root itself the run from its failures, or all of it."""
    rows, links = _tree(connection, root.id)
    if Node(root.id) in wanted:
        return make_plan(root.id, kind, f"#{root.id}", rows, links, ())
    chosen: list[CallId] = []
    reopened: list[CallId] = []
    groups = _groups(rows, wanted)
    known = {(row.run_id, row.seq) for row in rows} if any(node.seq is not None for node in wanted) else set()
    for node in wanted:
        if node.is_run:
            run = _run(connection, node.run_id)
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


def _run(connection: Connection, run_id: int) -> RunRow:
    run = runs.get(connection, run_id)
    if run is None:
        raise NotFound(f"there is no run #{run_id}")
    return run


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


def _tree(connection: Connection, root_id: int) -> tuple[list[CallRow], list[EdgeRow]]:
    rows: list[CallRow] = []
    links: list[EdgeRow] = []
    for run in nodes.tree(connection, root_id):
        rows += tasks.calls(connection, run.id)
        links += edges.of_run(connection, run.id)
    return rows, links


def retry(
    connection: Connection, root: RunRow, planned: Plan, actor: str, left: Sequence[CallRow] | None = None
) -> str:
    """Queue the run's next attempt; what the plan gives up, or is ``left`` of that, is unfinished from here on."""
    attempt = root.attempt + 1
    to = next_run_state(root.state_type, "retry")
    runs.transition(
        connection, root.id, attempt=root.attempt, from_=(root.state_type, root.state_name), to=to, at_us=now_us(),
        actor=actor, new_attempt=attempt, wake_at_us=now_us(), intent="none", crash_count=0,
        message=f"retried by {actor}" + ("" if planned.kind == "failed" else f": {planned.target}"),
        data={"intent": "none", "retry": _recorded(planned)},
    )
    give_up(connection, root, planned, planned.reset if left is None else left, actor)
    return f"queued as attempt {attempt}" + _what(planned)


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
    to = next_task_state("COMPLETED", "run_again")
    attempts = {root.id: root.attempt + 1}
    for run_id, first, last in _stretches(rows):
        if run_id not in attempts:
            attempts[run_id] = _run(connection, run_id).attempt
        journals.give_up(
            connection, run_id, first, last, to, run_attempt=attempts[run_id], at_us=at_us, actor=actor,
            cause=f"to run again: retry of {planned.target}",
        )


def _stretches(rows: Iterable[CallRow]) -> Iterator[tuple[int, int, int]]:
    """(run, first seq, last seq) of calls that follow each other."""
    run_id = first = last = 0
    for row in rows:
        if row.run_id == run_id and row.seq == last + 1:
            last += 1
            continue
        if run_id:
            yield run_id, first, last
        run_id, first, last = row.run_id, row.seq, row.seq
    if run_id:
        yield run_id, first, last


# -- a new run forked from a step -------------------------------------------------------------------------------------


def fork(
    connection: Connection, folder: Path, root: RunRow, planned: Plan, parameters: Mapping[str, Any],
    actor: str,
) -> int:
    """A new run with these parameters changed, which begins with the finished work that the plan keeps."""
    if results.get(connection, root.id, PARAMETERS_SEQ) is not None and parameters:
        raise NotAllowed(f"the parameters of run #{root.id} have no JSON form: start a new run with other ones instead")
    merged = {**json.loads(root.parameters), **parameters}
    where = f"forked from #{root.id}" + (f" at {planned.target}" if planned.kind == "from" else "")
    run_id = runs.insert(
        connection, flow_name=root.flow_name, name="", state=("SCHEDULED", "Scheduled"), actor=actor, at_us=now_us(),
        parameters=json.dumps(merged, ensure_ascii=False), tags=root.tags, deployment=root.deployment,
        entrypoint=root.entrypoint, source_hash=root.source_hash, retry_of=root.id,
        cause=f"{where}: {planned.kept} finished calls are kept",
    )
    if planned.kind != "all":
        _Copy(connection, folder, root, run_id, planned, actor).make()
    return run_id


class _Copy:
    """The journal of a run tree, as far as a plan keeps it, as that of another run."""

    def __init__(
        self, connection: Connection, folder: Path, root: RunRow, run_id: int, planned: Plan, actor: str
    ) -> None:
        self._connection = connection
        self._files = ResultFiles(folder)
        self._actor = actor
        self._root = root
        self._runs = {root.id: run_id}
        self._rows, self._links = _tree(connection, root.id)
        self._calls = {(row.run_id, row.seq): row for row in self._rows}
        self._places = {row.child_run_id: key for key, row in self._calls.items() if row.child_run_id is not None}
        self._kept = {
            key for key, row in self._calls.items() if row.state_type == "COMPLETED" and key not in planned.again
        }

    def make(self) -> None:
        """Runs first, then their calls, results and edges."""
        around = self._around()
        for child in nodes.tree(self._connection, self._root.id):
            place = self._places.get(child.id)
            if place is not None and (place in self._kept or place in around):
                self._copy_run(child, place)
        plain = [row for key, row in self._calls.items() if key in self._kept and row.child_run_id is None]
        for run_id, first, last in _stretches(plain):
            self._copy_stretch(run_id, first, last)
        for key, row in self._calls.items():
            if key in around or (key in self._kept and row.child_run_id is not None):
                self._copy_call(row, is_kept=key in self._kept)
        edges.add_rows(self._connection, (
            link._replace(run_id=self._runs[link.run_id], from_run_id=self._runs[link.from_run_id])
            for link in self._links
            if (link.run_id, link.to_seq) in self._kept and (link.from_run_id, link.from_seq) in self._kept
        ))

    def _around(self) -> set[CallId]:
        """The calls and places around what is kept: without them it would not be found again."""
        found: set[CallId] = set()
        for key in self._kept:
            row = self._calls[key]
            caller = (row.run_id, row.scope_seq) if row.scope_seq else self._places.get(row.run_id)
            while caller is not None and caller not in found and caller in self._calls:
                found.add(caller)
                row = self._calls[caller]
                caller = (row.run_id, row.scope_seq) if row.scope_seq else self._places.get(row.run_id)
        return found - self._kept

    def _copy_run(self, child: RunRow, place: CallId) -> None:
        at_us = now_us()
        changes = {"parent_run_id": self._runs[place[0]], "root_id": self._runs[self._root.id], "retry_of": child.id,
                   "intent": "none", "schedule_id": None, "due_at_us": None, "actor": self._actor}
        if child.state_type not in TERMINAL_TYPES:
            changes |= {"state_type": "CRASHED", "state_name": "Crashed", "ended_at_us": at_us}
        self._runs[child.id] = journals.copy_run(
            self._connection, child.id, changes, at_us=at_us, actor=self._actor, cause=f"recorded by #{child.id}"
        )

    def _copy_stretch(self, run_id: int, first: int, last: int) -> None:
        """Calls that follow each other, are kept and stand for no run."""
        to = self._runs[run_id]
        attempt = 1 if run_id == self._root.id else None
        for seq in journals.copy_calls(
            self._connection, run_id, first, last, to, run_attempt=attempt, at_us=now_us(), actor=self._actor,
            cause=f"recorded by #{run_id}",
        ):
            self._copy_result(run_id, seq)

    def _copy_call(self, row: CallRow, *, is_kept: bool) -> None:
        attempt = 1 if row.run_id == self._root.id else row.run_attempt
        changes: dict[str, Any] = {"run_id": self._runs[row.run_id], "run_attempt": attempt}
        if row.child_run_id is not None:
            changes["child_run_id"] = self._runs.get(row.child_run_id)
        if not is_kept:
            to = next_task_state(row.state_type, "run_again")
            changes |= {"state_type": to[0], "state_name": to[1], "cause": None, "ended_at_us": None,
                        "wake_at_us": None}
        journals.copy_call(
            self._connection, row.run_id, row.seq, changes, with_result=is_kept, at_us=now_us(), actor=self._actor,
            cause=f"recorded by #{row.run_id}",
        )
        if is_kept:
            self._copy_result(row.run_id, row.seq)

    def _copy_result(self, run_id: int, seq: int) -> None:
        kept = results.get_apart(self._connection, run_id, seq)
        if kept is None:
            return
        path = None
        if kept.path is not None:
            path = self._files.link(kept.path, folder_of(self._runs[run_id]), str(seq))
        results.put_apart(self._connection, kept._replace(run_id=self._runs[run_id], path=path))
