"""The daemon as a whole: schedules make runs, submitted runs start, limits hold, and it can come and go."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from itertools import pairwise

import pytest
from flowdeck.store.connection import transaction
from flowdeck.store.tables import leases, runs, schedules

from .conftest import WAIT_SECONDS


@pytest.mark.alone
def test_a_schedule_fires_on_time_and_each_tick_once(box):
    """Runs stand exactly on their ticks, none twice, and start a moment later."""
    box.write("etl.py", """
        @flow(schedule=Interval(0.5), tags=["often"])
        def etl():
            effect("ran")
    """)
    box.daemon()
    box.wait(lambda: len([run for run in box.reader.runs() if run.state_name == "Completed"]) >= 4)
    found = box.reader.runs()[::-1]
    due = [run.due_at_us for run in found]
    assert [later - earlier for earlier, later in pairwise(due)] == [500_000] * (len(due) - 1)
    assert all(us % 500_000 == 0 for us in due)
    first = found[0]
    assert first.started_at_us - first.due_at_us < 1_000_000
    assert (first.deployment, first.actor, json.loads(first.tags)) == ("etl", "schedule etl/schedule-1", ["often"])
    assert first.entrypoint.endswith("etl.py:etl")


def test_a_schedule_gives_its_parameters(box):
    """Several schedules of one flow, each with its own."""
    box.write("etl.py", """
        @flow(schedules=[Interval(1, parameters={"day": "a"}, slug="first"), Interval(1, parameters={"day": "b"})])
        def etl(day: str = "none"):
            effect(day)
    """)
    box.daemon()
    box.wait_effects("a", "b")
    assert {row.slug for row in box.reader.schedules()} == {"first", "schedule-2"}


def test_a_submitted_run_starts_and_is_recorded(box):
    """A row is enough: any process may ask, with parameters, while the daemon runs or before."""
    box.write("etl.py", """
        @flow
        def etl(n: int = 1):
            '''Adds.'''
            print("adding", n)
            return n + 1
    """)
    box.daemon()
    run_id = box.submit("etl", n=41)
    row = box.wait_state(run_id, "Completed")
    assert row.result_preview == "42"
    box.wait(lambda: [log.message for log in box.reader.logs(run_id)] == ["adding 41"])
    assert box.states(run_id) == ["Scheduled", "Pending", "Running", "Completed"]
    box.wait(lambda: not [lease for lease in box.reader.leases() if lease.run_id])
    deployment = box.reader.deployments()[0]
    assert (deployment.name, deployment.description) == ("etl", "Adds.")
    assert "n" in json.loads(deployment.parameters_schema)["properties"]
    box.wait(lambda: not [name for name in os.listdir(box.folder / "spool") if name.startswith(f"{run_id}.")])


def test_a_run_submitted_while_no_daemon_runs_waits_for_the_next(box):
    """The row is the request."""
    box.write("etl.py", "@flow\ndef etl(): effect('ran')\n")
    box.daemon().stop()
    run_id = box.submit("etl")
    box.daemon()
    box.wait_state(run_id, "Completed")


def test_a_second_daemon_is_refused(box):
    """One daemon a store: the second names the first and the remedy, and does no harm."""
    first = box.daemon()
    found = subprocess.run(
        [sys.executable, "-P", "-c", "import sys; from flowdeck.engine.daemon.daemon import run_daemon\n"
         "from flowdeck.engine.errors import NotAllowed\ntry: run_daemon(sys.argv[1], [])\n"
         "except NotAllowed as error: print(error, error.exit_code)", str(box.folder)],
        capture_output=True, text=True, check=True)
    for word in (f"pid {first.pid}", "flowdeck daemon --stop", "--store", " 4"):
        assert word in found.stdout
    assert box.reader.daemon().pid == first.pid
    assert first.stop() == 0
    assert box.reader.daemon() is None


def test_stopping_the_daemon_leaves_runs_going(box):
    """SIGTERM: exit code 0, lease given back, the run ends by itself, recorded, and is not run again."""
    box.write("etl.py", """
        @task
        def step():
            effect("began")
            wait_for("go")
            return 7
        @flow
        def etl():
            return step()
    """)
    daemon = box.daemon()
    run_id = box.submit("etl")
    box.wait_effects("began")
    assert daemon.stop() == 0
    assert leases.DAEMON not in [lease.owner for lease in box.reader.leases()]
    box.touch("go")
    assert box.wait_state(run_id, "Completed").result_preview == "7"
    box.daemon()
    assert box.effects() == ["began"]
    assert "the daemon stopped; runs go on" in box.said("daemon")


def test_the_limit_holds_and_slots_are_given_first_in_first_out(box):
    """With one slot runs go one by one in their order, and those that wait say so."""
    box.write("etl.py", """
        @flow
        def etl(n: int):
            effect(f"begin {n}")
            wait_for(f"go{n}")
            effect(f"end {n}")
    """)
    box.daemon(limit=1)
    numbers = [box.submit("etl", n=n) for n in range(4)]
    box.wait_effects("begin 0")
    box.wait(lambda: [box.state(number) for number in numbers[1:]] == ["AwaitingSlot"] * 3)
    assert box.reader.run(numbers[1]).cause == "all 1 slots are taken"
    for n in range(4):
        box.touch(f"go{n}")
    for number in numbers:
        box.wait_state(number, "Completed")
    assert box.effects() == [f"{what} {n}" for n in range(4) for what in ("begin", "end")]


SLOW = """
    @flow(schedule=Interval(0.3, overlap={overlap!r}))
    def etl():
        number = len([line for line in open(HERE + "/effects")]) if os.path.exists(HERE + "/effects") else 0
        effect(f"begin {{os.getpid()}}")
        wait_for("go")
        effect(f"end {{os.getpid()}}")
