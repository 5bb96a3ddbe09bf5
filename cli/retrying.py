"""``retry RUN[/TASK]…`` and ``set-state RUN/TASK STATE``: what runs again is said first, then asked for.

From its failures a run is retried at once. Where finished work would be done anew a terminal is asked first, default
no; ``--plan`` only shows. With ``-p`` it becomes a new run, forked at that step.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from ..engine.errors import NotAllowed, UsageError
from ..store.errors import FlowdeckError
from .control import Answer, answer_shape, say_who_runs_them
from .nodes import NODE_HELP, Named, find_nodes
from .opening import folder_of, require_reader
from .output import Output, one_line
from .parameters import add_parameter_option, parse_parameters

if TYPE_CHECKING:
    from ..engine.control.control import Control, Plan
    from ..store.reader import Reader
    from ..store.rows import RunRow
    from ..store.tables.nodes import Node


def configure(command: str, parser: argparse.ArgumentParser) -> None:
    """Define the arguments of ``retry`` or ``set-state``."""
    if command == "set-state":
        parser.add_argument("tasks", metavar="RUN/TASK", help="42/7 or 42/extract[3]")
        parser.add_argument("state", choices=("completed", "skipped"), help="what it is to count as")
        parser.add_argument("--result", metavar="JSON", help="the value it gives when completed; null without")
        parser.set_defaults(handler=set_state)
        return
    parser.add_argument("runs", metavar="RUN", nargs="+", help=NODE_HELP)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--failed", action="store_true", help="only what did not complete (a run's default)")
    which.add_argument("--all", action="store_true", help="everything, also what had completed")
    add_parameter_option(parser)
    parser.add_argument("--plan", action="store_true", help="show what would run again; ask nothing")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask before finished work is done anew")
    parser.add_argument("--here", action="store_true", help="run it now, in this process, without a daemon")
    parser.set_defaults(handler=retry)


def retry(args: argparse.Namespace, out: Output) -> int:
    """Plan, perhaps ask, and request the retry of each run tree that was named."""
    reader = require_reader(args, out, f"run {args.runs[0]!r}")
    from ..engine.control.control import Control, actor

    control = Control(folder_of(args), actor=actor(via="cli"))
    try:
        asked, answers = _by_root(reader, args)
        if args.param and len(asked) > 1:
            raise UsageError("-p makes one new run: name one run, or tasks of one")
        plans: list[dict[str, Any]] = []
        for of_root in asked:
            answers.append(_ask(control, reader, of_root, args, out, plans))
    finally:
        control.close()
    return _tell(answers, plans, reader, args, out)


def _by_root(reader: Reader, args: argparse.Namespace) -> tuple[list[list[Named]], list[Answer]]:
    """What was named, by the run that has to be retried for it; and what was not found."""
    found: dict[int, list[Named]] = {}
    answers: list[Answer] = []
    for ref in args.runs:
        try:
            named = find_nodes(reader, ref, rows_too=args.failed)
        except FlowdeckError as error:
            answers.append(Answer(None, ref, error))
            continue
        if args.failed and named.rows:
            named = _only_failed(named, ref)
        found.setdefault(named.root_id, []).append(named)
    return list(found.values()), answers


def _only_failed(named: Named, ref: str) -> Named:
    from ..store.tables.nodes import Node

    rows = [row for row in named.rows if row.state_type != "COMPLETED"]
    if not rows:
        raise NotAllowed(f"every call of {ref} has completed: leave out --failed to run it again")
    return named._replace(nodes=[Node(row.run_id, row.seq) for row in rows], rows=rows)


def _ask(
    control: Control, reader: Reader, of_root: list[Named], args: argparse.Namespace, out: Output,
    plans: list[dict[str, Any]],
) -> Answer:
    nodes: list[Node] = [node for named in of_root for node in named.nodes]
    run = of_root[0].run
    root = reader.run(of_root[0].root_id) or run
    try:
        if args.here and root.state_type == "SCHEDULED" and not args.param:
            return Answer(root.id, "was queued already", None)
        parameters = parse_parameters(args.param, lambda: _schema(reader, root)) if args.param else None
        kind: Literal["failed", "all"] = "all" if args.all else "failed"
        plan = control.plan_retry(nodes, kind)
        if args.plan:
            plans.append(plan_shape(plan))
            if not out.as_json:
                for line in plan.in_words():
                    out.line(one_line(line) if not line.startswith("  ") else f"  {one_line(line.strip())}")
            return Answer(root.id, "", None)
        if plan.affects_more_than_failed and parameters is None and not args.yes and not _agreed(plan, out):
            return Answer(root.id, "left as it is", None, is_queued=False)
        if args.here:
            from .running import flow_of

            flow_of(root)  # a run whose code cannot be had keeps its end
        outcome = control.retry(nodes, kind, parameters=parameters)
    except FlowdeckError as error:
        return Answer(root.id, str(error), error)
    return Answer(outcome.run_id, outcome.text, None)


def _agreed(plan: Plan, out: Output) -> bool:
    """Whether the person at the terminal wants finished work done anew; a script has said so by asking."""
    if not sys.stdin.isatty() or out.as_json:
        return True
    for line in plan.in_words():
        out.say(one_line(line) if not line.startswith("  ") else f"  {one_line(line.strip())}")
    return out.ask("Run these again? [y/N] ").lower() in ("y", "yes")


def _schema(reader: Reader, root: RunRow) -> Mapping[str, Any]:
    """What its parameters take: by its deployment, else by what they were."""
    known = next((one for one in reader.deployments() if one.name == root.deployment), None)
    if known is not None:
        found: Mapping[str, Any] = json.loads(known.parameters_schema)
        return found
    given = json.loads(root.parameters)
    return {"properties": {name: {"type": "string"} for name, value in given.items() if isinstance(value, str)}}


def plan_shape(plan: Plan) -> dict[str, Any]:
    """A plan as JSON."""
    return {
        "run": plan.root_id, "what": plan.kind, "of": plan.target, "again": len(plan.again), "kept": plan.kept,
        "given_up": len(plan.reset),
        "tasks": [{"run": part.run_id, "key": part.key, "calls": part.calls, "completed": part.lost}
                  for part in plan.parts],
    }  # fmt: skip


def _tell(
    answers: list[Answer], plans: list[dict[str, Any]], reader: Reader, args: argparse.Namespace, out: Output
) -> int:
    for answer in answers:
        if answer.error is not None:
            out.complain(str(answer.error))
        elif not out.as_json and not args.plan:
            out.line(f"#{answer.run_id}: {one_line(answer.text)}")
    if out.as_json:
        out.json_array(plans if args.plan else (answer_shape(answer, "retry", reader) for answer in answers))
    code = next((answer.error.exit_code for answer in answers if answer.error is not None), 0)
    waiting = [
        answer.run_id for answer in answers if answer.run_id is not None and answer.error is None and answer.is_queued
    ]
    if args.plan or not waiting:
        return code
    if args.here:
        from .running import execute_queued

        # Also one that somebody else took meanwhile: then it says so.
        codes = [execute_queued(reader.folder, run_id, out) for run_id in waiting]
        return code or next((done for done in codes if done), 0)
    say_who_runs_them(waiting, "retry", reader, out)
    return code


def set_state(args: argparse.Namespace, out: Output) -> int:
    """Decide for one task, or for all failed calls of a map."""
    reader = require_reader(args, out, f"task {args.tasks!r}")
    named = find_nodes(reader, args.tasks)
    if not named.rows:
        raise UsageError(f"{args.tasks} is a run: name a task of it, as {named.run.id}/1")
    if args.result is not None and args.state == "skipped":
        raise UsageError("a skipped task gives no result: leave out --result, or say completed")
    try:
        value = None if args.result is None else json.loads(args.result)
    except ValueError as error:
        raise UsageError(f"--result takes JSON, as --result '\"text\"' or --result '[1, 2]': {error}") from None
    if len(named.rows) > 1:
        named = _only_failed(named, args.tasks)
    from ..engine.control.control import Control, actor
    from ..store.tables.nodes import Node

    control = Control(folder_of(args), actor=actor(via="cli"))
    try:
        texts = [control.set_state(Node(row.run_id, row.seq), args.state, value).text for row in named.rows]
    finally:
        control.close()
    if out.as_json:
        from .shapes import task_shape, upstream_by_task

        upstream = upstream_by_task(named.run.id, reader.edges(named.run.id))
        rows = reader.tasks_changed(named.run.id, [row.seq for row in named.rows])
        out.json_array(task_shape(row, upstream.get(row.seq, ())) for row in rows)
    else:
        for text in texts:
            out.line(one_line(text))
    return 0
