"""What a disk holds after the power went, made from a record of what processes wrote and when they waited for the disk.

``disk_recorder.c`` makes the record of a real run. At any point of it the disk surely holds what was written before
the last sync of a file that had returned; of everything later any part may be there, sector by sector, and a name is
surely in its folder only once the folder was synced after it came.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SECTOR = 512
_HEADER = struct.Struct("<IIQQQ")


class Operation(NamedTuple):
    """``w`` write, ``t`` truncate to ``offset``, ``b`` a sync begins, ``s`` has returned, ``u`` unlink, ``m`` mkdir."""

    kind: str
    path: str
    offset: int
    data: bytes
    thread: int


def read_record(path: Path) -> list[Operation]:
    """All of it, in the order noted."""
    content, at, found = path.read_bytes(), 0, []
    while at < len(content):
        kind, path_bytes, offset, data_bytes, thread = _HEADER.unpack_from(content, at)
        at += _HEADER.size
        name = content[at : at + path_bytes].decode()
        at += path_bytes
        found.append(Operation(chr(kind), name, offset, content[at : at + data_bytes], thread))
        at += data_bytes
    return found


@dataclass
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, Operation]] = field(default_factory=list)
    was_synced: bool = False

    def settle(self, before: int) -> None:
        """Synced: what was noted before that number is there."""
        for number, operation in self.pending:
            if number < before:
                apply(self.durable, operation)
        self.pending = [(number, operation) for number, operation in self.pending if number >= before]
        self.was_synced = True

    def after_the_cut(self, dice: random.Random) -> bytes:
        """With any part of what was not synced."""
        kept, share = bytearray(self.durable), dice.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        for _, operation in self.pending:
            for piece in pieces(operation):
                if dice.random() < share:
                    apply(kept, piece)
        return bytes(kept)


def apply(content: bytearray, operation: Operation) -> None:
    """As the file system would."""
    if operation.kind == "t":
        del content[operation.offset :]
        content.extend(bytes(operation.offset - len(content)))
        return
    content.extend(bytes(max(0, operation.offset - len(content))))
    content[operation.offset : operation.offset + len(operation.data)] = operation.data


def pieces(operation: Operation) -> Iterator[Operation]:
    """A write by sectors; a truncation is one."""
    if operation.kind == "t":
        yield operation
        return
    at, data = operation.offset, operation.data
    while data:
        length = SECTOR - at % SECTOR
        yield operation._replace(offset=at, data=data[:length])
        at, data = at + length, data[length:]


class Disk:
    """The files below a folder, as they are known to be on the disk while a record is gone through."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files = {str(path): _File(bytearray(path.read_bytes())) for path in root.rglob("*") if path.is_file()}
        self._named = {str(path) for path in [root, *root.rglob("*")]}
        """Names that are surely in their folders."""
        self._new: dict[str, int] = {}
        self._gone: dict[str, tuple[int, _File]] = {}
        self._begun: dict[tuple[int, str], int] = {}
        self._number = 0

    def go_on(self, operation: Operation) -> None:
        """One more operation."""
        self._number += 1
        path, number = operation.path, self._number
        if operation.kind == "b":
            self._begun[operation.thread, path] = number
        elif operation.kind == "s":
            self._synced(path, self._begun.pop((operation.thread, path)))
        elif operation.kind == "u":
            gone = self._files.pop(path, None)
            if gone is not None and path in self._named:
                self._gone[path] = number, gone
            self._named.discard(path)
            self._new.pop(path, None)
        else:
            if path not in self._named:
                self._new.setdefault(path, number)
            if operation.kind != "m":
                self._files.setdefault(path, _File()).pending.append((number, operation))

    def _synced(self, path: str, before: int) -> None:
        if path in self._files:
            self._files[path].settle(before)
            return
        for name, number in [*self._new.items()]:
            if str(Path(name).parent) == path and number < before:
                self._named.add(name)
                del self._new[name]
        for name, (number, _) in [*self._gone.items()]:
            if str(Path(name).parent) == path and number < before:
                del self._gone[name]

    def cut(self, dice: random.Random) -> dict[str, bytes]:
        """The power goes now: files by path."""
        lost = {name for name in self._new if dice.random() < 0.5}
        files = {name: gone for name, (_, gone) in self._gone.items() if dice.random() < 0.5}
        for name, file in self._files.items():
            if not any(name == new or name.startswith(f"{new}/") for new in lost):
                files[name] = file
        return {name: file.after_the_cut(dice) for name, file in files.items()}
