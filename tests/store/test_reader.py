from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flowdeck.store.changes import MAX_EVENTS, ChangeFeed
from flowdeck.store.connection import connect, transaction
from flowdeck.store.errors import StoreCorrupt, StoreMissing
from flowdeck.store.opening import open_store
from flowdeck.store.reader import Reader
from flowdeck.store.rows import LogRow, MetricRow, TaskRow
from flowdeck.store.tables import leases, logs, metrics, runs, tasks

from .conftest import ACTOR

MakeRun = Callable[..., int]
MakeTask = Callable[..., TaskRow]
RUNNING = ("RUNNING", "Running")


@pytest.fixture
def reader(folder: Path) -> Iterator[Reader]:
    with Reader(folder) as made:
        yield made


def _log(root_id: int, line: int, message: str = "", **changes: object) -> LogRow:
    row = LogRow(root_id, line, root_id, None, 1, 1_000 + line, 20, "flow", "log", message or f"line {line}")
    return row._replace(**changes)


def test_an_empty_store_reads_as_empty(reader: Reader) -> None:
    """Every question has an answer before anything ever ran."""
    assert reader.runs() == reader.live_runs() == reader.children(1) == []
    assert reader.tasks(1) == reader.edges(1) == reader.events() == reader.artifacts(1) == reader.metrics(1) == []
    assert reader.flows() == reader.deployments() == reader.schedules() == reader.problems() == reader.leases() == []
    assert reader.run(1) is reader.find("@last") is reader.find_task("1/1") is reader.result(1, 1) is None
    assert reader.daemon() is reader.lease_of(1) is None
    assert reader.run_counts() == reader.task_counts(1) == {}
    assert reader.last_event_id() == reader.log_count(1) == 0
    assert reader.logs(1, 0, 10) == []
    assert reader.search_logs(1, pattern="x") == ([], 0, True)


def test_runs_are_listed_newest_first_and_filtered(reader: Reader, make_run: MakeRun) -> None:
    """By flow, state types, age and text; subflows only when asked for."""
    ids = [make_run(flow_name=f"flow-{number % 2}", name=f"name-{number}", state=RUNNING) for number in range(6)]
    failed = make_run(state=("FAILED", "Failed"), cause="100% broken_pipe")
    make_run(parent_run_id=ids[0], parent_seq=1, root_id=ids[0])
    assert [run.id for run in reader.runs()] == [failed, *reversed(ids)]
    assert len(reader.runs(roots_only=False)) == 8
    assert [run.id for run in reader.runs(flow="flow-1")] == [6, 4, 2]
    assert [run.id for run in reader.runs(flow="flow-1", before_id=6, limit=1)] == [4]
    assert [run.id for run in reader.runs(states=["FAILED", "RUNNING"], limit=2)] == [failed, 6]
    assert [run.id for run in reader.runs(states=["CRASHED"])] == []
    assert [run.id for run in reader.runs(states=[])] == []
    assert [run.id for run in reader.runs(search="name-3")] == [4]
    assert [run.id for run in reader.runs(search="100% broken_p")] == [failed]
    assert [run.id for run in reader.runs(search="0_b")] == []  # no wildcard
    assert [run.id for run in reader.runs(search="#5")] == [5]
    assert reader.run_counts() == {"RUNNING": 6, "FAILED": 1, "PENDING": 1}
    assert [run.id for run in reader.live_runs()] == [*ids, 8]
    assert [run.id for run in reader.children(ids[0])] == [8]


def test_runs_are_found_by_what_people_call_them(reader: Reader, make_run: MakeRun) -> None:
    """Number, #number, name (the newest of that name), @last, @failed."""
    make_run(name="nightly")
    again = make_run(name="nightly")
    crashed = make_run(state=("CRASHED", "Crashed"))
    last = make_run()
    make_run(parent_run_id=last, parent_seq=1, root_id=last)

    def found(reference: str) -> int | None:
        run = reader.find(reference)
        return run.id if run else None

    assert [found(reference) for reference in ("1", "#1", " 1 ", "nightly", "@last", "@failed")] == [
        1, 1, 1, again, last, crashed,
    ]  # fmt: skip
    assert [found(reference) for reference in ("99", "#", "", "@never", "9" * 40, "-1", "nightl")] == [None] * 7


