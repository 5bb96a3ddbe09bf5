"""The palette: a prompt for the command line of the console, with its suggestions beneath."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from ..actions import Action
from ..commands import Command, Suggestion, complete, read
from ..look import theme
from ..look.cells import safe
from ..look.spans import Spans
from .confirm import DIALOG_CSS, Words, frame

_MOST_LINES = 12


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + theme.palette().glyph("…", "~")


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
                 (f"{_cut(each.help, 41):<41} ", (palette.text + here) if here else palette.dim),
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
