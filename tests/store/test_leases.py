from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from flowdeck.store import judging, migrate
from flowdeck.store.connection import connect, folder_of, transaction
from flowdeck.store.errors import StaleState, StoreLocked
from flowdeck.store.rows import LeaseRow
from flowdeck.store.tables import leases, limits

from .conftest import ACTOR

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def _sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def _lease_of(pid: int, owner: str = "daemon", run_id: int | None = None) -> LeaseRow:
    identity = judging.process_identity(pid)
    assert identity is not None
    return LeaseRow(owner, run_id, 1, "here", *identity[:3], None, ACTOR, 1, None)


def _wait_for(lease: LeaseRow, expected: str) -> None:
    deadline = time.monotonic() + 10
    while leases.judge(lease, None).state != expected:
        assert time.monotonic() < deadline, leases.judge(lease, None).state
        time.sleep(0.002)


def test_a_process_is_alive_frozen_and_gone() -> None:
    """SIGSTOP shows as frozen; a killed child is gone even while its parent has not waited for it."""
    child = _sleeper()
    lease = _lease_of(child.pid)
    assert leases.is_alive(lease)
    child.send_signal(signal.SIGSTOP)
    _wait_for(lease, "frozen")
    child.send_signal(signal.SIGCONT)
    _wait_for(lease, "alive")
    child.kill()
    _wait_for(lease, "gone")
    child.wait()
    assert leases.judge(lease, None).state == "gone"


def test_a_number_used_again_is_another_process(tmp_path: Path) -> None:
    """Same pid with another start time, or from before a reboot, is not the owner."""
    mine = leases.this_process(tmp_path, "daemon", actor=ACTOR, at_us=1)
    assert leases.is_alive(mine)
    assert not leases.is_alive(mine._replace(pid_started_ticks=mine.pid_started_ticks + 1))
    assert not leases.is_alive(mine._replace(boot_id="another boot"))


def test_a_name_with_brackets_does_not_confuse() -> None:
    """The program's name in /proc/PID/stat may hold blanks and brackets."""
    rename = "ctypes.CDLL(None).prctl(15, b') R 1 (x', 0, 0, 0)"
    script = f"import ctypes, sys; {rename}; print(flush=True); sys.stdin.read()"
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    identity = judging.process_identity(child.pid)
    assert identity is not None
    assert identity.started_ticks > 1_000
    child.communicate()


def test_a_live_holder_keeps_its_lease_and_a_dead_one_loses_it(
    state: sqlite3.Connection, make_run: Callable[..., int]
) -> None:
    """At most one live process has a run; what a dead one left is taken over."""
    run_id = make_run()
    owner = leases.run_owner(run_id)
    child = _sleeper()
    with transaction(state):
        leases.acquire(state, _lease_of(child.pid, owner, run_id))
    mine = leases.this_process(folder_of(state), owner, actor=ACTOR, at_us=2, run_id=run_id, attempt=1)
    with pytest.raises(StaleState, match=f"held by process {child.pid}"), transaction(state):
        leases.acquire(state, mine)
    child.kill()
    child.wait()
    with transaction(state):
        leases.acquire(state, mine)
        leases.acquire(state, mine._replace(attempt=2))  # its own, again
    assert leases.of_run(state, run_id) == mine._replace(attempt=2)
    assert leases.all(state) == [leases.get(state, owner)]


def test_release_can_be_bound_to_the_holder(state: sqlite3.Connection) -> None:
    """A late release by an earlier owner does not take the lease from the present one."""
    mine = leases.this_process(folder_of(state), "daemon", actor=ACTOR, at_us=1)
    with transaction(state):
        leases.acquire(state, mine)
        assert not leases.release(state, "daemon", mine._replace(pid=1))
        assert leases.release(state, "daemon", mine)
        assert not leases.release(state, "daemon")


def test_identity_of_a_pid_nobody_has() -> None:
    """There is none."""
    child = _sleeper()
    child.kill()
    child.wait()
    assert judging.process_identity(child.pid) is None
    assert judging.process_identity(os.getpid()) is not None


def test_slots_of_an_earlier_boot_are_free_whatever_the_machine_was_called(store: Path) -> None:
    """A container has a name of its own: what it held when the machine went down is held by nobody."""
    connection = connect(store, "state")
    own = limits.this_process()
    with transaction(connection):
        limits.put(connection, "db", 1, None, active=True, at_us=1, actor=ACTOR)
        assert limits.ask(connection, ["db"], kind="hold", occupy=1, process=own, at_us=1, actor=ACTOR)[1]
        connection.execute("UPDATE slot SET host = '4f2c9a', boot_id = 'an earlier boot'")
        limits.reap(connection, ["db"], 2)
    assert limits.queue(connection, "db").taken == 0
    connection.close()


def test_a_container_of_the_same_number_is_not_oneself(store: Path) -> None:
    """A store is not migrated under a process that lives, though its number is one's own in another namespace."""
    mine = judging.own_identity()
    other = leases.this_process(store, "daemon", actor=ACTOR, at_us=1)._replace(pid_namespace="pid:[1]")
    lock = os.open(store / "alive" / f"1-{mine.pid}-{mine.started_ticks}", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_SH)
    connection = connect(store, "state")
    with transaction(connection):
        connection.execute(leases.INSERT, other)
    with pytest.raises(StoreLocked, match="still use it"):
        migrate._refuse_live_processes(store, connection)
    os.close(lock)
    migrate._refuse_live_processes(store, connection)
    connection.close()
