"""The shipped examples do what they say: run for real, on a store and databases of the test's own."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import subprocess
import sys
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import pytest
from flowdeck.engine.authoring.loader import load_flow_file
from flowdeck.examples import EXPECTED
from flowdeck.store.reader import Reader

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of the test's own."""
    folder = tmp_path / "store"
    monkeypatch.setenv("FLOWDECK_STORE", str(folder))
    return folder


def run(example: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``flowdeck run EXAMPLE …`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "flowdeck", "run", str(EXAMPLES / example), *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def query(database: Path, statement: str) -> list[tuple[object, ...]]:
    """All rows of a statement."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(statement).fetchall()


def observed() -> list[dict[str, str]]:
    """The rows of the shipped file, read without the example's code."""
    with open(EXAMPLES / "seattle-weather.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_example_says_how_it_ends() -> None:
    """EXPECTED names the flows of the files, each ending in a final type; the tour's inner flow is part of it."""
    flows = {name for file in EXAMPLES.glob("[!_]*.py") for name in load_flow_file(file).flows}
    assert flows == {*EXPECTED, "tour-parcels"}
    assert set(EXPECTED.values()) <= {"COMPLETED", "FAILED"}


def test_weather_loads_and_reports(store: Path, tmp_path: Path) -> None:
    """All 1 461 days of 48 months arrive in the database, and the report's figures are those of the data."""
    warehouse = tmp_path / "weather.db"
    done = run("weather.py", "-p", f"warehouse={warehouse}")
    assert done.returncode == 0, done.stderr
    rows = observed()
    assert len(rows) == 1461
    assert query(warehouse, "SELECT count(*), min(date), max(date) FROM day") == [(1461, "2012-01-01", "2015-12-31")]
    rain: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        rain[row["date"][:7].replace("/", "-")] += float(row["precipitation"])
    stored = dict(query(warehouse, "SELECT month, precipitation_mm FROM month"))
    assert stored == {month: pytest.approx(total, abs=0.06) for month, total in rain.items()}
    reader = Reader(store)
    (recorded,) = reader.runs()
    (report,) = reader.artifacts(recorded.id)
    assert "Hottest: 35.6 °C on 2014-08-11" in report.data
    assert "Wettest days: 2015-03-15 (55.9 mm)" in report.data
    mapped = [task for task in reader.tasks(recorded.id) if task.key == "sum_up"]
    assert [task.state_type for task in mapped] == ["COMPLETED"] * 48


def test_weather_leaves_out_what_makes_no_sense(store: Path, tmp_path: Path) -> None:
    """Bad rows are named in the log by line and reason, and kept from the database; good ones are stored."""
    source, warehouse = tmp_path / "bad.csv", tmp_path / "bad.db"
    source.write_text(
        "date,precipitation,temp_max,temp_min,wind,weather\n"
        "2012/01/01,0.0,12.8,5.0,4.7,drizzle\n"
        "2012/01/02,-3.0,10.6,2.8,4.5,rain\n"
        "2012/01/03,0.8,1.7,7.2,2.3,rain\n"
        "2012/01/04,20.3,12.2,5.6,4.7,hail\n"
        "not a date,1.3,8.9,2.8,6.1,rain\n"
    )
    done = run("weather.py", "-p", f"source={source}", "-p", f"warehouse={warehouse}")
    assert done.returncode == 0, done.stderr
    assert query(warehouse, "SELECT date FROM day") == [("2012-01-01",)]
    reader = Reader(store)
    warnings = [line.message for line in reader.logs(reader.runs()[0].id, 0, 1000) if line.level == 30]
    assert [warning.partition(" left out: ")[0] for warning in warnings] == ["line 3", "line 4", "line 5", "line 6"]
    assert "precipitation" in warnings[0]
    assert "above its highest" in warnings[1]


def test_box_health_reads_this_machine(store: Path, tmp_path: Path) -> None:
    """Each run adds one reading with disks, memory, load and processes that can be true, and warns when asked to."""
    warehouse = tmp_path / "box.db"
    for _ in range(2):
        done = run("box_health.py", "-p", f"warehouse={warehouse}", "-p", "full_percent=0", "-p", "processes=3")
        assert done.returncode == 0, done.stderr
    ((total, available, cpus),) = query(
        warehouse, "SELECT memory_total_bytes, memory_available_bytes, cpus FROM reading ORDER BY taken_at LIMIT 1"
    )
    assert total == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert available is None or 0 < int(str(available)) < int(str(total))
    assert cpus == os.cpu_count()
    assert query(warehouse, "SELECT count(*) FROM reading") == [(2,)]
    assert ("/",) in query(warehouse, "SELECT DISTINCT mount FROM disk")
    assert query(warehouse, "SELECT count(*) FROM process WHERE memory_bytes > 0") == [(6,)]
    reader = Reader(store)
    newest = reader.runs()[0]
    assert any("full:" in line.message and line.level == 30 for line in reader.logs(newest.id, 0, 1000))
    assert {metric.name for metric in reader.metrics(newest.id)} >= {"fullest_disk_percent", "load_1"}


def test_box_health_forgets_old_readings(tmp_path: Path) -> None:
    """Readings older than ``keep_days`` go when new ones come: the database does not grow for ever."""
    warehouse = tmp_path / "box.db"
    assert run("box_health.py", "-p", f"warehouse={warehouse}").returncode == 0
    with closing(sqlite3.connect(warehouse)) as connection, connection:
        for table in ("reading", "disk", "process"):
            connection.execute(f"UPDATE {table} SET taken_at = taken_at - 8 * 86400")
    assert run("box_health.py", "-p", f"warehouse={warehouse}", "-p", "keep_days=7").returncode == 0
    assert query(warehouse, "SELECT count(*) FROM reading") == [(1,)]


def test_the_tour_shows_what_it_promises(store: Path) -> None:
    """It fails on purpose, with a task of three attempts, one that never started, and talk on every channel."""
    done = run("tour.py:tour", "-p", "seconds=3", "-p", "count=4")
    assert done.returncode == 1
    reader = Reader(store)
    (tour,) = reader.runs()
    assert tour.state_type == EXPECTED["tour"]
    assert "deliberate" in str(tour.cause)
    tasks = {task.key: task for task in reader.tasks(tour.id)}
    flaky = tasks["fails_twice_then_succeeds"]
    assert (flaky.state_name, flaky.attempt) == ("Completed", 3)
    assert tasks["needs_the_failed_one"].state_name == "NotReady"
    assert tasks["fails_for_good"].state_type == "FAILED"
    (inner,) = reader.children(tour.id)
    assert (inner.flow_name, inner.state_type) == ("tour-parcels", "COMPLETED")
    assert len([task for task in reader.tasks(inner.id) if task.key == "weigh"]) == 4
    lines = reader.logs(tour.id, 0, 10_000)
    assert {line.level for line in lines} >= {10, 20, 30, 40}
    assert {line.stream for line in lines} == {"log", "stdout", "stderr"}
    assert any("from a child process" in line.message for line in lines)
    progress = [metric.value for metric in reader.metrics(tour.id) if metric.name == "progress_percent"]
    assert progress == sorted(progress)
    assert progress[-1] == 100.0


def test_an_example_runs_as_a_script(store: Path) -> None:
    """``python examples/box_health.py`` needs nothing else, and keeps its database in the store's folder."""
    script = [sys.executable, str(EXAMPLES / "box_health.py")]
    done = subprocess.run(script, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert query(store / "box-health.db", "SELECT count(*) FROM reading") == [(1,)]
    assert json.loads(Reader(store).runs()[0].parameters)["keep_days"] == 7.0
