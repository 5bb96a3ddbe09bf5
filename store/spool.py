"""Append-only files that output goes to first, and their way from there into the ``log`` table.

A run's process writes each log record with one ``write`` to ``<store>/spool/<root>.<attempt>.rec``, and has its
descriptors 1 and 2 pointed at ``.out`` and ``.err``; what it wrote survives its kill. Before a record that follows raw
output it writes a mark, so that all three together have one order (``spool_lines``). ``drain`` moves what is new into
``telemetry.db`` together with how far it came, in one transaction, so that a kill at any point neither loses nor
doubles a line. Any process may drain any spool, several at once too. What counts is the file and not its name: lines
are stored only while the file they were read from still stands there, and an offset is forgotten only by who removed
its file. So a store that is moved away, replaced or moved back, with its run going on, doubles and loses nothing.

What is not a line yet (a progress bar) stands in ``.now``, which is written anew each time: it is read by who shows a
living run, and becomes lines when the run's process is gone.

Longer than most: writing and draining stand together, because each is only right by what the other does.
"""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from . import files
from .connection import Connection, connect, database_path, transaction
from .driver_errors import is_store_trouble, translate, translate_os
from .rows import LogRow
from .spool_lines import (
    FOLDER,
    KINDS,
    Line,
    Mark,
    Piece,
    Reading,
    Source,
    mark,
    parse_records,
    raw_ends,
    record,
    within,
)  # fmt: skip
from .states import TERMINAL_TYPES
from .tables import leases, logs, runs

NOW: Final = "now"
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
Whose = Callable[[], tuple[int, int | None]]

_seek = os.lseek
_NAME = re.compile(r"(\d{1,18})\.(\d{1,9})\.(?:rec|out|err|now)")


def spool_path(folder: str | Path, root_id: int, attempt: int, kind: str) -> str:
    """The path of one of a run's spool files."""
    return os.path.join(folder, within(root_id, attempt, kind))


