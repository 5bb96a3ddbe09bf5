"""A caller of ``commit`` who is alone writes in its own thread; everybody else's order and safety stay as they were."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flowdeck.store.connection import connect
from flowdeck.store.opening import open_store
from flowdeck.store.writer import Writer

ADD = "INSERT INTO flow (name, created_at_us) VALUES (?, 1)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    open_store(tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def writer(folder: Path) -> Iterator[Writer]:
    """One whose thread has opened the file."""
    made = Writer(folder)
    made.commit(lambda conn: None)
    yield made
    made.close()


def names(folder: Path) -> list[str]:
    connection = connect(folder, "state", readonly=True)
    try:
        return [name for (name,) in connection.execute("SELECT name FROM flow ORDER BY rowid")]
    finally:
        connection.close()


def add(name: str, seen: list[str] | None = None):
    def operation(conn: sqlite3.Connection) -> str:
        if seen is not None:
            seen.append(threading.current_thread().name)
        conn.execute(ADD, (name,))
        return name

    return operation


def test_a_lone_commit_runs_in_the_callers_thread(writer: Writer, folder: Path) -> None:
    """Durable when it returns, with its value."""
    seen: list[str] = []
    assert writer.commit(add("a", seen)) == "a"
    assert seen == [threading.current_thread().name]
    assert names(folder) == ["a"]


def test_what_was_handed_over_before_comes_before(writer: Writer, folder: Path) -> None:
    """A commit behind queued operations waits its turn with them."""
    for number in range(50):
        writer.soon(add(f"soon {number}"))
        writer.commit(add(f"commit {number}"))
    wanted = [f"{word} {number}" for number in range(50) for word in ("soon", "commit")]
    assert names(folder) == wanted


def test_a_failing_operation_leaves_nothing(writer: Writer, folder: Path) -> None:
    """Its own error comes back, its writes are undone, and the next one is not disturbed."""

    def failing(conn: sqlite3.Connection) -> None:
        conn.execute(ADD, ("half",))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        writer.commit(failing)
    with pytest.raises(sqlite3.IntegrityError):
        writer.commit(lambda conn: (conn.execute(ADD, ("b",)), conn.execute(ADD, ("b",))))
    writer.commit(add("c"))
    assert names(folder) == ["c"]


def test_an_interrupted_commit_still_happens(writer: Writer, folder: Path) -> None:
    """Ctrl-C in the middle of it reaches the caller, and the thread does what was handed over, once."""
    tries: list[str] = []

    def interrupted(conn: sqlite3.Connection) -> None:
        tries.append(threading.current_thread().name)
        conn.execute(ADD, ("kept",))
        if len(tries) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writer.commit(interrupted)
    writer.flush()
    assert names(folder) == ["kept"]
    assert tries[1:] == ["flowdeck-writer-state"]


def test_a_locked_file_is_the_threads_business(writer: Writer, folder: Path) -> None:
    """The caller waits until the lock is gone, and the operation is done once."""
    other = connect(folder, "state")
    other.execute("BEGIN IMMEDIATE")
    done = threading.Thread(target=lambda: writer.commit(add("late")))
    done.start()
    done.join(0.3)
    assert done.is_alive()
    other.execute("ROLLBACK")
    other.close()
    done.join(10)
    assert names(folder) == ["late"]


def test_many_threads_at_once(writer: Writer, folder: Path) -> None:
    """Lone ones, grouped ones and those nobody waits for, mixed: each happens once."""

    def work(who: int) -> None:
        for number in range(100):
            writer.commit(add(f"{who}/{number}"))
            if number % 7 == 0:
                writer.soon(add(f"{who}/{number} soon"))

    threads = [threading.Thread(target=work, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.flush()
    found = names(folder)
    assert len(found) == len(set(found)) == 4 * (100 + 15)


def test_a_forked_child_never_uses_the_connection(writer: Writer) -> None:
    """It gets an error, whatever the parent was doing."""
    writer.commit(add("parent"))
    pid = os.fork()
    if pid == 0:
        try:
            writer.commit(add("child"))
        except RuntimeError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_a_closed_writer_refuses(folder: Path) -> None:
    """Also those who would have written by themselves."""
    made = Writer(folder)
    made.commit(add("x"))
    made.commit(add("y"))
    made.close()
    with pytest.raises(Exception, match="closed"):
        made.commit(add("z"))
    assert names(folder) == ["x", "y"]
