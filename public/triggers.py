"""Whether a task of a ``with Flow`` block runs: ``from flowdeck.triggers import all_failed``."""

from __future__ import annotations

from flowdeck.engine.prefect1.triggers import (
    all_failed,
    all_finished,
    all_successful,
    always_run,
    any_failed,
    any_successful,
    manual_only,
    not_all_skipped,
    some_failed,
    some_successful,
)

__all__ = [
    "all_failed", "all_finished", "all_successful", "always_run", "any_failed", "any_successful", "manual_only",
    "not_all_skipped", "some_failed", "some_successful",
]
