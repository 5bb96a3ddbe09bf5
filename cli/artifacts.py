"""Artifacts in ``show`` and by ``artifacts``: tables aligned, markdown as it reads, progress as a bar; their shape."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ..engine.errors import NotFound
from ..store.rows import ArtifactRow
from ..tui.text.artifact_text import plain_lines
from ..tui.text.sanitize import clean
from ..tui.text.times import ago
from .formats import iso
from .opening import open_reader
from .output import Output, one_line
from .table import Column

if TYPE_CHECKING:
    from ..store.reader import Reader

_MAX_SHOWN: Final = 20
_MAX_LINES: Final = 40
_MAX_VERSIONS: Final = 1000
COLUMNS: Final = (
    Column("KEY", min_width=8),
    Column("KIND"),
    Column("MADE BY", min_width=8),
    Column("MADE", "right", drop_order=2),
    Column("DESCRIPTION", min_width=10, drop_order=1),
)


def configure(command: str, parser: argparse.ArgumentParser) -> None:  # noqa: ARG001 - the module has one command
    """Define the arguments of ``artifacts``."""
    parser.add_argument("key", nargs="?", metavar="KEY", help="show the newest of this key (--json: all its versions)")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace, out: Output) -> int:
    """The newest artifact of each key, or what there is of one key."""
    reader = open_reader(args, out)
    if args.key is None:
        rows = [] if reader is None else reader.artifacts_by_key(_MAX_VERSIONS)
        if out.as_json:
            out.json_array(map(artifact_shape, rows))
        elif not rows:
            out.say("no artifacts; flows make them with create_markdown_artifact() and the like")
        else:
            now_us = time.time_ns() // 1000
            out.table(COLUMNS, [
                [out.cell(row.key), out.cell(row.kind, "dim"), out.cell(_maker(row), "dim"),
                 out.cell(ago(row.created_at_us, now_us), "dim"), out.cell(row.description or "", "dim")]
                for row in rows])
        return 0
    rows = [] if reader is None else reader.artifact_versions(args.key, _MAX_VERSIONS)
    if reader is None or not rows:
        raise NotFound(f"no artifact {args.key!r}; `flowdeck artifacts` lists them")
    if out.as_json:
        out.json_array(map(artifact_shape, rows))
    else:
        show_artifacts(rows[:1], reader, out, by_itself=True)
    return 0


def _maker(row: ArtifactRow) -> str:
    """The run, or the task of it, that made an artifact."""
    if row.run_id is None:
        return "no run"
    return f"#{row.run_id}" if row.task_seq is None else f"#{row.run_id}/{row.task_seq}"


def artifact_shape(row: ArtifactRow) -> dict[str, Any]:
    """An artifact for programs; a table as JSON, a progress as a number."""
    data: Any = row.data
    if row.kind in ("table", "progress"):
        data = json.loads(row.data, parse_constant=str)
    return {"id": row.id, "run": row.run_id, "task": row.task_seq, "key": row.key, "kind": row.kind,
            "description": row.description, "data": data, "created_at": iso(row.created_at_us)}


def show_artifacts(
    rows: Sequence[ArtifactRow], reader: Reader, out: Output, *, by_itself: bool = False
) -> None:
    """What a run made for people to read; ``by_itself``: below no run, so that it says who made it."""
    for row in rows[-_MAX_SHOWN:]:
        versions = reader.artifact_versions(row.key, _MAX_VERSIONS)
        number = sum(1 for version in versions if version.id <= row.id)
        history = f", version {number} of {len(versions)}" if len(versions) > 1 else ""
        where = f" by {row.run_id}/{row.task_seq}" if row.task_seq is not None else ""
        if by_itself:
            where = f" by {_maker(row)}" if row.run_id is not None else " made outside of runs"
            where += f", {iso(row.created_at_us)}"
        about = f"{row.kind}{where}{history}" + (f": {one_line(row.description)}" if row.description else "")
        if not by_itself:
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
