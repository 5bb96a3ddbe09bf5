"""Kills, cancellations and reboots: known at once, with the cause in words, and nothing finished runs twice."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import closing

import pytest
from flowdeck.engine.control.reaping import reap, reap_dead_runs
from flowdeck.engine.states import exits as deaths
from flowdeck.engine.system.clock import now_us
from flowdeck.store.connection import connect, transaction
from flowdeck.store.tables import leases

STEPS = """
    @task
    def step(n):
        effect(f"step {n}")
        return n
    @task
    def hang():
        effect("hanging")
        wait_for("go")
        return 100
    @flow
    def etl():
        return sum([step(1), step(2), hang(), step(3)])
"""


def pid_of(box, run_id):
    return box.wait(lambda: box.reader.lease_of(run_id)).pid


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def start_hanging(box, text=STEPS, **daemon):
    box.write("etl.py", text)
    box.daemon(**daemon)
    run_id = box.submit("etl")
    box.wait_effects("hanging")
    if text is STEPS:
        box.wait_task(run_id, "RUNNING")
    return run_id


@pytest.mark.alone
def test_a_killed_run_is_known_at_once_and_goes_on_by_replay(box):
    """kill -9: Crashed with its cause within a second, resumed within two, no finished task's body run twice."""
    run_id = start_hanging(box)
    killed_at = time.monotonic()
    os.kill(pid_of(box, run_id), signal.SIGKILL)
    box.wait(lambda: "Crashed" in box.states(run_id))
    assert time.monotonic() - killed_at < 1.0
    event = next(event for event in box.reader.events(run_id=run_id)
                 if event.to_name == "Crashed" and event.task_seq is None)
    assert (event.message, event.actor) == ("killed by signal 9 (SIGKILL)", "engine")
    box.wait(lambda: box.reader.run(run_id).attempt == 2 and box.state(run_id) == "Retrying")
    assert time.monotonic() - killed_at < 2.0
    box.touch("go")
    row = box.wait_state(run_id, "Completed")
    assert (row.result_preview, row.attempt, row.crash_count) == ("106", 2, 1)
    assert sorted(box.effects()) == ["hanging", "hanging", "step 1", "step 2", "step 3"]
    crashed = [event for event in box.reader.events(run_id=run_id) if event.to_name == "Crashed" and event.task_seq]
    assert [event.message for event in crashed] == ["killed by signal 9 (SIGKILL)"]


def test_what_a_killed_run_had_printed_is_kept_in_order(box):
    """Lines of the killed attempt, then those of the next."""
    run_id = start_hanging(box, """
        @flow
        def etl():
            for n in range(200):
                print("line", n)
            effect("hanging")
            wait_for("go")
    """)
    os.kill(pid_of(box, run_id), signal.SIGKILL)
    box.wait(lambda: box.reader.run(run_id).attempt == 2)
    box.touch("go")
    box.wait_state(run_id, "Completed")
    expected = [(attempt, f"line {n}") for attempt in (1, 2) for n in range(200)]
    box.wait(lambda: [(line.attempt, line.message) for line in box.reader.logs(run_id, limit=1000)
                      if line.logger != "flowdeck.engine"] == expected)


@pytest.mark.parametrize(("ending", "cause"), [
    ("os._exit(3)", "exited with code 3 before it finished"),
    ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by signal 11 (SIGSEGV)"),
])
def test_crash_retries_are_used_up(box, ending, cause):
    """A run that crashes each time ends Crashed after its crash retries, waiting longer each time."""
    box.write("etl.py", f"""
        @flow(crash_retries=1)
        def etl():
            effect("began")
            {ending}
    """)
    box.daemon()
    run_id = box.submit("etl")
    box.wait(lambda: box.states(run_id).count("Crashed") == 2)
    row = box.wait_state(run_id, "Crashed")
    assert row.cause.startswith(cause)
    assert (row.attempt, row.crash_count) == (2, 2)
    assert box.effects() == ["began", "began"]
    assert box.reader.lease_of(run_id) is None


