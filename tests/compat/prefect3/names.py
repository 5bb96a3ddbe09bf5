"""The public names of this folder's tests: flowdeck's, or Prefect 3's own when ``FLOWDECK_COMPAT=prefect``.

Everything comes from the one namespace ``flowdeck``; in Prefect the same names live in several modules. Nothing else
differs between the two, so that a test which passes with both proves the same behaviour of both. ``only_here`` marks
what is meant to differ and says why; ``make compat-prefect`` prints those reasons.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import pytest

PREFECT = os.environ.get("FLOWDECK_COMPAT") == "prefect"
"""Whether Prefect itself is under test."""
RUNTIME_PREFIX = "PREFECT__RUNTIME__" if PREFECT else "FLOWDECK__RUNTIME__"
"""Of the environment variables that stand in for ``runtime`` values in tests."""

_HOME_IN_PREFECT = {
    "artifacts": (
        "Artifact", "create_image_artifact", "create_link_artifact", "create_markdown_artifact",
        "create_progress_artifact", "create_table_artifact", "update_progress_artifact",
    ),
    "cache_policies": (
        "CacheKeyFnPolicy", "CachePolicy", "DEFAULT", "FLOW_PARAMETERS", "INPUTS", "NO_CACHE", "RUN_ID",
        "TASK_SOURCE",
    ),
    "concurrency.sync": ("concurrency", "rate_limit"),
    "context": ("FlowRunContext", "TaskRunContext", "get_run_context", "with_context"),
    "events": ("Event", "emit_event"),
    "exceptions": (
        "FailedRun", "FlowPauseTimeout", "MappingLengthMismatch", "MappingMissingIterable", "MissingContextError",
        "ParameterTypeError", "ReservedArgumentError", "UpstreamTaskError",
    ),
    "filesystems": ("LocalFileSystem",),
    "flow_runs": ("pause_flow_run", "resume_flow_run", "suspend_flow_run"),
    "futures": ("PrefectFuture", "as_completed", "resolve_futures_to_states", "wait"),
    "input": ("RunInput", "receive_input", "send_input"),
    "locking.filesystem": ("FileSystemLockManager",),
    "locking.memory": ("MemoryLockManager",),
    "logging": ("disable_run_logger", "get_logger", "get_run_logger"),
    "results": ("ResultStore",),
    "schedules": ("Cron", "Interval", "RRule"),
    "states": (
        "Cancelled", "Completed", "Crashed", "Failed", "Paused", "Pending", "Running", "Scheduled", "State",
    ),
    "task_runners": ("ProcessPoolTaskRunner", "ThreadPoolTaskRunner"),
    "tasks": ("exponential_backoff", "task_input_hash"),
    "transactions": ("CommitMode", "IsolationLevel", "get_transaction", "transaction"),
    "blocks.system": ("Secret",),
    "utilities.annotations": ("allow_failure", "freeze", "opaque", "quote", "unmapped"),
    "variables": ("Variable",),
}  # fmt: skip
_MODULE_IN_PREFECT = {name: module for module, names in _HOME_IN_PREFECT.items() for name in names}


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    if not PREFECT:
        return getattr(import_module("flowdeck"), name)
    module = _MODULE_IN_PREFECT.get(name)
    return getattr(import_module(f"prefect.{module}" if module else "prefect"), name)


def only_here(reason: str) -> pytest.MarkDecorator:
    """A behaviour that is ours by design and not Prefect's."""
    return pytest.mark.skipif(PREFECT, reason=f"by design: {reason}")


def only_there(reason: str) -> pytest.MarkDecorator:
    """A behaviour of Prefect that is not ours by design."""
    return pytest.mark.skipif(not PREFECT, reason=f"by design: {reason}")
