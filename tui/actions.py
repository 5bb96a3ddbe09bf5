"""The one registry of what a person can do: key, label, place, and what is asked of ``engine.control``.

Footer, help, command palette, key bindings and the README's table are made from it and from nothing else. People
override keys in a file: lines ``run.cancel = X`` in ``$XDG_CONFIG_HOME/flowdeck/keys`` (or where
``FLOWDECK_KEYS`` points).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from ..engine.states.allowed import allowed as control_allows
from ..store.errors import FlowdeckError

Place = Literal["runs", "run", "flows", "limits", "anywhere", "list"]
Verb = Literal["pause", "suspend", "resume", "freeze", "thaw", "cancel", "retry"]
RUN_PLACES: Final[tuple[Place, ...]] = ("runs", "run")
TABS: Final = ("tree", "graph", "logs", "events", "details")


@dataclass(frozen=True)
class Action:
    """One thing a person can do."""

    id: str
    keys: str
    """Textual's names, joined by commas; the first is shown."""
    label: str
    """One or two words for the footer."""
    help: str
    """A sentence for the help screen and the palette."""
    places: tuple[Place, ...]
    verbs: tuple[Verb, ...] = ()
    """What it asks of control; of a pair the one that fits the run's state."""
    confirm: bool = False
    footer: bool = True
    asks: bool = False
    """It changes something: refused when the console is read-only."""
    opens_field: bool = False
    """Something is typed next: keys that came with its key are that text."""


ACTIONS: Final[tuple[Action, ...]] = (
    Action("run.pause", "p", "pause", "Pause the run, or resume it.", RUN_PLACES, ("pause", "resume"), asks=True),
    Action("run.answer", "i", "answer", "Answer what the run asks: a form with its fields.", RUN_PLACES, footer=False,
           asks=True),
    Action("run.suspend", "S", "suspend", "Pause the run and end its process; a resume goes on by replay.", RUN_PLACES,
           ("suspend",), footer=False, asks=True),
    Action("run.cancel", "x", "cancel",
           "Cancel the run, or in its tree or graph the part of it at the cursor; its code sees Cancelled.", RUN_PLACES,
           ("cancel",), confirm=True, asks=True),
    Action("run.retry", "r", "retry",
           "Run it again: what did not complete, from the cursor's row on, everything, other parameters.", RUN_PLACES,
           ("retry",), confirm=True, asks=True),
    Action("run.freeze", "f", "freeze", "Stop all its processes where they stand (SIGSTOP), or let them go on.",
           RUN_PLACES, ("freeze", "thaw"), asks=True),
    Action("schedule.pause", "p", "pause", "Pause the schedule, or resume it.", ("flows",), asks=True),
    Action("limit.pause", "p", "pause", "Pause the limit, so that it holds nobody back, or resume it.", ("limits",),
           asks=True),
    Action("flow.trigger", "t", "trigger", "Run the flow now, with parameters.", ("runs", "run", "flows"), asks=True,
           opens_field=True),
    Action("run.logs", "L", "logs", "Show the log of the run.", ("runs", "run")),
    Action("list.mark", "space", "mark", "Mark the row; verbs then act on all marked rows.", ("runs",), footer=False),
    Action("app.filter", "slash", "filter", "Filter: state:failed flow:etl age:<1h !word, or a regular expression.",
           ("runs",), opens_field=True),
    Action("app.problems", "z", "problems", "Show only what failed or crashed; again: everything.", ("runs",),
           footer=False),
    Action("go.flows", "F", "flows", "Flows, schedules and flow files that do not load.",
           ("runs", "run", "limits")),
    Action("go.limits", "C", "limits", "Concurrency limits: who has their slots, and who waits in which order.",
           ("runs", "run", "flows")),
    Action("go.runs", "R", "runs", "The list of runs.", ("run", "flows", "limits"), footer=False),
    Action("tab.tree", "1", "tree", "The run's tasks as a tree.", ("run",), footer=False),
    Action("tab.graph", "2", "graph", "The run's tasks and what they need, as a graph.", ("run",), footer=False),
    Action("tab.logs", "3", "logs", "What the run logged and printed.", ("run",), footer=False),
    Action("tab.events", "4", "events", "Every change of state and every request, with who asked.", ("run",),
           footer=False),
    Action("tab.details", "5", "details", "Parameters, result, artifacts, process, metrics.", ("run",), footer=False),
    Action("tab.next", "right_square_bracket,tab", "next tab", "The next tab.", ("run",), footer=False),
    Action("tab.previous", "left_square_bracket,shift+tab", "previous tab", "The tab before.", ("run",),
           footer=False),
    Action("run.next", "n", "next run", "The run below this one in the list.", ("run",), footer=False),
    Action("run.previous", "N", "previous run", "The run above this one in the list.", ("run",), footer=False),
    Action("app.palette", "colon,ctrl+p", "command", "Type a command: runs state:failed, run 42, cancel 42, …",
           ("anywhere",), opens_field=True),
    Action("app.help", "question_mark", "help", "The keys that work here.", ("anywhere",)),
    Action("app.back", "escape", "back", "Clear marks or filter, else go back.", ("anywhere",), footer=False),
    Action("app.repaint", "ctrl+r", "repaint", "Read and draw everything again.", ("anywhere",), footer=False),
    Action("app.suspend", "ctrl+z", "suspend", "Put the console into the background; fg brings it back.",
           ("anywhere",), footer=False),
    Action("app.quit", "q", "quit", "Close the console; the daemon and all runs go on.", ("anywhere",)),
)  # fmt: skip
BY_ID: Final[dict[str, Action]] = {action.id: action for action in ACTIONS}

