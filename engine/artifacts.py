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


def create_image_artifact(image_url: str, key: str | None = None, description: str | None = None) -> int:
    """Keep an image by its address."""
    return _create("image", str(image_url), key, description)


def create_progress_artifact(progress: float, key: str | None = None, description: str | None = None) -> int:
    """Keep how far something is, in percent; ``update_progress_artifact`` moves it, live in the console."""
    return _create("progress", _percent(progress), key, description)


def update_progress_artifact(
    artifact_id: int, progress: float, description: str | None = None, **_ignored: Any
) -> int:
    """Move a progress artifact; shown within a second, durable with one of the next writes."""
    frame = require_frame("update_progress_artifact()")
    data = _percent(progress)
    told = storable(description) if description is not None else None
    with engine_code():
        frame.run.session.writer.soon(lambda conn: artifacts.move_progress(conn, artifact_id, data, told))
    return artifact_id


def _percent(progress: float) -> str:
    """Prefect's rule: what is beyond 0 and 100 counts as 0 and 100."""
    if isinstance(progress, bool) or not isinstance(progress, (int, float)) or progress != progress:
        raise UsageError(f"a progress is a number of percent from 0 to 100, not {progress!r}")
    return f"{min(100.0, max(0.0, float(progress))):g}"


def _create(kind: str, data: str, key: str | None, description: str | None) -> int:
    frame = require_frame(f"create_{kind}_artifact()")
    if key is not None and (not isinstance(key, str) or not _KEY.match(key)):
        raise UsageError(f"an artifact's key is made of small letters, digits and dashes, not {key!r}")
    task_seq = frame.task.seq if frame.task is not None else None
    name = key or (frame.task.name if frame.task is not None else frame.run.flow.name)
    told = storable(description) if description is not None else None
    row = ArtifactRow(0, frame.run.id, task_seq, name, kind, told, storable(data), now_us())
    with engine_code():
        return frame.run.session.writer.commit(lambda conn: artifacts.insert(conn, row))
