"""Dialogs: confirm what cannot be undone, trigger a flow, the keys that work here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input

from ..actions import MOVES, Action, key_word, shown_keys
from ..look import theme
from ..look.cells import safe
from ..look.spans import Span, Spans, fit_spans, spans_width
from ..widgets.text_view import TextView
from .raw_text import RawText

if TYPE_CHECKING:
    from ...engine.control.control import TypedValues

_NARROW = 20
_WORD = re.compile(r"\s*\S+\s*|\s+")
_HELP_WIDTH = 84
_HELP_FRAME = 7
"""Border, padding and scroll bar of the help."""
MANY = 5
"""More objects than this want their number typed."""
DIALOG_CSS = """
Confirm, Trigger, Help, Choose, Parameters { align: center middle; }
ModalScreen { background: $background 60%; }
ModalScreen:ansi { background: ansi_default; }
.dialog { width: 70; max-width: 96%; height: auto; max-height: 90%; padding: 1 2; background: $surface;
          border: round $primary 60%; }
.dialog:ansi { border: round ansi_blue; background: ansi_default; }
.dialog.ascii { border: ascii $primary; }
.dialog Input { border: none; height: 1; padding: 0; background: $background; margin: 0 0 1 0; }
"""


def wrap(spans: Spans, width: int) -> list[Spans]:
    """A line as lines that fit, broken between words; those that follow are indented a little more than the first."""
    if spans_width(spans) <= width or width < _NARROW:
        return [spans]
    text = "".join(piece for piece, _ in spans)
    indent = " " * min(len(text) - len(text.lstrip()) + 2, width // 2)
    lines: list[Spans] = []
    line: list[Span] = []
    used = 0
    for piece, style in spans:
        for word in _WORD.findall(piece):
            if used + cell_len(word.rstrip()) > width and used > len(indent):
                lines.append(tuple(line))
                line, used, word = [(indent, None)], len(indent), word.lstrip()
            line.append((word, style))
            used += cell_len(word)
    return [*lines, tuple(line)]


class Words(Widget):
    """Some fixed lines inside a dialog; what does not fit goes on in the next."""

    DEFAULT_CSS = "Words { height: auto; width: 1fr; }"

    def __init__(self, lines: Sequence[Spans] = (), *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.lines = list(lines)

    def say(self, lines: Sequence[Spans]) -> None:
        """Show these lines from now on."""
        if list(lines) != self.lines:
            before = self._wrapped(self.size.width)
            self.lines = list(lines)
            self.refresh(layout=len(before) != len(self._wrapped(self.size.width)))

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        """As many as there are at this width."""
        del container, viewport
        return len(self._wrapped(width))

    def _wrapped(self, width: int) -> list[Spans]:
        return [part for line in self.lines for part in wrap(line, width)]

    def render_line(self, y: int) -> Strip:
        """One of the lines."""
        palette = theme.palette()
        base = palette.raised
        width = self.size.width
        lines = self._wrapped(width)
        spans = lines[y] if y < len(lines) else ()
        segments: list[Segment] = fit_spans(spans, width, base, ellipsis=palette.glyph("…", "~"))
        return Strip(segments, width)


def frame() -> str:
    """The classes of a dialog's box."""
    return "dialog ascii" if theme.palette().ascii else "dialog"


