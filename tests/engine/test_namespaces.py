"""A store that is seen from several PID namespaces, as a volume of containers is: nobody judges whom he cannot see."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from flowdeck.engine.states.transitions import move_run
from flowdeck.store.connection import connect
from flowdeck.store.tables import leases, runs

from .conftest import RUN, DaemonProcess

IN_CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
SIDE = """
    @flow(crash_retries=3)
    def side():
        effect(f"begun {os.getpid()}")
        step = 0
        while not os.path.exists(HERE + "/stop"):
            step += 1
            time.sleep(0.02)
        effect("done")
"""


@pytest.fixture(autouse=True)
def _namespaces() -> None:
    if shutil.which("unshare") is None or subprocess.run([*IN_CONTAINER, "true"], capture_output=True).returncode != 0:
        if os.environ.get("CI"):
            pytest.fail("CI needs unshare and the right to make PID namespaces")
        pytest.skip("PID namespaces cannot be made here")


@pytest.fixture
def contained(box):
    """``contained()`` starts a daemon in a PID namespace of its own; with it everything in it ends."""

    def start():
        log_path = box.root / f"contained-{len(box.daemons)}.log"
        with open(log_path, "wb") as log:
            process = subprocess.Popen(
                [*IN_CONTAINER, sys.executable, "-P", "-c", RUN, str(box.folder), "0", str(box.flows)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        daemon = DaemonProcess(process, log_path)
        box.daemons.append(daemon)
        box.wait(lambda: "ready:" in daemon.log or process.poll() is not None)
        assert process.poll() is None, daemon.log
        return daemon

    return start


def cli(box, *words, container=False):
    """A command of another process, perhaps in another namespace."""
    return subprocess.run(
        [*(IN_CONTAINER if container else ()), sys.executable, "-P", "-m", "flowdeck", "--store", str(box.folder),
         *words],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def begun(box):
    return [effect for effect in box.effects() if effect.startswith("begun")]


def test_listing_from_outside_changes_nothing(box, contained) -> None:
    """A run in a container lives on, once, whoever looks at its store from elsewhere, and however often."""
    box.write("side.py", SIDE)
    contained()
    run_id = box.submit("side")
    box.wait(lambda: begun(box))
    for words in (("ls",), ("show", str(run_id)), ("logs", str(run_id)), ("doctor",)) * 3:
        cli(box, *words)
        cli(box, *words, container=True)
    row = box.reader.run(run_id)
    assert (row.state_name, row.attempt, row.crash_count) == ("Running", 1, 0)
    assert len(begun(box)) == 1
    box.touch("stop")
    box.wait_state(run_id, "Completed")
    assert len(begun(box)) == 1


def test_a_cancel_from_outside_reaches_the_run(box, contained) -> None:
    """By its row: the process ends within its own namespace, and nobody else is signalled."""
    box.write("side.py", SIDE)
    contained()
    run_id = box.submit("side")
    box.wait(lambda: begun(box))
    assert cli(box, "cancel", str(run_id)).returncode == 0
    box.wait_state(run_id, "Cancelled")
    connection = connect(box.folder, "state", readonly=True)
    box.wait(lambda: leases.of_run(connection, run_id) is None)
    connection.close()


def test_a_freeze_from_outside_is_refused_in_words(box, contained) -> None:
    """Its pid means a stranger here: exit code 4, the reason, and nothing has changed."""
    box.write("side.py", SIDE)
    contained()
    run_id = box.submit("side")
    box.wait(lambda: begun(box))
    refused = cli(box, "freeze", str(run_id))
    assert refused.returncode == 4
    assert "another PID namespace" in refused.stderr
    assert box.state(run_id) == "Running"


def test_a_cancel_from_outside_of_a_frozen_run_is_noted_and_signals_nobody(box, contained) -> None:
    """The number of its process is nobody's here, or a stranger's: the request stands all the same."""
    box.write("side.py", SIDE)
    contained()
    run_id = box.submit("side")
    box.wait(lambda: begun(box))
    box.wait_state(run_id, "Running")
    box.update(lambda conn: move_run(conn, runs.get(conn, run_id), "freeze", at_us=1, actor="tester"))
    asked = cli(box, "cancel", str(run_id))
    assert asked.returncode == 0, asked.stderr
    assert "another PID namespace" in asked.stdout + asked.stderr
    box.wait_state(run_id, "Cancelled")


def test_a_second_daemon_outside_is_refused(box, contained) -> None:
    """One store has one daemon, wherever it runs; no advice is given that would end a stranger."""
    box.write("side.py", SIDE)
    contained()
    refused = subprocess.run(
        [sys.executable, "-P", "-c", RUN, str(box.folder), "0", str(box.flows)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert refused.returncode != 0
    assert "kill 1" not in refused.stderr + refused.stdout


def test_a_container_that_is_gone_is_settled_by_the_next(box, contained) -> None:
    """Its lock is free: the run is resumed in the new namespace, once."""
    box.write("side.py", SIDE)
    first = contained()
    run_id = box.submit("side")
    box.wait(lambda: begun(box))
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    contained()
    box.wait(lambda: len(begun(box)) == 2)
    row = box.reader.run(run_id)
    assert (row.attempt, row.crash_count) == (2, 1)
    box.touch("stop")
    box.wait_state(run_id, "Completed")
    assert len(begun(box)) == 2


def test_a_script_in_a_container_is_not_ended_by_a_daemon_outside(box) -> None:
    """Nor by its orphan watch: it is left alone, and its end is its own."""
    path = box.write("side.py", SIDE + "\n    if __name__ == '__main__':\n        side()\n")
    script = subprocess.Popen(
        [*IN_CONTAINER, sys.executable, path], env={**os.environ, "FLOWDECK_STORE": str(box.folder)},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        box.wait(lambda: begun(box))
        daemon = box.daemon()
        box.wait(lambda: "cannot be judged from here" in daemon.log)
        assert box.state(1) == "Running"
        box.touch("stop")
        box.wait_state(1, "Completed")
        assert script.wait(30) == 0
    finally:
        script.kill()
        script.wait()


def test_a_copy_of_a_store_touches_nobody_of_the_original(box, tmp_path) -> None:
    """Listing, freezing and cancelling in the copy leave the original's run as it is."""
    box.write("side.py", SIDE)
    box.daemon()
    run_id = box.submit("side")
    box.wait(lambda: begun(box))
    box.wait_state(run_id, "Running")
    copy = tmp_path / "copy"
    shutil.copytree(box.folder, copy, ignore=shutil.ignore_patterns("daemon.lock"))

    def there(*words):
        return subprocess.run(
            [sys.executable, "-P", "-m", "flowdeck", "--store", str(copy), *words], capture_output=True, text=True
        )

    assert there("ls").returncode == 0
    refused = there("freeze", str(run_id))
    assert (refused.returncode, "copy" in refused.stderr) == (4, True), refused.stderr
    shown = json.loads(there("show", str(run_id), "--json").stdout)
    assert shown["state_name"] == "Running"
    assert box.state(run_id) == "Running"
    box.touch("stop")
    box.wait_state(run_id, "Completed")
    assert len(begun(box)) == 1


