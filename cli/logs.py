"""``logs RUN``: what a run, its tasks and the programs they started wrote, in order; ``-f`` follows to the run's end.

Lines that still wait in the run's spool file are stored first, so that what is shown is what was written. Where they
cannot be stored (a full disk, a store that is not to be written) they are shown from there. ``-f`` ends with the run's
exit code.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Final

from ..engine.errors import NotFound, UsageError
from ..store.patterns import Pattern, PatternError
from ..store.rows import LogRow, RunRow, TaskRow
from ..store.states import is_terminal
from ..tui.text.sanitize import clean
from ..tui.text.times import moment, zone
from .events import POLL_SECONDS
from .following import exit_code, tell_end, until_end
from .formats import LEVELS, level_name
from .listings import count_argument, reason
from .opening import daemon_of, find_run_or_task, folder_of, require_reader
from .output import Output, one_line
from .shapes import log_shape, task_index

if TYPE_CHECKING:
    from pathlib import Path

    from ..store.connection import Connection
    from ..store.reader import Reader

_PAGE: Final = 1000
_ROW_SECONDS: Final = 2.0
"""How long a task's row may come behind its first line."""
_LAST_LINES_SECONDS: Final = 2.0
"""How long an ended run's process may take to store its last lines."""
_LIVE_SECONDS: Final = 0.1
_MOST_LIVE: Final = 8
"""Rows below the lines."""
_LEVEL_STYLES: Final = ((50, "bold red"), (40, "red"), (30, "yellow"), (20, ""), (0, "dim"))


def configure(command: str, parser: argparse.ArgumentParser) -> None:  # noqa: ARG001 - the module has one command
    """Define the arguments of ``logs``."""
    parser.add_argument("run", metavar="RUN", help="42, #42, 42/7, 42/extract[3], a run's name, @last or @failed")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the run ends, with its exit code")
    parser.add_argument("--task", metavar="T", help="lines of this task only: 7, extract[3], or extract for all of it")
    parser.add_argument("--level", metavar="L", help="this level and above: debug, info, warning, error, or a number")
    parser.add_argument("--grep", metavar="RE", help="lines whose message matches this regular expression")
    parser.add_argument("--raw", action="store_true", help="messages as they were written, escape sequences and all")
    parser.add_argument("-n", "--tail", metavar="N", type=count_argument, help="only the last so many lines")
    parser.set_defaults(handler=logs)


def logs(args: argparse.Namespace, out: Output) -> int:
    """Print the run's lines."""
    pattern, min_level = _pattern(args.grep), _level(args.level)
    reader = require_reader(args, out, f"run {args.run!r}")
    run, task = find_run_or_task(reader, args.run)
    chosen = _Selection(reader, run, task, args.task)
    lines = _Lines(reader, folder_of(args), run, chosen, pattern, min_level, out, is_raw=args.raw)
    lines.store_spooled()
    stored: Iterable[LogRow] = lines.fresh() if args.follow else chain(lines.fresh(), lines.waiting())
    if args.tail is not None:
        stored = deque(stored, maxlen=args.tail) if args.tail else deque(stored, maxlen=0)
    if not args.follow:
        if out.as_json:
            out.json_array(map(log_shape, stored))
        else:
            _print(stored, lines, out)
            _print(lines.unfinished(), lines, out)
        return 0
    _print(stored, lines, out)
    if run.state_type in ("SCHEDULED", "PAUSED"):
        out.say(f"#{run.id} {reason(run, time.time_ns() // 1000, daemon_of(reader))}", "dim")
    return _follow(lines, out)


def follow_run(reader: Reader, folder: Path, run: RunRow, out: Output) -> int:
    """Print all that the run writes until it ends; returns its exit code."""
    return _follow(_Lines(reader, folder, run, _Selection(reader, run, None, None), None, 0, out), out)


def _pattern(text: str | None) -> Pattern | None:
    if text is None:
        return None
    try:
        return Pattern(text)
    except PatternError as error:
        raise UsageError(f"--grep: {error}") from None


def _level(text: str | None) -> int:
    if text is None:
        return 0
    if text.isdecimal():
        return int(text)
    level = LEVELS.get(text.upper())
    if level is None:
        raise UsageError(f"--level: no level {text!r}; take debug, info, warning, error, critical or a number")
    return level


