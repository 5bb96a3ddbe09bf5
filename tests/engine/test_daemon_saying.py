"""What a headless daemon says: how runs end, to people, programs and the journal; and that its store is gone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys

import pytest
from flowdeck.store.checkpoint import wal_size

FLOWS = '''
@flow
def good():
    return 1

@flow
def child():
    return 2

@flow
def parent():
    return child()

@flow
def bad():
    raise ValueError("no rows\\x1b[2J today\\nsecond line")

@flow
def stuck():
    effect("stuck")
    wait_for("never")

@flow(crash_retries=1)
def dies():
    effect("dies")
    os.kill(os.getpid(), signal.SIGKILL)
'''


def ended(lines, run_id):
    """The lines that say how a run ended."""
    return [line for line in lines if line.get("event") == "run_ended" and line["run"] == run_id]


def start_json(box):
    """A daemon that speaks JSON, and a way to read what it said so far."""
    box.write("flows.py", FLOWS)
    log_path = box.root / "daemon.jsonl"
    with open(log_path, "wb") as log, open(box.root / "talk", "wb") as talk:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "flowdeck", "--store", str(box.folder), "--json", "daemon", str(box.flows)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=talk)
    box.scripts.append(process)

    def said():
        return [json.loads(line) for line in log_path.read_text().splitlines(keepends=True) if line.endswith("\n")]

    box.wait(lambda: any(line["text"].startswith("ready:") for line in said()) or process.poll() is not None)
    return process, said


def test_each_ending_is_one_line_with_its_cause(box):
    """Completed, failed, cancelled and crashed, whoever settled it; a subflow's end is its root's business."""
    box.write("flows.py", FLOWS)
    daemon = box.daemon()
    good, bad, parent = (box.submit(name) for name in ("good", "bad", "parent"))
    for run_id in (good, bad, parent):
        box.wait_state(run_id, "Completed", "Failed")
    stuck = box.submit("stuck")
    box.wait_effects("stuck")
    box.control.cancel(stuck)
    box.wait_state(stuck, "Cancelled")
    dies = box.submit("dies")
    box.wait_state(dies, "Crashed")

    def lines(run_id):
        return [line for line in daemon.log.splitlines()
                if f" run #{run_id} (" in line and "starts" not in line and "adopted" not in line]

    box.wait(lambda: len(lines(dies)) == 2)
    for run_id, words in ((good, "(good): Completed after "), (bad, "(bad): Failed after "),
                          (parent, "(parent): Completed after "), (stuck, "(stuck): Cancelled after ")):
        assert len(lines(run_id)) == 1, daemon.log
        assert words in lines(run_id)[0]
    assert "no rows\\x1b[2J today" in lines(bad)[0]
    assert "tester@here via test" in lines(stuck)[0]
    assert "(dies): Crashed: killed by signal 9 (SIGKILL)" in lines(dies)[0]
    assert "; goes on in 0." in lines(dies)[0]
    assert "goes on" not in lines(dies)[1]
    assert "(child)" not in daemon.log
    assert "\x1b" not in daemon.log


def test_programs_get_each_ending_as_an_object(box):
    """``flowdeck --json daemon``: a line of JSON on standard output for whatever it says, with the facts apart."""
    process, said = start_json(box)
    good, bad, dies = (box.submit(name) for name in ("good", "bad", "dies"))
    box.wait(lambda: ended(said(), good) and ended(said(), bad) and len(ended(said(), dies)) == 2)
    [one] = ended(said(), good)
    assert one == one | {"level": "info", "flow": "good", "state": "Completed", "type": "COMPLETED", "attempt": 1,
                         "cause": None}
    assert one["duration_seconds"] > 0
    [one] = ended(said(), bad)
    assert one == one | {"level": "error", "state": "Failed"}
    assert "no rows\x1b[2J today" in one["cause"]
    first, second = ended(said(), dies)
    assert (first["state"], first["attempt"], second["attempt"]) == ("Crashed", 1, 2)
    assert "goes_on_in_seconds" in first
    assert "goes_on_in_seconds" not in second
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert (box.root / "talk").read_bytes() == b""
    assert said()[-1]["text"] == "SIGTERM: the daemon stops; runs go on"


def test_runs_that_end_without_the_daemon_are_told_too(box):
    """A script on the same store; and what was settled at the daemon's own start."""
    path = box.write("flows.py", FLOWS + "\nif __name__ == '__main__':\n    (dies if 'die' in sys.argv else good)()\n")
    subprocess.run([sys.executable, path, "die"], check=False, capture_output=True,
                   env={**os.environ, "FLOWDECK_STORE": str(box.folder)})
    daemon = box.daemon()
    box.wait(lambda: "run #1 (dies): Crashed" in daemon.log)
    box.script(path)
    box.wait(lambda: "run #2 (good): Completed after" in daemon.log)
    assert daemon.log.count("run #1 (dies): Crashed") == daemon.log.count("run #2 (good): Completed") == 1


