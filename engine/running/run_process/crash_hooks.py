"""``on_crashed`` of a run whose process died before it could call it: in a process that its code host makes for that.

Only where the daemon has the flow's file loaded, and only when the run is not resumed. The hooks see the run as its
row tells it, their output is the run's, and they have ``LONGEST_SECONDS``.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ....store.connection import connect
from ....store.tables import runs
from ...secrets.secret import conceal_known
from ...states.state import State
from ..calls.flow_run import FlowRun
from ..calls.hooks import RunHooks
from .claiming import stored_parameters
from .session import Session

if TYPE_CHECKING:
    from ...authoring.flows import Flow

LONGEST_SECONDS: Final = 300


def run_crash_hooks(folder: Path, run_id: int, flow: Flow[Any, Any]) -> int:
    """Call the hooks, if the run is still what they are for; returns the exit code."""
    connection = connect(folder, "state", readonly=True)
    try:
        row = runs.get(connection, run_id)
    finally:
        connection.close()
    if row is None or row.state_type != "CRASHED":
        return 0  # somebody retries it already
    signal.alarm(LONGEST_SECONDS)
    conceal_known()
    session = Session(folder, run_id, row.attempt, echo=False)
    try:
        parameters, _ = stored_parameters(folder, row, flow)
        run = FlowRun(session, flow, run_id, row.attempt, parameters, state=(row.state_type, row.state_name))
        session.capture.start()
        RunHooks(flow.hooks["on_crashed"], flow, run, State(row.state_type, row.state_name, row.cause)).perform(
            session
        )
    finally:
        session.close()
    return 0
