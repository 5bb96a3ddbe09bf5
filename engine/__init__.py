"""Decisions and effects: flows, tasks, state machine, executor, control, daemon.

Imports ``store`` and nothing else of ours. The console and the command line come to runs only through
``engine.control``.
"""
