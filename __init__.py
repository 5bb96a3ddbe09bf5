"""Flowdeck: durable Python workflows on one machine, shown in the terminal.

The public names, imported on first use so that ``from flowdeck import flow, task`` stays cheap.
"""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import cache_validators as cache_validators
    from . import errors as errors
    from . import events as events
    from . import executors as executors
    from . import futures as futures
    from . import schedules as schedules
    from . import signals as signals
    from . import state as state
    from . import testing as testing
    from . import triggers as triggers
    from .engine import runtime as runtime
    from .engine.annotations import allow_failure as allow_failure
    from .engine.annotations import opaque as opaque
    from .engine.annotations import quote as quote
    from .engine.annotations import unmapped as unmapped
    from .engine.artifacts import Artifact as Artifact
    from .engine.artifacts import create_image_artifact as create_image_artifact
    from .engine.artifacts import create_link_artifact as create_link_artifact
    from .engine.artifacts import create_markdown_artifact as create_markdown_artifact
    from .engine.artifacts import create_progress_artifact as create_progress_artifact
    from .engine.artifacts import create_table_artifact as create_table_artifact
    from .engine.artifacts import update_progress_artifact as update_progress_artifact
    from .engine.cache_policies import DEFAULT as DEFAULT
    from .engine.cache_policies import FLOW_PARAMETERS as FLOW_PARAMETERS
    from .engine.cache_policies import INPUTS as INPUTS
    from .engine.cache_policies import NO_CACHE as NO_CACHE
    from .engine.cache_policies import NONE as NONE
    from .engine.cache_policies import RUN_ID as RUN_ID
    from .engine.cache_policies import TASK_SOURCE as TASK_SOURCE
    from .engine.cache_policies import CacheKeyFnPolicy as CacheKeyFnPolicy
    from .engine.cache_policies import CachePolicy as CachePolicy
    from .engine.cache_policies import IsolationLevel as IsolationLevel
    from .engine.cache_policies import task_input_hash as task_input_hash
    from .engine.classic import DateTimeParameter as DateTimeParameter
    from .engine.classic import Edge as Edge
    from .engine.classic import Parameter as Parameter
    from .engine.classic import flatten as flatten
    from .engine.classic import mapped as mapped
    from .engine.classic_context import context as context
    from .engine.classic_control import FilterTask as FilterTask
    from .engine.classic_control import apply_map as apply_map
    from .engine.classic_control import case as case
    from .engine.classic_control import ifelse as ifelse
    from .engine.classic_control import merge as merge
    from .engine.classic_control import switch as switch
    from .engine.classic_resources import resource_manager as resource_manager
    from .engine.classic_signals import pause_task as pause_task
    from .engine.concurrency import concurrency as concurrency
    from .engine.concurrency import create_concurrency_limit as create_concurrency_limit
    from .engine.concurrency import delete_concurrency_limit_by_tag as delete_concurrency_limit_by_tag
    from .engine.concurrency import delete_global_concurrency_limit_by_name as delete_global_concurrency_limit_by_name
    from .engine.concurrency import rate_limit as rate_limit
    from .engine.concurrency import read_global_concurrency_limit_by_name as read_global_concurrency_limit_by_name
    from .engine.concurrency import upsert_global_concurrency_limit_by_name as upsert_global_concurrency_limit_by_name
    from .engine.context import tags as tags
    from .engine.errors import AcquireConcurrencySlotTimeoutError as AcquireConcurrencySlotTimeoutError
    from .engine.errors import Cancelled as Cancelled
    from .engine.errors import CommandFailed as CommandFailed
    from .engine.errors import CommandTimedOut as CommandTimedOut
    from .engine.errors import ConcurrencySlotAcquisitionError as ConcurrencySlotAcquisitionError
    from .engine.errors import FlowdeckError as FlowdeckError
    from .engine.errors import FlowPauseTimeout as FlowPauseTimeout
    from .engine.errors import InputError as InputError
    from .engine.errors import MappingLengthMismatch as MappingLengthMismatch
    from .engine.errors import MappingMissingIterable as MappingMissingIterable
    from .engine.errors import MissingContextError as MissingContextError
    from .engine.errors import PauseTimedOut as PauseTimedOut
    from .engine.flows import Flow as Flow
    from .engine.flows import flow as flow
    from .engine.futures import Future as Future
    from .engine.futures import PrefectFuture as PrefectFuture
    from .engine.futures import as_completed as as_completed
    from .engine.futures import resolve_futures_to_states as resolve_futures_to_states
    from .engine.futures import wait as wait
    from .engine.harness import flowdeck_test_harness as flowdeck_test_harness
    from .engine.harness import prefect_test_harness as prefect_test_harness
    from .engine.lock_managers import FileSystemLockManager as FileSystemLockManager
    from .engine.lock_managers import MemoryLockManager as MemoryLockManager
    from .engine.logs import disable_run_logger as disable_run_logger
    from .engine.logs import flow_run_logger as flow_run_logger
    from .engine.logs import get_run_logger as get_run_logger
    from .engine.logs import task_run_logger as task_run_logger
    from .engine.metrics import metric as metric
    from .engine.own_processes import with_context as with_context
    from .engine.pausing import pause_flow_run as pause_flow_run
    from .engine.pausing import resume_flow_run as resume_flow_run
    from .engine.pausing import suspend_flow_run as suspend_flow_run
    from .engine.retries import exponential_backoff as exponential_backoff
    from .engine.run_context import FlowRunContext as FlowRunContext
    from .engine.run_context import TaskRunContext as TaskRunContext
    from .engine.run_context import get_run_context as get_run_context
    from .engine.run_deployment import run_deployment as run_deployment
    from .engine.run_inputs import RunInput as RunInput
    from .engine.run_inputs import receive_input as receive_input
    from .engine.run_inputs import send_input as send_input
    from .engine.run_types import FlowRun as FlowRun
    from .engine.run_types import TaskRun as TaskRun
    from .engine.runners import ConcurrentTaskRunner as ConcurrentTaskRunner
    from .engine.runners import ProcessPoolTaskRunner as ProcessPoolTaskRunner
    from .engine.runners import ThreadPoolTaskRunner as ThreadPoolTaskRunner
    from .engine.schedule_kinds import Dates as Dates
    from .engine.schedule_kinds import RRule as RRule
    from .engine.schedules import Cron as Cron
    from .engine.schedules import Interval as Interval
    from .engine.secrets import Secret as Secret
    from .engine.serving import serve as serve
    from .engine.sh import ShResult as ShResult
    from .engine.sh import async_sh as async_sh
    from .engine.sh import sh as sh
    from .engine.sleeping import sleep as sleep
    from .engine.sleeping import sleep_until as sleep_until
    from .engine.states import Completed as Completed
    from .engine.states import Crashed as Crashed
    from .engine.states import Failed as Failed
    from .engine.states import Paused as Paused
    from .engine.states import Pending as Pending
    from .engine.states import Running as Running
    from .engine.states import Scheduled as Scheduled
    from .engine.states import State as State
    from .engine.tasks import Task as Task
    from .engine.tasks import task as task
    from .engine.transactions import CommitMode as CommitMode
    from .engine.transactions import Transaction as Transaction
    from .engine.transactions import TransactionState as TransactionState
    from .engine.transactions import get_transaction as get_transaction
    from .engine.transactions import transaction as transaction
    from .engine.user_events import Event as Event
    from .engine.user_events import emit_event as emit_event
    from .engine.variables import Variable as Variable

