from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flowdeck.store import spool
from flowdeck.store.connection import connect, transaction
from flowdeck.store.opening import open_store
from flowdeck.store.rows import LogRow
from flowdeck.store.spool import SpoolWriter, drain, drain_leftovers, spool_path
from flowdeck.store.spool_lines import MAX_LINE, Reading, record
from flowdeck.store.tables import leases, logs, runs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import ACTOR

MakeRun = Callable[..., int]


def _lines(telemetry: sqlite3.Connection, root_id: int = 1) -> list[LogRow]:
    rows = logs.page(telemetry, root_id, 0, 10**9)
    assert [row.line for row in rows] == list(range(len(rows)))  # dense, from 0
    return rows


def _messages(telemetry: sqlite3.Connection, stream: str | None = None) -> list[str]:
    return [row.message for row in _lines(telemetry) if stream in (None, row.stream)]


def test_records_and_raw_output_become_lines(folder: Path, telemetry: sqlite3.Connection) -> None:
    """What was written comes back with its origin; the files are for the owner only."""
    writer = SpoolWriter(folder, 1, 2)
    writer.record(5, 1, 7, 30, "flow.load", "log", "slow")
    writer.record(6, 3, None, 20, "flow", "log", "äöü 😀")
    os.write(writer.out_fd, b"printed\r\n\n")
    os.write(writer.err_fd, b"moaned\n")
    seen: list[LogRow] = []
    assert drain(folder, telemetry, 1, 2, echo=seen.extend) == 5
    rows = _lines(telemetry)
    assert seen == rows
    assert rows[0] == LogRow(1, 0, 1, 7, 2, 5, 30, "flow.load", "log", "slow")
    assert rows[1] == LogRow(1, 1, 3, None, 2, 6, 20, "flow", "log", "äöü 😀")
    assert [(row.stream, row.level, row.message) for row in rows[2:]] == [
        ("stdout", 20, "printed"), ("stdout", 20, ""), ("stderr", 30, "moaned"),
    ]  # fmt: skip
    assert drain(folder, telemetry, 1, 2) == 0
    for path in (folder / "spool", *(folder / "spool").iterdir()):
        assert path.stat().st_mode & 0o077 == 0
    writer.close()


def test_a_line_without_its_end_waits_for_the_rest(folder: Path, telemetry: sqlite3.Connection) -> None:
    """A half line is kept back; the end, or the end of the run, completes it."""
    writer = SpoolWriter(folder, 1, 1)
    os.write(writer.out_fd, b"one\ntw")
    assert drain(folder, telemetry, 1, 1) == 1
    assert drain(folder, telemetry, 1, 1) == 0
    os.write(writer.out_fd, b"o\nthree")
    assert drain(folder, telemetry, 1, 1) == 1
    assert drain(folder, telemetry, 1, 1, final=True) == 1
    assert _messages(telemetry) == ["one", "two", "three"]
    assert list((folder / "spool").iterdir()) == []
    assert telemetry.execute("SELECT count(*) FROM spool").fetchone() == (0,)
    writer.close()


def test_a_message_of_several_lines_is_several_rows(folder: Path, telemetry: sqlite3.Connection) -> None:
    """A traceback takes as many rows as it has lines, all with the record's origin."""
    writer = SpoolWriter(folder, 1, 1)
    writer.record(5, 1, 7, 40, "flow", "log", "Traceback:\n  File x\nValueError: é\n")
    writer.record(6, 1, 7, 40, "flow", "log", "")
    drain(folder, telemetry, 1, 1)
    assert _messages(telemetry) == ["Traceback:", "  File x", "ValueError: é", ""]
    assert {(row.task_seq, row.level) for row in _lines(telemetry)} == {(7, 40)}
    writer.close()


