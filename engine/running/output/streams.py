"""``sys.stdout`` and ``sys.stderr`` of a run: what is printed becomes lines of the task whose code prints it.

Each thread has its own unfinished line, so that lines of several do not mix. A line that is drawn again and again (a
progress bar) is kept as a terminal would show it in the end, and shown as it is now to who looks at the run. A stream
answers what scripts ask of one, its bytes too, and is UTF-8 whatever they ask for. A terminal that is gone keeps nobody
from printing. Once its run is over a stream that somebody still holds writes to what stands there now.
"""

from __future__ import annotations

import codecs
import io
import os
import threading
from threading import get_ident
from time import time_ns
from typing import TYPE_CHECKING, Any, Final

from ....store.spool_lines import MAX_LINE, moves, record_head, record_of
from ...secrets import masking
from ..calls.frame import current_frame
from .log_handler import Repetition, repeating

if TYPE_CHECKING:
    from collections.abc import Callable

    from ....store.drawn_lines import Drawing
    from ..calls.frame import Frame
    from .capture import Capture

_LONGEST_PARTIAL: Final = 8192
_DRAWN_LEVEL: Final = 20
_LOGGING_FAILED: Final = "--- Logging error ---"


class Unfinished:
    """The line a thread has begun and not ended."""

    __slots__ = ("append", "drawing", "head", "is_told", "shown", "text", "unshown")

    def __init__(self) -> None:
        self.text = ""
        self.shown = 0
        """How much of the text the person has seen."""
        self.drawing: Drawing | None = None
        """What is drawn instead of a text."""
        self.unshown = ""
        self.is_told = False
        """Whether it is shown to who looks at the run."""
        self.append: Callable[[int, bytes, bool], None] | None = None
        """Keeps a record of this code; None until it is asked for."""
        self.head = ""
        """What such a record begins with."""

    def rows(self) -> list[str]:
        """As it is now."""
        return self.drawing.rows() if self.drawing is not None else [self.text]


class _Own(threading.local):
    """A thread's unfinished lines, one for each code that it is in the middle of: coroutines take turns."""

    def __init__(self) -> None:
        self.frame: Frame | None = None
        self.line = Unfinished()
        self._waiting: dict[int, Unfinished] = {}

    def switch(self, frame: Frame | None) -> Unfinished:
        """The line of this code."""
        if self.line.text or self.line.drawing is not None:
            self._waiting[id(self.frame)] = self.line
        waiting = self._waiting.pop(id(frame), None)
        self.line = waiting if waiting is not None else Unfinished()
        self.frame = frame
        return self.line


