"""What the whole engine needs: variables, limits and their slots, the result cache, run inputs; smaller task records;
artifacts outside of runs, users' events.

A task's small result stands in its own row, and its events cost no index entry and no counter: each page a record
touches goes to the log before the task's call returns.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REAL: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
FLAG = sa.Boolean().with_variant(sa.Integer(), "sqlite")
EVENT_COLUMNS = (
    "id, at_us, kind, run_id, task_seq, attempt, from_type, from_name, to_type, to_name, actor, message, data"
)
ARTIFACT_COLUMNS = "id, run_id, task_seq, key, kind, description, data, created_at_us"
TASK_COLUMNS = (
    "run_id, seq, key, scope_seq, call_index, map_group, map_index, name, kind, child_run_id, state_type, state_name,"
    " cause, attempt, run_attempt, created_at_us, started_at_us, ended_at_us, duration_us, cpu_us, peak_rss_bytes,"
    " tags, inputs_hash, wake_at_us"
)
STATE_TYPES = (
    "SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING", "CANCELLED", "COMPLETED", "FAILED", "CRASHED",
)  # fmt: skip
TERMINAL_TYPES = ("CANCELLED", "COMPLETED", "FAILED", "CRASHED")
SCHEDULE_COLUMNS = (
    "id, deployment, slug, kind, spec, parameters, catchup, catchup_window_seconds, overlap, active, next_due_at_us,"
    " last_due_at_us"
)


def upgrade() -> None:
    """Change ``state.db``; ``telemetry.db`` stays as it is."""
    if context.config.attributes["database"] != "state":
        return
    _remake_event()
    _remake_schedule()
    op.add_column("deployment", sa.Column("concurrency_limit", INTEGER, nullable=True))
    op.add_column("deployment", sa.Column("collision_strategy", sa.Text(), nullable=True))
    _remake_task_run()
    _remake_artifact()
    _make_limits()
    _make_cache()
    _make_inputs()


def _remake_event() -> None:
    op.drop_index("event_by_run", "event")
    op.rename_table("event", "event_old")
    op.create_table(
        "event",
        sa.Column("id", INTEGER, nullable=False),
        sa.Column("at_us", INTEGER, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("run_id", INTEGER, nullable=True),
        sa.Column("task_seq", INTEGER, nullable=True),
        sa.Column("attempt", INTEGER, nullable=True),
        sa.Column("from_type", sa.Text(), nullable=True),
        sa.Column("from_name", sa.Text(), nullable=True),
        sa.Column("to_type", sa.Text(), nullable=True),
        sa.Column("to_name", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("data", sa.Text(), nullable=True),
        sa.CheckConstraint(
            _any_of("kind", "state", "request", "schedule", "deployment", "daemon", "limit", "variable", "input",
                    "user"),
            name="event_kind",
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_strict=True,
    )
    op.execute(f"INSERT INTO event ({EVENT_COLUMNS}) SELECT {EVENT_COLUMNS} FROM event_old ORDER BY id")
    op.drop_table("event_old")
    op.create_index(
        "event_by_run", "event", ["run_id", "id"],
        sqlite_where=sa.text("run_id IS NOT NULL AND task_seq IS NULL"),
    )


def _any_of(column: str, *values: str) -> str:
    return " OR ".join(f"{column} = '{value}'" for value in values)


def _remake_task_run() -> None:
    op.rename_table("task_run", "task_run_old")
    op.create_table(
        "task_run",
        sa.Column("run_id", INTEGER, nullable=False),
        sa.Column("seq", INTEGER, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("scope_seq", INTEGER, nullable=False),
        sa.Column("call_index", INTEGER, nullable=False),
        sa.Column("map_group", INTEGER, nullable=True),
        sa.Column("map_index", INTEGER, nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("child_run_id", INTEGER, nullable=True),
        sa.Column("state_type", sa.Text(), nullable=False),
        sa.Column("state_name", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=True),
        sa.Column("attempt", INTEGER, nullable=False),
        sa.Column("run_attempt", INTEGER, nullable=False),
        sa.Column("created_at_us", INTEGER, nullable=False),
        sa.Column("started_at_us", INTEGER, nullable=True),
        sa.Column("ended_at_us", INTEGER, nullable=True),
        sa.Column("duration_us", INTEGER, nullable=True),
        sa.Column("cpu_us", INTEGER, nullable=True),
        sa.Column("peak_rss_bytes", INTEGER, nullable=True),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("inputs_hash", sa.Text(), nullable=True),
        sa.Column("wake_at_us", INTEGER, nullable=True),
        sa.Column("code_hash", sa.Text(), nullable=True),
        sa.Column("result_codec", sa.Text(), nullable=True),
        sa.Column("result_checksum", sa.Text(), nullable=True),
        sa.Column("result_data", sa.LargeBinary(), nullable=True),
        sa.Column("result_preview", sa.Text(), nullable=True),
        sa.CheckConstraint("seq >= 1", name="task_run_seq"),
        sa.CheckConstraint("kind IN ('task', 'subflow')", name="task_run_kind"),
        sa.CheckConstraint(_any_of("state_type", *STATE_TYPES), name="task_run_state_type"),
        sa.CheckConstraint(
            f"(ended_at_us IS NOT NULL) = ({_any_of('state_type', *TERMINAL_TYPES)} OR state_name = 'NotReady')",
            name="task_run_ended_at_us",
        ),
        sa.ForeignKeyConstraint(["run_id"], ["flow_run.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "seq"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.execute(f"INSERT INTO task_run ({TASK_COLUMNS}) SELECT {TASK_COLUMNS} FROM task_run_old ORDER BY run_id, seq")
    op.drop_table("task_run_old")
    op.create_index(
        "task_run_nested", "task_run", ["run_id", "scope_seq", "key", "call_index"], unique=True,
        sqlite_where=sa.text("scope_seq > 0"),
    )


def _remake_schedule() -> None:
    op.rename_table("schedule", "schedule_old")
    op.create_table(
        "schedule",
        sa.Column("id", INTEGER, nullable=False),
        sa.Column("deployment", sa.Text(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("catchup", sa.Text(), nullable=False),
        sa.Column("catchup_window_seconds", REAL, nullable=False),
        sa.Column("overlap", sa.Text(), nullable=False),
        sa.Column("active", FLAG, nullable=False),
        sa.Column("next_due_at_us", INTEGER, nullable=True),
        sa.Column("last_due_at_us", INTEGER, nullable=True),
        sa.CheckConstraint(_any_of("kind", "cron", "interval", "rrule", "dates", "composite"), name="schedule_kind"),
        sa.CheckConstraint(_any_of("catchup", "latest", "all", "none"), name="schedule_catchup"),
        sa.CheckConstraint(_any_of("overlap", "skip", "queue", "allow", "cancel_running"), name="schedule_overlap"),
        sa.CheckConstraint("active IN (0, 1)", name="schedule_active").ddl_if(dialect="sqlite"),
        sa.ForeignKeyConstraint(["deployment"], ["deployment.name"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("deployment", "slug", name="uq_schedule_deployment_slug"),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.execute(f"INSERT INTO schedule ({SCHEDULE_COLUMNS}) SELECT {SCHEDULE_COLUMNS} FROM schedule_old ORDER BY id")
    # A number is never given out twice, also when its row was deleted before.
    op.execute(
        "UPDATE sqlite_sequence SET seq = max(seq, coalesce("
        "(SELECT o.seq FROM sqlite_sequence o WHERE o.name = 'schedule_old'), 0)) WHERE name = 'schedule'"
    )
    op.drop_table("schedule_old")


def _remake_artifact() -> None:
    """One may be made outside of runs."""
    op.drop_index("artifact_by_key", "artifact")
    op.drop_index("artifact_by_run", "artifact")
    op.rename_table("artifact", "artifact_old")
    op.create_table(
        "artifact",
        sa.Column("id", INTEGER, nullable=False),
        sa.Column("run_id", INTEGER, nullable=True),
        sa.Column("task_seq", INTEGER, nullable=True),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("created_at_us", INTEGER, nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["flow_run.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.execute(f"INSERT INTO artifact ({ARTIFACT_COLUMNS}) SELECT {ARTIFACT_COLUMNS} FROM artifact_old ORDER BY id")
    op.execute(
        "UPDATE sqlite_sequence SET seq = max(seq, coalesce("
        "(SELECT o.seq FROM sqlite_sequence o WHERE o.name = 'artifact_old'), 0)) WHERE name = 'artifact'"
    )
    op.drop_table("artifact_old")
    op.create_index("artifact_by_key", "artifact", ["key", "id"])
    op.create_index("artifact_by_run", "artifact", ["run_id", "id"])


def _make_limits() -> None:
    op.create_table(
        "variable",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("created_at_us", INTEGER, nullable=False),
        sa.Column("updated_at_us", INTEGER, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        sqlite_strict=True,
    )
    op.create_table(
        "concurrency_limit",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("slots", INTEGER, nullable=False),
        sa.Column("slot_decay_per_second", REAL, nullable=True),
        sa.Column("active", FLAG, nullable=False),
        sa.Column("used", REAL, nullable=False),
        sa.Column("used_at_us", INTEGER, nullable=False),
        sa.Column("created_at_us", INTEGER, nullable=False),
        sa.Column("updated_at_us", INTEGER, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.CheckConstraint("slots >= 0", name="concurrency_limit_slots"),
        sa.CheckConstraint("active IN (0, 1)", name="concurrency_limit_active").ddl_if(dialect="sqlite"),
        sa.PrimaryKeyConstraint("name"),
        sqlite_strict=True,
    )
    op.create_table(
        "slot",
        sa.Column("id", INTEGER, nullable=False),
        sa.Column("ask_id", INTEGER, nullable=False),
        sa.Column("limit_name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("occupy", INTEGER, nullable=False),
        sa.Column("run_id", INTEGER, nullable=True),
        sa.Column("task_seq", INTEGER, nullable=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("pid", INTEGER, nullable=False),
        sa.Column("pid_started_ticks", INTEGER, nullable=False),
        sa.Column("asked_at_us", INTEGER, nullable=False),
        sa.Column("held_at_us", INTEGER, nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("within", sa.Text(), nullable=True),
        sa.CheckConstraint("occupy >= 1", name="slot_occupy"),
        sa.CheckConstraint("kind IN ('hold', 'rate')", name="slot_kind"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_index("slot_by_ask", "slot", ["ask_id"])
    op.create_index("slot_by_limit", "slot", ["limit_name", "held_at_us", "id", "ask_id", "kind", "occupy"])
    op.create_index("slot_by_run", "slot", ["run_id"], sqlite_where=sa.text("run_id IS NOT NULL"))


def _make_cache() -> None:
    op.create_table(
        "cache_entry",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("run_id", INTEGER, nullable=True),
        sa.Column("task_seq", INTEGER, nullable=True),
        sa.Column("codec", sa.Text(), nullable=False),
        sa.Column("checksum", sa.Text(), nullable=False),
        sa.Column("size_bytes", INTEGER, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=True),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("preview", sa.Text(), nullable=False),
        sa.Column("created_at_us", INTEGER, nullable=False),
        sa.Column("expires_at_us", INTEGER, nullable=True),
        sa.CheckConstraint("codec IN ('json', 'cloudpickle')", name="cache_entry_codec"),
        sa.PrimaryKeyConstraint("key"),
        sqlite_strict=True,
    )
    op.create_table(
        "cache_lock",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("run_id", INTEGER, nullable=True),
        sa.Column("task_seq", INTEGER, nullable=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("pid", INTEGER, nullable=False),
        sa.Column("pid_started_ticks", INTEGER, nullable=False),
        sa.Column("acquired_at_us", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("key"),
        sqlite_strict=True,
    )


    op.create_table(
        "staged_task",
        sa.Column("run_id", INTEGER, nullable=False),
        sa.Column("task_seq", INTEGER, nullable=False),
        sa.Column("transaction_name", sa.Text(), nullable=False),
        sa.Column("held", sa.LargeBinary(), nullable=True),
        sa.Column("commit_hooks_done", INTEGER, nullable=False),
        sa.Column("rollback_place", INTEGER, nullable=True),
        sa.Column("rollback_hooks_done", INTEGER, nullable=False),
        sa.Column("cause", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["flow_run.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "task_seq"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _make_inputs() -> None:
    op.create_table(
        "run_input",
        sa.Column("id", INTEGER, nullable=False),
        sa.Column("run_id", INTEGER, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("json_schema", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("created_at_us", INTEGER, nullable=False),
        sa.Column("until_us", INTEGER, nullable=True),
        sa.Column("taken_at_us", INTEGER, nullable=True),
        sa.Column("taken_by", sa.Text(), nullable=True),
        sa.CheckConstraint(_any_of("kind", "request", "response", "message", "wait"), name="run_input_kind"),
        sa.ForeignKeyConstraint(["run_id"], ["flow_run.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_index("run_input_by_run", "run_input", ["run_id", "key", "id"])
