"""The kinds of process faults that the sweep mixes: each does one thing to a ``Box``, with whatever the dice choose.

A kind leaves the box with or without a daemon, its runs under way or ended; it asserts what must be so at once, and
``Box.check`` the rest at the end of the round.
"""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from os import kill
from pathlib import Path
from typing import Final

from flowdeck.engine.errors import NotAllowed
from flowdeck.store.errors import StaleState

from .box import FLOWDECK, IN_CONTAINER, INIT, PLACES, Box, command_of
from .invariants import is_alive
from .onlookers import ANOTHER_USER, consoles_watching, forged_claims, root_settles_anothers

Kind = Callable[[Box, random.Random], None]
DEAF: Final = ("listens", "shrugs", "task", "submitted", "ignores", "C")
ESCAPES: Final = ("child", "session", "shell", "fork")


def containers_replaced(box: Box, dice: random.Random) -> None:
    """A daemon's container dies whole in the midst of its runs; the next daemon, elsewhere, resumes each once."""
    box.end_daemon(dice.choice((signal.SIGTERM, signal.SIGKILL)))
    box.end_container()
    box.daemon(dice.choice(("container", "container with init")))
    run_ids = [box.submit_work() for _ in range(dice.randrange(1, 3))]
    box.wait_begun(run_ids)
    box.wait_somewhere(dice)
    observers = box.observers(dice, dice.randrange(1, 6))
    if dice.random() < 0.5:
        box.release(observers)
        box.end_container()
    else:
        box.end_container()
        box.release(observers)
    box.daemon(dice.choice(PLACES))
    box.wait_begun(run_ids, 2)


def daemons_moved(box: Box, dice: random.Random) -> None:
    """A daemon dies and the next one is in another namespace: the runs live on, and it takes none of them for dead."""
    box.ensure_daemon(dice)
    run_id = box.submit_work()
    box.wait_begun([run_id])
    survives = box.container is None or box.has_init
    box.end_daemon(dice.choice((signal.SIGTERM, signal.SIGKILL)))
    box.wait_somewhere(dice)
    # A container stays with its runs when only its daemon has ended.
    left, box.container = box.container, None
    box.daemon(dice.choice(PLACES))
    box.wait_tick()
    if survives:
        assert (box.run(run_id).attempt, len(box.speakers(run_id))) == (1, 1), box.report()
    if left is not None and survives:
        now, has_init = box.container, box.has_init
        box.container = left
        box.end_container()
        box.container, box.has_init = now, has_init
        box.wait_begun([run_id], 2)


def deaths_observed(box: Box, dice: random.Random) -> None:
    """Up to twenty look at one death at the same moment, with or without a daemon: it is counted once."""
    box.ensure_daemon(dice)
    run_id = box.submit_work()
    box.wait_begun([run_id])
    box.wait_somewhere(dice)
    observers = box.observers(dice, dice.choice((3, 6, 20)))
    with_daemon = dice.random() < 0.4
    if not with_daemon:
        box.end_daemon(signal.SIGKILL)
    if box.run_pid(run_id) is not None:
        box.kill_run(run_id)
    if not with_daemon and box.has_init and dice.random() < 0.5:
        box.end_container()
    box.release(observers)
    if not with_daemon:
        row = box.run(run_id)
        if row.state_name == "Running":  # none of them was where it could be judged, and its container lives
            assert box.container is not None, box.report()
        else:
            assert (row.state_name, row.attempt, row.crash_count) == ("Resuming", 2, 1), box.report()
        box.ensure_daemon(dice)
    box.wait_begun([run_id], 2)