"""


def test_overlap_skip_makes_no_run_and_says_why(box):
    """While the earlier run lives, ticks pass, each recorded."""
    box.write("etl.py", SLOW.format(overlap="skip"))
    box.daemon()
    said = box.wait(lambda: [text for text in box.said("schedule") if "made no run" in text][1:])
    assert "run #1 is still Running (overlap='skip')" in said[0]
    assert len(box.reader.runs()) == 1
    box.touch("go")
    box.wait(lambda: len(box.reader.runs()) > 1)


def test_overlap_queue_runs_each_tick_one_after_the_other(box):
    """Later ticks wait for the earlier run, saying so, in order and never two at once."""
    box.write("etl.py", SLOW.format(overlap="queue"))
    box.daemon()
    waiting = box.wait(lambda: [run for run in box.reader.runs() if run.state_name == "AwaitingSlot"][1:])
    assert "waits for run #" in waiting[-1].cause
    assert len(box.effects()) == 1
    box.touch("go")
    box.wait(lambda: len(box.effects()) >= 8)
    lines = box.effects()[:8]
    assert [line.split()[0] for line in lines] == ["begin", "end"] * 4


def test_overlap_allow_runs_side_by_side(box):
    """Each tick has its run at once."""
    box.write("etl.py", SLOW.format(overlap="allow"))
    box.daemon()
    box.wait(lambda: len([line for line in box.effects() if line.startswith("begin")]) >= 3)
    box.touch("go")


def test_overlap_cancel_running_ends_the_earlier_run_first(box):
    """The new tick wins: the earlier run is cancelled with that reason, then the new one starts."""
    box.write("etl.py", SLOW.format(overlap="cancel_running").replace("0.3", "0.7"))
    box.daemon()
    box.wait(lambda: len([line for line in box.effects() if line.startswith("begin")]) >= 2)
    row = box.wait_state(1, "Cancelled")
    assert "schedule etl/schedule-1" in row.cause
    assert not any(line.startswith("end") for line in box.effects())


@pytest.mark.parametrize(("catchup", "window", "expected"), [
    ("latest", 86_400, 1), ("all", 86_400, 4), ("none", 86_400, 0), ("all", 7_800, 2), ("latest", 60, 0)])
def test_missed_ticks_follow_catchup(box, catchup, window, expected):
    """Four hourly ticks were missed while no daemon ran; what made no run is said."""
    box.write("etl.py", f"""
        @flow(schedule=Interval(3600, catchup={catchup!r}, catchup_window_seconds={window}, overlap="allow",
                                anchor_date=__import__("datetime").datetime.fromtimestamp({time.time() - 1800})))
        def etl(): effect("ran")
    """)
    box.daemon().stop()
    row = box.reader.schedules()[0]
    missed = row.next_due_at_us - 4 * 3_600_000_000

    def set_back(connection):
        with transaction(connection):
            schedules.advance(connection, row.id, missed)

    box.update(set_back)
    box.daemon()
    box.wait(lambda: box.reader.schedules()[0].next_due_at_us == row.next_due_at_us)
    found = box.reader.runs()[::-1]
    assert [run.due_at_us for run in found] == [missed + n * 3_600_000_000 for n in range(4)][4 - expected:]
    said = [text for text in box.said("schedule") if "made no run" in text]
    assert bool(said) == (expected < 4)
    for run in found:
        box.wait_state(run.id, "Completed")


def test_a_paused_schedule_makes_no_run_and_resuming_catches_nothing_up(box):
    """A person's pause holds over reloads; ticks that passed meanwhile were not wanted."""
    text = "@flow(schedule=Interval(0.4))\ndef etl(): effect('ran')\n"
    box.write("etl.py", text)
    daemon = box.daemon()
    box.wait_effects("ran")
    schedule = box.reader.schedules()[0]
    box.control.pause_schedule(schedule.id)
    box.write("etl.py", text + "# edited\n")
    box.wait(lambda: daemon.log.count("loaded") == 2)
    count = len(box.reader.runs())
    assert not box.reader.schedules()[0].active
    stopped_at = time.time()
    box.wait(lambda: time.time() > stopped_at + 1.3)
    assert len(box.reader.runs()) == count
    box.control.resume_schedule(schedule.id)
    resumed_at_us = time.time_ns() // 1000
    box.wait(lambda: len(box.reader.runs()) > count)
    assert min(run.due_at_us for run in box.reader.runs()[:-count]) >= resumed_at_us - 50_000


