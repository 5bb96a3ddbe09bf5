"""The one schema: every table of the store as a SQLModel class.

Migrations, administration and users' own queries over their runs go through these classes; ``schema.sql`` and
``telemetry.sql``, from which a new store is made without importing SQLAlchemy, are generated from them:

    python -m flowdeck.store.models

What must start fast or run hot speaks to the driver with the statements beside each table, and tests hold those and
the two files equal to this one. Columns mean what the fields of ``rows`` say; times are integer UTC microseconds.

Longer than most: a schema is read, compared and migrated as a whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.types import TypeEngine
from sqlmodel import Field, SQLModel

from .states import STATE_TYPES, TERMINAL_TYPES

_NAMING: Final = {"uq": "uq_%(table_name)s_%(column_0_N_name)s", "ck": "%(table_name)s_%(constraint_name)s"}
_INTEGER: Final[TypeEngine[int]] = BigInteger().with_variant(Integer(), "sqlite")
_REAL: Final[TypeEngine[float]] = Double().with_variant(REAL(), "sqlite")
_FLAG: Final[TypeEngine[bool]] = Boolean().with_variant(Integer(), "sqlite")
_STRICT: Final = {"sqlite_strict": True}
_NUMBERED: Final = {"sqlite_strict": True, "sqlite_autoincrement": True}
"""AUTOINCREMENT: a number is never given out twice, also when its row was pruned."""
_CLUSTERED: Final = {"sqlite_strict": True, "sqlite_with_rowid": False}
"""The rows lie in the primary key's order."""


class StateModel(SQLModel):
    """A table of ``state.db``: what must survive power loss."""

    metadata = MetaData(naming_convention=_NAMING)


class TelemetryModel(SQLModel):
    """A table of ``telemetry.db``: logs and metrics, apart from state so that a flood of lines never delays a state."""

    metadata = MetaData(naming_convention=_NAMING)


def _text(**options: Any) -> Any:
    return Field(sa_type=Text, **options)


def _integer(**options: Any) -> Any:
    return Field(sa_type=_INTEGER, **options)


def _one_of(column: str, *values: str) -> CheckConstraint:
    return CheckConstraint(_is_any(column, *values), name=column)


def _is_any(column: str, *values: str) -> str:
    """That a column holds one of these. For a list of more than two SQLite makes a table, anew with each statement that
    checks it, which costs 2 to 4 µs; comparisons cost nearly nothing."""
    if len(values) <= 2:
        listed = ", ".join(f"'{value}'" for value in values)
        return f"{column} IN ({listed})"
    return " OR ".join(f"{column} = '{value}'" for value in values)


_TERMINAL: Final = [state for state in STATE_TYPES if state in TERMINAL_TYPES]
_HAS_ENDED: Final = _is_any("state_type", *_TERMINAL)


class Flow(StateModel, table=True):
    """A flow that has been run or deployed."""

    __tablename__ = "flow"
    __table_args__ = (_STRICT,)

    name: str = _text(primary_key=True)
    description: str | None = _text()
    created_at_us: int = _integer()


class FlowFile(StateModel, table=True):
    """A flow file the daemon watches."""

    __tablename__ = "flow_file"
    __table_args__ = (_STRICT,)

    path: str = _text(primary_key=True)
    source_hash: str = _text()
    error: str | None = _text()
    traceback: str | None = _text()
    loaded_at_us: int = _integer()


class Deployment(StateModel, table=True):
    """A flow the daemon can run by name."""

    __tablename__ = "deployment"
    __table_args__ = (_STRICT,)

    name: str = _text(primary_key=True)
    flow_name: str = _text(foreign_key="flow.name")
    path: str = _text()
    entrypoint: str = _text()
    description: str | None = _text()
    parameters: str = _text()
    parameters_schema: str = _text()
    tags: str = _text()
    source_hash: str = _text()
    updated_at_us: int = _integer()
    concurrency_limit: int | None = _integer()
    collision_strategy: str | None = _text()