def test_the_journal_gets_levels(box):
    """Where systemd connected standard error to its journal, each line begins with its level, and has no time."""
    box.write("flows.py", FLOWS)
    ours, theirs = socket.socketpair()
    found = os.fstat(theirs.fileno())
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "flowdeck", "--store", str(box.folder), "daemon", str(box.flows)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs,
        env={**os.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
    box.scripts.append(process)
    theirs.close()
    box.wait(box.reader.deployments)
    good, bad = box.submit("good"), box.submit("bad")
    box.wait_state(good, "Completed")
    box.wait_state(bad, "Failed")
    process.send_signal(signal.SIGTERM)
    text = b""
    while data := ours.recv(65536):
        text += data
    ours.close()
    lines = text.decode().splitlines()
    assert all(line[0] == "<" and line[2] == ">" for line in lines), lines
    assert any(line.startswith(f"<6>run #{good} (good): Completed after ") for line in lines)
    assert any(line.startswith(f"<3>run #{bad} (bad): Failed after ") for line in lines)


@pytest.mark.parametrize("became", ["removed", "moved", "replaced"])
def test_a_daemon_ends_with_its_store_and_says_so(box, became):
    """It serves nobody any more, and makes nothing where the store was."""
    box.write("flows.py", FLOWS)
    daemon = box.daemon()
    os.kill(daemon.pid, signal.SIGSTOP)  # it sees only what became of it in the end
    if became == "removed":
        shutil.rmtree(box.folder)
    else:
        box.folder.rename(box.root / "away")
    if became == "replaced":
        shutil.copytree(box.root / "away", box.folder)
    os.kill(daemon.pid, signal.SIGCONT)
    assert daemon.process.wait(60) == 5
    words = "was replaced by another" if became == "replaced" else "was removed or moved away"
    assert f"the store {box.folder} {words}: the daemon ends" in daemon.log
    assert "Traceback" not in daemon.log
    assert box.folder.exists() == (became == "replaced")
    if became == "removed":
        box.folder.mkdir()  # the box looks there for processes that are left


def test_a_store_that_is_back_at_once_keeps_its_daemon(box):
    """The same files under the same name are the same store."""
    box.write("flows.py", FLOWS)
    daemon = box.daemon()
    stop = daemon.process.pid
    os.kill(stop, signal.SIGSTOP)
    box.folder.rename(box.root / "away")
    (box.root / "away").rename(box.folder)
    os.kill(stop, signal.SIGCONT)
    box.wait_state(box.submit("good"), "Completed")
    assert daemon.process.poll() is None


def test_after_a_clean_stop_the_store_is_in_its_files(box):
    """Not in their logs alone, even while somebody has the store open to read: a copy of the files is a copy of all."""
    box.write("flows.py", FLOWS)
    daemon = box.daemon()
    run_id = box.submit("good")
    box.wait_state(run_id, "Completed")
    assert wal_size(str(box.folder / "state.db")) > 0
    assert daemon.stop() == 0
    copy = box.root / "copy"
    copy.mkdir()
    for name in ("state.db", "telemetry.db"):
        shutil.copy(box.folder / name, copy / name)
    done = subprocess.run([sys.executable, "-P", "-m", "flowdeck", "--store", str(copy), "--json", "ls"],
                          capture_output=True, text=True, check=True)
    assert [run["id"] for run in json.loads(done.stdout)] == [run_id]


def test_a_reader_that_is_gone_stops_no_daemon(box):
    """The pipe that its lines went to is closed: runs go on, and it ends as asked."""
    box.write("flows.py", FLOWS)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "flowdeck", "--store", str(box.folder), "daemon", str(box.flows)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    box.scripts.append(process)
    assert b"serves" in process.stderr.readline()
    process.stderr.close()
    box.wait(box.reader.deployments)
    box.wait_state(box.submit("good"), "Completed")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