class SpoolWriter:
    """The writing end, in a run's process. ``record`` may be called from any thread.

    On a full disk those wait whose lines they are. Threads that others depend on hand theirs over without waiting, and
    so does who was interrupted while it waited: a few thousand are kept until there is room.
    """

    def __init__(self, folder: str | Path, root_id: int, attempt: int, *, whose: Whose | None = None) -> None:
        self.root_id = root_id
        self.attempt = attempt
        self.whose = whose
        """Asked whose raw output is that came since the last time; without it nothing is marked."""
        self.before: Callable[[], None] | None = None
        """Called before each record: to have in the files what is on its way there."""
        self._ends = [0, 0]
        self.is_closed = False
        self._is_open = False
        """Whether something stands in the files that no mark has ended as a line."""
        self._folder = folder
        self._now_fd = -1
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
        self.append(at_us, record(at_us, run_id, task_seq, level, logger, stream, message), wait)

    def append(self, at_us: int, line: bytes, wait: bool = True) -> None:
        """As ``record``, of one that is made already."""
        if self.before is not None:
            self.before()
        if self.whose is not None:
            out, err = self._ends
            if _seek(self.out_fd, 0, 2) != out or _seek(self.err_fd, 0, 2) != err:
                marks, ends = self._marks(at_us)
                self._append(marks + line, wait=wait)
                self._ends = ends
                return
        self._append(line, wait=wait)

    def mark(self, at_us: int, *, is_cut: bool = False) -> bool:
        """What came through the descriptors belongs to who ran; ``is_cut``: it ends there. Whether anything came."""
        ends, seek = self._ends, os.lseek
        if self.whose is not None and (
            seek(self.out_fd, 0, 2) != ends[0] or seek(self.err_fd, 0, 2) != ends[1] or (is_cut and self._is_open)
        ):
            marks, ends_now = self._marks(at_us, is_cut=is_cut)
            self._append(marks, wait=False)
            self._ends = ends_now
            self._is_open = not is_cut
            return True
        return False

    def _append(self, line: bytes, *, wait: bool) -> None:
        if self.is_closed or (not self._kept and not self._torn and self._write(line)):
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

    def _marks(self, at_us: int, *, is_cut: bool = False) -> tuple[bytes, list[int]]:
        """What is to be written before what is written now, and the ends it tells of.

        Those count as told once it is written: else another thread's record could come between.
        """
        whose = self.whose() if self.whose is not None else (self.root_id, None)
        found, ends = b"", [*self._ends]
        for place, (kind, descriptor) in enumerate((("out", self.out_fd), ("err", self.err_fd))):
            end = _seek(descriptor, 0, os.SEEK_END)
            if end != ends[place] or is_cut:
                found += mark(kind, end, at_us, *whose, is_cut=is_cut)
                ends[place] = end
        if not is_cut:
            self._is_open = True
        return found, ends

    def marks_from_here(self) -> None:
        """What stands in the files already is nobody's who runs here."""
        self._ends = [os.lseek(descriptor, 0, os.SEEK_END) for descriptor in (self.out_fd, self.err_fd)]

    def open_raw(self) -> tuple[int, int]:
        """Descriptors to read what came through descriptors 1 and 2."""
        return (
            open_to_read(self._folder, self.root_id, self.attempt, "out"),
            open_to_read(self._folder, self.root_id, self.attempt, "err"),
        )

    def show(self, records: Sequence[bytes]) -> None:
        """Replace what is shown of the lines that are not whole yet."""
        if self._now_fd < 0:
            if not records or self.is_closed:
                return
            self._now_fd = files.open_to_write(self._folder, within(self.root_id, self.attempt, NOW))
        data = b"".join(records)
        try:
            os.pwrite(self._now_fd, data, 0)
            os.ftruncate(self._now_fd, len(data))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise  # on a full disk the line itself comes when there is room

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
        """Close the descriptors; the files stay until they are drained. What comes later is of no run."""
        self.write_kept()
        descriptors = (self.record_fd, self.out_fd, self.err_fd, self._now_fd)
        self.whose = None
        self.is_closed = True  # before: a number that is free may be another file's at once
        self.record_fd = self.out_fd = self.err_fd = self._now_fd = -1
        for descriptor in descriptors:
            if descriptor >= 0:
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
        return files.open_to_append(folder, within(root_id, attempt, kind))
    except OSError as error:
        raise translate_os(error, spool_path(folder, root_id, attempt, kind)) from error


def open_to_read(folder: str | Path, root_id: int, attempt: int, kind: str) -> int:
    """A descriptor to read one of a run's spool files with; ``FileNotFoundError`` when there is none."""
    return files.open_to_read(folder, within(root_id, attempt, kind))


# ---------------------------------------------------------------------------------------------------- draining


def drain(
    folder: str | Path,
    telemetry: Connection,
    root_id: int,
    attempt: int,
    *,
    final: bool = False,
    live: bool = False,
    echo: Echo | None = None,
) -> int:
    """Move what is new in a run's spool into ``log``; return how many lines that were.

    A last line without its end is kept back until ``final``, which stores it as it is and, when nothing is left,
    removes the files; one that cannot be read is left alone. ``live``: the run's process is there and will mark whose
    its raw output is, which is waited for a while. ``echo`` is given the rows of each group once they are stored.
    """
    stored = 0

    def stored_to(name: str) -> int:
        return _offset(telemetry, name)

    try:
        while True:
            reading = Reading(folder, root_id, attempt, stored_to, final=final, live=live)
            piece = reading.next()
            if piece is None:
                break
            try:
                first = _store(telemetry, root_id, piece)
            finally:
                piece.close()
            if first is None:
                continue  # another process was faster: read on from where it came to
            stored += len(piece.lines)
            if echo is not None and piece.lines:
                echo([LogRow(root_id, number, *line) for number, line in enumerate(piece.lines, first)])
        if final and not reading.is_unreadable:
            stored += _store_unfinished(folder, telemetry, root_id, attempt)
            _remove(folder, telemetry, root_id, attempt)
    except sqlite3.DatabaseError as error:
        if is_store_trouble(error):
            raise translate(error, database_path(folder, "telemetry")) from error
        raise
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
    after: dict[str, int] = {}

    def read_to(name: str) -> int:
        return after[name] if name in after else _offset(telemetry, name)

    while True:
        piece = Reading(folder, root_id, attempt, read_to, final=True).next()
        if piece is None:
            break
        piece.close()
        after |= {source.name: source.end for source in piece.sources}
        for line in piece.lines:
            yield LogRow(root_id, number, *line)
            number += 1
    for line in _unfinished(folder, root_id, attempt):
        yield LogRow(root_id, number, *line)
        number += 1


