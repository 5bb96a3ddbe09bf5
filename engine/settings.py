"""Defaults that the environment gives to options nobody set: retries of tasks and flows, sizes of pools.

``FLOWDECK_TASKS_DEFAULT_RETRIES`` and its kin stand for Prefect's ``PREFECT_…`` of the same name. They are read when a
flow or task is made; a value that does not fit is refused with the variable's name.
"""

from __future__ import annotations

import os
from typing import Any

from .errors import UsageError


def retries(kind: str, given: Any) -> Any:
    """``given``, else ``FLOWDECK_<kind>_DEFAULT_RETRIES``, else 0; ``kind`` is TASKS or FLOWS."""
    return given if given is not None else _whole_number(f"FLOWDECK_{kind}_DEFAULT_RETRIES", 0) or 0


def retry_delay_seconds(kind: str, given: Any) -> Any:
    """``given``, else ``FLOWDECK_<kind>_DEFAULT_RETRY_DELAY_SECONDS`` (``5``, or ``1,5,30``), else 0."""
    name = f"FLOWDECK_{kind}_DEFAULT_RETRY_DELAY_SECONDS"
    if given is not None or not (text := os.environ.get(name, "").strip()):
        return given
    try:
        return [float(part) for part in text.strip("[]").split(",")]
    except ValueError:
        raise UsageError(f"{name} must be a number of seconds, or several as in 1,5,30, not {text!r}") from None


def pool_size(kind: str, given: int | None) -> int | None:
    """``given``, else ``FLOWDECK_TASKS_RUNNER_<kind>_POOL_MAX_WORKERS``; ``kind`` is THREAD or PROCESS."""
    if given is None:
        return _whole_number(f"FLOWDECK_TASKS_RUNNER_{kind}_POOL_MAX_WORKERS", 1)
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ValueError(f"max_workers must be a whole number from 1, not {given!r}")
    return given


def _whole_number(name: str, least: int) -> int | None:
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) < least:
        raise UsageError(f"{name} must be a whole number from {least}, not {text!r}")
    return int(text)
