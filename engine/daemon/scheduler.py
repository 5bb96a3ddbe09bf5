"""Schedules turn into runs: each tick makes at most one run, and every tick that makes none is recorded with why.

Keeps the next tick of each schedule in a heap and computes no further ahead. What was missed while no daemon ran, or
while the machine slept, is dealt with by the schedule's ``catchup`` in one decision; what meets an earlier run that has
not ended, by its ``overlap``. Inserting the run, claiming it and moving the schedule on are one transaction.
When a schedule is due is ``schedules`` to say; whose run starts first, beyond its own ticks, is the dispatcher's.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Final

from ...store.connection import Connection, transaction
from ...store.rows import DeploymentRow, RunRow, ScheduleRow
from ...store.tables import deployments, events, runs, schedules, supervision
from ..errors import ScheduleError
from ..schedules.kinds import from_json
from ..schedules.schedule import Schedule, last_before, next_after
from ..schedules.ticks import from_us, next_due_us, to_us
from ..states.asked import done_by
from ..states.transitions import move_run
from .flow_limits import is_limited

MISSED_AFTER_SECONDS: Final = 10.0
"""A tick found later than this was missed: ``catchup`` decides about it."""
MOST_CAUGHT_UP: Final = 1000
"""Runs one schedule may make at once with ``catchup="all"``."""
BATCH: Final = 100
"""Schedules dealt with in one transaction."""


class Scheduler:
    """The daemon's clock hand. Reads no clock itself: every decision is told what time it is."""

    def __init__(self, state: Connection, say: Callable[[str], None], served: Callable[[str], bool],
                 free_slots: Callable[[], int], dispatch: Callable[[RunRow, int], None]) -> None:
        self._state = state
        self._say = say
        self._served = served
        self._free_slots = free_slots
        self._dispatch = dispatch
        self._rows: dict[int, tuple[ScheduleRow, DeploymentRow]] = {}
        self._parsed: dict[str, Schedule] = {}
        self._heap: list[tuple[int, int]] = []
        self._inactive: set[int] = set()
        self._queued: set[int] = set()
        """Schedules with runs that wait for an earlier run to end."""

    def reload(self, at_us: int) -> None:
        """Read the schedules anew: a file was loaded, or a person paused or resumed one."""
        by_name = {row.name: row for row in deployments.all(self._state)}
        rows = schedules.all(self._state)
        self._rows = {}
        for row in rows:
            deployment = by_name[row.deployment]
            if not row.active:
                self._inactive.add(row.id)
                continue
            if row.id in self._inactive and row.next_due_at_us is not None and row.next_due_at_us < at_us:
                # Ticks that passed while a person had it paused were not wanted.
                row = self._skip_to_now(row, at_us)
            self._inactive.discard(row.id)
            if row.next_due_at_us is not None and self._served(deployment.path):
                self._rows[row.id] = (row, deployment)
        self._heap = [(row.next_due_at_us, row.id) for row, _ in self._rows.values() if row.next_due_at_us is not None]
        heapq.heapify(self._heap)
        self._parsed = {spec: parsed for spec, parsed in self._parsed.items()
                        if spec in {row.spec for row, _ in self._rows.values()}}
        self._queued = {run.schedule_id for run in runs.live(self._state)
                        if run.schedule_id is not None and run.state_name == "AwaitingSlot"}

    def next_due_us(self) -> int | None:
        """When the next tick is due."""
        return self._heap[0][0] if self._heap else None

    def clock_was_set_back(self, at_us: int) -> None:
        """The wall clock jumped back: ticks that now lie far ahead are counted again. A tick's run is made once."""
        with transaction(self._state):
            for row, _ in self._rows.values():
                due_us = next_due_us(row.spec, at_us)
                if due_us is not None and due_us != row.next_due_at_us:
                    schedules.advance(self._state, row.id, due_us)
        self.reload(at_us)

    def tick(self, at_us: int) -> None:
        """Deal with everything that is due."""
        while self._heap and self._heap[0][0] <= at_us:
            due: list[tuple[ScheduleRow, DeploymentRow]] = []
            while self._heap and self._heap[0][0] <= at_us and len(due) < BATCH:
                due.append(self._rows[heapq.heappop(self._heap)[1]])
            claimed: list[RunRow] = []
            try:
                with transaction(self._state):
                    moved = [self._fire(row, deployment, at_us, claimed) for row, deployment in due]
            except BaseException:
                for row, _ in due:
                    heapq.heappush(self._heap, (row.next_due_at_us or at_us, row.id))
                raise
            for run in claimed:
                self._dispatch(run, at_us)
            for row, (_, deployment) in zip(moved, due, strict=True):
                self._rows[row.id] = (row, deployment)
                if row.next_due_at_us is not None:
                    heapq.heappush(self._heap, (row.next_due_at_us, row.id))

    def release_queued(self, at_us: int) -> None:
        """Let the next run of a queueing schedule go once the earlier one has ended."""
        for schedule_id in list(self._queued):
            live = supervision.live_of_schedule(self._state, schedule_id)
            held = [run for run in live if run.state_name == "AwaitingSlot" and run.wake_at_us is None]
            if not held:
                self._queued.discard(schedule_id)
            elif len(held) == len(live):
                run = held[0]
                with transaction(self._state):
                    move_run(self._state, run, "await_slot", at_us=at_us, wake_at_us=at_us, actor=run.actor,
                             cause="its turn has come")

    # -- one schedule --------------------------------------------------------------------------------------------

    def _fire(self, row: ScheduleRow, deployment: DeploymentRow, at_us: int, claimed: list[RunRow]) -> ScheduleRow:
        """Within the transaction: make the runs of what is due and move the schedule on."""
        due_us = row.next_due_at_us
        assert due_us is not None
        schedule = self._parse(row)
        following = next_after(schedule, from_us(due_us))
        if (following is None or to_us(following) > at_us) and at_us - due_us <= MISSED_AFTER_SECONDS * 1e6:
            self._make(row, deployment, due_us, at_us, claimed, catching_up=False)
            last_us = due_us
        else:
            last_us = self._catch_up(row, deployment, schedule, at_us, claimed)
        next_tick = next_after(schedule, from_us(max(at_us, last_us)))
        next_us = None if next_tick is None else to_us(next_tick)
        schedules.advance(self._state, row.id, next_us, last_us)
        return row._replace(next_due_at_us=next_us, last_due_at_us=last_us)

    def _catch_up(self, row: ScheduleRow, deployment: DeploymentRow, schedule: Schedule, at_us: int,
                  claimed: list[RunRow]) -> int:
        """Several ticks have passed, or one long ago."""
        first_us = row.next_due_at_us
        assert first_us is not None
        fresh = timedelta(seconds=MISSED_AFTER_SECONDS)
        window = fresh if row.catchup == "none" else timedelta(seconds=max(row.catchup_window_seconds,
                                                                           MISSED_AFTER_SECONDS))
        now = from_us(at_us)
        since = max(from_us(first_us) - timedelta(microseconds=1), now - window)
        if row.catchup == "all":
            wanted = list(_ticks(schedule, since, now))
        else:
            last = last_before(schedule, now, since)
            wanted = [] if last is None else [last]
        made = [to_us(tick) for tick in wanted]
        if not made or made[0] != first_us:
            until = from_us(made[0]) if made else now
            self._record(row, at_us, f"ticks from {_text(from_us(first_us))} until {_text(until)} made no run: missed "
                         f"while no daemon ran (catchup={row.catchup!r}, window {row.catchup_window_seconds:g} s)")
        if len(made) > 1:
            self._record(row, at_us, f"catching up {len(made)} missed ticks")
        for due_us in made:
            self._make(row, deployment, due_us, at_us, claimed, catching_up=row.catchup == "all")
        return made[-1] if made else at_us

    def _make(self, row: ScheduleRow, deployment: DeploymentRow, due_us: int, at_us: int, claimed: list[RunRow], *,
              catching_up: bool) -> None:
        """One tick: its run, or the record of why there is none."""
        live = supervision.live_of_schedule(self._state, row.id) if row.overlap != "allow" else []
        if live and row.overlap == "skip" and not catching_up:
            first = live[0]
            self._record(row, at_us, f"tick of {_text(from_us(due_us))} made no run: run #{first.id} is still "
                         f"{first.state_name} (overlap='skip')", run_id=first.id)
            return
        actor = f"schedule {row.deployment}/{row.slug}"
        if live and row.overlap == "cancel_running":
            self._cancel_running(live, at_us, actor)
        run_id = runs.insert(
            self._state, flow_name=deployment.flow_name, name="", state=("SCHEDULED", "Scheduled"), actor=actor,
            at_us=at_us, parameters=row.parameters, tags=deployment.tags, deployment=deployment.name,
            schedule_id=row.id, due_at_us=due_us, entrypoint=deployment.entrypoint, scheduled_at_us=due_us,
            wake_at_us=due_us, source_hash=deployment.source_hash)
        if run_id == 0:
            return  # this tick has had its run
        run = runs.get(self._state, run_id)
        assert run is not None
        if live:
            self._queued.add(row.id)
            move_run(self._state, run, "await_slot", at_us=at_us, actor=actor,
                     cause=f"waits for run #{live[-1].id} to end (overlap={row.overlap!r})")
        elif self._free_slots() > len(claimed) and not is_limited(self._state, deployment):
            claimed.append(move_run(self._state, run, "claim", at_us=at_us, actor=actor))

    def _cancel_running(self, live: list[RunRow], at_us: int, actor: str) -> None:
        for run in live:
            if run.state_type == "SCHEDULED":
                move_run(self._state, run, "cancel", at_us=at_us, actor=actor, intent="none",
                         cause=f"{done_by('cancel', actor)}: its next tick has come")
            elif run.intent != "cancel":
                runs.set_intent(self._state, run.id, "cancel", at_us=at_us, actor=actor,
                                message="its next tick has come (overlap='cancel_running')")

    def _parse(self, row: ScheduleRow) -> Schedule:
        if row.spec not in self._parsed:
            self._parsed[row.spec] = from_json(row.spec)
        return self._parsed[row.spec]

    def _skip_to_now(self, row: ScheduleRow, at_us: int) -> ScheduleRow:
        try:
            due_us = next_due_us(row.spec, at_us)
        except ScheduleError as error:
            self._say(f"{row.deployment}/{row.slug}: {error}")
            return row
        with transaction(self._state):
            schedules.advance(self._state, row.id, due_us)
        return row._replace(next_due_at_us=due_us)

    def _record(self, row: ScheduleRow, at_us: int, message: str, run_id: int | None = None) -> None:
        text = f"{row.deployment}/{row.slug}: {message}"
        events.append(self._state, at_us=at_us, kind="schedule", actor="engine", run_id=run_id, message=text,
                      data={"schedule_id": row.id})
        self._say(text)


def _ticks(schedule: Schedule, since: datetime, until: datetime) -> Iterator[datetime]:
    """The newest of the ticks in ``(since, until]`` that may be caught up, oldest first."""
    found: list[datetime] = []
    tick = next_after(schedule, since)
    while tick is not None and tick <= until:
        found.append(tick)
        if len(found) > 2 * MOST_CAUGHT_UP:
            del found[:MOST_CAUGHT_UP]
        tick = next_after(schedule, tick)
    yield from found[-MOST_CAUGHT_UP:]


def _text(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