def insert_run(connection, **fields):
    with transaction(connection):
        return runs.insert(connection, flow_name="etl", name="", state=("SCHEDULED", "Scheduled"), actor="tester",
                           at_us=time.time_ns() // 1000, **fields)


def test_a_run_whose_flow_cannot_be_found_fails_with_that_cause(box):
    """No file, no such file, no such flow, a file that does not import: each said in words."""
    good = box.write("etl.py", "@flow\ndef etl(): ...\n")
    bad = box.root / "bad.py"
    bad.write_text("import nothing_of_the_sort\n")
    box.daemon()
    for entrypoint, words in [(None, "nothing says which file"), (f"{box.root}/none.py:etl", "is gone"),
                              (f"{good}:other", "holds no flow 'other'; it holds etl"),
                              (f"{bad}:etl", "no module named 'nothing_of_the_sort'")]:
        run_id = box.update(lambda connection, e=entrypoint: insert_run(connection, entrypoint=e))
        row = box.wait_state(run_id, "Failed")
        assert "could not start: " in row.cause
        assert words in row.cause


def test_a_file_that_is_not_served_is_loaded_for_the_run(box):
    """Retrying what a person ran from a file elsewhere works through the daemon."""
    path = box.root / "elsewhere.py"
    path.write_text("from flowdeck import flow\n@flow\ndef etl():\n    return 5\n")
    daemon = box.daemon()
    run_id = box.update(lambda connection: insert_run(connection, entrypoint=f"{path}:etl"))
    assert box.wait_state(run_id, "Completed").result_preview == "5"
    assert box.reader.deployments() == []
    assert "loaded" in daemon.log


def test_systemd_is_told(box):
    """READY once the files are loaded, the watchdog at half its interval, STOPPING at the end."""
    box.write("etl.py", "@flow\ndef etl(): ...\n")
    path = str(box.root / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.settimeout(WAIT_SECONDS)
        # Heard from the start: a daemon whose words nobody takes waits when the socket's queue is full.
        daemon = box.daemon(ready=False, NOTIFY_SOCKET=path, WATCHDOG_USEC="200000")
        heard = []
        while b"READY=1" not in heard:
            heard.append(sock.recv(100))
        assert set(heard[:-1]) <= {b"WATCHDOG=1"}
        assert "ready: 1 flow files" in daemon.log
        assert [sock.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        daemon.process.send_signal(signal.SIGTERM)
        rest = [sock.recv(100)]
        while rest[-1] != b"STOPPING=1":
            rest.append(sock.recv(100))
        assert set(rest[:-1]) <= {b"WATCHDOG=1"}
        assert daemon.process.wait(WAIT_SECONDS) == 0


def test_the_daemon_says_who_it_is(box):
    """Its lease names its paths and version; a dead one's lease is taken over."""
    first = box.daemon()
    info = json.loads(box.reader.daemon().info)
    assert info["paths"] == [str(box.flows)]
    assert info["version"]
    first.stop(9)
    second = box.daemon()
    assert box.reader.daemon().pid == second.pid


def test_a_queued_run_gets_the_name_that_its_flow_makes(box) -> None:
    """Who submits has no code of the flow; a template that does not fit is said in the log, and the run goes on."""
    box.write("named.py", """
        from flowdeck import runtime

        @flow(flow_run_name="day-{day}")
        def named(day: str = "monday"):
            effect(runtime.flow_run.name)

        @flow(flow_run_name="{nobody}")
        def misnamed():
            effect(runtime.flow_run.name)
    """)
    box.daemon()
    first, second, third = box.submit("named", day="tuesday"), box.submit("named"), box.submit("misnamed")
    for run_id in (first, second, third):
        box.wait_state(run_id, "Completed")
    names = [box.reader.run(run_id).name for run_id in (first, second, third)]
    assert names[:2] == ["day-tuesday", "day-monday"]
    assert sorted(box.effects()) == sorted(names)
    box.wait(lambda: any("flow_run_name cannot be made" in line.message for line in box.reader.logs(third)))
