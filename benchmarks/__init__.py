"""Measures of the budgets in docs/design.md, each beside its floor in the same run: ``python -m benchmarks``."""