class _Selection:
    """Which tasks' lines are wanted; a task may begin long after somebody asked for its lines."""

    def __init__(self, reader: Reader, run: RunRow, task: TaskRow | None, named: str | None) -> None:
        self._reader = reader
        self._run = run
        self.seq = None if task is None else task.seq
        self._key: str | None = None
        self._tasks: dict[tuple[int, int], TaskRow | None] = {}
        if named is None:
            return
        if named.isdecimal():
            self.seq = int(named)
        elif (found := reader.find_task(f"{run.id}/{named}")) is not None and "[" in named:
            self.seq = found.seq
        elif is_terminal(run.state_type) and found is None:
            raise NotFound(f"run #{run.id} has no task {named!r}; `flowdeck show {run.id}` lists its tasks")
        else:
            self._key = named

    def __call__(self, line: LogRow) -> bool:
        """Whether the line is wanted; those of one seq are chosen by the store already."""
        if self.seq is not None:
            return line.task_seq == self.seq
        if self._key is None:
            return True
        if line.run_id != self._run.id or (task := self.task_of(line)) is None:
            return False
        if f"{task.key}[{task_index(task)}]" == self._key:
            self.seq = task.seq  # this call and no other: a second map has a member of that number, too
            return True
        return self._key in (task.key, task.name)

    @property
    def narrows(self) -> bool:
        """Whether only some tasks' lines are wanted."""
        return self._key is not None or self.seq is not None

    def task_of(self, line: LogRow) -> TaskRow | None:
        """The row of a line's task; None when it has none, which it gets a moment after its first lines."""
        if line.task_seq is None:
            return None
        place = (line.run_id, line.task_seq)
        if place not in self._tasks:
            found = self._reader.tasks_changed(line.run_id, [line.task_seq])
            if not found:
                return None
            self._tasks[place] = found[0]
        return self._tasks[place]

    def label(self, line: LogRow) -> str:
        """The task of a line for people; empty for the flow's own."""
        if line.task_seq is None:
            return ""
        task = self.task_of(line)
        if task is None:
            return f"{line.run_id}/{line.task_seq}"
        return task.key if task.map_index is None else f"{task.key}[{task_index(task)}]"


class _Lines:
    """The lines somebody asked for, each handed out once."""

    def __init__(
        self, reader: Reader, folder: Path, run: RunRow, selection: _Selection, pattern: Pattern | None,
        min_level: int, out: Output, *, is_raw: bool = False,
    ) -> None:
        self._out = out
        self.is_raw = is_raw
        """Whether messages are wanted as they were written."""
        self.reader = reader
        self.folder = folder
        self.run = run
        self.root_id = run.root_id or run.id
        self.selection = selection
        self._pattern = pattern
        self._min_level = min_level
        self._next_line = 0
        self._telemetry: Connection | None = None
        # A subflow's lines stand among those of the run it lives in.
        self._of_run = run.id if run.id != self.root_id or selection.narrows else None
        self._unknown: tuple[int, float] = (-1, 0.0)
        """The line whose task is not known yet, and until when its row is waited for."""
        self._why_waiting: str | None = None
        """Why what is in the run's spool cannot be stored; None while it can."""

    def fresh(self) -> Iterator[LogRow]:
        """Lines stored since the last call."""
        while True:
            found = self.reader.search_logs(
                self.root_id, min_level=self._min_level, run_id=self._of_run, task_seq=self.selection.seq,
                pattern=self._pattern, from_line=self._next_line, limit=_PAGE,
            )
            self._next_line = found.next_line
            for line in found.rows:
                if line.task_seq is not None and self.selection.task_of(line) is None and self._may_be_known(line):
                    self._next_line = line.line
                    return
                if self.selection(line):
                    yield line
            if found.done:
                return

    def _may_be_known(self, line: LogRow) -> bool:
        """Whether to wait for the row of a line's task: it is written some milliseconds after its first lines."""
        if self._unknown[0] != line.line:
            self._unknown = (line.line, time.monotonic() + _ROW_SECONDS)
        return time.monotonic() < self._unknown[1] and not self.has_ended()

    def unfinished(self) -> list[LogRow]:
        """Wanted lines as they are now, of which more is to come: progress bars."""
        from ..store import spool
        from ..store.connection import connect
        from ..store.errors import StoreError

        root = self.reader.run(self.root_id)
        if root is None or self.has_ended():
            return []
        try:
            telemetry = connect(self.folder, "telemetry", readonly=True)
            try:
                found = spool.unfinished_lines(self.folder, telemetry, self.root_id, root.attempt)
            finally:
                telemetry.close()
        except StoreError:
            return []  # what is wrong with it was said when its lines were read
        return [line for line in found if self._is_wanted(line)]

    def has_ended(self) -> bool:
        """Whether the run ended and no process of it holds a lease any more."""
        run = self.reader.run(self.run.id)
        return run is None or (is_terminal(run.state_type) and self.reader.lease_of(self.root_id) is None)

    def store_spooled(self) -> None:
        """Move into the store what still waits in the run's spool; where that cannot be, say why, once."""
        from ..store import spool
        from ..store.connection import connect
        from ..store.errors import StoreError, StoreReadOnly

        root = self.reader.run(self.root_id)
        if root is None or not self._is_spooled(root.attempt):
            return
        try:
            if self._telemetry is None:
                self._telemetry = connect(self.folder, "telemetry")
            if not self.has_ended():
                spool.drain(self.folder, self._telemetry, self.root_id, root.attempt, live=True)
            elif not self._are_stored_by_their_process(root.attempt):
                spool.drain_leftovers(self.folder)
        except StoreError as error:
            if self._why_waiting is None and not isinstance(error, StoreReadOnly):
                self._out.say(f"the newest lines are not in the store yet: {one_line(str(error))}", "yellow")
            self._why_waiting = str(error)
        else:
            self._why_waiting = None

    def _are_stored_by_their_process(self, attempt: int) -> bool:
        """An ended run's process stores its last lines itself, just after it gave up the run; if it still can."""
        deadline = time.monotonic() + _LAST_LINES_SECONDS
        while self._is_spooled(attempt) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return not self._is_spooled(attempt)

    def waiting(self) -> Iterator[LogRow]:
        """Wanted lines that could not be stored, from where they wait."""
        from ..store import spool
        from ..store.connection import connect

        root = self.reader.run(self.root_id)
        if root is None or self._why_waiting is None:
            return
        telemetry = connect(self.folder, "telemetry", readonly=True)
        try:
            for line in spool.waiting_lines(self.folder, telemetry, self.root_id, root.attempt):
                if self._is_wanted(line):
                    yield line
        finally:
            telemetry.close()

    def _is_wanted(self, line: LogRow) -> bool:
        return bool(line.level >= self._min_level and self._of_run in (None, line.run_id) and self.selection(line)
                    and (self._pattern is None or self._pattern.search(line.message)))

    def _is_spooled(self, attempt: int) -> bool:
        from ..store.spool import spool_path
        from ..store.spool_lines import KINDS

        return any(os.path.exists(spool_path(self.folder, self.root_id, attempt, kind)) for kind in KINDS)


