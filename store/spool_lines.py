"""Reading a run's spool files: what is new in all three, in one order, as rows of the ``log`` table; stores nothing.

A record is one JSON line ``[at_us, run_id, task_seq, level, logger, stream, message]``. A message of several lines
becomes several rows, so that a row is always one line on a screen. Among the records stand marks
``[kind, end, at_us, run_id, task_seq, is_cut]``: what the file of that kind holds up to that byte was written before
what follows the mark, at about that time, by that task. ``is_cut``: its last line ends there, too.

What no mark tells of was written after every record that was there before it: that is why sizes are looked at first,
then records read, then raw output.
"""

from __future__ import annotations

import io
import json
import json.encoder
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from . import files

FOLDER: Final = "spool"
KINDS: Final = ("rec", "out", "err")
BLOCK_BYTES: Final = 1024 * 1024
"""Read and stored in one transaction."""
UNMARKED_SECONDS: Final = 1.0
"""Raw output of a living run waits so long for the mark that says whose it is; C code may hold everything else up."""
_LONGEST_RECORD: Final = 256 * BLOCK_BYTES
"""Bytes of a line of records; older versions wrote whatever a program logged as one."""
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
_MOVES: Final = re.compile(r"\r|\x08(?:[^\n\x08]*\x08){2}|\x1b\[(?:[0-9;]*[ABCDEFGHJKPX]|\?25[lh])")
"""What makes a line a drawing; colours do not, nor does a backspace or two in what may be no text at all."""
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
            text = text.removesuffix("\r")
            if moves(text):
                from .drawn_lines import as_drawn  # few runs draw

                level, text = DRAWN_LEVEL, as_drawn(text)
        for part in (text,) if len(text) <= MAX_LINE else split(text):
            lines.append((*whose, attempt, at_us, level, stream, stream, part))
    return lines


def moves(text: str) -> bool:
    """Whether a piece of text moves the cursor within what was written; an end of line as ``\\r\\n`` does not."""
    return _MOVES.search(text.replace("\r\n", "\n")) is not None


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


# ---------------------------------------------------------------------------------------------------- reading


def within(root_id: int, attempt: int, kind: str) -> str:
    """The path of one of a run's spool files within its store."""
    return f"{FOLDER}/{root_id}.{attempt}.{kind}"


def raw_ends(folder: str | Path, root_id: int, attempt: int) -> list[Line]:
    """What came through the descriptors and has no end of line yet, as the rows it would be now."""
    found: list[Line] = []
    for kind in RAW:
        path = within(root_id, attempt, kind)
        try:
            if (size := files.size(folder, path)) == 0:
                continue
            with io.FileIO(files.open_to_read(folder, path)) as file:
                end = os.pread(file.fileno(), MAX_LINE, max(0, size - MAX_LINE)).rpartition(b"\n")[2]
        except FileNotFoundError:
            continue
        except files.UNUSABLE as error:
            files.leave_alone(error)
            continue
        if end:
            found += raw_lines(end, attempt, kind, (root_id, None), now_us())
    return found


class Source(NamedTuple):
    """One of the files that lines were read from."""

    name: str
    path: str
    file: io.FileIO
    """Open until the lines are stored, so that no other file can be taken for it."""
    recorded: int
    """The offset the table held when it was read: if it holds another now, what was read is stale."""
    end: int


class Piece(NamedTuple):
    """What was read, in order."""

    sources: list[Source]
    lines: list[Line]

    def close(self) -> None:
        """Close its files."""
        for source in self.sources:
            source.file.close()


class _Raw:
    """What stands in a file of raw output behind what is stored."""

    def __init__(self, kind: str, file: io.FileIO, start: int) -> None:
        self.kind = kind
        self.at = self._start = start
        self._data = os.pread(file.fileno(), BLOCK_BYTES, start)
        self._is_more = len(self._data) == BLOCK_BYTES
        self.is_behind = False
        """Whether there is more before the asked end than was read."""

    def take(self, end: int, whose: tuple[int, int | None], at_us: int, attempt: int, *, is_cut: bool) -> list[Line]:
        """The whole lines up to a byte; ``is_cut``: its last line ends there."""
        if end <= self.at:
            self.is_behind = False
            return []
        known = self._start + len(self._data)
        self.is_behind = end > known and self._is_more
        content = self._data[self.at - self._start : min(end, known) - self._start]
        length = len(content) if is_cut and not self.is_behind else content.rfind(b"\n") + 1
        lines = raw_lines(content[:length], attempt, self.kind, whose, at_us) if length else []
        begin, stop = cut_length(content[length:])
        if stop:
            if stop > begin:
                lines += raw_lines(content[length + begin : length + stop], attempt, self.kind, whose, at_us)
            length += stop
        self.at += length
        return lines


