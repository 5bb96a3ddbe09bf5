"""The tree of one run's tasks: ``tree.TreeModel`` shown on ``RowView``; only the rows in sight are made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, overload

from textual.binding import Binding, BindingType

from ...store.rows import RunRow, TaskRow
from ..look import cells, theme
from ..look.spans import Span, Spans
from ..models.tree import TreeModel, guide, is_live
from ..models.tree_parts import GroupKey, TaskKey, TreeKey, TreeLine
from ..text import times, waiting
from .columns import Column
from .rows import RowView


class _Order(Sequence[TreeKey]):
    """The rows in sight of a model, as the sequence that ``RowView`` wants."""

    def __init__(self, model: TreeModel) -> None:
        self._model = model

    def __len__(self) -> int:
        return len(self._model)

    @overload
    def __getitem__(self, at: int) -> TreeKey: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[TreeKey]: ...
    def __getitem__(self, at: int | slice) -> TreeKey | Sequence[TreeKey]:
        if isinstance(at, slice):
            first, stop, _ = at.indices(len(self))
            return self._model.keys(first, max(0, stop - first))
        if at < 0:
            at += len(self)
        keys = self._model.keys(at, 1)
        if not keys:
            raise IndexError(at)
        return keys[0]


class TreeView(RowView[TreeKey, TreeLine]):
    """Tasks, subflows and maps, foldable."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,l", "fold(True)", "open", id="tree.open", show=False),
        Binding("left,h", "fold(False)", "fold", id="tree.fold", show=False),
        Binding("plus", "fold_all(True)", "open all", id="tree.open_all", show=False),
        Binding("minus", "fold_all(False)", "fold all", id="tree.fold_all", show=False),
    ]

    def __init__(self, run_id: int, now_us: cells.Clock, *, id: str | None = None) -> None:  # noqa: A002
        self.now_us = now_us
        super().__init__((), id=id)
        self._shape: tuple[bool, bool] | None = None
        self.model = TreeModel(run_id)
        self.order = _Order(self.model)

    def load(self, run_id: int, rows: Iterable[RunRow | TaskRow]) -> None:
        """Show another run."""
        if run_id != self.model.run_id:
            self.model = TreeModel(run_id)
            self.marks.clear()
            self.cursor = 0
        self.order = _Order(self.model)
        self.model.apply(rows)
        self._choose_columns()
        self.reordered()
        self.refresh()

    def tell_tries(self, tries: Mapping[int, int]) -> None:
        """How often these runs were tried."""
        if self.model.tries != tries:
            self.model.tries = dict(tries)
            self._choose_columns()
            self.refresh()

    def apply(self, rows: Iterable[RunRow | TaskRow]) -> None:
        """Rows changed."""
        before, cursor = self.visible_keys(), self.cursor
        applied = self.model.apply(rows)
        self._choose_columns()
        if applied.moved:
            self.reordered(draw=False)
            if self.cursor != cursor or self.visible_keys() != before:
                self.refresh()
                return
        if applied.keys:
            self.redraw(applied.keys.intersection(self.visible_keys()))

    def _choose_columns(self) -> None:
        """Only those that have something to say: the rest of the room is for the reasons."""
        shape = self.model.nests, self.model.retried
        if shape != self._shape:
            self._shape = shape
            left_out = (() if shape[0] else ("done", "bar")) + (() if shape[1] else ("tries",))
            self.set_columns([column for column in _columns(self) if column.key not in left_out])

    def record_of(self, key: TreeKey) -> TreeLine | None:
        """What a row shows."""
        if isinstance(key, TaskKey) and key not in self.model.tasks:
            return None
        return self.model.line(key)

    def index_of(self, key: TreeKey) -> int | None:
        """The row this key stands in."""
        return self.model.index(key)

    def tick(self) -> None:
        """A second went by: times of what runs, and how long what waits for its next attempt still waits."""
        for key in self.visible_keys():
            line = self.record_of(key)
            if line is not None and is_live(line):
                self.redraw((key,), ("took",))
            elif line is not None and line.task is not None and line.task.wake_at_us is not None:
                self.redraw((key,), ("why",))

    def action_choose(self) -> None:
        """Fold or open what has rows beneath; else open the row."""
        key = self.cursor_key
        if key is None:
            return
        if isinstance(key, GroupKey):
            self.model.toggle(key)
            self.reordered()
            return
        super().action_choose()

    def action_fold(self, opened: bool) -> None:
        """Open or fold the row; folding a row without rows beneath goes to the one above it."""
        key = self.cursor_key
        if key is None:
            return
        if self.model.set_open(key, opened):
            self.reordered()
            return
        line = self.record_of(key)
        if line is None:
            return
        if opened and line.open:
            self.action_cursor(1)
        elif not opened and line.rails:
            self._go_to_owner(len(line.rails))

    def _go_to_owner(self, depth: int) -> None:
        row = self.cursor - 1
        while row >= 0:
            key = self.key_at(row)
            line = self.record_of(key) if key is not None else None
            if line is not None and len(line.rails) < depth:
                self.move_to(row)
                return
            row -= 1

    def action_fold_all(self, opened: bool) -> None:
        """Open or fold everything."""
        self.model.set_all_open(opened)
        self.reordered()


