"""Cells of the lists: a record in, styled and sanitised pieces out. Text from data enters the console here."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

from ...store.rows import RunRow
from ..text import times
from ..text.filter import took_us
from ..text.progress import Progress
from ..text.sanitize import clean, to_ascii
from . import theme
from .spans import Spans


def safe(text: str) -> str:
    """A text from data, as this terminal may show it."""
    shown = clean(text, limit=2_000)
    return to_ascii(shown) if theme.palette().ascii else shown


Clock = Callable[[], int]
"""Tells this moment in microseconds."""


class RunLine(NamedTuple):
    """One line of the runs list."""

    run: RunRow
    progress: Progress | None
    tries: int = 1


def state(state_type: str, state_name: str) -> Spans:
    """Glyph and name."""
    look = theme.palette().look(state_type, state_name)
    return ((f"{look.glyph} {safe(state_name)}", look.style),)


def run_id(run: RunRow) -> Spans:
    """``#42``."""
    return ((f"#{run.id}", theme.palette().dim),)


def flow_name(line: RunLine) -> Spans:
    """The flow and how often it was tried, when that is more than once; an ended run's in a quieter tone."""
    palette = theme.palette()
    name = (safe(line.run.flow_name), palette.strong if line.run.ended_at_us is None else palette.text)
    return (name, (" ", None), *tries(line.tries)) if line.tries > 1 else (name,)


def started(run: RunRow, now_us: int) -> Spans:
    """When it started; while it waits, when it is to start."""
    palette = theme.palette()
    if run.started_at_us is not None:
        return ((times.clock(run.started_at_us, now_us), palette.dim),)
    return ((times.clock(run.wake_at_us or run.scheduled_at_us, now_us), palette.faint),)


def took(run: RunRow, now_us: int) -> Spans:
    """How long it ran; counts on while it runs."""
    palette = theme.palette()
    span = took_us(run, now_us)
    if span is None:
        return (("–" if not palette.ascii else "-", palette.faint),)
    if run.ended_at_us is None and run.state_type not in ("SCHEDULED", "PAUSED"):
        return ((times.running_duration(span), palette.text),)
    return ((times.duration(span), palette.dim),)


def tries(number: int) -> Spans:
    """How often it was tried, when that is more than once."""
    palette = theme.palette()
    return ((palette.glyph(f"×{number}", f"x{number}"), palette.warn),) if number > 1 else ()


def tasks_done(progress: Progress | None) -> Spans:
    """``12/64``."""
    palette = theme.palette()
    if progress is None or not progress.total:
        return ()
    if progress.done >= progress.total:
        return ((times.number(progress.total), palette.faint),)
    return ((f"{progress.done}/{progress.total}", palette.dim),)


def bar(done: int, total: int, failed: int, width: int, *, live: bool) -> Spans:
    """A bar of so many cells: done, failed, still to do."""
    palette = theme.palette()
    if total <= 0 or width <= 0:
        return ()
    full = width * done // total
    bad = min(full, max(1, round(width * failed / total))) if failed and full else 0
    if failed and not full:
        bad = full = 1
    solid, thin = palette.glyph("━", "="), palette.glyph("─", "-")
    good = palette.accent if live else palette.good
    pieces = []
    if full - bad:
        pieces.append((solid * (full - bad), good))
    if bad:
        pieces.append((solid * bad, palette.bad))
    if width - full:
        pieces.append((thin * (width - full), palette.faint))
    return tuple(pieces)


def progress_bar(line: RunLine, width: int) -> Spans:
    """How far the run is."""
    progress = line.progress
    if progress is None or not progress.total:
        return ()
    if line.run.ended_at_us is not None and not progress.failed:
        return ()
    return bar(progress.done, progress.total, progress.failed, width, live=line.run.ended_at_us is None)


def ticks(recent: tuple[RunRow, ...], count: int) -> Spans:
    """The last runs, oldest first: each its state's glyph."""
    palette = theme.palette()
    pieces = []
    for run in reversed(recent[:count]):
        look = palette.look(run.state_type, run.state_name)
        pieces.append((look.glyph, look.style))
    return tuple(pieces)


def tags(text: str) -> list[str]:
    """The tags of a run, from their JSON array."""
    try:
        values = json.loads(text)
    except ValueError:
        return [safe(text)]
    return [safe(str(value)) for value in values] if isinstance(values, list) else [safe(text)]


def actor(text: str) -> Spans:
    """Who did it."""
    return ((safe(text), theme.palette().faint),)
