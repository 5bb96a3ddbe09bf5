"""Who may judge whom, on real processes and real PID namespaces."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from flowdeck.store import judging

HOLD = """
import json, os, sys
from flowdeck.store import judging
folder = sys.argv[1]
identity = judging.own_identity()
judging.show_presence(folder)
print(json.dumps(identity), flush=True)
sys.stdin.read()
"""
JUDGE = """
import json, sys
from flowdeck.store import judging
class Row:
    boot_id, pid, pid_started_ticks, pid_namespace = json.loads(sys.argv[2])
print(json.dumps([*judging.judge(Row, sys.argv[1]), judging.why_not_signalled(Row, sys.argv[1], None)]))
"""


class Row(NamedTuple):
    """As any row names a process."""

    boot_id: str
    pid: int
    pid_started_ticks: int
    pid_namespace: str


@pytest.fixture
def in_namespace() -> list[str]:
    """The words before a command that give it a PID namespace of its own, with its own /proc."""
    words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*words, "true"], capture_output=True).returncode != 0:
        if os.environ.get("CI"):
            pytest.fail("CI needs unshare and the right to make PID namespaces")
        pytest.skip("PID namespaces cannot be made here")
    return words


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Callable[..., tuple[Row, subprocess.Popen[str]]]]:
    """``holder(*words)`` starts a process that shows its presence in ``tmp_path``; gives its row and the process."""
    import json

    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> tuple[Row, subprocess.Popen[str]]:
        process = subprocess.Popen(
            [*words, sys.executable, "-c", HOLD, str(tmp_path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        return Row(*json.loads(process.stdout.readline())), process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def judged(folder: Path, row: Row, *words: str) -> list[str]:
    """What another process, perhaps of another namespace, says: state, reason, why it may not signal."""
    import json

    done = subprocess.run(
        [*words, sys.executable, "-c", JUDGE, str(folder), json.dumps(row)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_a_process_of_this_namespace_is_judged_by_its_number(holder, tmp_path: Path) -> None:
    """Alive, frozen and gone are told apart, and only the living may be signalled."""
    row, process = holder()
    assert judged(tmp_path, row) == ["alive", "", None]
    os.kill(row.pid, signal.SIGSTOP)
    assert judged(tmp_path, row)[0] == "frozen"
    os.kill(row.pid, signal.SIGKILL)
    process.wait()
    assert judged(tmp_path, row) == ["gone", "", "its process is gone"]


def test_a_number_used_again_is_another_process(holder, tmp_path: Path) -> None:
    """The start time tells them apart: the stranger is neither judged alive nor signalled."""
    row, _ = holder()
    stranger = row._replace(pid_started_ticks=row.pid_started_ticks - 1)
    assert judged(tmp_path, stranger) == ["gone", "", "its process is gone"]


def test_a_process_of_an_earlier_boot_is_gone(tmp_path: Path) -> None:
    """Whatever has its number now."""
    own = judging.own_identity()
    row = Row("another boot", own.pid, own.started_ticks, own.pid_namespace)
    assert judging.judge(row, tmp_path).is_gone
    assert judging.why_not_signalled(row, tmp_path, None) is not None


def test_a_process_within_a_container_is_not_judged_from_outside(
    holder, in_namespace: list[str], tmp_path: Path
) -> None:
    """Its number means another process here: as long as its lock is held it is unknown, and gone only after it."""
    row, process = holder(*in_namespace)
    state, reason, refusal = judged(tmp_path, row)
    assert (state, "another PID namespace" in reason) == ("unknown", True)
    assert refusal is not None
    process.communicate()
    assert judged(tmp_path, row)[0] == "gone"


def test_a_process_outside_is_not_judged_from_a_container(holder, in_namespace: list[str], tmp_path: Path) -> None:
    """The same the other way round, and between two containers."""
    row, process = holder()
    state, reason, refusal = judged(tmp_path, row, *in_namespace)
    assert (state, "it lives" in reason, refusal is None) == ("unknown", True, False)
    other, _ = holder(*in_namespace)
    assert judged(tmp_path, other, *in_namespace)[0] == "unknown"
    process.communicate()
    assert judged(tmp_path, row, *in_namespace)[0] == "gone"


def test_a_namespace_that_sees_the_outer_proc_judges_nobody_by_number(
    holder, in_namespace: list[str], tmp_path: Path
) -> None:
    """``unshare --pid`` without a /proc of its own: numbers there are the outer ones."""
    words = [word for word in in_namespace if word != "--mount-proc"]
    row, _ = holder()
    assert judged(tmp_path, row, *words)[0] == "unknown"
    inner, process = holder(*words)
    assert inner.pid_namespace != row.pid_namespace
    assert judged(tmp_path, inner)[0] == "unknown"
    process.communicate()
    assert judged(tmp_path, inner)[0] == "gone"


def test_a_fork_keeps_showing_what_closed_its_descriptors(tmp_path: Path) -> None:
    """The lock is held until the last process that has it is gone."""
    identity = judging.own_identity()
    judging.show_presence(tmp_path)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    row = Row(identity.boot_id, identity.pid, identity.started_ticks, "pid:[1]")
    own = tmp_path / "alive" / f"{identity.pid_namespace[5:-1]}-{identity.pid}-{identity.started_ticks}"
    (tmp_path / "alive" / f"1-{identity.pid}-{identity.started_ticks}").hardlink_to(own)
    judging.end_presence(tmp_path)
    assert not own.exists()
    assert judging.judge(row, tmp_path).state == "unknown"
    os.close(write)
    os.waitpid(child, 0)
    assert judging.judge(row, tmp_path).state == "gone"
    os.close(read)


def test_what_ended_without_a_word_is_swept(holder, tmp_path: Path) -> None:
    """Files of the dead do not pile up; those of the living stay."""
    _, dead = holder()
    row, _ = holder()
    os.killpg(dead.pid, signal.SIGKILL)
    dead.wait()
    judging.sweep_presences(tmp_path)
    assert [name.rpartition("-")[0] for name in os.listdir(tmp_path / "alive")] == [
        f"{row.pid_namespace[5:-1]}-{row.pid}"
    ]


def test_a_copy_of_a_store_is_another_store(tmp_path: Path) -> None:
    """By whatever path one comes to a store it has one name; a copy has its own, and signals nobody of the original."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.db").write_bytes(b"x")
    (tmp_path / "link").symlink_to("one")
    assert judging.store_name(tmp_path / "one") == judging.store_name(tmp_path / "link") != ""
    own = judging.own_identity()
    row = Row(*own)
    store = judging.store_name(tmp_path / "one")
    assert judging.why_not_signalled(row, tmp_path / "one", store) is None
    assert "copy" in (judging.why_not_signalled(row, tmp_path / "two", store) or "")


