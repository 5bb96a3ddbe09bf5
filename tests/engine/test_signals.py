"""Signals from outside: to end, to stop, to reload; what was ignored stays ignored, and nobody is held up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from flowdeck.store.connection import connect, transaction
from flowdeck.store.errors import StoreLocked

WAITS = """
def crashed(flow, run, state):
    effect("on_crashed " + state.message)

def cancelled(flow, run, state):
    effect("on_cancellation " + state.message)

@flow(on_crashed=[crashed], on_cancellation=[cancelled])
def waits():
    try:
        effect(f"waits {os.getpid()}")
        while not os.path.exists(HERE + "/go"):
            time.sleep(0.01)
        return "done"
    finally:
        effect("finally")

if __name__ == "__main__":
    waits()
"""
BUSY = """
@task
def quick(n):
    return n

@flow
def busy():
    effect(f"waits {os.getpid()}")
    n = 0
    while not os.path.exists(HERE + "/go"):
        quick(n := n + 1)

if __name__ == "__main__":
    busy()
"""


def pid_of(box):
    return int(box.wait(lambda: next((line for line in box.effects() if line.startswith("waits ")), None)).split()[1])


def is_stopped(pid):
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


@pytest.mark.parametrize(("number", "ends"), [
    (signal.SIGHUP, "on_crashed the process received SIGHUP"),
    (signal.SIGTERM, "on_crashed the process received SIGTERM"),
    (signal.SIGQUIT, "on_crashed the process received SIGQUIT"),
    (signal.SIGINT, "on_cancellation interrupted from the keyboard (Ctrl-C)"),
])
def test_a_signal_to_a_script_has_a_cause_and_the_clean_up(box, number, ends):
    """``finally`` and hooks run, and the record says which signal it was."""
    script = box.script(box.write("flows.py", WAITS))
    os.kill(pid_of(box), number)
    code = script.wait(60)
    assert code in (128 + number, -number)  # a shell says the same of both
    assert box.effects()[1:] == ["finally", ends]
    assert box.reader.run(1).cause == ends.partition(" ")[2]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT])
def test_a_daemon_s_run_is_resumed_after_each_of_them(box, number):
    """Its user code unwinds, and the crash names the signal."""
    box.write("flows.py", WAITS)
    box.daemon()
    run_id = box.submit("waits")
    os.kill(pid_of(box), number)
    box.wait(lambda: "Resuming" in box.states(run_id))
    assert any(f"({number.name})" in (event.message or "") for event in box.reader.events(run_id=run_id))
    assert "finally" in box.effects()
    box.touch("go")
    box.wait_state(run_id, "Completed")


def nohup(box, *words):
    """As ``nohup`` and shells start what is to outlive them."""
    ignored = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
    previous = [signal.signal(number, signal.SIG_IGN) for number in ignored]
    try:
        with (box.root / "said").open("wb") as said:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said,
                                       start_new_session=True, env={**os.environ, "FLOWDECK_STORE": str(box.folder)})
    finally:
        for number, handler in zip(ignored, previous, strict=True):
            signal.signal(number, handler)
    box.scripts.append(process)
    return process


def test_an_ignored_hang_up_stays_ignored_by_a_script(box):
    """And by its user code."""
    script = nohup(box, sys.executable, box.write("flows.py", WAITS))
    pid = pid_of(box)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        os.kill(pid, number)
    box.touch("go")
    assert script.wait(60) == 0
    assert box.state(1) == "Completed"


def test_an_ignored_hang_up_stays_ignored_by_a_daemon(box):
    """``nohup flowdeck daemon``: it neither stops nor reloads, nor do its runs."""
    path = box.write("flows.py", WAITS)
    daemon = nohup(box, os.path.join(os.path.dirname(sys.executable), "flowdeck"), "daemon", path)
    box.wait(lambda: "ready:" in (box.root / "said").read_text())
    run_id = box.submit("waits")
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        os.kill(pid_of(box), number)
        os.kill(daemon.pid, number)
    box.touch("go")
    box.wait_state(run_id, "Completed")
    assert daemon.poll() is None
    assert "SIG" not in (box.root / "said").read_text()


def test_a_hang_up_has_a_daemon_load_its_files_again(box):
    """Also those that have not changed; what runs goes on."""
    box.write("flows.py", "effect('imported')\n" + WAITS)
    daemon = box.daemon()
    run_id = box.submit("waits")
    pid = pid_of(box)
    os.kill(daemon.pid, signal.SIGHUP)
    box.wait(lambda: box.effects().count("imported") == 2 and daemon.log.count("loaded") == 2)
    assert not is_stopped(pid)
    box.touch("go")
    box.wait_state(run_id, "Completed")
    assert daemon.process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGTSTP, signal.SIGSTOP])
def test_a_stopped_script_holds_nobody_up(box, number):
    """Wherever in its transactions Ctrl-Z or SIGSTOP meets it: others write within a moment."""
    box.script(box.write("flows.py", BUSY))
    pid = pid_of(box)
    connection = connect(box.folder, "state")
    try:
        for pause in range(12):
            time.sleep(0.003 * pause)
            os.kill(pid, number)
            box.wait(lambda: is_stopped(pid))
            with transaction(connection):
                connection.execute("UPDATE flow_run SET name = name")
            box.wait(lambda: is_stopped(pid))
            os.kill(pid, signal.SIGCONT)
    finally:
        connection.close()
    box.touch("go")
    box.wait_state(1, "Completed")


def test_who_holds_the_lock_is_named(box):
    """A process that nobody guards: whoever is held up says which, that it is stopped, and what helps."""
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys, os, signal; from flowdeck.store.connection import connect, transaction\n"
         "with transaction(connect(sys.argv[1], 'state')):\n    os.kill(os.getpid(), signal.SIGSTOP)", str(box.folder)])
    box.scripts.append(holder)
    box.wait(lambda: is_stopped(holder.pid))
    connection = connect(box.folder, "state")
    connection.execute("PRAGMA busy_timeout=200")
    try:
        named = rf"Process {holder.pid} \(.*python.* -c .*\) has it and is stopped: .*`kill -CONT {holder.pid}`"
        with pytest.raises(StoreLocked, match=named), transaction(connection):
            pass
    finally:
        connection.close()


def test_a_script_waits_for_what_it_adopts_and_leaves_its_own_children_alone(box):
    """Zombies of others do not collect; an exit code that its code asks for late is there."""
    script = box.script(box.write("flows.py", """
        @flow
        def starts():
            own = subprocess.Popen(["sh", "-c", "exit 7"])
            forked = os.fork()
            if forked == 0:
                os._exit(9)
            subprocess.run(["sh", "-c", "(sleep 2; echo) & sleep 1.5"], stdout=subprocess.DEVNULL)
            subprocess.run(["setsid", "sh", "-c", "sleep 0.1 & exit 0"])
            effect(f"waits {os.getpid()}")
            wait_for("go")
            effect(f"{own.wait()} {os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1])}")

        if __name__ == "__main__":
            starts()
    """))
    pid = pid_of(box)

    def children():
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    box.wait(lambda: len(children()) == 2)
    box.touch("go")
    assert script.wait(60) == 0
    assert box.effects()[-1] == "7 9"
