"""Asking something of a part of a run tree: what may be asked of which node, and the transaction that asks it.

Part of ``control``, the one door: everything here happens inside its write transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...store.connection import Connection
from ...store.rows import LeaseRow, RunRow, TaskRow
from ...store.states import TERMINAL_TYPES, is_terminal
from ...store.tables import events, nodes, runs, tasks
from ...store.tables.nodes import Node
from ..encoding import codec
from ..errors import NotAllowed, NotFound
from ..states.asked import done_by
from ..states.machine import next_task_state
from ..states.transitions import move_task
from ..system.clock import now_us
from .asking import live_lease
from .decisions import Decision


class Place(NamedTuple):
    """A node with the rows it stands for."""

    node: Node
    label: str
    """``extract[3] (42/7)``, for people."""
    run: RunRow
    rows: tuple[TaskRow, ...]
    """The calls it names; of a run none."""


def find(connection: Connection, node: Node) -> Place:
    """The node with its rows, a subflow's place as the run it stands for; ``NotFound`` when there is none."""
    run = runs.get(connection, node.run_id)
    if run is None:
        raise NotFound(f"there is no run #{node.run_id}")
    if node.seq is not None:
        row = tasks.get(connection, node.run_id, node.seq)
        if row is None:
            raise NotFound(f"run #{node.run_id} has no task {node.seq}; `flowdeck show {node.run_id}` lists its tasks")
        return Place(node, label_of(row), run, (row,))
    if node.key is not None:
        rows = tuple(nodes.of_group(connection, node))
        if not rows:
            raise NotFound(f"run #{node.run_id} has no mapped task {node.key!r}")
        return Place(node, label_of_group(node, len(rows)), run, rows)
    return Place(node, f"#{run.id} {run.flow_name}", run, ())


def label_of(row: TaskRow) -> str:
    """A task as people name it."""
    index = row.map_index if row.map_index is not None else row.call_index
    named = row.name if row.name != row.key or not index else f"{row.key}[{index}]"
    return f"{named} ({row.run_id}/{row.seq})"


def label_of_group(node: Node, calls: int) -> str:
    """A mapped group as people name it."""
    return f"{node.key}[*] of #{node.run_id} ({calls} calls)"


def root_of(connection: Connection, run: RunRow) -> RunRow:
    """The run whose process this run lives in."""
    if run.root_id is None:
        return run
    root = runs.get(connection, run.root_id)
    assert root is not None  # a foreign key
    return root


def cancel(connection: Connection, wanted: Sequence[Node], actor: str) -> tuple[int, str]:
    """Ask it of these nodes of a tree; what waits without a process ends now, the rest when its process sees it."""
    places = [find(connection, node) for node in wanted]
    root = _common_root(connection, places)
    lease = live_lease(connection, root.id)
    if root.state_type in TERMINAL_TYPES:
        raise NotAllowed(f"run #{root.id} is {root.state_name}: nothing of it runs that could be asked to cancel")
    if root.state_type == "CANCELLING":
        raise NotAllowed(f"run #{root.id} is being cancelled as a whole")
    ending = [_as_cancelled(connection, place, lease) for place in places]
    labels = ", ".join(place.label for place in places)
    events.append(
        connection, at_us=now_us(), kind="request", actor=actor, run_id=root.id, message=f"cancel {labels}",
        data={"cancel": [node.as_json() for node in ending]},
    )
    if lease is not None:
        held = "; the run is frozen: it hears of it once it is thawed" if root.state_name == "Frozen" else ""
        return root.id, f"cancelling {labels}{held}"
    for place in places:
        for row in place.rows:
            if row.kind == "task" and not is_terminal(row.state_type, row.state_name):
                _end_now(connection, row, actor)
    return root.id, f"cancelled {labels}: not run when the run goes on"


def _common_root(connection: Connection, places: Sequence[Place]) -> RunRow:
    roots = {place.run.root_id or place.run.id for place in places}
    if len(roots) != 1:
        raise NotAllowed("nodes of several runs are asked for one run after the other")
    return root_of(connection, places[0].run)


def _as_cancelled(connection: Connection, place: Place, lease: LeaseRow | None) -> Node:
    """What is asked of which node; refuses one that has ended."""
    node = place.node
    if node.seq is not None and place.rows[0].child_run_id is not None:
        node = Node(place.rows[0].child_run_id)
    if node.is_run:
        run = place.run if node == place.node else runs.get(connection, node.run_id)
        assert run is not None
        _refuse_ended(f"run #{run.id}", [(run.state_type, run.state_name)], lease)
        if run.state_type == "CANCELLING":
            raise NotAllowed(f"run #{run.id} is Cancelling: it has been asked already")
        return node
    states = [(row.state_type, row.state_name) for row in place.rows]
    what = f"task {place.label}" if node.seq is not None else place.label
    _refuse_ended(what, states, lease)
    return node


def _refuse_ended(what: str, states: Sequence[tuple[str, str]], lease: LeaseRow | None) -> None:
    """What crashed with its process runs again when the run goes on: that can be cancelled, too."""
    if all(is_terminal(*state) and not (lease is None and state[0] == "CRASHED") for state in states):
        name = states[0][1] if len(set(states)) == 1 else "ended"
        raise NotAllowed(f"{what} is {name}: it cannot be asked to cancel")


def set_state(connection: Connection, node: Node, decision: Decision) -> tuple[int, str]:
    """Decide for a task, or for each call of a map."""
    place = find(connection, node)
    root = _common_root(connection, [place])
    lease = live_lease(connection, root.id)
    if not place.rows:
        raise NotAllowed(f"{place.label} is a run: a state can be set for tasks of it, as {place.run.id}/1")
    what = place.label if len(place.rows) == 1 else f"{len(place.rows)} calls of {place.label}"
    named = next_task_state("FAILED", decision.event).state_name
    if lease is None:
        for row in place.rows:
            decision.write(connection, row, place.run.attempt)
        return place.run.id, f"{what} is {named}: a retry does not run it and it gives {codec.preview(decision.value)}"
    if any(row.state_type != "PAUSED" for row in place.rows):
        raise NotAllowed(
            f"{place.label} is {place.rows[0].state_name} and run #{root.id} lives: a state can be set once the run "
            "has ended, or for a task that waits for a person"
        )
    value = codec.encode(decision.value)
    events.append(
        connection, at_us=now_us(), kind="request", actor=decision.actor, run_id=root.id,
        message=f"set {what} {decision.word}",
        data={"set": [{"run": row.run_id, "seq": row.seq} for row in place.rows], "state": decision.word,
              "result": (value.data or b"null").decode()},
    )  # fmt: skip
    said = f"{what} becomes {named} and gives {value.preview}; `flowdeck resume {root.id}` lets the run go on"
    return place.run.id, said


def _end_now(connection: Connection, row: TaskRow, actor: str) -> None:
    run = runs.get(connection, row.run_id)
    assert run is not None
    move_task(
        connection, row, "cancel", run_attempt=max(row.run_attempt, run.attempt), at_us=now_us(), actor=actor,
        cause=done_by("cancel", actor),
    )


__all__ = ["Place", "cancel", "find", "label_of", "label_of_group", "root_of", "set_state"]
