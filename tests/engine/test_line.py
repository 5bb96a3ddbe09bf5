"""The line between daemon and code hosts under floods and faults: nobody waits for anybody, nothing is forgotten."""

from __future__ import annotations

import os
import signal
import time

import pytest
from flowdeck.engine.system.clock import now_us
from flowdeck.store.connection import transaction
from flowdeck.store.tables import deployments, runs

PLAIN = """
@flow
def plain(number: int = 0):
    effect(f"plain {number}")
"""
TICKING = """
@flow(schedule=Interval(0.5, overlap="allow"))
def ticking():
    effect("tick")
"""


def queue(box, flow, count):
    """Runs of a deployment that are due now, made in one transaction; returns their numbers."""
    at_us = now_us()

    def insert(connection):
        deployment = deployments.get(connection, flow)
        with transaction(connection):
            return [
                runs.insert(
                    connection, flow_name=deployment.flow_name, name="", state=("SCHEDULED", "Scheduled"),
                    actor="tester", at_us=at_us, deployment=flow, entrypoint=deployment.entrypoint,
                    parameters=f'{{"number": {number}}}' if flow == "plain" else "{}", scheduled_at_us=at_us + number,
                )
                for number in range(count)
            ]  # fmt: skip

    return box.update(insert)


def host_of(box, daemon, name):
    """The pid of the code host that serves the file of this name; what it forked has the same words."""
    with open(f"/proc/{daemon.pid}/task/{daemon.pid}/children") as file:
        parents = [daemon.pid, *map(int, file.read().split())]
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
                with open(f"/proc/{entry}/stat") as file:
                    parent = int(file.read().rsplit(")", 1)[1].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent in parents and str(box.flows / name).encode() in words:
                return int(entry)
    return None


def new_host(box, daemon, name, *others):
    return box.wait(lambda: (found := host_of(box, daemon, name)) is not None and found not in others and found)


def ended(box, numbers):
    wanted = set(numbers)
    return all(run.ended_at_us is not None for run in box.reader.runs(limit=100_000) if run.id in wanted)


def all_completed_once(box, numbers):
    """Each ran once, completed, and was blamed for no death."""
    rows = {run.id: run for run in box.reader.runs(limit=100_000)}
    assert {rows[number].state_name for number in numbers} == {"Completed"}
    assert {(rows[number].attempt, rows[number].crash_count) for number in numbers} == {(1, 0)}


def test_hundreds_of_runs_due_at_once_drain_in_order_while_others_tick(box):
    """A burst of one file starts in the order of its due times; the other file's ticks come meanwhile; all ends."""
    box.write("plain.py", PLAIN)
    box.write("ticking.py", TICKING)
    daemon = box.daemon()
    numbers = queue(box, "plain", 600)
    box.wait(lambda: ended(box, numbers), timeout=180)
    all_completed_once(box, numbers)
    claimed = [event.run_id for event in box.reader.events(limit=100_000)
               if event.to_type == "PENDING" and event.run_id in set(numbers)]
    assert claimed == numbers
    lines = box.effects()
    first, last = (next(place for place, line in order if line.startswith("plain"))
                   for order in (list(enumerate(lines)), list(enumerate(lines))[::-1]))
    assert "tick" in lines[first:last]
    assert daemon.stop() == 0


def test_no_more_than_a_few_runs_are_claimed_for_a_host_that_does_not_answer(box):
    """A stopped host keeps what it has; the rest stays as it is, others run, the daemon stops when told; then all ends.
    """
    box.write("plain.py", PLAIN)
    box.write("ticking.py", TICKING)
    daemon = box.daemon()
    host = host_of(box, daemon, "plain.py")
    os.kill(host, signal.SIGSTOP)
    numbers = queue(box, "plain", 300)
    ticks = box.effects().count("tick")
    box.wait(lambda: box.effects().count("tick") >= ticks + 4)
    pending = [run for run in box.reader.runs(limit=1000) if run.state_type == "PENDING" and run.flow_name == "plain"]
    assert 0 < len(pending) < 2 + 2 * (os.cpu_count() or 1)
    assert daemon.stop(timeout=10) == 0
    os.kill(host, signal.SIGCONT)
    box.daemon()
    box.wait(lambda: ended(box, numbers), timeout=120)
    all_completed_once(box, numbers)


def test_a_host_that_does_not_answer_is_replaced_and_keeps_what_it_has(box):
    """After a while another host takes the new runs, with a limit, too; those of the first are its own: each runs once.
    """
    box.write("plain.py", PLAIN)
    daemon = box.daemon(limit=2)
    host = host_of(box, daemon, "plain.py")
    os.kill(host, signal.SIGSTOP)
    numbers = queue(box, "plain", 20)
    box.wait(lambda: "has not answered" in daemon.log)
    box.wait(lambda: sum(run.state_name == "Completed" for run in box.reader.runs()) == 18)
    os.kill(host, signal.SIGCONT)
    box.wait(lambda: ended(box, numbers))
    all_completed_once(box, numbers)
    assert sorted(box.effects()) == sorted(f"plain {number}" for number in range(20))


@pytest.mark.parametrize("limit", [0, 2])
def test_a_host_killed_with_work_given_to_it_forgets_none(box, limit):
    """What it had not begun is given to the next host; no run is blamed, no slot is lost."""
    box.write("plain.py", PLAIN)
    daemon = box.daemon(limit=limit)
    host = host_of(box, daemon, "plain.py")
    os.kill(host, signal.SIGSTOP)
    numbers = queue(box, "plain", 12)
    box.wait(lambda: "attempt 1 starts" in daemon.log)
    os.kill(host, signal.SIGKILL)
    box.wait(lambda: ended(box, numbers))
    all_completed_once(box, numbers)
    assert sorted(box.effects()) == sorted(f"plain {number}" for number in range(12))


def test_forks_may_take_longer_than_a_second(box):
    """What waits in its host's queue is not released, nor given twice, nor is a run blamed for it."""
    slow = "KEPT = bytearray(300_000_000)\nos.register_at_fork(before=lambda: time.sleep(1.3))\n"
    box.write("plain.py", slow + PLAIN)
    daemon = box.daemon()
    numbers = queue(box, "plain", 6)
    box.wait(lambda: ended(box, numbers))
    all_completed_once(box, numbers)
    assert "never began" not in daemon.log
    assert not any("never began" in text for text in box.said("state"))
    assert [event.run_id for event in box.reader.events(limit=10_000) if event.to_type == "PENDING"] == numbers


def test_spawned_runs_that_import_for_long_are_started_once(box):
    """As many interpreters as runs, however long the import takes."""
    box.write("plain.py", "effect('import')\ntime.sleep(1.5)\nthreading = __import__('threading')\n"
                          "threading.Thread(target=time.sleep, args=(10**6,), daemon=True).start()\n" + PLAIN)
    box.daemon()
    box.wait(lambda: box.reader.deployments())  # the daemon does not wait for an import that takes long
    numbers = queue(box, "plain", 4)
    box.wait(lambda: ended(box, numbers))
    all_completed_once(box, numbers)
    assert box.effects().count("import") == 1 + 4


def test_a_process_that_finds_its_run_gone_is_no_death_of_it(box):
    """A run that was cancelled and tried again while its host stood still goes by its own attempt alone."""
    box.write("plain.py", PLAIN)
    daemon = box.daemon()
    host = host_of(box, daemon, "plain.py")
    os.kill(host, signal.SIGSTOP)
    (number,) = queue(box, "plain", 1)
    box.wait_state(number, "Pending")
    box.control.cancel(number)
    box.wait_state(number, "Cancelled")
    box.control.retry(number)
    box.wait_state(number, "Pending")
    os.kill(host, signal.SIGCONT)
    row = box.wait_state(number, "Completed")
    assert (row.attempt, row.crash_count) == (2, 0)
    assert box.effects() == ["plain 0"]
    assert "Crashed" not in box.states(number)


def test_the_death_of_a_host_is_seen_although_its_line_is_held_open(box):
    """A process that the file's import forked has the socket, too."""
    box.write("plain.py", "if os.fork() == 0:\n    os.setsid()\n    wait_for('stop')\n    os._exit(0)\n" + PLAIN)
    daemon = box.daemon()
    host = host_of(box, daemon, "plain.py")
    os.kill(host, signal.SIGKILL)
    new_host(box, daemon, "plain.py", host)
    (number,) = queue(box, "plain", 1)
    box.wait_state(number, "Completed")
    box.touch("stop")


def test_a_host_whose_line_is_closed_by_the_file_keeps_nobody_waiting(box):
    """An import that closes our descriptor and goes on is a broken file, not the end of the daemon's attention."""
    path = box.write("closing.py", "os.closerange(3, 64)\nwait_for('never')\n" + PLAIN)
    box.write("ticking.py", TICKING)
    box.daemon()
    box.wait_effects("tick")
    box.wait(lambda: any(row.path == path for row in box.reader.problems()))


HANGING = """
effect("hanging")
wait_for("go")
@flow(schedule=Interval(0.5))
def {name}():
    effect("{name} runs")
"""


def test_a_file_that_hangs_at_import_keeps_nobody_waiting(box):
    """Other files' schedules fire, the daemon gets ready, the problem is shown, and goes when the import ends."""
    for number in range(1 + 2 * (os.cpu_count() or 1)):
        box.write(f"a_hanging_{number}.py", HANGING.format(name=f"late{number}"))
    box.write("ticking.py", TICKING)
    daemon = box.daemon(ready=False)
    box.wait_effects("tick")
    box.wait(lambda: "ready:" in daemon.log)
    path = str(box.flows / "a_hanging_0.py")
    row = box.wait(lambda: next((row for row in box.reader.problems() if row.path == path), None))
    assert "import has not ended" in row.error
    assert "import has not ended" in daemon.log
    box.touch("go")
    box.wait_effects("late0 runs")
    box.wait(lambda: not box.reader.problems())


def test_files_that_hang_when_they_are_changed_keep_no_reload_back(box):
    """More of them than there are processors: another changed file is loaded, and mending one of them is seen."""
    count = 1 + 2 * (os.cpu_count() or 1)
    for number in range(count):
        box.write(f"a_file_{number}.py", f"@flow\ndef one{number}(): effect('old {number}')\n")
    box.write("plain.py", PLAIN)
    daemon = box.daemon()
    for number in range(count):
        box.write(f"a_file_{number}.py", HANGING.format(name=f"one{number}"))
    box.wait(lambda: box.effects().count("hanging") >= 1)
    box.write("plain.py", PLAIN.replace("plain {", "changed {"))
    box.wait(lambda: daemon.log.count(f"loaded {box.flows}/plain.py") == 2)
    (number,) = queue(box, "plain", 1)
    box.wait_state(number, "Completed")
    assert "changed 0" in box.effects()
    box.wait_state(box.submit("one0"), "Completed")  # the last good version serves
    assert "old 0" in box.effects()
    box.wait(lambda: box.effects().count("hanging") == count)
    box.write("a_file_1.py", "@flow\ndef one1(): effect('mended')\n")
    box.wait(lambda: daemon.log.count(f"loaded {box.flows}/a_file_1.py") == 2)
    box.wait_state(box.submit("one1"), "Completed")
    assert "mended" in box.effects()


def test_an_import_is_ended_by_its_limit(box):
    """It is a broken file with that cause; runs of it end with the cause, too; the process is gone."""
    path = box.write("hanging.py", HANGING.format(name="late"))
    daemon = box.daemon(ready=False, FLOWDECK_IMPORT_LIMIT_SECONDS="3")
    row = box.wait(lambda: next((row for row in box.reader.problems() if row.path == path), None))
    assert "did not end within 3 s" in row.error
    box.wait(lambda: host_of(box, daemon, "hanging.py") is None)
    box.wait(lambda: "ready:" in daemon.log)


def test_what_the_store_knows_is_scheduled_before_a_host_has_loaded_it(box):
    """At a later daemon's start a file that is unchanged fires at once; its run waits for the host, and says so."""
    box.write("hanging.py", "if os.path.exists(HERE + '/hang'):\n    effect('hanging')\n    wait_for('go')\n"
                            "@flow(schedule=Interval(1))\ndef late():\n    effect('late runs')\n")
    box.write("ticking.py", TICKING)
    first = box.daemon()
    box.wait_effects("late runs", "tick")
    assert first.stop() == 0
    box.wait(lambda: all(run.ended_at_us is not None for run in box.reader.runs(limit=1000)))
    box.touch("hang")
    ticks, made = box.effects().count("tick"), max(run.id for run in box.reader.runs() if run.flow_name == "late")
    box.daemon()
    box.wait(lambda: box.effects().count("tick") > ticks)
    number = box.wait(lambda: max((run.id for run in box.reader.runs() if run.flow_name == "late" and run.id > made),
                                  default=None))
    row = box.wait_state(number, "AwaitingSlot")
    assert "import" in row.cause
    box.touch("go")
    box.wait_state(number, "Completed")


def test_a_file_that_was_changed_while_no_daemon_ran_is_loaded_before_it_is_scheduled(box):
    """What its old text said of times makes no run any more."""
    box.write("etl.py", "@flow(schedule=Interval(0.5, overlap='allow'))\ndef etl(): effect('old')\n")
    first = box.daemon()
    box.wait_effects("old")
    assert first.stop() == 0
    box.wait(lambda: all(run.ended_at_us is not None for run in box.reader.runs(limit=1000)))
    made = max(run.id for run in box.reader.runs())
    box.write("etl.py", "time.sleep(1.5)\n@flow\ndef etl(): effect('new')\n")
    box.daemon()
    number = box.submit("etl")
    box.wait_state(number, "Completed")
    assert [run.id for run in box.reader.runs() if run.id > made] == [number]


def test_more_files_than_hosts_are_kept_warm(box):
    """A host that is not needed ends, and is there again when its file's run is due."""
    for number in range(4):
        box.write(f"file_{number}.py", f"@flow\ndef one{number}(): effect('one {number}')\n")
    daemon = box.daemon(FLOWDECK_WARM_HOSTS="2")
    box.wait(lambda: sum(host_of(box, daemon, f"file_{number}.py") is not None for number in range(4)) == 2)
    for _ in range(2):
        for number in range(4):
            box.wait_state(box.submit(f"one{number}"), "Completed")
    box.write("file_3.py", "@flow\ndef one3(): effect('changed')\n")
    box.wait(lambda: daemon.log.count("loaded") >= 5)
    box.wait_state(box.submit("one3"), "Completed")


def test_more_processes_than_descriptors_by_default(box):
    """Each live run takes one of the daemon's and of its host's, which take as many as they may.

    Users' code has the default, and no run holds what is for another.
    """
    box.write("waiting.py", """
        import resource
        @flow
        def waiting():
            few = len(os.listdir("/proc/self/fd")) < 30
            effect(f"limit {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}, few {few}")
            wait_for("go")
    """)
    daemon = box.daemon(started_by=("sh", "-c", 'ulimit -S -n 40 && exec "$@"', "sh"))
    numbers = queue(box, "waiting", 45)
    box.wait(lambda: len(box.effects()) == 45)
    assert set(box.effects()) == {"limit 40, few True"}
    box.touch("go")
    box.wait(lambda: ended(box, numbers))
    all_completed_once(box, numbers)
    assert "trouble" not in daemon.log


def test_a_host_that_cannot_write_how_a_run_ended_lives_on_and_tells(box):
    """As on a full disk: the cause is known all the same, and the next run comes."""
    box.write("dying.py", """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        os.register_at_fork(after_in_child=lambda: resource.setrlimit(
            resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)))
        @flow(crash_retries=0)
        def dying():
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    daemon = box.daemon()
    host = host_of(box, daemon, "dying.py")
    for _ in range(2):
        row = box.wait_state(box.submit("dying"), "Crashed")
        assert row.cause == "killed by signal 9 (SIGKILL)"
    assert host_of(box, daemon, "dying.py") == host


def test_a_host_that_dies_again_and_again_is_not_made_without_rest(box):
    """Each one ends as soon as it has loaded the file; the others have the machine."""
    box.write("dying.py", "import threading\nthreading.Timer(0.3, lambda: os._exit(3)).start()\n" + PLAIN)
    box.write("ticking.py", TICKING)
    daemon = box.daemon()
    begun = time.monotonic()
    ticks = box.effects().count("tick")
    box.wait(lambda: box.effects().count("tick") >= ticks + 8)
    assert daemon.log.count("starting another") < 3 + 2 * (time.monotonic() - begun)
