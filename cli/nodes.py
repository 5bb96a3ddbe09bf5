"""Which part of a run tree somebody named: ``42``, ``42/7``, ``42/extract[3]``, all calls of a map: ``42/extract``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ..engine.errors import NotFound
from ..store.rows import RunRow, TaskRow
from ..store.states import is_terminal
from ..store.tables.nodes import Node, nodes_of
from .opening import find_run_or_task, refuse_two_meanings

if TYPE_CHECKING:
    from ..store.reader import Reader

ALL: Final = "[*]"
NODE_HELP: Final = "42, 42/7, 42/extract[3], all calls of a map as 42/extract, a run's name, @last or @failed"


class Named(NamedTuple):
    """What a word on the command line stands for."""

    run: RunRow
    nodes: list[Node]
    rows: list[TaskRow]
    """The calls it names; empty for a run."""

    @property
    def root_id(self) -> int:
        """The run whose process it lives in."""
        return self.run.root_id or self.run.id


def find_nodes(reader: Reader, ref: str, *, unfinished: bool = False, rows_too: bool = True) -> Named:
    """The run or the calls; raises ``NotFound`` with the way to the names there are.

    A task's name without a place means all its calls; with ``unfinished`` those that have not ended, if any. Without
    ``rows_too`` the calls of such a name are not read, of which there may be a hundred thousand.
    """
    run_part, stroke, name = ref.strip().partition("/")
    if stroke and name and not name.isdecimal() and (name.endswith(ALL) or not name.endswith("]")):
        owner = reader.find(run_part)
        if owner is not None and (namesake := reader.find(ref)) is not None:
            refuse_two_meanings(namesake, ref, next(iter(reader.calls(owner.id, name.removesuffix(ALL))), None))
        if owner is not None and not rows_too and (found := reader.nodes_named(owner.id, name.removesuffix(ALL))):
            return Named(owner, found, [])
        rows = reader.calls(owner.id, name.removesuffix(ALL)) if owner is not None else []
        if owner is not None and rows:
            wanted = [row for row in rows if not is_terminal(row.state_type, row.state_name)] if unfinished else rows
            return Named(owner, nodes_of(wanted or rows), wanted or rows)
        if name.endswith(ALL):
            raise NotFound(f"no mapped task {ref!r}; `flowdeck show {run_part}` lists the run's tasks")
    run, task = find_run_or_task(reader, ref)
    if task is None:
        return Named(run, [Node(run.id)], [])
    return Named(run, [Node(run.id, task.seq)], [task])
