"""Append-only files that output goes to first, and their way from there into the ``log`` table.

A run's process writes each log record with one ``write`` to ``<store>/spool/<root>.<attempt>.rec``, and has its
descriptors 1 and 2 pointed at ``.out`` and ``.err``; what it wrote survives its kill. ``drain`` moves what is new into
``telemetry.db`` together with how far it came, in one transaction, so that a kill at any point neither loses nor
doubles a line. Any process may drain any spool, several at once too. What counts is the file and not its name: lines
are stored only while the file they were read from still stands there, and an offset is forgotten only by who removed
its file. So a store that is moved away, replaced or moved back, with its run going on, doubles and loses nothing.

Longer than most: writing and draining stand together, because each is only right by what the other does.

A record is one JSON line ``[at_us, run_id, task_seq, level, logger, stream, message]``. A message of several lines is
stored as several rows, so that a row is always one line on a screen.
"""

from __future__ import annotations

import errno
import io
import json
import json.encoder
import os
import re
import sqlite3
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from . import files
from .connection import Connection, connect, database_path, transaction
from .driver_errors import is_store_trouble, translate, translate_os
from .rows import LogRow
from .states import TERMINAL_TYPES
from .tables import leases, logs, runs

FOLDER: Final = "spool"
KINDS: Final = ("rec", "out", "err")
MAX_LINE: Final = 64 * 1024
"""Longer lines are split."""
STREAMS: Final = ("log", "stdout", "stderr")
BLOCK_BYTES: Final = 1024 * 1024
"""Read and stored in one transaction."""
TORN: Final = b"\x18\n"
"""Ends the piece of a record that a full disk cut off; the whole record follows later, so the piece is dropped."""
MOST_KEPT: Final = 5_000
"""Lines kept in memory while the disk is full; whoever has more waits like everybody."""
FULL_DISK_PAUSE_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0)

SELECT_OFFSET: Final = "SELECT offset_bytes FROM spool WHERE name = ?"
UPSERT_OFFSET: Final = (
    "INSERT INTO spool (name, offset_bytes) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET"
    " offset_bytes = excluded.offset_bytes"
)
DELETE_OFFSET: Final = "DELETE FROM spool WHERE name = ?"

Echo = Callable[[list[LogRow]], None]

_NAME = re.compile(r"(\d{1,18})\.(\d{1,9})\.(?:rec|out|err)")
_LARGEST: Final = 2**63 - 1
_quoted = json.encoder.encode_basestring
"""A text as JSON writes it; making the whole record with an encoder costs three times as much."""


def spool_path(folder: str | Path, root_id: int, attempt: int, kind: str) -> str:
    """The path of one of a run's spool files."""
    return os.path.join(folder, _within(root_id, attempt, kind))


def _within(root_id: int, attempt: int, kind: str) -> str:
    """The same, within the store."""
    return f"{FOLDER}/{root_id}.{attempt}.{kind}"


