"""The ``log`` table: stored lines of output, numbered without gaps from 0 within a root run.

Because ``(root_id, line)`` is dense, a page anywhere in ten million lines costs what a page costs, and the number of
lines is one look-up. A search walks at most ``scan`` lines a call and says where to go on, so nobody waits for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Protocol

from ..connection import Connection
from ..rows import LogMatches, LogRow

LOG_COLUMNS: Final = ", ".join(LogRow._fields)
INSERT: Final = f"INSERT INTO log ({LOG_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
SELECT_NEXT_LINE: Final = "SELECT line + 1 FROM log WHERE root_id = ? ORDER BY line DESC LIMIT 1"
SELECT_PAGE: Final = f"SELECT {LOG_COLUMNS} FROM log WHERE root_id = ? AND line >= ? ORDER BY line LIMIT ?"

MAX_SCAN: Final = 50_000
"""Lines a search looks at in one call unless told otherwise: some 20 ms."""


class Searchable(Protocol):
    """What can be searched for in a text: one of ``store.patterns``, which ends soon, or of ``re``."""

    def search(self, text: str, /) -> object:
        """Something true where it is found."""
        ...


def append(connection: Connection, rows: Iterable[LogRow]) -> None:
    """Store lines; their numbers must go on from ``next_line``."""
    connection.executemany(INSERT, rows)


def next_line(connection: Connection, root_id: int) -> int:
    """The number the next line of a root run will have."""
    row = connection.execute(SELECT_NEXT_LINE, (root_id,)).fetchone()
    return int(row[0]) if row else 0


count = next_line
"""How many lines a root run has: the numbers have no gaps."""


def page(connection: Connection, root_id: int, from_line: int, limit: int) -> list[LogRow]:
    """Up to ``limit`` lines from a line on."""
    return [LogRow._make(row) for row in connection.execute(SELECT_PAGE, (root_id, from_line, limit))]


def search(
    connection: Connection,
    root_id: int,
    *,
    min_level: int = 0,
    run_id: int | None = None,
    task_seq: int | None = None,
    pattern: str | Searchable | None = None,
    from_line: int = 0,
    limit: int = 1000,
    scan: int = MAX_SCAN,
) -> LogMatches:
    """Up to ``limit`` lines that fit, looking at no more than ``scan`` lines from ``from_line`` on.

    A text is found anywhere in a message, whatever its case unless it holds a capital letter; a compiled pattern is
    searched for. Go on from ``next_line`` until ``done``.
    """
    total = next_line(connection, root_id)
    end = min(from_line + scan, total)
    conditions = ["root_id = ?", "line >= ?", "line < ?"]
    values: list[int | str] = [root_id, from_line, end]
    if min_level > 0:
        conditions.append("level >= ?")
        values.append(min_level)
    if run_id is not None:
        conditions.append("run_id = ?")
        values.append(run_id)
    if task_seq is not None:
        conditions.append("task_seq = ?")
        values.append(task_seq)
    if isinstance(pattern, str) and pattern:
        if not pattern.isascii():
            pattern = re.compile(re.escape(pattern), re.IGNORECASE if pattern == pattern.lower() else 0)
        elif pattern == pattern.lower():
            conditions.append("message LIKE ? ESCAPE '\\'")
            values.append("%" + re.sub(r"([\\%_])", r"\\\1", pattern) + "%")
        else:
            conditions.append("instr(message, ?)")
            values.append(pattern)
    where = f"FROM log WHERE {' AND '.join(conditions)} ORDER BY line"
    if pattern is not None and not isinstance(pattern, str):
        found = _matching(connection, root_id, where, values, pattern, limit)
    else:
        rows = connection.execute(f"SELECT {LOG_COLUMNS} {where} LIMIT ?", (*values, limit))
        found = [LogRow._make(row) for row in rows]
    if found and len(found) == limit:
        end = found[-1].line + 1
    # Never backwards, also when asked to search beyond the end.
    return LogMatches(found, max(end, from_line), end >= total)


def _matching(
    connection: Connection,
    root_id: int,
    where: str,
    values: list[int | str],
    pattern: Searchable,
    limit: int,
) -> list[LogRow]:
    """The lines a compiled pattern is found in. Only their texts are fetched to look at: few lines fit."""
    lines: list[int] = []
    for line, message in connection.execute(f"SELECT line, message {where}", values):
        if pattern.search(message):
            lines.append(line)
            if len(lines) == limit:
                break
    return [
        LogRow._make(connection.execute(SELECT_PAGE, (root_id, line, 1)).fetchone()) for line in lines
    ]
