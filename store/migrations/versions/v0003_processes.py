"""Rows that name a process say in which PID namespace its number means it; leases also whose it is and of which store.
What is due of each flow, what was asked of runs and what a schedule has made is found however many runs wait.

A lease, slot or lock of an older version names none: such a process was seen from its own namespace only. A run says
in which folder it runs; one of an older version is taken up wherever its next process stands.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Change ``state.db``; ``telemetry.db`` stays as it is."""
    if context.config.attributes["database"] != "state":
        return
    for table in ("lease", "slot", "cache_lock"):
        op.add_column(table, sa.Column("pid_namespace", sa.Text(), nullable=True))
    op.add_column("lease", sa.Column("uid", INTEGER, nullable=True))
    op.add_column("lease", sa.Column("store", sa.Text(), nullable=True))
    op.add_column("flow_run", sa.Column("working_folder", sa.Text(), nullable=True))
    _index("flow_run_asked", ["intent"], "intent <> 'none'")
    _index("flow_run_due", ["deployment", "entrypoint", "wake_at_us"], "state_type = 'SCHEDULED' AND root_id IS NULL")
    _index("flow_run_of_schedule", ["schedule_id", "state_name", "wake_at_us"], "schedule_id IS NOT NULL")


def _index(name: str, columns: list[str], where: str) -> None:
    op.create_index(name, "flow_run", columns, sqlite_where=sa.text(f"ended_at_us IS NULL AND {where}"))