def test_a_process_is_seen_to_live_until_the_last_of_its_rows_is_gone(tmp_path: Path) -> None:
    """A run that ends takes nothing from another of its process, nor from what holds slots outside of runs."""
    name = judging._presence_name(judging.own_identity())
    for owner in ("run/1", "run/2", "slots"):
        judging.show_presence(tmp_path, owner)
    judging.show_presence(tmp_path)
    for owner in ("run/1", "run/2", "run/2"):
        judging.end_presence(tmp_path, owner)
        assert judging._is_locked(tmp_path, name)
    judging.end_presence(tmp_path, "slots")
    assert not judging._is_locked(tmp_path, name)
    assert list((tmp_path / "alive").iterdir()) == []


def test_who_is_swept_while_it_shows_itself_shows_itself_again(tmp_path: Path) -> None:
    """Whoever has shown itself holds the lock of the file that has its name, however many sweep meanwhile."""
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            judging.sweep_presences(tmp_path)

    judging.show_presence(tmp_path)
    judging.end_presence(tmp_path)
    thread = threading.Thread(target=sweep)
    thread.start()
    name = judging._presence_name(judging.own_identity())
    for _ in range(300):
        judging.show_presence(tmp_path, "run/1")
        assert (tmp_path / "alive" / name).exists()
        judging.end_presence(tmp_path, "run/1")
    stop.set()
    thread.join()
