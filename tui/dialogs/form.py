"""The form that answers what a run asks: a dialog made from the JSON schema of a pydantic model, keyboard only.

Up and down go from field to field, left and right choose, enter goes on and sends at the end, escape leaves; what was
typed is kept for the next time. Wrong values are said at their field, and nothing is asked of the run before all fit.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from rich.segment import Segment
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.message import Message
from textual.screen import ModalScreen
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input

from ..look import theme
from ..look.cells import safe
from ..look.spans import Spans, fit_spans, spans_width
from .confirm import DIALOG_CSS, Words, frame
from .form_fields import Option, Question, fields_of, first_text, hint_of, options_of, read
from .raw_text import RawText

if TYPE_CHECKING:
    from textual import events

    from ...engine.control.control import InputField

Typed = str | Option | None
_MOST_LABEL_CELLS = 22
_CHROME_LINES = 8
"""Of the dialog: its border and padding, title and foot."""
_MOST_DESCRIPTION_LINES = 40


class Answered(NamedTuple):
    """What the form sends."""

    run_id: int
    values: dict[str, Any]


class Choice(Widget, can_focus=True):
    """One of some values: all in a row where they fit, else one at a time."""

    DEFAULT_CSS = "Choice { height: 1; width: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "step(-1)", "before", show=False),
        Binding("right,l,space", "step(1)", "after", show=False),
        Binding("enter", "done", "done", show=False),
    ]

    class Done(Message):
        """Enter was pressed."""

        def __init__(self, choice: Choice) -> None:
            super().__init__()
            self.choice = choice

        @property
        def control(self) -> Choice:
            """Whose message it is."""
            return self.choice

    class Chosen(Message):
        """Another value is chosen."""

    def __init__(self, options: list[Option], chosen: Option | None) -> None:
        super().__init__()
        self.options = options
        self.index = options.index(chosen) if chosen in options else None

    @property
    def chosen(self) -> Option | None:
        """The value, None when none is chosen yet."""
        return None if self.index is None else self.options[self.index]

    def action_step(self, step: int) -> None:
        """The next value, or the one before."""
        start = -1 if self.index is None and step > 0 else self.index or 0
        self._choose((start + step) % len(self.options))

    def action_done(self) -> None:
        """On to the next field."""
        self.post_message(self.Done(self))

    def on_key(self, event: events.Key) -> None:
        """A letter goes to the next value that begins with it."""
        char = (event.character or "").lower()
        if not char.isalnum() or char in "hl":
            return
        order = [(index + (self.index or 0) + 1) % len(self.options) for index in range(len(self.options))]
        order = order if self.index is not None else list(range(len(self.options)))
        found = next((at for at in order if self.options[at].label.lower().startswith(char)), None)
        if found is not None:
            event.stop()
            self._choose(found)

    def _choose(self, index: int) -> None:
        self.index = index
        self.refresh()
        self.post_message(self.Chosen())

    def on_click(self, event: events.Click) -> None:
        """The value that was clicked."""
        at = 0
        for index, option in enumerate(self.options):
            at += len(safe(option.label)) + 3
            if event.x < at:
                self._choose(index)
                return

    def render_line(self, y: int) -> Strip:
        """The values."""
        del y
        palette = theme.palette()
        width = self.size.width
        spans: list[tuple[str, Any]] = []
        for index, option in enumerate(self.options):
            text = safe(option.label)
            if index == self.index:
                style = palette.cursor + palette.strong if self.has_focus else palette.strong
                spans.append((f"[{text}]" if palette.depth == "mono" or palette.ascii else f" {text} ",
                              style if self.has_focus else palette.cursor_blurred + style))
            else:
                spans.append((f" {text} ", palette.text if self.has_focus else palette.dim))
            spans.append((" ", None))
        if spans_width(tuple(spans)) > width:
            left, right = palette.glyph("‹", "<"), palette.glyph("›", ">")
            text = "not chosen" if self.chosen is None else safe(self.chosen.label)
            place = f"  {0 if self.index is None else self.index + 1} of {len(self.options)}"
            style = palette.cursor + palette.strong if self.has_focus else palette.strong
            spans = [(f"{left} ", palette.accent), (text, style), (f" {right}", palette.accent), (place, palette.faint)]
        segments: list[Segment] = fit_spans(tuple(spans), width, palette.raised, ellipsis=palette.glyph("…", "~"))
        return Strip(segments, width)


class FieldLine(Vertical):
    """One field: its name, what is typed or chosen, and beneath it what it takes or what is wrong with it."""

    DEFAULT_CSS = "FieldLine { height: auto; } FieldLine Horizontal { height: 1; }"

    def __init__(self, field: InputField, label_cells: int, before: Typed) -> None:
        super().__init__()
        self.field = field
        self._cells = label_cells
        self._label = Words()
        self._label.styles.width = label_cells
        self._beneath = Words()
        options = options_of(field)
        self.control: Input | Choice
        if options:
            begun = before if isinstance(before, Option) else _default_option(field, options)
            self.control = Choice(options, begun)
        else:
            begun_text = before if isinstance(before, str) else first_text(field)
            self._begun = RawText(begun_text)
            self.control = Input(value=self._begun.shown, compact=True, placeholder=_PLACEHOLDERS.get(field.kind, ""))
            self.control.cursor_blink = False

    @property
    def typed(self) -> Typed:
        """What it holds."""
        control = self.control
        return self._begun.meant(control.value) if isinstance(control, Input) else control.chosen

    def compose(self) -> ComposeResult:
        """Name and value side by side."""
        with Horizontal():
            yield self._label
            yield self.control
        yield self._beneath

    def say(self, problem: str | None) -> None:
        """Show the name as it is now, and the problem or what the field takes."""
        palette = theme.palette()
        here = self.control.has_focus
        mark = "*" if self.field.required else " "
        name = safe(self.field.title)
        pointer = palette.glyph("›", ">") if here else " "
        self._label.say([((f"{pointer} ", palette.accent), (name, palette.strong if here else palette.text),
                          (f" {mark}", palette.bad if problem else palette.warn))])
        gap = " " * (self._cells + 1)
        if problem:
            text = f"{gap}{palette.glyph('✗', '!')} {safe(problem)}"
            self._beneath.say([((text, palette.bad),)])
        else:
            hint = safe(hint_of(self.field))
            self._beneath.say([((f"{gap}{hint}", palette.faint),)] if hint else [])


def _default_option(field: InputField, options: list[Option]) -> Option | None:
    if not field.has_default:
        return None
    return next((option for option in options if option.value == field.default), None)


_PLACEHOLDERS = {"date": "2026-01-31", "datetime": "2026-01-31T08:00", "json": '{"key": "value"}', "integer": "0",
                 "number": "0.5"}


class Form(ModalScreen[Answered | None]):
    """Asks a person what a run asked for."""

    CSS = DIALOG_CSS + """
    Form { align: center middle; }
    Form .dialog { width: 76; }
    Form .dialog Input { margin: 0; width: 1fr; padding: 0 1; }
    Form #form-fields { height: auto; scrollbar-size-vertical: 1; background: $surface; }
    Form #form-fields:ansi { background: ansi_default; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "leave", show=False),
        Binding("ctrl+s", "send", "send", show=False, priority=True),
        Binding("down", "go(1)", "next", show=False, priority=True),
        Binding("up", "go(-1)", "before", show=False, priority=True),
        Binding("pagedown", "page(1)", "page down", show=False, priority=True),
        Binding("pageup", "page(-1)", "page up", show=False, priority=True),
    ]

    def __init__(
        self, question: Question, about: str, drafts: Mapping[str, Typed], keep: Callable[[dict[str, Typed]], None]
    ) -> None:
        super().__init__()
        self._question = question
        self._about = about
        self._keep = keep
        fields = fields_of(question)
        cells = min(_MOST_LABEL_CELLS, max((len(safe(field.title)) for field in fields), default=0)) + 5
        self.lines = [FieldLine(field, cells, drafts.get(field.name)) for field in fields]
        self._problems: dict[str, str] = {}
        self._fields = VerticalScroll(id="form-fields", can_focus=False)
        self._text = Words()
        self._foot = Words()

    def compose(self) -> ComposeResult:
        """Title, what is asked, the fields, the keys."""
        palette = theme.palette()
        with Vertical(classes=frame()):
            yield Words([((safe(self._about), palette.strong),), ()])
            with self._fields:
                yield self._text
                yield from self.lines
            yield self._foot

    def on_mount(self) -> None:
        """Begin with the first field that holds nothing."""
        self._lay_out()
        self._say()
        empty = [line for line in self.lines if not line.typed]
        if chosen := (empty or self.lines)[:1]:
            chosen[0].control.focus()
            self.call_after_refresh(self._fields.scroll_home, animate=False)

    def on_resize(self) -> None:
        """Another size: the description is broken anew."""
        self._lay_out()

    def _lay_out(self) -> None:
        palette = theme.palette()
        size = self.app.size
        self._fields.styles.max_height = max(3, size.height * 9 // 10 - _CHROME_LINES)
        width = max(20, min(76, size.width * 96 // 100) - 8)
        lines: list[Spans] = []
        for raw in self._question.description.splitlines()[:_MOST_DESCRIPTION_LINES]:
            plain = safe(raw.strip().lstrip("#").strip().replace("**", "").replace("`", ""))
            style = palette.accent if raw.startswith("#") else palette.text
            lines += [((part, style),) for part in textwrap.wrap(plain, width)] or [()]
        self._text.say([*lines, ()] if lines else [])

    def _say(self) -> None:
        palette = theme.palette()
        for line in self.lines:
            line.say(self._problems.get(line.field.name))
        own = {line.field.name for line in self.lines}
        others = [f"{name} {text}".strip() for name, text in self._problems.items() if name not in own]
        lines: list[Spans] = [()]
        if others:
            lines[0] = ((safe(others[0]), palette.bad),)
        more = f"   {self._question.more} more after this" if self._question.more else ""
        lines.append((
            ("enter", palette.accent), (" next, at the end send   ", palette.faint),
            ("ctrl+s", palette.accent), (" send   ", palette.faint), ("esc", palette.accent), (" leave", palette.faint),
            ("   * required", palette.faint), (more, palette.warn),
        ))  # fmt: skip
        self._foot.say(lines)

    # ---- keys -------------------------------------------------------------------------------------------------

    def on_descendant_focus(self) -> None:
        """Another field has the keys."""
        self._say()
        if (line := self._line_here()) is not None:
            line.scroll_visible(animate=False)

    def _line_here(self) -> FieldLine | None:
        return next((line for line in self.lines if line.control is self.focused), None)

    def action_go(self, step: int) -> None:
        """The field below or above."""
        here = self._line_here()
        at = 0 if here is None else self.lines.index(here) + step
        if self.lines:
            self.lines[max(0, min(at, len(self.lines) - 1))].control.focus()

    def action_page(self, pages: int) -> None:
        """Scroll by screenfuls, the description too."""
        self._fields.scroll_relative(y=pages * max(1, self._fields.size.height - 1), animate=False)

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        self._next()

    @on(Choice.Done)
    def _done(self, event: Choice.Done) -> None:
        event.stop()
        self._next()

    def _next(self) -> None:
        here = self._line_here()
        if here is None or here is self.lines[-1]:
            self.action_send()
        else:
            self.action_go(1)

    @on(Input.Changed)
    @on(Choice.Chosen)
    def _changed(self) -> None:
        """What is wrong with a field is said again only once it is sent again."""
        here = self._line_here()
        if here is not None and self._problems.pop(here.field.name, None) is not None:
            self._say()

    # ---- the end ----------------------------------------------------------------------------------------------

    def _typed(self) -> dict[str, Typed]:
        return {line.field.name: line.typed for line in self.lines}

    def action_send(self) -> None:
        """Send the answer when all of it fits; else go to the first field that does not."""
        values, self._problems = read(self._question, self._typed())
        if not self._problems:
            self._keep(self._typed())
            self.dismiss(Answered(self._question.run_id, values))
            return
        self._say()
        wrong = next((line for line in self.lines if line.field.name in self._problems), None)
        if wrong is not None:
            wrong.control.focus()
            wrong.scroll_visible(animate=False)

    def action_leave(self) -> None:
        """Not now: what was typed is kept, and the run goes on waiting."""
        self._keep(self._typed())
        self.dismiss(None)
