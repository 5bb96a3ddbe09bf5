"""Whole weeks of the daemon's decisions in a few seconds: its rounds, on a real store, with a clock that is told.

Nothing sleeps and no process is made. ``Machine`` stands in for code hosts, run processes and the kernel; it writes
to the store through a connection of its own, as run processes do.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import signal
import time
from collections import Counter, defaultdict
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from flowdeck.engine.control.control import Control
from flowdeck.engine.daemon import registration, rounds
from flowdeck.engine.daemon.agenda import Agenda
from flowdeck.engine.daemon.dispatcher import Dispatcher
from flowdeck.engine.daemon.scheduler import Scheduler
from flowdeck.engine.daemon.supervisor import Supervisor
from flowdeck.engine.schedules.kinds import to_json
from flowdeck.engine.schedules.schedule import Cron, Interval, next_after
from flowdeck.engine.schedules.ticks import from_us, to_us
from flowdeck.engine.states import exits
from flowdeck.engine.states.machine import next_run_state
from flowdeck.engine.system import processes
from flowdeck.engine.system.clock import Now
from flowdeck.store import judging
from flowdeck.store.connection import connect, transaction
from flowdeck.store.opening import open_store
from flowdeck.store.reader import Reader
from flowdeck.store.rows import LeaseRow
from flowdeck.store.tables import leases, runs

MONDAY = datetime(2024, 3, 4, tzinfo=UTC)
"""New York changes its clocks on the Sunday of this week."""
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
FILE = "/flows.py"
NO_PROCESS = 5_000_000
"""Numbers above are no process's on any Linux."""


class SimulatedClock:
    """Clocks that stand still until they are moved; the machine may sleep."""

    def __init__(self, at):
        self.mono_us = self.slept_us = 0
        self.offset_us = to_us(at)

    def __call__(self):
        return Now(self.us, self.mono_us / 1e6, (self.mono_us + self.slept_us) / 1e6)

    @property
    def us(self):
        return self.mono_us + self.slept_us + self.offset_us


class Machine:
    """Code hosts, the processes of runs, and the kernel that tells of both."""

    def __init__(self, folder, clock, plan):
        self.folder = folder
        self.clock = clock
        self.plan = plan
        """``plan(flow, attempt, run_id)`` says what a process does: ``(what, after how many seconds, …)``."""
        self.state = _connect(folder, "state")
        self.starts = []
        """``(when, run, attempt, flow)``, in the order in which processes were asked for."""
        self.signals = []
        self.retries = {}
        self.crashed = []
        self.on_refused = self.on_ended = None
        self._todo = []
        self._numbers = itertools.count()
        self._pids = itertools.count(NO_PROCESS)
        self._alive = set()
        self._ready = {}
        self._descriptors = {}

    # What the dispatcher and the rounds know of code hosts.

    def run(self, path, run_id, attempt, flow):
        assert path == FILE
        self.starts.append((self.clock.us, run_id, attempt, flow))
        what, seconds, *rest = self.plan(flow, attempt, run_id)
        if what == "refuse":
            self.on_refused(run_id, attempt, "no process to be had", True)
            return
        if what == "vanish":
            return
        pid = next(self._pids)
        self._alive.add(pid)
        lease = LeaseRow(leases.run_owner(run_id), run_id, attempt, "here", judging.boot_id(), pid, 1, 1, "engine",
                         self.clock.us, json.dumps({"resumable": what == "crash"}))
        with transaction(self.state):
            leases.acquire(self.state, lease)
            self._move(run_id, attempt, "start", started=True)
        self.after(seconds, lambda: self._end(lease, what, *rest))

    def room(self, path, flow):
        return 1_000_000

    def waits_for(self, path):
        return None

    def holds(self, run_id, attempt):
        return False

    def begun(self, run_id, attempt):
        return True

    def need(self, path):
        pass

    def crash_retries(self, flow):
        return self.retries.get(flow, 3)

    def tell_crashed(self, path, run_id, attempt, flow):
        self.crashed.append((run_id, attempt))

    # What the supervisor knows of the kernel.

    def watch(self, descriptor, ready):
        self._ready[descriptor] = ready

    def forget(self, descriptor):
        del self._ready[descriptor]

    def open_pidfd(self, pid, started_ticks):
        if pid not in self._alive:
            return None
        descriptor = self._descriptors[pid] = os.open(os.devnull, os.O_RDONLY)
        return descriptor

    def send(self, pids, number):
        for pid in set(pids) & self._alive:
            self.signals.append((self.clock.us, signal.Signals(number).name))
            if number == signal.SIGKILL:
                self.kernel_says_gone(pid)

    def judge(self, row, _folder):
        return judging.Verdict("alive" if row.pid in self._alive else "gone")

    def kernel_says_gone(self, pid):
        self._alive.discard(pid)
        ready = self._ready.get(self._descriptors.pop(pid, None))
        if ready is not None:
            ready()

    # What happens by itself.

    def after(self, seconds, what):
        heapq.heappush(self._todo, (self.clock.mono_us + round(seconds * 1e6), next(self._numbers), what))

    def next_us(self):
        return self._todo[0][0] if self._todo else 1 << 62

    def happen(self):
        while self._todo and self._todo[0][0] <= self.clock.mono_us:
            heapq.heappop(self._todo)[2]()

    def _end(self, lease, what, until_us=None):
        if lease.pid not in self._alive or what == "hang":
            return
        with transaction(self.state):
            if what == "complete":
                self._move(lease.run_id, lease.attempt, "complete", ended_duration_us=1)
            elif what == "sleep":
                self._move(lease.run_id, lease.attempt, "sleep", wake_at_us=until_us, new_attempt=lease.attempt + 1)
            if what != "crash":
                leases.release(self.state, lease.owner, lease)
        if what == "crash":
            death = exits.Death(lease.run_id, lease.pid, 1, None, False, False, None, self.clock.us)
            exits.write_exit(self.folder, lease.attempt, death)
        self.kernel_says_gone(lease.pid)
        self.on_ended(lease.run_id, lease.attempt, lease.pid, None)

    def _move(self, run_id, attempt, event, **changes):
        run = runs.get(self.state, run_id)
        runs.transition(self.state, run_id, attempt=attempt, from_=(run.state_type, run.state_name),
                        to=next_run_state(run.state_type, event), at_us=self.clock.us, actor="engine", **changes)


