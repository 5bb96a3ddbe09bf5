"""Schedules turn into runs: each tick makes at most one run, and every tick that makes none is recorded with why.

Keeps the next tick of each schedule in a heap and computes no further ahead. What was missed while no daemon ran, or
while the machine slept, is dealt with by the schedule's ``catchup`` in one decision; what meets an earlier run that has
not ended, by its ``overlap``. Inserting the run, claiming it and moving the schedule on are one transaction.

No schedule stands before another: times are worked out before the write lock is taken, many missed ticks are made up
for a piece at a time with others' ticks between them, and a schedule that cannot be dealt with is said and set aside.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from logging import ERROR
from typing import Final, NamedTuple

from ...store.connection import Connection, transaction
from ...store.errors import StoreError
from ...store.rows import DeploymentRow, RunRow, ScheduleRow
from ...store.tables import deployments, events, runs, schedules, supervision
from ..errors import ScheduleError
from ..schedules.kinds import from_json
from ..schedules.schedule import Schedule, last_before, next_after
from ..schedules.ticks import from_us, next_due_us, to_us
from ..states.asked import done_by
from ..states.transitions import move_run
from ..system.clock import in_words
from .flow_limits import is_limited
from .saying import Line

MISSED_AFTER_SECONDS: Final = 10.0
"""A tick found later than this was missed: ``catchup`` decides about it."""
BATCH: Final = 100
"""Schedules dealt with in one transaction, and missed ticks made up for in one."""

NO_DAEMON: Final = "no daemon ran"

Entry = tuple[ScheduleRow, DeploymentRow]


class Due(NamedTuple):
    """What is to be done about one schedule that is due; worked out without the store."""

    row: ScheduleRow
    deployment: DeploymentRow
    made: list[int]
    """The ticks that are to have runs."""
    last_us: int
    next_us: int | None
    catching_up: bool
    records: list[str]

    @property
    def moved(self) -> ScheduleRow:
        """The schedule afterwards."""
        return self.row._replace(next_due_at_us=self.next_us, last_due_at_us=self.last_us)


class Scheduler:
    """The daemon's clock hand. Reads no clock itself: every decision is told what time it is."""

    def __init__(self, state: Connection, say: Callable[[str], None], served: Callable[[str], bool],
                 may_begin: Callable[[str, str, int, int], bool],
                 dispatch: Callable[[Iterable[RunRow], int], None]) -> None:
        self._state = state
        self._say = say
        self._served = served
        self._may_begin = may_begin
        self._dispatch = dispatch
        self._rows: dict[int, Entry] = {}
        self._parsed: dict[str, Schedule] = {}
        self._heap: list[tuple[int, int]] = []
        self._late: deque[int] = deque()
        """Schedules that make up for many ticks: each in its turn, a piece at a time."""
        self._caught_up: dict[int, int] = {}
        """How many ticks each of them has made up for."""
        self._inactive: set[int] = set()
        self._queued: set[int] = set()
        """Schedules with runs that wait for an earlier run to end."""
        self.missed_while = NO_DAEMON
        """Why ticks that are found late were missed."""

    def reload(self, at_us: int, paths: Collection[str] | None = None) -> None:
        """Read the schedules anew: of files that were loaded, or all, since a person paused or resumed one."""
        if paths is None:
            known = {row.name: row for row in deployments.all(self._state)}
            rows = schedules.all(self._state)
            self._rows = {}
            self._queued = set(supervision.holding_schedules(self._state))
        else:
            known = {row.name: row for path in paths for row in deployments.of_file(self._state, path)}
            rows = [row for name in known for row in schedules.of_deployment(self._state, name)]
            self._rows = {number: (row, deployment) for number, (row, deployment) in self._rows.items()
                          if deployment.path not in paths and deployment.name not in known}
        for row in rows:
            self._take(row, known[row.deployment], at_us)
        self._late = deque(number for number in self._late if number in self._rows)
        late = set(self._late)
        self._heap = [(row.next_due_at_us, number) for number, (row, _) in self._rows.items()
                      if row.next_due_at_us is not None and number not in late]
        heapq.heapify(self._heap)
        if len(self._parsed) > 2 * len(self._rows):
            specs = {row.spec for row, _ in self._rows.values()}
            self._parsed = {spec: parsed for spec, parsed in self._parsed.items() if spec in specs}

    def _take(self, row: ScheduleRow, deployment: DeploymentRow, at_us: int) -> None:
        if not row.active:
            self._inactive.add(row.id)
            return
        if row.id in self._inactive and row.next_due_at_us is not None and row.next_due_at_us < at_us:
            # Ticks that passed while a person had it paused were not wanted.
            row = self._skip_to_now(row, at_us)
        self._inactive.discard(row.id)
        if row.next_due_at_us is not None and self._served(deployment.path):
            self._rows[row.id] = (row, deployment)

    def next_due_us(self) -> int | None:
        """When the next tick is due."""
        if self._late:
            return 0
        return self._heap[0][0] if self._heap else None

    def files_due(self, until_us: int) -> set[str]:
        """The files of the schedules that have a tick until then."""
        found = set()
        places = [0]
        while places:
            place = places.pop()
            if place < len(self._heap) and self._heap[place][0] <= until_us:
                found.add(self._rows[self._heap[place][1]][1].path)
                places += [2 * place + 1, 2 * place + 2]
        return found

    def tick(self, at_us: int) -> None:
        """Deal with what is due; of many missed ticks with the next piece, so that ``next_due_us`` is past again."""
        while self._heap and self._heap[0][0] <= at_us:
            due: list[Due] = []
            while self._heap and self._heap[0][0] <= at_us and len(due) < BATCH:
                number = heapq.heappop(self._heap)[1]
                found = self._work_out(*self._rows[number], at_us)
                if found is not None and found.catching_up and len(found.made) > 1:
                    self._late.append(number)
                elif found is not None:
                    due.append(found)
            self._deal_with(due, at_us)
        if self._late:
            found = self._work_out(*self._rows[self._late.popleft()], at_us)
            if found is not None:
                self._deal_with([found], at_us)

    def release_queued(self, at_us: int) -> None:
        """Let the next run of a queueing schedule go once the earlier one has ended."""
        for schedule_id in list(self._queued):
            if supervision.free_of_schedule(self._state, schedule_id) is not None:
                continue
            run = supervision.first_held(self._state, schedule_id)
            if run is None:
                self._queued.discard(schedule_id)
                continue
            with transaction(self._state):
                move_run(self._state, run, "await_slot", at_us=at_us, wake_at_us=at_us, actor=run.actor,
                         cause="its turn has come")

    # -- what is to be done --------------------------------------------------------------------------------------

    def _work_out(self, row: ScheduleRow, deployment: DeploymentRow, at_us: int) -> Due | None:
        """Which ticks are to have runs; None for a schedule that cannot be read (any more), which is set aside."""
        due_us = row.next_due_at_us
        assert due_us is not None
        try:
            schedule = self._parse(row)
            following = next_after(schedule, from_us(due_us))
            next_us = None if following is None else to_us(following)
            if (next_us is None or next_us > at_us) and at_us - due_us <= MISSED_AFTER_SECONDS * 1e6 \
                    and row.id not in self._caught_up:
                return Due(row, deployment, [due_us], due_us, next_us, False, [])
            return self._catch_up(row, deployment, schedule, at_us)
        except ScheduleError as error:
            self._set_aside(row, error)
            return None

    def _catch_up(self, row: ScheduleRow, deployment: DeploymentRow, schedule: Schedule, at_us: int) -> Due:
        """Several ticks have passed, or one long ago."""
        first_us = row.next_due_at_us
        assert first_us is not None
        window_us = round(1e6 * (MISSED_AFTER_SECONDS if row.catchup == "none"
                                 else max(row.catchup_window_seconds, MISSED_AFTER_SECONDS)))
        since_us = max(first_us - 1, at_us - window_us)
        if row.id in self._caught_up:
            since_us = first_us - 1  # the window was laid when it began
        if row.catchup == "all":
            made = list(islice(_ticks(schedule, since_us, at_us), BATCH))
        else:
            last = last_before(schedule, from_us(at_us), from_us(since_us))
            made = [] if last is None else [to_us(last)]
        records = []
        if not made or made[0] != first_us:
            until = in_words(made[0] if made else at_us)
            records.append(f"ticks from {in_words(first_us)} until {until} made no run: missed while "
                           f"{self.missed_while} "
                           f"(catchup={row.catchup!r}, window {row.catchup_window_seconds:g} s)")
        last_us = made[-1] if made else at_us
        following = next_after(schedule, from_us(last_us if row.catchup == "all" else max(at_us, last_us)))
        next_us = None if following is None else to_us(following)
        if row.catchup == "all":
            records += self._tell_catching_up(row, made, next_us is not None and next_us <= at_us)
        return Due(row, deployment, made, last_us, next_us, row.catchup == "all", records)

    def _tell_catching_up(self, row: ScheduleRow, made: list[int], goes_on: bool) -> list[str]:
        """In words: at once where one piece is all, else when it begins and when it is done."""
        before = self._caught_up.get(row.id)
        if before is None:
            if goes_on:
                return [f"catching up all missed ticks from {in_words(made[0])} on, {BATCH} at a time"]
            return [f"catching up {len(made)} missed ticks"] if len(made) > 1 else []
        return [] if goes_on else [f"caught up {before + len(made)} missed ticks"]

    # -- doing it ------------------------------------------------------------------------------------------------

    def _deal_with(self, due: list[Due], at_us: int) -> None:
        """In one transaction; where that fails for a reason of one schedule's, each in its own."""
        try:
            claimed = self._write(due, at_us)
        except StoreError:
            self._put_back(due)
            raise
        except Exception as error:  # noqa: BLE001 - one of them cannot be dealt with: the others can
            if len(due) == 1:
                self._set_aside(due[0].row, error)
            for one in due if len(due) > 1 else ():
                self._deal_with([one], at_us)
            return
        for one in due:
            self._move_on(one, at_us)
        # Last: whatever goes wrong with a host, the schedules have moved on.
        self._dispatch(claimed, at_us)

    def _write(self, due: list[Due], at_us: int) -> list[RunRow]:
        claimed: list[RunRow] = []
        if due:
            with transaction(self._state):
                for one in due:
                    self._fire(one, at_us, claimed)
        return claimed

    def _put_back(self, due: list[Due]) -> None:
        for one in due:
            if one.row.id in self._caught_up or (one.catching_up and len(one.made) > 1):
                self._late.append(one.row.id)
            else:
                heapq.heappush(self._heap, (one.row.next_due_at_us or 0, one.row.id))

    def _move_on(self, one: Due, at_us: int) -> None:
        row = one.moved
        for record in one.records:
            self._say(f"{row.deployment}/{row.slug}: {record}")
        self._rows[row.id] = (row, one.deployment)
        if row.next_due_at_us is not None and row.next_due_at_us <= at_us and one.catching_up:
            self._caught_up[row.id] = self._caught_up.get(row.id, 0) + len(one.made)
            self._late.append(row.id)
            return
        self._caught_up.pop(row.id, None)
        if row.next_due_at_us is not None:
            heapq.heappush(self._heap, (row.next_due_at_us, row.id))

    def _set_aside(self, row: ScheduleRow, error: Exception) -> None:
        """Until its file is loaded again, or a person does something about it, it makes no run."""
        self._rows.pop(row.id, None)
        self._caught_up.pop(row.id, None)
        text = f"{row.deployment}/{row.slug}: is not scheduled any more: {type(error).__name__}: {error}"
        self._say(Line(text, ERROR))
        with transaction(self._state):
            self._record(row, row.next_due_at_us or 0, text)

    def _fire(self, one: Due, at_us: int, claimed: list[RunRow]) -> None:
        """Within the transaction: make the runs of what is due and move the schedule on."""
        row = one.row
        for record in one.records:
            self._record(row, at_us, f"{row.deployment}/{row.slug}: {record}")
        live = self._live(row) if one.made else []
        for due_us in one.made:
            live = self._make(one, due_us, at_us, claimed, live)
        schedules.advance(self._state, row.id, one.next_us, one.last_us)

    def _live(self, row: ScheduleRow) -> list[RunRow]:
        """Of its runs that have not ended those that the next ones look at: all, or the oldest and the newest."""
        if row.overlap == "allow":
            return []
        if row.overlap == "cancel_running":
            return supervision.live_of_schedule(self._state, row.id)
        ends = (supervision.free_of_schedule(self._state, row.id), supervision.first_held(self._state, row.id),
                supervision.last_held(self._state, row.id))
        return [run for run in ends if run is not None]

    def _make(self, one: Due, due_us: int, at_us: int, claimed: list[RunRow], live: list[RunRow]) -> list[RunRow]:
        """One tick: its run, or the record of why there is none; returns what lives of the schedule's then."""
        row, deployment = one.row, one.deployment
        if live and row.overlap == "skip" and not one.catching_up:
            first = live[0]
            text = (f"{row.deployment}/{row.slug}: tick of {in_words(due_us)} made no run: run #{first.id} is still "
                    f"{first.state_name} (overlap='skip')")
            self._record(row, at_us, text, run_id=first.id)
            self._say(text)
            return live
        actor = f"schedule {row.deployment}/{row.slug}"
        if live and row.overlap == "cancel_running":
            live = self._cancel_running(live, at_us, actor)
        run_id = runs.insert(
            self._state, flow_name=deployment.flow_name, name="", state=("SCHEDULED", "Scheduled"), actor=actor,
            at_us=at_us, parameters=row.parameters, tags=deployment.tags, deployment=deployment.name,
            schedule_id=row.id, due_at_us=due_us, entrypoint=deployment.entrypoint, scheduled_at_us=due_us,
            wake_at_us=due_us, source_hash=deployment.source_hash)
        if run_id == 0:
            return live  # this tick has had its run
        run = runs.get(self._state, run_id)
        assert run is not None
        if live:
            self._queued.add(row.id)
            run = move_run(self._state, run, "await_slot", at_us=at_us, actor=actor,
                           cause=f"waits for run #{live[-1].id} to end (overlap={row.overlap!r})")
        elif self._begins(deployment, claimed):
            run = move_run(self._state, run, "claim", at_us=at_us, actor=actor)
            claimed.append(run)
        if row.overlap == "allow":
            return []
        return [*live, run] if row.overlap == "cancel_running" else [*live[:1], run]

    def _begins(self, deployment: DeploymentRow, claimed: list[RunRow]) -> bool:
        """Whether a run of it is claimed with its making; else the dispatcher claims it in its turn."""
        of_file = sum(run.entrypoint == deployment.entrypoint for run in claimed)
        return self._may_begin(deployment.path, deployment.flow_name, len(claimed), of_file) \
            and not is_limited(self._state, deployment)

    def _cancel_running(self, live: list[RunRow], at_us: int, actor: str) -> list[RunRow]:
        """Cancel them; returns those that have a process, and so have not ended yet."""
        left = []
        for run in live:
            if run.state_type == "SCHEDULED":
                move_run(self._state, run, "cancel", at_us=at_us, actor=actor, intent="none",
                         cause=f"{done_by('cancel', actor)}: its next tick has come")
                continue
            if run.intent != "cancel":
                runs.set_intent(self._state, run.id, "cancel", at_us=at_us, actor=actor,
                                message="its next tick has come (overlap='cancel_running')")
            left.append(run._replace(intent="cancel"))
        return left

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

    def _record(self, row: ScheduleRow, at_us: int, text: str, run_id: int | None = None) -> None:
        events.append(self._state, at_us=at_us, kind="schedule", actor="engine", run_id=run_id, message=text,
                      data={"schedule_id": row.id})


def _ticks(schedule: Schedule, since_us: int, until_us: int) -> Iterator[int]:
    """The ticks in ``(since, until]``, oldest first."""
    tick = next_after(schedule, from_us(since_us))
    while tick is not None and (at_us := to_us(tick)) <= until_us:
        yield at_us
        tick = next_after(schedule, tick)
