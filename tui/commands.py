"""What a line of the console's command line means: ``runs state:failed``, ``run 42``, ``cancel 42``, ``flows``, …

``complete`` and ``read`` are pure: the palette asks them, and so do the deep links of ``flowdeck tui``. Imports nothing
of Textual.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from .actions import BY_ID, TABS, Action, shown_keys


class Command(NamedTuple):
    """What was typed: a place to go, a verb for a run, or an action of the registry."""

    kind: str
    """``runs``, ``run``, ``flows``, ``limits``, ``verb``, ``trigger`` or ``action``."""
    text: str = ""
    """The filter, the tab, the verb, the flow or the action's id."""
    run_id: int | None = None


class Suggestion(NamedTuple):
    """A line beneath the prompt."""

    typed: str
    help: str
    keys: str = ""


_RUN_WORDS = {"run": "tree", "tree": "tree", "graph": "graph", "logs": "logs", "events": "events",
              "details": "details"}  # fmt: skip
_VERBS = ("pause", "suspend", "resume", "freeze", "thaw", "cancel", "retry")
_FIXED = (
    Suggestion("runs", "the list of runs"),
    Suggestion("runs state:failed", "what failed"),
    Suggestion("runs state:live", "what has not ended"),
    Suggestion("flows", "flows and schedules"),
    Suggestion("limits", "who has slots, who waits for them"),
)
_ACTION_WORDS = {
    "quit": "app.quit", "q": "app.quit", "q!": "app.quit", "help": "app.help", "repaint": "app.repaint",
    "trigger": "flow.trigger", "problems": "app.problems", "filter": "app.filter", "background": "app.suspend",
    "answer": "run.answer",
}  # fmt: skip


def read(text: str) -> Command | str:
    """What a line means, or what is wrong with it."""
    words = text.strip().split(None, 1)
    if not words:
        return "type a command, for example: run 42"
    word, rest = words[0].lower(), words[1].strip() if len(words) > 1 else ""
    if word in ("runs", "ls"):
        return Command("runs", rest)
    if word in ("flows", "schedules", "problems!"):
        return Command("flows")
    if word == "limits" and not rest:
        return Command("limits")
    if re.fullmatch(r"#?\d+", word) and not rest:
        return Command("run", "tree", int(word.lstrip("#")))
    if word in _RUN_WORDS:
        return _about_run(word, rest, "run", _RUN_WORDS[word])
    if word in _VERBS:
        return _about_run(word, rest, "verb", word) if rest else Command("verb", word)
    if word == "trigger" and rest:
        return Command("trigger", rest)
    if word in _ACTION_WORDS and not rest:
        return Command("action", _ACTION_WORDS[word])
    return f"no command {word!r}: runs, run 42, logs 42, flows, limits, trigger, {', '.join(_VERBS)}, help, quit"


def _about_run(word: str, rest: str, kind: str, text: str) -> Command | str:
    found = re.fullmatch(r"#?(\d{1,18})(?:\s+(?:--tab\s+)?(\w+))?", rest)
    if found is None:
        return f"{word} wants a run's number: {word} 42"
    tab = found[2]
    if tab and kind == "run":
        if tab not in TABS:
            return f"no tab {tab!r}: {', '.join(TABS)}"
        text = tab
    return Command(kind, text, int(found[1]))


def complete(typed: str, actions: Sequence[Action], keymap: dict[str, str]) -> list[Suggestion]:
    """What the line may become, best first."""
    every = list(_FIXED)
    for action in actions:
        word = next((word for word, name in _ACTION_WORDS.items() if name == action.id and len(word) > 2), None)
        typed_as = action.verbs[0] if action.verbs else word
        if typed_as and action.id in BY_ID:
            every.append(Suggestion(typed_as, action.help, " ".join(shown_keys(action, keymap))))
        if len(action.verbs) > 1:
            every.append(Suggestion(action.verbs[1], action.help, " ".join(shown_keys(action, keymap))))
    every += [Suggestion(f"{word} 42", f"run 42, {tab}") for word, tab in _RUN_WORDS.items() if word != "tree"]
    typed = typed.strip().lower()
    if not typed:
        return every
    starts = [each for each in every if each.typed.startswith(typed)]
    inside = [each for each in every if each not in starts and (typed in each.typed or typed in each.help.lower())]
    return starts + inside