def test_long_lines_are_split_not_cut(folder: Path, telemetry: sqlite3.Connection) -> None:
    """Nothing of a line of megabytes is lost, with or without an end, and no character is torn."""
    writer = SpoolWriter(folder, 1, 1)
    text = "aé€😀" * 100_000
    writer.record(5, 1, None, 20, "flow", "log", text)
    os.write(writer.out_fd, text.encode())
    drain(folder, telemetry, 1, 1)
    stored_early = len(_messages(telemetry, "stdout"))
    assert stored_early > 4  # it does not wait for an end that may never come
    drain(folder, telemetry, 1, 1, final=True)
    for stream in ("log", "stdout"):
        parts = _messages(telemetry, stream)
        assert "".join(parts) == text
        assert max(map(len, parts)) <= MAX_LINE
    writer.close()


def test_bytes_that_are_no_text_are_replaced(folder: Path, telemetry: sqlite3.Connection) -> None:
    """Invalid UTF-8, lone surrogates and control bytes get through without an exception."""
    writer = SpoolWriter(folder, 1, 1)
    os.write(writer.out_fd, b"\xff\xfe caf\xc3\xa9 \x00\x1b[31m\n")
    writer.record(5, 1, None, 20, "lo\udc80gger", "log", "x\ud800y")
    drain(folder, telemetry, 1, 1)
    assert _messages(telemetry, "stdout") == ["\ufffd\ufffd café \x00\x1b[31m"]
    assert _messages(telemetry, "log") == ["x?y"]
    writer.close()


@pytest.mark.parametrize(
    "foreign",
    [
        b"no json", b"{}", b"[1,2]", b"null", b"7", b'[1,1,null,20,"a","nowhere","m"]',
        b'["x",1,null,20,"a","log","m"]',
        b"[1,1,null,20,7,\"log\",\"m\"]", b'[1,1,1.5,20,"a","log","m"]', b'[1,1,null,20,"a","log",["m"]]', b"1,2",
        b'[99999999999999999999999,1,null,20,"a","log","m"]', b"[" * 5_000, b"\xff", b'[1,1,null,20,"a",["log"],"m"]',
    ],
)  # fmt: skip
def test_a_foreign_line_among_records_stops_nothing(
    folder: Path, telemetry: sqlite3.Connection, foreign: bytes
) -> None:
    """It is stored as text, and everything around it as it should be."""
    writer = SpoolWriter(folder, 1, 1)
    writer.record(5, 1, None, 20, "flow", "log", "before")
    os.write(writer.record_fd, foreign + b"\n")
    writer.record(6, 1, None, 20, "flow", "log", "after")
    assert drain(folder, telemetry, 1, 1) == 3
    rows = _lines(telemetry)
    assert [row.message for row in (rows[0], rows[2])] == ["before", "after"]
    assert (rows[1].logger, rows[1].message) == ("spool", foreign.decode("utf-8", "replace"))
    writer.close()


