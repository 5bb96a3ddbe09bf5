"""Everything a run prints or logs, kept and masked."""
