"""The guard of a run: whatever its code does, a cancelled run ends, with all that is its and nothing that is not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent, indent

import pytest
from flowdeck.engine.control.reaping import reap_dead_runs
from flowdeck.engine.system.processes import process_stat
from flowdeck.store.connection import transaction
from flowdeck.store.tables import runs

STUBBORN = {
    "bare except": """
        while True:
            try:
                time.sleep(60)
            except BaseException:
                pass""",
    "C code that holds the GIL": """
        import ctypes
        ctypes.PyDLL(None).sleep(120)""",
    "a regular expression": """
        import re
        re.match("(a*)*b", "a" * 60)""",
    "stopped": """
        os.kill(os.getpid(), signal.SIGSTOP)""",
    "signals blocked": """
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGURG):
            signal.signal(number, signal.SIG_IGN)
        import ctypes
        ctypes.PyDLL(None).sleep(120)""",
    "descriptors used up": """
        kept = []
        try:
            while True:
                kept.append(open("/dev/null"))
        except OSError:
            pass
        while True:
            try:
                time.sleep(60)
            except BaseException:
                pass""",
}
HELD = """
@task
def holds():
    effect(f"holds {{os.getpid()}}")
{body}

@flow
def held():
    holds()
"""
MAIN = """
if __name__ == "__main__":
    {flow}()
"""
BEAR = """
def bear(how):
    # Starts a process that says its number and lives on, in a way that hides it.
    child = f"import os, time; print('child', os.getpid(), file=open({HERE!r} + '/effects', 'a')); time.sleep(300)"
    if how == "double fork, setsid, no exec":
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                effect(f"child {os.getpid()}")
                time.sleep(300)
            os._exit(0)
    elif how == "no environment, a session of its own":
        subprocess.Popen([sys.executable, "-I", "-c", child], env={}, start_new_session=True)
    elif how == "double fork, no environment":
        if os.fork() == 0:
            os.setsid()
            subprocess.Popen([sys.executable, "-I", "-c", child], env={}, start_new_session=True)
            os._exit(0)
    elif how == "a daemon of a daemon":
        subprocess.Popen(["sh", "-c", 'setsid env -i "$@" &', "-", sys.executable, "-I", "-c", child])
    while True:
        time.sleep(0.05)
