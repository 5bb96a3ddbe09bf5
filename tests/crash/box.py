"""A round of the sweep of process faults: a store, its flows, and processes in whatever PID namespace the dice choose.

The sweep stands outside of all namespaces and sees every process, by the numbers it has here. It remembers which run
it let die how often and what each must end as; ``check`` holds the store and the effects against that.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

from flowdeck.engine.control.control import Control
from flowdeck.store.rows import LeaseRow

from . import invariants
from .conftest import FLOWDECK, Field
from .invariants import is_alive

HERE: Final = Path(__file__).parent
IN_CONTAINER: Final = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
INIT: Final = ("sh", "-c", 'trap : TERM; "$@" & while :; do wait; sleep 0.05; done', "init")
"""Stays when the daemon that it started ends, and reaps what is left to it."""
EFFECT: Final = '''
import os
def effect(text):
    descriptor = os.open(os.environ["CRASH_PLACE"] + "/effects", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{text}\\n".encode())
    os.close(descriptor)
'''
TICKING: Final = EFFECT + '''
from flowdeck import Interval, flow

@flow(schedule=Interval(1, catchup="all", overlap="allow"))
def ticking():
    effect("tick")
'''
QUICK: Final = EFFECT + '''
from flowdeck import flow

@flow
def quick(number: int):
    effect(f"begin quick-{number}")
'''
Place = Literal["outside", "container", "container with init"]
PLACES: Final[tuple[Place, ...]] = ("outside", "container", "container with init")
Process = subprocess.Popen[bytes]


class Box(Field):
    """One round."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.flows = root / "flows"
        for folder in (self.flows, root / "held", root / "alone"):
            folder.mkdir()
        self.file = self.flows / "work.py"
        shutil.copy(HERE / "work.py", self.file)
        (self.flows / "ticking.py").write_text(TICKING)
        (self.flows / "quick.py").write_text(QUICK)
        self.control = Control(self.store, actor="tester@here via test")
        self.deaths: Counter[int] = Counter()
        """How often this sweep ended a process of a run in a way that counts as a crash."""
        self.leaves: Counter[int] = Counter()
        """How often it ended one in a way that does not, or had it leave its process."""
        self.wanted: dict[int, set[str]] = {}
        self.scripts: set[int] = set()
        """Of these, those that a person started and that go on."""
        """The states a run may end in."""
        self.strangers: list[Process] = []
        """Processes of nobody's run: what ends one of them has judged by a number."""
        self.container: Process | None = None
        """The container that the daemon is in, if it is in one."""
        self.has_init = False
        self.killed: set[Process] = set()
        """What ended because this sweep ended everything."""
        self.names = 0
        self.quick = 0

    # -- starting ------------------------------------------------------------------------------------------------

    def begin(self, *command: str, stdin: int = subprocess.DEVNULL, **environment: str) -> Process:
        """A process in a session of its own."""
        surroundings = {
            **os.environ, "FLOWDECK_STORE": str(self.store), "CRASH_PLACE": str(self.root),
            "FLOWDECK_CANCEL_GRACE_SECONDS": "0.5", **environment,
        }  # fmt: skip
        with open(self.root / "output", "ab") as output:
            process = subprocess.Popen(command, stdin=stdin, stdout=output, stderr=output, start_new_session=True,
                                       cwd=self.root, env=surroundings)  # fmt: skip
        self.processes.append(process)
        return process

    def start(self, *command: str, **environment: str) -> Process:
        """As ``begin``."""
        return self.begin(*command, **environment)

    def begin_daemon(self, place: Place = "outside", **environment: str) -> Process:
        """A daemon on the flows that is not waited for."""
        prefix = () if place == "outside" else (*IN_CONTAINER, *(INIT if place == "container with init" else ()))
        return self.begin(*prefix, *FLOWDECK, "daemon", str(self.flows), **environment)

    def daemon(self, place: Place = "outside", **environment: str) -> Process:  # type: ignore[override]
        """A daemon that has the store; not all of its files need be loaded."""
        before = self.output().count(" serves ")
        process = self.begin_daemon(place, **environment)
        self.wait(lambda: self.output().count(" serves ") > before or process.poll() is not None)
        assert process.poll() is None, self.output()[-3000:]
        self.container, self.has_init = (None if place == "outside" else process), place == "container with init"
        self.wait(self.daemon_pid)
        return process

    def ensure_daemon(self, dice: random.Random) -> None:
        """The daemon there is, or one wherever the dice say."""
        if self.daemon_pid() is None:
            self.end_container()
            self.daemon(dice.choice(PLACES))

    def script_of(self, flow: str, *prefix: str, **parameters: Any) -> tuple[int, Process]:
        """``python work.py FLOW`` on its own, begun; its run."""
        name = self.name()
        words = (sys.executable, "-P", str(self.file), flow, json.dumps({"name": name, **parameters}))
        process = self.begin(*prefix, *words)
        line: str = self.wait(lambda: next((line for line in self.effects.lines() if line.startswith(f"run {name} ")),
                                           None))  # fmt: skip
        return int(line.split()[2]), process

    def submit_work(self, flow: str = "steady", ends: str = "Completed", **parameters: Any) -> int:
        """A run of the daemon's, acknowledged."""
        self.wait_deployed(flow)
        run_id = self.submit(flow, name=self.name(), **parameters)
        self.wanted[run_id] = {ends}
        return run_id

    def submit_quick(self, count: int) -> list[int]:
        """Many that are due now."""
        self.wait_deployed("quick")
        first, self.quick = self.quick, self.quick + count
        run_ids = [self.control.trigger("quick", {"number": number}) for number in range(first, self.quick)]
        self.wanted |= {run_id: {"Completed"} for run_id in run_ids}
        return run_ids

    def name(self) -> str:
        """One that no other run has."""
        self.names += 1
        return f"n{self.names}"

    def stranger(self) -> Process:
        """Leads a session of its own, and has nothing to do with the store."""
        stranger = subprocess.Popen(["sleep", "3600"], start_new_session=True, env={}, cwd="/")
        self.strangers.append(stranger)
        return stranger

    # -- looking -------------------------------------------------------------------------------------------------

    def speakers(self, run_id: int) -> list[str]:
        """The processes that have had the run, in order; each named by itself."""
        found: dict[str, None] = {}
        for line in self.effects.lines():
            if line.startswith(f"process {run_id} "):
                found[line.split()[2]] = None
        return list(found)

    def wait_begun(self, run_ids: Iterable[int], times: int = 1) -> None:
        """Until each has had so many processes, and the record says that it runs."""
        for run_id in run_ids:
            self.wait(lambda run_id=run_id: len(self.speakers(run_id)) >= times and self.state(run_id) != "Pending")

    def wait_deployed(self, flow: str) -> None:
        """Until the store knows the flow, also when its daemon has ended."""
        self.wait(lambda: any(deployment.name == flow for deployment in self.reader.deployments()))

    def wait_somewhere(self, dice: random.Random) -> None:
        """Until some steps later."""
        until = len(self.effects.lines()) + dice.randrange(1, 40)
        deadline = time.monotonic() + 2
        while len(self.effects.lines()) < until and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(dice.random() * 0.01)

    def wait_tick(self) -> None:
        """Until the schedule of another file fires: it never waits for what is wrong elsewhere."""
        ticks = self.effects.lines().count("tick")
        self.wait(lambda: self.effects.lines().count("tick") > ticks + 1, seconds=30.0)

    def pid_of(self, lease: LeaseRow | None) -> int | None:
        """The number that the process of a lease has here; None when it is gone."""
        if lease is None:
            return None
        for pid in processes():
            if names_process(pid, lease):
                return pid
        return None

    def daemon_pid(self) -> int | None:
        """The living daemon."""
        return self.pid_of(next((lease for lease in self.reader.leases() if lease.run_id is None), None))

    def run_pid(self, run_id: int) -> int | None:
        """The process that has the run."""
        return self.pid_of(self.reader.lease_of(run_id))

    def hosts(self, file: str) -> list[int]:
        """The code hosts of a flow file; not the runs they forked, nor what stands between."""
        path = str(self.flows / file)
        found = {pid: words for pid in processes() if path in (words := command_of(pid)) and any(
            word.endswith(".code_host") for word in words)}  # fmt: skip
        owners = {self.pid_of(lease) for lease in self.reader.leases()}
        return [pid for pid in found if parent_of(pid) not in found and pid not in owners]

    def nursery(self) -> int | None:
        """What forks the daemon's code hosts."""
        daemon = self.daemon_pid()
        return next((pid for pid in processes() if parent_of(pid) == daemon and any(
            word.endswith(".nursery") for word in command_of(pid))), None)  # fmt: skip

    def unfinished(self, flow: str) -> int:
        """How many runs of it have not ended."""
        words = f"SELECT count(*) FROM flow_run WHERE flow_name = '{flow}' AND state_type NOT IN {invariants.TERMINAL}"
        return int(str(invariants.rows(self.store, words)[0][0]))

    def is_held(self, run_id: int) -> bool:
        """Whether any process lives that the run's own code made, or that is the run's own."""
        with open(self.root / "held" / str(run_id), "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def holders(self, run_id: int | None = None) -> list[int]:
        """Who has one of these locks open: of a run, or of any."""
        place = str(self.root / "held" if run_id is None else self.root / "held" / str(run_id))
        found = []
        for pid in processes():
            try:
                names = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
            except OSError:
                continue
            if any(name == place or os.path.dirname(name) == place for name in names):
                found.append(pid)
        return found

    def of_store(self, store: Path) -> list[int]:
        """Processes that were started on a store, perhaps a copy of this one."""
        mark = f"FLOWDECK_STORE={store}".encode()
        return [pid for pid in processes() if mark in environment_of(pid).split(b"\0") and is_alive(pid)]

    def first_in_container(self) -> int:
        """The process that is number one in there."""
        assert self.container is not None
        return next(pid for pid in processes() if parent_of(pid) == self.container.pid)

    def within_container(self, number: int) -> int | None:
        """The number here of a process that has that number in the daemon's container."""
        namespace = namespace_of(self.first_in_container())
        return next((pid for pid in processes() if namespace_of(pid) == namespace and number_within(pid) == number),
                    None)  # fmt: skip

    def living(self) -> list[int]:
        """Processes of this store, with those that got away from every mark."""
        own = {os.getpid(), *(stranger.pid for stranger in self.strangers)}
        return [pid for pid in {*super().living(), *self.holders()} if is_alive(pid) and pid not in own]

    # -- ending --------------------------------------------------------------------------------------------------

    def kill_run(self, run_id: int) -> None:
        """The process that has the run dies, and is gone when this returns."""
        pid = self.run_pid(run_id)
        assert pid is not None, f"run #{run_id} has no process\n{self.report()}"
        self.deaths[run_id] += 1
        os.kill(pid, signal.SIGKILL)
        self.wait(lambda: not is_alive(pid))

    def end_daemon(self, number: signal.Signals = signal.SIGKILL) -> None:
        """The daemon ends; where it is the first process of a container, all that is in there."""
        if self.container is not None and not self.has_init:
            self.end_container()
            return
        pid = self.daemon_pid()
        if pid is not None:
            os.kill(pid, number)
            self.wait(lambda: not is_alive(pid))

    def end_container(self) -> None:
        """The container that the daemon is in is killed whole, with all runs in it."""
        if self.container is None:
            return
        inside = [pid for pid in processes() if is_within(pid, self.container.pid)]
        namespaces = {namespace_of(pid) for pid in inside} - {namespace_of(os.getpid()), ""}
        self.deaths.update({lease.run_id for lease in self.reader.leases()
                            if lease.run_id is not None and lease.pid_namespace in namespaces})
        self.container.kill()
        self.container.wait()
        self.wait(lambda: not [command_of(pid) for pid in processes() if namespace_of(pid) in namespaces])
        self.container = None

    def end_everything(self, number: signal.Signals, run_ids: Iterable[int]) -> None:
        """Every process of the box gets the signal and is waited for."""
        for run_id in run_ids:
            (self.deaths if number == signal.SIGKILL else self.leaves)[run_id] += 1
            if run_id in self.scripts:  # which nobody resumes
                self.wanted[run_id].add("Crashed")
        while left := [pid for pid in self.living() if number == signal.SIGKILL or not is_of_container(pid)]:
            for pid in left:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
            self.wait(lambda left=left: not any(is_alive(pid) for pid in left))
        self.killed.update(self.processes)
        for process in self.processes:
            process.kill()  # a container that has nothing in it but its first process
            process.wait()
        self.container = None

    def close(self) -> None:
        """Nothing outlives its round."""
        self.control.close()
        for stranger in self.strangers:
            stranger.kill()
            stranger.wait()
        for process in self.processes:  # who was stopped cannot be waited for
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        super().close()
        shutil.rmtree(self.root)

    # -- observers -----------------------------------------------------------------------------------------------

    def observers(self, dice: random.Random, count: int, *more: str) -> list[Process]:
        """So many, in several places, who look when ``release`` says so; with ``again`` they look all the time."""
        prefixes: list[tuple[str, ...]] = [(), IN_CONTAINER]
        if self.container is not None and self.has_init and (pid := self.daemon_pid()) is not None:
            prefixes.append(("nsenter", "--target", str(pid), "--pid", "--mount"))
        ready = self.output().count("observers ready")
        chosen = dice.sample(prefixes, k=min(len(prefixes), dice.randrange(1, 3)))
        started = []
        for number, prefix in enumerate(chosen):
            share = count // len(chosen) + (number < count % len(chosen))
            words = (sys.executable, "-P", str(HERE / "observers.py"), str(self.store), str(share))
            seed = str(dice.randrange(10**6))
            started.append(self.begin(*prefix, *words, seed, *more, stdin=subprocess.PIPE))
        self.wait(lambda: self.output().count("observers ready") >= ready + len(started))
        return started

    def release(self, observers: Iterable[Process]) -> None:
        """They look, all at once; returns when they have."""
        observers = list(observers)
        for observer in observers:
            assert observer.stdin is not None
            with suppress(BrokenPipeError):
                observer.stdin.close()
        for observer in observers:
            # Who looked from within a container that was ended has ended with it.
            was_killed = observer in self.killed or (observer.args[0] == "nsenter" and observer.wait(90) < 0)
            assert observer.wait(90) == 0 or was_killed, f"{observer.returncode}\n{self.output()[-3000:]}"

    # -- the end of a round --------------------------------------------------------------------------------------

    def finish(self, dice: random.Random) -> None:
        """Let everything come to its end, and hold all invariants against it."""
        (self.root / "enough").touch()
        self.ensure_daemon(dice)
        self.wait(lambda: not self.without_process(), seconds=20.0)
        for run_id, ends in self.wanted.items():
            self.wait(lambda run_id=run_id, ends=ends: self.state(run_id) in ends, seconds=90.0)
        self.wait_tick()
        self.end_daemon(signal.SIGTERM)
        self.wait(lambda: not any(self.hosts(path.name) for path in self.flows.iterdir()))
        self.wait(self.nothing_runs)
        self.check()

    def nothing_runs(self) -> bool:
        """Whoever looks settles what died with its container; what was claimed there stays Pending for a daemon."""
        self.control.reap()
        return not self.reader.runs(states=["RUNNING", "CANCELLING"])

    def without_process(self) -> list[str]:
        """Runs that are said to run and have no process (I6), whatever namespace it would be in."""
        live = "state_type IN ('RUNNING', 'CANCELLING')"
        found = []
        for run_id, root_id, name in invariants.rows(
            self.store, f"SELECT id, coalesce(root_id, id), state_name FROM flow_run WHERE {live}"
        ):
            if self.run_pid(int(str(root_id))) is None and self.state(int(str(run_id))) == name:
                found.append(f"#{run_id} {name}")
        return found

    def check(self) -> None:
        """I1–I10."""
        store, effects = self.store, self.effects
        invariants.i1_acknowledged_runs_exist(store, self.wanted)
        invariants.i2_ended_runs_stay_ended(store)
        invariants.i3_what_returned_never_begins_again(effects)
        invariants.i3_bodies_ran_as_often_as_recorded(store, effects)
        assert not [line for line in effects.lines() if line.startswith("doubled")], self.report()
        for run_id, ends in self.wanted.items():
            row = self.run(run_id)
            assert row.state_name in ends, self.report()
            crashes, left = self.deaths[run_id], self.leaves[run_id]
            assert row.crash_count <= crashes, f"#{run_id}: {crashes} deaths, counted {row.crash_count}"
            assert row.attempt <= 1 + crashes + left, f"#{run_id}: {crashes} deaths, {left} leaves: {row.attempt}"
            if row.flow_name != "quick":
                invariants.i4_one_process_at_a_time(effects, row.attempt, run_id)
                assert not self.is_held(run_id), f"#{run_id} {row.state_name}, and something of it lives"
        invariants.i5_each_tick_has_one_run(store)
        assert not self.without_process(), self.report()
        self.wait(lambda: not [path for path in (store / "spool").glob("*") if path.suffix != ".exit"])
        invariants.i8_what_was_said_is_stored(store, None, effects)
        invariants.i9_files_are_sound(store)
        invariants.i10_events_tell_the_tables(store)
        invariants.ended_runs_hold_nothing_open(store)
        assert all(stranger.poll() is None for stranger in self.strangers), "a stranger was ended"
        wrong = [line for line in self.output().splitlines() if line.startswith("observer ")]
        assert not wrong, wrong


# ---------------------------------------------------------------------------------------------- what the kernel says


def processes() -> list[int]:
    """All there are, with those of every container."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def namespace_of(pid: int) -> str:
    """The PID namespace; empty when the process is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def names_process(pid: int, lease: LeaseRow) -> bool:
    """Whether the process with this number here is the one that the lease names where it was written."""
    if namespace_of(pid) != lease.pid_namespace or number_within(pid) != lease.pid:
        return False
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return int(fields[19]) == lease.pid_started_ticks and fields[0] not in "ZX"


def number_within(pid: int) -> int:
    """The number that the process has in its own namespace; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(next(line.split()[-1] for line in status.splitlines() if line.startswith("NSpid:")))


def environment_of(pid: int) -> bytes:
    """What it was started with."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def command_of(pid: int) -> list[str]:
    """The words it was started with."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


def is_of_container(pid: int) -> bool:
    """Whether it is what makes a container, or its first process where that only reaps."""
    words = command_of(pid)
    return words[:1] == ["unshare"] or (words[:1] == ["sh"] and INIT[2] in words)


def parent_of(pid: int) -> int:
    """0 when there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def is_within(pid: int, ancestor: int) -> bool:
    """Whether one descends from the other."""
    while pid > 1:
        if pid == ancestor:
            return True
        pid = parent_of(pid)
    return False
