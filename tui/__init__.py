"""The console: one feed that reads the store, one action registry that asks the engine's control.

Imports ``store`` and ``engine.control`` and nothing else of ours.
"""