class Schedule(StateModel, table=True):
    """When a deployment runs."""

    __tablename__ = "schedule"
    __table_args__ = (
        UniqueConstraint("deployment", "slug"),
        _one_of("kind", "cron", "interval", "rrule", "dates", "composite"),
        _one_of("catchup", "latest", "all", "none"),
        _one_of("overlap", "skip", "queue", "allow", "cancel_running"),
        CheckConstraint("active IN (0, 1)", name="active").ddl_if(dialect="sqlite"),
        _NUMBERED,
    )

    id: int | None = _integer(primary_key=True, default=None)
    deployment: str = _text(foreign_key="deployment.name", ondelete="CASCADE")
    slug: str = _text()
    kind: str = _text()
    spec: str = _text()
    parameters: str = _text()
    catchup: str = _text()
    catchup_window_seconds: float = Field(sa_type=_REAL)
    overlap: str = _text()
    active: bool = Field(sa_type=_FLAG)
    next_due_at_us: int | None = _integer()
    last_due_at_us: int | None = _integer()


class FlowRun(StateModel, table=True):
    """One flow run."""

    __tablename__ = "flow_run"
    __table_args__ = (
        UniqueConstraint("schedule_id", "due_at_us"),
        _one_of("state_type", *STATE_TYPES),
        _one_of("intent", "none", "pause", "freeze", "cancel"),
        CheckConstraint("attempt >= 1", name="attempt"),
        CheckConstraint(f"(ended_at_us IS NOT NULL) = ({_HAS_ENDED})", name="ended_at_us"),
        Index("flow_run_by_flow", "flow_name", "id"),
        Index("flow_run_by_parent", "parent_run_id", "parent_seq", sqlite_where=text("parent_run_id IS NOT NULL")),
        Index("flow_run_by_root", "root_id", sqlite_where=text("root_id IS NOT NULL")),
        Index("flow_run_by_state", "state_type", "id"),
        Index("flow_run_live", "state_type", "wake_at_us", sqlite_where=text("ended_at_us IS NULL")),
        # However many wait: what was asked of runs, what is due of each deployment or script, what a schedule has made.
        Index("flow_run_asked", "intent", sqlite_where=text("ended_at_us IS NULL AND intent <> 'none'")),
        Index(
            "flow_run_due", "deployment", "entrypoint", "wake_at_us",
            sqlite_where=text("ended_at_us IS NULL AND state_type = 'SCHEDULED' AND root_id IS NULL"),
        ),
        Index(
            "flow_run_of_schedule", "schedule_id", "state_name", "wake_at_us",
            sqlite_where=text("ended_at_us IS NULL AND schedule_id IS NOT NULL"),
        ),
        _NUMBERED,
    )

    id: int | None = _integer(primary_key=True, default=None)
    flow_name: str = _text(foreign_key="flow.name")
    name: str = _text()
    deployment: str | None = _text()
    schedule_id: int | None = _integer()
    due_at_us: int | None = _integer()
    entrypoint: str | None = _text()
    parameters: str = _text()
    tags: str = _text()
    state_type: str = _text()
    state_name: str = _text()
    cause: str | None = _text()
    intent: str = _text()
    attempt: int = _integer()
    crash_count: int = _integer()
    created_at_us: int = _integer()
    scheduled_at_us: int = _integer()
    wake_at_us: int | None = _integer()
    started_at_us: int | None = _integer()
    ended_at_us: int | None = _integer()
    duration_us: int | None = _integer()
    parent_run_id: int | None = _integer(foreign_key="flow_run.id", ondelete="CASCADE")
    parent_seq: int | None = _integer()
    root_id: int | None = _integer(foreign_key="flow_run.id", ondelete="CASCADE")
    retry_of: int | None = _integer()
    source_hash: str | None = _text()
    actor: str = _text()
    result_preview: str | None = _text()
    working_folder: str | None = _text()