MOVES: Final[tuple[tuple[str, str, str], ...]] = (
    ("list.down", "down,j", "Down."),
    ("list.up", "up,k", "Up."),
    ("list.page_down", "pagedown,ctrl+f", "A screen down."),
    ("list.page_up", "pageup", "A screen up."),
    ("list.half_down", "ctrl+d", "Half a screen down."),
    ("list.half_up", "ctrl+u", "Half a screen up."),
    ("list.first", "home,g", "The first row."),
    ("list.last", "end,G", "The last row."),
    ("list.open", "enter", "Open the row, or fold it."),
    ("list.mark", "space", "Mark the row."),
    ("list.clear_marks", "ctrl+backslash", "Clear the marks."),
)
"""Moving in a list: id, keys, help. The lists' own bindings carry the same ids."""

_KEY_WORDS: Final = {
    "slash": "/", "question_mark": "?", "colon": ":", "escape": "esc",
    "right_square_bracket": "]", "left_square_bracket": "[", "pagedown": "pgdn",
    "pageup": "pgup", "backslash": "\\", "ctrl+backslash": "ctrl+\\",
}  # fmt: skip


class KeysUnreadable(FlowdeckError):
    """The keys file has a line that means nothing; the text names file, line and remedy."""

    exit_code = 2


def key_word(key: str) -> str:
    """A key as people write it."""
    return _KEY_WORDS.get(key, key)


def shown_keys(action: Action, keymap: Mapping[str, str]) -> list[str]:
    """The keys of an action as people write them, overrides in force."""
    return [key_word(key) for key in keymap.get(action.id, action.keys).split(",")]


def at_place(place: Place, *, footer_only: bool = False) -> list[Action]:
    """What can be done in this place, in the registry's order."""
    return [
        action
        for action in ACTIONS
        if (place in action.places or "anywhere" in action.places) and (action.footer or not footer_only)
    ]


def allowed(verb: Verb, state_type: str, state_name: str) -> bool:
    """Whether control would take this request in this state."""
    return control_allows(verb, state_type, state_name)


def fitting_verb(action: Action, states: Iterable[tuple[str, str]]) -> Verb | None:
    """Of the verbs of an action the first that some of these states allow; a pair's second when only it fits."""
    known = list(states)
    for verb in action.verbs:
        if any(allowed(verb, *state) for state in known):
            return verb
    return None


def keys_path(environment: Mapping[str, str] | None = None) -> Path:
    """Where people's own keys stand."""
    env = os.environ if environment is None else environment
    named = env.get("FLOWDECK_KEYS")
    if named:
        return Path(named)
    home = env.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "flowdeck" / "keys"


def read_keymap(path: Path) -> dict[str, str]:
    """People's own keys: id → keys. Empty when there is no file; raises ``KeysUnreadable`` for one that errs."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise KeysUnreadable(f"the keys file {path} cannot be read: {error}") from error
    known = {*BY_ID, *(move for move, _, _ in MOVES)}
    keymap: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#", 1)[0].strip()
        if not words:
            continue
        name, equals, keys = (part.strip() for part in words.partition("="))
        if not equals or not keys:
            raise KeysUnreadable(f"{path}:{number}: write `id = key`, for example `run.cancel = X`")
        if name not in known:
            raise KeysUnreadable(f"{path}:{number}: no action {name!r}; one of {', '.join(sorted(known))}")
        keymap[name] = keys
    return keymap


def table(keymap: Mapping[str, str] | None = None) -> list[tuple[str, str, str]]:
    """``(keys, where, what)`` of everything, for the help screen and the README."""
    chosen = keymap or {}
    lines = [
        (" ".join(key_word(key) for key in chosen.get(name, keys).split(",")), "lists", text)
        for name, keys, text in MOVES
    ]
    for action in ACTIONS:
        if action.id != "list.mark":
            where = "everywhere" if "anywhere" in action.places else ", ".join(action.places)
            lines.append((" ".join(shown_keys(action, chosen)), where, action.help))
    return lines
