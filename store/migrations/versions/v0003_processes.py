"""Rows that name a process say in which PID namespace its number means it; leases also whose it is and of which store.

A lease, slot or lock of an older version names none: such a process was seen from its own namespace only.
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
