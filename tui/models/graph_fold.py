"""Makes a large graph small enough to read: many like tasks as one node, or only what is near one node.

Pure. Folding never invents a dependency and never makes a circle: a group that would is left open.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from .graph import Edge, Node, NodeId, topological

FOLD_FANOUT_FROM: Final = 6
"""So many like tasks between like neighbours become one node."""
REFINE_ROUNDS: Final = 16
GROUP_BAR_CELLS: Final = 8
"""Width of the progress bar that follows a folded node's label."""


class Item(NamedTuple):
    """One task as ``fold`` sees it."""

    id: NodeId
    key: str
    """Tasks that may be folded with each other have the same."""
    label: str
    group: Hashable = None
    """The ``.map`` call it came from; its members are always folded."""
    parent: NodeId | None = None
    """The task that called it: it is drawn as a part of that one."""


class Group(NamedTuple):
    """The id of a folded node."""

    first: NodeId


@dataclass(frozen=True, slots=True)
class Folded:
    """A graph in which many like tasks are one node."""

    nodes: list[Node]
    edges: list[Edge]
    members: dict[NodeId, list[NodeId]]
    """Of folded nodes only."""
    node_of: dict[NodeId, NodeId]
    """For every task the node it is drawn as; nested tasks are drawn as the task that called them."""


def group_extra(total: int) -> int:
    """Cells a folded node needs behind its label: a bar and ``97/128``, each after a space."""
    return 1 + GROUP_BAR_CELLS + 1 + 2 * len(str(total)) + 1


def fold(items: Sequence[Item], edges: Iterable[Edge], *, fanout_from: int = FOLD_FANOUT_FROM) -> Folded:
    """Folds ``.map`` groups, nested tasks, and ``fanout_from`` or more like tasks between like neighbours.

    A group whose members depend on each other through other tasks stays unfolded: folded it would be a circle.
    """
    known = {item.id: item for item in items}
    edges = [(a, b) for a, b in dict.fromkeys(edges) if a in known and b in known]
    apart: set[Hashable] = set()
    while True:
        node_of = _fold_groups(items, apart)
        folded = _lift(edges, node_of)
        stuck = _in_circles(set(node_of.values()), folded)
        again = {g for item in items if node_of[item.id] in stuck for g in _folds_of(item)} - apart
        if not again:
            break
        apart |= again
    if not stuck:
        like = _fold_alike(known, node_of, folded, fanout_from)
        node_of = {task: like.get(node, node) for task, node in node_of.items()}
        folded = _lift(folded, like)
    members: dict[NodeId, list[NodeId]] = defaultdict(list)
    for item in items:
        if node_of[item.id] == item.id or isinstance(node_of[item.id], Group):
            members[node_of[item.id]].append(item.id)
    nodes = []
    for node, tasks in members.items():
        first = known[tasks[0]]
        if isinstance(node, Group):
            nodes.append(Node(node, f"{first.key}[×{len(tasks)}]", group_extra(len(tasks))))
        else:
            nodes.append(Node(node, first.label))
    groups: dict[NodeId, list[NodeId]] = {n: tasks for n, tasks in members.items() if isinstance(n, Group)}
    return Folded(nodes, folded, groups, node_of)


def _folds_of(item: Item) -> Iterable[Hashable]:
    if item.group is not None:
        yield "group", item.group
    if item.parent is not None:
        yield "parent", item.id


def _fold_groups(items: Iterable[Item], apart: set[Hashable]) -> dict[NodeId, NodeId]:
    """Task → the node that stands for it, by ``.map`` group and by nesting."""
    first_of: dict[Hashable, NodeId] = {}
    size: dict[Hashable, int] = defaultdict(int)
    for item in items:
        if item.group is not None and ("group", item.group) not in apart:
            first_of.setdefault(item.group, item.id)
            size[item.group] += 1
    node_of: dict[NodeId, NodeId] = {}
    for item in items:
        if item.parent is not None and item.parent in node_of and ("parent", item.id) not in apart:
            node_of[item.id] = node_of[item.parent]
        elif size.get(item.group, 0) > 1:
            node_of[item.id] = Group(first_of[item.group])
        else:
            node_of[item.id] = item.id
    return node_of