class TaskRun(StateModel, table=True):
    """One task run, or a subflow's place in its parent."""

    __tablename__ = "task_run"
    __table_args__ = (
        CheckConstraint("seq >= 1", name="seq"),
        _one_of("kind", "task", "subflow"),
        _one_of("state_type", *STATE_TYPES),
        CheckConstraint(
            f"(ended_at_us IS NOT NULL) = ({_HAS_ENDED} OR state_name = 'NotReady')",
            name="ended_at_us",
        ),
        # What a call is within its run. Calls of the run's own code, which are most, need no entry: a process of the
        # run numbers them itself, and the key above refuses a number that is taken.
        Index(
            "task_run_nested", "run_id", "scope_seq", "key", "call_index", unique=True,
            sqlite_where=text("scope_seq > 0"),
        ),
        _CLUSTERED,
    )  # fmt: skip

    run_id: int = _integer(primary_key=True, foreign_key="flow_run.id", ondelete="CASCADE")
    seq: int = _integer(primary_key=True)
    key: str = _text()
    scope_seq: int = _integer()
    call_index: int = _integer()
    map_group: int | None = _integer()
    map_index: int | None = _integer()
    name: str = _text()
    kind: str = _text()
    child_run_id: int | None = _integer()
    state_type: str = _text()
    state_name: str = _text()
    cause: str | None = _text()
    attempt: int = _integer()
    run_attempt: int = _integer()
    created_at_us: int = _integer()
    started_at_us: int | None = _integer()
    ended_at_us: int | None = _integer()
    duration_us: int | None = _integer()
    cpu_us: int | None = _integer()
    peak_rss_bytes: int | None = _integer()
    tags: str = _text()
    inputs_hash: str | None = _text()
    wake_at_us: int | None = _integer()
    code_hash: str | None = _text()
    result_codec: str | None = _text()
    result_checksum: str | None = _text()
    result_data: bytes | None = Field(sa_type=LargeBinary)
    result_preview: str | None = _text()


class Edge(StateModel, table=True):
    """One task feeds, or is awaited by, another."""

    __tablename__ = "edge"
    __table_args__ = (_one_of("kind", "data", "wait"), _CLUSTERED)

    run_id: int = _integer(primary_key=True, foreign_key="flow_run.id", ondelete="CASCADE")
    to_seq: int = _integer(primary_key=True)
    from_run_id: int = _integer(primary_key=True)
    from_seq: int = _integer(primary_key=True)
    kind: str = _text()


class Result(StateModel, table=True):
    """A journalled result that is not small enough to stand in its task's row, or a run's own."""

    __tablename__ = "result"
    __table_args__ = (_one_of("codec", "json", "cloudpickle", "none"), _CLUSTERED)

    run_id: int = _integer(primary_key=True, foreign_key="flow_run.id", ondelete="CASCADE")
    seq: int = _integer(primary_key=True)
    codec: str = _text()
    checksum: str = _text()
    size_bytes: int = _integer()
    data: bytes | None = Field(sa_type=LargeBinary)
    path: str | None = _text()
    preview: str = _text()


class Event(StateModel, table=True):
    """One line of the audit log."""

    __tablename__ = "event"
    __table_args__ = (
        _one_of("kind", "state", "request", "schedule", "deployment", "daemon", "limit", "variable", "input", "user"),
        # Those of tasks are found between the first and the last of their run: most events are theirs, and an index
        # entry of each would cost every task a page of its record.
        Index("event_by_run", "run_id", "id", sqlite_where=text("run_id IS NOT NULL AND task_seq IS NULL")),
        _STRICT,
    )

    id: int | None = _integer(primary_key=True, default=None)
    at_us: int = _integer()
    kind: str = _text()
    run_id: int | None = _integer()
    task_seq: int | None = _integer()
    attempt: int | None = _integer()
    from_type: str | None = _text()
    from_name: str | None = _text()
    to_type: str | None = _text()
    to_name: str | None = _text()
    actor: str = _text()
    message: str | None = _text()
    data: str | None = _text()


class Lease(StateModel, table=True):
    """The live process that owns a run, or the daemon."""

    __tablename__ = "lease"
    __table_args__ = (_STRICT,)

    owner: str = _text(primary_key=True)
    run_id: int | None = _integer(foreign_key="flow_run.id", ondelete="CASCADE", unique=True)
    attempt: int | None = _integer()
    host: str = _text()
    boot_id: str = _text()
    pid: int = _integer()
    pid_started_ticks: int = _integer()
    process_group: int | None = _integer()
    actor: str = _text()
    acquired_at_us: int = _integer()
    info: str | None = _text()
    pid_namespace: str | None = _text()
    uid: int | None = _integer()
    store: str | None = _text()