class World:
    """A daemon's decisions and the machine they are about."""

    def __init__(self, folder, monkeypatch, *, clock=None, plan=None, limit=None):
        open_store(folder)
        self.folder = str(folder)
        self.clock = SimulatedClock(MONDAY) if clock is None else clock
        self.said = []
        self.machine = Machine(self.folder, self.clock, plan or (lambda *_: ("complete", 20)))
        self.state = _connect(folder, "state")
        self.telemetry = _connect(folder, "telemetry")
        monkeypatch.setattr(processes, "open_pidfd", self.machine.open_pidfd)
        monkeypatch.setattr(processes, "send", self.machine.send)
        monkeypatch.setattr(judging, "judge", self.machine.judge)
        monkeypatch.setattr(judging, "why_not_signalled", lambda *_: None)
        dispatcher = Dispatcher(self.state, self.machine, self.said.append, limit)
        scheduler = Scheduler(self.state, self.said.append, lambda _path: True, dispatcher.may_begin,
                              dispatcher.dispatch)
        agenda = Agenda()
        supervisor = Supervisor(self.folder, self.state, self.telemetry, self.machine, agenda, self.said.append,
                                self.machine.crash_retries)
        self.rounds = rounds.Rounds(self.state, self.machine, dispatcher, scheduler, supervisor, agenda,
                                    self.said.append, self.clock)
        self.rounds.skip_old_events()
        self.rounds.begin()

    def deploy(self, deployments):
        """``{name: [schedule, …]}``, or with a dictionary of the flow's options as ``{name: ([…], options)}``."""
        entries = [_entry(name, *(given if isinstance(given, tuple) else (given, {})))
                   for name, given in deployments.items()]
        assert registration.register(self.state, [registration.Found(FILE, "hash", entries)], {}, self.clock.us) == [[]]
        self.rounds.schedule()

    def live_until(self, at):
        """Look, move the clock to what comes first, look again."""
        end_us, looks = to_us(at) - self.clock.offset_us - self.clock.slept_us, 0
        while True:
            look_us = round(self.rounds.tick() * 1e6)
            next_us = min(end_us, look_us, self.machine.next_us())
            looks = looks + 1 if next_us <= self.clock.mono_us else 0
            assert looks < 1000, "the rounds go on and on without time passing"
            self.clock.mono_us = max(next_us, self.clock.mono_us)
            self.machine.happen()
            if self.clock.mono_us >= end_us:
                self.rounds.tick()
                return

    def die(self):
        """The daemon is gone; the store stays."""
        self.state.close()
        self.telemetry.close()
        self.machine.state.close()


