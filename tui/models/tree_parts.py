"""What a tree of a run's tasks is made of: its keys, its lines, branches that know their rows by counting. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from ...store.rows import TaskRow


class TaskKey(NamedTuple):
    """The row of one task."""

    run_id: int
    seq: int


class GroupKey(NamedTuple):
    """The row that stands for all elements of one ``.map`` call."""

    run_id: int
    scope_seq: int
    key: str
    map_group: int


TreeKey = TaskKey | GroupKey


class Counts(NamedTuple):
    """How many tasks are in which kind of state."""

    completed: int = 0
    failed: int = 0
    """Failed and crashed."""
    cancelled: int = 0
    """Cancelled, skipped, not ready: ended without having run to their end."""
    running: int = 0
    waiting: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)

    @property
    def done(self) -> int:
        """All that have ended, however they did."""
        return self.completed + self.failed + self.cancelled


class TreeLine(NamedTuple):
    """What one row shows."""

    key: TreeKey
    kind: Literal["task", "subflow", "group"]
    label: str
    """As stored: it must pass the sanitiser before it is shown."""
    rails: tuple[bool, ...]
    """For each level from the outermost: whether more siblings follow below. Empty at the top level."""
    open: bool | None
    """Whether the rows beneath are shown; None when there are none."""
    state_type: str
    state_name: str
    cause: str | None
    tries: int
    """How often it was tried."""
    started_at_us: int | None
    ended_at_us: int | None
    duration_us: int | None
    """Of a group: from its first start to its last end."""
    counts: Counts | None
    """Of a group its elements, else the tasks beneath; None when there are none."""
    task: TaskRow | None
    """None for a group."""


class Applied(NamedTuple):
    """What a change did to what is shown."""

    moved: bool
    """Rows in sight appeared or moved."""
    keys: frozenset[TreeKey]
    """Rows that say something else now, whether or not they are in sight."""


_KIND_OF_TYPE: Final[dict[str, int]] = {
    "COMPLETED": 0, "FAILED": 1, "CRASHED": 1, "CANCELLED": 2, "RUNNING": 3, "CANCELLING": 3,
    "PAUSED": 4, "SCHEDULED": 4, "PENDING": 4,
}  # fmt: skip
COMPLETED, FAILED, CANCELLED, RUNNING, WAITING = range(5)


def kind_of(task: TaskRow) -> int:
    """Which of ``Counts``' fields counts this task."""
    return CANCELLED if task.state_name == "NotReady" else _KIND_OF_TYPE[task.state_type]


@dataclass(slots=True, eq=False)
class Branch:
    """Rows that stand together beneath one row: the tasks of a run, of a calling task, or of a map."""

    run_id: int
    owner: TreeKey | None
    """The row they stand beneath; None at the top, and while it is not known yet."""
    entries: list[int] = field(default_factory=list)
    """The seq of each row, of a group that of its first element; sorted."""
    groups: dict[int, GroupKey] = field(default_factory=dict)
    """Which of the entries are groups."""
    size: int = 0
    """Rows it takes when it is shown."""
    beneath: dict[int, int] = field(default_factory=dict)
    """Entry → rows shown beneath it, where there are any."""
    counts: list[int] = field(default_factory=lambda: [0] * 5)
    """Its tasks by kind of state, the elements of groups included."""
    _starts: tuple[list[int], list[int]] | None = None

    def key(self, entry: int) -> TreeKey:
        """The row of this entry."""
        return self.groups.get(entry) or TaskKey(self.run_id, entry)

    def starts(self) -> tuple[list[int], list[int]]:
        """The entries with rows beneath, and the row each stands in, counted from the branch's first."""
        if self._starts is None:
            wide = sorted(self.beneath)
            rows, more = [], 0
            for entry in wide:
                rows.append(bisect_left(self.entries, entry) + more)
                more += self.beneath[entry]
            self._starts = wide, rows
        return self._starts

    def moved(self) -> None:
        """Rows came or went: places are to be found anew."""
        self._starts = None

    def row_of(self, entry: int) -> int:
        """The row this entry stands in."""
        wide, rows = self.starts()
        before = bisect_left(wide, entry) - 1
        place = bisect_left(self.entries, entry)
        if before < 0:
            return place
        last = wide[before]
        return rows[before] + self.beneath[last] + place - bisect_left(self.entries, last)

    def find(self, row: int) -> tuple[int, int]:
        """Index of the entry this row belongs to, and how many rows beneath that entry it stands (0: it itself)."""
        wide, rows = self.starts()
        before = bisect_right(rows, row) - 1
        if before < 0:
            return row, 0
        index = bisect_left(self.entries, wide[before])
        past = row - rows[before]
        extra = self.beneath[wide[before]]
        return (index, past) if past <= extra else (index + past - extra, 0)


@dataclass(slots=True, eq=False)
class Group:
    """What a map's row needs to know about its elements without looking at each."""

    key: GroupKey
    branch: Branch
    first: int
    failed: set[int] = field(default_factory=set)
    started_at_us: int | None = None
    ended_at_us: int | None = None
    times_stale: bool = False


def group_of(task: TaskRow) -> GroupKey | None:
    """The row of the map that a task is an element of; None when it is of none."""
    if task.map_group is None:
        return None
    return GroupKey(task.run_id, task.scope_seq, task.key, task.map_group)


def note(group: Group, old: TaskRow | None, task: TaskRow) -> None:
    """Keeps what the group's row shows of its elements."""
    if kind_of(task) == FAILED:
        group.failed.add(task.seq)
    else:
        group.failed.discard(task.seq)
    if old is not None and (
        (old.started_at_us == group.started_at_us is not None and old.started_at_us != task.started_at_us)
        or (old.ended_at_us == group.ended_at_us is not None and old.ended_at_us != task.ended_at_us)
    ):
        group.times_stale = True  # the first start or the last end was this element's
    if task.started_at_us is not None and (group.started_at_us is None or task.started_at_us < group.started_at_us):
        group.started_at_us = task.started_at_us
    if task.ended_at_us is not None and (group.ended_at_us is None or task.ended_at_us > group.ended_at_us):
        group.ended_at_us = task.ended_at_us
