"""``sys.stdout`` and ``sys.stderr`` of a run: what is printed becomes lines of the task whose code prints it.

Each thread has its own unfinished line, so that lines of several do not mix. A stream answers what scripts ask of one,
and is UTF-8 whatever they ask for. A terminal that is gone keeps nobody from printing.
"""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING, Any, Final

from ...secrets.masking import decided_text, mask

if TYPE_CHECKING:
    from ..calls.frame import Frame
    from .capture import Capture

_LONGEST_PARTIAL: Final = 8192


class _Partial(threading.local):
    """The line a thread has begun and not ended, and how much of it was shown."""

    text = ""
    shown = 0


class RunStream(io.TextIOBase):
    """``sys.stdout`` and ``sys.stderr`` of a run: whole lines become records of the task that printed them."""

    def __init__(self, capture: Capture, name: str, level: int, echo: int | None, original: Any) -> None:
        self._capture = capture
        self._stream = name
        self._level = level
        self._echo = echo
        self._original = original
        self._partial = _Partial()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Always UTF-8."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """What cannot be encoded is escaped."""
        return "backslashreplace"

    @property
    def buffer(self) -> Any:
        """The descriptor's own binary writer: raw bytes are captured below Python."""
        return getattr(self._original, "buffer", None)

    def reconfigure(self, **_options: Any) -> None:
        """As scripts ask of ``sys.stdout``; lines are kept whole and as UTF-8 whatever they ask."""

    def writable(self) -> bool:
        """Yes."""
        return True

    def isatty(self) -> bool:
        """Whether the person's terminal is behind it."""
        return self._echo is not None and os.isatty(self._echo)

    def fileno(self) -> int:
        """The captured descriptor."""
        return 1 if self._stream == "stdout" else 2

    def write(self, text: str) -> int:
        """Keep whole lines; the rest waits for its end of line or ``flush`` at the run's end."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        pending = self._partial.text + text
        if "\n" in text:
            self._show(pending[: pending.rindex("\n") + 1])
            *lines, pending = pending.split("\n")
            for line in lines:
                self._capture.record_here(self._level, self._stream, self._stream, line)
        self._partial.text = pending
        return len(text)

    def flush(self) -> None:
        """Show what has no end of line yet, and keep it once it is long; short pieces wait for their line."""
        pending = self._partial.text
        decided = decided_text(pending)
        self._show(pending[:decided])
        if decided > _LONGEST_PARTIAL:
            self._keep(pending[:decided])
            self._partial.text = pending[decided:]

    def end_line(self, frame: Frame) -> None:
        """Keep the unfinished line of this thread: the code of ``frame`` has ended."""
        pending = self._partial.text
        if pending:
            self._show(pending)
            self._partial.text, self._partial.shown = "", 0
            seq = frame.task.seq if frame.task is not None else None
            frame.run.session.capture.record(frame.run.id, seq, self._level, self._stream, self._stream, pending)

    def _keep(self, text: str) -> None:
        self._partial.text, self._partial.shown = "", 0
        self._capture.record_here(self._level, self._stream, self._stream, text)

    def _show(self, text: str) -> None:
        """Let the person see ``text``, the pending line so far, with one write: threads do not mix within lines."""
        if self._echo is None:
            return
        shown = self._partial.shown
        if len(text) > shown:
            write_all(self._echo, mask(text[shown:]).encode("utf-8", "backslashreplace"))
            self._partial.shown = 0 if text.endswith("\n") else len(text)


def write_all(descriptor: int, data: bytes) -> None:
    """Show bytes to the person who started the run."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        # The person's terminal or pipe is gone; the record in the spool is what counts.
        return
