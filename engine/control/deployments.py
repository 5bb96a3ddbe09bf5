"""Deployments and schedules: queueing runs by name, pausing and resuming, within ``Control``'s transactions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...store.connection import Connection
from ...store.tables import deployments, events, runs, schedules
from ..encoding.json_schema import NAMED, names_known, secret_texts
from ..encoding.typed_text import TypedValues
from ..errors import NotFound, ParameterError
from ..secrets.secret import is_among, is_known, refuse_values
from ..system.clock import now_us


def trigger(
    conn: Connection, name: str, given: dict[str, Any], scheduled_at_us: int | None, *, actor: str, folder: Path
) -> int:
    """Queue a run of a deployment; returns its number."""
    found = deployments.get(conn, name)
    if found is None:
        near = ", ".join(row.name for row in deployments.all(conn)) or "none; start a daemon with its file"
        raise NotFound(f"no deployment {name!r} in {folder}; there are: {near}")
    schema = json.loads(found.parameters_schema)
    given = given.meant(schema) if isinstance(given, TypedValues) else given
    check_parameters(found.name, schema, given)
    merged = {**json.loads(found.parameters), **given}
    return runs.insert(
        conn, flow_name=found.flow_name, name="", state=("SCHEDULED", "Scheduled"), actor=actor,
        at_us=now_us(), parameters=json.dumps(merged, ensure_ascii=False), tags=found.tags,
        deployment=found.name, entrypoint=found.entrypoint, scheduled_at_us=scheduled_at_us,
        source_hash=found.source_hash,
    )


def switch_schedule(conn: Connection, schedule_id: int, active: bool, *, actor: str, folder: Path) -> None:
    """Have a schedule make no runs, or make them again."""
    row = schedules.get(conn, schedule_id)
    if row is None:
        raise NotFound(f"no schedule {schedule_id} in {folder}")
    schedules.set_active(conn, schedule_id, active)
    word = "resumed" if active else "paused"
    events.append(
        conn, at_us=now_us(), kind="schedule", actor=actor, message=f"schedule {row.slug} of {row.deployment} {word}",
        data={"schedule_id": schedule_id, "active": active},
    )


def check_secrets(whose: str, key: str, value: Any, schema: dict[str, Any]) -> None:
    """Refuse a parameter that would be stored and that its type says is secret, or that should name a secret.

    A name that is known neither here nor where the flow was loaded is taken for a value.
    """
    for place, text in secret_texts(value, schema):
        if not text.startswith("secret:"):
            where = f"{key}.{place}" if place else key
            raise ParameterError(
                f"parameter {where!r} of {whose} is a secret, and a value would have to be stored: put it "
                f"into FLOWDECK_SECRET_… or a file of the daemon's user, and give its name, {where}=secret:NAME"
            )
    for place, text in secret_texts(value, schema, form=NAMED):
        if not (text.startswith("secret:") or is_known(text) or is_among(text, names_known(schema))):
            where = f"{key}.{place}" if place else key
            raise ParameterError(
                f"parameter {where!r} of {whose} takes the name of a secret, and the one given is known neither here "
                "nor where the daemon loaded the flow. It is not shown, since it may be the value: put that into "
                f"FLOWDECK_SECRET_… or a file of the daemon's user, and give its name, {where}=secret:NAME"
            )


def check_parameters(name: str, schema: dict[str, Any], given: dict[str, Any]) -> None:
    """Unknown and missing names; types are checked when the run starts, by the flow's own hints."""
    properties = schema.get("properties", {})
    for key in given:
        if key not in properties and not schema.get("additionalProperties", False):
            from difflib import get_close_matches

            near = get_close_matches(key, properties, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"its parameters are {', '.join(properties) or 'none'}"
            raise ParameterError(f"flow {name!r} has no parameter {key!r}; {hint}")
    for key, value in given.items():
        check_secrets(f"flow {name!r}", key, value, properties.get(key, {}))
    refuse_values(f"a parameter of flow {name!r}", json.dumps(given, ensure_ascii=False, default=str))
    missing = [key for key in schema.get("required", ()) if key not in given]
    if missing:
        raise ParameterError(f"flow {name!r} needs the parameter {missing[0]!r}: give it with -p {missing[0]}=VALUE")