class SpoolWriter:
    """The writing end, in a run's process. ``record`` may be called from any thread.

    On a full disk those wait whose lines they are. Threads that others depend on hand theirs over without waiting, and
    so does who was interrupted while it waited: a few thousand are kept until there is room.
    """

    def __init__(self, folder: str | Path, root_id: int, attempt: int) -> None:
        self.root_id = root_id
        self.attempt = attempt
        self.record_path = spool_path(folder, root_id, attempt, KINDS[0])
        self.record_fd: int = open_append(folder, root_id, attempt, "rec")
        self.out_fd: int = open_append(folder, root_id, attempt, "out")
        """To be put in place of descriptor 1; it is not inherited under its own number."""
        self.err_fd: int = open_append(folder, root_id, attempt, "err")
        self.trouble: str | None = None
        """Why writing waits (a full disk); None while all is well."""
        self._torn = False
        self._was_interrupted = False
        self._kept: deque[bytes] = deque()
        """Lines of those who do not wait, in order."""

    def record(
        self, at_us: int, run_id: int, task_seq: int | None, level: int, logger: str, stream: str, message: str,
        *, wait: bool = True,
    ) -> None:
        """Append one record with one write. On a full disk ``wait`` until there is room, else keep it for then."""
        seq = "null" if task_seq is None else task_seq
        text = f"[{at_us},{run_id},{seq},{level},{_quoted(logger)},{_quoted(stream)},{_quoted(message)}]\n"
        line = text.encode("utf-8", "replace")
        if not self._kept and not self._torn and self._write(line):
            return
        error = sys.exc_info()[1]  # that is on its way through the code that says this
        is_leaving = self._was_interrupted or (error is not None and not isinstance(error, Exception))
        wait = wait and not is_leaving
        if self._kept and not self.write_kept() and not wait and len(self._kept) < MOST_KEPT:
            self._kept.append(line)
        elif wait or len(self._kept) >= MOST_KEPT:
            self._write_when_there_is_room(TORN + line)
        else:
            self._kept.append(line)

    def write_kept(self) -> bool:
        """Write what was kept; whether all of it is written."""
        while self._kept:
            try:
                line = self._kept.popleft()
            except IndexError:
                break  # another thread wrote it
            if not self._write(TORN + line if self._torn else line):
                self._kept.appendleft(line)
                return False
            self._torn, self._was_interrupted, self.trouble = False, False, None
        return True

    def is_in_place(self) -> bool:
        """Whether the files still stand where they were made: not when the store was moved away or removed."""
        try:
            return os.path.samestat(os.stat(self.record_path), os.fstat(self.record_fd))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def close(self) -> None:
        """Close the descriptors; the files stay until they are drained."""
        self.write_kept()
        for descriptor in (self.record_fd, self.out_fd, self.err_fd):
            os.close(descriptor)

    def _write(self, line: bytes) -> bool:
        """One write; False when the disk is full and the line, or its end, is not in the file."""
        try:
            whole = os.write(self.record_fd, line) == len(line)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            whole = False
        if not whole:
            self._torn = True
            self.trouble = f"{self.record_path}: the disk is full; log records wait for room"
        return whole

    def _write_when_there_is_room(self, line: bytes) -> None:
        tries = 0
        try:
            while not self._write(line):
                time.sleep(FULL_DISK_PAUSE_SECONDS[min(tries, len(FULL_DISK_PAUSE_SECONDS) - 1)])
                tries += 1
        except BaseException:  # told to end while it waits: what is said on the way out must not wait again
            self._was_interrupted = True
            raise
        self._torn = self._was_interrupted = False
        self.trouble = None


def open_append(folder: str | Path, root_id: int, attempt: int, kind: str) -> int:
    """A descriptor that writes at the end of one of a run's spool files, which is made when there is none."""
    try:
        return files.open_to_append(folder, _within(root_id, attempt, kind))
    except OSError as error:
        raise translate_os(error, spool_path(folder, root_id, attempt, kind)) from error


def open_to_read(folder: str | Path, root_id: int, attempt: int, kind: str) -> int:
    """A descriptor to read one of a run's spool files with; ``FileNotFoundError`` when there is none."""
    return files.open_to_read(folder, _within(root_id, attempt, kind))


# ---------------------------------------------------------------------------------------------------- draining


_Line = tuple[int, int | None, int, int, int, str, str, str]
"""A ``LogRow`` without root_id and line, which are known only when it is stored."""


class _Piece(NamedTuple):
    """What was read from one file."""

    path: str
    file: io.FileIO
    """Open until the lines are stored, so that no other file can be taken for it."""
    recorded: int
    """The offset the table held when it was read: if it holds another now, the piece is stale."""
    end: int
    lines: list[_Line]


def drain(
    folder: str | Path,
    telemetry: Connection,
    root_id: int,
    attempt: int,
    *,
    final: bool = False,
    echo: Echo | None = None,
) -> int:
    """Move what is new in a run's spool into ``log``; return how many lines that were.

    A last line without its end is kept back until ``final``, which stores it as it is and, when nothing is left,
    removes the files; one that cannot be read is left alone. ``echo`` is given the rows of each group once they are
    stored. Records come before raw output of the same moment; each file keeps its order.
    """
    stored, is_whole = 0, True
    try:
        for kind in KINDS:
            try:
                stored += _drain_file(folder, telemetry, root_id, attempt, kind, final, echo)
            except files.UNUSABLE as error:
                files.leave_alone(error)
                is_whole = False
        if final and is_whole:
            _remove(folder, telemetry, root_id, attempt)
    except sqlite3.DatabaseError as error:
        if is_store_trouble(error):
            raise translate(error, database_path(folder, "telemetry")) from error
        raise
    return stored


def _drain_file(
    folder: str | Path, telemetry: Connection, root_id: int, attempt: int, kind: str, final: bool, echo: Echo | None
) -> int:
    stored = 0
    while (piece := _read_piece(folder, telemetry, root_id, attempt, kind, final)) is not None:
        with piece.file:
            first = _store(telemetry, root_id, piece)
        if first is None:
            continue  # another process was faster: read on from where it came to
        stored += len(piece.lines)
        if echo is not None and piece.lines:
            echo([LogRow(root_id, number, *line) for number, line in enumerate(piece.lines, first)])
    return stored