def _label(line: TreeLine) -> Spans:
    palette = theme.palette()
    look = palette.look(line.state_type, line.state_name)
    pieces: list[Span] = []
    if line.rails:
        pieces.append((guide(line.rails, ascii_only=palette.ascii), palette.faint))
    pieces.append((f"{look.glyph} ", look.style))
    pieces.append((cells.safe(line.label), palette.strong if line.kind != "task" else palette.text))
    if line.kind == "group" and line.counts is not None:
        pieces.append((palette.glyph(f" ×{line.counts.total}", f" x{line.counts.total}"), palette.dim))
    if line.kind == "subflow" and line.task is not None and line.task.child_run_id is not None:
        pieces.append((f" #{line.task.child_run_id}", palette.dim))
    if line.open is False:
        pieces.append((palette.glyph(" ▸", " +"), palette.accent))
    return tuple(pieces)


def _done(line: TreeLine) -> Spans:
    counts = line.counts
    if counts is None or not counts.total:
        return ()
    return ((f"{counts.done}/{counts.total}", theme.palette().dim),)


def _bar(line: TreeLine) -> Spans:
    counts = line.counts
    if counts is None or not counts.total:
        return ()
    return cells.bar(counts.done, counts.total, counts.failed, 10, live=line.ended_at_us is None)


def _took(line: TreeLine, now_us: int) -> Spans:
    palette = theme.palette()
    if is_live(line) and line.started_at_us is not None:
        return ((times.running_duration(now_us - line.started_at_us), palette.text),)
    if line.duration_us is None:
        return ()
    return ((times.duration(line.duration_us), palette.dim),)


def why_line(line: TreeLine, now_us: int) -> str:
    """Why a row is where it is, as stored."""
    words = waiting.why_task(line.task, now_us) if line.kind == "task" and line.task is not None else line.cause
    return words or ""


def _columns(view: TreeView) -> Sequence[Column[TreeLine]]:
    def why(line: TreeLine) -> Spans:
        palette = theme.palette()
        bad = line.state_type in ("FAILED", "CRASHED")
        return ((cells.safe(why_line(line, view.now_us())), palette.text if bad else palette.dim),)

    def state(line: TreeLine) -> Spans:
        look = theme.palette().look(line.state_type, line.state_name)
        return ((cells.safe(line.state_name), look.style),)

    def number(line: TreeLine) -> Spans:
        return ((str(line.task.seq) if line.task else "", theme.palette().faint),)

    return (
        Column("number", "NO", number, 5, priority=5, right=True),
        Column("task", "TASK", _label, 24, flex=3, max_width=52),
        Column("state", "STATE", state, 13, max_width=14, flex=1),
        Column("took", "TIME", lambda line: _took(line, view.now_us()), 8, right=True),
        Column("tries", "TRY", lambda line: cells.tries(line.tries), 3, priority=3),
        Column("done", "DONE", _done, 11, right=True, priority=2),
        Column("bar", "", _bar, 10, priority=4),
        Column("why", "WHY", why, 12, flex=5, priority=1),
    )
