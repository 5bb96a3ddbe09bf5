"""Artifacts in ``show``: tables aligned, markdown as it reads, progress as a bar; and their shape for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ..store.rows import ArtifactRow
from ..tui.artifact_text import plain_lines
from ..tui.sanitize import clean
from .formats import iso
from .output import Output, one_line

if TYPE_CHECKING:
    from ..store.reader import Reader

_MAX_SHOWN: Final = 20
_MAX_LINES: Final = 40
_MAX_VERSIONS: Final = 1000


def artifact_shape(row: ArtifactRow) -> dict[str, Any]:
    """An artifact for programs; a table as JSON, a progress as a number."""
    data: Any = row.data
    if row.kind in ("table", "progress"):
        data = json.loads(row.data, parse_constant=str)
    return {"id": row.id, "run": row.run_id, "task": row.task_seq, "key": row.key, "kind": row.kind,
            "description": row.description, "data": data, "created_at": iso(row.created_at_us)}


def show_artifacts(rows: Sequence[ArtifactRow], reader: Reader, out: Output) -> None:
    """What a run made for people to read."""
    for row in rows[-_MAX_SHOWN:]:
        versions = reader.artifact_versions(row.key, _MAX_VERSIONS)
        number = sum(1 for version in versions if version.id <= row.id)
        history = f", version {number} of {len(versions)}" if len(versions) > 1 else ""
        where = f" by {row.run_id}/{row.task_seq}" if row.task_seq is not None else ""
        about = f"{row.kind}{where}{history}" + (f": {one_line(row.description)}" if row.description else "")
        out.line()
        out.line(f"{out.paint(one_line(row.key), 'bold')}  {out.paint(about, 'dim')}")
        lines = plain_lines(row, ascii_only=not out.unicode)
        for line in lines[:_MAX_LINES]:
            heading = row.kind == "markdown" and line.startswith("#")
            shown = out.fit(clean(line.lstrip("# ") if heading else line), indent=2)
            out.line(f"  {out.paint(shown, 'bold' if heading else '')}")
        if len(lines) > _MAX_LINES:
            out.line(f"  {out.paint(f'and {len(lines) - _MAX_LINES:,} more lines', 'dim')}")
    if len(rows) > _MAX_SHOWN:
        out.say(f"the newest {_MAX_SHOWN} of {len(rows):,} artifacts; --json has all", "dim")
