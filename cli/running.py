"""``run FILE[:FLOW]``: runs a flow here and now, in this process, recorded like any other; no daemon needed.

What the flow prints and logs appears as it happens. The exit code is the run's: 0 completed, 1 failed or crashed,
130 cancelled; what is wrong with the file or the parameters is 2, before anything is recorded.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING, Any

from ..engine.errors import NotAllowed
from ..store.reader import Reader
from ..store.rows import RunRow
from . import marks
from .formats import duration
from .opening import folder_of
from .output import Output, one_line
from .parameters import add_parameter_option, parse_parameters
from .shapes import run_shape

if TYPE_CHECKING:
    from ..engine.flows import Flow


def configure(command: str, parser: argparse.ArgumentParser) -> None:  # noqa: ARG001 - the module has one command
    """Define the arguments of ``run``."""
    parser.add_argument("target", metavar="FILE[:FLOW]", help="a flow file, and which of its flows if it has several")
    add_parameter_option(parser)
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace, out: Output) -> int:
    """Run the flow; its exit code is ours."""
    from ..engine.loader import find_flow

    path, name = split_target(args.target)
    flow = find_flow(path, name)
    parameters = flow.validate_parameters(parse_parameters(args.param, flow.parameters_schema))
    return _execute_new(args, out, flow, parameters, path)


def split_target(target: str) -> tuple[str, str | None]:
    """``FILE`` and ``FLOW`` of ``FILE[:FLOW]``; a file whose own name holds a colon is taken as it is."""
    if os.path.exists(target):
        return target, None
    path, colon, name = target.rpartition(":")
    return (path, name) if colon and path and name else (target, None)
