"""The headless engine: makes runs when schedules say so, claims what is due, starts code hosts, looks after processes.
Works on rows and processes only; it imports no user's file and nothing that runs one.

Code of users runs in processes that are started by name (``hosts``). ``rounds`` reads the clock and hands it down;
nobody else here reads it for a decision.
"""