def unfinished_lines(folder: str | Path, telemetry: Connection, root_id: int, attempt: int) -> list[LogRow]:
    """What is being written and is no line yet, as the rows it would be now; reads only."""
    number = logs.next_line(telemetry, root_id)
    found = [*_unfinished(folder, root_id, attempt), *raw_ends(folder, root_id, attempt)]
    return [LogRow(root_id, number + place, *line) for place, line in enumerate(found)]


def _unfinished(folder: str | Path, root_id: int, attempt: int) -> list[Line]:
    try:
        content = files.read(folder, within(root_id, attempt, NOW))
    except FileNotFoundError:
        return []
    except files.UNUSABLE as error:
        files.leave_alone(error)
        return []
    texts = content.split(b"\n")[:-1]  # one that is being written has no end
    return [line for _, found in parse_records(texts, root_id, attempt) if not isinstance(found, Mark)
            for line in found if line[5] != "spool"]  # fmt: skip


def _store_unfinished(folder: str | Path, telemetry: Connection, root_id: int, attempt: int) -> int:
    """The last state of what was never ended; by whoever removes the file."""
    lines = _unfinished(folder, root_id, attempt)
    if not lines:
        return 0
    with transaction(telemetry):
        if not files.remove(folder, within(root_id, attempt, NOW)):
            return 0  # another process did
        first = logs.next_line(telemetry, root_id)
        telemetry.executemany(logs.INSERT, [(root_id, number, *line) for number, line in enumerate(lines, first)])
    return len(lines)


def leftovers(folder: str | Path) -> list[tuple[int, int, int]]:
    """Every spool there is: root run, attempt and bytes in its files."""
    return [
        (root_id, attempt, sum(files.size(folder, within(root_id, attempt, kind)) for kind in KINDS))
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


def _store(telemetry: Connection, root_id: int, piece: Piece) -> int | None:
    """Lines and offsets in one transaction; the first line's number, or None when another process was faster.

    Another one that has drained the file to its end removes it first and its offset later, and does the latter in a
    transaction, too: so whoever finds no offset here because of that finds no file either.
    """
    with transaction(telemetry):
        for source in piece.sources:
            if _offset(telemetry, source.name) != source.recorded or not _is_there(source):
                return None
        first = logs.next_line(telemetry, root_id)
        telemetry.executemany(
            logs.INSERT, [(root_id, number, *line) for number, line in enumerate(piece.lines, first)]
        )
        telemetry.executemany(
            UPSERT_OFFSET,
            [(source.name, source.end) for source in piece.sources if source.end != source.recorded],
        )
    return first


def _offset(telemetry: Connection, name: str) -> int:
    row = telemetry.execute(SELECT_OFFSET, (name,)).fetchone()
    return int(row[0]) if row else 0


def _is_there(source: Source) -> bool:
    """Whether the file still has its name: not when it was removed, or the store moved away."""
    try:
        return os.path.samestat(os.lstat(source.path), os.fstat(source.file.fileno()))
    except FileNotFoundError:
        return False


def _remove(folder: str | Path, telemetry: Connection, root_id: int, attempt: int) -> None:
    """Files first: an offset without a file does no harm, a file without its offset would be stored again."""
    removed = [
        (os.path.basename(path),)
        for path in (within(root_id, attempt, kind) for kind in (*KINDS, NOW))
        if files.remove(folder, path)  # else never made, removed by another process, or away with the store and offset
    ]
    if removed:
        with transaction(telemetry):
            telemetry.executemany(DELETE_OFFSET, removed)