def test_tasks_are_found_by_what_people_call_them(
    reader: Reader, state: sqlite3.Connection, make_run: MakeRun, make_task: MakeTask
) -> None:
    """Number, name, key, place in a map or among the calls."""
    run_id = make_run(name="nightly", state=RUNNING)
    with transaction(state):
        tasks.begin(state, make_task(run_id, seq=1, key="load", call_index=0, name="load-0"), 1, ACTOR)
        tasks.begin(state, make_task(run_id, seq=2, key="load", call_index=1, name="load-1"), 1, ACTOR)
        for index in range(3):
            row = make_task(run_id, seq=3 + index, key="clean", call_index=index, map_group=0, map_index=index,
                            name=f"clean-{index}")  # fmt: skip
            tasks.begin(state, row, 1, ACTOR)
        tasks.begin(state, make_task(run_id, seq=6, key="odd", call_index=0, name="odd[7]"), 1, ACTOR)

    def found(reference: str) -> int | None:
        task = reader.find_task(reference)
        return task.seq if task else None

    references = ("1/2", "#1/2", "nightly/2", "@last/2", "1/load-0", "1/load", "1/load[0]", "1/clean[2]", "1/odd[7]")
    assert [found(reference) for reference in references] == [2, 2, 2, 2, 1, 2, 1, 5, 6]
    assert [found(reference) for reference in ("1", "1/", "/1", "9/1", "1/99", "1/none", "1/clean[9]")] == [None] * 7
    assert found(f"1/{'9' * 30}") is None
    assert found(f"1/load[{'9' * 30}]") is None
    assert [row.seq for row in reader.tasks_changed(run_id, [5, 1])] == [1, 5]
    assert reader.task_counts(run_id) == {RUNNING: 6}


def test_only_a_live_daemon_is_the_daemon(reader: Reader, state: sqlite3.Connection) -> None:
    """A lease left by a dead one is listed, but is not it."""
    mine = leases.this_process(reader.folder, "daemon", actor=ACTOR, at_us=1)
    with transaction(state):
        leases.acquire(state, mine)
    assert reader.daemon() == mine
    with transaction(state):
        state.execute("UPDATE lease SET boot_id = 'earlier'")
    assert reader.daemon() is None
    assert len(reader.leases()) == 1


def test_metrics_are_those_of_the_run_or_task(reader: Reader, telemetry: sqlite3.Connection) -> None:
    """In the order they were measured."""
    values = [MetricRow(1, None, 1, "rows", 5.0), MetricRow(1, 2, 2, "rows", 7.5), MetricRow(2, 2, 2, "rows", 1.0)]
    with transaction(telemetry):
        metrics.append(telemetry, values)
    assert reader.metrics(1) == values[:2]
    assert reader.metrics(1, 2) == values[1:2]


# ------------------------------------------------------------------------------------------ logs


def test_pages_of_lines(reader: Reader, telemetry: sqlite3.Connection) -> None:
    """Any page of any run, and the count."""
    with transaction(telemetry):
        logs.append(telemetry, [_log(root, line) for root in (1, 2) for line in range(100)])
    assert [row.line for row in reader.logs(1, 40, 3)] == [40, 41, 42]
    assert [row.line for row in reader.logs(2, 98, 30)] == [98, 99]
    assert reader.logs(1, 100, 30) == reader.logs(3, 0, 30) == []
    assert reader.log_count(1) == 100
    assert logs.next_line(telemetry, 3) == 0


def _search_all(reader: Reader, scan: int, **filters: object) -> list[int]:
    lines: list[int] = []
    line = 0
    for _ in range(1_000):
        page = reader.search_logs(1, from_line=line, scan=scan, limit=3, **filters)  # type: ignore[arg-type]
        assert page.next_line > line or page.done
        lines += [row.line for row in page.rows]
        line = page.next_line
        if page.done:
            return lines
    pytest.fail("the search does not come to its end")


