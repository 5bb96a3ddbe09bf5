"""What the feed tells the console: immutable pieces, merged until they are taken. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ...store.rows import (
    ArtifactRow,
    DeploymentRow,
    EdgeRow,
    EventRow,
    FlowFileRow,
    FlowRow,
    LeaseRow,
    MetricRow,
    RunRow,
    ScheduleRow,
    TaskRow,
)
from ..text.progress import Progress
from ..text.waiting import Daemon

if TYPE_CHECKING:
    from ...store.tables.usages import Usage

TaskRef = tuple[int, int]
"""Run id and seq."""


class Trouble(NamedTuple):
    """Why the store cannot be read at the moment."""

    kind: Literal["missing", "locked", "readonly", "newer", "corrupt", "other"]
    text: str


class Details(NamedTuple):
    """What the details tab of a run shows beside its row."""

    lease: LeaseRow | None
    artifacts: tuple[ArtifactRow, ...]
    metrics: tuple[MetricRow, ...]


class FlowLine(NamedTuple):
    """One line of the flows screen: a deployment's schedule, a deployment without one, or a flow run from files."""

    key: str
    flow_name: str
    deployment: DeploymentRow | None
    schedule: ScheduleRow | None
    recent: tuple[RunRow, ...]
    """Its last runs, newest first."""


class Flows(NamedTuple):
    """Everything the flows screen shows."""

    lines: tuple[FlowLine, ...]
    problems: tuple[FlowFileRow, ...]
    flows: tuple[FlowRow, ...]


class Limits(NamedTuple):
    """Everything the limits screen shows."""

    usages: tuple[Usage, ...]
    names: Mapping[tuple[int, int | None], str]
    """Run and task: what they are called, where that is known."""


@dataclass(frozen=True)
class Opened:
    """What changed in the run that stands open, or with ``fresh`` all of it."""

    run_id: int
    fresh: bool = False
    missing: bool = False
    """The run does not exist (any more)."""
    runs: Mapping[int, RunRow] = field(default_factory=dict)
    tries: Mapping[int, int] = field(default_factory=dict)
    """Of those runs: how often each was tried, where that is more than once."""
    tasks: Mapping[TaskRef, TaskRow] = field(default_factory=dict)
    edges: tuple[EdgeRow, ...] | None = None
    events: tuple[EventRow, ...] = ()
    details: Details | None = None
    log_changed: bool = False

    def merged(self, newer: Opened) -> Opened:
        """This and then ``newer``, as one."""
        if newer.fresh or newer.run_id != self.run_id:
            return newer
        return Opened(
            self.run_id,
            fresh=self.fresh,
            missing=self.missing or newer.missing,
            runs={**self.runs, **newer.runs},
            tries={**self.tries, **newer.tries},
            tasks={**self.tasks, **newer.tasks},
            edges=self.edges if newer.edges is None else newer.edges,
            events=self.events + newer.events,
            details=self.details if newer.details is None else newer.details,
            log_changed=self.log_changed or newer.log_changed,
        )

    def slices(self, most: int) -> list[Opened]:
        """Pieces of so many tasks each; all that is not a task comes with the first."""
        if len(self.tasks) <= most:
            return [self]
        items = iter(self.tasks.items())
        first = replace(self, tasks=dict(islice(items, most)))
        return [first, *(Opened(self.run_id, tasks=tasks) for tasks in iter(lambda: dict(islice(items, most)), {}))]


@dataclass(frozen=True)
class News:
    """What changed since the last news were taken; None means: as before."""

    order: tuple[int, ...] | None = None
    """The runs list in its order."""
    rows: Mapping[int, RunRow] = field(default_factory=lambda: MappingProxyType({}))
    """New and changed runs of the list."""
    tries: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    """Of those runs: how often each was tried, where that is more than once."""
    progress: Mapping[int, Progress] = field(default_factory=lambda: MappingProxyType({}))
    counts: Mapping[str, int] | None = None
    """Runs of each state type in the whole store."""
    searching: bool | None = None
    """Whether older runs are still being looked through."""
    more: bool | None = None
    """Whether there are older runs that are not in the list yet."""
    daemon: Daemon | None = None
    trouble: Trouble | Literal["none"] | None = None
    opened: Opened | None = None
    flows: Flows | None = None
    limits: Limits | None = None

    def __bool__(self) -> bool:
        return any(bool(value) or value is False or value == () for value in _values(self)) or self.counts is not None

    def merged(self, newer: News) -> News:
        """These and then ``newer``, as one."""
        changes: dict[str, Any] = {
            each.name: value for each in fields(newer) if (value := getattr(newer, each.name)) is not None
        }
        changes["rows"] = {**self.rows, **newer.rows}
        changes["tries"] = {**self.tries, **newer.tries}
        changes["progress"] = {**self.progress, **newer.progress}
        if self.opened is not None and newer.opened is not None:
            changes["opened"] = self.opened.merged(newer.opened)
        return replace(self, **changes)

    def slices(self, most: int) -> list[News]:
        """Pieces that take the screen a few milliseconds each."""
        if self.opened is None:
            return [self]
        first, *others = self.opened.slices(most)
        return [replace(self, opened=first), *(News(opened=each) for each in others)]


def _values(news: News) -> list[object]:
    return [getattr(news, each.name) for each in fields(news)]
