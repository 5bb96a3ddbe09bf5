"""What the feed reads for screens that are not always there: flows with their schedules, limits with their queues.

Each part belongs to the feed's thread. It reads only while its screen is shown, and seldom enough for what it costs.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING

from ..models.limit_lines import NAMED
from ..models.news import FlowLine, Flows, Limits, News

if TYPE_CHECKING:
    from ...store.reader import Reader
    from ...store.rows import ScheduleRow
    from ...store.tables.usages import Usage, Who

RECENT_RUNS = 20
FLOWS_SECONDS = LIMITS_SECONDS = 0.5
"""Least time between two readings."""
_SHARE = 20
"""A reading is followed by a rest so many times as long."""


class FlowsPart:
    """Deployments, schedules, the last runs of each, files that do not load."""

    def __init__(self) -> None:
        self.stale = True
        """Something happened since the last reading."""
        self._shown = False
        self._due = 0.0

    def show(self, shown: bool) -> None:
        """The screen is (not) shown."""
        self._shown = shown
        self.forget()

    def forget(self) -> None:
        """Read it again at once."""
        self.stale, self._due = True, 0.0

    def look(self, read: Reader) -> News | None:
        """What there is, when it may be something new."""
        moment = time.monotonic()
        if not (self._shown and self.stale) or moment < self._due:
            return None
        self.stale = False
        flows = tuple(read.flows())
        recent = {flow.name: tuple(read.runs(flow=flow.name, limit=RECENT_RUNS)) for flow in flows}
        schedules = defaultdict(list)
        for each in read.schedules():
            schedules[each.deployment].append(each)
        lines: list[FlowLine] = []
        deployed: set[str] = set()
        for deployment in read.deployments():
            deployed.add(deployment.flow_name)
            runs = tuple(
                run for run in recent.get(deployment.flow_name, ()) if run.deployment in (None, deployment.name)
            )
            timed: list[ScheduleRow | None] = [*schedules[deployment.name]]
            for schedule in timed or [None]:
                key = f"{deployment.name}/{schedule.id if schedule else ''}"
                lines.append(FlowLine(key, deployment.flow_name, deployment, schedule, runs))
        for flow in flows:
            if flow.name not in deployed and recent[flow.name]:  # else it ran as a subflow only
                lines.append(FlowLine(f"flow/{flow.name}", flow.name, None, None, recent[flow.name]))
        self._due = moment + max(FLOWS_SECONDS, (time.monotonic() - moment) * _SHARE)
        return News(flows=Flows(tuple(lines), tuple(read.problems()), flows))


class LimitsPart:
    """Limits, who has their slots, who waits. Slots come and go without an event: they are looked at by the clock."""

    def __init__(self) -> None:
        self._shown = False
        self._due = 0.0
        self._last: Limits | None = None
        self._names: dict[tuple[int, int | None], str] = {}

    def show(self, shown: bool) -> None:
        """The screen is (not) shown."""
        self._shown = shown
        self.forget()

    def forget(self) -> None:
        """Read it again at once."""
        self._last, self._due, self._names = None, 0.0, {}

    def look(self, read: Reader) -> News | None:
        """What there is, when it is something new."""
        moment = time.monotonic()
        if not self._shown or moment < self._due:
            return None
        found = tuple(read.limit_usages(time.time_ns() // 1000))
        limits = Limits(found, self._named(read, found))
        self._due = moment + max(LIMITS_SECONDS, (time.monotonic() - moment) * _SHARE)
        if limits == self._last:
            return None
        self._last = limits
        return News(limits=limits)

    def _named(self, read: Reader, found: tuple[Usage, ...]) -> dict[tuple[int, int | None], str]:
        """The flow, or the task, of those who are listed first."""
        names: dict[tuple[int, int | None], str] = {}
        for usage in found:
            for one in (*usage.holders[:NAMED], *usage.waiting[:NAMED]):
                if one.run is not None:
                    key = one.run, one.task
                    names[key] = self._names.get(key) or _name_of(read, one)
        self._names = names
        return names


def _name_of(read: Reader, one: Who) -> str:
    assert one.run is not None
    run = read.run(one.run)
    flow = run.flow_name if run is not None else ""
    tasks = read.tasks_changed(one.run, [one.task]) if one.task is not None else []
    return f"{tasks[0].name} of {flow}" if tasks else flow