@pytest.mark.parametrize("scan", [1, 7, 1_000])
def test_a_search_in_steps_finds_what_one_look_would(
    reader: Reader, telemetry: sqlite3.Connection, scan: int
) -> None:
    """Whatever the step, every line that fits is found once, in order."""
    rows = [
        _log(1, line, level=20 + 10 * (line % 3), task_seq=line % 4 or None, run_id=1 + line % 2) for line in range(50)
    ]
    special = {7: "100% Done_", 8: "100x done", 9: "ÄRGER", 10: "ärger"}
    rows = [row._replace(message=special.get(row.line, row.message)) for row in rows]
    with transaction(telemetry):
        logs.append(telemetry, rows)
    assert _search_all(reader, scan) == list(range(50))
    assert _search_all(reader, scan, min_level=40) == [line for line in range(50) if line % 3 == 2]
    assert _search_all(reader, scan, task_seq=2, run_id=1) == [line for line in range(50) if line % 4 == 2]
    assert _search_all(reader, scan, pattern="done") == [7, 8]  # no capital: any case
    assert _search_all(reader, scan, pattern="Done") == [7]
    assert _search_all(reader, scan, pattern="100%") == [7]  # no wildcard
    assert _search_all(reader, scan, pattern="e_") == [7]
    assert _search_all(reader, scan, pattern="ärger") == [9, 10]
    assert _search_all(reader, scan, pattern="Ärger") == []
    assert _search_all(reader, scan, pattern="line 4", min_level=30) == [
        line for line in (4, *range(40, 50)) if line % 3
    ]
    assert _search_all(reader, scan, pattern=re.compile(r"^line \d$")) == [0, 1, 2, 3, 4, 5, 6]


def test_a_search_goes_on_with_what_was_stored_since(reader: Reader, telemetry: sqlite3.Connection) -> None:
    """Done means done for now: the next line is where a tail goes on."""
    with transaction(telemetry):
        logs.append(telemetry, [_log(1, line) for line in range(5)])
    page = reader.search_logs(1, pattern="line")
    assert (len(page.rows), page.next_line, page.done) == (5, 5, True)
    assert reader.search_logs(1, pattern="line", from_line=5) == ([], 5, True)
    assert reader.search_logs(1, from_line=500) == ([], 500, True)
    with transaction(telemetry):
        logs.append(telemetry, [_log(1, 5)])
    assert [row.line for row in reader.search_logs(1, pattern="line", from_line=5).rows] == [5]


@pytest.mark.parametrize(
    "statement", [logs.SELECT_PAGE, logs.SELECT_NEXT_LINE], ids=["page", "next line"]
)
def test_log_reads_go_straight_to_their_lines(telemetry: sqlite3.Connection, statement: str) -> None:
    """No scan and no sorting, so a page costs the same in ten lines and in ten million."""
    plan = " ".join(
        row[3] for row in telemetry.execute(f"EXPLAIN QUERY PLAN {statement}", (1,) * statement.count("?"))
    )
    assert "SEARCH log USING PRIMARY KEY" in plan
    assert "TEMP B-TREE" not in plan


def test_listings_use_an_index_for_every_filter(state: sqlite3.Connection) -> None:
    """A rare state or flow is found at once among a million runs; nothing is sorted."""
    traced: list[str] = []
    state.set_trace_callback(traced.append)
    runs.listing(state, flow="a")
    runs.listing(state, states=["FAILED"])
    runs.listing(state, before_id=5)
    runs.live(state)
    state.set_trace_callback(None)
    for statement in traced:
        plan = " ".join(row[3] for row in state.execute(f"EXPLAIN QUERY PLAN {statement}"))
        assert "SCAN" not in plan or "flow_run_live" in plan, statement
        assert "TEMP B-TREE" not in plan or "flow_run_live" in plan, statement  # the live ones are few


# ------------------------------------------------------------------------------------------ living with writers