def _connect(folder, database):
    """As everywhere, but not waiting for the disk: this machine's power is not cut."""
    connection = connect(folder, database)
    connection.execute("PRAGMA synchronous = OFF")
    return connection


def _entry(name, schedules, options):
    return {
        "name": name, "description": None, "parameters": "{}", "parameters_schema": "{}", "tags": "[]",
        "concurrency_limit": None, "collision_strategy": None, **options,
        "schedules": [{
            "slug": schedule.slug or f"schedule-{number}", "kind": schedule.kind, "spec": to_json(schedule),
            "parameters": "{}", "catchup": schedule.catchup,
            "catchup_window_seconds": schedule.catchup_window_seconds, "overlap": schedule.overlap, "active": True,
        } for number, schedule in enumerate(schedules, start=1)],
    }  # fmt: skip


def ticks(schedule, since, until):
    """The schedule's ticks in ``(since, until]``."""
    found = []
    while (tick := next_after(schedule, found[-1] if found else since)) is not None and tick <= until:
        found.append(tick)
    return found


def dues(folder):
    """The ticks for which each flow has runs, in the order in which the runs were made."""
    found = defaultdict(list)
    with Reader(folder) as reader:
        for run in sorted(reader.runs(limit=100_000), key=lambda run: run.id):
            found[run.flow_name].append(from_us(run.scheduled_at_us))
    return found


@pytest.fixture
def rare_looks(monkeypatch):
    """The daemon's looks at nothing in particular come each hour, not each second: days without news are short."""
    monkeypatch.setattr(rounds, "ORPHAN_SECONDS", 3600.0)
    monkeypatch.setattr(rounds, "LONGEST_SLEEP_SECONDS", 3600.0)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


def hundreds():
    """300 schedules, some 450 ticks a day."""
    found = {}
    for number in range(10):
        found[f"hourly-{number}"] = [Interval(3600, MONDAY + timedelta(minutes=number % 4 * 15))]
    for number in range(15):
        found[f"often-{number}"] = [Cron(f"{number % 3 * 20} */4 * * *")]
    for number in range(75):
        found[f"daily-{number}"] = [Cron(f"30 {number % 24} * * *", "America/New_York" if number % 2 else "UTC")]
    for number in range(200):
        found[f"weekly-{number}"] = [Cron(f"0 {number % 24} * * {number % 7}")]
    return found


def test_a_week_of_hundreds_of_schedules(folder, monkeypatch, rare_looks):
    """Each tick of each schedule has one run, started at that instant and in order, at well under a second a day."""
    world = World(folder, monkeypatch)
    deployed = hundreds()
    world.deploy(deployed)
    began = time.process_time()
    world.live_until(MONDAY + timedelta(days=7))
    took = time.process_time() - began

    expected = {name: ticks(schedule, MONDAY, MONDAY + timedelta(days=7)) for name, [schedule] in deployed.items()}
    assert dues(folder) == expected
    assert sum(map(len, expected.values())) > 3000
    starts = world.machine.starts
    assert Counter((to_us(tick), name) for name, times in expected.items() for tick in times) == \
        Counter((at_us, flow) for at_us, _, _, flow in starts)
    assert starts == sorted(starts, key=lambda start: start[:2])
    assert {attempt for _, _, attempt, _ in starts} == {1}
    with Reader(folder) as reader:
        ended = [run for run in reader.runs(limit=100_000) if run.ended_at_us is not None]
        assert {run.state_name for run in ended} == {"Completed"}
        assert all(run.ended_at_us == run.due_at_us + 20_000_000 for run in ended)
    assert took / 7 < 1.0, f"{took / 7:.2f} s a day"


