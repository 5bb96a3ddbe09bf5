"""``run FILE[:FLOW]``: runs a flow here and now, in this process, recorded like any other; no daemon needed.

What the flow prints and logs appears as it happens. The exit code is the run's: 0 completed, 1 failed or crashed,
75 goes on later (suspended), 130 cancelled; what is wrong with the file or the parameters is 2, before anything is
recorded.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.errors import NotAllowed, NotFound, ParameterError
from ..store.opening import open_store
from ..store.reader import Reader
from ..store.rows import RunRow
from .following import tell_end
from .opening import folder_of, open_reader
from .output import Output, one_line
from .parameters import add_parameter_option, parse_parameters
from .shapes import run_shape

if TYPE_CHECKING:
    from ..engine.authoring.flows import Flow


def configure(command: str, parser: argparse.ArgumentParser) -> None:  # noqa: ARG001 - the module has one command
    """Define the arguments of ``run``."""
    parser.add_argument("target", metavar="FILE[:FLOW]", help="a flow file, and which of its flows if it has several")
    add_parameter_option(parser)
    parser.add_argument("--plan", action="store_true", help="show what would run and why; run nothing")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace, out: Output) -> int:
    """Run the flow; its exit code is ours."""
    from ..engine.authoring.loader import find_flow

    path, name = split_target(args.target)
    from ..engine.secrets.secret import conceal_known

    conceal_known()  # before the file is imported: what it raises is shown
    flow = find_flow(path, name)
    given = parse_parameters(args.param, flow.parameters_schema)
    try:
        flow.validate_parameters(given)
    except ParameterError as error:
        raise ParameterError(f"{error}. Give parameters as -p NAME=VALUE") from None
    if args.plan:
        from .plan import show_plan

        reader = open_reader(args, out)
        show_plan(flow, flow.parameters.bind((), given), reader, out)
        return 0
    folder = folder_of(args)
    open_store(folder)
    from ..engine.running.run_process.claiming import make_run

    bound = flow.parameters.bind((), given)
    return _execute(folder, make_run(folder, flow, bound, "cli"), 1, flow, out, bound)


def flow_of(row: RunRow) -> Flow[..., Any]:
    """The code of a run, loaded where the run ran; raises what is wrong with it, before anything is asked."""
    from ..engine.running.run_process.claiming import go_back

    if row.entrypoint is None:
        raise NotAllowed(f"run #{row.id} cannot run here: its flow is in no file; run the script that made it")
    go_back(row)  # what stands in the way is said by the run itself
    return _loaded(row.entrypoint)


@cache
def _loaded(entrypoint: str) -> Flow[..., Any]:
    """Once in a process: what a file does as it is imported is not to be done twice."""
    from ..engine.authoring.loader import find_flow

    path, _, name = entrypoint.rpartition(":")
    return find_flow(path, name)


def execute_queued(folder: Path, run_id: int, out: Output) -> int:
    """Take a run that waits for its time or a daemon, and run it in this process."""
    from ..engine.running.run_process.claiming import claim_here

    with Reader(folder) as reader:
        row = reader.run(run_id)
    if row is None:
        raise NotFound(f"there is no run #{run_id} any more")
    flow = flow_of(row)
    return _execute(folder, run_id, claim_here(folder, run_id), flow, out)


def _execute(
    folder: Path, run_id: int, attempt: int, flow: Flow[..., Any], out: Output, given: dict[str, Any] | None = None
) -> int:
    from ..engine.running.run_process.entry import execute_run

    if not out.as_json:
        out.say(f"#{run_id} {one_line(flow.name)}", "dim")
    out.flush()
    # With --json standard output holds the run and nothing else; what it wrote is in its log.
    from ..engine.running.run_process.python_ending import as_script

    with as_script(sys.modules[flow.fn.__module__]):
        code = execute_run(
            folder, run_id, attempt, flow, echo=not out.as_json, given=given, resumable=False
        )
    with Reader(folder) as reader:
        row = reader.run(run_id)
    if row is None:
        return code
    if out.as_json:
        out.json_object(run_shape(row))
    else:
        tell_end(row, out, here=True)
    return code


def split_target(target: str) -> tuple[str, str | None]:
    """``FILE`` and ``FLOW`` of ``FILE[:FLOW]``; a file whose own name holds a colon is taken as it is."""
    if os.path.exists(target):
        return target, None
    path, colon, name = target.rpartition(":")
    return (path, name) if colon and path and name else (target, None)
