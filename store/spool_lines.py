"""What stands in spool files, as rows of the ``log`` table. Pure: bytes in, rows without their numbers out.

A record is one JSON line ``[at_us, run_id, task_seq, level, logger, stream, message]``. A message of several lines
becomes several rows, so that a row is always one line on a screen. Among the records stand marks
``[kind, end, at_us, run_id, task_seq, is_cut]``: what the file of that kind holds up to that byte was written before
what follows the mark, at about that time, by that task. ``is_cut``: its last line ends there, too.
"""

from __future__ import annotations

import json
import json.encoder
import re
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from .drawn_lines import as_drawn, is_drawing

MAX_LINE: Final = 64 * 1024
"""Characters of a row; longer lines are several."""
MAX_RECORD: Final = 2 * MAX_LINE
"""Characters of the message of one record: however they are escaped, it is far smaller than a block."""
STREAMS: Final = ("log", "stdout", "stderr")
RAW: Final = {"out": ("stdout", 20), "err": ("stderr", 30)}
"""Stream and level of what a descriptor carries."""
DRAWN_LEVEL: Final = 20
"""Progress bars are drawn on standard error, and warn of nothing."""

_LARGEST: Final = 2**63 - 1
_ESCAPED: Final = re.compile("[\udc80-\udcff]")
"""Bytes that are no text, as Python carries them in one."""
_quoted = json.encoder.encode_basestring
"""A text as JSON writes it; making the whole record with an encoder costs three times as much."""

Line = tuple[int, int | None, int, int, int, str, str, str]
"""A ``LogRow`` without root_id and line, which are known only when it is stored."""


class Mark(NamedTuple):
    """So far another file had come when a record was written."""

    kind: str
    end: int
    at_us: int
    run_id: int
    task_seq: int | None
    is_cut: bool


def record_head(run_id: int, task_seq: int | None, level: int, logger: str, stream: str) -> str:
    """What stands between the time of a record and its message."""
    seq = "null" if task_seq is None else task_seq
    return f",{run_id},{seq},{level},{_quoted(logger)},{_quoted(stream)},"


def record_of(at_us: int, head: str, message: str) -> bytes:
    """One record of at most ``MAX_RECORD`` characters; bytes that were no text stand as such."""
    text = f"[{at_us}{head}{_quoted(message)}]\n"
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _ESCAPED.sub("\ufffd", text).encode("utf-8", "replace")


def record(at_us: int, run_id: int, task_seq: int | None, level: int, logger: str, stream: str, message: str) -> bytes:
    """One record, or several for a long message, to be written at once."""
    head = record_head(run_id, task_seq, level, logger, stream)
    if len(message) <= MAX_RECORD:
        return record_of(at_us, head, message)
    return b"".join(record_of(at_us, head, piece) for piece in _pieces(message))


def mark(kind: str, end: int, at_us: int, run_id: int, task_seq: int | None, *, is_cut: bool = False) -> bytes:
    """A mark, to be written before a record."""
    return f'["{kind}",{end},{at_us},{run_id},{"null" if task_seq is None else task_seq},{int(is_cut)}]\n'.encode()


def _pieces(message: str) -> Iterator[str]:
    """A message as messages of bounded length, whose rows are those of the whole."""
    group: list[str] = []
    length = 0
    for line in split(message):
        if group and length + len(line) > MAX_RECORD - len(group):
            yield "\n".join(group) + "\n"
            group, length = [], 0
        group.append(line)
        length += len(line)
    yield "\n".join(group) + "\n"


def parse_records(texts: list[bytes], root_id: int, attempt: int) -> Iterator[tuple[int, list[Line] | Mark]]:
    """The rows, or the mark, of each line of a file of records, with its place among the lines."""
    kept = [(place, text) for place, text in enumerate(texts) if text and not text.endswith(b"\x18")]
    try:
        # One call for the whole block costs half of one call per line.
        records = json.loads(b"[" + b",".join([text for _, text in kept]) + b"]")
        if len(records) != len(kept):
            raise ValueError("a line held more than one record")
    except (ValueError, RecursionError):
        records = [_record_of(text) for _, text in kept]
    for (place, text), found in zip(kept, records, strict=True):
        try:
            yield place, _mark_of(found) if len(found) == 6 else _lines_of(found, attempt)
        except (AttributeError, TypeError, ValueError):
            now = now_us()
            foreign = text.decode("utf-8", "replace")
            yield place, [(root_id, None, attempt, now, 30, "spool", "log", part) for part in split(foreign)]


