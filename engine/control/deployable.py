"""What a daemon stores of a flow, and a flow under a name of its own. Knows of a flow only what it says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from ..encoding.json_schema import concealed
from ..schedules.kinds import to_json
from ..schedules.schedule import Schedule, check
from ..secrets.masking import mask
from ..secrets.secret import refuse_values
from .deployments import check_secrets


class HasDefaults(Protocol):
    """A flow's parameters."""

    def plain_defaults(self) -> dict[str, Any]:
        """The defaults that have a JSON form."""
        ...


class Deployable(Protocol):
    """A flow as it says of itself what a daemon needs to know, be it made of a function or in Prefect 1's style."""

    @property
    def name(self) -> str:
        """Unique in a store."""
        ...

    @property
    def description(self) -> str | None:
        """For people."""
        ...

    @property
    def schedules(self) -> Sequence[Schedule]:
        """When it runs."""
        ...

    @property
    def parameters(self) -> HasDefaults:
        """What it is called with."""
        ...

    @property
    def tags(self) -> Sequence[str]:
        """Of its runs."""
        ...

    @property
    def crash_retries(self) -> int:
        """How often a crashed run is resumed."""
        ...

    @property
    def hooks(self) -> Mapping[str, Sequence[Any]]:
        """Its hooks, by the name of their option."""
        ...

    @property
    def concurrency_limit(self) -> int | None:
        """How many of its runs may be live at once; None for any number."""
        ...

    @property
    def collision_strategy(self) -> str | None:
        """What becomes of runs above the limit."""
        ...

    def parameters_schema(self) -> dict[str, Any]:
        """Its parameters as a JSON schema."""
        ...


def describe(flow: Deployable) -> dict[str, Any]:
    """What the daemon stores of a flow. Its schedules are evaluated once, so that a bad one is found now."""
    now = datetime.now(UTC)
    schedules = []
    for number, schedule in enumerate(flow.schedules, start=1):
        check(schedule, now)
        _refuse_secrets(f"a schedule of flow {flow.name!r}", schedule.parameters, flow)
        schedules.append({
            "slug": schedule.slug or f"schedule-{number}", "kind": schedule.kind, "spec": to_json(schedule),
            "parameters": json.dumps(schedule.parameters, default=str), "catchup": schedule.catchup,
            "catchup_window_seconds": schedule.catchup_window_seconds, "overlap": schedule.overlap,
            "active": schedule.active,
        })  # fmt: skip
    schema = concealed(flow.parameters_schema(), mask)
    defaults = flow.parameters.plain_defaults()
    return {
        "name": flow.name, "description": None if flow.description is None else mask(flow.description),
        "schedules": schedules,
        "parameters_schema": json.dumps(schema, default=str), "parameters": json.dumps(defaults),
        "tags": json.dumps(sorted(flow.tags)), "crash_retries": flow.crash_retries,
        "has_crash_hooks": bool(flow.hooks["on_crashed"]),
        "concurrency_limit": flow.concurrency_limit, "collision_strategy": flow.collision_strategy,
    }  # fmt: skip


def _refuse_secrets(whose: str, given: Mapping[str, Any], flow: Deployable) -> None:
    """Parameters that the code gives are stored: a secret among them is to be given by its name."""
    if not given:
        return
    properties = flow.parameters_schema().get("properties", {})
    for key, value in given.items():
        check_secrets(whose, key, value, properties.get(key, {}))
    refuse_values(f"a parameter of {whose}", json.dumps(dict(given), ensure_ascii=False, default=str))


@dataclass(frozen=True)
class Deployment:
    """A flow under a name of its own, with its own schedules, parameters and tags."""

    flow: Deployable
    """The flow with these schedules and tags."""
    name: str
    path: str
    """The file that holds the flow."""
    parameters: dict[str, Any] = field(default_factory=dict)
    is_paused: bool = False
    has_flows_schedules: bool = False
    """It has no schedules of its own: those that stand on the flow are its, and not the flow's own any more."""

    def entry(self) -> dict[str, Any]:
        """What the daemon stores of it."""
        described = describe(self.flow)
        _refuse_secrets(f"deployment {self.name!r}", self.parameters, self.flow)
        described["deployment"] = self.name
        described["parameters"] = json.dumps({**json.loads(described["parameters"]), **self.parameters}, default=str)
        for schedule in described["schedules"]:
            own = json.loads(schedule["parameters"])
            schedule["parameters"] = json.dumps({**self.parameters, **own}, default=str)
            schedule["active"] = schedule["active"] and not self.is_paused
        return described
