"""A run's tasks as the rows of a tree: nested tasks beneath their caller, a subflow's tasks beneath it, maps folded.

Pure: no I/O, no clock, nothing of Textual. ``TreeModel`` is changed row by row: one change costs the depth of the tree
and a binary search, however many tasks there are; what is folded away is only counted. Which rows are in sight is
found by their counts, so that a window of a hundred thousand rows costs what the window costs. Times are absolute:
whoever shows a running row lets them tick.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from itertools import islice

from ...store.rows import RunRow, TaskRow
from ...store.states import is_terminal
from .tree_parts import (
    RUNNING,
    WAITING,
    Applied,
    Branch,
    Counts,
    Group,
    GroupKey,
    TaskKey,
    TreeKey,
    TreeLine,
    group_of,
    kind_of,
    note,
)


class TreeModel:
    """The rows of one run; see the module's text."""

    def __init__(self, run_id: int) -> None:
        self.run_id = run_id
        self.tasks: dict[TaskKey, TaskRow] = {}
        self.runs: dict[int, RunRow] = {}
        self.tries: dict[int, int] = {}
        """Of runs: how often each was tried, where that is more than once."""
        self._top = Branch(run_id, None)
        self._of_run: dict[int, Branch] = {run_id: self._top}
        self._of_scope: dict[TaskKey, Branch] = {}
        self._groups: dict[GroupKey, Group] = {}
        self._toggled: dict[TreeKey, bool] = {}
        self._moved = False
        self._changed: set[TreeKey] = set()
        self._retried = False

    @property
    def nests(self) -> bool:
        """Whether rows stand beneath others, so that there is something to count."""
        return bool(self._groups or self._of_scope) or len(self._of_run) > 1

    @property
    def retried(self) -> bool:
        """Whether anything was tried more than once."""
        return self._retried or bool(self.tries)

    # ---- changes ----------------------------------------------------------------------------------------------

    def apply(self, rows: Iterable[TaskRow | RunRow]) -> Applied:
        """Takes in new and changed rows, in any order; rows of other families of runs do no harm."""
        self._moved = False
        self._changed = set()
        for row in rows:
            if isinstance(row, TaskRow):
                self._apply_task(row)
            else:
                self._apply_run(row)
        return Applied(self._moved, frozenset(self._changed))

    def _apply_run(self, run: RunRow) -> None:
        if self.runs.get(run.id) == run:
            return
        self.runs[run.id] = run
        branch = self._of_run.get(run.id)
        if branch is not None and branch.owner is not None:
            self._changed.add(branch.owner)

    def _apply_task(self, task: TaskRow) -> None:
        key = TaskKey(task.run_id, task.seq)
        old = self.tasks.get(key)
        if old == task:
            return
        self.tasks[key] = task
        self._changed.add(key)
        self._retried = self._retried or task.attempt > 1
        if old is None:
            self._insert(key, task)
        branch = self._branch_of_call(task)
        group = self._group_of(task)
        for counted in (branch, *((group.branch,) if group else ())):
            if old is not None:
                counted.counts[kind_of(old)] -= 1
            counted.counts[kind_of(task)] += 1
            if counted.owner is not None:
                self._changed.add(counted.owner)
        if group:
            note(group, old, task)
        if task.child_run_id is not None and (old is None or old.child_run_id != task.child_run_id):
            self._attach(task.child_run_id, key)

    def _branch_of_call(self, task: TaskRow) -> Branch:
        """The branch of the flow function or the task that made the call."""
        if not task.scope_seq:
            return self._of_run.setdefault(task.run_id, Branch(task.run_id, None))
        caller = TaskKey(task.run_id, task.scope_seq)
        return self._of_scope.setdefault(caller, Branch(task.run_id, caller))

    def _group_of(self, task: TaskRow) -> Group | None:
        key = group_of(task)
        return None if key is None else self._groups[key]

    def _insert(self, key: TaskKey, task: TaskRow) -> None:
        branch = self._branch_of_call(task)
        group_key = group_of(task)
        if group_key is not None:
            group = self._groups.get(group_key)
            if group is None:
                group = self._groups[group_key] = Group(group_key, Branch(task.run_id, group_key), task.seq)
                self._add_entry(branch, task.seq, group_key)
            elif task.seq < group.first:
                self._lead_from(branch, group, task.seq)
            branch = group.branch
        self._add_entry(branch, task.seq, None)
        # What it called, or the run it started, may have been told before it.
        rows = self._rows_beneath(key) if self.is_open(key) else 0
        if rows:
            self._set_beneath(branch, task.seq, rows)

    def _add_entry(self, branch: Branch, seq: int, group: GroupKey | None) -> None:
        entries = branch.entries
        if not entries or seq > entries[-1]:
            entries.append(seq)
        else:
            insort(entries, seq)
        if group is not None:
            branch.groups[seq] = group
        branch.moved()
        self._resize(branch, 1)
        if branch.owner is not None:
            self._changed.add(branch.owner)

    def _lead_from(self, branch: Branch, group: Group, seq: int) -> None:
        """An earlier element of a map became known: its row moves up."""
        del branch.entries[bisect_left(branch.entries, group.first)]
        insort(branch.entries, seq)
        branch.groups[seq] = branch.groups.pop(group.first)
        if group.first in branch.beneath:
            branch.beneath[seq] = branch.beneath.pop(group.first)
        group.first = seq
        branch.moved()
        self._resize(branch, 0)

    def _attach(self, run_id: int, owner: TaskKey) -> None:
        """The tasks of this run stand beneath that task."""
        if run_id != self.run_id:
            self._of_run.setdefault(run_id, Branch(run_id, None)).owner = owner
        home = self._home(owner)
        if home is not None and self.is_open(owner) and home[0].beneath.get(home[1], 0) != self._rows_beneath(owner):
            self._set_beneath(*home, self._rows_beneath(owner))

    def _resize(self, branch: Branch, more: int) -> None:
        """Rows came to this branch: tells every branch above in which they are shown."""
        branch.size += more
        while branch.owner is not None:
            home = self._home(branch.owner)
            if home is None or not self.is_open(branch.owner):
                return
            above, entry = home
            rows = self._rows_beneath(branch.owner)
            change = rows - above.beneath.get(entry, 0)
            if rows:
                above.beneath[entry] = rows
            above.size += change
            above.moved()
            branch = above
        self._moved = self._moved or branch is self._top

    def _set_beneath(self, branch: Branch, entry: int, rows: int) -> None:
        change = rows - branch.beneath.pop(entry, 0)
        if rows:
            branch.beneath[entry] = rows
        branch.moved()
        self._resize(branch, change)

    def _home(self, key: TreeKey) -> tuple[Branch, int] | None:
        """The branch this row stands in, and its entry there; None while it is not known."""
        if isinstance(key, GroupKey):
            group = self._groups[key]
            return self._branch_of_call(self.tasks[TaskKey(key.run_id, group.first)]), group.first
        task = self.tasks.get(key)
        if task is None:
            return None
        group_key = group_of(task)
        return (self._branch_of_call(task) if group_key is None else self._groups[group_key].branch), task.seq

    def _beneath(self, key: TreeKey) -> tuple[Branch, ...]:
        """The branches beneath this row, in the order they are shown."""
        if isinstance(key, GroupKey):
            return (self._groups[key].branch,)
        scope = self._of_scope.get(key)
        child = self._child(key)
        return tuple(branch for branch in (scope, child) if branch is not None and branch.size)

    def _child(self, key: TaskKey) -> Branch | None:
        task = self.tasks.get(key)
        child = self._of_run.get(task.child_run_id) if task is not None and task.child_run_id is not None else None
        return child if child is not None and child.owner == key else None

    def _rows_beneath(self, key: TreeKey) -> int:
        return sum(branch.size for branch in self._beneath(key))

    # ---- folding ----------------------------------------------------------------------------------------------

    def is_open(self, key: TreeKey) -> bool:
        """Whether what is beneath this row is shown: maps are folded until somebody opens them."""
        return self._toggled.get(key, not isinstance(key, GroupKey))

    def set_open(self, key: TreeKey, opened: bool) -> bool:
        """Opens or folds a row; says whether that changed anything."""
        if self.is_open(key) == opened or not self._beneath(key):
            return False
        self._toggled[key] = opened
        home = self._home(key)
        if home is not None:
            self._set_beneath(*home, self._rows_beneath(key) if opened else 0)
        return True

    def toggle(self, key: TreeKey) -> bool:
        """Opens what is folded and folds what is open; says whether there was anything beneath."""
        return self.set_open(key, not self.is_open(key))

    def set_all_open(self, opened: bool) -> None:
        """Opens or folds every row that has rows beneath."""
        keys: list[TreeKey] = [*self._groups, *self._of_scope]
        keys += [branch.owner for branch in self._of_run.values() if branch.owner is not None]
        for key in keys:
            self.set_open(key, opened)

    def reveal(self, key: TreeKey) -> int | None:
        """Opens everything above this row; the row it then stands in, None when it is not known."""
        home = self._home(key) if isinstance(key, GroupKey) and key in self._groups else None
        if isinstance(key, TaskKey):
            home = self._home(key)
        while home is not None and home[0].owner is not None:
            self.set_open(home[0].owner, True)
            home = self._home(home[0].owner)
        return self.index(key)

    # ---- what is shown ----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._top.size

    def totals(self) -> Counts:
        """All tasks by kind of state, nested ones and those of subflows included."""
        branches = (*self._of_run.values(), *self._of_scope.values())
        return Counts(*map(sum, zip(*(branch.counts for branch in branches), strict=True)))

    def keys(self, first: int = 0, count: int | None = None) -> list[TreeKey]:
        """The rows in sight from row ``first`` on."""
        if first >= self._top.size:
            return []
        return list(islice(self._walk(self._top, first), count))

    def rows(self, first: int = 0, count: int | None = None) -> list[TreeLine]:
        """What the rows in sight show, from row ``first`` on."""
        return [self.line(key) for key in self.keys(first, count)]

    def _walk(self, branch: Branch, skip: int) -> Iterator[TreeKey]:
        index, past = branch.find(skip)
        for entry in islice(branch.entries, index, None):
            key = branch.key(entry)
            if past == 0:
                yield key
            past = max(0, past - 1)
            if entry in branch.beneath:
                for part in self._beneath(key):
                    if past < part.size:
                        yield from self._walk(part, past)
                    past = max(0, past - part.size)

    def index(self, key: TreeKey) -> int | None:
        """The row this key stands in; None while it is folded away or unknown."""
        if isinstance(key, GroupKey) and key not in self._groups:
            return None
        row = 0
        while True:
            home = self._home(key)
            if home is None:
                return None
            branch, entry = home
            row += branch.row_of(entry)
            if branch is self._top:
                return row
            owner = branch.owner
            if owner is None or not self.is_open(owner):
                return None
            row += 1
            parts = self._beneath(owner)
            if branch not in parts:
                return None  # an earlier run of this subflow
            row += sum(part.size for part in parts[: parts.index(branch)])
            key = owner

    def line(self, key: TreeKey) -> TreeLine:
        """What this row shows."""
        if isinstance(key, GroupKey):
            return self._group_line(self._groups[key])
        task = self.tasks[key]
        beneath = self._beneath(key)
        counts = Counts(*map(sum, zip(*(branch.counts for branch in beneath), strict=True))) if beneath else None
        of: TaskRow | RunRow = task
        tries = task.attempt
        child = self._child(key)
        if child is not None and child.run_id in self.runs:
            of = self.runs[child.run_id]
            tries = self.tries.get(child.run_id, 1)
        return TreeLine(
            key,
            "subflow" if task.kind == "subflow" else "task",
            task.name,
            self._rails(key),
            self.is_open(key) if beneath else None,
            of.state_type,
            of.state_name,
            of.cause or task.cause,
            tries,
            of.started_at_us,
            of.ended_at_us,
            of.duration_us,
            counts,
            task,
        )

    def _group_line(self, group: Group) -> TreeLine:
        counts = Counts(*group.branch.counts)
        started, ended = self._times(group)
        state_type, state_name = self._state_of(group, counts)
        cause = None
        if group.failed:
            cause = self.tasks[TaskKey(group.key.run_id, min(group.failed))].cause
        return TreeLine(
            group.key,
            "group",
            group.key.key,
            self._rails(group.key),
            self.is_open(group.key),
            state_type,
            state_name,
            cause,
            1,
            started,
            ended,
            ended - started if started is not None and ended is not None else None,
            counts,
            None,
        )

    def _state_of(self, group: Group, counts: Counts) -> tuple[str, str]:
        """One state for all elements: what is going on, else the worst that happened."""
        if counts.running:
            return "RUNNING", "Running"
        if counts.waiting and counts.done:
            return "RUNNING", "Running"
        if counts.waiting:
            first = self.tasks[TaskKey(group.key.run_id, group.first)]
            return first.state_type, first.state_name
        if counts.failed:
            worst = self.tasks[TaskKey(group.key.run_id, min(group.failed))]
            return worst.state_type, worst.state_name
        return ("CANCELLED", "Cancelled") if counts.cancelled else ("COMPLETED", "Completed")

    def _times(self, group: Group) -> tuple[int | None, int | None]:
        """First start; last end once all have ended."""
        if group.times_stale:
            members = [self.tasks[TaskKey(group.key.run_id, seq)] for seq in group.branch.entries]
            group.started_at_us = min((t.started_at_us for t in members if t.started_at_us is not None), default=None)
            group.ended_at_us = max((t.ended_at_us for t in members if t.ended_at_us is not None), default=None)
            group.times_stale = False
        live = group.branch.counts[RUNNING] or group.branch.counts[WAITING]
        return group.started_at_us, None if live else group.ended_at_us

    def _rails(self, key: TreeKey) -> tuple[bool, ...]:
        rails: list[bool] = []
        while (home := self._home(key)) is not None and (owner := home[0].owner) is not None:
            branch, entry = home
            rails.append(entry != branch.entries[-1] or branch is not self._beneath(owner)[-1])
            key = owner
        return tuple(reversed(rails))


def is_live(line: TreeLine) -> bool:
    """Whether this row's elapsed time goes on: not while it waits for its next attempt, a slot or a person."""
    return line.started_at_us is not None and line.ended_at_us is None and not (
        line.state_type in ("SCHEDULED", "PAUSED") or is_terminal(line.state_type, line.state_name)
    )


def guide(rails: tuple[bool, ...], *, ascii_only: bool = False) -> str:
    """The lines before a row that show what it stands beneath; three cells a level."""
    if not rails:
        return ""
    bar, branch, end = ("|  ", "|- ", "`- ") if ascii_only else ("│  ", "├─ ", "╰─ ")
    return "".join(bar if more else "   " for more in rails[:-1]) + (branch if rails[-1] else end)
