"""Whoever runs a flow of a file: it finds what a script finds, and its process ends as Python ends one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FLOWDECK = os.path.join(os.path.dirname(sys.executable), "flowdeck")
LOOKS = """
import argparse

@flow
def looks():
    options = argparse.ArgumentParser().parse_args()
    import __main__
    effect(f"{sys.argv == [__file__]} {__main__.looks is looks} {__main__.__file__ == __file__} {options}")

if __name__ == "__main__":
    looks()
"""


def run_by(box, by, path, flow):
    """As a script, by ``flowdeck run``, or in a daemon; with either way of starting processes."""
    environment = {**os.environ, "FLOWDECK_STORE": str(box.folder), "FLOWDECK_CANCEL_GRACE_SECONDS": "1"}
    if by == "script":
        subprocess.run([sys.executable, path], env=environment, check=True, timeout=60)
    elif by == "run":
        subprocess.run([FLOWDECK, "run", path], env=environment, check=True, timeout=60)
    else:
        box.daemon(FLOWDECK_CANCEL_GRACE_SECONDS="1")
        box.submit(flow)
    box.wait(lambda: (row := box.reader.run(1)) is not None and row.state_name == "Completed")


@pytest.mark.parametrize("by", ["script", "run", "daemon"])
def test_the_command_line_is_the_file_s(box, by):
    """``sys.argv`` and ``__main__`` are a script's: what parses arguments finds none of ours."""
    run_by(box, by, box.write("flows.py", LOOKS), "looks")
    box.wait_effects("True True True Namespace()")


ENDS = """
import atexit, threading
atexit.register(lambda: effect("of the import"))

@task
def registers():
    atexit.register(lambda: (print("printed at the end", flush=True), effect("of the task")))

@flow
def ends():
    registers()
    threading.Thread(target=lambda: (time.sleep(0.3), effect("of a thread"))).start()

if __name__ == "__main__":
    ends()
"""


@pytest.mark.parametrize("by", ["script", "run", "daemon"])
def test_what_python_does_at_its_end_is_done(box, by):
    """Threads are waited for, then ``atexit``, last registered first."""
    run_by(box, by, box.write("flows.py", ENDS), "ends")
    box.wait(lambda: len(box.effects()) == 3)
    assert box.effects() == ["of a thread", "of the task", "of the import"]
    if by == "daemon":
        box.wait(lambda: "printed at the end" in [line.message for line in box.reader.logs(1, 0, 100)])


def test_the_end_is_bounded_in_time(box):
    """What hangs there is ended, and said; the run stays Completed."""
    run_by(box, "daemon", box.write("flows.py", """
import atexit

@flow
def hangs():
    atexit.register(lambda: (effect(f"hangs {os.getpid()}"), time.sleep(300)))
"""), "hangs")
    pid = int(box.wait(lambda: box.effects())[0].split()[1])
    box.wait(lambda: not os.path.exists(f"/proc/{pid}"), 20)
    box.wait(lambda: any("took longer than 1 s" in line.message for line in box.reader.logs(1, 0, 100)))
    assert box.state(1) == "Completed"
