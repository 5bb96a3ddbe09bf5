"""Asking something of runs: which of them it fits, whether the person means it, and how it is typed.

What is asked of a part of a run, and the menus of cancel and retry, are in ``parts``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import actions
from .actions import ACTIONS, Action, Verb
from .look.cells import safe
from .shell import Shell

if TYPE_CHECKING:
    from ..store.rows import RunRow
    from .commands import Command
    from .dialogs.confirm import Order

_CONFIRM_NOTES = {
    "cancel": ("Its code sees Cancelled; what does not end within 10 s is killed.", "What finished stays recorded."),
    "retry": ("Finished tasks keep their results.", "Failed ones and what follows them run again."),
}


def ask_verbs(
    app: Shell, action: Action, targets: list[RunRow] | None = None, verb: Verb | None = None,
) -> None:
    """Ask what the action means of these runs, or of those at the cursor; the person first, where nothing undoes it."""
    runs = app.in_sight.targets() if targets is None else targets
    if not runs:
        app.notice("no run here", good=False)
        return
    node = app.in_sight.node() if targets is None else None
    if len(runs) == 1:
        from .parts import ask_of_part

        if ask_of_part(app, action, runs[0], node):
            return
    if verb is None:
        verb = actions.fitting_verb(action, [(run.state_type, run.state_name) for run in runs])
    fitting = [run for run in runs if verb is not None and actions.allowed(verb, run.state_type, run.state_name)]
    if verb is None or not fitting:
        what = f"#{runs[0].id} is {safe(runs[0].state_name)}" if len(runs) == 1 else "none of them is in a state"
        asked = verb or action.verbs[0]
        app.notice(f"{what}: it cannot be asked to {asked}" if len(runs) == 1 else f"{what} to {asked}",
                    good=False)  # fmt: skip
        return
    if not action.confirm:
        send(app, verb, fitting)
        return
    from .dialogs.confirm import Confirm

    noun = f"run #{fitting[0].id}" if len(fitting) == 1 else f"these {len(fitting)} runs"
    things = [f"#{run.id}  {run.flow_name}  {run.name}  ({run.state_name})" for run in fitting]
    sent: Verb = verb
    app.push_screen(
        Confirm(f"{verb.capitalize()} {noun}?", things, _CONFIRM_NOTES.get(verb, ())),
        lambda yes: send(app, sent, fitting) if yes else None,
    )


def answer(app: Shell) -> None:
    """Look what the run under the cursor asks; the form opens when that is known."""
    targets = app.in_sight.targets()
    if len(targets) == 1:
        app.asker.question(targets[0].root_id or targets[0].id)
    else:
        app.notice("runs are answered one by one: clear the marks" if targets else "no run here", good=False)


def send(app: Shell, verb: Verb, runs: list[RunRow]) -> None:
    """Ask this of these runs."""
    waiting_for_input = [run for run in runs if run.state_name == "AwaitingInput"]
    if verb == "resume" and waiting_for_input:
        if len(runs) == 1:
            app.asker.question(runs[0].root_id or runs[0].id)
        else:
            app.notice(f"#{waiting_for_input[0].id} awaits input: runs are answered one by one", good=False)
        return
    app.asker.ask(verb, [run.id for run in runs])
    app.clear_marks()


def trigger(app: Shell, name: str | None = None) -> None:
    """Ask which flow to run, and with what."""
    from .dialogs.confirm import Trigger

    if name is None:
        name = app.in_sight.flow_at_cursor()
    known = sorted(set(app.flows_in_list()))

    def triggered(order: Order | None) -> None:
        if order is not None:
            app.asker.trigger(order.name, order.parameters)

    app.push_screen(Trigger(name, "", known), triggered)


def obey_verb(app: Shell, command: Command) -> None:
    """A verb that was typed, with the number of a run or without."""
    action = next(each for each in ACTIONS if command.text in each.verbs)
    verb = next(each for each in action.verbs if each == command.text)
    if app.read_only:
        app.action_act(action.id)
        return
    targets = None
    if command.run_id is not None:
        run = app.run_in_list(command.run_id)
        if run is None:
            app.asker.ask(verb, [command.run_id]) if not action.confirm else app.notice(
                f"#{command.run_id} is not in the list: open it first (run {command.run_id})", good=False
            )
            return
        targets = [run]
    ask_verbs(app, action, targets, verb)