def drain_leftovers(folder: str | Path, *, echo: Echo | None = None) -> int:
    """Move what runs without a live process left in their spools; return how many lines that were.

    The files of a run that has ended, or of an earlier attempt, are removed; those of a run that was deleted too.
    """
    names = _spools(folder)
    if not names:
        return 0
    stored = 0
    state = connect(folder, "state", readonly=True)
    telemetry = connect(folder, "telemetry")
    try:
        for root_id, attempt in names:
            run = runs.get(state, root_id)
            if run is None:
                _remove(folder, telemetry, root_id, attempt)
                continue
            lease = leases.of_run(state, root_id)
            if lease is not None and leases.is_alive(lease, folder):
                continue
            # A run that has not ended may be about to start; its files must stay where its process will find them.
            over = run.attempt > attempt or run.state_type in TERMINAL_TYPES
            stored += drain(folder, telemetry, root_id, attempt, final=over, echo=echo)
    finally:
        state.close()
        telemetry.close()
    return stored


def waiting_lines(folder: str | Path, telemetry: Connection, root_id: int, attempt: int) -> Iterator[LogRow]:
    """What waits in a run's spool, as the rows it will be; reads only, for when it cannot be stored now.

    Also a last line without its end is handed out. ``telemetry`` may be a connection that only reads.
    """
    number = logs.next_line(telemetry, root_id)
    for kind in KINDS:
        after: int | None = None
        while (piece := _read_piece(folder, telemetry, root_id, attempt, kind, True, after)) is not None:
            piece.file.close()
            after = piece.end
            for line in piece.lines:
                yield LogRow(root_id, number, *line)
                number += 1


def leftovers(folder: str | Path) -> list[tuple[int, int, int]]:
    """Every spool there is: root run, attempt and bytes in its files."""
    return [
        (root_id, attempt, sum(files.size(folder, _within(root_id, attempt, kind)) for kind in KINDS))
        for root_id, attempt in _spools(folder)
    ]


def attempts_of(folder: str | Path, root_id: int) -> list[int]:
    """The attempts of one root run that have a spool; looks at names only, however many others there are."""
    return [attempt for found, attempt in _spools(folder, f"{root_id}.") if found == root_id]


def _spools(folder: str | Path, begin: str = "") -> list[tuple[int, int]]:
    try:
        names = [name for name in files.names(folder, FOLDER) if name.startswith(begin)]
    except files.UNUSABLE as error:
        files.leave_alone(error)
        return []
    return sorted({(int(match[1]), int(match[2])) for name in names if (match := _NAME.fullmatch(name))})


def _read_piece(
    folder: str | Path, telemetry: Connection, root_id: int, attempt: int, kind: str, final: bool,
    after: int | None = None,
) -> _Piece | None:
    """The next lines of a file, after what is stored or that byte; None when there is nothing to store now."""
    path = _within(root_id, attempt, kind)
    if files.size(folder, path) == 0:
        return None
    row = telemetry.execute(SELECT_OFFSET, (os.path.basename(path),)).fetchone()
    recorded = after if after is not None else int(row[0]) if row else 0
    # After the offset: a size of before, while another process drains, is smaller than that and looks like a new file.
    size = files.size(folder, path)
    start = 0 if size < recorded else recorded  # smaller than before: somebody emptied it
    if size == start:
        return None
    try:
        file = io.FileIO(files.open_to_read(folder, path))
    except FileNotFoundError:
        return None  # drained to its end and removed by another process
    try:
        file.seek(start)
        block = file.read(BLOCK_BYTES)
        complete = _complete_length(block, is_last=start + len(block) >= size, final=final, kind=kind)
        if complete == 0:
            file.close()
            return None
        content = block[:complete]
        lines = (
            _record_lines(content, root_id, attempt) if kind == "rec" else _raw_lines(content, root_id, attempt, kind)
        )
    except BaseException:
        file.close()
        raise
    return _Piece(os.path.join(folder, path), file, recorded, start + complete, lines)


def _complete_length(block: bytes, *, is_last: bool, final: bool, kind: str) -> int:
    """How much of a block to store now: its whole lines, or what there is of one that nobody should wait for."""
    complete = block.rfind(b"\n") + 1
    return complete or _length_without_end(file_block=block, is_last=is_last, final=final, kind=kind)