class RunStream(io.TextIOBase):
    """``sys.stdout`` and ``sys.stderr`` of a run: whole lines become records of the task that printed them."""

    def __init__(self, capture: Capture, name: str, level: int, echo: int | None, original: Any) -> None:
        self._capture = capture
        self._stream = name
        self._level = level
        self._echo = echo
        self._original = original
        self._own = _Own()
        self._bytes = _RunBytes(self)

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
        """Takes bytes: they are lines like any other."""
        return self._bytes

    def detach(self) -> Any:
        """As ``buffer``: scripts wrap it anew to choose an encoding."""
        return self._bytes

    def close(self) -> None:
        """Others go on printing."""
        self.flush()

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
        given = len(text)
        if repeating and (this := repeating.get(get_ident())) is not None and not this.is_failing:
            return self._repeat(text, this)
        own, frame = self._own, current_frame.get()
        line = own.line if own.frame is frame else own.switch(frame)
        if line.drawing is not None:
            self._draw(line, text)
        elif text == "\n":
            is_short = len(line.text) <= _LONGEST_PARTIAL
            if is_short and self._echo is None and line.append is not None and not line.is_told:
                text, line.text = masking.mask(line.text), ""
                at_us = time_ns() // 1000
                line.append(at_us, record_of(at_us, line.head, text), frame is not None)
                return 1
            self._end(line)
        elif text.isprintable():
            text = line.text = line.text + text if line.text else text
            if len(text) > MAX_LINE:
                self._cut(line)
            return given
        elif moves(text):
            self._draw(line, text)
        elif "\n" in text:
            *whole, rest = (line.text + text).split("\n")
            for one in whole:
                self._keep(line, one)
            self._show(line, "\n".join(whole) + "\n")
            self._forget(line)
            line.text = rest
        else:
            line.text += text
            if len(line.text) > MAX_LINE:
                self._cut(line)
        return given

    def flush(self) -> None:
        """Show what has no end of line yet, and keep it once it is long; short pieces wait for their line."""
        own, frame = self._own, current_frame.get()
        line = own.line if own.frame is frame else own.switch(frame)
        if line.drawing is not None:
            self._show_drawing(line)
            return
        if not line.text:
            return
        decided = masking.decided_text(line.text)
        if self._echo is not None:
            self._capture.show_what_came()
            self._show(line, line.text[:decided])
        if decided > _LONGEST_PARTIAL:
            self._keep_begin(line, decided)
        elif not line.is_told:
            self._tell(line)

    def end_line(self, frame: Frame) -> None:
        """Keep the unfinished line of this thread: the code of ``frame`` has ended."""
        self._bytes.end()
        line = self._own.switch(frame)
        if line.drawing is not None:
            self._show_drawing(line, last=True)
            rows = line.drawing.rows()
            self._forget(line)
            for row in rows:
                self._keep_as(frame, row, _DRAWN_LEVEL)
        elif line.text:
            text = line.text
            self._show(line, text)
            self._forget(line)
            self._keep_as(frame, text, self._level)
        self._own.switch(None)

    def _cut(self, line: Unfinished) -> None:
        """A line too long to wait for is several; within nothing that is to be masked."""
        while (decided := min(masking.decided_text(line.text[:MAX_LINE]), MAX_LINE)) and len(line.text) > MAX_LINE:
            self._show(line, line.text[:decided])
            self._keep_begin(line, decided)

    def _keep_begin(self, line: Unfinished, length: int) -> None:
        begin, rest = line.text[:length], line.text[length:]
        self._forget(line)
        self._keep(line, begin)
        line.text = rest

    # ---- whole lines -------------------------------------------------------------------------------------------

    def _end(self, line: Unfinished) -> None:
        """A line has come to its end."""
        text = line.text
        if line.is_told:
            line.is_told = False
            self._capture.end_unfinished(line)
        self._keep(line, text)
        if self._echo is not None:
            self._show(line, text + "\n")
        line.text, line.shown = "", 0

    def _keep(self, line: Unfinished, text: str, level: int = 0) -> None:
        frame = self._own.frame
        if line.append is None:
            self._begin(line, frame)
        text = masking.mask(text)
        if text[-1:] == "\r":
            text = text[:-1]
        if level or len(text) > _LONGEST_PARTIAL:
            self._keep_as(frame, text, level or self._level)
            return
        at_us = time_ns() // 1000
        assert line.append is not None
        line.append(at_us, record_of(at_us, line.head, text), frame is not None)

    def _begin(self, line: Unfinished, frame: Frame | None) -> None:
        """The first whole line of this code."""
        line.head = self._head(frame)
        line.append = (self._capture if frame is None else frame.run.session.capture).append

    def _head(self, frame: Frame | None) -> str:
        if frame is None:
            return record_head(self._capture.root_id, None, self._level, self._stream, self._stream)
        seq = frame.task.seq if frame.task is not None else None
        return record_head(frame.run.id, seq, self._level, self._stream, self._stream)

    def _keep_as(self, frame: Frame | None, text: str, level: int) -> None:
        if frame is None:
            self._capture.record(self._capture.root_id, None, level, self._stream, self._stream, text)
        else:
            seq = frame.task.seq if frame.task is not None else None
            frame.run.session.capture.record(frame.run.id, seq, level, self._stream, self._stream, text)

    # ---- what is drawn -----------------------------------------------------------------------------------------

    def _draw(self, line: Unfinished, text: str) -> None:
        if line.drawing is None:
            from ....store.drawn_lines import Drawing  # few runs draw

            line.drawing = Drawing()
            line.drawing.feed(line.text)
            line.unshown, line.text, line.shown = line.text[line.shown :], "", 0
        if self._echo is not None:
            line.unshown += text
        rows = line.drawing.feed(text)
        is_over = line.drawing.is_plain
        if rows or is_over or len(line.unshown) > _LONGEST_PARTIAL:
            self._show_drawing(line)
        if is_over:
            if line.unshown:
                self._show_drawing(line, last=True)
            self._forget(line)
        elif not line.is_told:
            self._tell(line)
        for row in rows:
            self._keep(line, row, _DRAWN_LEVEL)
        if not is_over:
            self._capture.changed_unfinished()

    def _show_drawing(self, line: Unfinished, *, last: bool = False) -> None:
        """Let the person see it being drawn; an end that may begin a secret waits for what follows."""
        if self._echo is not None and line.unshown:
            self._capture.show_what_came()
            decided = len(line.unshown) if last else masking.decided_text(line.unshown)
            write_all(self._echo, encoded(masking.mask(line.unshown[:decided])))
            line.unshown = line.unshown[decided:]

    def _tell(self, line: Unfinished) -> None:
        """From now on it is shown to who looks at the run."""
        line.is_told = True
        frame = current_frame.get()
        run_id = self._capture.root_id if frame is None else frame.run.id
        seq = None if frame is None or frame.task is None else frame.task.seq
        self._capture.tell_unfinished(line, run_id, seq, self._stream)

    def _forget(self, line: Unfinished) -> None:
        """It is over: another one begins."""
        line.text, line.shown, line.drawing, line.unshown = "", 0, None, ""
        if line.is_told:
            line.is_told = False
            self._capture.end_unfinished(line)

    # ---- the person --------------------------------------------------------------------------------------------

    def _show(self, line: Unfinished, text: str) -> None:
        """Let the person see ``text``, the pending line so far, with one write: threads do not mix within lines."""
        if self._echo is None:
            return
        if len(text) > line.shown:
            write_all(self._echo, encoded(masking.mask(text[line.shown :])))
            line.shown = 0 if text.endswith("\n") else len(text)

    def _repeat(self, text: str, this: Repetition) -> int:
        """What a handler prints of a record that is kept is only shown."""
        if text.startswith(_LOGGING_FAILED):
            this.is_failing = True  # the library speaks of the handler itself: that is a text of its own
            return self.write(text)
        if self._echo is not None:
            write_all(self._echo, encoded(masking.mask(text)))
            this.was_shown = True
        return len(text)

    def lead_to(self, now: Callable[[str], Any]) -> None:
        """The run is over: who still holds this stream writes to what stands there now."""

        def write(text: str) -> int:
            stream = now(self._stream)
            return len(text) if stream is None else int(stream.write(text))

        def flush() -> None:
            if (stream := now(self._stream)) is not None:
                stream.flush()

        self.__dict__.update(write=write, flush=flush)


