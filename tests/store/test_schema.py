from __future__ import annotations

import importlib
import os
import pkgutil
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import flowdeck.store
import pytest
from flowdeck.store import judging, migrate, models, rows
from flowdeck.store.connection import DATABASES, SCHEMA_VERSION, connect, transaction
from flowdeck.store.errors import StoreError, StoreLocked
from flowdeck.store.numbered import by_name
from flowdeck.store.opening import SCHEMA_FILES, open_store
from flowdeck.store.reader import Reader
from flowdeck.store.tables import leases
from sqlalchemy import create_engine

STORE = Path(flowdeck.store.__file__).parent
TABLE_MODULES = (
    "artifacts", "cache", "deployments", "due", "edges", "events", "inputs", "journals", "leases", "limits", "logs",
    "metrics", "results", "runs", "schedules", "spool", "staged", "tasks", "variables",
)  # fmt: skip
PLACES = {"spool": ""}


def _schema(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """Every table and index by name, as SQLite keeps it, taken apart."""
    statement = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
    return {name: _parts(sql) for name, sql in connection.execute(statement) if name != "alembic_version"}


def _parts(sql: str) -> list[str]:
    """Columns in their order, then the constraints, whose order says nothing, sorted."""
    parts, depth = [""], 0
    for sign in " ".join(sql.split()):
        depth += (sign == "(") - (sign == ")")
        if sign == "," and depth == 1:
            parts.append("")
        else:
            parts[-1] += sign
    whole = [part.strip() for part in parts]
    tail = whole[-1].rpartition(")")
    whole[-1:] = [tail[0].strip(), tail[2].strip()]
    words = ("CONSTRAINT", "FOREIGN", "PRIMARY", "UNIQUE", "CHECK")
    return [part for part in whole if not part.startswith(words)] + sorted(
        part for part in whole if part.startswith(words)
    )


@pytest.mark.parametrize("database", DATABASES)
def test_the_sql_files_are_what_the_models_say(database: str) -> None:
    """schema.sql and telemetry.sql are generated; `python -m flowdeck.store.models` was run."""
    assert (STORE / SCHEMA_FILES[database]).read_text(encoding="utf-8") == models.schema_sql(database)


@pytest.mark.parametrize("database", DATABASES)
def test_all_migrations_together_make_the_same_tables(folder: Path, tmp_path: Path, database: str) -> None:
    """A store migrated from nothing equals a new one."""
    path = tmp_path / "migrated.db"
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    migrate._run_steps(connection, database, migrate.MIGRATIONS, 0, SCHEMA_VERSION, str(path))  # type: ignore[arg-type]
    fresh = connect(folder, database, readonly=True)  # type: ignore[arg-type]
    assert _schema(connection) == _schema(fresh)
    assert connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION
    connection.close()
    fresh.close()


def _statements() -> Iterator[tuple[str, str, str]]:
    for name in TABLE_MODULES:
        module = importlib.import_module(f"flowdeck.store.{PLACES.get(name, 'tables.')}{name}")
        database = "telemetry" if name in ("logs", "metrics", "spool") else "state"
        for constant, value in vars(module).items():
            if isinstance(value, str) and value.startswith(("SELECT ", "INSERT ", "UPDATE ", "DELETE ")):
                yield f"{name}.{constant}", database, value


@pytest.mark.parametrize(("where", "database", "statement"), list(_statements()), ids=lambda value: str(value)[:40])
def test_every_statement_fits_the_models(where: str, database: str, statement: str) -> None:
    """Each prepared text compiles against tables made by SQLAlchemy from the models."""
    engine = create_engine("sqlite://")
    models.METADATA[database].create_all(engine)
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        places = max(statement.count("?"), 24)
        for count in range(places + 1):
            values = (None,) * count
            try:
                driver.execute(f"EXPLAIN {statement}", by_name(values) if "?1" in statement else values)
            except sqlite3.ProgrammingError:
                continue  # another number of values
            break
        else:
            pytest.fail(f"{where} takes no number of values")
    engine.dispose()


@pytest.mark.parametrize(
    ("model", "row"),
    [
        (models.FlowRun, rows.RunRow), (models.TaskRun, rows.TaskRow), (models.Edge, rows.EdgeRow),
        (models.Event, rows.EventRow), (models.Log, rows.LogRow), (models.Result, rows.ResultRow),
        (models.Schedule, rows.ScheduleRow), (models.Deployment, rows.DeploymentRow),
        (models.FlowFile, rows.FlowFileRow), (models.Artifact, rows.ArtifactRow), (models.Lease, rows.LeaseRow),
        (models.RunInput, rows.InputRow), (models.CacheEntry, rows.CacheRow), (models.CacheLock, rows.CacheLockRow),
        (models.StagedTask, rows.StagedRow),
        (models.ConcurrencyLimit, rows.LimitRow), (models.Slot, rows.SlotRow),
        (models.Variable, rows.VariableRow),
    ],
)  # fmt: skip
def test_rows_have_the_columns_of_their_table_in_order(model: type[models.SQLModel], row: type[tuple[object]]) -> None:
    """So that ``_make`` puts every value where it belongs. (A task's small result stands after its row's fields.)"""
    assert tuple(model.__table__.columns.keys())[: len(row._fields)] == row._fields  # type: ignore[attr-defined]


def test_what_runs_hot_imports_nothing_heavy() -> None:
    """Everything but the models and the migrations starts without SQLAlchemy, pydantic and asyncio."""
    names = [
        f"flowdeck.store.{folder}{module.name}"
        for folder, path in (("", STORE), ("tables.", STORE / "tables"))
        for module in pkgutil.iter_modules([str(path)])
        if module.name not in ("models", "migrate", "migrations")
    ]
    assert len(names) > 20
    script = (
        f"import sys\nfor name in {names!r}: __import__(name)\n"
        "heavy = {'sqlalchemy', 'sqlmodel', 'alembic', 'pydantic', 'asyncio', 'textual', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd="/")


@pytest.mark.parametrize(
    ("database", "statement"),
    [
        ("state", "UPDATE flow_run SET state_type = 'COMPLETED'"),  # an end without a time
        ("state", "UPDATE flow_run SET ended_at_us = 5"),  # a time without an end
        ("state", "UPDATE flow_run SET state_type = 'BROKEN'"),
        ("state", "UPDATE flow_run SET intent = 'explode'"),
        ("state", "UPDATE flow_run SET attempt = 0"),
        ("state", "UPDATE flow_run SET created_at_us = 'yesterday'"),
        ("state", "INSERT INTO edge VALUES (99, 1, 99, 2, 'data')"),  # of a run that does not exist
        ("state", "INSERT INTO edge SELECT id, 1, id, 2, 'friendship' FROM flow_run"),
    ],
)
def test_the_database_refuses_what_must_never_be_false(folder: Path, database: str, statement: str) -> None:
    """CHECK, STRICT and foreign keys hold, whoever writes."""
    connection = connect(folder, "state")
    connection.execute("INSERT INTO flow VALUES ('f', NULL, 1)")
    connection.execute(
        "INSERT INTO flow_run (flow_name, name, parameters, tags, state_type, state_name, intent, attempt, crash_count,"
        " created_at_us, scheduled_at_us, actor)"
        " VALUES ('f', 'n', '{}', '[]', 'RUNNING', 'Running', 'none', 1, 0, 1, 1, 'a')"
    )
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)
    connection.close()


# ------------------------------------------------------------------------------------------ migrating


@pytest.fixture
def next_version(tmp_path: Path) -> Path:
    """The migrations with one more, as a later Flowdeck would have."""
    scripts = tmp_path / "migrations"
    shutil.copytree(migrate.MIGRATIONS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions" / "v0004_colour.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import context, op\n"
        "revision = '0004'\ndown_revision = '0003'\nbranch_labels = None\ndepends_on = None\n"
        "def upgrade():\n"
        "    if context.config.attributes['database'] == 'state':\n"
        "        op.add_column('flow', sa.Column('colour', sa.Text()))\n"
        "        op.execute(\"UPDATE flow SET colour = 'red'\")\n"
        "        if context.config.attributes['connection'].exec_driver_sql(\n"
        "            \"SELECT count(*) FROM flow WHERE name = 'poison'\").scalar():\n"
        "            raise RuntimeError('this step fails half-way')\n"
    )
    return scripts


def _add_flow(folder: Path, name: str) -> None:
    connection = connect(folder, "state")
    connection.execute("INSERT INTO flow VALUES (?, NULL, 1)", (name,))
    connection.close()


def test_an_older_store_is_backed_up_and_migrated(
    folder: Path, next_version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data is there afterwards, the version too, and the backup is a whole store of before, for its owner only."""
    _add_flow(folder, "etl")
    backups = migrate.migrate(folder, scripts=next_version, target=4)
    connection = connect(folder, "state")
    assert connection.execute("SELECT name, colour FROM flow").fetchall() == [("etl", "red")]
    assert connection.execute("PRAGMA user_version").fetchone() == (4,)
    connection.close()
    assert [backup.name.split("-")[0] for backup in backups] == ["state", "telemetry"]
    for backup in backups:
        assert backup.stat().st_mode & 0o777 == 0o600
    old = sqlite3.connect(backups[0])
    assert old.execute("SELECT * FROM flow").fetchall() == [("etl", None, 1)]
    assert old.execute("PRAGMA user_version").fetchone() == (3,)
    old.close()
    monkeypatch.setattr("flowdeck.store.connection.SCHEMA_VERSION", 4)
    assert migrate.migrate(folder, scripts=next_version, target=4) == []


def test_a_step_that_fails_changes_nothing(folder: Path, next_version: Path) -> None:
    """Its transaction is taken back whole: version and tables are those of before."""
    _add_flow(folder, "poison")
    with pytest.raises(RuntimeError, match="half-way"):
        migrate.migrate(folder, scripts=next_version, target=4)
    connection = connect(folder, "state", readonly=True)
    assert connection.execute("SELECT * FROM flow").fetchall() == [("poison", None, 1)]
    assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    connection.close()
    open_store(folder)


def test_live_processes_of_the_older_version_forbid_migrating(folder: Path, next_version: Path) -> None:
    """They would go on writing rows of the older kind; the error names them."""
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    identity = judging.process_identity(child.pid)
    assert identity is not None
    connection = connect(folder, "state")
    with transaction(connection):
        leases.acquire(
            connection, rows.LeaseRow("daemon", None, None, "here", *identity[:3], None, "tester", 1, None)
        )
    connection.close()
    with pytest.raises(StoreLocked, match=f"daemon \\(process {child.pid}\\)"):
        migrate.migrate(folder, scripts=next_version, target=4)
    child.communicate()
    migrate.migrate(folder, scripts=next_version, target=4)


def test_opening_an_older_store_migrates_it_and_reading_one_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, next_version: Path
) -> None:
    """Writers migrate by themselves; a reader must not, and names the way."""
    for module in ("connection", "opening", "reader"):
        monkeypatch.setattr(f"flowdeck.store.{module}.SCHEMA_VERSION", 4)
    with pytest.raises(StoreError, match="made by an older Flowdeck"):
        Reader(folder)
    monkeypatch.setattr(migrate.migrate, "__kwdefaults__", {"scripts": next_version, "target": 4})
    open_store(folder)
    Reader(folder).close()


def test_a_store_of_the_first_version_keeps_its_events_and_schedules(tmp_path: Path) -> None:
    """Events keep their ids and order, schedules their numbers, and no number is given out twice."""
    path = tmp_path / "state.db"
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    migrate._run_steps(connection, "state", migrate.MIGRATIONS, 0, 1, str(path))
    connection.execute("INSERT INTO flow VALUES ('etl', NULL, 1)")
    connection.execute("INSERT INTO deployment VALUES ('etl', 'etl', '/f', '/f:etl', NULL, '{}', '{}', '[]', 'h', 1)")
    spec = "'etl', 'a', 'cron', '{}', '{}', 'latest', 1.0, 'skip', 1, 5, NULL"
    connection.execute(f"INSERT INTO schedule VALUES (7, {spec})")
    connection.execute("INSERT INTO schedule SELECT 9, deployment, 'b', kind, spec, parameters, catchup,"
                       " catchup_window_seconds, overlap, active, next_due_at_us, last_due_at_us FROM schedule")
    connection.execute("DELETE FROM schedule WHERE id = 9")
    connection.executemany(
        "INSERT INTO event (id, at_us, kind, actor, message) VALUES (?, ?, 'daemon', 'a', ?)",
        [(3, 30, "x"), (8, 80, "y")],
    )
    connection.execute(
        "INSERT INTO flow_run (id, flow_name, name, parameters, tags, state_type, state_name, intent, attempt,"
        " crash_count, created_at_us, scheduled_at_us, actor) VALUES (4, 'etl', 'n', '{}', '[]', 'RUNNING', 'Running',"
        " 'none', 1, 0, 1, 1, 'a')"
    )
    connection.execute("INSERT INTO artifact VALUES (5, 4, NULL, 'report', 'markdown', NULL, '# x', 1)")
    connection.execute("INSERT INTO artifact SELECT 6, run_id, task_seq, key, kind, description, data, 2 FROM artifact")
    connection.execute("DELETE FROM artifact WHERE id = 6")
    migrate._run_steps(connection, "state", migrate.MIGRATIONS, 1, SCHEMA_VERSION, str(path))
    assert connection.execute("SELECT id, run_id, key, data FROM artifact").fetchall() == [(5, 4, "report", "# x")]
    connection.execute("INSERT INTO artifact SELECT NULL, NULL, NULL, key, kind, NULL, data, 3 FROM artifact")
    assert connection.execute("SELECT max(id) FROM artifact").fetchone() == (7,)
    assert connection.execute("SELECT id, at_us, message FROM event ORDER BY id").fetchall() == [
        (3, 30, "x"), (8, 80, "y"),
    ]
    assert connection.execute("SELECT id, slug FROM schedule").fetchall() == [(7, "a")]
    connection.execute("INSERT INTO schedule SELECT NULL, deployment, 'c', kind, spec, parameters, catchup,"
                       " catchup_window_seconds, overlap, active, next_due_at_us, last_due_at_us FROM schedule")
    assert connection.execute("SELECT max(id) FROM schedule").fetchone() == (10,)
    assert connection.execute("SELECT concurrency_limit FROM deployment").fetchone() == (None,)
    connection.close()


def test_the_migrations_are_part_of_the_package() -> None:
    """They are importable modules of packages named in pyproject.toml, so the wheel has them."""
    import tomllib

    project = tomllib.loads((STORE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["setuptools"]["packages"]
    for path in STORE.rglob("*.py"):
        relative = path.relative_to(STORE).parent.parts
        assert ".".join(("flowdeck", "store", *relative)) in packages, path
    assert "*.sql" in project["tool"]["setuptools"]["package-data"]["flowdeck.store"]
    assert os.path.exists(migrate.MIGRATIONS / "env.py")