def _lines_of(found: Any, attempt: int) -> list[Line]:
    at_us, run_id, task_seq, level, logger, stream, message = found
    if stream not in STREAMS or not (
        type(at_us) is type(run_id) is type(level) is int
        and (task_seq is None or (type(task_seq) is int and -_LARGEST <= task_seq <= _LARGEST))
        and max(abs(at_us), abs(run_id), abs(level)) <= _LARGEST
    ):  # fmt: skip
        raise TypeError("not a record")  # else one foreign line would keep all that follow from being stored
    if len(message) <= MAX_LINE and message.isascii() and logger.isascii() and "\n" not in message:
        return [(run_id, task_seq, attempt, at_us, level, logger, stream, message)]
    logger = _clean(logger)
    return [(run_id, task_seq, attempt, at_us, level, logger, stream, part) for part in split(_clean(message))]


def _mark_of(found: Any) -> Mark:
    kind, end, at_us, run_id, task_seq, is_cut = found
    if kind not in RAW or type(end) is not int or type(at_us) is not int or type(run_id) is not int or not (
        task_seq is None or type(task_seq) is int
    ):
        raise TypeError("not a mark")
    if max(abs(at_us), abs(run_id), abs(task_seq or 0)) > _LARGEST:
        raise TypeError("not a mark")
    return Mark(kind, end, at_us, run_id, task_seq, bool(is_cut))


def _record_of(line: bytes) -> Any:
    """The record on a line; None when it is none (a torn write, somebody else's bytes)."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def raw_lines(content: bytes, attempt: int, kind: str, whose: tuple[int, int | None], at_us: int) -> list[Line]:
    """The rows of what a descriptor carried."""
    stream, usual = RAW[kind]
    lines: list[Line] = []
    has_drawings = b"\r" in content or b"\b" in content or b"\x1b[" in content
    for text in content.decode("utf-8", "replace").removesuffix("\n").split("\n"):
        level = usual
        if has_drawings:
            level, text = (DRAWN_LEVEL if is_drawing(text) else usual), as_drawn(text)
        for part in (text,) if len(text) <= MAX_LINE else split(text):
            lines.append((*whose, attempt, at_us, level, stream, stream, part))
    return lines


def cut_length(partial: bytes) -> tuple[int, int]:
    """Of a raw line that has no end yet: from where to where it is a row now; nothing while it may wait.

    What a bar drew over is left out, so that one that never ends its line does not grow; a line too long to wait for is
    cut, but not inside a character.
    """
    if len(partial) < MAX_LINE:
        return 0, 0
    begin = partial.rfind(b"\r", 0, len(partial) - 1)
    if begin >= 0 and len(partial) - begin < MAX_LINE:
        return begin, begin
    cut = len(partial) - len(partial) % MAX_LINE
    while cut < len(partial) and cut > 0 and partial[cut] & 0xC0 == 0x80:
        cut -= 1
    return 0, cut


def split(message: str) -> list[str]:
    """A message as lines of bounded length; an empty one is one empty line."""
    if len(message) <= MAX_LINE and "\n" not in message:
        return [message]
    parts: list[str] = []
    for line in message.removesuffix("\n").split("\n"):
        if len(line) <= MAX_LINE:
            parts.append(line)
        else:
            parts += [line[start : start + MAX_LINE] for start in range(0, len(line), MAX_LINE)]
    return parts


def _clean(text: str) -> str:
    """Without lone surrogates, which no database takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def now_us() -> int:
    """The time, as rows have it."""
    return time.time_ns() // 1000