def _length_without_end(*, file_block: bytes, is_last: bool, final: bool, kind: str) -> int:
    """How much of a block that holds no end of a line to store now."""
    if is_last and final:
        return len(file_block)
    if kind == "rec":
        # A record longer than a block: its pieces are stored as text. Anything shorter is still being written.
        return len(file_block) if len(file_block) == BLOCK_BYTES else 0
    if len(file_block) < MAX_LINE:
        return 0
    # A raw line too long to wait for: cut it, but not inside a character.
    cut = len(file_block) - len(file_block) % MAX_LINE
    while cut < len(file_block) and cut > 0 and file_block[cut] & 0xC0 == 0x80:
        cut -= 1
    return cut


def _store(telemetry: Connection, root_id: int, piece: _Piece) -> int | None:
    """Lines and offset in one transaction; the first line's number, or None when another process was faster.

    Another one that has drained the file to its end removes it first and its offset later, and does the latter in a
    transaction, too: so whoever finds no offset here because of that finds no file either.
    """
    name = os.path.basename(piece.path)
    with transaction(telemetry):
        row = telemetry.execute(SELECT_OFFSET, (name,)).fetchone()
        if (int(row[0]) if row else 0) != piece.recorded or not _is_there(piece):
            return None
        first = logs.next_line(telemetry, root_id)
        telemetry.executemany(
            logs.INSERT, [(root_id, number, *line) for number, line in enumerate(piece.lines, first)]
        )
        telemetry.execute(UPSERT_OFFSET, (name, piece.end))
    return first


def _is_there(piece: _Piece) -> bool:
    """Whether the file still has its name: not when it was removed, or the store moved away."""
    try:
        return os.path.samestat(os.lstat(piece.path), os.fstat(piece.file.fileno()))
    except FileNotFoundError:
        return False


def _remove(folder: str | Path, telemetry: Connection, root_id: int, attempt: int) -> None:
    """Files first: an offset without a file does no harm, a file without its offset would be stored again."""
    removed = [
        (os.path.basename(path),)
        for path in (_within(root_id, attempt, kind) for kind in KINDS)
        if files.remove(folder, path)  # else never made, removed by another process, or away with the store and offset
    ]
    if removed:
        with transaction(telemetry):
            telemetry.executemany(DELETE_OFFSET, removed)


# ---------------------------------------------------------------------------------------------------- lines to rows


def _record_lines(content: bytes, root_id: int, attempt: int) -> list[_Line]:
    texts = [text for text in content.split(b"\n") if text and not text.endswith(b"\x18")]
    try:
        # One call for the whole block costs half of one call per line.
        records = json.loads(b"[" + b",".join(texts) + b"]")
        if len(records) != len(texts):
            raise ValueError("a line held more than one record")
    except (ValueError, RecursionError):
        records = [_record_of(text) for text in texts]
    lines: list[_Line] = []
    for text, record in zip(texts, records, strict=True):
        try:
            at_us, run_id, task_seq, level, logger, stream, message = record
            if stream not in STREAMS or not (
                type(at_us) is type(run_id) is type(level) is int
                and (task_seq is None or (type(task_seq) is int and -_LARGEST <= task_seq <= _LARGEST))
                and max(abs(at_us), abs(run_id), abs(level)) <= _LARGEST
            ):  # fmt: skip
                raise TypeError("not a record")  # else one foreign line would keep all that follow from being stored
            if len(message) <= MAX_LINE and message.isascii() and logger.isascii() and "\n" not in message:
                lines.append((run_id, task_seq, attempt, at_us, level, logger, stream, message))
            else:
                logger = _clean(logger)
                lines += [
                    (run_id, task_seq, attempt, at_us, level, logger, stream, part) for part in _split(_clean(message))
                ]
        except (AttributeError, TypeError, ValueError):
            now = _now_us()
            foreign = text.decode("utf-8", "replace")
            lines += [(root_id, None, attempt, now, 30, "spool", "log", part) for part in _split(foreign)]
    return lines


def _record_of(line: bytes) -> Any:
    """The record on a line; None when it is none (a torn write, somebody else's bytes)."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _raw_lines(content: bytes, root_id: int, attempt: int, kind: str) -> list[_Line]:
    stream, level = ("stdout", 20) if kind == "out" else ("stderr", 30)
    now = _now_us()
    lines: list[_Line] = []
    for text in content.decode("utf-8", "replace").removesuffix("\n").split("\n"):
        text = text.removesuffix("\r")
        for part in (text,) if len(text) <= MAX_LINE else _split(text):
            lines.append((root_id, None, attempt, now, level, stream, stream, part))
    return lines


def _split(message: str) -> list[str]:
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


def _now_us() -> int:
    return time.time_ns() // 1000