def test_killing_the_daemon_hurts_no_run_and_the_next_adopts_it(box):
    """The run goes on; the next daemon says so, sees its end, and knows how it died from the host that stayed."""
    run_id = start_hanging(box)
    pid = pid_of(box, run_id)
    box.daemons[0].stop(signal.SIGKILL)
    assert alive(pid)
    daemon = box.daemon()
    assert f"run #{run_id}: adopted its process {pid}" in daemon.log
    assert (box.state(run_id), pid_of(box, run_id)) == ("Running", pid)
    os.kill(pid, signal.SIGKILL)
    box.wait(lambda: "Crashed" in box.states(run_id))
    assert any(event.message == "killed by signal 9 (SIGKILL)" for event in box.reader.events(run_id=run_id))
    box.touch("go")
    assert box.wait_state(run_id, "Completed").attempt == 2
    assert sorted(box.effects()) == ["hanging", "hanging", "step 1", "step 2", "step 3"]


@pytest.mark.alone
def test_a_run_that_died_while_no_daemon_ran_is_settled_within_two_seconds(box):
    """The host it left behind wrote down how; nothing is Running without a process for long."""
    run_id = start_hanging(box)
    box.daemons[0].stop(signal.SIGKILL)
    os.kill(pid_of(box, run_id), signal.SIGKILL)
    box.wait(lambda: deaths.recorded_runs(str(box.folder)) == {run_id})
    started_at = time.monotonic()
    box.daemon(ready=False)
    box.wait(lambda: "Crashed" in box.states(run_id))
    assert time.monotonic() - started_at < 2.0
    assert any(event.message == "killed by signal 9 (SIGKILL)" for event in box.reader.events(run_id=run_id))
    box.touch("go")
    box.wait_state(run_id, "Completed")
    box.wait(lambda: deaths.recorded_runs(str(box.folder)) == set())


def parent_of(pid):
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rsplit(")", 1)[1].split()[1])


def test_a_host_that_is_killed_takes_no_run_with_it(box):
    """Its run goes on under the daemon's eyes, its guard sees how it ends, and the file gets another host."""
    run_id = start_hanging(box)
    pid = pid_of(box, run_id)
    os.kill(parent_of(parent_of(pid)), signal.SIGKILL)
    box.wait(lambda: box.daemons[0].log.count("loaded") == 2)
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)
    box.wait(lambda: "Crashed" in box.states(run_id))
    assert any(event.message == "killed by signal 9 (SIGKILL)" for event in box.reader.events(run_id=run_id))
    box.touch("go")
    box.wait_state(run_id, "Completed")


def test_a_guard_that_is_killed_takes_no_run_with_it(box):
    """Its run goes on as the host's child, which sees how it ends."""
    run_id = start_hanging(box)
    pid = pid_of(box, run_id)
    guard = parent_of(pid)
    host = parent_of(guard)
    os.kill(guard, signal.SIGKILL)
    box.wait(lambda: parent_of(pid) == host)
    os.kill(pid, signal.SIGKILL)
    box.wait(lambda: "Crashed" in box.states(run_id))
    assert any(event.message == "killed by signal 9 (SIGKILL)" for event in box.reader.events(run_id=run_id))
    box.touch("go")
    box.wait_state(run_id, "Completed")


def test_after_a_restart_of_the_machine_runs_are_rebooted_and_go_on(box):
    """A lease of another boot names no process of this one, whatever its pid."""
    run_id = start_hanging(box)
    box.daemons[0].stop(signal.SIGKILL)
    os.kill(pid_of(box, run_id), signal.SIGKILL)

    def another_boot(connection):
        with transaction(connection):
            connection.execute("UPDATE lease SET boot_id = 'another', pid = ? WHERE run_id = ?", (os.getpid(), run_id))

    box.update(another_boot)
    box.touch("go")
    box.daemon()
    box.wait_state(run_id, "Completed")
    assert box.states(run_id)[3:] == ["Rebooted", "Resuming", "Pending", "Retrying", "Completed"]
    assert box.effects().count("step 1") == 1


def test_without_a_daemon_dead_runs_are_reaped_on_request(box):
    """What the console and the command line call: a person's script that was killed is Crashed, its tasks too."""
    process = box.script(box.write("etl.py", STEPS + '\n    if __name__ == "__main__":\n        etl()\n'))
    box.wait_effects("hanging")
    box.wait_task(1, "RUNNING")
    assert reap_dead_runs(box.folder) == []
    process.kill()
    process.wait()
    settled = reap_dead_runs(box.folder)
    assert [(one.run_id, one.state_name, one.resumes_at_us) for one in settled] == [(1, "Crashed", None)]
    assert box.reader.run(1).cause == deaths.UNSEEN
    assert [task.state_name for task in box.reader.tasks(1)] == ["Completed", "Completed", "Crashed"]
    assert box.reader.leases() == []
    assert reap_dead_runs(box.folder) == []


