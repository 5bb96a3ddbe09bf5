"""What stands over the tabs of a run: its state, name and progress, and beneath it why it is as it is."""

from __future__ import annotations

from rich.style import Style

from ...store.rows import RunRow, TaskRow
from ...store.states import is_terminal
from ...store.tables.nodes import Node
from ..actions import TABS
from ..clock import now_us
from ..look import cells, theme
from ..look.spans import Span, Spans
from ..models.tree_parts import TreeLine
from ..shell import NodeAt
from ..text import times, waiting
from ..text.waiting import Daemon
from ..widgets.tree_view import why_line

_BAR_CELLS = 12
_TITLES = {"tree": "Tree", "graph": "Graph", "logs": "Logs", "events": "Events", "details": "Details"}


def head_of(run: RunRow, tries: int, progress: tuple[int, int, int]) -> tuple[Spans, Spans]:
    """The first line, left and right; ``progress`` is how many of its tasks are done, how many there are and failed."""
    palette, moment = theme.palette(), now_us()
    look = palette.look(run.state_type, run.state_name)
    left: list[Span] = [
        (f"  {look.glyph} {cells.safe(run.state_name)}", look.style + Style(bold=True)),
        (f"   {cells.safe(run.flow_name)}", palette.strong),
        (f"  {cells.safe(run.name)}", palette.dim),
    ]
    if tries > 1:
        left.append((f"  try {tries}", palette.warn))
    right: list[Span] = list(cells.took(run, moment))
    done, total, failed = progress
    if total:
        right.append(("   ", None))
        right += cells.bar(done, total, failed, _BAR_CELLS, live=run.ended_at_us is None)
        right.append((f" {done}/{total}", palette.dim))
    right.append(("  ", None))
    return tuple(left), tuple(right)


def why_of(run: RunRow, daemon: Daemon) -> tuple[Spans, Spans]:
    """The second line: the reason of its state, since when, and who started it."""
    palette, moment = theme.palette(), now_us()
    words = cells.safe(waiting.why(run, moment, daemon))
    started = f"started {times.clock(run.started_at_us, moment)}" if run.started_at_us else "not started"
    tone = palette.text if run.state_type in ("FAILED", "CRASHED") else palette.dim
    by = f"by {cells.safe(run.actor)}  "
    return (("    ", None), (words or started, tone)), ((f"{started} {by}" if words else by, palette.faint),)


def tabs_of(shown: str) -> Spans:
    """The tabs with their keys, the one that is shown underlined."""
    palette = theme.palette()
    spans: list[Span] = [("  ", None)]
    for number, tab in enumerate(TABS, 1):
        here = tab == shown
        spans.append((f"{number} ", palette.accent if here else palette.faint))
        spans.append((_TITLES[tab], palette.strong + Style(underline=True) if here else palette.dim))
        spans.append(("   ", None))
    return tuple(spans)


def line_at_cursor(line: TreeLine) -> tuple[Spans, Spans]:
    """A row of the tree, its name and its reason at full length."""
    palette = theme.palette()
    bad = line.state_type in ("FAILED", "CRASHED")
    where = f"{line.task.run_id}/{line.task.seq}  " if line.task is not None else ""
    left: Spans = (
        ("  ", None), (cells.safe(line.label), palette.text), ("  ", None),
        (cells.safe(why_line(line, now_us())), palette.text if bad else palette.dim),
    )  # fmt: skip
    return left, ((where, palette.faint),)


def node_of(task: TaskRow, name: str, beneath: int) -> NodeAt:
    """A task as the verbs take it, with how many unfinished calls are beneath it."""
    label = f"{name} ({task.run_id}/{task.seq})"
    if task.child_run_id is not None:
        label = f"subflow {name} (#{task.child_run_id})"
    live = not is_terminal(task.state_type, task.state_name)
    return NodeAt(Node(task.run_id, task.seq), label, beneath + live)