class Artifact(StateModel, table=True):
    """Something made for people to read, by a run or outside of runs."""

    __tablename__ = "artifact"
    __table_args__ = (Index("artifact_by_run", "run_id", "id"), Index("artifact_by_key", "key", "id"), _NUMBERED)

    id: int | None = _integer(primary_key=True, default=None)
    run_id: int | None = _integer(foreign_key="flow_run.id", ondelete="CASCADE")
    task_seq: int | None = _integer()
    key: str = _text()
    kind: str = _text()
    description: str | None = _text()
    data: str = _text()
    created_at_us: int = _integer()


class Variable(StateModel, table=True):
    """A named JSON value that flows and people share."""

    __tablename__ = "variable"
    __table_args__ = (_STRICT,)

    name: str = _text(primary_key=True)
    value: str = _text()
    tags: str = _text()
    created_at_us: int = _integer()
    updated_at_us: int = _integer()
    actor: str = _text()


class ConcurrencyLimit(StateModel, table=True):
    """How many slots there are of something; ``tag:NAME`` for tasks with a tag, ``flow:NAME`` for runs of a flow."""

    __tablename__ = "concurrency_limit"
    __table_args__ = (
        CheckConstraint("slots >= 0", name="slots"),
        CheckConstraint("active IN (0, 1)", name="active").ddl_if(dialect="sqlite"),
        _STRICT,
    )

    name: str = _text(primary_key=True)
    slots: int = _integer()
    slot_decay_per_second: float | None = Field(sa_type=_REAL)
    active: bool = Field(sa_type=_FLAG)
    used: float = Field(sa_type=_REAL)
    used_at_us: int = _integer()
    created_at_us: int = _integer()
    updated_at_us: int = _integer()
    actor: str = _text()


class Slot(StateModel, table=True):
    """Slots of a limit that a live process holds or waits for, in the order of asking."""

    __tablename__ = "slot"
    __table_args__ = (
        CheckConstraint("occupy >= 1", name="occupy"),
        _one_of("kind", "hold", "rate"),
        Index("slot_by_ask", "ask_id"),
        # Whether there is room is summed up from the index alone.
        Index("slot_by_limit", "limit_name", "held_at_us", "id", "ask_id", "kind", "occupy"),
        Index("slot_by_run", "run_id", sqlite_where=text("run_id IS NOT NULL")),
        _NUMBERED,
    )

    id: int | None = _integer(primary_key=True, default=None)
    ask_id: int = _integer()
    limit_name: str = _text()
    kind: str = _text()
    occupy: int = _integer()
    run_id: int | None = _integer()
    task_seq: int | None = _integer()
    host: str = _text()
    boot_id: str = _text()
    pid: int = _integer()
    pid_started_ticks: int = _integer()
    asked_at_us: int = _integer()
    held_at_us: int | None = _integer()
    actor: str = _text()
    within: str | None = _text()
    pid_namespace: str | None = _text()


class CacheEntry(StateModel, table=True):
    """A result that later calls with the same cache key return."""

    __tablename__ = "cache_entry"
    __table_args__ = (_one_of("codec", "json", "cloudpickle"), _STRICT)

    key: str = _text(primary_key=True)
    run_id: int | None = _integer()
    task_seq: int | None = _integer()
    codec: str = _text()
    checksum: str = _text()
    size_bytes: int = _integer()
    data: bytes | None = Field(sa_type=LargeBinary)
    path: str | None = _text()
    preview: str = _text()
    created_at_us: int = _integer()
    expires_at_us: int | None = _integer()


class CacheLock(StateModel, table=True):
    """The live process that computes what a cache key stands for; others wait."""

    __tablename__ = "cache_lock"
    __table_args__ = (_STRICT,)

    key: str = _text(primary_key=True)
    run_id: int | None = _integer()
    task_seq: int | None = _integer()
    host: str = _text()
    boot_id: str = _text()
    pid: int = _integer()
    pid_started_ticks: int = _integer()
    acquired_at_us: int = _integer()
    pid_namespace: str | None = _text()


