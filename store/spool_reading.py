"""Reading a run's spool files: what is new in all three, in one order, without storing anything.

Records and the marks among them say what raw output came before which record. What no mark has told of was written
after every record that was there before it: that is why sizes are looked at first, then records read, then raw output.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from . import files
from .spool_lines import RAW, Line, Mark, cut_length, now_us, parse_records, raw_lines

FOLDER: Final = "spool"
KINDS: Final = ("rec", "out", "err")
BLOCK_BYTES: Final = 1024 * 1024
"""Read and stored in one transaction."""
UNMARKED_SECONDS: Final = 1.0
"""Raw output of a living run waits so long for the mark that says whose it is; C code may hold everything else up."""
_LONGEST_RECORD: Final = 256 * BLOCK_BYTES
"""Bytes of a line of records; older versions wrote whatever a program logged as one."""


def within(root_id: int, attempt: int, kind: str) -> str:
    """The path of one of a run's spool files within its store."""
    return f"{FOLDER}/{root_id}.{attempt}.{kind}"


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
