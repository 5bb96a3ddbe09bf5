"""Alembic's side of the store: how a migration runs, and the migrations themselves. Forward only."""