class _RunBytes(io.BufferedIOBase):
    """``sys.stdout.buffer``: bytes that become text as they come, each thread's by itself."""

    def __init__(self, stream: RunStream) -> None:
        self._stream = stream
        self._own = threading.local()

    def write(self, data: Any) -> int:
        """Take bytes; what is no UTF-8 is replaced in the log."""
        content = bytes(data)
        decoder = getattr(self._own, "decoder", None)
        if decoder is None:
            decoder = self._own.decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._stream.write(decoder.decode(content))
        return len(content)

    def end(self) -> None:
        """What this thread wrote has ended: also in the middle of a character."""
        if (decoder := getattr(self._own, "decoder", None)) is not None and (rest := decoder.decode(b"", final=True)):
            self._stream.write(rest)

    def flush(self) -> None:
        """As the stream."""
        self._stream.flush()

    def writable(self) -> bool:
        """Yes."""
        return True

    def isatty(self) -> bool:
        """As the stream."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """As the stream."""
        return self._stream.fileno()

    def close(self) -> None:
        """Others go on printing."""
        self.flush()

    @property
    def raw(self) -> Any:
        """There is no layer below."""
        return self


def encoded(text: str) -> bytes:
    """For the person: bytes that came as bytes go as they came."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


def write_all(descriptor: int, data: bytes) -> None:
    """Show bytes to the person who started the run."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        # The person's terminal or pipe is gone; the record in the spool is what counts.
        return