def copies_asked(box: Box, dice: random.Random) -> None:
    """A copy of the store is listed, asked and served by a daemon of its own: the original's runs never notice."""
    box.ensure_daemon(dice)
    run_ids = [box.submit_work() for _ in range(dice.randrange(1, 3))]
    box.wait_begun(run_ids)
    box.wait_somewhere(dice)
    copy, place = box.root / "copy", box.root / "place"
    copy_store(box, copy, dice)
    for name in ("held", "alone"):
        (place / name).mkdir(parents=True)
    (place / "effects").touch()
    environment = {"FLOWDECK_STORE": str(copy), "CRASH_PLACE": str(place)}
    daemon = box.begin(*FLOWDECK, "daemon", str(box.flows), **environment) if dice.random() < 0.6 else None
    for run_id in run_ids:
        for _ in range(dice.randrange(1, 4)):
            words = dice.choice(("ls", "show", "cancel", "freeze", "pause", "suspend", "thaw", "doctor"))
            named = [] if words in ("ls", "doctor") else [str(run_id)]
            prefix = dice.choice(((), (), IN_CONTAINER))
            assert box.begin(*prefix, *FLOWDECK, words, *named, **environment).wait(60) in (0, 1, 4), box.report()
    if daemon is not None:
        time.sleep(dice.random())
        daemon.send_signal(dice.choice((signal.SIGTERM, signal.SIGKILL)))
        daemon.wait()
    while left := box.of_store(copy):
        for pid in left:
            with suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)
        box.wait(lambda left=left: not any(is_alive(pid) for pid in left))
    for run_id in run_ids:
        before = len(box.effects.lines())
        box.wait(lambda run_id=run_id, before=before: any(
            line.startswith(f"process {run_id} ") for line in box.effects.lines()[before:]), seconds=20.0)
        assert (box.state(run_id), box.run(run_id).attempt, len(box.speakers(run_id))) == ("Running", 1, 1)
    shutil.rmtree(copy)
    shutil.rmtree(place)


def copy_store(box: Box, copy: Path, dice: random.Random) -> None:
    """As ``cp -a`` does it, or with SQLite's own backup."""
    if dice.random() < 0.5:
        subprocess.run(["cp", "-a", str(box.store), str(copy)], check=False, stderr=subprocess.DEVNULL)
        (copy / "daemon.lock").unlink(missing_ok=True)
    else:
        copy.mkdir(mode=0o700)
    for name in ("state.db", "telemetry.db"):
        # What was copied in the midst of a write may be torn, which is no fault of whoever reads it.
        for file in copy.glob(f"{name}*"):
            file.unlink()
        with closing(sqlite3.connect(box.store / name)) as own, closing(sqlite3.connect(copy / name)) as other:
            own.backup(other)


def other_users_look(box: Box, dice: random.Random) -> None:
    """Another user can neither look at the store nor change anything of it, also after a death."""
    box.ensure_daemon(dice)
    run_id = box.submit_work()
    box.wait_begun([run_id])
    killed = dice.random() < 0.5
    if killed:
        box.end_daemon(signal.SIGKILL)
        if box.run_pid(run_id) is not None:
            box.kill_run(run_id)
        # Whoever may look settles it, so that nothing is left to change but by this one. Who watches may be at it.
        box.wait(lambda: box.control.reap() or box.state(run_id) != "Running" or box.container is not None)
    words = dice.choice((["ls"], ["show", str(run_id)], ["cancel", str(run_id)], ["freeze", str(run_id)],
                         ["retry", str(run_id)], ["daemon", str(box.flows)]))  # fmt: skip
    before = box.run(run_id)
    code = box.begin(*ANOTHER_USER, *FLOWDECK, "--store", str(box.store), *words, HOME="/").wait(60)
    assert code > 0, f"{words} ended with {code}\n{box.report()}"
    after = box.run(run_id)
    told = [(row.state_name, row.attempt, row.intent) for row in (before, after)]
    settled_inside = killed and told == [("Running", 1, "none"), ("Resuming", 2, "none")] and box.container is not None
    assert told[0] == told[1] or settled_inside, f"{words} changed #{run_id}: {told}"
    box.ensure_daemon(dice)
    box.wait_begun([run_id], 2 if killed else 1)


def bursts(box: Box, dice: random.Random) -> None:
    """Hundreds of runs are due at once while their host is stopped, killed or well: each runs once, others on time."""
    box.ensure_daemon(dice)
    box.wait_deployed("quick")
    host = next(iter(box.hosts("quick.py")), None)
    what = dice.choice(("nothing", "stopped", "killed in the midst", "stopped, then killed"))
    if what.startswith("stopped") and host is not None:
        kill(host, signal.SIGSTOP)
    run_ids = box.submit_quick(dice.choice((100, 300, 600)))
    box.wait_tick()
    if what != "nothing" and host is not None and is_alive(host):
        kill(host, signal.SIGCONT if what == "stopped" else signal.SIGKILL)
    box.wait(lambda: all(box.state(run_id) == "Completed" for run_id in run_ids), seconds=240.0)
    assert all(box.run(run_id).attempt == 1 for run_id in run_ids), box.report()


