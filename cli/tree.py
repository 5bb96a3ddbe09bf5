"""The tasks of a run as the lines of a tree: who called what, long rows of the same task folded into one line.

Pure: rows in, lines out. A task called inside another stands under it, a subflow's tasks under its place in the
parent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from ..store.rows import TaskRow
from .shapes import task_index

FOLD_FROM: Final = 6
"""So many siblings of one key in a row are folded into one line, with those that did not complete under it."""
_UNFOLDED: Final = 8
"""Members shown under a folded line."""


class Line(NamedTuple):
    """One line of the tree."""

    prefix: str
    """The branches before the label."""
    label: str
    """From data: to be cleaned before it is shown."""
    task: TaskRow | None
    """None for a line that stands for many."""
    fold: Sequence[TaskRow] = ()
    """What a folded line stands for."""


class Branches(NamedTuple):
    """How branches are drawn."""

    tee: str
    corner: str
    bar: str
    space: str


UNICODE: Final = Branches("├─ ", "└─ ", "│  ", "   ")
ASCII: Final = Branches("|- ", "`- ", "|  ", "   ")


class _Node(NamedTuple):
    label: str
    task: TaskRow | None
    fold: Sequence[TaskRow]
    children: list[_Node]


def tree_lines(
    run_id: int, tasks_of: Mapping[int, Sequence[TaskRow]], *, branches: Branches = UNICODE, fold: bool = True
) -> Iterator[Line]:
    """Lines for the run's tasks; ``tasks_of`` holds the tasks of the run and of the runs inside it."""
    yield from _draw(_nodes(run_id, tasks_of, fold, seen=frozenset({run_id})), "", branches)


def _nodes(
    run_id: int, tasks_of: Mapping[int, Sequence[TaskRow]], fold: bool, seen: frozenset[int]
) -> list[_Node]:
    by_scope: dict[int, list[TaskRow]] = {}
    for task in tasks_of.get(run_id, ()):
        by_scope.setdefault(task.scope_seq, []).append(task)
    calls = Counter((task.scope_seq, task.key) for task in tasks_of.get(run_id, ()))

    def node(task: TaskRow) -> _Node:
        children = siblings(by_scope.get(task.seq, []))
        child = task.child_run_id
        if child is not None and child not in seen:
            children += _nodes(child, tasks_of, fold, seen | {child})
        return _Node(task_label(task, alone=calls[task.scope_seq, task.key] == 1), task, (), children)

    def siblings(tasks: Sequence[TaskRow]) -> list[_Node]:
        nodes: list[_Node] = []
        for key, group in groupby(tasks, key=lambda task: task.key):
            members = list(group)
            if not fold or len(members) < FOLD_FROM or any(by_scope.get(task.seq) for task in members):
                nodes += [node(task) for task in members]
                continue
            restless = [task for task in members if task.state_type != "COMPLETED"]
            children = [node(task) for task in restless[:_UNFOLDED]]
            left = len(restless) - len(children)
            if left:
                children.append(_Node(f"and {left:,} more", None, (), []))
            nodes.append(_Node(f"{key} ×{len(members):,}", None, members, children))
        return nodes

    return siblings(by_scope.get(0, []))


def task_label(task: TaskRow, *, alone: bool) -> str:
    """``extract``, or ``extract[3]`` when the run calls it more than once; a name of its own stands beside it."""
    label = task.key if alone else f"{task.key}[{task_index(task)}]"
    if task.name and not task.name.startswith(task.key):
        label += f" “{task.name}”"
    return label


def _draw(nodes: Sequence[_Node], indent: str, branches: Branches) -> Iterator[Line]:
    for position, node in enumerate(nodes, 1):
        last = position == len(nodes)
        yield Line(indent + (branches.corner if last else branches.tee), node.label, node.task, node.fold)
        yield from _draw(node.children, indent + (branches.space if last else branches.bar), branches)