def test_a_daemon_sees_the_death_of_a_run_a_person_started(box):
    """It is watched like any other, but a person's script is not started again by itself."""
    box.daemon()
    process = box.script(box.write("../etl.py", STEPS + '\n    if __name__ == "__main__":\n        etl()\n'))
    box.wait_effects("hanging")
    process.kill()
    process.wait()
    row = box.wait_state(1, "Crashed")
    assert row.attempt == 1


def test_a_claim_whose_process_never_came_is_given_back(box):
    """The daemon was killed between claim and fork: the run starts under the next one."""
    box.write("etl.py", "@flow\ndef etl(): effect('ran')\n")
    box.daemon().stop()
    run_id = box.submit("etl")

    def claim(connection):
        with transaction(connection):
            connection.execute("UPDATE flow_run SET state_type = 'PENDING', state_name = 'Pending', wake_at_us = NULL")

    box.update(claim)
    box.daemon()
    box.wait_state(run_id, "Completed")
    assert box.effects() == ["ran"]


def test_subflows_of_a_killed_run_end_with_it(box):
    """The child run is Crashed like its parent, and both go on by replay."""
    run_id = start_hanging(box, """
        @task
        def step(n):
            effect(f"step {n}")
            return n
        @flow
        def inner():
            first = step(1)
            effect("hanging")
            wait_for("go")
            return first + step(2)
        @flow
        def etl():
            return inner()
    """)
    os.kill(pid_of(box, run_id), signal.SIGKILL)
    child = box.reader.children(run_id)[0].id
    box.wait(lambda: "Crashed" in box.states(child))
    box.touch("go")
    assert box.wait_state(run_id, "Completed").result_preview == "3"
    assert box.state(child) == "Completed"
    assert sorted(box.effects()) == ["hanging", "hanging", "step 1", "step 2"]


FAMILY = """
    @flow
    def etl():
        # A child, its child, and one that made a session of its own and lost its parents.
        subprocess.Popen(["sh", "-c", "sleep 987 & sleep 987"])
        subprocess.Popen(["sh", "-c", "setsid sleep 987 & exit 0"])
        effect("hanging")
        while True:
            try:
                time.sleep(0.05)
            except BaseException:
                {swallow}
"""