class Confirm(ModalScreen[bool]):
    """Asks before something that cannot be undone; No is the default."""

    CSS = DIALOG_CSS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes", show=False),
        Binding("n,escape,q", "answer(False)", "no", show=False),
        Binding("left,right,h,l,tab,shift+tab", "other", "other", show=False),
        Binding("enter", "take", "take", show=False),
    ]

    def __init__(self, question: str, things: Sequence[str], notes: Sequence[str] = ()) -> None:
        super().__init__()
        self._question = question
        self._things = list(things)
        self._notes = tuple(notes)
        self._yes = False
        self._words = Words()
        self._number: Input | None = Input(placeholder="", compact=True) if len(things) > MANY else None

    def compose(self) -> ComposeResult:
        """The question, the things, Yes and No."""
        with Vertical(classes=frame()):
            yield self._words
            if self._number is not None:
                self._number.cursor_blink = False
                yield self._number

    def on_mount(self) -> None:
        """Say it."""
        self._say()
        if self._number is not None:
            self._number.focus()

    def _say(self) -> None:
        palette = theme.palette()
        lines: list[Spans] = [((safe(self._question), palette.strong),), ()]
        lines += [((f"  {safe(thing)}", palette.text),) for thing in self._things[:MANY]]
        if len(self._things) > MANY:
            lines.append(((f"  and {len(self._things) - MANY} more", palette.dim),))
        if self._notes:
            lines.append(())
            lines += [((safe(note), palette.dim),) for note in self._notes]
        lines.append(())
        if self._number is not None:
            lines.append(((f"Type {len(self._things)} and enter to go on, esc to leave it.", palette.warn),))
        else:
            chosen, other = palette.cursor + palette.strong, palette.dim
            lines.append(
                (("  ", None), ("  No  ", other if self._yes else chosen), ("  ", None),
                 ("  Yes  ", chosen if self._yes else other), ("      y / n", palette.faint)),
            )  # fmt: skip
        self._words.say(lines)

    def action_other(self) -> None:
        """The other answer."""
        self._yes = not self._yes
        self._say()

    def action_take(self) -> None:
        """The answer that is chosen."""
        self.dismiss(self._yes)

    def action_answer(self, yes: bool) -> None:
        """Yes or no; many things want their number."""
        if yes and self._number is not None:
            return
        self.dismiss(yes)

    @on(Input.Submitted)
    def _typed(self, event: Input.Submitted) -> None:
        event.stop()
        self.dismiss(event.value.strip() == str(len(self._things)))


class Order(NamedTuple):
    """What to run."""

    name: str
    parameters: dict[str, Any]


class Trigger(ModalScreen[Order | None]):
    """Which flow to run, and with what."""

    CSS = DIALOG_CSS
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "leave", show=False)]

    def __init__(self, name: str, parameters: str, known: Sequence[str]) -> None:
        super().__init__()
        self._known = list(known)
        self._given, self._begun = RawText(name), RawText(parameters)
        self._flow = Input(value=self._given.shown, placeholder="flow or deployment", id="trigger-name", compact=True)
        self._parameters = Input(value=self._begun.shown, placeholder='day=2026-01-31 pages=64 tags=["a"]',
                                 id="trigger-parameters", compact=True)  # fmt: skip
        self._problem = Words(id="trigger-problem")

    def compose(self) -> ComposeResult:
        """Name and parameters."""
        palette = theme.palette()
        for each in (self._flow, self._parameters):
            each.cursor_blink = False
        with Vertical(classes=frame()):
            yield Words([(("Run a flow now", palette.strong),), (), (("Flow", palette.dim),)])
            yield self._flow
            yield Words([(("Parameters, as name=value; the rest keeps its default", palette.dim),)])
            yield self._parameters
            yield self._problem

    def on_mount(self) -> None:
        """Start where something is missing."""
        self._hint()
        (self._parameters if self._flow.value else self._flow).focus()

    def _hint(self, problem: str = "") -> None:
        palette = theme.palette()
        if problem:
            self._problem.say([((safe(problem), palette.bad),)])
            return
        typed = self._flow.value
        near = [name for name in self._known if typed in name and name != typed][:6]
        words = f"known: {', '.join(near)}" if near else "enter runs it, esc leaves it"
        self._problem.say([((safe(words), palette.faint),)])

    @on(Input.Changed)
    def _changed(self) -> None:
        self._hint()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        typed = self._flow.value
        name = self._given.meant(typed) if typed == self._given.shown else typed.strip()
        if not name.strip():
            self._flow.focus()
            return
        if event.input is self._flow and not self._parameters.value:
            self._parameters.focus()
            return
        try:
            self.dismiss(Order(name, read_parameters(self._begun.meant(self._parameters.value))))
        except ValueError as error:
            self._hint(str(error))

    def action_leave(self) -> None:
        """Not after all."""
        self.dismiss(None)