"""
HIDDEN = ("double fork, setsid, no exec", "no environment, a session of its own", "double fork, no environment",
          "a daemon of a daemon")
SOON = {"FLOWDECK_CANCEL_GRACE_SECONDS": "0.3"}


def held(body):
    return HELD.format(body=indent(dedent(body), "    "))


def stopped(pid):
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # gone, before it was opened or after
        return False


def pids(box, word):
    return [int(line.split()[-1]) for line in box.effects() if line.startswith(word + " ")]


def start(box, text, flow, *, by, **environment):
    """Under a daemon or as a script; the number of its run once it has one."""
    path = box.write("flows.py", text + MAIN.format(flow=flow))
    if by == "daemon":
        box.daemon(**environment)
        return box.submit(flow)
    box.script(path, **environment)
    return box.wait(lambda: next((run.id for run in box.reader.runs() if run.flow_name == flow), None))


@pytest.mark.parametrize("by", ["script", "daemon"])
@pytest.mark.parametrize("how", STUBBORN)
def test_what_does_not_let_go_is_ended_after_the_grace(box, by, how):
    """With a daemon and without: Cancelled is true, and so is that nothing runs."""
    body = STUBBORN[how]
    run_id = start(box, held(body), "held", by=by, **SOON)
    pid = box.wait(lambda: pids(box, "holds"))[0]
    if how == "stopped":
        box.wait(lambda: stopped(pid))
    box.control.cancel(run_id)
    row = box.wait_state(run_id, "Cancelled")
    box.wait(lambda: not alive(pid), 5)
    assert row.cause.startswith("cancelled by tester@here via test")


def test_a_script_is_ended_also_where_no_record_of_it_can_be_left(box):
    """As on a full disk: it is not left stopped for ever, and its run is Cancelled."""
    run_id = start(box, held(STUBBORN["bare except"]), "held", by="script", **SOON)
    pid = box.wait(lambda: pids(box, "holds"))[0]
    (box.folder / "spool" / f"{run_id}.1.{pid}.exit.new").mkdir()
    box.control.cancel(run_id)
    box.wait_state(run_id, "Cancelled")
    box.wait(lambda: not alive(pid))


@pytest.mark.parametrize("by", ["script", "daemon"])
def test_what_was_cancelled_while_it_was_stopped_never_completes(box, by):
    """Its code ends the moment it goes on, before anything in its process could look: the request stood there."""
    run_id = start(box, held(STUBBORN["stopped"]), "held", by=by)
    pid = box.wait(lambda: pids(box, "holds"))[0]
    box.wait(lambda: stopped(pid))
    box.control.cancel(run_id)
    os.kill(pid, signal.SIGCONT)
    row = box.wait_state(run_id, "Cancelled")
    assert row.cause.startswith("cancelled by tester@here via test")


@pytest.mark.parametrize("by", ["script", "daemon"])
@pytest.mark.parametrize("twice", [True, False])
def test_at_once_gives_no_grace(box, by, twice):
    """``--now``, or asked for a second time: gone long before the grace is over."""
    run_id = start(box, held(STUBBORN["C code that holds the GIL"]), "held", by=by)
    pid = box.wait(lambda: pids(box, "holds"))[0]
    if twice:
        assert box.control.cancel(run_id).text == "cancelling"
    assert "at once" in box.control.cancel(run_id, at_once=not twice).text
    box.wait(lambda: not alive(pid), 5)
    box.wait_state(run_id, "Cancelled")


@pytest.mark.parametrize("listens", [True, False])
@pytest.mark.parametrize("by", ["script", "daemon"])
@pytest.mark.parametrize("how", HIDDEN)
def test_what_hides_ends_with_the_cancellation(box, by, how, listens):
    """A process that shed its environment, session and parents is still the run's; code that listens or not."""
    loop = "" if listens else "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())"
    text = BEAR + f"""
@flow
def bears():
    effect(f"holds {{os.getpid()}}")
    {loop}
    bear({how!r})
"""
    run_id = start(box, text, "bears", by=by, **SOON)
    child = box.wait(lambda: pids(box, "child"))[0]
    pid = pids(box, "holds")[0]
    box.control.cancel(run_id, at_once=not listens)
    box.wait_state(run_id, "Cancelled")
    box.wait(lambda: not alive(child) and not alive(pid), 10)


def test_what_hides_ends_with_a_crash_that_is_resumed(box):
    """The next attempt does not work beside what the one before left."""
    run_id = start(box, BEAR + f"""
@flow
def bears():
    effect(f"holds {{os.getpid()}}")
    if not pathlib_exists("go"):
        bear({HIDDEN[0]!r})

def pathlib_exists(name):
    return os.path.exists(HERE + "/" + name)
""", "bears", by="daemon")
    child = box.wait(lambda: pids(box, "child"))[0]
    box.touch("go")
    os.kill(pids(box, "holds")[0], signal.SIGKILL)
    box.wait_state(run_id, "Completed")
    assert not alive(child)


