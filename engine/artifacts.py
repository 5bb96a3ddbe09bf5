"""Artifacts: what a run makes for people to read, durable when the call returns. Names and forms are Prefect's."""

from __future__ import annotations

import json
import re
from typing import Any

from ..store import artifacts
from ..store.rows import ArtifactRow
from .clock import now_us
from .context import require_frame
from .errors import UsageError
from .interrupts import engine_code
from .states import storable

_KEY = re.compile(r"[a-z0-9][a-z0-9-]*\Z")


def create_markdown_artifact(markdown: str, key: str | None = None, description: str | None = None) -> int:
    """Keep a markdown text; returns the artifact's id."""
    return _create("markdown", markdown, key, description)


def create_table_artifact(
    table: list[dict[str, Any]] | dict[str, list[Any]] | list[list[Any]],
    key: str | None = None,
    description: str | None = None,
) -> int:
    """Keep a table: rows as dicts or lists, or columns by name."""
    try:
        text = json.dumps(table, ensure_ascii=False, default=str)
    except (TypeError, ValueError) as error:
        raise UsageError(f"table artifact {key!r}: the table has no JSON form: {error}") from None
    return _create("table", text, key, description)


def create_link_artifact(
    link: str, link_text: str | None = None, key: str | None = None, description: str | None = None
) -> int:
    """Keep a link."""
    return _create("link", f"[{link_text or link}]({link})", key, description)


def _create(kind: str, data: str, key: str | None, description: str | None) -> int:
    frame = require_frame(f"create_{kind}_artifact()")
    if key is not None and not _KEY.match(key):
        raise UsageError(f"an artifact's key is made of small letters, digits and dashes, not {key!r}")
    task_seq = frame.task.seq if frame.task is not None else None
    name = key or (frame.task.name if frame.task is not None else frame.run.flow.name)
    told = storable(description) if description is not None else None
    row = ArtifactRow(0, frame.run.id, task_seq, name, kind, told, storable(data), now_us())
    with engine_code():
        return frame.run.session.writer.commit(lambda conn: artifacts.insert(conn, row))
