"""``submit FLOW``: queues a run for the daemon and prints its number, the one thing a script needs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ..engine.errors import NotFound
from .opening import daemon_of, folder_of, require_reader
from .output import Output
from .parameters import add_parameter_option, check_values, parse_parameters
from .shapes import run_shape

if TYPE_CHECKING:
    from ..store.reader import Reader
    from ..store.rows import DeploymentRow


def configure(command: str, parser: argparse.ArgumentParser) -> None:  # noqa: ARG001 - the module has one command
    """Define the arguments of ``submit``."""
    parser.add_argument("flow", metavar="FLOW", help="a name that `flowdeck flows` lists")
    add_parameter_option(parser)
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
    if out.as_json and run is not None:
        out.json_object(run_shape(run))
    else:
        out.line(str(run_id))
    if daemon_of(reader).state != "alive":
        out.say("queued, but no daemon is running: `flowdeck daemon PATH…` takes it", "yellow")
    return 0


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
