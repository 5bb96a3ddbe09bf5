"""Unpacks a store that an older version made, as if it had been made where it is unpacked.

A store names places of the machine it lives on: flow files and the folder of the daemon, in texts; and the classes of
a flow file by a module name that is made of the file's path, in results. Both are rewritten here, in plain SQL and
bytes, without a word of Flowdeck's own code: how the older version wrote them is what is known. A pickle of a script's
own classes names the script only for tracebacks, and is left as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import tarfile
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

STORES = Path(__file__).resolve().parent
ARCHIVES = sorted(STORES.glob("store-*.tar.gz"))
BLOBS = (
    ("result", "data", "checksum"), ("cache_entry", "data", "checksum"), ("task_run", "result_data", "result_checksum"),
    ("staged_task", "held", None),
)  # fmt: skip
"""Table, column of bytes, and column of their checksum."""
COMPRESSED = b"FDZ1"
"""Before bytes that a ``compressed/…`` serializer made."""


class OldStore(NamedTuple):
    """One that was unpacked."""

    root: Path
    """Holds ``store``, ``flows``, and the ``effects`` that user code noted."""
    facts: dict[str, Any]
    """What ``make_store.py`` says of it."""

    @property
    def folder(self) -> Path:
        """The store itself."""
        return self.root / "store"

    def effects(self) -> list[str]:
        """Everything user code has noted so far, in order."""
        return (self.root / "effects").read_text("utf-8").splitlines()


def unpack(archive: Path, root: Path) -> OldStore:
    """The store of an archive, in a new folder."""
    with tarfile.open(archive) as file:
        file.extractall(root, filter="data")
    for folder, _, names in os.walk(root / "store"):
        os.chmod(folder, 0o700)
        for name in names:
            os.chmod(Path(folder, name), 0o600)
    facts: dict[str, Any] = json.loads((root / "made.json").read_text("utf-8"))
    names = [(facts["root"], str(root))]
    for path in sorted((root / "flows").glob("*.py")):
        names.append((_module_name(Path(facts["root"], "flows", path.name)), _module_name(path)))
    for database in ("state.db", "telemetry.db"):
        with closing(sqlite3.connect(root / "store" / database)) as connection, connection:
            for old, new in names:
                _replace_texts(connection, old, new)
            if database == "state.db":
                _rename_modules(connection, root / "store", names[1:])
                late_us = connection.execute("SELECT max(at_us) FROM event").fetchone()[0] - time.time_ns() // 1000
                if late_us > 0:
                    _move_times(connection, -late_us)
    return OldStore(root, facts)


def _module_name(path: Path) -> str:
    """The name a flow file has as a module, in pickles."""
    return f"flow_file_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def _columns(connection: sqlite3.Connection, kind: str) -> Iterator[tuple[str, str]]:
    """Table and column, of every column of this kind."""
    for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        for row in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
            if row[2] == kind:
                yield table, row[1]


def _replace_texts(connection: sqlite3.Connection, old: str, new: str) -> None:
    for table, column in _columns(connection, "TEXT"):
        connection.execute(f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) '
                           f'WHERE instr("{column}", ?) > 0', (old, new, old))  # fmt: skip


def _move_times(connection: sqlite3.Connection, by_us: int) -> None:
    """A machine whose clock stands before the store was made: to it the store was made just now."""
    for table, column in _columns(connection, "INTEGER"):
        if column.endswith(("at_us", "until_us")):
            connection.execute(f'UPDATE "{table}" SET "{column}" = "{column}" + ?', (by_us,))


def _rename_modules(connection: sqlite3.Connection, folder: Path, names: list[tuple[str, str]]) -> None:
    """In every result, in its row or its file; old and new names are of one length, as pickles want it."""
    for table, column, checksum in BLOBS:
        info = connection.execute(f'PRAGMA table_info("{table}")').fetchall()
        known, key = {row[1] for row in info}, [f'"{row[1]}"' for row in info if row[5]]
        path = "path" if "path" in known else "NULL"
        rows = connection.execute(f'SELECT "{column}", {path}, {", ".join(key)} FROM "{table}"').fetchall()
        for data, place, *identity in rows:
            before = data if place is None else (folder / place).read_bytes()
            if before is None:
                continue
            after = _renamed(before, names)
            if place is not None:
                (folder / place).write_bytes(after)  # several rows may have it, each with the checksum
            elif after == before:
                continue
            changes: dict[str, Any] = {column: after} if place is None else {}
            if checksum is not None:
                changes[checksum] = _checksum(after)
            if "size_bytes" in known:
                changes["size_bytes"] = len(after)
            sets = ", ".join(f'"{name}" = ?' for name in changes)
            where = " AND ".join(f"{name} = ?" for name in key)
            connection.execute(f'UPDATE "{table}" SET {sets} WHERE {where}', (*changes.values(), *identity))


def _renamed(data: bytes, names: list[tuple[str, str]]) -> bytes:
    if data.startswith(COMPRESSED):
        inside = zlib.decompress(data[len(COMPRESSED):])
        renamed = _renamed(inside, names)
        return data if renamed == inside else COMPRESSED + zlib.compress(renamed)
    for old, new in names:
        data = data.replace(old.encode(), new.encode())
    return data


def _checksum(data: bytes) -> str:
    return f"{zlib.crc32(data):08x}" if len(data) <= 4096 else hashlib.blake2b(data, digest_size=16).hexdigest()