def family(pid_before):
    """Processes of the flow's family: the sleeps it started."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and int(entry) > 1:
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
                with open(f"/proc/{entry}/environ", "rb") as file:
                    ours = pid_before.encode() in file.read()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if ours and words[:2] == [b"sleep", b"987"]:
                found.append(int(entry))
    return found


@pytest.mark.parametrize("swallow", ["raise", "pass"])
def test_cancel_ends_children_of_children(box, swallow):
    """Also those that made a session of their own, and also when the flow ignores the cancellation."""
    run_id = start_hanging(box, FAMILY.format(swallow=swallow), FLOWDECK_CANCEL_GRACE_SECONDS="0.4")
    mark = str(box.folder)
    box.wait(lambda: len([pid for pid in family(mark) if alive(pid)]) == 3)
    pid = pid_of(box, run_id)
    box.control.cancel(run_id)
    row = box.wait_state(run_id, "Cancelled")
    assert "cancelled by tester@here via test" in row.cause
    box.wait(lambda: not alive(pid) and not [pid for pid in family(mark) if alive(pid)])
    box.wait(lambda: box.reader.lease_of(run_id) is None)
    assert box.states(run_id)[-2:] == ["Cancelling", "Cancelled"]


def test_a_run_killed_while_it_is_cancelled_is_cancelled(box):
    """However its processes end, it was cancelled; it is not resumed."""
    run_id = start_hanging(box, FAMILY.format(swallow="pass"))
    pid = pid_of(box, run_id)
    box.control.cancel(run_id)
    box.wait_state(run_id, "Cancelling")
    os.kill(pid, signal.SIGKILL)
    row = box.wait_state(run_id, "Cancelled")
    assert "cancelled by tester@here" in row.cause
    assert "SIGKILL" in row.cause
    assert row.attempt == 1


def test_a_frozen_run_can_be_cancelled(box):
    """SIGSTOP holds no process back from its cancellation."""
    run_id = start_hanging(box, FLOWDECK_CANCEL_GRACE_SECONDS="0.4")
    pid = pid_of(box, run_id)
    os.killpg(pid, signal.SIGSTOP)
    box.control.cancel(run_id)
    assert "cancelled by" in box.wait_state(run_id, "Cancelled").cause
    box.wait(lambda: not alive(pid))


def test_a_request_to_cancel_outlives_its_dead_process(box):
    """Asked while the process was dying and no daemon ran: the next daemon honours it."""
    run_id = start_hanging(box)
    box.daemons[0].stop(signal.SIGKILL)
    pid = pid_of(box, run_id)
    os.killpg(pid, signal.SIGSTOP)
    box.control.cancel(run_id)
    os.kill(pid, signal.SIGKILL)
    box.wait(lambda: not alive(pid))
    box.daemon()
    row = box.wait_state(run_id, "Cancelled")
    assert "cancelled by tester@here" in row.cause
    assert row.attempt == 1


def test_a_paused_run_that_is_killed_stays_paused(box):
    """It is Suspended: nothing of it runs until a person resumes it, then it goes on by replay."""
    run_id = start_hanging(box)
    box.control.pause(run_id)
    box.wait_state(run_id, "Pausing")
    box.touch("go")
    box.wait_state(run_id, "Paused")
    os.kill(pid_of(box, run_id), signal.SIGKILL)
    row = box.wait_state(run_id, "Suspended")
    assert "killed by signal 9 (SIGKILL) while paused" in row.cause
    box.control.resume(run_id)
    row = box.wait_state(run_id, "Completed")
    assert (row.result_preview, row.attempt, row.crash_count) == ("106", 2, 0)
    assert sorted(box.effects()) == ["hanging", "step 1", "step 2", "step 3"]


def test_two_who_see_one_death_settle_it_once(box):
    """A new daemon and a person's command look at the same time: the paused run does not go on by itself for that."""
    run_id = start_hanging(box)
    box.control.pause(run_id)
    box.wait_state(run_id, "Pausing")
    box.touch("go")
    box.wait_state(run_id, "Paused")
    lease = next(lease for lease in box.reader.leases() if lease.run_id == run_id)
    box.daemons[-1].stop(signal.SIGKILL)
    os.kill(lease.pid, signal.SIGKILL)
    box.wait(lambda: not leases.is_alive(lease))
    with closing(connect(box.folder, "state")) as state, closing(connect(box.folder, "telemetry")) as telemetry:
        assert reap(state, telemetry, str(box.folder), lease, now_us()).state_name == "Suspended"
        assert reap(state, telemetry, str(box.folder), lease, now_us()) is None
    assert box.states(run_id)[-2:] == ["Paused", "Suspended"]


def test_whoever_saw_an_earlier_attempt_settles_the_death_of_the_one_that_died(box):
    """A flow's next attempt begins in the same process: its lease, read before, tells the fate of what runs now."""
    run_id = start_hanging(box, """
        @flow(retries=1, crash_retries=1)
        def etl():
            if not os.path.exists(HERE + "/effects"):
                effect("failing")
                raise ValueError("once")
            effect("hanging")
            wait_for("go")
    """)
    box.wait_state(run_id, "Retrying")
    now = next(lease for lease in box.reader.leases() if lease.run_id == run_id)
    assert now.attempt == 2
    box.daemons[-1].stop(signal.SIGKILL)
    os.kill(now.pid, signal.SIGKILL)
    box.wait(lambda: deaths.recorded_runs(str(box.folder)) == {run_id})
    with closing(connect(box.folder, "state")) as state, closing(connect(box.folder, "telemetry")) as telemetry:
        settled = reap(state, telemetry, str(box.folder), now._replace(attempt=1), now_us())
    assert (settled.state_name, settled.cause) == ("Crashed", "killed by signal 9 (SIGKILL)")
    last = [event for event in box.reader.events(run_id=run_id) if event.to_name == "Resuming"]
    assert [event.message for event in last] == [
        "killed by signal 9 (SIGKILL); resumes by replay (1 of 1 crash retries)"]