_HOME = {
    "AcquireConcurrencySlotTimeoutError": "errors",
    "Artifact": "artifacts",
    "CacheKeyFnPolicy": "cache_policies",
    "CachePolicy": "cache_policies",
    "Cancelled": "errors",
    "CommandFailed": "errors",
    "CommandTimedOut": "errors",
    "CommitMode": "transactions",
    "Completed": "states",
    "ConcurrencySlotAcquisitionError": "errors",
    "ConcurrentTaskRunner": "runners",
    "Crashed": "states",
    "Cron": "schedules",
    "DEFAULT": "cache_policies",
    "DateTimeParameter": "classic",
    "Dates": "schedule_kinds",
    "Event": "user_events",
    "FLOW_PARAMETERS": "cache_policies",
    "Edge": "classic",
    "Failed": "states",
    "FileSystemLockManager": "lock_managers",
    "FilterTask": "classic_control",
    "Flow": "flows",
    "FlowPauseTimeout": "errors",
    "FlowRun": "run_types",
    "FlowRunContext": "run_context",
    "FlowdeckError": "errors",
    "Future": "futures",
    "INPUTS": "cache_policies",
    "InputError": "errors",
    "Interval": "schedules",
    "IsolationLevel": "cache_policies",
    "MappingLengthMismatch": "errors",
    "MappingMissingIterable": "errors",
    "MemoryLockManager": "lock_managers",
    "MissingContextError": "errors",
    "NONE": "cache_policies",
    "NO_CACHE": "cache_policies",
    "Parameter": "classic",
    "PauseTimedOut": "errors",
    "Paused": "states",
    "Pending": "states",
    "PrefectFuture": "futures",
    "ProcessPoolTaskRunner": "runners",
    "RRule": "schedule_kinds",
    "RUN_ID": "cache_policies",
    "RunInput": "run_inputs",
    "Running": "states",
    "Scheduled": "states",
    "Secret": "secrets",
    "ShResult": "sh",
    "State": "states",
    "TASK_SOURCE": "cache_policies",
    "Task": "tasks",
    "TaskRun": "run_types",
    "TaskRunContext": "run_context",
    "ThreadPoolTaskRunner": "runners",
    "Transaction": "transactions",
    "TransactionState": "transactions",
    "Variable": "variables",
    "allow_failure": "annotations",
    "apply_map": "classic_control",
    "as_completed": "futures",
    "async_sh": "sh",
    "case": "classic_control",
    "concurrency": "concurrency",
    "context": "classic_context",
    "create_concurrency_limit": "concurrency",
    "create_image_artifact": "artifacts",
    "create_link_artifact": "artifacts",
    "create_markdown_artifact": "artifacts",
    "create_progress_artifact": "artifacts",
    "create_table_artifact": "artifacts",
    "delete_concurrency_limit_by_tag": "concurrency",
    "delete_global_concurrency_limit_by_name": "concurrency",
    "disable_run_logger": "logs",
    "emit_event": "user_events",
    "exponential_backoff": "retries",
    "flatten": "classic",
    "flow": "flows",
    "flow_run_logger": "logs",
    "flowdeck_test_harness": "harness",
    "get_run_context": "run_context",
    "get_run_logger": "logs",
    "get_transaction": "transactions",
    "ifelse": "classic_control",
    "mapped": "classic",
    "merge": "classic_control",
    "metric": "metrics",
    "opaque": "annotations",
    "pause_flow_run": "pausing",
    "pause_task": "classic_signals",
    "prefect_test_harness": "harness",
    "quote": "annotations",
    "rate_limit": "concurrency",
    "read_global_concurrency_limit_by_name": "concurrency",
    "receive_input": "run_inputs",
    "resolve_futures_to_states": "futures",
    "resource_manager": "classic_resources",
    "resume_flow_run": "pausing",
    "run_deployment": "run_deployment",
    "runtime": "runtime",
    "send_input": "run_inputs",
    "serve": "serving",
    "sh": "sh",
    "sleep": "sleeping",
    "sleep_until": "sleeping",
    "suspend_flow_run": "pausing",
    "switch": "classic_control",
    "tags": "context",
    "task": "tasks",
    "task_input_hash": "cache_policies",
    "task_run_logger": "logs",
    "transaction": "transactions",
    "unmapped": "annotations",
    "update_progress_artifact": "artifacts",
    "upsert_global_concurrency_limit_by_name": "concurrency",
    "wait": "futures",
    "with_context": "own_processes",
}
_STORED = {
    "Annotation": "annotations",
    "FlowRunView": "hooks",
    "Recording": "states",
    "StoredState": "stored_state",
    "TaskRunView": "hooks",
    "_UNSET": "states",
}
"""Names that values in a store may hold and nobody imports; they are found here for good."""
_MODULES = frozenset({"runtime"})
"""Names that are modules themselves."""
_BESIDE = frozenset(
    {
        "cache_validators", "errors", "events", "executors", "futures", "schedules", "signals", "state", "testing",
        "triggers",
    }
)  # fmt: skip
"""Modules that stand beside this one: ``flowdeck.triggers.all_failed``."""
__all__ = sorted(_HOME, key=str.casefold)
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _BESIDE:
        return import_module(f".{name}", __name__)
    home = _HOME.get(name) or _STORED.get(name)
    if home is None:
        raise AttributeError(f"module 'flowdeck' has no attribute {name!r}")
    module = import_module(f".engine.{home}", __name__)
    value: object = module if name in _MODULES else getattr(module, name)
    if isinstance(value, FunctionType):
        value.__module__ = __name__  # what is stored names it here, wherever it stands
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, *_BESIDE, "__version__"]
