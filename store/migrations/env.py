"""What Alembic runs for each migration: on the connection it is handed, one transaction per step.

Loaded by Alembic from its path, only by ``store.migrate``, which hands over ``connection`` and ``database``.
"""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import Connection, text


def _note_version(ctx: Any, step: Any, heads: Any, run_args: Any) -> None:  # noqa: ARG001 - Alembic names them
    """In the step's own transaction: what readers look at without Alembic."""
    ctx.connection.execute(text(f"PRAGMA user_version = {int(step.up_revision_id)}"))


def _run() -> None:
    connection: Connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        transactional_ddl=True,
        transaction_per_migration=True,
        render_as_batch=True,
        on_version_apply=_note_version,
    )
    with context.begin_transaction():
        context.run_migrations()


_run()
