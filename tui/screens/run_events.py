"""The events of a run as a list: what changed when, from what, and by whom."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

from ...store.rows import EventRow, TaskRow
from ..clock import now_us
from ..look import cells, theme
from ..look.spans import Spans
from ..models.news import TaskRef
from ..text import times
from ..widgets.columns import Column
from ..widgets.rows import RowView


class EventsView(RowView[int, EventRow]):
    """The events of a run, oldest first: they only grow in number, and their ids with them."""

    def __init__(self, columns: Sequence[Column[EventRow]]) -> None:
        super().__init__(columns, id="events")
        self._ids: list[int] = []

    def show_events(self, events: Sequence[EventRow]) -> None:
        """Show these; where they are what is shown and more, only the new ones are looked at."""
        if len(events) < len(self._ids) or not events:
            self._ids, self.records = [], {}
        at_end = self.cursor >= len(self._ids) - 1
        for event in events[len(self._ids) :]:
            self.records[event.id] = event
            self._ids.append(event.id)
        self.order = self._ids
        self.reordered()
        if at_end:
            self.action_edge(1)

    def index_of(self, key: int) -> int | None:
        """Found by its place in the order of ids."""
        at = bisect_left(self.order, key)
        return at if at < len(self.order) and self.order[at] == key else None


def event_columns(
    tasks: Callable[[], Mapping[TaskRef, TaskRow]], run_id: Callable[[], int | None]
) -> list[Column[EventRow]]:
    """Its columns; ``tasks`` and ``run_id`` are of the run that is shown."""

    def change(event: EventRow) -> Spans:
        palette = theme.palette()
        if event.to_type is None or event.to_name is None:
            return ((f"{event.kind}", palette.accent),)
        look = palette.look(event.to_type, event.to_name)
        return ((f"{look.glyph} {cells.safe(event.to_name)}", look.style),)

    def what(event: EventRow) -> Spans:
        palette = theme.palette()
        if event.task_seq is None:
            return ((f"#{event.run_id}", palette.dim),)
        task = tasks().get((event.run_id or 0, event.task_seq))
        name = cells.safe(task.name) if task is not None else ""
        number = f"{event.task_seq}" if event.run_id == run_id() else f"{event.run_id}/{event.task_seq}"
        return ((f"{number:>4} ", palette.faint), (name, palette.text))

    return [
        Column("at", "AT", lambda event: ((times.narrow(event.at_us, now_us()), theme.palette().dim),), 12),
        Column("what", "WHAT", what, 18, flex=1, max_width=32),
        Column("change", "BECAME", change, 16),
        Column(
            "from", "FROM", lambda event: ((cells.safe(event.from_name or ""), theme.palette().faint),), 12, priority=3
        ),
        Column("actor", "BY", lambda event: cells.actor(event.actor), 12, flex=1, max_width=30, priority=2),
        Column("message", "WHY", lambda event: ((cells.safe(event.message or ""), theme.palette().text),), 16, flex=3),
    ]
