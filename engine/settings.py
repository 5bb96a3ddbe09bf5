"""What the environment sets: defaults of options nobody gave (retries, sizes of pools), and how long is waited.

``FLOWDECK_TASKS_DEFAULT_RETRIES`` and its kin stand for Prefect's ``PREFECT_…`` of the same name. They are read when a
flow or task is made; a value that does not fit is refused with the variable's name. Waits are read where one begins.
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


def cancel_grace_seconds() -> float:
    """How long user code may take to end after a cancellation; ``FLOWDECK_CANCEL_GRACE_SECONDS``, default 10."""
    return float(os.environ.get("FLOWDECK_CANCEL_GRACE_SECONDS", "10"))


def suspend_after_seconds() -> float:
    """How long a sleep must be for a daemon's run to let its process go; ``FLOWDECK_SUSPEND_AFTER_SECONDS``."""
    return float(os.environ.get("FLOWDECK_SUSPEND_AFTER_SECONDS", "60"))


def import_limit_seconds() -> float:
    """How long the import of a flow file may take under a daemon; ``FLOWDECK_IMPORT_LIMIT_SECONDS``, default 300."""
    return float(os.environ.get("FLOWDECK_IMPORT_LIMIT_SECONDS", "300"))


def warm_hosts() -> int:
    """How many flow files a daemon keeps a warm process for at most; ``FLOWDECK_WARM_HOSTS``, default 64."""
    return _whole_number("FLOWDECK_WARM_HOSTS", 1) or 64


def _whole_number(name: str, least: int) -> int | None:
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) < least:
        raise UsageError(f"{name} must be a whole number from {least}, not {text!r}")
    return int(text)
