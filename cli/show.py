"""``show RUN``: one run in full: its facts, and its tasks as a tree with states, durations, a timeline and causes."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..engine.running.calls.replay import what_next
from ..store.errors import StoreError
from ..store.rows import RunRow, TaskRow
from ..store.states import is_terminal
from ..tui.text.times import ago, stamp, with_ago, zone
from . import marks
from .artifacts import artifact_shape, show_artifacts
from .formats import duration, plural, size
from .inputs import question_lines, question_shape
from .listings import reason, state_cell, took
from .opening import daemon_of, disk_trouble, find_run_or_task, require_reader
from .output import Output, one_line
from .shapes import show_shape, task_index
from .table import Cell, Column
from .tree import ASCII, UNICODE, Line, tree_lines

if TYPE_CHECKING:
    from ..store.reader import Reader

TREE_COLUMNS: Final = (
    Column("SEQ", "right"),
    Column("TASK", min_width=16),
    Column("STATE"),
    Column("TOOK", "right"),
    Column("TIMELINE", drop_order=1),
    Column("WHY", min_width=30, drop_order=2),
)
_TIMELINE_WIDTH: Final = 24
_MAX_SUBFLOW_RUNS: Final = 200
"""Runs inside the run whose tasks are read for the tree; beyond, ``show`` of the subflow has them."""


def configure(command: str, parser: argparse.ArgumentParser) -> None:  # noqa: ARG001 - the module has one command
    """Define the arguments of ``show``."""
    parser.add_argument("run", metavar="RUN", help="42, #42, 42/7, 42/extract[3], a run's name, @last or @failed")
    parser.add_argument("--all", action="store_true", help="every task, nothing folded")
    parser.set_defaults(handler=show)


def show(args: argparse.Namespace, out: Output) -> int:
    """Print the run, or one task of it."""
    reader = require_reader(args, out, f"run {args.run!r}")
    run, task = find_run_or_task(reader, args.run)
    tasks = reader.tasks(run.id) if task is None else [task]
    if out.as_json:
        asks = [question_shape(question) for question in reader.questions(run.id)] if task is None else []
        made = [artifact_shape(row) for row in reader.artifacts(run.id) if task is None or row.task_seq == task.seq]
        out.json_object(show_shape(run, tasks, reader.edges(run.id)) | {"asks": asks, "artifacts": made})
        return 0
    now_us = time.time_ns() // 1000
    if task is None:
        _show_run(run, tasks, reader, args, out, now_us)
    else:
        _show_task(run, task, reader, out, now_us)
    return 0


def _show_run(
    run: RunRow, tasks: Sequence[TaskRow], reader: Reader, args: argparse.Namespace, out: Output, now_us: int
) -> None:
    _headline(f"#{run.id} {one_line(run.flow_name)}", run.state_type, run.state_name, took(run, now_us), out)
    because = reason(run, now_us, daemon_of(reader), reader.tries(run), disk_trouble(reader.folder))
    if because:
        _fact("why", because, out, style="red" if run.state_type in ("FAILED", "CRASHED") else "yellow")
    _fact("name", run.name, out)
    for key, value in json.loads(run.parameters).items():
        _fact("parameter", f"{key} = {json.dumps(value, ensure_ascii=False)}", out)
    if run.result_preview and run.state_type == "COMPLETED":
        _fact("result", run.result_preview, out)
    if run.started_at_us is None:
        _fact("starts", with_ago(stamp(run.scheduled_at_us, now_us), run.scheduled_at_us, now_us), out)
    else:
        _fact("started", with_ago(stamp(run.started_at_us, now_us), run.started_at_us, now_us), out)
    if run.ended_at_us is not None:
        _fact("ended", with_ago(stamp(run.ended_at_us, now_us), run.ended_at_us, now_us), out)
    _fact("zone", zone(now_us), out)
    tags = json.loads(run.tags)
    if tags:
        _fact("tags", ", ".join(map(str, tags)), out)
    if run.parent_run_id is not None:
        place = f"/{run.parent_seq}" if run.parent_seq else ""
        waits = ", which waits for it" if run.root_id is None and run.parent_seq is not None else ""
        name = "inside" if run.root_id is not None else "asked by"
        _fact(name, f"{run.parent_run_id}{place}{waits}", out)
    for child in reader.asked_for(run.id):
        waited = "" if child.parent_seq is None or child.ended_at_us is not None else ", waited for"
        _fact("had run", f"#{child.id} {child.flow_name}: {child.state_name}{waited}", out)
    if run.retry_of is not None:
        made = next(iter(reader.events(run_id=run.id, limit=1)), None)
        known = made is not None and made.message is not None and made.message.startswith("forked")
        _fact("retry of", str(made.message) if known and made is not None else f"#{run.retry_of}", out)
    _fact("made by", run.actor + (f", deployment {run.deployment}" if run.deployment else ""), out)
    if run.entrypoint:
        _fact("from", run.entrypoint, out)
    if run.state_type == "PAUSED" or run.state_name == "Pausing":
        for heading, text in question_lines(reader, run.id):
            _fact(heading, text, out, style="bold" if heading == "answer" else "")
    out.line()
    if tasks:
        out.line(_counts(tasks, out))
        tasks_of = _tasks_inside(run, tasks, reader)
        branches = UNICODE if out.unicode else ASCII
        window = (run.started_at_us or run.created_at_us, run.ended_at_us or now_us)
        lines = tree_lines(run.id, tasks_of, branches=branches, fold=not args.all)
        anew = reader.reasons_again(run.id) if run.attempt > 1 else {}
        out.table(TREE_COLUMNS, [_tree_cells(line, run.id, window, now_us, out, anew) for line in lines])
    else:
        out.line(out.paint("no task has started", "dim"))
    show_artifacts(reader.artifacts(run.id), reader, out)
    _hints(run, reader, out)


def _headline(title: str, state_type: str, state_name: str, span: str, out: Output) -> None:
    mark = marks.glyph(state_type, state_name, unicode=out.unicode)
    style = marks.style(state_type, state_name)
    after = f" after {span}" if span and is_terminal(state_type, state_name) else f" for {span}" if span else ""
    out.line(f"{out.paint(mark, style)} {out.paint(title, 'bold')}  "
             f"{out.paint(one_line(state_name), style)}{out.paint(after, 'dim')}")


def _fact(name: str, text: str, out: Output, *, style: str = "") -> None:
    shown = out.fit(one_line(text), indent=14) if name in ("parameter", "result") else one_line(text)
    out.line(f"  {out.paint(f'{name:<10}', 'dim')}  {out.paint(shown, style)}")


def _counts(tasks: Sequence[TaskRow], out: Output) -> str:
    counted = Counter((task.state_type, task.state_name) for task in tasks)
    parts = [out.paint(f"{count:,} {marks.words(name)}", marks.style(kind, name))
             for (kind, name), count in sorted(counted.items(), key=lambda item: -item[1])]
    return f"{plural(len(tasks), 'task')}: {', '.join(parts)}"


def _tasks_inside(run: RunRow, tasks: Sequence[TaskRow], reader: Reader) -> dict[int, Sequence[TaskRow]]:
    """Tasks of the run and of the subflow runs under it."""
    found: dict[int, Sequence[TaskRow]] = {run.id: tasks}
    waiting = [task.child_run_id for task in tasks if task.child_run_id is not None]
    while waiting and len(found) < _MAX_SUBFLOW_RUNS:
        child = waiting.pop(0)
        if child not in found:
            found[child] = reader.tasks(child)
            waiting += [task.child_run_id for task in found[child] if task.child_run_id is not None]
    return found


def _tree_cells(
    line: Line, run_id: int, window: tuple[int, int], now_us: int, out: Output, anew: Mapping[int, str]
) -> list[Cell]:
    label = Cell(line.prefix + one_line(line.label))
    task = line.task
    if task is None:
        return [Cell(""), label._replace(style="bold" if line.fold else "dim"), *_fold_cells(line.fold, window, out)]
    again = anew.get(task.seq) if task.run_id == run_id else None
    ref = str(task.seq) if task.run_id == run_id else f"{task.run_id}/{task.seq}"
    return [
        Cell(ref, "dim"),
        label,
        state_cell(task.state_type, task.state_name, out),
        Cell(_task_took(task, now_us), "dim"),
        _timeline([task], window, now_us, out),
        out.cell(_task_why(task, now_us, again), marks.style(task.state_type, task.state_name)),
    ]


def _fold_cells(tasks: Sequence[TaskRow], window: tuple[int, int], out: Output) -> list[Cell]:
    if not tasks:
        return [Cell("")] * 4
    kinds = Counter((task.state_type, task.state_name) for task in tasks)
    (kind, name), count = max(kinds.items(), key=lambda item: (item[0][0] in ("FAILED", "CRASHED"), item[1]))
    starts = [task.started_at_us for task in tasks if task.started_at_us is not None]
    ends = [task.ended_at_us for task in tasks if task.ended_at_us is not None]
    span = duration(max(ends) - min(starts)) if starts and len(ends) == len(tasks) else ""
    state = state_cell(kind, name, out)
    if len(kinds) > 1:
        state = state._replace(text=f"{state.text} {count:,}")
    others = ", ".join(f"{number:,} {marks.words(other)}" for (_, other), number in kinds.items() if other != name)
    return [state, Cell(span, "dim"), _timeline(tasks, window, window[1], out), out.cell(others, "dim")]


def _task_took(task: TaskRow, now_us: int) -> str:
    if task.duration_us is not None:
        return duration(task.duration_us)
    if _is_running(task) and task.started_at_us is not None:
        return duration(now_us - task.started_at_us)
    return ""


def _is_running(task: TaskRow) -> bool:
    """Not while it waits: for its next attempt, for a slot or a person."""
    return task.state_type in ("RUNNING", "CANCELLING")


def _task_why(task: TaskRow, now_us: int, anew: str | None = None) -> str:
    """Why it is as it is; ``anew``: why an attempt of the run made it again."""
    tells = task.state_type != "COMPLETED" or task.state_name in ("Cached", "RolledBack")
    parts = [task.cause] if task.cause and tells else []
    if anew is not None:
        parts.append(f"again: {anew}")
    if task.state_type == "SCHEDULED" and task.wake_at_us is not None:
        parts.append(f"again {ago(task.wake_at_us, now_us)}")
    if task.attempt > 1:
        parts.append(f"attempt {task.attempt}")
    return "; ".join(parts)


def _next(run: RunRow, task: TaskRow, reader: Reader) -> str:
    """What a retry of the run would do with the task, as far as it is known before."""
    if not is_terminal(run.state_type, run.state_name):
        return ""
    verdicts = what_next(reader.tasks(run.id), reader.result_codecs(run.id), reader.edges(run.id))
    return next((verdict.why for verdict in verdicts if verdict.row.seq == task.seq), "")


def _timeline(tasks: Sequence[TaskRow], window: tuple[int, int], now_us: int, out: Output) -> Cell:
    """Where in the run's time the tasks ran, as a bar."""
    starts = [task.started_at_us for task in tasks if task.started_at_us is not None]
    if not starts:
        return Cell("")
    begin, end = window
    length = max(end - begin, 1)
    left = min(starts)
    right = max(
        task.ended_at_us or (now_us if _is_running(task) else task.started_at_us)
        for task in tasks if task.started_at_us is not None
    )  # fmt: skip
    first = min(max((left - begin) * _TIMELINE_WIDTH // length, 0), _TIMELINE_WIDTH - 1)
    after = min(max(-((begin - right) * _TIMELINE_WIDTH // length), first + 1), _TIMELINE_WIDTH)
    bar = ("━" if out.unicode else "=") * (after - first)
    worst = max(tasks, key=lambda task: task.state_type in ("FAILED", "CRASHED"))
    return Cell(" " * first + bar, marks.style(worst.state_type, worst.state_name))


def _hints(run: RunRow, reader: Reader, out: Output) -> None:
    try:
        lines = reader.log_count(run.root_id or run.id)
    except StoreError as error:  # output stands in a file of its own, and all else was shown
        out.say(f"its output cannot be read: {one_line(str(error))}", "yellow")
    else:
        out.say(f"{plural(lines, 'line')} of output: `flowdeck logs {run.id}`", "dim")
    if run.state_type in ("FAILED", "CRASHED", "CANCELLED"):
        out.say(f"again, from what did not complete: `flowdeck retry {run.id}`", "dim")
    elif run.state_type == "PAUSED" and run.state_name != "AwaitingInput":
        out.say(f"go on: `flowdeck resume {run.id}`", "dim")


def _show_task(run: RunRow, task: TaskRow, reader: Reader, out: Output, now_us: int) -> None:
    title = f"{run.id}/{task.seq} {one_line(task.key)}[{task_index(task)}]"
    _headline(title, task.state_type, task.state_name, _task_took(task, now_us), out)
    facts: list[tuple[str, Any]] = [
        ("why", _task_why(task, now_us, reader.reasons_again(run.id).get(task.seq) if run.attempt > 1 else None)),
        ("a retry", _next(run, task, reader)),
        ("name", task.name),
        ("of", f"#{run.id} {run.flow_name} · {run.name}"),
        ("started", "" if task.started_at_us is None else with_ago(
            stamp(task.started_at_us, now_us), task.started_at_us, now_us)),
        ("ended", "" if task.ended_at_us is None else stamp(task.ended_at_us, now_us)),
        ("zone", "" if task.started_at_us is None else zone(now_us)),
        ("CPU", "" if task.cpu_us is None else duration(task.cpu_us)),
        ("memory", "" if task.peak_rss_bytes is None else f"{size(task.peak_rss_bytes)} at most"),
        ("subflow", "" if task.child_run_id is None else f"#{task.child_run_id}"),
        ("needs", ", ".join(f"{edge.from_run_id}/{edge.from_seq}" for edge in reader.edges(run.id)
                            if edge.to_seq == task.seq)),
    ]
    result = reader.result(run.id, task.seq)
    if result is not None and task.state_type == "COMPLETED":
        facts.append(("result", f"{result.preview}  ({result.codec}, {size(result.size_bytes)})"))
    for name, text in facts:
        if text:
            style = "red" if name == "why" and task.state_type in ("FAILED", "CRASHED") else ""
            _fact(name, text, out, style=style)
    show_artifacts([row for row in reader.artifacts(run.id) if row.task_seq == task.seq], reader, out)
    out.say(f"what it wrote: `flowdeck logs {run.id}/{task.seq}`", "dim")
    if task.state_type in ("FAILED", "CRASHED", "CANCELLED") and run.ended_at_us is not None:
        out.say(f"again from here: `flowdeck retry {run.id}/{task.seq}`; go on without it: "
                f"`flowdeck set-state {run.id}/{task.seq} completed --result JSON`", "dim")
    elif task.state_type == "PAUSED":
        out.say(f"give it an outcome by hand: `flowdeck set-state {run.id}/{task.seq} completed --result JSON`", "dim")
