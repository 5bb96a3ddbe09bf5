"""The columns of a list: how wide each may be, which give way when there is little room, and what they show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..look.spans import Spans

R = TypeVar("R")

GAP = 2
"""Cells between columns."""
LATE = 4
"""Columns of this priority and above are shown only when every other has what it wishes for."""


@dataclass(frozen=True)
class Column(Generic[R]):
    """One column: how wide it may be, when it gives way, and what it shows."""

    key: str
    title: str
    draw: Callable[[R], Spans]
    width: int
    """Its width, or with ``flex`` the least it accepts."""
    flex: int = 0
    """Share of the room that is left."""
    max_width: int = 10_000
    wish: int = 0
    """The width it should have before columns of priority ``LATE`` and above get any room."""
    priority: int = 0
    """When there is no room, columns of the highest number vanish first; 0 stays for ever."""
    right: bool = False


def share(columns: Sequence[Column[R]], room: int) -> list[int]:
    """Column widths after the flexible ones took their share of the room that is left."""
    widths = [column.width for column in columns]
    open_columns = [at for at, column in enumerate(columns) if column.flex and widths[at] < column.max_width]
    while room > 0 and open_columns:
        total = sum(columns[at].flex for at in open_columns)
        before = room
        for at in list(open_columns):
            extra = min(max(1, before * columns[at].flex // total), columns[at].max_width - widths[at], room)
            widths[at] += extra
            room -= extra
            if widths[at] >= columns[at].max_width:
                open_columns.remove(at)
    return widths