class StagedTask(StateModel, table=True):
    """What a task that completed inside a transaction holds for its hooks, and which of them are done."""

    __tablename__ = "staged_task"
    __table_args__ = (_CLUSTERED,)

    run_id: int = _integer(primary_key=True, foreign_key="flow_run.id", ondelete="CASCADE")
    task_seq: int = _integer(primary_key=True)
    transaction_name: str = _text()
    held: bytes | None = Field(sa_type=LargeBinary)
    commit_hooks_done: int = _integer()
    rollback_place: int | None = _integer()
    rollback_hooks_done: int = _integer()
    cause: str | None = _text()


class RunInput(StateModel, table=True):
    """What a run asked a person for, what came, messages sent to it, and until when it sleeps."""

    __tablename__ = "run_input"
    __table_args__ = (
        _one_of("kind", "request", "response", "message", "wait"),
        Index("run_input_by_run", "run_id", "key", "id"),
        _NUMBERED,
    )

    id: int | None = _integer(primary_key=True, default=None)
    run_id: int = _integer(foreign_key="flow_run.id", ondelete="CASCADE")
    key: str = _text()
    kind: str = _text()
    json_schema: str | None = _text()
    description: str | None = _text()
    value: str | None = _text()
    sender: str = _text()
    created_at_us: int = _integer()
    until_us: int | None = _integer()
    taken_at_us: int | None = _integer()
    taken_by: str | None = _text()


class Log(TelemetryModel, table=True):
    """One stored line of output."""

    __tablename__ = "log"
    __table_args__ = (_one_of("stream", "log", "stdout", "stderr"), _CLUSTERED)

    root_id: int = _integer(primary_key=True)
    line: int = _integer(primary_key=True)
    run_id: int = _integer()
    task_seq: int | None = _integer()
    attempt: int = _integer()
    at_us: int = _integer()
    level: int = _integer()
    logger: str = _text()
    stream: str = _text()
    message: str = _text()


class Metric(TelemetryModel, table=True):
    """One measured value."""

    __tablename__ = "metric"
    __table_args__ = (Index("metric_by_run", "run_id", "id"), _NUMBERED)

    id: int | None = _integer(primary_key=True, default=None)
    run_id: int = _integer()
    task_seq: int | None = _integer()
    at_us: int = _integer()
    name: str = _text()
    value: float = Field(sa_type=_REAL)


class Spool(TelemetryModel, table=True):
    """How far a spool file has been stored."""

    __tablename__ = "spool"
    __table_args__ = (_STRICT,)

    name: str = _text(primary_key=True)
    offset_bytes: int = _integer()


METADATA: Final = {"state": StateModel.metadata, "telemetry": TelemetryModel.metadata}
_HEADINGS: Final = {
    "state": "-- state.db: what must survive power loss.",
    "telemetry": "-- telemetry.db: logs and metrics, apart from state so that a flood of lines never delays a state.",
}


def schema_sql(database: str) -> str:
    """The statements that make one of the two SQLite files, as they stand in ``schema.sql`` or ``telemetry.sql``."""
    dialect = sqlite.dialect()
    statements = []
    for table in METADATA[database].sorted_tables:
        statements.append(str(CreateTable(table).compile(dialect=dialect)))
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        statements += [str(CreateIndex(index).compile(dialect=dialect)) for index in indexes]
    lines = [_HEADINGS[database], "-- Generated from store/models.py by `python -m flowdeck.store.models`."]
    for statement in statements:
        shown = statement.strip().replace("\t", "  ").replace("\n)\n ", "\n) ").replace("ROWID,\n ", "ROWID, ")
        lines += [line.rstrip() for line in f"{shown};".splitlines() if line.strip()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write both files anew."""
    for database, name in (("state", "schema.sql"), ("telemetry", "telemetry.sql")):
        Path(__file__).with_name(name).write_text(schema_sql(database), encoding="utf-8")


if __name__ == "__main__":
    main()