def _follow(lines: _Lines, out: Output) -> int:
    live = _Live(lines, out)

    def print_news() -> None:
        lines.store_spooled()
        live.print(lines.fresh())

    ended = until_end(lines.folder, lines.reader, lines.run, out, print_news, live.look)
    live.print(lines.waiting())
    if not out.as_json:
        tell_end(ended, out, here=False)
    return exit_code(ended)


class _Live:
    """Below the lines that are stored, on a terminal: those that are still being drawn, drawn over again."""

    def __init__(self, lines: _Lines, out: Output) -> None:
        self._lines = lines
        self._out = out
        self._shown: list[str] = []
        self._next = 0.0

    def print(self, found: Iterable[LogRow]) -> None:
        """Print lines for good."""
        self._draw([])
        _print(found, self._lines, self._out)
        self._next = 0.0

    def look(self) -> None:
        """Show what is being drawn, as it is now."""
        if not self._out.terminal or self._out.as_json or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _LIVE_SECONDS
        lines = self._lines.unfinished()[-_MOST_LIVE:]
        now_us, selection = time.time_ns() // 1000, self._lines.selection
        self._draw([self._out.fit(_text(line, now_us, selection, self._out, paint=False)) for line in lines])

    def _draw(self, texts: list[str]) -> None:
        if texts != self._shown:
            self._out.draw(texts, over=len(self._shown))
            self._shown = texts


def _print(found: Iterable[LogRow], lines: _Lines, out: Output) -> None:
    now_us = time.time_ns() // 1000
    for line in found:
        if out.as_json:
            out.json_line(log_shape(line))
        elif lines.is_raw:
            out.raw(_text(line, now_us, lines.selection, out, is_raw=True))
        else:
            out.say_once(f"times: {zone(now_us)}", "dim")
            out.line(_text(line, now_us, lines.selection, out))
    out.flush()


def _text(
    line: LogRow, now_us: int, selection: _Selection, out: Output, *, is_raw: bool = False, paint: bool = True,
) -> str:  # fmt: skip
    label = one_line(selection.label(line))
    style = next(style for floor, style in _LEVEL_STYLES if line.level >= floor)
    if is_raw:
        message = line.message
    elif out.terminal:
        message = _one_row(line.message)
    else:  # for programs: whole, with its tabs
        message = "\t".join(clean(part, limit=len(part)) for part in line.message.split("\t"))
    styles = ("dim", style, "cyan", style if line.level >= 40 else "") if paint else ("",) * 4
    at_text = moment(line.at_us, now_us, milliseconds=True)
    texts = (at_text, f"{level_name(line.level):<8}", f"{label}: " if label else "", message)
    at, level, place, said = (
        out.paint(text, one) if one and text else text for text, one in zip(texts, styles, strict=True)
    )
    return f"{at} {level}{place}{said}"


def _one_row(message: str) -> str:
    """A stored line is one on the screen; what older versions stored of a progress bar is its last state."""
    if "\r" in message:
        from ..store.drawn_lines import as_drawn

        message = as_drawn(message)
    return clean(message)
