"""The calls of a run tree, read for plans and copies of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ...store.connection import Connection
from ...store.rows import CallRow, EdgeRow, RunRow
from ...store.tables import edges, nodes, runs, tasks
from ..errors import NotFound


def run_of(connection: Connection, run_id: int) -> RunRow:
    """That run; ``NotFound`` when there is none."""
    run = runs.get(connection, run_id)
    if run is None:
        raise NotFound(f"there is no run #{run_id}")
    return run


def tree(connection: Connection, root_id: int) -> tuple[list[CallRow], list[EdgeRow]]:
    """The calls of a run tree and which of them needs which."""
    rows: list[CallRow] = []
    links: list[EdgeRow] = []
    for run in nodes.tree(connection, root_id):
        rows += tasks.calls(connection, run.id)
        links += edges.of_run(connection, run.id)
    return rows, links


def stretches(rows: Iterable[CallRow]) -> Iterator[tuple[int, int, int]]:
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
