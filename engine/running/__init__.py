"""The process of a run: its records, its steps, their effects, where they run, how they end."""