def test_a_full_disk_makes_records_wait(
    folder: Path, telemetry: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record cut off by a full disk is written again when there is room: once in the log, whole."""
    writer = SpoolWriter(folder, 1, 1)
    writer.record(5, 1, None, 20, "flow", "log", "before")
    answers: list[Any] = [17, OSError(errno.ENOSPC, "full"), 9]
    really_write = os.write

    def write(descriptor: int, data: bytes) -> int:
        if descriptor != writer.record_fd or not answers:
            return really_write(descriptor, data)
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            assert "the disk is full" in str(writer.trouble)
            raise answer
        return really_write(descriptor, data[:answer])

    monkeypatch.setattr(spool.os, "write", write)
    monkeypatch.setattr(spool, "FULL_DISK_PAUSE_SECONDS", (0.001,))
    writer.record(6, 1, None, 20, "flow", "log", "while full")
    writer.record(7, 1, None, 20, "flow", "log", "after")
    assert writer.trouble is None
    drain(folder, telemetry, 1, 1, final=True)
    assert _messages(telemetry) == ["before", "while full", "after"]
    writer.close()


def test_many_threads_and_children_write_whole_records(folder: Path, telemetry: sqlite3.Connection) -> None:
    """One write each: nobody's line is torn by another's."""
    writer = SpoolWriter(folder, 1, 1)

    def work(number: int) -> None:
        for count in range(200):
            writer.record(count, 1, number, 20, "flow", "log", f"{number}:{count}" + "x" * (number * 500))

    pid = os.fork()
    if pid == 0:
        work(9)
        os._exit(0)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.waitpid(pid, 0)
    drain(folder, telemetry, 1, 1)
    rows = _lines(telemetry)
    assert len(rows) == 1000
    for number in (0, 1, 2, 3, 9):
        counts = [row.at_us for row in rows if row.task_seq == number]
        assert counts == list(range(200))
    writer.close()


def test_an_emptied_file_is_read_from_its_start(folder: Path, telemetry: sqlite3.Connection) -> None:
    """Somebody's `> file` costs what it deleted, and nothing after."""
    writer = SpoolWriter(folder, 1, 1)
    os.write(writer.out_fd, b"a long first line\n")
    drain(folder, telemetry, 1, 1)
    os.truncate(spool_path(folder, 1, 1, "out"), 0)
    os.write(writer.out_fd, b"next\n")
    drain(folder, telemetry, 1, 1)
    assert _messages(telemetry) == ["a long first line", "next"]
    writer.close()


def test_several_drains_at_once_double_nothing(folder: Path) -> None:
    """The run itself, the supervisor and a reader may all drain: each line is stored once, in order."""
    writer = SpoolWriter(folder, 1, 1)
    stop = threading.Event()
    totals: list[int] = []

    def work() -> None:
        connection = connect(folder, "telemetry")
        total = 0
        while not stop.is_set():
            total += drain(folder, connection, 1, 1)
        totals.append(total)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for count in range(3_000):
        writer.record(count, 1, None, 20, "flow", "log", str(count))
        if count % 100 == 0:
            os.write(writer.out_fd, b"%d\n" % count)
    stop.set()
    for thread in threads:
        thread.join()
    connection = connect(folder, "telemetry")
    rest = drain(folder, connection, 1, 1)
    assert sum(totals) + rest == 3_030
    assert _messages(connection, "log") == [str(count) for count in range(3_000)]
    assert _messages(connection, "stdout") == [str(count) for count in range(0, 3_000, 100)]
    connection.close()
    writer.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=400).map(lambda data: data.replace(b"\r", b"")),
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
def test_however_output_arrives_its_lines_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cuts: list[int]
) -> None:
    """Drained after any piece of any bytes, the stored lines are those of the whole."""
    folder = tmp_path_factory.mktemp("spool") / "store"
    open_store(folder)
    telemetry = connect(folder, "telemetry")
    writer = SpoolWriter(folder, 1, 1)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
        os.write(writer.out_fd, data[start:end])
        drain(folder, telemetry, 1, 1)
    drain(folder, telemetry, 1, 1, final=True)
    expected = data.removesuffix(b"\n").split(b"\n") if data else []
    assert _messages(telemetry) == [line.decode("utf-8", "replace") for line in expected]
    writer.close()
    telemetry.close()


# ------------------------------------------------------------------------------------------ leftovers


def _left_behind(folder: Path, root_id: int, attempt: int = 1) -> None:
    writer = SpoolWriter(folder, root_id, attempt)
    writer.record(5, root_id, None, 20, "flow", "log", f"last words of {root_id}.{attempt}")
    os.write(writer.out_fd, b"cut of")
    writer.close()


def _end(state: sqlite3.Connection, run_id: int) -> None:
    with transaction(state):
        runs.transition(
            state, run_id, attempt=1, from_type="RUNNING", to=("CRASHED", "Crashed"), at_us=9, actor=ACTOR
        )


