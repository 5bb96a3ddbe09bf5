"""Code hosts are forked by a nursery: as good as fresh interpreters, and whatever becomes of it they are served."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each host is an interpreter of its own")

PLAIN = """
@flow
def plain():
    effect(f"host {os.getppid()}")
    while not os.path.exists(os.path.join(HERE, "go")):
        time.sleep(0.01)
    effect("done")
"""


def nursery_of(daemon):
    """The pid of the daemon's nursery; None while it has none."""
    try:
        with open(f"/proc/{daemon.pid}/task/{daemon.pid}/children") as file:
            children = file.read().split()
        for child in children:
            with open(f"/proc/{child}/cmdline", "rb") as file:
                if b".nursery" in file.read():
                    return int(child)
    except FileNotFoundError:
        return None
    return None


def hosts_of(pid):
    """What a process has forked, by the last of the words it shows."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        children = file.read().split()
    found = {}
    for child in children:
        with open(f"/proc/{child}/cmdline", "rb") as file:
            found[file.read().rstrip(b"\0").split(b"\0")[-1].decode()] = int(child)
    return found


def test_hosts_are_forked_and_show_their_file(box):
    """``ps`` tells which host serves which file."""
    paths = {str(box.write(f"file_{number}.py", f"@flow\ndef one{number}(): pass\n")) for number in range(3)}
    daemon = box.daemon()
    box.wait(lambda: set(hosts_of(nursery_of(daemon))) == paths)
    daemon.stop()
    box.wait(lambda: nursery_of(daemon) is None)


def test_a_nursery_that_is_killed_takes_no_host_and_no_run_along(box):
    """What it had forked goes on, with its runs; the next file gets its host from another."""
    box.write("plain.py", PLAIN)
    daemon = box.daemon()
    first = box.submit("plain")
    box.wait(lambda: any(line.startswith("host ") for line in box.effects()))
    nursery = nursery_of(daemon)
    os.kill(nursery, signal.SIGKILL)
    box.wait(lambda: nursery_of(daemon) != nursery)
    second = box.submit("plain")
    box.wait_state(second, "Running")
    box.write("other.py", "@flow\ndef other(): effect('other')\n")
    box.wait(lambda: "other.py: other" in daemon.log)
    box.wait_state(box.submit("other"), "Completed")
    box.touch("go")
    for number in (first, second):
        row = box.wait_state(number, "Completed")
        assert (row.attempt, row.crash_count) == (1, 0)


def test_a_nursery_killed_while_files_load_has_them_loaded_again(box):
    """The kernel ends those that were loading with it: that says nothing about their files."""
    box.write("slow.py", "effect('import')\nwait_for('import goes on')\n@flow\ndef slow(): effect('ran')\n")
    daemon = box.daemon(ready=False)
    box.wait_effects("import")
    os.kill(nursery_of(daemon), signal.SIGKILL)
    box.wait(lambda: box.effects().count("import") == 2)
    box.touch("import goes on")
    box.wait(lambda: "ready:" in daemon.log)
    box.wait_state(box.submit("slow"), "Completed")
    assert not box.reader.problems()


def test_a_module_of_the_users_comes_before_one_that_the_engine_has_loaded(box):
    """As in ``python FILE``: a file beside the flow file whose name the standard library has, too."""
    name = "queue"  # which the engine needs itself
    box.write(f"{name}.py", "WORD = 'of the user'\n", prelude=False)
    box.write("etl.py", f"import {name}\n@flow\ndef etl(): effect({name}.WORD)\n")
    box.daemon()
    box.wait_state(box.submit("etl"), "Completed")
    assert box.effects() == ["of the user"]


def test_the_nursery_has_loaded_nothing_that_a_user_may_upgrade():
    """Hosts that are made after an upgrade of a library have the new one."""
    code = ("import sys; from flowdeck.engine.running.run_process import code_host, nursery; code_host.warm_up();"
            "nursery._rehearse(); print(*(name for name, module in sys.modules.items()"
            " if 'site-packages' in (getattr(module, '__file__', None) or '')))")
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert {name for name in loaded if not name.startswith(("__editable__", "_distutils", "flowdeck"))} == set()


def test_a_host_ends_as_an_interpreter_does(box):
    """What a file left for ``atexit`` is done when its host ends, and once."""
    box.write("etl.py", "import atexit\natexit.register(effect, 'at exit')\n@flow\ndef etl(): pass\n")
    box.daemon().stop()
    box.wait_effects("at exit")
    assert box.effects() == ["at exit"]