def read_parameters(text: str) -> TypedValues:
    """``a=1 b="two words" c=[1,2] d=word`` as values; raises ``ValueError`` naming the place."""
    from ...engine.control.control import TypedValues

    texts: dict[str, str] = {}
    decoder = json.JSONDecoder()
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at >= len(text):
            return TypedValues(texts)
        equals = text.find("=", at)
        name = text[at:equals].strip() if equals > 0 else text[at:]
        if equals < 0 or not name.isidentifier():
            raise ValueError(f"write name=value, not {text[at : at + 30]!r}")
        at = equals + 1
        try:
            _, end = decoder.raw_decode(text, at)
            if end < len(text) and not text[end].isspace():
                raise ValueError(name)
        except ValueError:
            end = at
            while end < len(text) and not text[end].isspace():
                end += 1
            if text[at:end].startswith(('"', "[", "{")):
                raise ValueError(f"{name}: {text[at:end][:30]} is no JSON value") from None
        texts[name] = text[at:end]
        at = end


class Help(ModalScreen[None]):
    """The keys that work here, from the registry."""

    CSS = DIALOG_CSS + "Help .dialog { width: 84; height: 90%; } Help TextView { background: $surface; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter", "leave", "leave", show=False),
    ]

    def __init__(self, title: str, actions: Sequence[Action], keymap: Mapping[str, str]) -> None:
        super().__init__()
        self._title = title
        self._actions = list(actions)
        self._keymap = keymap
        self._view = TextView(raised=True)

    def compose(self) -> ComposeResult:
        """A text."""
        with Vertical(classes=frame()):
            yield self._view

    def on_mount(self) -> None:
        """Write it."""
        palette = theme.palette()
        room = min(_HELP_WIDTH, self.app.size.width * 96 // 100) - _HELP_FRAME

        def section(pairs: Sequence[tuple[str, str]]) -> list[Spans]:
            keys_width = max(len(keys) for keys, _ in pairs) + 4
            found: list[Spans] = []
            for keys, text in pairs:
                for part in wrap(((text, palette.text),), room - keys_width):
                    found.append(((f"  {keys:<{keys_width - 2}}", palette.accent), *part))
                    keys = ""
            return found

        lines: list[Spans] = [((f"Keys: {self._title}", palette.strong),), ()]
        lines += section([(" ".join(shown_keys(each, self._keymap)), each.help) for each in self._actions])
        lines += [(), (("Lists", palette.strong),), ()]
        lines += section([
            (" ".join(key_word(key) for key in self._keymap.get(name, keys).split(",")), text)
            for name, keys, text in MOVES
        ])
        lines += [(), (("States", palette.strong),), ()]
        for kind, text in _STATE_WORDS:
            look = palette.look(kind, kind)
            lines.append(((f"  {look.glyph} {look.letter} ", look.style), (text, palette.text)))
        lines += [(), (("Filter", palette.strong),), ()]
        lines += section(_FILTER_WORDS)
        self._view.show_lines(lines)
        self._view.focus()

    def action_leave(self) -> None:
        """Back to work."""
        self.dismiss(None)


_FILTER_WORDS = (
    ("state:failed,crashed", "by state; also live, ended, problem, waiting"),
    ("flow: name: tag: by:", "a regular expression over that field"),
    ("age:<1h took:>5m", "made less than an hour ago; ran for more than five minutes"),
    ("!word", "everything but"),
)
_STATE_WORDS = (
    ("SCHEDULED", "scheduled: waits for its time, a slot or a process"), ("PENDING", "pending: its process is made"),
    ("RUNNING", "running"), ("Frozen", "frozen: its processes are stopped"), ("PAUSED", "paused: waits for a person"),
    ("AwaitingRetry", "waits for its next attempt"), ("CANCELLING", "being cancelled"), ("CANCELLED", "cancelled"),
    ("Skipped", "skipped"), ("COMPLETED", "completed"), ("Cached", "completed, from the cache"),
    ("NotReady", "not run: something it needs failed"), ("FAILED", "failed: by its own code"),
    ("CRASHED", "crashed: by a signal, lack of memory, a reboot"),
)  # fmt: skip
