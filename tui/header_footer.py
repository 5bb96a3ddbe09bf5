"""What the first and the last line of the console say."""

from __future__ import annotations

from . import actions
from .actions import Action
from .look.spans import Span, Spans, spans_width
from .shell import Shell
from .text import waiting

_FOOTER_FITS: tuple[tuple[str, frozenset[str]], ...] = (
    ("   ", frozenset()),
    ("  ", frozenset()),
    ("  ", frozenset({"go.limits"})),
    ("  ", frozenset({"go.limits", "go.flows"})),
    ("  ", frozenset({"go.limits", "go.flows", "flow.trigger"})),
    ("  ", frozenset({"go.limits", "go.flows", "flow.trigger", "app.palette", "run.freeze"})),
    (" ", frozenset({"go.limits", "go.flows", "flow.trigger", "app.palette", "run.freeze"})),
)
"""With less room: the space between keys, and the keys left out; help has them all."""


def header(app: Shell) -> tuple[Spans, Spans]:
    """Where we are; and the daemon."""
    palette = app.palette
    left: list[Span] = [
        (" flowdeck ", palette.brand), ("  ", None), *app.in_sight.trail(),
    ]  # fmt: skip
    right: list[Span] = []
    if app.read_only:
        right.append(("read-only   ", palette.warn))
    daemon = app.daemon
    room = app.size.width - spans_width(tuple(left)) - 6
    match daemon.state:
        case "alive":
            right += [(palette.glyph("● ", "* "), palette.good), (waiting.daemon_words(daemon), palette.bar_text)]
        case "frozen":
            right += [(palette.look("RUNNING", "Frozen").glyph + " ", palette.warn),
                      (f"{waiting.daemon_words(daemon)}: kill -CONT {daemon.pid}", palette.bar_text)]  # fmt: skip
        case "unknown":
            pass
        case _:
            right += [(palette.glyph("○ ", "o "), palette.warn), (waiting.daemon_words(daemon), palette.bar)]
            command = ": start one with flowdeck daemon FLOWS.PY"
            if spans_width(tuple(right)) + len(command) < room:
                right.append((command, palette.bar_text))
    right.append((" ", None))
    return tuple(left), tuple(right)


def footer(app: Shell) -> Spans:
    """The keys that work here, faint where the run's state does not allow them."""
    palette = app.palette
    states = [(run.state_type, run.state_name) for run in app.in_sight.targets()]
    shown = actions.at_place(app.in_sight.place, footer_only=True)
    for gap, leave_out in _FOOTER_FITS:
        spans: list[Span] = [(" ", None)]
        for action in shown:
            if action.id not in leave_out:
                fits, label = _label_of(app, action, states)
                key = actions.shown_keys(action, app.keymap)[0]
                spans.append((key, palette.bar_key if fits else palette.bar_faint))
                spans.append((f" {label}{gap}", palette.bar_text if fits else palette.bar_faint))
        if spans_width(tuple(spans)) <= app.size.width + len(gap):
            break
    return tuple(spans)


def _label_of(app: Shell, action: Action, states: list[tuple[str, str]]) -> tuple[bool, str]:
    """Whether it can be done now, and what it is called now."""
    if action.asks and app.read_only:
        return False, action.label
    if not action.verbs:
        return True, action.label
    verb = actions.fitting_verb(action, states)
    if verb == "resume" and all(name == "AwaitingInput" for _, name in states):
        return True, "answer"
    return verb is not None, verb or action.label