def dead_run(box) -> int:
    """A run that was killed, after its daemon: nobody has settled it."""
    box.write("side.py", SIDE)
    daemon = box.daemon()
    run_id = box.submit("side")
    box.wait(lambda: begun(box))
    connection = connect(box.folder, "state")
    lease = leases.of_run(connection, run_id)
    connection.close()
    daemon.process.send_signal(signal.SIGKILL)
    daemon.process.wait()
    os.killpg(lease.pid, signal.SIGKILL)
    return run_id


def test_twenty_observers_of_one_death_count_it_once(box) -> None:
    """Whoever finds a dead run settles it; all others find nothing to do."""
    run_id = dead_run(box)
    observers = [
        subprocess.Popen([sys.executable, "-P", "-m", "flowdeck", "--store", str(box.folder), "ls"],
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(20)
    ]  # fmt: skip
    assert [observer.wait() for observer in observers] == [0] * 20
    row = box.reader.run(run_id)
    assert (row.state_name, row.attempt, row.crash_count) == ("Resuming", 2, 1)


def test_a_number_used_again_is_no_reason_to_kill_a_stranger(box) -> None:
    """A stranger who leads a session of the number that a dead run's process had lives on, whoever settles that run."""
    run_id = dead_run(box)
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        connection = connect(box.folder, "state")
        connection.execute("UPDATE lease SET pid = ?, process_group = ? WHERE run_id = ?",
                           (stranger.pid, stranger.pid, run_id))  # fmt: skip
        connection.close()
        assert cli(box, "ls").returncode == 0
        assert box.state(run_id) == "Resuming"
        box.daemon()
        box.touch("stop")
        box.wait_state(run_id, "Completed")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def zombies(parent: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    fields = file.read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == parent and fields[0] == "Z":
                found.append(int(entry))
    return found


def test_the_first_process_of_a_container_waits_for_what_others_leave_to_it(box, contained) -> None:
    """As the daemon of a container is: no zombies collect, and what is its own is its own to wait for."""
    box.write("side.py", SIDE)
    daemon = contained()
    first = box.wait(lambda: next((int(entry) for entry in os.listdir("/proc") if entry.isdecimal() and
                                   parent_of(int(entry)) == daemon.pid), None))
    inside = ("nsenter", "--target", str(first), "--pid", "--mount")
    for _ in range(5):
        subprocess.run([*inside, "sh", "-c", "sleep 0.2 & setsid sleep 0.2 &"], check=True, timeout=60)
    box.wait(lambda: not zombies(first) and not children_named(first, "sleep"))
    run_id = box.submit("side")
    box.wait(lambda: begun(box))
    box.touch("stop")
    box.wait_state(run_id, "Completed")
    daemon.process.send_signal(signal.SIGKILL)


def parent_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def children_named(parent: int, name: str) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and parent_of(int(entry)) == parent:
            try:
                with open(f"/proc/{entry}/comm") as file:
                    found += [int(entry)] if file.read().strip() == name else []
            except OSError:
                continue
    return found


def test_a_stopped_container_is_no_crash(box, contained) -> None:
    """Its first process is told to end, and the kernel kills the rest with it: that counts against no run."""
    box.write("side.py", SIDE)
    daemon = contained()
    run_id = box.submit("side")
    box.wait(lambda: begun(box))
    first = box.wait(lambda: next((int(entry) for entry in os.listdir("/proc") if entry.isdecimal() and
                                   parent_of(int(entry)) == daemon.pid), None))
    os.kill(first, signal.SIGTERM)
    daemon.process.wait(60)
    contained()
    box.wait(lambda: len(begun(box)) == 2)
    row = box.reader.run(run_id)
    assert (row.attempt, row.crash_count) == (2, 0)
    box.touch("stop")
    box.wait_state(run_id, "Completed")
