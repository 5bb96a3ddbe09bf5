"""Keys that come in one read, as a paste or a slow link brings them: after one that opens a field the rest is its text.

Textual hands each key to what has the focus, and asks what is bound to it once it has bubbled back to the app. By then
an earlier key may have opened a field, and what was meant as its text would act on the run at the cursor. So the app
holds keys back while a field is being opened, and gives those that were sent elsewhere to the field.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol, runtime_checkable

from textual.app import App
from textual.events import Key
from textual.widget import Widget

_REMEMBERED: Final = 256
_LOOK_SECONDS: Final = 0.005
_MOST_LOOKS: Final = 200
"""How often it is looked whether the field is there: a field that does not come within a second is none."""


@runtime_checkable
class TakesText(Protocol):
    """A widget of our own that is a field at times."""

    @property
    def takes_text(self) -> bool:
        """Whether keys are its text now."""


def _takes_text(widget: object) -> bool:
    # By its name: the class is loaded with the first dialog that has a field, not with the console.
    is_input = any(kind.__name__ == "Input" and kind.__module__.startswith("textual.") for kind in type(widget).__mro__)
    return is_input or (isinstance(widget, TakesText) and widget.takes_text)


class TypedAhead:
    """Of one app."""

    def __init__(self, app: App[int]) -> None:
        self._app = app
        self._sent: deque[tuple[int, Widget | None, bool]] = deque(maxlen=_REMEMBERED)
        """Of keys on their way: which event, to whom it went, and whether that was a field then."""
        self._held: list[Key] = []
        self._looks_left = 0

    def sent(self, event: Key) -> None:
        """A key goes to what has the focus."""
        target = self._app.focused
        self._sent.append((id(event), target, _takes_text(target)))

    def field_opens(self) -> None:
        """An action opens a field: keys are held back until it is there."""
        if not self._looks_left:
            self._looks_left = _MOST_LOOKS
            self._app.call_after_refresh(self._look)

    def takes(self, event: Key) -> bool:
        """Whether a key that has bubbled back is not to be looked up, since it is a field's text."""
        known = next((each for each in self._sent if each[0] == id(event)), None)
        if known is not None:
            self._sent.remove(known)
        if self._looks_left:
            self._held.append(event)
            return True
        target = self._app.focused
        if known is None or target is None or not _takes_text(target) or (known[1] is target and known[2]):
            return False
        self._hand_over(target, event)
        return True

    def _look(self) -> None:
        target = self._app.focused
        self._looks_left -= 1
        if target is None or not _takes_text(target):
            if self._looks_left > 0:
                self._app.set_timer(_LOOK_SECONDS, self._look)
            else:
                self._held.clear()  # they were meant for what did not come
            return
        self._looks_left = 0
        held, self._held = self._held, []
        for event in held:
            self._hand_over(target, event)

    def _hand_over(self, target: Widget, event: Key) -> None:
        fresh = Key(event.key, event.character)
        self._sent.append((id(fresh), target, True))
        target._forward_event(fresh)