def test_a_machine_that_sleeps_and_a_clock_that_is_set_back(folder, monkeypatch, rare_looks):
    """What a night's sleep missed is made up for once a schedule. In hours that come again a wall time that had its run
    has none again, while what counts elapsed time goes on."""
    world = World(folder, monkeypatch)
    deployed = hundreds()
    world.deploy(deployed)
    asleep, awake = MONDAY + timedelta(hours=26, minutes=1), MONDAY + timedelta(hours=31, minutes=10)
    world.live_until(asleep)
    world.clock.slept_us += to_us(awake) - to_us(asleep)
    back = MONDAY + timedelta(days=2, hours=12, minutes=5)
    world.live_until(back)
    world.clock.offset_us -= 2 * HOUR_US
    world.live_until(MONDAY + timedelta(days=3))

    expected = {}
    for name, [schedule] in deployed.items():
        missed = ticks(schedule, asleep, awake)
        expected[name] = [tick for tick in ticks(schedule, MONDAY, back) if tick not in missed[:-1]]
        if isinstance(schedule, Interval):
            expected[name] += ticks(schedule, back - timedelta(hours=2), back)
        expected[name] += ticks(schedule, back, MONDAY + timedelta(days=3))
    assert dues(folder) == {name: times for name, times in expected.items() if times}
    assert len({(run_id, attempt) for _, run_id, attempt, _ in world.machine.starts}) == len(world.machine.starts)
    assert [line for line in world.said if line.startswith("the ")] == [
        "the machine slept for 5 h 9 min", "the clock was set back by 2 h 0 min, to 2024-03-06 10:05:00 UTC"]


def test_catching_up_after_the_daemon_was_gone(folder, monkeypatch, rare_looks):
    """By its ``catchup`` and within its window a schedule makes none, the newest or all of the runs it missed."""
    every = timedelta(minutes=30)
    deployed = {
        "none": [Interval(every, MONDAY, catchup="none")],
        "latest": [Interval(every, MONDAY, catchup="latest")],
        "too-old": [Cron("0 6 * * *", catchup="latest", catchup_window_seconds=3600)],
        "all": [Interval(every, MONDAY, catchup="all", overlap="allow")],
        "window": [Interval(every, MONDAY, catchup="all", catchup_window_seconds=2 * 3600, overlap="allow")],
    }
    gone, back, end = (MONDAY + timedelta(hours=hours, minutes=7) for hours in (5, 11, 14))
    first = World(folder, monkeypatch)
    first.deploy(deployed)
    first.live_until(gone)
    first.die()
    first.clock.offset_us += to_us(back) - to_us(gone)
    world = World(folder, monkeypatch, clock=first.clock)
    world.rounds.schedule()
    world.live_until(end)

    found = dues(folder)
    for name, [schedule] in deployed.items():
        missed = ticks(schedule, gone, back)
        made = {"none": [], "latest": missed[-1:], "too-old": [], "all": missed,
                "window": ticks(schedule, back - timedelta(hours=2), back)}[name]
        assert found.get(name, []) == ticks(schedule, MONDAY, gone) + made + ticks(schedule, back, end), name
    caught_up = [flow for at_us, _, _, flow in world.machine.starts if at_us == to_us(back)]
    assert Counter(caught_up) == {"latest": 1, "all": 12, "window": 4}
    recorded = [line for line in world.said if "made no run" in line]
    assert {message.partition("/")[0] for message in recorded} == {"none", "latest", "too-old", "window"}


def test_crashes_retries_and_long_sleeps(folder, monkeypatch, rare_looks):
    """A crashed run goes on at once, then after a second; a run that sleeps for hours wakes to the microsecond."""
    noon = MONDAY + timedelta(hours=12)
    wake_us = to_us(noon) + 3 * HOUR_US + 7

    def plan(flow, attempt, _run_id):
        if flow == "flaky":
            return ("crash", 5) if attempt < 3 else ("complete", 5)
        if flow == "hopeless":
            return ("crash", 5)
        return ("sleep", 2, wake_us) if attempt == 1 else ("complete", 5)

    world = World(folder, monkeypatch, plan=plan)
    world.machine.retries["hopeless"] = 1
    world.deploy({name: [Cron("0 12 4 3 *")] for name in ("flaky", "hopeless", "sleeper")})
    world.live_until(noon + timedelta(hours=4))

    began = {flow: [at_us - to_us(noon) for at_us, _, _, name in world.machine.starts if name == flow]
             for flow in ("flaky", "hopeless", "sleeper")}
    assert began == {"flaky": [0, 5_050_000, 11_050_000], "hopeless": [0, 5_050_000],
                     "sleeper": [0, 3 * HOUR_US + 7]}
    with Reader(folder) as reader:
        ended = {run.flow_name: (run.state_name, run.attempt) for run in reader.runs()}
    assert ended == {"flaky": ("Completed", 3), "hopeless": ("Crashed", 2), "sleeper": ("Completed", 2)}
    assert [attempt for _, attempt in world.machine.crashed] == [2]