class Reading:
    """The next lines of a run's files, in one order, from where each is stored to."""

    def __init__(
        self, folder: str | Path, root_id: int, attempt: int, stored_to: Callable[[str], int], *, final: bool,
        live: bool = False,
    ) -> None:  # fmt: skip
        self._folder = folder
        self._stored_to = stored_to
        """The offset up to which a file, by its name, is stored."""
        self._root_id = root_id
        self._attempt = attempt
        self._final = final
        self._live = live
        self.is_unreadable = False
        """Whether something that is there cannot be read."""
        self._sources: dict[str, Source] = {}

    def next(self) -> Piece | None:
        """A piece of bounded length, whose files are open; None when there is nothing to store now."""
        sizes = {kind: files.size(self._folder, self._path(kind)) for kind in RAW}
        try:
            self._open("rec")
            block = self._read_records()
            raws: dict[str, _Raw] = {}
            for kind in RAW:
                self._open(kind)
                if kind in self._sources:
                    raws[kind] = _Raw(kind, self._sources[kind].file, self._sources[kind].end)
            lines, is_all = self._in_order(block, raws)
            if is_all:
                for kind, raw in raws.items():
                    if self._is_due(kind):
                        whose = (self._root_id, None)
                        lines += raw.take(sizes[kind], whose, now_us(), self._attempt, is_cut=self._final)
            for kind, raw in raws.items():
                self._sources[kind] = self._sources[kind]._replace(end=raw.at)
        except BaseException:
            Piece([*self._sources.values()], []).close()
            raise
        piece = Piece([*self._sources.values()], lines)
        if all(source.end == source.recorded for source in piece.sources):
            piece.close()
            return None
        return piece

    def _path(self, kind: str) -> str:
        return within(self._root_id, self._attempt, kind)

    def _open(self, kind: str) -> None:
        """Open a file that has something new."""
        path = self._path(kind)
        name = os.path.basename(path)
        if files.size(self._folder, path) == 0:
            return
        recorded = self._stored_to(name)
        try:
            # After the offset: a size of before, while another process drains, is smaller and looks like a new file.
            size = files.size(self._folder, path)
            start = 0 if size < recorded else recorded  # smaller than before: somebody emptied it
            if size == start:
                return
            file = io.FileIO(files.open_to_read(self._folder, path))
        except FileNotFoundError:
            return  # drained to its end and removed by another process
        except files.UNUSABLE as error:
            files.leave_alone(error)
            self.is_unreadable = True
            return
        self._sources[kind] = Source(name, os.path.join(self._folder, path), file, recorded, start)

    def _is_due(self, kind: str) -> bool:
        """Whether raw output without a mark is to be stored now."""
        return not self._live or time.time() - os.fstat(self._sources[kind].file.fileno()).st_mtime > UNMARKED_SECONDS

    def _read_records(self) -> bytes:
        source = self._sources.get("rec")
        if source is None:
            return b""
        source.file.seek(source.end)
        block = source.file.read(BLOCK_BYTES)
        while BLOCK_BYTES <= len(block) < _LONGEST_RECORD and b"\n" not in block:
            more = source.file.read(len(block))
            if not more:
                break
            block += more
        return block

    def _in_order(self, block: bytes, raws: dict[str, _Raw]) -> tuple[list[Line], bool]:
        """The lines of the records, raw output in its place between them; whether that is all there is of them."""
        is_all = len(block) < BLOCK_BYTES
        complete = block.rfind(b"\n") + 1
        if (is_all and self._final) or (complete == 0 and (self._final or len(block) >= _LONGEST_RECORD)):
            complete = len(block)
        texts = block[:complete].split(b"\n")
        lines: list[Line] = []
        for place, found in parse_records(texts, self._root_id, self._attempt):
            if not isinstance(found, Mark):
                lines += found
            elif (raw := raws.get(found.kind)) is not None:
                whose = (found.run_id, found.task_seq)
                lines += raw.take(found.end, whose, found.at_us, self._attempt, is_cut=found.is_cut)
                if raw.is_behind:  # more than a piece: the mark is read again with the next one
                    complete, is_all = sum(len(text) + 1 for text in texts[:place]), False
                    break
        if complete:
            source = self._sources["rec"]
            self._sources["rec"] = source._replace(end=source.end + complete)
        return lines, is_all
