"""Artifacts: what a run makes for people to read, durable when the call returns. Names and forms are Prefect's.

Outside of runs they are stored without one: ``flowdeck artifacts`` lists all.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from ...store.rows import ArtifactRow
from ...store.tables import artifacts
from ..errors import UsageError
from ..running.calls.frame import current_frame
from ..running.effects.interrupts import engine_code
from ..states.state import storable
from ..system.awaiting import also_awaited
from ..system.clock import now_us
from .placing import commit, know_secrets, read

_KEY = re.compile(r"[a-z0-9][a-z0-9-]*\Z")


class Artifact:
    """An artifact as it was read, or as it is to be made: ``Artifact.get("key")`` gives the newest of its key.

    ``data`` is the text; of a table its JSON, of a progress a number. ``flow_run_id`` and ``task_run_id`` say who made
    it: None outside of runs.
    """

    __module__ = "flowdeck"

    __slots__ = ("created", "data", "description", "flow_run_id", "id", "key", "task_run_id", "type")

    def __init__(
        self,
        type: str | None = None,  # noqa: A002 - Prefect's name
        key: str | None = None,
        description: str | None = None,
        data: Any = None,
    ) -> None:
        self.type = type or "markdown"
        self.key = key
        self.description = description
        self.data = data
        self.id: int | None = None
        self.created: datetime | None = None
        self.flow_run_id: int | None = None
        self.task_run_id: str | None = None

    def __repr__(self) -> str:
        return f"<Artifact {self.id} {self.key} {self.type}>"

    @classmethod
    @also_awaited
    def get(cls, key: str | None = None) -> Artifact | None:
        """The newest version of a key, without a key the newest of all; None when there is none."""
        if key is None:
            row = read(artifacts.newest)
        else:
            row = next(iter(read(lambda conn: artifacts.of_key(conn, key, 1))), None)
        return None if row is None else _shown(row)

    @classmethod
    @also_awaited
    def get_or_create(
        cls, key: str | None = None, description: str | None = None, data: Any = None, **more: Any
    ) -> tuple[Artifact, bool]:
        """The newest version of a key, or else a first one; and whether it was made now."""
        found = cls.get(key)
        if found is not None:
            return found, False
        return cls(key=key, description=description, data=data, **more).create(), True

    @also_awaited
    def create(self) -> Artifact:
        """Keep it; returns it as it is stored."""
        if self.type == "progress":
            text = _percent(self.data)
        elif isinstance(self.data, str) and self.type != "table":
            text = self.data
        else:
            text = _json(f"artifact {self.key!r}", self.data)
        return _shown(_stored(self.type, text, self.key, self.description))

    @classmethod
    async def aget(cls, key: str | None = None) -> Artifact | None:
        """``get`` to be awaited."""
        return cls.get(key)


def _shown(row: ArtifactRow) -> Artifact:
    made = Artifact(row.kind, row.key, row.description, float(row.data) if row.kind == "progress" else row.data)
    made.id, made.flow_run_id = row.id, row.run_id
    made.created = datetime.fromtimestamp(row.created_at_us / 1e6, UTC)
    made.task_run_id = f"{row.run_id}/{row.task_seq}" if row.task_seq is not None else None
    return made


@also_awaited
def create_markdown_artifact(markdown: str, key: str | None = None, description: str | None = None) -> int:
    """Keep a markdown text; returns the artifact's id."""
    return _create("markdown", markdown, key, description)


@also_awaited
def create_table_artifact(
    table: list[dict[str, Any]] | dict[str, list[Any]] | list[list[Any]],
    key: str | None = None,
    description: str | None = None,
) -> int:
    """Keep a table: rows as dicts or lists, or columns by name."""
    return _create("table", _json(f"table artifact {key!r}: the table", table), key, description)


@also_awaited
def create_link_artifact(
    link: str, link_text: str | None = None, key: str | None = None, description: str | None = None
) -> int:
    """Keep a link."""
    return _create("link", f"[{link_text or link}]({link})", key, description)


@also_awaited
def create_image_artifact(image_url: str, key: str | None = None, description: str | None = None) -> int:
    """Keep an image by its address."""
    return _create("image", str(image_url), key, description)


@also_awaited
def create_progress_artifact(progress: float, key: str | None = None, description: str | None = None) -> int:
    """Keep how far something is, in percent; ``update_progress_artifact`` moves it, live in the console."""
    return _create("progress", _percent(progress), key, description)


@also_awaited
def update_progress_artifact(
    artifact_id: int, progress: float, description: str | None = None, **_ignored: Any
) -> int:
    """Move a progress artifact; shown within a second, durable with one of the next writes."""
    data = _percent(progress)
    frame = current_frame.get()
    know_secrets()
    told = storable(description) if description is not None else None
    if frame is None:
        commit(lambda conn: artifacts.move_progress(conn, artifact_id, data, told))
    else:
        with engine_code():
            frame.run.session.writer.soon(lambda conn: artifacts.move_progress(conn, artifact_id, data, told))
    return artifact_id


def _json(what: str, value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what} has no JSON form: {error}") from None


def _percent(progress: float) -> str:
    """Prefect's rule: what is beyond 0 and 100 counts as 0 and 100."""
    if isinstance(progress, bool) or not isinstance(progress, (int, float)) or progress != progress:
        raise UsageError(f"a progress is a number of percent from 0 to 100, not {progress!r}")
    return f"{min(100.0, max(0.0, float(progress))):g}"


def _create(kind: str, data: str, key: str | None, description: str | None) -> int:
    return _stored(kind, data, key, description).id


def _stored(kind: str, data: str, key: str | None, description: str | None) -> ArtifactRow:
    if key is not None and (not isinstance(key, str) or not _KEY.match(key)):
        raise UsageError(f"an artifact's key is made of small letters, digits and dashes, not {key!r}")
    know_secrets()
    frame = current_frame.get()
    run_id, task_seq, name = None, None, key or kind
    if frame is not None:
        run_id, task_seq = frame.run.id, frame.task.seq if frame.task is not None else None
        name = key or (frame.task.name if frame.task is not None else frame.run.flow.name)
    told = storable(description) if description is not None else None
    row = ArtifactRow(0, run_id, task_seq, name, kind, told, storable(data), now_us())
    return row._replace(id=commit(lambda conn: artifacts.insert(conn, row)))
