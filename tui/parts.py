"""Asking something of a part of a run, or offering several ways on: the dialogs of cancel and retry, and their answers.

What is offered is worked out by ``engine.control`` (its plans) on the asker's thread; here it is only put into words.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from . import actions
from .dialogs.choosing import Choose, Option, Parameters
from .shell import NodeAt, Shell

if TYPE_CHECKING:
    from ..engine.control.control import Plan
    from ..store.rows import RunRow
    from .actions import Action
    from .asks import Planned

_MOST_PARTS: Final = 5
_CANCEL_NOTES: Final = (
    "Its code sees Cancelled; what does not end within 10 s is left behind.",
    "The rest of the run goes on, unless it needs what this would have given.",
)


def ask_of_part(app: Shell, action: Action, run: RunRow, node: NodeAt | None) -> bool:
    """Where there are several ways on, offer them; False when the action is simply asked of the run."""
    if action.id == "run.retry":
        if run.root_id is None and not actions.allowed("retry", run.state_type, run.state_name):
            return False
        app.asker.plan(run.id, node.node if node is not None else None, node.label if node is not None else "")
        return True
    if action.id != "run.cancel" or node is None or not node.unfinished:
        return False
    if not actions.allowed("cancel", run.state_type, run.state_name):
        return False
    calls = f"{node.unfinished} unfinished calls" if node.unfinished > 1 else "it has not ended"
    wanted = node.node

    def take(key: str | None) -> None:
        if key == "y":
            app.asker.cancel(wanted)
        elif key == "a":
            app.asker.ask("cancel", [run.id])
            app.clear_marks()

    options = (Option("y", "Yes, only this", calls), Option("a", f"The whole run #{run.id} {run.flow_name}"))
    app.push_screen(Choose(f"Cancel {node.label}?", options, _CANCEL_NOTES), take)
    return True


def offer_retry(app: Shell, planned: Planned) -> None:
    """The ways to run it again, each with what it would do."""
    run = next((run for run in app.in_sight.targets() if run.id == planned.run_id), None)
    options = [_retry("f", "Only what did not complete", planned.failed)]
    if planned.here is not None:
        options.append(_retry("h", f"From {planned.label} on", planned.here))
    options.append(_retry("a", "Everything", planned.everything))
    if run is not None and run.root_id is None:
        where = f"forked at {planned.label}" if planned.here is not None else "forked from it"
        options.append(Option("w", "With other parameters…", "a new run", (f"{where}, with the finished work kept",)))
    notes = [] if app.daemon.state == "alive" else [
        f"No daemon is running: it is queued until one starts, or `flowdeck retry --here {planned.run_id}`."]
    target = planned.node if planned.node is not None else planned.run_id

    def with_parameters(values: dict[str, Any] | None) -> None:
        if values is not None:
            app.asker.retry(target, "failed", values)

    def take(key: str | None) -> None:
        match key:
            case "f":
                app.asker.retry(planned.run_id)
            case "h":
                app.asker.retry(target)
            case "a":
                app.asker.retry(planned.run_id, "all")
            case "w" if run is not None:
                title = f"Run #{run.id} {run.flow_name} again as a new run"
                app.push_screen(Parameters(title, json.loads(run.parameters)), with_parameters)

    name = f"#{planned.run_id}" + (f" {run.flow_name}" if run is not None else "")
    app.push_screen(Choose(f"Retry {name}?", options, notes), take)


def _retry(key: str, text: str, plan: Plan) -> Option:
    count = len(plan.again)
    about = [line.strip() for line in plan.in_words()[1:]]
    if len(about) > _MOST_PARTS:
        about[_MOST_PARTS - 1 : -1] = [f"and {len(about) - _MOST_PARTS} more tasks"]
    return Option(key, text, f"{count} {'call' if count == 1 else 'calls'} again, {plan.kept} kept", tuple(about))
