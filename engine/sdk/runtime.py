"""``flowdeck.runtime``: what the running code may know of its run, with Prefect's names.

``runtime.flow_run.id``, ``runtime.task_run.name``, ``runtime.deployment.parameters`` … Outside a run each is None, an
empty collection or 0. In tests ``FLOWDECK__RUNTIME__FLOW_RUN__NAME=x`` stands in for a value, read by its type.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ...store.tables import deployments, runs
from .. import context
from ..running.calls.frame import current_frame

if TYPE_CHECKING:
    from ...store.rows import DeploymentRow, RunRow
    from ..running.calls.frame import Frame

_PREFIX = "FLOWDECK__RUNTIME__"


class _Part:
    """Attributes computed from the current frame; each has what it is outside a run."""

    __module__ = "flowdeck.runtime"

    def __init__(self, word: str, attributes: dict[str, tuple[Callable[[Frame], Any], Any]]) -> None:
        self._word = word
        self._attributes = attributes

    def __getattr__(self, name: str) -> Any:
        if name not in self._attributes:
            known = ", ".join(self._attributes)
            raise AttributeError(f"flowdeck.runtime.{self._word} has no attribute {name!r}; it has {known}")
        read, outside = self._attributes[name]
        given = os.environ.get(f"{_PREFIX}{self._word.upper()}__{name.upper()}")
        naming = context.naming.get()
        if naming is not None and naming[0] == self._word and name in naming[1]:
            return naming[1][name]
        frame = current_frame.get()
        value = read(frame) if frame is not None else None
        if given is not None:
            return _typed(given, value if value is not None else outside)
        return value if value is not None else (outside() if callable(outside) else outside)

    def __reduce__(self) -> str:
        """It travels by its name: each process has its own."""
        return self._word

    def __dir__(self) -> list[str]:
        return list(self._attributes)


def _typed(text: str, like: Any) -> Any:
    """The text of an environment variable as the type of the value it stands in for."""
    if isinstance(like, bool):
        return text.lower() in ("1", "true", "yes")
    if isinstance(like, int):
        return int(text)
    if isinstance(like, datetime):
        return datetime.fromisoformat(text)
    if isinstance(like, (dict, list)) or callable(like):
        return json.loads(text)
    return text


def _row(frame: Frame) -> RunRow | None:
    found: RunRow | None = frame.run.session.read(lambda connection: runs.get(connection, frame.run.id))
    return found


def _of_row(name: str) -> Callable[[Frame], Any]:
    return lambda frame: getattr(_row(frame), name, None)


def _scheduled_start(frame: Frame) -> datetime | None:
    row = _row(frame)
    return None if row is None else datetime.fromtimestamp(row.scheduled_at_us / 1e6, UTC)


def _tags(frame: Frame) -> list[str]:
    row = _row(frame)
    return json.loads(row.tags) if row is not None else []


def _parent_id(frame: Frame) -> str | None:
    parent = frame.run.parent
    return str(parent.run.id) if parent is not None else None


def _deployment(frame: Frame) -> DeploymentRow | None:
    session = frame.run.session
    row = session.read(lambda connection: runs.get(connection, session.root_id))
    name = row.deployment if row is not None else None
    if name is None:
        return None
    found: DeploymentRow | None = session.read(lambda connection: deployments.get(connection, name))
    return found


def _of_deployment(read: Callable[[DeploymentRow], Any]) -> Callable[[Frame], Any]:
    def attribute(frame: Frame) -> Any:
        found = _deployment(frame)
        return read(found) if found is not None else None

    return attribute


def _of_task(read: Callable[[Any], Any]) -> Callable[[Frame], Any]:
    return lambda frame: read(frame.task) if frame.task is not None else None


flow_run = _Part(
    "flow_run",
    {
        "id": (lambda frame: str(frame.run.id), None),
        "name": (_of_row("name"), None),
        "flow_name": (lambda frame: frame.run.flow.name, None),
        "flow_version": (lambda frame: frame.run.flow.version, None),
        "parameters": (lambda frame: dict(frame.run.parameters), dict),
        "tags": (_tags, list),
        "scheduled_start_time": (_scheduled_start, lambda: datetime.now(UTC)),
        "parent_flow_run_id": (_parent_id, None),
        "root_flow_run_id": (lambda frame: str(frame.run.session.root_id), None),
        "run_count": (lambda frame: frame.run.attempt, 0),
        "deployment": (_of_deployment(lambda row: row.name), None),
    },
)
"""The flow run the code belongs to. Ids are texts, as Prefect's."""
task_run = _Part(
    "task_run",
    {
        "id": (_of_task(lambda call: call.reference), None),
        "name": (_of_task(lambda call: call.name), None),
        "task_name": (_of_task(lambda call: call.task.name), None),
        "parameters": (_of_task(lambda call: call.values_of_parameters()), dict),
        "tags": (_of_task(lambda call: json.loads(call.tags)), list),
        "run_count": (_of_task(lambda call: call.attempt), 0),
    },
)
"""The task run the code belongs to; ``id`` is ``run/seq``."""
deployment = _Part(
    "deployment",
    {
        "id": (_of_deployment(lambda row: row.name), None),
        "name": (_of_deployment(lambda row: row.name), None),
        "parameters": (_of_deployment(lambda row: json.loads(row.parameters)), dict),
        "version": (_of_deployment(lambda row: row.source_hash), None),
        "flow_run_id": (lambda frame: str(frame.run.session.root_id) if _deployment(frame) else None, None),
    },
)
"""What the daemon made the run from, if it did."""