def bursts_with_kills(box: Box, dice: random.Random, count: int = 500) -> None:
    """Many are due at once, and meanwhile hosts and daemons are killed again and again: each runs once, all end."""
    box.end_daemon(signal.SIGTERM)
    box.end_container()
    box.daemon()
    run_ids = box.submit_quick(count)
    kills = dice.randrange(3, 7)
    for _ in range(kills):
        left = box.unfinished("quick")
        if not left:
            break
        box.wait(lambda left=left: box.unfinished("quick") <= max(0, left - dice.randrange(1, count // kills)), 240.0)
        what = dice.choice(("host", "nursery", "daemon", "daemon, then host"))
        hosts, nursery = box.hosts("quick.py"), box.nursery()
        if what.startswith("daemon"):
            box.end_daemon(signal.SIGKILL)
        for pid in [*(hosts if "host" in what else ()), *([nursery] if what == "nursery" and nursery else ())]:
            with suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)
        if what.startswith("daemon"):
            box.daemon()
    box.wait(lambda: not box.unfinished("quick"), seconds=60.0 + count / 10)
    begun = box.effects.begun()
    assert all(begun[f"quick-{number}"] == 1 for number in range(box.quick - count, box.quick)), box.report()
    assert {(box.run(run_id).attempt, box.run(run_id).crash_count) for run_id in run_ids} == {(1, 0)}, box.report()


def imports_that_hang(box: Box, dice: random.Random) -> None:
    """A file, or several, whose import never ends: at a daemon's start or later, the others are served."""
    if dice.random() < 0.5:
        box.end_daemon(signal.SIGTERM)
        box.end_container()
    else:
        box.ensure_daemon(dice)
    hanging = [box.flows / f"hanging{number}.py" for number in range(dice.randrange(1, 5))]
    for path in hanging:
        path.write_text("import time\ntime.sleep(3600)\n")
    box.ensure_daemon(dice)
    box.wait_tick()
    run_id = box.submit_work()
    box.wait_begun([run_id])
    for path in hanging:
        path.unlink()
    box.wait_tick()


def deaf_runs_cancelled(box: Box, dice: random.Random) -> None:
    """Code that does not listen, or is stopped, ends when it is cancelled, with all it started, daemon or none."""
    how, escapes = dice.choice(DEAF), dice.sample(ESCAPES, k=dice.choice((0, 0, 1, 2)))
    run_id = deaf_run(box, dice, how, escapes)
    if dice.random() < 0.25 and (pid := box.run_pid(run_id)) is not None:
        kill(pid, signal.SIGSTOP)
    own = box.run_pid(run_id)
    box.control.cancel(run_id)
    if dice.random() < 0.3:
        ask(box, "cancel", run_id)
    wait_cancelled(box, run_id, own)


def children_that_escape(box: Box, dice: random.Random) -> None:
    """What double-forked, left its session or emptied its environment is gone when its run is Cancelled."""
    run_id = deaf_run(box, dice, "listens", list(dice.sample(ESCAPES, k=dice.randrange(1, len(ESCAPES) + 1))))
    own = box.run_pid(run_id)
    box.control.cancel(run_id)
    wait_cancelled(box, run_id, own)


def deaf_run(box: Box, dice: random.Random, how: str, escapes: list[str]) -> int:
    """One that has begun, of the daemon or a script that has none."""
    if dice.random() < 0.5:
        box.ensure_daemon(dice)
        run_id = box.submit_work("deaf", "Cancelled", how=how, escapes=escapes)
        box.wait_begun([run_id])
    else:
        box.end_daemon(dice.choice((signal.SIGTERM, signal.SIGKILL)))
        # The first process of a namespace is one that the kernel lets nobody in there end.
        places = ((), (*IN_CONTAINER, *INIT), *((IN_CONTAINER,) if how == "listens" else ()))
        run_id, _ = box.script_of("deaf", *dice.choice(places), how=how, escapes=escapes)
        box.wanted[run_id] = {"Cancelled"}
    box.wait(lambda: f"deaf n{box.names}" in box.effects.lines())
    return run_id


def wait_cancelled(box: Box, run_id: int, own: int | None) -> None:
    """At the moment that the record says so nothing of it lives but the process that may have recorded it."""
    box.wait(lambda: box.state(run_id) == "Cancelled", seconds=30.0)
    left = {pid: command_of(pid) for pid in box.holders(run_id) if pid != own}
    assert not left, f"#{run_id} is Cancelled, and these live: {left}\n{box.report()}"
    box.wait(lambda: not box.is_held(run_id), seconds=10.0)


def requests_overtaken(box: Box, dice: random.Random) -> None:
    """Of several requests the strongest is done, whichever came last: what was cancelled is never only paused."""
    box.ensure_daemon(dice)
    begun = dice.random() < 0.8
    if not begun:
        box.wait_deployed("deaf")
        box.end_daemon(signal.SIGTERM)
    how = dice.choice(("listens", "listens", "shrugs"))
    run_id = box.submit_work("deaf", "Cancelled", how=how, escapes=[])
    if begun:
        box.wait_begun([run_id])
        if dice.random() < 0.3 and (pid := box.run_pid(run_id)) is not None:
            kill(pid, signal.SIGSTOP)  # it sees none of them before all are asked
            asked = dice.sample(["pause", "suspend", "cancel"], k=3)
        else:
            asked = dice.choices(["pause", "suspend", "resume", "freeze", "thaw", "cancel"], k=3)
    else:
        asked = dice.choices(["pause", "resume", "cancel"], k=2)
    cancelled, own = False, box.run_pid(run_id)
    for request in asked:
        cancelled |= ask(box, request, run_id) and request == "cancel"
        time.sleep(dice.choice((0, 0, 0.001, 0.05)))
    box.leaves[run_id] += 10  # a suspended run that is resumed is another attempt
    if not cancelled:
        box.wait(lambda: ask(box, "cancel", run_id))
    box.ensure_daemon(dice)
    wait_cancelled(box, run_id, own)


def ask(box: Box, request: str, run_id: int) -> bool:
    """Whether the request was taken."""
    try:
        getattr(box.control, request)(run_id)
    except (NotAllowed, StaleState):
        return False
    return True


def shutdowns(box: Box, dice: random.Random) -> None:
    """The machine is shut down several times: no run ends for good by it."""
    box.ensure_daemon(dice)
    run_id = box.submit_work("patient")
    box.wait_begun([run_id])
    for _ in range(dice.randrange(4, 7)):
        before = len(box.speakers(run_id))
        box.wait_somewhere(dice)
        box.end_everything(signal.SIGTERM, {lease.run_id for lease in box.reader.leases() if lease.run_id})
        box.daemon(dice.choice(PLACES))
        box.wait_begun([run_id], before + 1)


def told_to_end(box: Box, dice: random.Random) -> None:
    """HUP, QUIT or TERM of a run, and HUP of its daemon: it unwinds and goes on by replay, and the daemon lives."""
    box.ensure_daemon(dice)
    run_id = box.submit_work("patient")
    box.wait_begun([run_id])
    for _ in range(dice.randrange(1, 4)):
        box.wait_somewhere(dice)
        before = len(box.speakers(run_id))
        if dice.random() < 0.3 and (daemon := box.daemon_pid()) is not None:
            kill(daemon, signal.SIGHUP)
        pid = box.run_pid(run_id)
        assert pid is not None, box.report()
        box.leaves[run_id] += 1
        # What a shell runs in the background ignores SIGQUIT, and so does what that starts.
        numbers = (signal.SIGHUP, signal.SIGTERM) if box.has_init else (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM)
        kill(pid, dice.choice(numbers))
        box.wait_begun([run_id], before + 1)
        assert box.daemon_pid() is not None, box.report()


def stopped_holders(box: Box, dice: random.Random) -> None:
    """Runs and scripts are stopped wherever they are, in their transactions, too: others write; then they go on."""
    box.ensure_daemon(dice)
    run_id = box.submit_work()
    script_id, _ = box.script_of("steady")
    box.wanted[script_id] = {"Completed"}
    box.scripts.add(script_id)
    box.wait_begun([run_id, script_id])
    for _ in range(dice.randrange(2, 8)):
        box.wait_somewhere(dice)
        pid = box.run_pid(dice.choice((run_id, script_id)))
        assert pid is not None, box.report()
        kill(pid, dice.choice((signal.SIGSTOP, signal.SIGTSTP)))
        box.wait_tick()
        kill(pid, signal.SIGCONT)


def forged_rows(box: Box, dice: random.Random) -> None:
    """While nothing lives the rows come to name strangers: none of them is touched, and the runs go on once."""
    box.ensure_daemon(dice)
    run_ids = [box.submit_work() for _ in range(dice.randrange(1, 4))]
    box.wait_begun(run_ids)
    box.wait_somewhere(dice)
    box.end_everything(signal.SIGKILL, {lease.run_id for lease in box.reader.leases() if lease.run_id})
    # A number below one would mean everybody: it is tried where there is nobody else.
    alone = dice.random() < 0.3
    with closing(sqlite3.connect(box.store / "state.db", timeout=30)) as connection:
        for owner, pid in connection.execute("SELECT owner, pid FROM lease").fetchall():
            stranger = box.stranger().pid
            group = dice.choice((stranger, pid))
            column, value = dice.choice((
                ("pid = :value, process_group", stranger), ("pid = :value, process_group", 1),
                ("process_group", stranger),
                ("pid_namespace", None), ("pid_namespace", "pid:[1]"), ("boot_id", "another"), ("store", "1:1"),
                ("process_group", group), ("pid_started_ticks", 0),
            ))  # fmt: skip
            if alone:
                column, value = "pid = :value, process_group", dice.choice((0, -1))
            connection.execute(f"UPDATE lease SET {column} = :value WHERE owner = :owner",
                               {"value": value, "owner": owner})
        connection.commit()
    if not alone:
        box.release(box.observers(dice, dice.randrange(1, 8)))
    box.daemon("container" if alone else dice.choice(PLACES))
    box.wait_begun(run_ids, 2)


REUSE: Final = """
import os, sys, time
wanted = int(sys.argv[1])
deadline = time.monotonic() + 20
while time.monotonic() < deadline:
    with open("/proc/sys/kernel/ns_last_pid", "w") as last:
        last.write(str(wanted - 1))
    pid = os.fork()
    if pid == 0:
        if os.getpid() != wanted:
            os._exit(0)
        os.setsid()
        os.execvpe("sleep", ["sleep", "3601"], {})
    if pid == wanted:
        sys.exit(0)
    os.waitpid(pid, 0)
sys.exit("the number could not be had")
"""


def numbers_used_again(box: Box, dice: random.Random) -> None:
    """The number of a dead run's process is given to a stranger, by the kernel: he lives on, the run is resumed."""
    box.end_daemon(signal.SIGTERM)
    box.end_container()
    box.daemon("container with init")
    run_id = box.submit_work()
    box.wait_begun([run_id])
    lease, daemon = box.reader.lease_of(run_id), box.daemon_pid()
    assert lease is not None
    assert daemon is not None
    assert box.container is not None
    inside = ("nsenter", "--target", str(box.first_in_container()), "--pid", "--mount")
    hosts = [host for file in ("work.py", "ticking.py", "quick.py") for host in box.hosts(file)]
    for pid in (daemon, *hosts):
        with suppress(ProcessLookupError):  # a host that has no run ends with its daemon
            kill(pid, signal.SIGKILL)
    box.kill_run(run_id)
    done = box.begin(*inside, sys.executable, "-c", REUSE, str(lease.pid)).wait(60)
    assert done == 0, box.report()
    stranger = box.within_container(lease.pid)
    assert stranger is not None, box.report()
    observers = [box.begin(*inside, *FLOWDECK, *words) for words in (["ls"], ["show", str(run_id)], ["ls"])]
    assert [observer.wait(60) for observer in observers] == [0, 0, 0], box.report()
    if dice.random() < 0.5:
        began = box.begin(*inside, *FLOWDECK, "daemon", str(box.flows))
        box.wait(lambda: box.daemon_pid() is not None or began.poll() is not None)
        box.wait_begun([run_id], 2)
    assert is_alive(stranger), "a stranger who was given the number of a dead run's process was ended"
    box.end_daemon(signal.SIGKILL)
    box.end_container()


def daemons_at_once(box: Box, dice: random.Random) -> None:
    """Several daemons are started at the same moment, in several places: one serves, the others are refused."""
    box.end_daemon(dice.choice((signal.SIGTERM, signal.SIGKILL)))
    box.end_container()
    places = [dice.choice(PLACES[:2]) for _ in range(dice.randrange(2, 5))]
    before = box.output().count(" serves ")
    started = [box.begin_daemon(place) for place in places]
    box.wait(lambda: sum(process.poll() is None for process in started) == 1
             and box.output().count(" serves ") > before)  # fmt: skip
    winner = next(number for number, process in enumerate(started) if process.poll() is None)
    codes = [process.poll() for process in started]
    assert set(codes) <= {None, 4}, f"{list(zip(places, codes, strict=True))}\n{box.report()}"
    box.container = None if places[winner] == "outside" else started[winner]
    box.has_init = False
    run_id = box.submit_work()
    box.wait_begun([run_id])


KINDS: Final[dict[str, Kind]] = {kind.__name__: kind for kind in (
    containers_replaced, daemons_moved, deaths_observed, copies_asked, other_users_look, bursts, bursts_with_kills,
    imports_that_hang, deaf_runs_cancelled, children_that_escape, requests_overtaken, shutdowns, told_to_end,
    stopped_holders, forged_rows, numbers_used_again, daemons_at_once, consoles_watching, root_settles_anothers,
    forged_claims,
)}  # fmt: skip
