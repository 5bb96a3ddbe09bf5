"""``submit FLOW``: queues a run for the daemon and prints its number, the one thing a script needs.

``--wait`` stays until the run has ended, ``--follow`` prints meanwhile what it writes; both end with its exit code.
Interrupted, the run goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ..engine.errors import NotFound
from .opening import daemon_of, folder_of, require_reader
from .output import Output, one_line
from .parameters import add_parameter_option, check_values, parse_parameters
from .shapes import run_shape

if TYPE_CHECKING:
    from pathlib import Path

    from ..store.reader import Reader
    from ..store.rows import DeploymentRow, RunRow


def configure(command: str, parser: argparse.ArgumentParser) -> None:  # noqa: ARG001 - the module has one command
    """Define the arguments of ``submit``."""
    parser.add_argument("flow", metavar="FLOW", help="a name that `flowdeck flows` lists")
    add_parameter_option(parser)
    parser.add_argument("-w", "--wait", action="store_true", help="until the run ends; its exit code is the command's")
    parser.add_argument("-f", "--follow", action="store_true", help="as --wait, and print what the run writes")
    parser.set_defaults(handler=submit)


def submit(args: argparse.Namespace, out: Output) -> int:
    """Queue the run."""
    reader = require_reader(args, out, f"flow {args.flow!r}")
    deployment = _deployment(reader, args.flow)

    def schema() -> Mapping[str, Any]:
        found: Mapping[str, Any] = json.loads(deployment.parameters_schema)
        return found

    parameters = parse_parameters(args.param, schema)
    check_values(parameters, schema())
    from ..engine.control.control import Control, actor

    run_id = Control(folder_of(args), actor=actor(via="cli")).trigger(deployment.name, parameters)
    run = reader.run(run_id)
    if run is None:
        raise NotFound(f"run #{run_id} was deleted as soon as it was queued")
    waits = args.wait or args.follow
    if args.follow:
        out.say(f"#{run_id} {one_line(run.flow_name)}", "dim")  # standard output has what it writes
    elif not out.as_json:
        out.line(str(run_id))
    elif not waits:
        out.json_object(run_shape(run))
    out.flush()
    if daemon_of(reader).state != "alive":
        out.say("queued, but no daemon is running: `flowdeck daemon PATH…` takes it", "yellow")
    return _stay(reader, folder_of(args), run, args, out) if waits else 0


def _stay(reader: Reader, folder: Path, run: RunRow, args: argparse.Namespace, out: Output) -> int:
    """Until the run ends; its exit code."""
    from .following import exit_code, tell_end, until_end

    try:
        if args.follow:
            from .logs import follow_run

            return follow_run(reader, folder, run, out)
        ended = until_end(folder, reader, run, out, _Waiting(reader, run, out).tell)
    except KeyboardInterrupt:
        out.say(f"run #{run.id} goes on; `flowdeck cancel {run.id}` ends it, `flowdeck logs -f {run.id}` follows it")
        raise
    if out.as_json:
        out.json_object(run_shape(ended))
    else:
        tell_end(ended, out, here=False)
    return exit_code(ended)


class _Waiting:
    """Says once when the run has come to wait for somebody."""

    def __init__(self, reader: Reader, run: RunRow, out: Output) -> None:
        self._reader = reader
        self._id = run.id
        self._out = out
        self._told = ""

    def tell(self) -> None:
        run = self._reader.run(self._id)
        waits = "" if run is None or run.state_type != "PAUSED" else f"{run.state_name}: {one_line(run.cause or '')}"
        if waits and waits != self._told:
            self._out.say(f"#{self._id} {waits}; `flowdeck show {self._id}` says how to go on", "yellow")
        self._told = waits


def _deployment(reader: Reader, name: str) -> DeploymentRow:
    known = reader.deployments()
    for deployment in known:
        if deployment.name == name:
            return deployment
    by_flow = [deployment for deployment in known if deployment.flow_name == name]
    if len(by_flow) == 1:
        return by_flow[0]
    near = get_close_matches(name, [deployment.name for deployment in known], n=1)
    hint = f"did you mean {near[0]!r}?" if near else "`flowdeck flows` lists them"
    raise NotFound(f"no flow {name!r} that the daemon knows; {hint}")
