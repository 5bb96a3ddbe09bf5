"""``pause suspend resume freeze thaw RUN…``, ``cancel RUN[/TASK]…``: asks ``engine.control``, says what came of it.

Each run is asked for on its own: one refusal does not stop the others, and the first one's exit code is the command's.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NamedTuple

from ..engine.errors import NotAllowed, NotFound
from ..store.errors import FlowdeckError
from ..store.rows import RunRow, TaskRow
from .inputs import add_input_options, input_of
from .nodes import NODE_HELP, find_nodes
from .opening import daemon_of, find_run_or_task, folder_of, require_reader
from .output import Output, one_line

if TYPE_CHECKING:
    from ..engine.control.control import Control
    from ..store.reader import Reader


class Answer(NamedTuple):
    """What became of one request."""

    run_id: int | None
    text: str
    error: FlowdeckError | None
    is_queued: bool = True
    """Unless refused: whether the run waits now for a process; False when the person wanted nothing done."""


def configure(command: str, parser: argparse.ArgumentParser) -> None:
    """Define the arguments of one of the requests."""
    help_text = NODE_HELP if command == "cancel" else "42, #42, a run's name, @last or @failed"
    parser.add_argument("runs", metavar="RUN", nargs="+", help=help_text)
    if command == "cancel":
        parser.add_argument("--now", action="store_true",
                            help="kill its processes now, without the grace in which its code could clean up; asking a "
                                 "second time means the same")
    if command == "resume":
        add_input_options(parser)
        parser.add_argument("--here", action="store_true", help="run it now, in this process, without a daemon")
    parser.set_defaults(handler=ask, request=command)


def ask(args: argparse.Namespace, out: Output) -> int:
    """Make the request of each run."""
    here = getattr(args, "here", False)
    reader = require_reader(args, out, f"run {args.runs[0]!r}")
    from ..engine.control.control import Control, actor

    control = Control(folder_of(args), actor=actor(via="cli"))
    answers = [_ask_one(control, reader, args, ref, here=here) for ref in args.runs]
    control.close()
    for answer in answers:
        if answer.error is not None:
            out.complain(str(answer.error))
        elif not out.as_json:
            out.line(f"#{answer.run_id}: {one_line(answer.text)}")
    if out.as_json:
        out.json_array(answer_shape(answer, args.request, reader) for answer in answers)
    code = next((answer.error.exit_code for answer in answers if answer.error is not None), 0)
    waiting = [answer.run_id for answer in answers if answer.run_id is not None and answer.error is None]
    if args.request == "resume" and waiting:
        if here:
            from .running import execute_queued

            codes = [execute_queued(reader.folder, run_id, out) for run_id in waiting]
            return code or next((done for done in codes if done), 0)
        say_who_runs_them(waiting, args.request, reader, out)
    return code


def _ask_one(control: Control, reader: Reader, args: argparse.Namespace, ref: str, *, here: bool) -> Answer:
    request: str = args.request
    if request == "cancel":
        return _cancel(control, reader, ref, at_once=args.now)
    try:
        run, task = find_run_or_task(reader, ref)
    except NotFound as error:
        return Answer(None, ref, error)
    try:
        if task is not None:
            raise NotAllowed(_not_of_a_task(request, run, task))
        if here and run.state_type == "SCHEDULED":
            return Answer(run.id, "was queued already", None)
        if here and reader.lease_of(run.id) is None:
            from .running import flow_of

            flow_of(run)  # one whose code cannot be had stays as it is
        if request == "resume":
            questions = reader.questions(run.id)
            wanting = next((question for question in questions if question.json_schema is not None), None)
            outcome = control.resume(run.id, input_of(args, wanting))
        else:
            outcome = getattr(control, request)(run.id)
    except FlowdeckError as error:
        return Answer(run.id, str(error), error)
    return Answer(outcome.run_id, outcome.text, None)


def _cancel(control: Control, reader: Reader, ref: str, *, at_once: bool) -> Answer:
    """A run, or any part of its tree."""
    try:
        named = find_nodes(reader, ref, unfinished=True)
    except NotFound as error:
        return Answer(None, ref, error)
    try:
        outcome = control.cancel(named.nodes, at_once=at_once)
    except FlowdeckError as error:
        return Answer(named.run.id, str(error), error)
    return Answer(outcome.run_id, outcome.text, None)


def _not_of_a_task(request: str, run: RunRow, task: TaskRow) -> str:
    del task
    return f"{request} is for whole runs: `flowdeck {request} {run.root_id or run.id}`"


def answer_shape(answer: Answer, request: str, reader: Reader) -> dict[str, Any]:
    """What became of a request as JSON."""
    run = None if answer.run_id is None else reader.run(answer.run_id)
    return {
        "run": answer.run_id,
        "request": request,
        "ok": answer.error is None,
        "text": answer.text,
        "state": None if run is None else run.state_type,
        "state_name": None if run is None else run.state_name,
        "intent": None if run is None else run.intent,
    }


def say_who_runs_them(run_ids: list[int], request: str, reader: Reader, out: Output) -> None:
    """A queued run without a daemon starts never: say so, and how to have it run."""
    queued = [run for run_id in run_ids if (run := reader.run(run_id)) is not None and run.state_type == "SCHEDULED"]
    if queued and daemon_of(reader).state != "alive":
        numbers = " ".join(str(run.id) for run in queued)
        out.say(f"queued, but no daemon is running: `flowdeck {request} --here {numbers}` runs it now, "
                "`flowdeck daemon PATH…` takes all that is due", "yellow")
