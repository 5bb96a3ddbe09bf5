"""The command line of the console: ``:`` and then ``runs state:failed``, ``run 42``, ``cancel 42``, ``flows``, …

``complete`` and ``read`` are pure and also serve the deep links of ``flowdeck tui``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from . import theme
from .actions import BY_ID, TABS, Action, shown_keys
from .cells import safe
from .dialogs import DIALOG_CSS, Words, frame
from .rows import Spans

_MOST_LINES = 12


class Command(NamedTuple):
    """What was typed: a place to go, a verb for a run, or an action of the registry."""

    kind: str
    """``runs``, ``run``, ``flows``, ``verb``, ``trigger`` or ``action``."""
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
    return f"no command {word!r}: runs, run 42, logs 42, flows, trigger, {', '.join(_VERBS)}, help, quit"


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


class Palette(ModalScreen[Command | None]):
    """The prompt with its suggestions."""

    CSS = DIALOG_CSS + "Palette { align: center top; } Palette .dialog { margin-top: 3; width: 76; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+p", "leave", "leave", show=False),
        Binding("down,ctrl+n", "move(1)", "down", show=False),
        Binding("up", "move(-1)", "up", show=False),
        Binding("tab", "take", "complete", show=False, priority=True),
    ]

    def __init__(self, actions: Sequence[Action], keymap: dict[str, str]) -> None:
        super().__init__()
        self._actions = actions
        self._keymap = keymap
        self._at = -1
        self._problem = ""
        self._input = Input(placeholder="runs state:failed · run 42 · cancel 42 · flows", compact=True)
        self._words = Words()

    def compose(self) -> ComposeResult:
        """Prompt and suggestions."""
        self._input.cursor_blink = False
        with Vertical(classes=frame()):
            yield self._input
            yield self._words

    def on_mount(self) -> None:
        """Ready to type."""
        self._input.focus()
        self._say()

    def _found(self) -> list[Suggestion]:
        return complete(self._input.value, self._actions, self._keymap)[:_MOST_LINES]

    def _say(self) -> None:
        palette = theme.palette()
        lines: list[Spans] = []
        for at, each in enumerate(self._found()):
            here = palette.cursor if at == self._at else None
            lines.append(
                ((f" {each.typed:<20}", (palette.accent + here) if here else palette.accent),
                 (f"{each.help:<41}"[:41] + " ", (palette.text + here) if here else palette.dim),
                 (f"{each.keys:>5}", (palette.faint + here) if here else palette.faint)),
            )  # fmt: skip
        lines += [()] * (_MOST_LINES - len(lines))
        lines.append(((safe(self._problem), palette.bad),) if self._problem else
                     (("enter runs it   tab completes   esc leaves", palette.faint),))  # fmt: skip
        self._words.say(lines)

    @on(Input.Changed)
    def _typed(self) -> None:
        self._at = -1
        self._problem = ""
        self._say()

    def action_move(self, step: int) -> None:
        """Another suggestion."""
        found = self._found()
        if found:
            self._at = (self._at + step) % len(found) if self._at >= 0 else (0 if step > 0 else len(found) - 1)
            self._say()

    def action_take(self) -> None:
        """Take the suggestion into the prompt."""
        found = self._found()
        if found:
            taken = found[max(0, self._at)].typed
            self._input.value = taken.removesuffix("42")
            self._input.cursor_position = len(self._input.value)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        found = self._found()
        text = event.value
        if self._at >= 0 and found:
            if found[self._at].typed.endswith(" 42"):
                self.action_take()
                return
            text = found[self._at].typed
        elif isinstance(read(text), str) and found and not found[0].typed.endswith("42") and text.strip():
            text = found[0].typed
        command = read(text)
        if isinstance(command, str):
            self._problem = command
            self._say()
            return
        self.dismiss(command)

    def action_leave(self) -> None:
        """Not after all."""
        self.dismiss(None)
