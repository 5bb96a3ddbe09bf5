"""The graph of a run: which nodes its tasks are drawn as, in which state each node is, and the drawing.

Pure. A change of state touches counters and names the nodes that look different; only another shape (tasks, edges,
folding, focus) makes another drawing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from ...store.rows import EdgeRow, TaskRow
from .graph import Canvas, Edge, Node, NodeId, layout
from .graph_fold import Folded, Group, Item, around, fold
from .tree_parts import Counts, TaskKey, kind_of

FOCUS_ABOVE: Final = 150
"""Graphs of more nodes open on the surroundings of one node."""
FOCUS_HOPS: Final = 3
OPEN_UP_TO: Final = 300
"""Larger groups stay folded."""
_STATE_OF_KIND: Final = (
    ("COMPLETED", "Completed"), ("FAILED", "Failed"), ("CANCELLED", "Cancelled"), ("RUNNING", "Running"),
    ("PENDING", "Pending"),
)  # fmt: skip


class NodeState(NamedTuple):
    """What a node looks like at the moment."""

    state_type: str
    state_name: str
    counts: Counts | None
    """Of a folded group."""
    task: TaskRow | None
    """None for a folded group."""


class GraphModel:
    """The tasks of a run and what is drawn of them; ``show`` cleans a text from data."""

    def __init__(self, show: Callable[[str], str], *, ascii_only: bool = False) -> None:
        self._show = show
        self._ascii = ascii_only
        self.tasks: dict[TaskKey, TaskRow] = {}
        self.focus: NodeId | None = None
        """Only what is near this node is drawn."""
        self.hops = FOCUS_HOPS
        self.folded = Folded([], [], {}, {})
        self.canvas = layout([], [], ascii_only=ascii_only)
        self.layouts = 0
        """How often a drawing was made."""
        self._edges: frozenset[tuple[TaskKey, TaskKey]] = frozenset()
        self._open: set[object] = set()
        self._counts: dict[NodeId, list[int]] = {}
        self._drawn: tuple[object, ...] = ()

    # ---- changes ----------------------------------------------------------------------------------------------

    def load(self, tasks: Iterable[TaskRow], edges: Iterable[EdgeRow]) -> bool:
        """These are all tasks and edges; says whether nodes or edges are others than before."""
        before = self.tasks.keys()
        rows = sorted(tasks)
        known = {TaskKey(row.run_id, row.seq): row for row in rows}
        drawn = frozenset(
            (TaskKey(edge.from_run_id, edge.from_seq), TaskKey(edge.run_id, edge.to_seq)) for edge in edges
        )
        other = known.keys() != before or drawn != self._edges
        self.tasks, self._edges = known, drawn
        if other:
            self.fold()
        else:
            self._count()
        return other

    def apply(self, tasks: Iterable[TaskRow]) -> set[NodeId]:
        """Tasks changed their state: the nodes that look different now. New tasks need ``load``."""
        changed: set[NodeId] = set()
        for task in tasks:
            key = TaskKey(task.run_id, task.seq)
            old = self.tasks.get(key)
            if old is None or old == task:
                continue
            self.tasks[key] = task
            node = self.folded.node_of[key]
            changed.add(node)
            if node in self._counts:
                self._counts[node][kind_of(old)] -= 1
                self._counts[node][kind_of(task)] += 1
        return changed

    def toggle(self, node: NodeId) -> bool:
        """Opens a folded group, or folds the one this task stands in; False when there is none or it is too large."""
        first = self._first_of(node)
        if first is None or len(self.folded.members.get(node, ())) > OPEN_UP_TO:
            return False
        self._open.symmetric_difference_update({first})
        self.fold()
        return True

    def _first_of(self, node: NodeId) -> object:
        """What stands for the group of this node in the set of open ones."""
        if isinstance(node, Group):
            return self._group_of(self.tasks[node.first]) if isinstance(node.first, TaskKey) else None
        group = self._group_of(self.tasks[node]) if isinstance(node, TaskKey) else None
        return group if group in self._open else None

    @staticmethod
    def _group_of(task: TaskRow) -> tuple[object, ...]:
        # Tasks that fold because they are alike open together with all tasks of their key.
        return task.run_id, task.scope_seq, task.key, task.map_group

    def fold(self) -> None:
        """Decides anew what is drawn as one node."""
        child_of = {row.child_run_id: key for key, row in self.tasks.items() if row.child_run_id is not None}
        items = [self._item(key, row, child_of) for key, row in self.tasks.items()]
        self.folded = fold(items, sorted(self._edges))
        self._count()

    def _item(self, key: TaskKey, row: TaskRow, child_of: Mapping[int, TaskKey]) -> Item:
        parent = TaskKey(row.run_id, row.scope_seq) if row.scope_seq else child_of.get(row.run_id)
        group = self._group_of(row)
        opened = group in self._open
        return Item(
            key,
            f"{row.key}/{row.seq}" if opened else self._show(row.key),
            self._show(row.name),
            group if row.map_group is not None and not opened else None,
            parent if parent in self.tasks else None,
        )

    def _count(self) -> None:
        self._counts = {}
        for node, members in self.folded.members.items():
            counts = [0] * 5
            for member in members:
                assert isinstance(member, TaskKey)
                counts[kind_of(self.tasks[member])] += 1
            self._counts[node] = counts

    # ---- drawing ----------------------------------------------------------------------------------------------

    @property
    def too_many(self) -> bool:
        """Whether the whole graph is more than a person can follow."""
        return len(self.folded.nodes) > FOCUS_ABOVE

    def draw(self) -> Canvas:
        """The drawing of the present shape; made only when the shape is another one."""
        nodes: list[Node] = self.folded.nodes
        edges: list[Edge] = self.folded.edges
        if self.focus is not None:
            near = around(self.focus, edges, self.hops)
            nodes = [node for node in nodes if node.id in near]
            edges = [(a, b) for a, b in edges if a in near and b in near]
        shape = (tuple(nodes), tuple(edges))
        if shape != self._drawn:
            self.canvas = layout(nodes, edges, ascii_only=self._ascii)
            self._drawn = shape
            self.layouts += 1
        return self.canvas

    def state(self, node: NodeId) -> NodeState:
        """How this node is doing."""
        if node in self._counts:
            counts = Counts(*self._counts[node])
            if counts.running or (counts.waiting and counts.done):
                kind = 3
            elif counts.waiting:
                kind = 4
            else:
                kind = 1 if counts.failed else 2 if counts.cancelled else 0
            return NodeState(*_STATE_OF_KIND[kind], counts, None)
        assert isinstance(node, TaskKey)
        task = self.tasks[node]
        return NodeState(task.state_type, task.state_name, None, task)

    def first_of_interest(self) -> NodeId | None:
        """The node to open on: the first that failed, else that runs, else the first of all."""
        best: tuple[int, int] | None = None
        found = None
        for i, node in enumerate(self.folded.nodes):
            state = self.state(node.id)
            failed = state.counts.failed if state.counts is not None else state.state_type in ("FAILED", "CRASHED")
            live = state.state_type in ("RUNNING", "PAUSED", "CANCELLING")
            score = (0 if failed else 1 if live else 2, i)
            if best is None or score < best:
                best, found = score, node.id
        return found