@pytest.mark.parametrize("by", ["script", "daemon"])
def test_what_a_completed_run_left_goes_on(box, by):
    """A daemon that a run made is nobody's to end, unless the run was cancelled."""
    run_id = start(box, """
@flow
def leaves():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            effect(f"child {os.getpid()}")
            time.sleep(300)
        os._exit(0)
    os.wait()
    while not os.path.exists(HERE + "/effects"):
        time.sleep(0.01)
""", "leaves", by=by)
    box.wait_state(run_id, "Completed")
    child = box.wait(lambda: pids(box, "child"))[0]
    box.wait(lambda: not [lease for lease in box.reader.leases() if lease.run_id == run_id])
    try:
        time.sleep(0.3)  # long enough for whoever would end it
        assert alive(child)
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("how", ["cancelled", "frozen, thawed, cancelled", "killed, settled by others"])
def test_neighbours_in_the_pipeline_live_on(box, how):
    """``python flow.py | tee log``, as an interactive shell starts it: in a group that the script leads.

    Whatever is done to the run, by its guard or by who finds it dead, is done to nobody else of that group.
    """
    path = box.write("flows.py", held(STUBBORN["bare except"]) + MAIN.format(flow="held"))
    script = subprocess.Popen([sys.executable, path], process_group=0, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              env={**os.environ, "FLOWDECK_STORE": str(box.folder), **SOON})
    neighbour = subprocess.Popen(["sleep", "300"], process_group=script.pid)
    try:
        box.wait(lambda: pids(box, "holds"))
        if how.startswith("frozen"):
            box.wait_state(1, "Running")
            box.control.freeze(1)
            box.wait(lambda: stopped(script.pid))
            assert not stopped(neighbour.pid)
            box.control.thaw(1)
            assert neighbour.poll() is None
        if how.startswith("killed"):
            box.update(lambda state: runs.set_intent(state, 1, "cancel", at_us=1, actor="tester"))
            os.kill(script.pid, signal.SIGKILL)
        else:
            box.control.cancel(1)
        assert script.wait(60) == -signal.SIGKILL
        reap_dead_runs(box.folder)
        box.wait_state(1, "Cancelled")
        assert neighbour.poll() is None
        assert not stopped(neighbour.pid)
    finally:
        for process in (neighbour, script):
            process.kill()
            process.wait()


def test_the_script_s_output_ends_with_the_script(box):
    """The guard holds nothing open that a reader waits for."""
    path = box.write("flows.py", """
@flow
def short():
    time.sleep(0.2)

if __name__ == "__main__":
    short()
    effect("over")
""")
    done = subprocess.run([sys.executable, path], capture_output=True, timeout=60, check=True,
                          env={**os.environ, "FLOWDECK_STORE": str(box.folder)})
    assert done.returncode == 0
    assert box.effects() == ["over"]


def test_a_script_may_wait_for_all_its_children(box):
    """The guard is none of them."""
    path = box.write("flows.py", """
@flow
def waits():
    assert subprocess.Popen(["true"]).pid
    try:
        while True:
            os.wait()
    except ChildProcessError:
        effect("no more")

if __name__ == "__main__":
    waits()
""")
    subprocess.run([sys.executable, path], timeout=60, check=True,
                   env={**os.environ, "FLOWDECK_STORE": str(box.folder)})
    assert box.effects() == ["no more"]


TWO = """
@flow
async def one_flow():
    await one_of("one")

@flow
async def other_flow():
    await one_of("other")

async def one_of(name):
    command = await asyncio.create_subprocess_exec("sleep", "300")
    effect(f"{name}-child {command.pid}")
    await command.wait()

import asyncio

async def caught(flow):
    try:
        await flow()
    except SystemExit:
        pass

async def both():
    await asyncio.gather(caught(one_flow), caught(other_flow))

if __name__ == "__main__":
    asyncio.run(both())
"""


def test_of_two_root_runs_of_one_script_the_other_is_left(box):
    """Cancelling one ends its commands, not the other's, nor the process while the other lives."""
    box.script(box.write("flows.py", TWO), **SOON)
    one = box.wait(lambda: pids(box, "one-child"))[0]
    other = box.wait(lambda: pids(box, "other-child"))[0]
    number = {run.flow_name: run.id for run in box.reader.runs()}
    box.control.cancel(number["one_flow"])
    box.wait_state(number["one_flow"], "Cancelled")
    box.wait(lambda: not alive(one), 10)
    assert alive(other)
    assert box.state(number["other_flow"]) == "Running"
    box.control.cancel(number["other_flow"])
    box.wait_state(number["other_flow"], "Cancelled")
    box.wait(lambda: not alive(other), 10)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root, to be two users")
