"""What is kept under a key: cache entries, and tasks that stand or fall together."""
