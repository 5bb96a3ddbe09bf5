"""Nodes of a run tree: what a request may name besides a whole root run, and the task rows it stands for.

A request to a node is a fact like any other: an event of the root run, of kind ``request``, whose ``data`` holds the
nodes (``{"cancel": [{"run": 42, "seq": 7}]}``). It stands with the run's own events, which are indexed; the process
that owns the tree reads them from its cursor on, and the next owner reads all since the last retry.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from ..connection import Connection
from ..rows import RunRow, TaskRow
from .runs import RUN_COLUMNS
from .tasks import TASK_COLUMNS

SELECT_OF_GROUP: Final = (
    f"SELECT {TASK_COLUMNS} FROM task_run WHERE run_id = ? AND scope_seq = ? AND key = ? AND map_group = ?"
    " ORDER BY seq"
)
SELECT_OF_KEY: Final = f"SELECT {TASK_COLUMNS} FROM task_run WHERE run_id = ? AND key = ? ORDER BY seq"
SELECT_OF_NAME: Final = f"SELECT {TASK_COLUMNS} FROM task_run WHERE run_id = ? AND name = ? ORDER BY seq"
_AS_NODES: Final = (
    "SELECT CASE WHEN map_group IS NULL THEN seq END, scope_seq, key, map_group FROM task_run WHERE run_id = ?1 AND {}"
    " GROUP BY scope_seq, key, map_group, CASE WHEN map_group IS NULL THEN seq END ORDER BY min(seq)"
)
SELECT_NODES_OF_KEY: Final = _AS_NODES.format("key = ?2")
SELECT_NODES_OF_NAME: Final = _AS_NODES.format("name = ?2")
SELECT_REQUESTS: Final = (
    "SELECT id, actor, data FROM event WHERE run_id = ? AND task_seq IS NULL AND kind = 'request' AND id > ?"
    " AND data IS NOT NULL ORDER BY id"
)
SELECT_LAST_RETRY: Final = (
    "SELECT max(id) FROM event WHERE run_id = ? AND task_seq IS NULL AND kind = 'state' AND to_name = 'Scheduled'"
    " AND from_type IN ('CANCELLED', 'COMPLETED', 'FAILED', 'CRASHED')"
)
SELECT_WORDS_OF_RETRY: Final = "SELECT actor, data FROM event WHERE id = ?"
SELECT_TREE: Final = f"SELECT {RUN_COLUMNS} FROM flow_run WHERE id = ?1 OR root_id = ?1 ORDER BY id"


class Node(NamedTuple):
    """A run, one task of it, or all calls of one ``.map``."""

    run_id: int
    seq: int | None = None
    """One task; None for a run or a group."""
    scope_seq: int | None = None
    key: str | None = None
    map_group: int | None = None
    """With ``scope_seq`` and ``key``: the mapped group."""

    @property
    def is_run(self) -> bool:
        """Whether the whole run is meant."""
        return self.seq is None and self.key is None

    def as_json(self) -> dict[str, Any]:
        """As it stands in an event's ``data``."""
        if self.seq is not None:
            return {"run": self.run_id, "seq": self.seq}
        if self.key is not None:
            return {"run": self.run_id, "scope": self.scope_seq, "key": self.key, "group": self.map_group}
        return {"run": self.run_id}


def from_json(value: dict[str, Any]) -> Node:
    """The node that ``as_json`` wrote."""
    return Node(value["run"], value.get("seq"), value.get("scope"), value.get("key"), value.get("group"))


def group_of(row: TaskRow) -> Node | None:
    """The mapped group a call belongs to."""
    if row.map_group is None:
        return None
    return Node(row.run_id, None, row.scope_seq, row.key, row.map_group)


def nodes_of(rows: Iterable[TaskRow]) -> list[Node]:
    """These calls as nodes: members of one map as their group, any other by itself."""
    return list(dict.fromkeys(group_of(row) or Node(row.run_id, row.seq) for row in rows))


def of_group(connection: Connection, node: Node) -> list[TaskRow]:
    """The calls of a mapped group that are recorded."""
    values = (node.run_id, node.scope_seq, node.key, node.map_group)
    return [TaskRow._make(row) for row in connection.execute(SELECT_OF_GROUP, values)]


def named(connection: Connection, run_id: int, name: str) -> list[TaskRow]:
    """Every call of a task of this key, else every one that carries this name."""
    rows = connection.execute(SELECT_OF_KEY, (run_id, name)).fetchall()
    rows = rows or connection.execute(SELECT_OF_NAME, (run_id, name)).fetchall()
    return [TaskRow._make(row) for row in rows]


def of_name(connection: Connection, run_id: int, name: str) -> list[Node]:
    """``nodes_of`` what ``named`` gives, without reading each call."""
    values = (run_id, name)
    rows = connection.execute(SELECT_NODES_OF_KEY, values).fetchall()
    rows = rows or connection.execute(SELECT_NODES_OF_NAME, values).fetchall()
    return [Node(run_id, seq) if seq is not None else Node(run_id, None, *group) for seq, *group in rows]


def tree(connection: Connection, root_id: int) -> list[RunRow]:
    """A root run and every run in its process, oldest first."""
    return [RunRow._make(row) for row in connection.execute(SELECT_TREE, (root_id,))]


def requests(connection: Connection, root_id: int, after_id: int) -> list[tuple[int, str, str]]:
    """``(event id, actor, data)`` of what was asked of a run tree after an event."""
    return connection.execute(SELECT_REQUESTS, (root_id, after_id)).fetchall()


def words_of_retry(connection: Connection, root_id: int) -> tuple[str, str] | None:
    """Who asked for the last retry, and what stands in its event."""
    row = connection.execute(SELECT_WORDS_OF_RETRY, (last_retry(connection, root_id),)).fetchone()
    return None if row is None else (row[0], row[1] or "{}")


def last_retry(connection: Connection, root_id: int) -> int:
    """The event of the last retry a person asked for, which ends what was asked before; 0 when there is none."""
    return int(connection.execute(SELECT_LAST_RETRY, (root_id,)).fetchone()[0] or 0)