def test_a_run_killed_while_it_was_to_pause_is_held(box):
    """The pause that was asked for is honoured by the crash recovery."""
    run_id = start_hanging(box)
    box.control.pause(run_id)
    box.wait_state(run_id, "Pausing")
    os.kill(pid_of(box, run_id), signal.SIGKILL)
    row = box.wait_state(run_id, "Paused")
    assert (row.attempt, row.intent) == (2, "none")
    assert box.states(run_id)[-3:] == ["Crashed", "Resuming", "Paused"]
    box.touch("go")
    box.control.resume(run_id)
    box.wait_state(run_id, "Completed")


def test_the_record_of_a_death_says_how(tmp_path):
    """Exit code, signal and memory in words; the record is found by run and pid only."""
    killed = deaths.from_wait_status(7, 100, 9, max_rss_bytes=300 << 20, out_of_memory=True, ended_at_us=1)
    assert (killed.event, killed.cause) == (
        "run_out_of_memory", "out of memory: killed by the kernel; it had used 300 MiB")
    dumped = deaths.from_wait_status(7, 100, 11 | 0x80, max_rss_bytes=None, out_of_memory=True, ended_at_us=1)
    assert (dumped.event, dumped.cause) == ("crash", "killed by signal 11 (SIGSEGV), core dumped")
    left = deaths.from_wait_status(7, 100, 3 << 8, max_rss_bytes=None, out_of_memory=False, ended_at_us=1)
    assert left.cause == "exited with code 3 before it finished"
    deaths.write_exit(str(tmp_path), 1, killed)
    assert deaths.read_exit(str(tmp_path), 7, 100) == killed
    assert deaths.read_exit(str(tmp_path), 7, 101) is None
    assert deaths.recorded_runs(str(tmp_path)) == {7}
    (tmp_path / "spool" / "8.1.exit").write_text("{torn")
    assert deaths.read_exit(str(tmp_path), 8, 100) is None
    deaths.forget_exits(str(tmp_path), 7)
    assert deaths.recorded_runs(str(tmp_path)) == {8}


def test_a_record_whose_writer_was_killed_is_no_record_and_is_cleared(tmp_path):
    """It stays under the name that it was built by: nobody reads it as one, who settles the run removes it."""
    (tmp_path / "spool").mkdir(mode=0o700)
    (tmp_path / "spool" / "7.1.100.exit.new").touch(0o600)
    (tmp_path / "spool" / "7.2.101.exit.new").touch(0o600)
    assert deaths.read_exit(str(tmp_path), 7, 100) is None
    assert deaths.recorded_runs(str(tmp_path)) == {7}
    deaths.forget_exits(str(tmp_path), 7, 1)
    assert [path.name for path in (tmp_path / "spool").iterdir()] == ["7.2.101.exit.new"]
    deaths.forget_exits(str(tmp_path), 7)
    assert not list((tmp_path / "spool").iterdir())


def test_the_lease_says_whether_the_daemon_may_resume(box):
    """A run of the daemon leads its own process group and session, and may be resumed."""
    run_id = start_hanging(box)
    lease = box.reader.lease_of(run_id)
    assert json.loads(lease.info)["resumable"] is True
    assert lease.process_group == lease.pid == os.getsid(lease.pid)
    connection = connect(box.folder, "state", readonly=True)
    assert leases.is_alive(leases.of_run(connection, run_id))
    connection.close()


def test_a_run_told_to_end_by_a_signal_is_resumed(box):
    """SIGTERM (a machine that shuts down) lets ``finally`` run, is recorded as the crash's cause, and ends no run."""
    box.write("etl.py", """
        @task
        def first():
            effect("first")
        @task
        def second():
            try:
                effect("second")
                wait_for("go")
            finally:
                effect("finally")
        @flow
        def etl():
            first()
            second()
            return "whole"
    """)
    box.daemon()
    run_id = box.submit("etl")
    box.wait_effects("second")
    os.kill(box.reader.lease_of(run_id).pid, signal.SIGTERM)
    box.wait_effects("finally")
    box.touch("go")
    assert box.wait_state(run_id, "Completed").attempt == 2
    assert box.effects() == ["first", "second", "finally", "second", "finally"]
    crashes = [event.message for event in box.reader.events(run_id=run_id)
               if event.to_type == "CRASHED" and event.task_seq is None]
    assert crashes == ["killed by signal 15 (SIGTERM)"]