def test_slots_are_given_in_the_order_of_asking(folder, monkeypatch):
    """With two slots, runs that are due together start two by two as the earlier ones end, none twice."""
    world = World(folder, monkeypatch, limit=2)
    world.deploy({f"flow-{number}": [Cron("0 1 * * *")] for number in range(6)})
    one = MONDAY + timedelta(hours=1)
    world.live_until(one + timedelta(minutes=5))
    starts = world.machine.starts
    assert [run_id for _, run_id, _, _ in starts] == sorted(run_id for _, run_id, _, _ in starts)
    assert [(at_us - to_us(one)) // 20_000_000 for at_us, *_ in starts] == [0, 0, 1, 1, 2, 2]
    assert all((at_us - to_us(one)) % 20_000_000 <= 250_000 for at_us, *_ in starts)


def test_limits_and_overlaps_of_flows(folder, monkeypatch, rare_looks):
    """Runs that last 90 minutes, each hour: the second tick waits, is left out or ends the first, as was said."""
    world = World(folder, monkeypatch, plan=lambda *_: ("complete", 5400))
    world.deploy({
        "skip": [Cron("0 * * * *", overlap="skip")],
        "queue": [Cron("0 * * * *", overlap="queue")],
        "allow": [Cron("0 * * * *", overlap="allow")],
        "limited": ([Cron("0 * * * *", overlap="allow")], {"concurrency_limit": 1, "collision_strategy": "CANCEL_NEW"}),
    })
    world.live_until(MONDAY + timedelta(hours=9, minutes=30))
    began = defaultdict(list)
    for at_us, _, _, flow in world.machine.starts:
        began[flow].append((at_us - to_us(MONDAY)) / HOUR_US)
    assert began == {
        "skip": [1, 3, 5, 7, 9], "queue": [1, 2.5, 4, 5.5, 7, 8.5], "allow": list(range(1, 10)),
        "limited": [1, 3, 5, 7, 9],
    }  # fmt: skip
    with Reader(folder) as reader:
        states = Counter((run.flow_name, run.state_name) for run in reader.runs(limit=1000))
    assert states["limited", "Cancelled"] == 4


def test_a_process_that_does_not_come_or_does_not_go(folder, monkeypatch):
    """A run nobody began is given back, a refused one tried again; a cancelled one that stays gets TERM, then KILL."""

    def plan(flow, _attempt, _run_id):
        tries = sum(name == flow for *_, name in world.machine.starts)
        if flow == "stays":
            return ("hang", 0)
        return (flow, 0) if tries == 1 else ("complete", 5)

    world = World(folder, monkeypatch, plan=plan)
    one = MONDAY + timedelta(hours=1)
    world.deploy({name: [Cron("0 1 * * *")] for name in ("refuse", "vanish", "stays")})
    world.live_until(one + timedelta(seconds=10))
    began = {flow: [(at_us - to_us(one)) / 1e6 for at_us, _, _, name in world.machine.starts if name == flow]
             for flow in ("refuse", "vanish", "stays")}
    assert began["refuse"] == [0, 0.25]
    assert began["vanish"][0] == 0
    assert 1 <= began["vanish"][1] <= 2
    assert began["stays"] == [0]

    monkeypatch.setenv("FLOWDECK_CANCEL_GRACE_SECONDS", "10")
    [stays] = [run_id for _, run_id, _, name in world.machine.starts if name == "stays"]
    with closing(Control(folder, actor="test")) as control:
        control.cancel(stays)
    asked_us = world.clock.us
    world.live_until(one + timedelta(minutes=1))
    assert [((at_us - asked_us) / 1e6, name) for at_us, name in world.machine.signals] == [
        (10.25, "SIGTERM"), (10.25, "SIGCONT"), (12.25, "SIGKILL")]
    run = runs.get(world.state, stays)
    assert run.state_name == "Cancelled"
    assert (run.ended_at_us - asked_us) / 1e6 == 12.25


def test_every_missed_tick_of_the_window_is_made_up_for_a_piece_at_a_time(folder, monkeypatch):
    """Thousands of them, each once and in order, also across a daemon's end; others' ticks come between the pieces."""
    every = timedelta(seconds=5)
    deployed = {"flood": [Interval(every, MONDAY, catchup="all", overlap="queue")], "hourly": [Cron("0 * * * *")]}
    gone = MONDAY + timedelta(hours=1, minutes=1)
    back = gone + timedelta(hours=4)
    first = World(folder, monkeypatch)
    first.deploy(deployed)
    first.live_until(gone)
    first.die()
    first.clock.offset_us += to_us(back) - to_us(gone)
    second = World(folder, monkeypatch, clock=first.clock)
    second.rounds.schedule()
    for _ in range(5):
        second.rounds.tick()
    with Reader(folder) as reader:
        so_far = sum(run.flow_name == "flood" for run in reader.runs(limit=10_000))
        assert 100 < so_far - 12 * 61 < 1000
        assert any(run.flow_name == "hourly" and run.due_at_us == to_us(MONDAY + timedelta(hours=5))
                   for run in reader.runs(limit=10_000))
    second.die()
    world = World(folder, monkeypatch, clock=first.clock)
    world.rounds.schedule()
    world.live_until(back + timedelta(seconds=1))
    assert dues(folder)["flood"] == ticks(deployed["flood"][0], MONDAY, back + timedelta(seconds=1))
    assert not any("made no run" in text for text in world.said if "flood" in text)
    assert any("caught up" in text for text in world.said)


def test_what_goes_wrong_with_a_host_takes_no_schedule_and_no_run_away(folder, monkeypatch):
    """Handing on fails once in three times: every tick has its run, every run is run."""
    world = World(folder, monkeypatch, plan=lambda *_: ("complete", 1))
    world.deploy({f"flow{number}": [Interval(60, MONDAY, overlap="allow")] for number in range(5)})
    calls = []
    handed_on = world.machine.run

    def run(*asked):
        calls.append(asked)
        if len(calls) % 3 == 0:
            raise OSError(24, "Too many open files")
        handed_on(*asked)

    world.machine.run = run
    end = MONDAY + timedelta(minutes=30)
    tick = world.rounds.tick

    def patient_tick():
        try:
            return tick()
        except OSError:
            world.rounds.look_at_everything()
            return world.clock().monotonic + 0.05

    world.rounds.tick = patient_tick
    world.live_until(end + timedelta(seconds=30))
    found = dues(folder)
    for number in range(5):
        assert found[f"flow{number}"] == ticks(Interval(60, MONDAY), MONDAY, end + timedelta(seconds=30))
    with Reader(folder) as reader:
        ends = {(run.state_name, run.attempt, run.crash_count) for run in reader.runs(limit=1000)}
    assert ends == {("Completed", 1, 0)}


def test_a_schedule_that_cannot_be_dealt_with_stands_before_no_other(folder, monkeypatch):
    """Whatever is wrong with one: it is said and set aside, the others of the same moment have their runs."""
    world = World(folder, monkeypatch, plan=lambda *_: ("complete", 1))
    world.deploy({name: [Interval(60, MONDAY)] for name in ("good", "poisoned", "fine")})
    inserted = runs.insert

    def insert(connection, **values):
        if values["flow_name"] == "poisoned":
            raise ValueError("nobody foresaw this")
        return inserted(connection, **values)

    monkeypatch.setattr(runs, "insert", insert)
    world.live_until(MONDAY + timedelta(minutes=10, seconds=1))
    found = dues(folder)
    assert len(found["good"]) == len(found["fine"]) == 10
    assert "poisoned" not in found
    assert sum("nobody foresaw this" in text for text in world.said) == 1


def test_a_group_that_has_to_wait_stands_before_no_other(folder, monkeypatch):
    """The hosts of one flow take nothing: the runs of the others begin, in the order of their due times."""
    world = World(folder, monkeypatch, plan=lambda *_: ("complete", 1))
    world.deploy({name: [] for name in ("full", "free")})
    world.machine.room = lambda _path, flow: 0 if flow == "full" else 1_000_000
    with transaction(world.state):
        for number in range(2000):
            for flow in ("full", "free") if number % 100 == 0 else ("full",):
                runs.insert(world.state, flow_name=flow, name="", state=("SCHEDULED", "Scheduled"), actor="tester",
                            at_us=world.clock.us, deployment=flow, entrypoint=f"/flows.py:{flow}",
                            scheduled_at_us=world.clock.us - 10_000 + number)
    world.live_until(MONDAY + timedelta(seconds=10))
    with Reader(folder) as reader:
        rows = reader.runs(limit=10_000)
    assert {run.state_name for run in rows if run.flow_name == "free"} == {"Completed"}
    assert {run.state_type for run in rows if run.flow_name == "full"} == {"SCHEDULED"}
    started = [run_id for _, run_id, _, _ in world.machine.starts]
    assert started == sorted(started)
