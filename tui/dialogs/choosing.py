"""Dialogs that offer several ways on: which part to cancel, what to retry, with what. To leave is the default."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import Input

from ..look import theme
from ..look.cells import safe
from ..look.spans import Span, Spans
from .confirm import DIALOG_CSS, Words, frame, read_parameters

_DETAIL_GAP = 3


class Option(NamedTuple):
    """One way on."""

    key: str
    """The letter that takes it at once."""
    text: str
    detail: str = ""
    about: tuple[str, ...] = ()
    """Lines shown while it is chosen: what exactly would happen."""


class Choose(ModalScreen[str | None]):
    """A question with several answers; the first leaves everything as it is and is chosen at the start."""

    CSS = DIALOG_CSS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,n", "leave", "leave", show=False),
        Binding("up,k,shift+tab", "step(-1)", "up", show=False),
        Binding("down,j,tab", "step(1)", "down", show=False),
        Binding("enter", "take", "take", show=False),
    ]

    def __init__(self, question: str, options: Sequence[Option], notes: Sequence[str] = ()) -> None:
        super().__init__()
        self._question = question
        self._options = (Option("n", "No, leave it as it is"), *options)
        self._notes = tuple(notes)
        self._chosen = 0
        self._words = Words()

    def compose(self) -> ComposeResult:
        """Words only."""
        with Vertical(classes=frame()):
            yield self._words

    def on_mount(self) -> None:
        """Say it."""
        self._say()

    def _say(self) -> None:
        palette = theme.palette()
        lines: list[Spans] = [((safe(self._question), palette.strong),), ()]
        wide = max(cell_len(safe(option.text)) for option in self._options)
        for number, option in enumerate(self._options):
            at_cursor = number == self._chosen
            text = safe(option.text)
            pieces: list[Span] = [(palette.glyph(" ▸ ", " > ") if at_cursor else "   ", palette.accent),
                                  (f" {option.key} ", palette.accent), (" ", None),
                                  (text, palette.cursor + palette.strong if at_cursor else palette.text)]
            if option.detail:
                pieces.append((" " * (wide - cell_len(text) + _DETAIL_GAP) + safe(option.detail), palette.dim))
            lines.append(tuple(pieces))
        about = self._options[self._chosen].about
        tallest = max(len(option.about) for option in self._options)
        if tallest:
            lines.append(())
            lines += [((f"  {safe(line)}", palette.dim),) for line in about]
            lines += [()] * (tallest - len(about))
        if self._notes:
            lines.append(())
            lines += [((safe(note), palette.warn),) for note in self._notes]
        self._words.say(lines)

    def action_step(self, step: int) -> None:
        """The next or previous answer."""
        self._chosen = (self._chosen + step) % len(self._options)
        self._say()

    def action_take(self) -> None:
        """The answer that is chosen."""
        self.dismiss(self._options[self._chosen].key if self._chosen else None)

    def action_leave(self) -> None:
        """Not after all."""
        self.dismiss(None)

    def on_key(self, event: Key) -> None:
        """A letter takes its answer."""
        for option in self._options[1:]:
            if event.key == option.key:
                event.stop()
                self.dismiss(option.key)


class Parameters(ModalScreen[dict[str, Any] | None]):
    """The parameters of a new run, beginning with those of the old one."""

    CSS = DIALOG_CSS
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "leave", show=False)]

    def __init__(self, title: str, given: Mapping[str, Any]) -> None:
        super().__init__()
        self._title = title
        self._given = dict(given)
        text = " ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in given.items())
        self._input = Input(value=safe(text), placeholder="name=value", id="retry-parameters", compact=True)
        self._problem = Words()

    def compose(self) -> ComposeResult:
        """One line to edit."""
        palette = theme.palette()
        self._input.cursor_blink = False
        with Vertical(classes=frame()):
            yield Words([((safe(self._title), palette.strong),), (), (("Parameters, as name=value", palette.dim),)])
            yield self._input
            yield self._problem

    def on_mount(self) -> None:
        """Keys go to the line."""
        self._hint()
        self._input.focus()

    def _hint(self, problem: str = "") -> None:
        palette = theme.palette()
        words = problem or "enter makes the new run, esc leaves it"
        self._problem.say([((safe(words), palette.bad if problem else palette.faint),)])

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        try:
            values = read_parameters(self._input.value)
        except ValueError as error:
            self._hint(str(error))
            return
        self.dismiss(values.but([name for name, value in values.items() if self._given.get(name, values) == value]))

    def action_leave(self) -> None:
        """Not after all."""
        self.dismiss(None)
