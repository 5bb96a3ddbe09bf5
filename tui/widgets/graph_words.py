"""What the graph says of a node: a group's bar, and in the last line its name, state, times and reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..clock import now_us
from ..look import cells, theme
from ..look.spans import Span, Spans
from ..models.graph_fold import GROUP_BAR_CELLS
from ..models.graph_model import NodeState
from ..models.tree_parts import Counts
from ..text import times, waiting

if TYPE_CHECKING:
    pass


_GAP: Final[Span] = ("   ", None)


def group_bar(counts: Counts) -> Spans:
    """How far a group is: a bar whose rest does not look like a line of the graph."""
    palette = theme.palette()
    cells_of = GROUP_BAR_CELLS
    done = cells_of * counts.done // counts.total
    bad = max(1, round(cells_of * counts.failed / counts.total)) if counts.failed else 0
    good = max(0, done - bad)
    live = counts.running or counts.waiting
    full, rest = palette.glyph("━", "="), palette.glyph("·", ".")
    pieces = [
        (" ", None),
        (full * good, palette.accent if live else palette.good),
        (full * bad, palette.bad),
        (rest * (cells_of - good - bad), palette.faint),
    ]
    return tuple((text, style) for text, style in pieces if text)


def counted(counts: Counts) -> list[Span]:
    """How many of a group are in which kind of state."""
    palette = theme.palette()
    named = (
        (counts.failed, "failed", palette.bad), (counts.running, "running", palette.accent),
        (counts.waiting, "waiting", palette.dim), (counts.cancelled, "cancelled", palette.dim),
        (counts.completed, "completed", palette.good),
    )  # fmt: skip
    spans: list[Span] = []
    for count, word, style in named:
        if count:
            spans += [(f"{times.number(count)} {word}", style), ("  ", None)]
    return spans


def about(state: NodeState, label: str, needs: int, feeds: int) -> Spans:
    """The node at the cursor, for the last line."""
    palette = theme.palette()
    look = palette.look(state.state_type, state.state_name)
    spans: list[Span] = [(f"{look.glyph} ", look.style), (label, palette.bar_key), _GAP]
    spans += counted(state.counts) if state.counts is not None else _about_task(state)
    if needs or feeds:
        spans.append((f"needs {needs}, feeds {feeds}", palette.bar_text))
    return tuple(spans)


def _about_task(state: NodeState) -> list[Span]:
    palette = theme.palette()
    look = palette.look(state.state_type, state.state_name)
    spans: list[Span] = [(cells.safe(state.state_name), look.style), _GAP]
    task = state.task
    if task is not None:
        if task.duration_us is not None:
            spans += [(times.duration(task.duration_us), None), _GAP]
        if task.attempt > 1:
            spans += [(f"attempt {task.attempt}", palette.warn), _GAP]
        if words := waiting.why_task(task, now_us()):
            spans += [(cells.safe(words), palette.text), _GAP]
    return spans
