"""When an earlier result is taken for a task with ``cache_for``, with Prefect 1's names: ``all_inputs`` and so on."""

from __future__ import annotations

from flowdeck.engine.prefect1.caching import (
    all_inputs,
    all_parameters,
    duration_only,
    never_use,
    partial_inputs_only,
    partial_parameters_only,
)

__all__ = [
    "all_inputs", "all_parameters", "duration_only", "never_use", "partial_inputs_only", "partial_parameters_only",
]
