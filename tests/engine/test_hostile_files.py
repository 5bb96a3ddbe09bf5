"""Flow files that do at import what nobody expects: each is a problem in words, and no other file waits for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

FLOW = """
@flow
def {name}():
    effect({name!r})
"""
HOSTILE = {
    "exits": ("os._exit(0)", "the process that imported it ended: exit code 0"),
    "leaves": ("raise SystemExit(3)", "it ends the interpreter while it is imported"),
    "faults": ("import ctypes; ctypes.string_at(0)", "killed by signal 11 (SIGSEGV)"),
    "recurs": ("def again(): again()\nagain()", "RecursionError"),
    "hooks": ("sys.excepthook = lambda *_: os._exit(9)\nsys.stdout = None\nraise RuntimeError('boom')", "boom"),
    "closes": ("os.closerange(3, 1000)\ntime.sleep(300)", "its import closed the files of its process"),
    "patched": ("os.write = None\nimport json\njson.dumps = None", "the process that imported it ended: "),
    "zero": ("\0", "null byte"),
}
HARMLESS = {
    "moves": "os.chdir('/')\nos.environ.clear()",
    "deaf": "for n in range(1, 32):\n    try: signal.signal(n, signal.SIG_IGN)\n    except OSError: pass",
    "alone": "try: os.setsid()\nexcept OSError: pass",
    "loops": "import asyncio\nasyncio.run(asyncio.sleep(0))",
}


def file_of(name, code):
    return f"import sys\n{FLOW.format(name=name)}\n{code}\n"


def problems(box):
    return {os.path.basename(row.path)[:-3]: row.error for row in box.reader.problems()}


def test_what_a_file_does_at_import_is_its_own_problem(box):
    """Whatever it did is said as what it was; files that only look odd are served; a good one runs."""
    for name, (code, _) in HOSTILE.items():
        box.write(f"{name}.py", file_of(name, code))
    for name, code in HARMLESS.items():
        box.write(f"{name}.py", file_of(name, code))
    box.write("good.py", FLOW.format(name="good"))
    box.daemon(ready=False)
    box.wait_state(box.submit_when_known("good"), "Completed")
    box.wait(lambda: set(problems(box)) == set(HOSTILE))
    for name, (_, words) in HOSTILE.items():
        assert words in problems(box)[name], name
        assert f"{name}.py" in problems(box)[name], name
    for name in HARMLESS:
        box.wait_state(box.submit_when_known(name), "Completed")
    assert sorted(box.effects()) == sorted(["good", *HARMLESS])


def test_what_is_named_like_a_file_and_is_none_keeps_nobody(box):
    """Pipes, folders and links that lead nowhere, there from the beginning or put in a file's place."""
    box.write("good.py", FLOW.format(name="good"))
    later = box.write("later.py", FLOW.format(name="later"))
    os.mkfifo(box.flows / "pipe.py")
    (box.flows / "folder.py").mkdir()
    (box.flows / "nowhere.py").symlink_to("nothing")
    (box.flows / "round.py").symlink_to("round.py")
    (box.flows / "device.py").symlink_to("/dev/zero")
    daemon = box.daemon()
    box.wait_state(box.submit("good"), "Completed")
    os.unlink(later)
    os.mkfifo(later)
    box.wait(lambda: later in daemon.log.split("ready:")[1])
    box.wait_state(box.submit("good"), "Completed")


def test_what_a_file_prints_at_import_stands_in_the_log_and_does_not_fill_it(box):
    """Whole lines with the file's name, from its children too, in bounds; a log for programs stays one."""
    box.write("says.py", FLOW.format(name="says") + """
print("half a line, ", end="", flush=True)
os.system("echo and a child\\033[2J")
""")
    box.write("floods.py", FLOW.format(name="floods") + """
effect("flooding")
while True:
    print("x" * 1000)
""")
    log = box.root / "daemon.jsonl"
    with open(log, "wb") as output:
        box.scripts.append(subprocess.Popen(
            [sys.executable, "-P", "-m", "flowdeck", "--store", str(box.folder), "--json", "daemon", str(box.flows)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output))
    box.wait_state(box.submit_when_known("says"), "Completed")
    box.wait(lambda: b"lines are left out" in log.read_bytes())
    lines = [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
    texts = [line["text"] for line in lines if line.get("file", "").endswith("says.py")]
    assert any("says.py prints: half a line, and a child" in text for text in texts), lines
    assert log.stat().st_size < 2_000_000
    assert box.effects().count("flooding") == 1


def test_who_prints_lives_on_when_its_daemon_is_gone(box):
    """A code host and its runs outlive their daemon; nobody who prints is ended or kept waiting by that."""
    box.write("chats.py", """
import threading
def chat():
    while True:
        print("chat " * 100, flush=True)
threading.Thread(target=chat, daemon=True).start()

@flow
def waits():
    effect(f"begun {os.getpid()}")
    wait_for("go")
    for _ in range(1000):
        os.write(1, b"words " * 100)
    effect("ended")
""")
    daemon = box.daemon()
    run_id = box.submit("waits")
    box.wait(lambda: box.effects())
    daemon.process.kill()
    daemon.process.wait()
    box.touch("go")
    box.wait(lambda: "ended" in box.effects())
    box.wait_state(run_id, "Completed")