def _lift(edges: Iterable[Edge], node_of: Mapping[NodeId, NodeId]) -> list[Edge]:
    """The edges between the nodes that stand for their ends; those within one node vanish."""
    lifted = ((node_of.get(a, a), node_of.get(b, b)) for a, b in edges)
    return list(dict.fromkeys((a, b) for a, b in lifted if a != b))


def _in_circles(nodes: Iterable[NodeId], edges: Iterable[Edge]) -> set[NodeId]:
    """The nodes that neither start from nothing nor lead to nothing in the end: circles and what lies between."""
    left = set(nodes)
    for backwards in (False, True):
        waits = dict.fromkeys(left, 0)
        after: dict[NodeId, list[NodeId]] = defaultdict(list)
        for a, b in edges:
            start, end = (b, a) if backwards else (a, b)
            if start in left and end in left:
                after[start].append(end)
                waits[end] += 1
        free = [node for node, count in waits.items() if not count]
        for node in free:
            left.discard(node)
            for other in after[node]:
                waits[other] -= 1
                if not waits[other]:
                    free.append(other)
    return left


def _fold_alike(
    known: Mapping[NodeId, Item], node_of: Mapping[NodeId, NodeId], edges: list[Edge], fanout_from: int
) -> dict[NodeId, NodeId]:
    """Plain nodes of one key, one depth and like neighbours, as groups.

    Classes are refined by their neighbours' classes. Depth stands in the class, and every edge leads to a greater
    depth: so however coarse the classes are, folding them makes no circle.
    """
    nodes = list(dict.fromkeys(node_of.values()))
    before: dict[NodeId, list[NodeId]] = defaultdict(list)
    after: dict[NodeId, list[NodeId]] = defaultdict(list)
    depth = dict.fromkeys(nodes, 0)
    for a, b in edges:
        before[b].append(a)
        after[a].append(b)
    for node in topological(nodes, edges):
        depth[node] = max((depth[b] + 1 for b in before[node]), default=0)
    kind: dict[NodeId, Hashable] = {n: (known[n].key, depth[n]) if n in known else n for n in nodes}
    number: dict[NodeId, int] = _numbered(kind)
    for _ in range(REFINE_ROUNDS):
        kind = {
            n: (number[n], frozenset(number[b] for b in before[n]), frozenset(number[a] for a in after[n]))
            for n in nodes
        }
        finer = _numbered(kind)
        if max(finer.values(), default=0) == max(number.values(), default=0):
            break
        number = finer
    classes: dict[int, list[NodeId]] = defaultdict(list)
    for node in nodes:
        classes[number[node]].append(node)
    return {node: Group(tasks[0]) for tasks in classes.values() if len(tasks) >= fanout_from for node in tasks}


def _numbered(kind: Mapping[NodeId, Hashable]) -> dict[NodeId, int]:
    numbers: dict[Hashable, int] = {}
    return {node: numbers.setdefault(k, len(numbers)) for node, k in kind.items()}


def around(node: NodeId, edges: Sequence[Edge], hops: int) -> set[NodeId]:
    """The node, and what it depends on or what depends on it within so many edges."""
    near = {node}
    for backwards in (False, True):
        after: dict[NodeId, list[NodeId]] = defaultdict(list)
        for a, b in edges:
            after[b if backwards else a].append(a if backwards else b)
        queue = deque([(node, 0)])
        seen = {node}
        while queue:
            here, distance = queue.popleft()
            if distance < hops:
                fresh = [other for other in after[here] if other not in seen]
                seen.update(fresh)
                queue.extend((other, distance + 1) for other in fresh)
        near |= seen
    return near
