from __future__ import annotations

import gc
import itertools
import os
import shutil
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flowdeck.store import growing_log
from flowdeck.store import writer as writer_module
from flowdeck.store.checkpoint import AFFECTED, checkpoint, wal_size
from flowdeck.store.connection import connect, database_path
from flowdeck.store.errors import StaleState, StoreCorrupt, StoreError, StoreFull, StoreMissing
from flowdeck.store.opening import open_store
from flowdeck.store.writer import Writer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Operation = Callable[[sqlite3.Connection], Any]


def _wait(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.001)


def _insert(name: str) -> Operation:
    def operation(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO flow VALUES (?, NULL, 1)", (name,))
        return name

    return operation


def _stored(folder: Path) -> list[str]:
    connection = connect(folder, "state", readonly=True)
    try:
        return [row[0] for row in connection.execute("SELECT name FROM flow ORDER BY rowid")]
    finally:
        connection.close()


@pytest.fixture
def writer(folder: Path) -> Iterator[Writer]:
    made = Writer(folder)
    yield made
    made.close()


def test_commit_returns_the_value_once_it_is_durable(folder: Path, writer: Writer) -> None:
    """When commit() returns, another connection sees the row."""
    assert writer.commit(_insert("a")) == "a"
    assert _stored(folder) == ["a"]


def test_commit_raises_the_operations_own_error_and_keeps_nothing_of_it(folder: Path, writer: Writer) -> None:
    """The same exception object comes back; the writer goes on."""
    stale = StaleState("elsewhere")

    def failing(connection: sqlite3.Connection) -> None:
        _insert("half")(connection)
        raise stale

    with pytest.raises(StaleState) as caught:
        writer.commit(failing)
    assert caught.value is stale
    with pytest.raises(sqlite3.IntegrityError):
        writer.commit(lambda connection: connection.execute("INSERT INTO flow VALUES ('x', NULL, NULL)"))
    writer.commit(_insert("next"))
    assert _stored(folder) == ["next"]
    assert writer.trouble is None


class _Gate:
    """Holds the writer's thread inside an operation, so that what follows forms one group."""

    def __init__(self, writer: Writer) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        writer.submit(self._wait, lambda value, error: None)
        assert self.entered.wait(10)

    def _wait(self, _: sqlite3.Connection) -> None:
        self.entered.set()
        assert self.open.wait(10)


def test_one_poisoned_operation_fails_alone(folder: Path, writer: Writer) -> None:
    """Its neighbours in the group are stored, in their order, and acknowledged without error."""
    gate = _Gate(writer)
    told: list[tuple[Any, BaseException | None]] = []
    for name in "abcde":
        operation: Operation = _insert(name)
        if name == "c":
            operation = lambda connection: connection.execute("INSERT INTO nowhere VALUES (1)")  # noqa: E731
        writer.submit(operation, lambda value, error: told.append((value, error)))
    gate.open.set()
    writer.flush()
    assert _stored(folder) == ["a", "b", "d", "e"]
    assert [value for value, _ in told] == ["a", "b", None, "d", "e"]
    assert [type(error) for _, error in told] == [type(None)] * 2 + [sqlite3.OperationalError] + [type(None)] * 2


def test_even_baseexceptions_of_an_operation_do_not_end_the_thread(folder: Path, writer: Writer) -> None:
    """Whatever user code raises goes to its caller only."""

    def leaving(_: sqlite3.Connection) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        writer.commit(leaving)
    writer.commit(_insert("a"))
    assert _stored(folder) == ["a"]


def test_callbacks_run_on_the_writers_thread_after_the_commit(folder: Path, writer: Writer) -> None:
    """A callback sees its own row from another connection, and may hand over more work."""
    seen: list[tuple[str, list[str]]] = []
    finished = threading.Event()

    def done(value: str | None, error: BaseException | None) -> None:
        seen.append((threading.current_thread().name, _stored(folder)))
        writer.submit(_insert("b"), lambda *_: finished.set())

    writer.submit(_insert("a"), done)
    assert finished.wait(10)
    assert seen == [("flowdeck-writer-state", ["a"])]
    assert _stored(folder) == ["a", "b"]


def test_a_failing_callback_is_logged_and_harms_nobody(
    folder: Path, writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    """The thread lives on; the text names the file."""

    def done(*_: object) -> None:
        raise ValueError("in a callback")

    writer.submit(_insert("a"), done)
    writer.commit(_insert("b"))
    assert _stored(folder) == ["a", "b"]
    assert "a callback of the writer" in caplog.text


def test_a_failed_write_nobody_waited_for_is_logged(writer: Writer, caplog: pytest.LogCaptureFixture) -> None:
    """soon() swallows nothing."""
    writer.soon(lambda connection: connection.execute("INSERT INTO nowhere VALUES (1)"))
    writer.flush()
    assert "nowhere" in caplog.text


def test_commit_inside_the_writers_thread_is_refused(writer: Writer) -> None:
    """It would wait for itself for ever."""
    errors: list[BaseException] = []

    def done(*_: object) -> None:
        try:
            writer.commit(_insert("b"))
        except RuntimeError as error:
            errors.append(error)

    writer.submit(_insert("a"), done)
    writer.flush()
    assert "use submit() or soon()" in str(errors[0])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plan=st.lists(st.sampled_from(["soon", "submit", "commit", "poison soon", "poison submit", "poison commit"]),
                  max_size=40),
    max_group=st.integers(1, 8),
    linger=st.sampled_from([0.0, 0.002]),
)  # fmt: skip
def test_order_is_kept_and_only_the_poisoned_fail(
    tmp_path_factory: pytest.TempPathFactory, plan: list[str], max_group: int, linger: float
) -> None:
    """Any mix of soon, submit and commit, good and bad, in any grouping: good ones are stored once, in order."""
    folder = tmp_path_factory.mktemp("order") / "store"
    open_store(folder)
    writer = Writer(folder, linger_seconds=linger, max_group=max_group)
    good: list[str] = []
    told: list[int] = []
    writer_module.logger.disabled = True
    try:
        for number, step in enumerate(plan):
            name = f"{number:03d}"

            def operation(connection: sqlite3.Connection, name: str = name, step: str = step) -> None:
                _insert(name)(connection)
                if step.startswith("poison"):
                    raise StaleState(name)

            if not step.startswith("poison"):
                good.append(name)
            match step.split()[-1]:
                case "soon":
                    writer.soon(operation)
                case "submit":
                    writer.submit(operation, lambda value, error, number=number: told.append(number))
                case _:
                    if step.startswith("poison"):
                        with pytest.raises(StaleState, match=name):
                            writer.commit(operation)
                    else:
                        writer.commit(operation)
                    assert _stored(folder) == good  # all that came before is durable too
        writer.close()
    finally:
        writer_module.logger.disabled = False
    assert _stored(folder) == good
    assert told == [number for number, step in enumerate(plan) if step.endswith("submit")]


def test_threads_each_keep_their_order(folder: Path, writer: Writer) -> None:
    """Eight threads at once: everything is stored, and each thread's rows stand in its own order."""

    def work(thread: int) -> None:
        for number in range(60):
            name = f"{thread}/{number:03d}"
            if number % 3 == 0:
                assert writer.commit(_insert(name)) == name
            elif number % 3 == 1:
                writer.soon(_insert(name))
            else:
                writer.submit(_insert(name), lambda value, error: None)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.flush()
    stored = _stored(folder)
    assert len(stored) == 480
    for number in range(8):
        mine = [name for name in stored if name.startswith(f"{number}/")]
        assert mine == sorted(mine)


def test_soon_lingers_but_a_commit_does_not_wait_for_it(folder: Path) -> None:
    """A group of telemetry waits for company; the first that somebody waits for takes it along at once."""
    writer = Writer(folder, linger_seconds=30)
    writer.soon(_insert("a"))
    _wait(lambda: writer._lingering)
    assert _stored(folder) == []
    writer.commit(_insert("b"))
    assert _stored(folder) == ["a", "b"]
    writer.soon(_insert("c"))
    _wait(lambda: writer._lingering)
    writer.close()  # nor does closing wait
    assert _stored(folder) == ["a", "b", "c"]


def test_a_full_group_of_telemetry_does_not_linger(folder: Path) -> None:
    """max_group operations are company enough."""
    writer = Writer(folder, linger_seconds=30, max_group=4)
    for name in "abcd":
        writer.soon(_insert(name))
    _wait(lambda: len(_stored(folder)) == 4)
    writer.close()


def test_a_full_queue_holds_callers_back(folder: Path) -> None:
    """The queue never grows over its bound by more than the callers at the door; nothing is dropped."""
    writer = Writer(folder, max_queue=10, max_group=3)
    gate = _Gate(writer)
    handed_over = itertools.count()
    through = 0

    def flood() -> None:
        nonlocal through
        for _ in range(100):
            writer.soon(_insert(f"{next(handed_over):03d}"))
            through += 1

    thread = threading.Thread(target=flood)
    thread.start()
    _wait(lambda: writer._room_wanted == 1)
    assert through == 10
    assert writer.queued == 10
    gate.open.set()
    thread.join(20)
    writer.close()
    assert len(_stored(folder)) == 100


def test_a_callback_may_hand_over_to_a_full_queue(folder: Path) -> None:
    """The thread that makes room is never made to wait for room."""
    writer = Writer(folder, max_queue=2)
    gate = _Gate(writer)
    writer.submit(_insert("a"), lambda *_: [writer.soon(_insert(f"b{number}")) for number in range(10)])
    gate.open.set()
    writer.flush()
    writer.close()
    assert len(_stored(folder)) == 11


def test_a_locked_file_is_waited_for_and_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process holds the write lock: trouble says so, and the operation happens when it lets go."""
    monkeypatch.setattr(writer_module, "LOCK_WAIT_SECONDS", 0.02)
    writer = Writer(folder)
    blocker = connect(folder, "state")
    blocker.execute("BEGIN IMMEDIATE")
    told: list[BaseException | None] = []
    writer.submit(_insert("a"), lambda value, error: told.append(error))
    _wait(lambda: writer.trouble)
    assert "locked" in str(writer.trouble)
    assert told == []
    blocker.execute("ROLLBACK")
    _wait(lambda: told)
    assert told == [None]
    assert writer.trouble is None
    writer.close()
    blocker.close()
    assert _stored(folder) == ["a"]


def test_closing_with_a_timeout_gives_up_and_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written fails with the reason: nobody is left waiting, nothing is silently dropped."""
    monkeypatch.setattr(writer_module, "LOCK_WAIT_SECONDS", 0.02)
    writer = Writer(folder)
    blocker = connect(folder, "state")
    blocker.execute("BEGIN IMMEDIATE")
    told: list[BaseException | None] = []
    writer.submit(_insert("a"), lambda value, error: told.append(error))
    with pytest.raises(StoreError, match="locked"):
        writer.close(timeout_seconds=0.1)
    assert isinstance(told[0], StoreError)
    blocker.close()


def _full_disk(connection: sqlite3.Connection, pages: int = 1) -> None:
    """The database may not grow: what a full disk looks like to SQLite."""
    used = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count={used + pages}")


def test_a_full_disk_stops_writing_and_loses_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Everything waits, trouble says why, and all of it is stored in order when there is room again."""
    writer = Writer(folder)
    writer.commit(_full_disk)
    names = [f"{number:02d}" + "x" * 3000 for number in range(12)]
    told: list[BaseException | None] = []
    for name in names:
        writer.submit(_insert(name), lambda value, error: told.append(error))
    _wait(lambda: writer.trouble)
    assert "the disk is full" in str(writer.trouble)
    assert str(folder) in str(writer.trouble)
    stored_meanwhile = len(_stored(folder))
    assert stored_meanwhile < 12
    connection = writer._connection
    assert connection is not None
    connection.execute("PRAGMA max_page_count=1000000")
    writer.flush()
    assert writer.trouble is None
    assert _stored(folder) == names
    assert told == [None] * 12
    writer.close()
    assert "can be written again" in caplog.text


def test_a_full_disk_found_by_one_operation_alone_is_not_its_fault(folder: Path) -> None:
    """A single commit() waits too instead of failing."""
    writer = Writer(folder)
    writer.commit(_full_disk)
    results: list[str] = []
    thread = threading.Thread(target=lambda: results.append(writer.commit(_insert("y" * 20_000))))
    thread.start()
    _wait(lambda: writer.trouble)
    assert writer._connection is not None
    writer._connection.execute("PRAGMA max_page_count=1000000")
    thread.join(10)
    assert results == ["y" * 20_000]
    writer.close()


def test_a_store_that_is_not_there_fails_at_once(tmp_path: Path) -> None:
    """Waiting would not bring it back: the typed error goes to the caller."""
    writer = Writer(tmp_path / "none")
    with pytest.raises(StoreMissing):
        writer.commit(_insert("a"))
    assert "not found" in str(writer.trouble)
    with pytest.raises(StoreMissing):
        writer.commit(_insert("a"))


def test_a_damaged_file_fails_at_once(folder: Path) -> None:
    """No retry, no overwriting."""
    path = folder / "state.db"
    path.write_bytes(b"not a database" * 1000)
    writer = Writer(folder)
    with pytest.raises(StoreCorrupt, match="left as it is"):
        writer.commit(_insert("a"))
    assert path.read_bytes() == b"not a database" * 1000


def test_a_store_removed_in_use_is_noticed(folder: Path) -> None:
    """Who writes into files without a name is told within some thousandths of a second."""
    writer = Writer(folder)
    writer.commit(_insert("a"))
    shutil.rmtree(folder)
    time.sleep(growing_log.LOOK_SECONDS)
    with pytest.raises(StoreMissing, match="removed or moved away"):
        writer.commit(_insert("b"))
    with pytest.raises(StoreMissing):
        writer.commit(_insert("c"))
    open_store(folder)
    writer.commit(_insert("d"))  # a new one is taken up
    assert writer.trouble is None
    writer.close()
    assert _stored(folder) == ["d"]


def test_nothing_is_handed_over_after_close(folder: Path) -> None:
    """A closed writer refuses; closing twice, or without use, is fine."""
    writer = Writer(folder)
    writer.commit(_insert("a"))
    writer.close()
    writer.close()
    with pytest.raises(StoreError, match="closed"):
        writer.soon(_insert("b"))
    Writer(folder).close()


def test_an_interrupted_wait_loses_nothing(folder: Path, writer: Writer) -> None:
    """An exception raised into a thread that waits in commit() ends the wait, not the operation."""
    import ctypes

    gate = _Gate(writer)
    outcome: list[type[BaseException]] = []

    def work() -> None:
        try:
            writer.commit(_insert("a"))
        except KeyError as error:
            outcome.append(type(error))

    thread = threading.Thread(target=work)
    thread.start()
    _wait(lambda: writer.queued == 1)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(KeyError))
    gate.open.set()
    thread.join(10)
    writer.flush()
    assert outcome == [KeyError]
    assert _stored(folder) == ["a"]
    writer.commit(_insert("b"))


def test_a_writer_from_before_a_fork_is_refused(folder: Path) -> None:
    """One that was not used yet could be used by both; one in use has no thread in the child."""
    unused, used = Writer(folder), Writer(folder)
    used.commit(_insert("a"))
    pid = os.fork()
    if pid == 0:
        refused = 0
        for inherited in (unused, used):
            try:
                inherited.commit(_insert("b"))
            except RuntimeError:
                refused += 1
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2
    used.close()


def test_values_are_not_kept_alive(writer: Writer) -> None:
    """Once acknowledged, neither operation nor value stays referenced by the idle writer."""

    class Value:
        pass

    references: list[weakref.ref[Value]] = []

    def operation(_: sqlite3.Connection) -> Value:
        value = Value()
        references.append(weakref.ref(value))
        return value

    writer.submit(operation, lambda *_: None)
    writer.flush()
    [reference] = references
    _wait(lambda: gc.collect() >= 0 and reference() is None)


# ------------------------------------------------------------------------------------------ checkpoints


@pytest.mark.skipif(not AFFECTED, reason="this SQLite checkpoints by itself, safely")
def test_the_log_is_moved_when_it_has_grown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a bound of 64 KiB, writing megabytes leaves a log near the bound."""
    for module in ("flowdeck.store.connection", "flowdeck.store.growing_log"):
        monkeypatch.setattr(f"{module}.LOG_BYTES", {"state": 64 * 1024, "telemetry": 64 * 1024})
    monkeypatch.setattr(growing_log, "LOOK_SECONDS", 0.0)
    writer = Writer(folder)
    for number in range(300):
        writer.commit(_insert(f"{number:04d}" + "x" * 5_000))
    path = database_path(folder, "state")
    assert wal_size(path) < 256 * 1024
    assert os.path.getsize(path) > 1024 * 1024
    writer.close()
    assert len(_stored(folder)) == 300


@pytest.mark.skipif(not AFFECTED, reason="this SQLite checkpoints by itself, safely")
def test_a_reader_in_the_way_delays_a_checkpoint_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer goes on meanwhile, and the log shrinks once the reader is gone."""
    for module in ("flowdeck.store.connection", "flowdeck.store.growing_log"):
        monkeypatch.setattr(f"{module}.LOG_BYTES", {"state": 64 * 1024, "telemetry": 64 * 1024})
    monkeypatch.setattr(growing_log, "CHECKPOINT_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(growing_log, "LOOK_SECONDS", 0.0)
    writer = Writer(folder)
    writer.commit(_insert("first"))
    reader = connect(folder, "state", readonly=True)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM flow").fetchone()
    for number in range(100):
        writer.commit(_insert(f"{number:04d}" + "x" * 5_000))
    grown = wal_size(database_path(folder, "state"))
    assert grown > 256 * 1024
    reader.execute("ROLLBACK")
    reader.close()
    for number in range(3):
        writer.commit(_insert(f"after {number}"))
    assert wal_size(database_path(folder, "state")) < grown
    writer.close()


def test_a_checkpoint_keeps_everybody_elses_commits_out(folder: Path) -> None:
    """While pages move the write lock is held; it is given back afterwards, also when it could not be had."""
    first, second, other = (connect(folder, "state") for _ in range(3))
    first.execute("INSERT INTO flow VALUES ('a', NULL, 1)")
    result = checkpoint(first, second)
    assert result.ran
    assert result.log_pages == result.moved_pages > 0
    assert not first.in_transaction
    first.execute("PRAGMA busy_timeout=0")
    other.execute("BEGIN IMMEDIATE")
    assert not checkpoint(first, second).ran
    other.execute("ROLLBACK")
    for connection in (first, second, other):
        connection.close()


def test_disk_errors_are_tried_a_few_times_then_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Input/output errors are neither waited out for ever nor taken for the operation's fault."""
    monkeypatch.setattr(writer_module, "RETRY_SECONDS", (0.001,))
    writer = Writer(folder)
    runs = 0

    def broken(_: sqlite3.Connection) -> None:
        nonlocal runs
        runs += 1
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
        error.sqlite_errorname = "SQLITE_IOERR_WRITE"
        raise error

    with pytest.raises(StoreError, match="the disk does not read or write") as caught:
        writer.commit(broken)
    assert not isinstance(caught.value, StoreFull)
    assert runs == writer_module.DISK_ERROR_TRIES
    writer.commit(_insert("a"))
    assert writer.trouble is None
    writer.close()