@pytest.mark.parametrize("listens", [True, False])
def test_a_child_that_is_another_user_s_holds_nobody_up(box, tmp_path, listens, monkeypatch):
    """What may not be signalled is named, and left to whoever may."""
    monkeypatch.setenv("FLOWDECK_TRUST", str(box.folder))
    helper = tmp_path / "as-root"
    shutil.copy(shutil.which("setpriv"), helper)
    os.chmod(helper, 0o4755)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        os.chmod(folder, os.stat(folder).st_mode | 0o011)
    for root, folders, files in os.walk(box.root):
        for name in (*folders, *files):
            if os.path.join(root, name) != str(helper):
                os.chown(os.path.join(root, name), 65534, 65534)
    os.chown(box.root, 65534, 65534)
    body = "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())" if not listens else "pass"
    path = box.write("flows.py", f"""
@flow
def asks_root():
    process = subprocess.Popen([{str(helper)!r}, "--reuid=0", "--regid=0", "--clear-groups", "sleep", "300"])
    while open(f"/proc/{{process.pid}}/comm").read() != "sleep\\n":
        time.sleep(0.01)
    effect(f"holds {{os.getpid()}}")
    effect(f"child {{process.pid}}")
    {body}
    while True:
        time.sleep(0.05)

asks_root()
""")
    script = subprocess.Popen(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-B", path],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, "FLOWDECK_STORE": str(box.folder), "HOME": str(tmp_path), **SOON},
    )
    box.scripts.append(script)
    child = box.wait(lambda: pids(box, "child"))[0]
    try:
        box.control.cancel(1, at_once=not listens)
        script.wait(20)
        box.wait_state(1, "Cancelled")
        assert alive(child)
        box.wait(lambda: any(f"{child} (sleep, of user 0)" in line.message for line in box.reader.logs(1, 0, 100)))
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("request_", ["pause", "suspend", "resume"])
def test_a_cancellation_is_never_taken_back(box, request_):
    """However early the weaker request comes, it is refused, and the run ends."""
    from flowdeck.engine.errors import NotAllowed

    run_id = start(box, held(STUBBORN["stopped"]), "held", by="daemon", **SOON)
    pid = box.wait(lambda: pids(box, "holds"))[0]
    box.wait(lambda: stopped(pid))
    box.control.cancel(run_id)
    with pytest.raises(NotAllowed, match="it cannot be asked"):
        getattr(box.control, request_)(run_id)
    assert box.reader.run(run_id).intent == "cancel"
    box.wait_state(run_id, "Cancelled")
    box.wait(lambda: not alive(pid), 5)


@pytest.mark.parametrize("by", ["script", "daemon"])
def test_a_second_cancellation_is_enforced_after_the_first_was_overtaken(box, by):
    """Whatever stood in its place meanwhile: written by another version, or by hand."""
    run_id = start(box, held(STUBBORN["C code that holds the GIL"]), "held", by=by, FLOWDECK_CANCEL_GRACE_SECONDS="3")
    pid = box.wait(lambda: pids(box, "holds"))[0]
    box.control.cancel(run_id)
    time.sleep(0.3)  # long enough for whoever looks
    box.update(lambda state: state.execute("UPDATE flow_run SET intent = 'pause' WHERE id = ?", (run_id,)))
    time.sleep(0.3)
    box.control.cancel(run_id)
    row = box.wait_state(run_id, "Cancelled")
    box.wait(lambda: not alive(pid))
    assert row.cause.startswith("cancelled by tester@here via test")


@pytest.mark.parametrize("ahead", [1, 2])
def test_a_process_whose_run_another_one_has_ends_and_records_nothing(box, ahead):
    """By one attempt or by several: it is fenced as soon as it sees that, long before it would write anything."""
    run_id = start(box, held("while True: time.sleep(0.05)"), "held", by="script")
    pid = box.wait(lambda: pids(box, "holds"))[0]
    other = subprocess.Popen(["sleep", "300"])
    box.scripts.append(other)
    started = process_stat(other.pid).started_ticks

    def take_over(state):
        with transaction(state):
            state.execute("UPDATE flow_run SET attempt = ?, state_type = 'PENDING', state_name = 'Pending'"
                          " WHERE id = ?", (1 + ahead, run_id))
            state.execute("UPDATE lease SET attempt = ?, pid = ?, pid_started_ticks = ? WHERE run_id = ?",
                          (1 + ahead, other.pid, started, run_id))

    box.update(take_over)
    box.wait(lambda: not alive(pid))
    assert box.state(run_id) == "Pending"
    assert box.reader.lease_of(run_id).pid == other.pid