def test_what_dead_runs_left_is_stored_and_cleared(
    folder: Path, state: sqlite3.Connection, telemetry: sqlite3.Connection, make_run: MakeRun
) -> None:
    """Ended runs to the end; runs that may be about to start keep their files; a live one is not touched."""
    crashed, starting, alive = (make_run(state=("RUNNING", "Running")) for _ in range(3))
    _end(state, crashed)
    with transaction(state):
        leases.acquire(
            state,
            leases.this_process(folder, leases.run_owner(alive), actor=ACTOR, at_us=1, run_id=alive, attempt=1),
        )
    for run_id in (crashed, starting, alive):
        _left_behind(folder, run_id)
    assert drain_leftovers(folder) == 3
    assert [row.message for row in _lines(telemetry, crashed)] == ["last words of 1.1", "cut of"]
    assert [row.message for row in _lines(telemetry, starting)] == ["last words of 2.1"]
    assert _lines(telemetry, alive) == []
    kept = sorted(path.name for path in (folder / "spool").iterdir())
    assert kept == [f"{run_id}.1.{kind}" for run_id in (starting, alive) for kind in ("err", "out", "rec")]
    assert drain_leftovers(folder) == 0
    assert [entry[:2] for entry in spool.leftovers(folder)] == [(starting, 1), (alive, 1)]


def test_an_earlier_attempts_files_are_finished_while_the_next_one_runs(
    folder: Path, state: sqlite3.Connection, telemetry: sqlite3.Connection, make_run: MakeRun
) -> None:
    """A resumed run goes on logging behind what its killed attempt left."""
    run_id = make_run(state=("RUNNING", "Running"))
    _left_behind(folder, run_id, 1)
    _end(state, run_id)
    with transaction(state):
        runs.transition(
            state, run_id, attempt=1, from_type="CRASHED", to=("RUNNING", "Running"), at_us=9, actor=ACTOR,
            new_attempt=2,
        )  # fmt: skip
    assert drain_leftovers(folder) == 2
    second = SpoolWriter(folder, run_id, 2)
    second.record(9, run_id, None, 20, "flow", "log", "again")
    drain(folder, telemetry, run_id, 2)
    assert [(row.attempt, row.message) for row in _lines(telemetry, run_id)] == [
        (1, "last words of 1.1"), (1, "cut of"), (2, "again"),
    ]  # fmt: skip
    second.close()


def test_spools_of_deleted_runs_and_foreign_files(folder: Path, state: sqlite3.Connection) -> None:
    """A pruned run's files go; files that are no spools stay untouched."""
    _left_behind(folder, 77)
    (folder / "spool" / "notes.txt").write_text("mine")
    assert drain_leftovers(folder) == 0
    assert [path.name for path in (folder / "spool").iterdir()] == ["notes.txt"]


# ------------------------------------------------------------------------------------------ real kills

WRITE_UNTIL_KILLED = """
import os, sys, time
from flowdeck.store.spool import SpoolWriter
writer = SpoolWriter(sys.argv[1], 1, 1)
acknowledged = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
for count in range(10_000_000):
    writer.record(count, 1, None, 20, "flow", "log", f"record {count}")
    os.write(writer.out_fd, b"printed %d\\n" % count)
    os.pwrite(acknowledged, b"%d" % count, 0)
    if count % 50 == 0:
        time.sleep(0.001)
"""
DRAIN_UNTIL_KILLED = """
import sys
from flowdeck.store.connection import connect
from flowdeck.store.spool import drain
connection = connect(sys.argv[1], "telemetry")
print(flush=True)
while True:
    drain(sys.argv[1], connection, 1, 1)
"""


