"""``emit_event``: what users' code has to say, kept in the one log of events beside what the engine records itself.

An event is durable when the call returns, belongs to the run and task that said it, and is shown by ``flowdeck
events``. In a flow's own code it is said again when the run is replayed; in a task once, as long as the task's result
stands. Names and forms are Prefect's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

from ...store.tables import events
from ..errors import UsageError
from ..running.calls.frame import current_frame
from ..states.state import storable
from ..system.actors import actor_name
from ..system.clock import now_us
from .placing import commit, know_secrets

KIND: Final = "user"
RESOURCE_ID: Final = "prefect.resource.id"
_MAX_BYTES: Final = 1 << 20
_TIGHT_SECONDS: Final = 300
"""As Prefect has it: only what happened within five minutes is said to follow."""


@dataclass(frozen=True)
class Event:
    """Something that happened to a resource; as emitted, or as a stub that another one follows."""

    __module__ = "flowdeck"

    event: str
    resource: Mapping[str, str]
    occurred: datetime = field(default_factory=lambda: datetime.now(UTC))
    related: Iterable[Mapping[str, str]] = ()
    payload: Mapping[str, Any] = field(default_factory=dict)
    id: UUID | int | str | None = field(default_factory=uuid4)
    """A number is that of an event in ``flowdeck events``: a state given to a hook has one."""
    follows: UUID | int | str | None = None
    number: int | None = None
    """What it is in ``flowdeck events``, once it was emitted."""


def emit_event(
    event: str,
    resource: Mapping[str, str],
    occurred: datetime | None = None,
    related: Iterable[Mapping[str, str]] | None = None,
    payload: Mapping[str, Any] | None = None,
    id: UUID | str | None = None,  # noqa: A002 - Prefect's name
    follows: Event | None = None,
) -> Event:
    """Record an event; returns it with its number.

    ``resource`` says what it is about: texts by name, among them ``prefect.resource.id`` or ``id``. ``follows`` is an
    event that came before, of which ``id`` and ``occurred`` are read.
    """
    _check(event, resource, occurred)
    know_secrets()
    frame, said_at = current_frame.get(), occurred or datetime.now(UTC)
    related = [dict(one) for one in related or ()]
    data: dict[str, Any] = {
        "event": event, "id": str(id or uuid4()), "occurred": said_at.astimezone(UTC).isoformat(),
        "resource": dict(resource), "related": related, "payload": dict(payload or {}),
        "follows": _followed(follows, said_at),
    }  # fmt: skip
    try:
        text = storable(json.dumps(data, ensure_ascii=False, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"event {event!r}: it has no JSON form: {error}") from None
    if len(text.encode()) > _MAX_BYTES:
        raise UsageError(f"event {event!r}: it is larger than 1 MiB; keep the payload elsewhere and name it")
    run_id, task_seq, attempt, actor = None, None, None, None
    if frame is not None:
        run_id, attempt = frame.run.id, frame.run.attempt
        task_seq = frame.task.seq if frame.task is not None else None
        actor = f"run #{run_id}" if task_seq is None else f"run #{run_id}/{task_seq}"
    else:
        actor = actor_name("api")
    about = resource.get(RESOURCE_ID, resource.get("id"))
    number = commit(lambda conn: events.append(
        conn, at_us=now_us(), kind=KIND, actor=actor, run_id=run_id, task_seq=task_seq, attempt=attempt,
        message=storable(f"{event}: {about}"), data=text,
    ))  # fmt: skip
    return Event(event, data["resource"], said_at, related, data["payload"], UUID(data["id"]) if _is_uuid(data["id"])
                 else data["id"], data["follows"], number)


def _check(event: Any, resource: Any, occurred: Any) -> None:
    if not isinstance(event, str) or not event:
        raise UsageError(f"an event has a name, not {event!r}")
    texts = isinstance(resource, Mapping) and all(isinstance(part, str) for item in resource.items() for part in item)
    if not texts or not (resource.get(RESOURCE_ID) or resource.get("id")):
        raise UsageError(
            f"event {event!r}: its resource is a dict of texts, {RESOURCE_ID!r} or 'id' among them, not {resource!r}"
        )
    if occurred is not None and (not isinstance(occurred, datetime) or occurred.tzinfo is None):
        raise UsageError(f"event {event!r}: occurred must be a datetime with a time zone, not {occurred!r}")


def _followed(before: Event | None, said_at: datetime) -> str | int | None:
    if before is None or before.id is None or abs((said_at - before.occurred).total_seconds()) >= _TIGHT_SECONDS:
        return None
    return before.id if isinstance(before.id, int) else str(before.id)


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
