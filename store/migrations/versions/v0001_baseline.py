"""Baseline: the tables of the first version, as they were then.

A migration never imports the models: they go on changing, this does not.

Longer than most: one function makes all tables, a list in the order in which they refer to each other, for good.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REAL: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
FLAG = sa.Boolean().with_variant(sa.Integer(), "sqlite")


def _any_of(column: str, *values: str) -> str:
    return " OR ".join(f"{column} = '{value}'" for value in values)


STATE_TYPES = _any_of(
    "state_type",
    "SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING", "CANCELLED", "COMPLETED", "FAILED", "CRASHED",
)  # fmt: skip
HAS_ENDED = _any_of("state_type", "CANCELLED", "COMPLETED", "FAILED", "CRASHED")


def upgrade() -> None:
    """Make the tables of the database that is being migrated."""
    if context.config.attributes["database"] == "state":
        _upgrade_state()
    else:
        _upgrade_telemetry()


def _upgrade_state() -> None:
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
        sa.CheckConstraint(_any_of("kind", "state", "request", "schedule", "deployment", "daemon"), name="event_kind"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_index("event_by_run", "event", ["run_id", "id"], sqlite_where=sa.text("run_id IS NOT NULL"))
    op.create_table(
        "flow",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("created_at_us", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("name"),
        sqlite_strict=True,
    )
    op.create_table(
        "flow_file",
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("source_hash", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("traceback", sa.Text(), nullable=True),
        sa.Column("loaded_at_us", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("path"),
        sqlite_strict=True,
    )
    op.create_table(
        "deployment",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("flow_name", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("entrypoint", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("parameters_schema", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("source_hash", sa.Text(), nullable=False),
        sa.Column("updated_at_us", INTEGER, nullable=False),
        sa.ForeignKeyConstraint(["flow_name"], ["flow.name"]),
        sa.PrimaryKeyConstraint("name"),
        sqlite_strict=True,
    )
    op.create_table(
        "flow_run",
        sa.Column("id", INTEGER, nullable=False),
        sa.Column("flow_name", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("deployment", sa.Text(), nullable=True),
        sa.Column("schedule_id", INTEGER, nullable=True),
        sa.Column("due_at_us", INTEGER, nullable=True),
        sa.Column("entrypoint", sa.Text(), nullable=True),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("state_type", sa.Text(), nullable=False),
        sa.Column("state_name", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=True),
        sa.Column("intent", sa.Text(), nullable=False),
        sa.Column("attempt", INTEGER, nullable=False),
        sa.Column("crash_count", INTEGER, nullable=False),
        sa.Column("created_at_us", INTEGER, nullable=False),
        sa.Column("scheduled_at_us", INTEGER, nullable=False),
        sa.Column("wake_at_us", INTEGER, nullable=True),
        sa.Column("started_at_us", INTEGER, nullable=True),
        sa.Column("ended_at_us", INTEGER, nullable=True),
        sa.Column("duration_us", INTEGER, nullable=True),
        sa.Column("parent_run_id", INTEGER, nullable=True),
        sa.Column("parent_seq", INTEGER, nullable=True),
        sa.Column("root_id", INTEGER, nullable=True),
        sa.Column("retry_of", INTEGER, nullable=True),
        sa.Column("source_hash", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("result_preview", sa.Text(), nullable=True),
        sa.CheckConstraint(
            f"(ended_at_us IS NOT NULL) = ({HAS_ENDED})",
            name="flow_run_ended_at_us",
        ),
        sa.CheckConstraint(_any_of("intent", "none", "pause", "freeze", "cancel"), name="flow_run_intent"),
        sa.CheckConstraint(
            STATE_TYPES,
            name="flow_run_state_type",
        ),
        sa.CheckConstraint("attempt >= 1", name="flow_run_attempt"),
        sa.ForeignKeyConstraint(["flow_name"], ["flow.name"]),
        sa.ForeignKeyConstraint(["parent_run_id"], ["flow_run.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["root_id"], ["flow_run.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("schedule_id", "due_at_us", name="uq_flow_run_schedule_id_due_at_us"),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_index("flow_run_by_flow", "flow_run", ["flow_name", "id"])
    op.create_index(
        "flow_run_by_parent",
        "flow_run",
        ["parent_run_id", "parent_seq"],
        sqlite_where=sa.text("parent_run_id IS NOT NULL"),
    )
    op.create_index("flow_run_by_root", "flow_run", ["root_id"], sqlite_where=sa.text("root_id IS NOT NULL"))
    op.create_index("flow_run_by_state", "flow_run", ["state_type", "id"])
    op.create_index(
        "flow_run_live", "flow_run", ["state_type", "wake_at_us"], sqlite_where=sa.text("ended_at_us IS NULL")
    )
    op.create_table(
        "artifact",
        sa.Column("id", INTEGER, nullable=False),
        sa.Column("run_id", INTEGER, nullable=False),
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
    op.create_index("artifact_by_key", "artifact", ["key", "id"])
    op.create_index("artifact_by_run", "artifact", ["run_id", "id"])
    op.create_table(
        "edge",
        sa.Column("run_id", INTEGER, nullable=False),
        sa.Column("to_seq", INTEGER, nullable=False),
        sa.Column("from_run_id", INTEGER, nullable=False),
        sa.Column("from_seq", INTEGER, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.CheckConstraint("kind IN ('data', 'wait')", name="edge_kind"),
        sa.ForeignKeyConstraint(["run_id"], ["flow_run.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "to_seq", "from_run_id", "from_seq"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "lease",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("run_id", INTEGER, nullable=True),
        sa.Column("attempt", INTEGER, nullable=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("pid", INTEGER, nullable=False),
        sa.Column("pid_started_ticks", INTEGER, nullable=False),
        sa.Column("process_group", INTEGER, nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("acquired_at_us", INTEGER, nullable=False),
        sa.Column("info", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["flow_run.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("owner"),
        sa.UniqueConstraint("run_id", name="uq_lease_run_id"),
        sqlite_strict=True,
    )
    op.create_table(
        "result",
        sa.Column("run_id", INTEGER, nullable=False),
        sa.Column("seq", INTEGER, nullable=False),
        sa.Column("codec", sa.Text(), nullable=False),
        sa.Column("checksum", sa.Text(), nullable=False),
        sa.Column("size_bytes", INTEGER, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=True),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("preview", sa.Text(), nullable=False),
        sa.CheckConstraint(_any_of("codec", "json", "cloudpickle", "none"), name="result_codec"),
        sa.ForeignKeyConstraint(["run_id"], ["flow_run.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "seq"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
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
        sa.CheckConstraint(_any_of("catchup", "latest", "all", "none"), name="schedule_catchup"),
        sa.CheckConstraint("kind IN ('cron', 'interval')", name="schedule_kind"),
        sa.CheckConstraint(_any_of("overlap", "skip", "queue", "allow", "cancel_running"), name="schedule_overlap"),
        sa.CheckConstraint("active IN (0, 1)", name="schedule_active"),
        sa.ForeignKeyConstraint(["deployment"], ["deployment.name"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("deployment", "slug", name="uq_schedule_deployment_slug"),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
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
        sa.CheckConstraint(
            f"(ended_at_us IS NOT NULL) = ({HAS_ENDED} OR state_name = 'NotReady')",
            name="task_run_ended_at_us",
        ),
        sa.CheckConstraint("kind IN ('task', 'subflow')", name="task_run_kind"),
        sa.CheckConstraint(
            STATE_TYPES,
            name="task_run_state_type",
        ),
        sa.CheckConstraint("seq >= 1", name="task_run_seq"),
        sa.ForeignKeyConstraint(["run_id"], ["flow_run.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "seq"),
        sa.UniqueConstraint(
            "run_id", "scope_seq", "key", "call_index", name="uq_task_run_run_id_scope_seq_key_call_index"
        ),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _upgrade_telemetry() -> None:
    op.create_table(
        "log",
        sa.Column("root_id", INTEGER, nullable=False),
        sa.Column("line", INTEGER, nullable=False),
        sa.Column("run_id", INTEGER, nullable=False),
        sa.Column("task_seq", INTEGER, nullable=True),
        sa.Column("attempt", INTEGER, nullable=False),
        sa.Column("at_us", INTEGER, nullable=False),
        sa.Column("level", INTEGER, nullable=False),
        sa.Column("logger", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.CheckConstraint(_any_of("stream", "log", "stdout", "stderr"), name="log_stream"),
        sa.PrimaryKeyConstraint("root_id", "line"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "metric",
        sa.Column("id", INTEGER, nullable=False),
        sa.Column("run_id", INTEGER, nullable=False),
        sa.Column("task_seq", INTEGER, nullable=True),
        sa.Column("at_us", INTEGER, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", REAL, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_index("metric_by_run", "metric", ["run_id", "id"])
    op.create_table(
        "spool",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("offset_bytes", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("name"),
        sqlite_strict=True,
    )