def test_a_reader_sees_each_commit_and_holds_nobody_up(
    folder: Path, reader: Reader, state: sqlite3.Connection, make_run: MakeRun
) -> None:
    """No transaction stays open between calls: a checkpoint can always take everything."""
    for number in range(1, 4):
        make_run()
        assert len(reader.runs()) == number
        assert not reader._state.in_transaction
    busy, log_pages, moved = state.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    assert (busy, log_pages) == (0, moved)


def test_a_store_that_disappears_is_a_typed_error(folder: Path) -> None:
    """Opening it again says it is gone."""
    shutil.rmtree(folder)
    with pytest.raises(StoreMissing, match="no store at"):
        Reader(folder)
    with pytest.raises(StoreMissing):
        ChangeFeed(folder)


def test_damage_found_while_reading_is_a_typed_error(folder: Path, reader: Reader) -> None:
    """Not SQLite's own exception."""
    for file in ("state.db", "state.db-wal"):
        path = folder / file
        if path.exists():
            path.write_bytes(b"\xff" * path.stat().st_size)
    with pytest.raises(StoreCorrupt):
        reader.runs()


# ------------------------------------------------------------------------------------------ the change feed


def test_each_event_is_handed_out_once(folder: Path, make_run: MakeRun) -> None:
    """Only what came after the feed was made; nothing when nothing happened."""
    make_run()
    with ChangeFeed(folder) as feed:
        assert not feed.poll()
        make_run()
        make_run()
        assert [event.run_id for event in feed.poll().events] == [2, 3]
        assert not feed.poll()
        assert feed.cursor == 3


def test_a_stored_cursor_goes_on_where_it_was(folder: Path, make_run: MakeRun) -> None:
    """An exporter that was off gets everything since, in pieces."""
    make_run()
    with ChangeFeed(folder, cursor=0) as feed:
        assert [event.id for event in feed.poll().events] == [1]
    make_run()
    with ChangeFeed(folder, cursor=1) as feed:
        assert [event.id for event in feed.poll().events] == [2]


def test_a_flood_comes_in_pieces_without_a_gap(folder: Path, state: sqlite3.Connection) -> None:
    """More events than one poll hands out: the next polls go on although nothing new is written."""
    with ChangeFeed(folder) as feed:
        with transaction(state):
            state.executemany(
                "INSERT INTO event (at_us, kind, actor) VALUES (?, 'daemon', 'a')", [(1,)] * (MAX_EVENTS + 10)
            )
        assert len(feed.poll().events) == MAX_EVENTS
        assert len(feed.poll().events) == 10
        assert not feed.poll()


def test_lines_are_told_apart_from_events(folder: Path, telemetry: sqlite3.Connection) -> None:
    """A flood of lines is one flag."""
    with ChangeFeed(folder) as feed:
        with transaction(telemetry):
            logs.append(telemetry, [_log(1, 0)])
        assert feed.poll() == ([], True, False)
        assert not feed.poll()


def test_a_restored_backup_is_noticed(folder: Path, tmp_path: Path, make_run: MakeRun) -> None:
    """Other files under the same names: the feed says so, opens them, and goes on from their end."""
    other = tmp_path / "other"
    open_store(other)
    connection = connect(other, "state")
    with transaction(connection):
        for _ in range(3):
            runs.insert(connection, flow_name="f", name="", state=RUNNING, actor=ACTOR, at_us=1)
    connection.close()
    make_run()
    with ChangeFeed(folder) as feed:
        folder.rename(tmp_path / "away")
        with pytest.raises(StoreMissing):
            feed.poll()
        other.rename(folder)
        assert feed.poll() == ([], True, True)
        assert feed.cursor == 3
        connection = connect(folder, "state")
        with transaction(connection):
            runs.insert(connection, flow_name="f", name="", state=RUNNING, actor=ACTOR, at_us=1)
        connection.close()
        assert [event.id for event in feed.poll().events] == [4]


def test_the_readers_version_changes_with_each_commit(reader: Reader, make_run: MakeRun) -> None:
    """And only then."""
    before = reader.data_version()
    assert reader.data_version() == before
    make_run()
    after = reader.data_version()
    assert after[0] != before[0]
    assert after[1] == before[1]