def test_the_last_of_a_scripts_runs_is_guarded_as_the_first(box):
    """Its guard hears of each of them."""
    box.script(box.write("flows.py", held(STUBBORN["bare except"]) + """
@flow
def first():
    effect(f"first {os.getpid()}")

for _ in range(3):
    first()
held()
"""), **SOON)
    pid = box.wait(lambda: pids(box, "holds"))[0]
    run_id = next(run.id for run in box.reader.runs() if run.flow_name == "held")
    box.control.cancel(run_id)
    box.wait_state(run_id, "Cancelled")
    box.wait(lambda: not alive(pid), 5)


@pytest.mark.parametrize("why", ["a thread", "a large process"])
def test_where_forking_is_unsafe_the_guard_is_started_anew(box, why):
    """Threads of the user's own at the run's start, or more memory than a fork should hold."""
    before = {"a thread": "import threading; threading.Thread(target=time.sleep, args=(300,), daemon=True).start()",
              "a large process": "ballast = b'x' * 300_000_000"}[why]
    box.script(box.write("flows.py", before + held(STUBBORN["C code that holds the GIL"])
                         + MAIN.format(flow="held")), **SOON)
    pid = box.wait(lambda: pids(box, "holds"))[0]
    box.control.cancel(1)
    box.wait_state(1, "Cancelled")
    box.wait(lambda: not alive(pid), 5)


def test_a_process_has_one_guard_for_all_its_runs(script, tmp_path) -> None:
    """Also where it has threads, so that the guard is started and not forked: it hears of each run and ends with it."""
    done = script.run("""
        import subprocess, threading
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()

        @flow
        def small():
            return 1

        def guards():
            found = subprocess.run(["ps", "-ewwo", "ppid=,args="], capture_output=True, text=True).stdout.splitlines()
            return [line for line in found if "guarding" in line and f" {os.getpid()}, " in line]

        for _ in range(5):
            small()
        deadline = time.monotonic() + 30
        while not guards() and time.monotonic() < deadline:
            time.sleep(0.02)
        print("guards", len(guards()))
    """)
    assert done.returncode == 0, done.stderr
    assert "guards 1" in done.stdout, done.stdout


def test_what_a_run_starts_in_the_tick_in_which_it_began_is_its_own():
    """The kernel's ticks take 10 ms: of two children of one tick, the one that was there before is not the run's."""
    from flowdeck.engine.system import processes

    child = subprocess.Popen(["sleep", "60"])
    try:
        stat = processes.process_stat(child.pid)
        assert stat is not None
        own, tick = os.getpid(), stat.started_ticks
        assert child.pid in processes.of_run(None, 0, None, processes.Family(own, tick))
        assert child.pid not in processes.of_run(None, 0, None, processes.Family(own, tick, (child.pid,)))
        assert child.pid not in processes.of_run(None, 0, None, processes.Family(own, tick + 1))
        assert child.pid in processes.children_since(tick)
        assert child.pid not in processes.children_since(tick + 1)
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("by", ["script", "daemon"])
def test_a_run_whose_first_line_holds_the_interpreter_is_shown_as_running(box, by):
    """C code that lets no other thread run, from the first instruction on: what is recorded is what is."""
    run_id = start(box, """
import ctypes
@flow
def holds():
    ctypes.PyDLL(None).sleep(120)
""", "holds", by=by, **SOON)
    box.wait_state(run_id, "Running")
    box.control.cancel(run_id)
    box.wait_state(run_id, "Cancelled")
