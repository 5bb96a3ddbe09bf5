"""Artifacts as lines of plain text: tables aligned, progress as a bar, links with where they lead. Pure.

The text is the artifact's own, raw: whoever shows it sanitises it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from ...store.rows import ArtifactRow

MAX_ROWS: Final = 200
MAX_CELL: Final = 60
BAR_CELLS: Final = 30


def table(text: str, max_rows: int = MAX_ROWS) -> tuple[list[str], list[list[str]], int]:
    """Heads, rows of cells and how many rows were left out, of a table in any of its forms."""
    try:
        data = json.loads(text)
    except ValueError:
        return [], [[text]], 0
    heads: list[str] = []
    rows: Sequence[Any]
    if isinstance(data, dict):
        heads = [str(key) for key in data]
        columns = [value if isinstance(value, list) else [value] for value in data.values()]
        rows = [[column[n] if n < len(column) else None for column in columns]
                for n in range(max(map(len, columns), default=0))]
    elif isinstance(data, list) and data and all(isinstance(row, dict) for row in data):
        heads = [str(key) for key in dict.fromkeys(key for row in data for key in row)]
        rows = [[row.get(key) for key in heads] for row in data]
    else:
        rows = data if isinstance(data, list) else [data]
    shown = [[_cell(value) for value in (row if isinstance(row, list) else [row])] for row in rows[:max_rows]]
    return heads, shown, max(0, len(rows) - max_rows)


def table_lines(text: str, *, ascii_only: bool = False, max_rows: int = MAX_ROWS) -> list[str]:
    """A table with its columns aligned, numbers to the right, a rule below the heads."""
    heads, rows, left_out = table(text, max_rows)
    count = max([len(heads), *map(len, rows)], default=0)
    if not count:
        return ["(empty)"]
    rows = [[*row, *[""] * (count - len(row))] for row in rows]
    heads = [*heads, *[""] * (count - len(heads))] if heads else []
    widths = [max(map(len, column)) for column in zip(*([heads] if heads else []), *rows, strict=True)]
    right = [all(_is_number(row[n]) for row in rows if row[n]) and bool(rows) for n in range(count)]

    def line(cells: list[str]) -> str:
        parts = [cell.rjust(width) if numeric else cell.ljust(width)
                 for cell, width, numeric in zip(cells, widths, right, strict=True)]
        return "  ".join(parts).rstrip()

    rule = ["  ".join(("-" if ascii_only else "─") * width for width in widths)]
    lines = [line(heads), *rule] if heads else []
    lines += [line(row) for row in rows]
    return lines + ([f"and {left_out:,} more rows"] if left_out else [])


def progress_line(text: str, *, ascii_only: bool = False, width: int = BAR_CELLS) -> str:
    """A bar and the number."""
    try:
        value = min(100.0, max(0.0, float(text)))
    except ValueError:
        return text
    done = round(width * value / 100)
    full, empty = ("#", ".") if ascii_only else ("━", "╌")
    return f"{full * done}{empty * (width - done)} {value:g} %"


def link_parts(text: str) -> tuple[str, str]:
    """What a link says and where it leads."""
    words, mark, rest = text[1:-1].partition("](") if text.startswith("[") and text.endswith(")") else ("", "", "")
    return (words, rest) if mark else (text, text)


def plain_lines(artifact: ArtifactRow, *, ascii_only: bool = False, max_rows: int = MAX_ROWS) -> list[str]:
    """Any artifact as lines; markdown as it was written."""
    match artifact.kind:
        case "table":
            return table_lines(artifact.data, ascii_only=ascii_only, max_rows=max_rows)
        case "progress":
            return [progress_line(artifact.data, ascii_only=ascii_only)]
        case "link":
            words, url = link_parts(artifact.data)
            return [url if words == url else f"{words}: {url}"]
        case _:
            return artifact.data.splitlines()


def _cell(value: Any) -> str:
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