def test_kills_neither_lose_nor_double_a_line(folder: Path, tmp_path: Path, telemetry: sqlite3.Connection) -> None:
    """Draining processes are killed again and again, then the writing one: every acknowledged line is there once."""
    import random

    rounds = int(os.environ.get("FLOWDECK_CRASH_ROUNDS", "6"))
    randomness = random.Random(20240229)
    acknowledged = tmp_path / "acknowledged"
    writer = subprocess.Popen([sys.executable, "-c", WRITE_UNTIL_KILLED, str(folder), str(acknowledged)])
    for _ in range(rounds):
        drainer = subprocess.Popen(
            [sys.executable, "-c", DRAIN_UNTIL_KILLED, str(folder)], stdout=subprocess.PIPE
        )
        assert drainer.stdout is not None
        drainer.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            drainer.wait(randomness.uniform(0.001, 0.1))
        drainer.kill()
        drainer.communicate()
    writer.kill()
    writer.wait()
    last = int(acknowledged.read_text())
    drain(folder, telemetry, 1, 1, final=True)
    records, printed = _messages(telemetry, "log"), _messages(telemetry, "stdout")
    assert len(records) > last
    assert len(printed) > last
    assert records == [f"record {count}" for count in range(len(records))]
    assert printed == [f"printed {count}" for count in range(len(printed))]
    assert telemetry.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_several_at_the_end_of_a_run_store_its_lines_once(folder: Path) -> None:
    """Whoever finds a dead run drains its spool to the end and removes it, several at the same moment, too."""
    rounds = 60
    gate = threading.Barrier(4)
    failed: list[BaseException] = []

    def reap() -> None:
        connection = connect(folder, "telemetry")
        try:
            for attempt in range(1, rounds + 1):
                gate.wait(60)
                if threading.current_thread().name == "first":
                    writer = SpoolWriter(folder, 1, attempt)
                    os.write(writer.out_fd, b"".join(b"%d.%d\n" % (attempt, line) for line in range(40)) + b"rest")
                    writer.close()
                gate.wait(60)
                drain(folder, connection, 1, attempt, final=True)
        except BaseException as error:
            failed.append(error)
            gate.abort()
            raise
        finally:
            connection.close()

    threads = [threading.Thread(target=reap, name=name) for name in ("first", "second", "third", "fourth")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    telemetry = connect(folder, "telemetry")
    told = _messages(telemetry)
    assert len(told) == rounds * 41
    assert len({text for text in told if text != "rest"}) == rounds * 40
    assert telemetry.execute("SELECT count(*) FROM spool").fetchone() == (0,)
    assert list((folder / "spool").iterdir()) == []
    telemetry.close()


def test_what_another_drained_to_its_end_is_not_stored_again(folder: Path, telemetry: sqlite3.Connection) -> None:
    """Not even by one who had read it before, when neither the file nor its offset is there any more."""
    writer = SpoolWriter(folder, 1, 1)
    os.write(writer.out_fd, b"one\ntwo\n")
    read_before = Reading(folder, 1, 1, lambda name: spool._offset(telemetry, name), final=True).next()
    assert read_before is not None
    assert drain(folder, telemetry, 1, 1, final=True) == 2
    assert spool._store(telemetry, 1, read_before) is None
    read_before.close()
    assert _messages(telemetry) == ["one", "two"]
    writer.close()


def test_a_store_that_is_moved_keeps_lines_and_offsets_together(folder: Path, telemetry: sqlite3.Connection) -> None:
    """Who still has the database open finds nothing at the old place, and forgets nothing of what was stored."""
    writer = SpoolWriter(folder, 1, 1)
    os.write(writer.out_fd, b"one\n")
    assert drain(folder, telemetry, 1, 1) == 1
    away = folder.with_name("away")
    folder.rename(away)
    os.write(writer.out_fd, b"two\n")
    assert not writer.is_in_place()
    assert drain(folder, telemetry, 1, 1, final=True) == 0
    away.rename(folder)
    assert writer.is_in_place()
    assert drain(folder, telemetry, 1, 1, final=True) == 1
    assert _messages(telemetry) == ["one", "two"]
    writer.close()


DRAIN_TO_THE_END = """
import sys
from flowdeck.store.connection import connect
from flowdeck.store.spool import drain, drain_leftovers
connection = connect(sys.argv[1], "telemetry")
print(flush=True)
sys.stdin.readline()
for attempt in range(1, 6):
    drain(sys.argv[1], connection, 1, attempt, final=True)
"""


def test_twenty_processes_drain_a_dead_run_at_once(folder: Path, telemetry: sqlite3.Connection) -> None:
    """The daemon, listings and guards that find it in the same moment: records, raw output, unfinished lines once."""
    for attempt in range(1, 6):
        writer = SpoolWriter(folder, 1, attempt, whose=lambda: (1, 7))
        for number in range(0, 400, 2):
            writer.record(5, 1, 7, 20, "flow", "log", f"{attempt}.{number}")
            os.write(writer.out_fd, b"%d.%d\n" % (attempt, number + 1))
        writer.show([record(5, 1, 7, 20, "stdout", "stdout", f"{attempt}.400")])
        writer.close()
    drains = [
        subprocess.Popen([sys.executable, "-c", DRAIN_TO_THE_END, str(folder)], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(20)
    ]  # fmt: skip
    for drainer in drains:
        assert drainer.stdout is not None
        drainer.stdout.readline()
    for drainer in drains:
        assert drainer.stdin is not None
        drainer.stdin.write("\n")
        drainer.stdin.flush()
    for drainer in drains:
        _, said = drainer.communicate(timeout=120)
        assert drainer.returncode == 0, said
    assert sorted(_messages(telemetry)) == sorted(f"{one}.{number}" for one in range(1, 6) for number in range(401))
    for attempt in range(1, 6):
        lines = [row for row in _lines(telemetry) if row.attempt == attempt]
        assert [row.message for row in lines] == [f"{attempt}.{number}" for number in range(401)]
        assert {row.task_seq for row in lines[:-2]} == {7}
    assert list((folder / "spool").iterdir()) == []


def test_raw_output_stands_between_the_records_it_was_written_between(
    folder: Path, telemetry: sqlite3.Connection
) -> None:
    """However much it is: a mark that a piece does not reach is read again with the next."""
    writer = SpoolWriter(folder, 1, 1, whose=lambda: (1, 3))
    expected = []
    for number in range(6):
        writer.record(5, 1, 3, 20, "flow", "log", f"record {number}")
        expected.append(f"record {number}")
        text = f"{number}" * 999
        for descriptor in (writer.out_fd, writer.err_fd):
            os.write(descriptor, (text.encode() + b"\n") * 1_200)
            expected += [text] * 1_200
    drain(folder, telemetry, 1, 1, live=True)
    shown = _messages(telemetry)
    assert shown == expected[: len(shown)]
    drain(folder, telemetry, 1, 1, final=True)
    assert _messages(telemetry) == expected
    writer.close()


def test_a_bar_of_another_program_is_seen_as_it_is_now(folder: Path, telemetry: sqlite3.Connection) -> None:
    """While it is drawn, and for hours: nothing is stored of it until its line ends, nor twice."""
    writer = SpoolWriter(folder, 1, 1)
    os.write(writer.out_fd, b"before\n" + b"".join(b"\r%3d%% of it" % (number % 101) for number in range(20_000)))
    assert drain(folder, telemetry, 1, 1) == 1
    drain(folder, telemetry, 1, 1)
    assert [row.message for row in spool.unfinished_lines(folder, telemetry, 1, 1)] == [f"{19_999 % 101:3}% of it"]
    os.write(writer.out_fd, b"\r100% done!\n")
    drain(folder, telemetry, 1, 1)
    assert spool.unfinished_lines(folder, telemetry, 1, 1) == []
    os.write(writer.err_fd, b"\r 50%")
    drain(folder, telemetry, 1, 1, final=True)
    assert [(row.message, row.level) for row in _lines(telemetry)] == [
        ("before", 20), ("100% done!", 20), (" 50%", 20),
    ]  # fmt: skip
    writer.close()
