"""What counts as a crash of a run: no shutdown, in whatever order everybody is told and killed, and no restart.

Crashes without progress come to an end after the crash retries; those between which tasks are completed do not.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

PATIENT = """
    @flow(crash_retries=0)
    def patient():
        effect(f"began {os.getpid()}")
        while not os.path.exists(HERE + "/go"):
            try:
                time.sleep(0.01)
            except BaseException:
                if not os.path.exists(HERE + "/stubborn"):
                    raise
"""


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def end(pids, number):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


class Machine:
    """Everything that belongs to one run of a daemon, to be shut down."""

    def __init__(self, box):
        self.box = box
        self.began = 0
        self.daemon = box.daemon()
        self.run_id = box.submit("patient")

    def boot(self):
        if self.daemon.process.poll() is not None:
            self.daemon = self.box.daemon()

    def everybody(self):
        """By role, once the run has begun anew."""
        self.began += 1
        self.box.wait(lambda: len(self.box.effects()) >= self.began)
        run = int(self.box.effects()[-1].split()[1])
        self.began = len(self.box.effects())
        guard = parent(run)
        return {"daemon": self.daemon.pid, "host": parent(guard), "guard": guard, "run": run}

    def is_off(self, pids):
        return self.daemon.process.poll() is not None and not any(alive(pid) for pid in pids)


def test_no_shutdown_counts_as_a_crash(box):
    """Whoever is told first, and also when what does not let go is killed: with no crash retry at all."""
    box.write("patient.py", PATIENT)
    machine = Machine(box)
    for first in ("run", "host", "killed at last", "killed with its daemon"):
        machine.boot()
        if first == "killed at last":
            box.touch("stubborn")
        pids = machine.everybody()
        if first == "killed with its daemon":  # as a container's, or a service's that stops only its main process
            machine.daemon.stop()
        else:
            if first in pids:
                end([pids[first]], signal.SIGTERM)
                box.wait(lambda pid=pids[first], first=first: first == "host" or not alive(pid))
            end([pid for role, pid in pids.items() if role != first], signal.SIGTERM)
        if first == "killed at last":
            box.wait(lambda: list((box.folder / "spool").glob("*.told")))
            machine.daemon.process.wait(60)
        if str(first).startswith("killed"):
            end(pids.values(), signal.SIGKILL)
            (box.root / "stubborn").unlink(missing_ok=True)
        # A living daemon may have resumed what was told first: that is told, too.
        while not machine.is_off(pids.values()):
            end([lease.pid for lease in box.reader.leases() if lease.run_id is not None], signal.SIGTERM)
            box.wait(lambda: machine.daemon.process.poll() is not None)
    machine.boot()
    box.wait(lambda: len(box.effects()) > machine.began)
    box.touch("go")
    row = box.wait_state(machine.run_id, "Completed")
    assert row.crash_count == 0
    causes = [event.message for event in box.reader.events(run_id=machine.run_id, limit=1000)
              if event.to_name == "Resuming"]
    assert all(cause.endswith("does not count as a crash)") for cause in causes), causes
    assert any("(an end by SIGTERM does not count" in cause for cause in causes)
    assert any("it had been told to end" in cause for cause in causes)
    assert any("an end while its daemon was stopped" in cause for cause in causes)
    assert not list((box.folder / "spool").glob("*.told"))


def test_no_restart_of_the_machine_counts_as_a_crash(box):
    """A lease of another boot says so; how its process ended matters to nobody."""
    box.write("patient.py", PATIENT)
    machine = Machine(box)
    pids = machine.everybody()
    end(pids.values(), signal.SIGKILL)
    machine.daemon.process.wait()
    box.update(lambda conn: conn.execute("UPDATE lease SET boot_id = 'another' WHERE run_id IS NOT NULL"))
    machine.boot()
    machine.everybody()
    box.touch("go")
    assert box.wait_state(machine.run_id, "Completed").crash_count == 0
    assert any("a restart of the machine does not count as a crash" in (event.message or "")
               for event in box.reader.events(run_id=machine.run_id))


def test_a_run_that_ends_itself_by_the_signal_of_a_shutdown_comes_to_an_end(box):
    """Its daemon lives on all the while, and nothing is completed."""
    box.write("ends.py", """
        @flow(crash_retries=1)
        def ends():
            effect("began")
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(600)
    """)
    box.daemon()
    run_id = box.submit("ends")
    box.wait(lambda: box.states(run_id)[-1] == "Crashed" and box.reader.run(run_id).crash_count == 2)
    assert box.state(run_id) == "Crashed"
    assert 2 < len(box.effects()) < 12


@pytest.mark.parametrize(("calls", "ends"), [
    ("step(n)", "Completed"), ("None", "Crashed"), ("again() if n == 0 else None", "Crashed"),
])
def test_only_what_is_completed_for_the_first_time_is_progress(box, calls, ends):
    """With one crash retry: four crashes between which tasks complete, or nothing, or the same one each time."""
    box.write("crashes.py", f"""
        @task
        def step(n):
            return n

        @task(persist_result=False)
        def again():
            return 1

        @flow(crash_retries=1)
        def crashes():
            for n in range(4):
                {calls}
                said = Path(HERE, "effects").read_text().split() if os.path.exists(HERE + "/effects") else []
                if str(n) not in said:
                    effect(str(n))
                    os.kill(os.getpid(), signal.SIGKILL)
    """)
    box.daemon()
    run_id = box.submit("crashes")
    box.wait(lambda: len(box.states(run_id)) > 5 and box.states(run_id)[-1] == ends)
    row = box.reader.run(run_id)
    assert row.crash_count == (1 if ends == "Completed" else 2), box.states(run_id)
    assert len(box.effects()) == (4 if ends == "Completed" else 2)
