"""A new run forked from a step of one that has ended: it begins with the finished work that a plan keeps.

Part of ``control``, the one door: everything here happens inside its write transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...store.connection import Connection
from ...store.result_files import ResultFiles, folder_of
from ...store.rows import CallRow, RunRow
from ...store.states import TERMINAL_TYPES
from ...store.tables import deployments, edges, journals, nodes, results, runs
from ...store.tables.results import PARAMETERS_SEQ
from ..encoding.typed_text import TypedValues
from ..errors import NotAllowed
from ..secrets.secret import refuse_values
from ..states.machine import next_task_state
from ..system.clock import now_us
from .call_tree import stretches, tree
from .deployments import check_parameters
from .retry_plan import CallId, Plan


def fork_checked(
    connection: Connection, folder: Path, root: RunRow, planned: Plan, parameters: dict[str, Any], actor: str
) -> tuple[int, str]:
    """As ``fork``, where the deployment knows these parameters; returns its number and what was done."""
    found = deployments.get(connection, root.deployment) if root.deployment is not None else None
    if found is not None:
        if isinstance(parameters, TypedValues):
            parameters = parameters.meant(json.loads(found.parameters_schema))
        merged = {**json.loads(root.parameters), **parameters}
        check_parameters(found.name, json.loads(found.parameters_schema), merged)
    made = fork(connection, folder, root, planned, parameters, actor)
    return made, f"queued: forked from #{root.id}, {planned.kept} finished calls are kept"


def fork(
    connection: Connection, folder: Path, root: RunRow, planned: Plan, parameters: Mapping[str, Any],
    actor: str,
) -> int:
    """A new run with these parameters changed, which begins with the finished work that the plan keeps."""
    if results.get(connection, root.id, PARAMETERS_SEQ) is not None and parameters:
        raise NotAllowed(f"the parameters of run #{root.id} have no JSON form: start a new run with other ones instead")
    refuse_values("a parameter", json.dumps(dict(parameters), ensure_ascii=False))
    merged = {**json.loads(root.parameters), **parameters}
    where = f"forked from #{root.id}" + (f" at {planned.target}" if planned.kind == "from" else "")
    run_id = runs.insert(
        connection, flow_name=root.flow_name, name="", state=("SCHEDULED", "Scheduled"), actor=actor, at_us=now_us(),
        parameters=json.dumps(merged, ensure_ascii=False), tags=root.tags, deployment=root.deployment,
        entrypoint=root.entrypoint, source_hash=root.source_hash, retry_of=root.id,
        cause=f"{where}: {planned.kept} finished calls are kept", working_folder=root.working_folder,
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
        self._rows, self._links = tree(connection, root.id)
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
        for run_id, first, last in stretches(plain):
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
