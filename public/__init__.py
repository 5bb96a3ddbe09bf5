"""Flowdeck: durable Python workflows on one machine, shown in the terminal.

The public names, imported on first use so that ``from flowdeck import flow, task`` stays cheap.
"""

from __future__ import annotations

import os
from types import FunctionType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowdeck import cache_validators as cache_validators
    from flowdeck import errors as errors
    from flowdeck import events as events
    from flowdeck import executors as executors
    from flowdeck import futures as futures
    from flowdeck import runtime as runtime
    from flowdeck import schedules as schedules
    from flowdeck import signals as signals
    from flowdeck import state as state
    from flowdeck import testing as testing
    from flowdeck import triggers as triggers
    from flowdeck.engine.authoring.annotations import allow_failure as allow_failure
    from flowdeck.engine.authoring.annotations import opaque as opaque
    from flowdeck.engine.authoring.annotations import quote as quote
    from flowdeck.engine.authoring.annotations import unmapped as unmapped
    from flowdeck.engine.authoring.cache_policies import DEFAULT as DEFAULT
    from flowdeck.engine.authoring.cache_policies import FLOW_PARAMETERS as FLOW_PARAMETERS
    from flowdeck.engine.authoring.cache_policies import INPUTS as INPUTS
    from flowdeck.engine.authoring.cache_policies import NO_CACHE as NO_CACHE
    from flowdeck.engine.authoring.cache_policies import NONE as NONE
    from flowdeck.engine.authoring.cache_policies import RUN_ID as RUN_ID
    from flowdeck.engine.authoring.cache_policies import TASK_SOURCE as TASK_SOURCE
    from flowdeck.engine.authoring.cache_policies import CacheKeyFnPolicy as CacheKeyFnPolicy
    from flowdeck.engine.authoring.cache_policies import CachePolicy as CachePolicy
    from flowdeck.engine.authoring.cache_policies import IsolationLevel as IsolationLevel
    from flowdeck.engine.authoring.cache_policies import task_input_hash as task_input_hash
    from flowdeck.engine.authoring.flows import Flow as Flow
    from flowdeck.engine.authoring.flows import flow as flow
    from flowdeck.engine.authoring.lock_managers import FileSystemLockManager as FileSystemLockManager
    from flowdeck.engine.authoring.lock_managers import MemoryLockManager as MemoryLockManager
    from flowdeck.engine.authoring.retries import exponential_backoff as exponential_backoff
    from flowdeck.engine.authoring.tags import tags as tags
    from flowdeck.engine.authoring.task_runners import ConcurrentTaskRunner as ConcurrentTaskRunner
    from flowdeck.engine.authoring.task_runners import ProcessPoolTaskRunner as ProcessPoolTaskRunner
    from flowdeck.engine.authoring.task_runners import ThreadPoolTaskRunner as ThreadPoolTaskRunner
    from flowdeck.engine.authoring.tasks import Task as Task
    from flowdeck.engine.authoring.tasks import task as task
    from flowdeck.engine.authoring.transaction import CommitMode as CommitMode
    from flowdeck.engine.authoring.transaction import Transaction as Transaction
    from flowdeck.engine.authoring.transaction import TransactionState as TransactionState
    from flowdeck.engine.authoring.transaction import transaction as transaction
    from flowdeck.engine.authoring.views import FlowRun as FlowRun
    from flowdeck.engine.authoring.views import TaskRun as TaskRun
    from flowdeck.engine.errors import AcquireConcurrencySlotTimeoutError as AcquireConcurrencySlotTimeoutError
    from flowdeck.engine.errors import CommandFailed as CommandFailed
    from flowdeck.engine.errors import CommandTimedOut as CommandTimedOut
    from flowdeck.engine.errors import ConcurrencySlotAcquisitionError as ConcurrencySlotAcquisitionError
    from flowdeck.engine.errors import FlowdeckError as FlowdeckError
    from flowdeck.engine.errors import FlowPauseTimeout as FlowPauseTimeout
    from flowdeck.engine.errors import InputError as InputError
    from flowdeck.engine.errors import MappingLengthMismatch as MappingLengthMismatch
    from flowdeck.engine.errors import MappingMissingIterable as MappingMissingIterable
    from flowdeck.engine.errors import MissingContextError as MissingContextError
    from flowdeck.engine.errors import PauseTimedOut as PauseTimedOut
    from flowdeck.engine.prefect1.context import context as context
    from flowdeck.engine.prefect1.control_flow import FilterTask as FilterTask
    from flowdeck.engine.prefect1.control_flow import apply_map as apply_map
    from flowdeck.engine.prefect1.control_flow import case as case
    from flowdeck.engine.prefect1.control_flow import ifelse as ifelse
    from flowdeck.engine.prefect1.control_flow import merge as merge
    from flowdeck.engine.prefect1.control_flow import switch as switch
    from flowdeck.engine.prefect1.parameters import DateTimeParameter as DateTimeParameter
    from flowdeck.engine.prefect1.parameters import Parameter as Parameter
    from flowdeck.engine.prefect1.resources import resource_manager as resource_manager
    from flowdeck.engine.prefect1.signals import pause_task as pause_task
    from flowdeck.engine.prefect1.wiring import Edge as Edge
    from flowdeck.engine.prefect1.wiring import flatten as flatten
    from flowdeck.engine.prefect1.wiring import mapped as mapped
    from flowdeck.engine.running.calls.futures import Future as Future
    from flowdeck.engine.running.calls.futures import PrefectFuture as PrefectFuture
    from flowdeck.engine.running.calls.futures import as_completed as as_completed
    from flowdeck.engine.running.calls.futures import resolve_futures_to_states as resolve_futures_to_states
    from flowdeck.engine.running.calls.futures import wait as wait
    from flowdeck.engine.running.transactions.parts import get_transaction as get_transaction
    from flowdeck.engine.schedules.rules import Dates as Dates
    from flowdeck.engine.schedules.rules import RRule as RRule
    from flowdeck.engine.schedules.schedule import Cron as Cron
    from flowdeck.engine.schedules.schedule import Interval as Interval
    from flowdeck.engine.sdk.artifacts import Artifact as Artifact
    from flowdeck.engine.sdk.artifacts import create_image_artifact as create_image_artifact
    from flowdeck.engine.sdk.artifacts import create_link_artifact as create_link_artifact
    from flowdeck.engine.sdk.artifacts import create_markdown_artifact as create_markdown_artifact
    from flowdeck.engine.sdk.artifacts import create_progress_artifact as create_progress_artifact
    from flowdeck.engine.sdk.artifacts import create_table_artifact as create_table_artifact
    from flowdeck.engine.sdk.artifacts import update_progress_artifact as update_progress_artifact
    from flowdeck.engine.sdk.concurrency import concurrency as concurrency
    from flowdeck.engine.sdk.concurrency import create_concurrency_limit as create_concurrency_limit
    from flowdeck.engine.sdk.concurrency import delete_concurrency_limit_by_tag as delete_concurrency_limit_by_tag
    from flowdeck.engine.sdk.concurrency import (
        delete_global_concurrency_limit_by_name as delete_global_concurrency_limit_by_name,
    )
    from flowdeck.engine.sdk.concurrency import rate_limit as rate_limit
    from flowdeck.engine.sdk.concurrency import (
        read_global_concurrency_limit_by_name as read_global_concurrency_limit_by_name,
    )
    from flowdeck.engine.sdk.concurrency import (
        upsert_global_concurrency_limit_by_name as upsert_global_concurrency_limit_by_name,
    )
    from flowdeck.engine.sdk.events import Event as Event
    from flowdeck.engine.sdk.events import emit_event as emit_event
    from flowdeck.engine.sdk.harness import flowdeck_test_harness as flowdeck_test_harness
    from flowdeck.engine.sdk.harness import prefect_test_harness as prefect_test_harness
    from flowdeck.engine.sdk.logs import disable_run_logger as disable_run_logger
    from flowdeck.engine.sdk.logs import flow_run_logger as flow_run_logger
    from flowdeck.engine.sdk.logs import get_run_logger as get_run_logger
    from flowdeck.engine.sdk.logs import task_run_logger as task_run_logger
    from flowdeck.engine.sdk.metrics import metric as metric
    from flowdeck.engine.sdk.pausing import pause_flow_run as pause_flow_run
    from flowdeck.engine.sdk.pausing import resume_flow_run as resume_flow_run
    from flowdeck.engine.sdk.pausing import suspend_flow_run as suspend_flow_run
    from flowdeck.engine.sdk.run_context import FlowRunContext as FlowRunContext
    from flowdeck.engine.sdk.run_context import TaskRunContext as TaskRunContext
    from flowdeck.engine.sdk.run_context import get_run_context as get_run_context
    from flowdeck.engine.sdk.run_deployment import run_deployment as run_deployment
    from flowdeck.engine.sdk.run_inputs import RunInput as RunInput
    from flowdeck.engine.sdk.run_inputs import receive_input as receive_input
    from flowdeck.engine.sdk.run_inputs import send_input as send_input
    from flowdeck.engine.sdk.serving import serve as serve
    from flowdeck.engine.sdk.sh import ShResult as ShResult
    from flowdeck.engine.sdk.sh import async_sh as async_sh
    from flowdeck.engine.sdk.sh import sh as sh
    from flowdeck.engine.sdk.sleeping import sleep as sleep
    from flowdeck.engine.sdk.sleeping import sleep_until as sleep_until
    from flowdeck.engine.sdk.variables import Variable as Variable
    from flowdeck.engine.sdk.with_context import with_context as with_context
    from flowdeck.engine.secrets.secret import Secret as Secret
    from flowdeck.engine.states.state import Cancelled as Cancelled
    from flowdeck.engine.states.state import Completed as Completed
    from flowdeck.engine.states.state import Crashed as Crashed
    from flowdeck.engine.states.state import Failed as Failed
    from flowdeck.engine.states.state import Paused as Paused
    from flowdeck.engine.states.state import Pending as Pending
    from flowdeck.engine.states.state import Running as Running
    from flowdeck.engine.states.state import Scheduled as Scheduled
    from flowdeck.engine.states.state import State as State

_HOME = {
    "AcquireConcurrencySlotTimeoutError": "errors",
    "Artifact": "sdk.artifacts",
    "CacheKeyFnPolicy": "authoring.cache_policies",
    "CachePolicy": "authoring.cache_policies",
    "Cancelled": "states.state",
    "CommandFailed": "errors",
    "CommandTimedOut": "errors",
    "CommitMode": "authoring.transaction",
    "Completed": "states.state",
    "ConcurrencySlotAcquisitionError": "errors",
    "ConcurrentTaskRunner": "authoring.task_runners",
    "Crashed": "states.state",
    "Cron": "schedules.schedule",
    "DEFAULT": "authoring.cache_policies",
    "DateTimeParameter": "prefect1.parameters",
    "Dates": "schedules.rules",
    "Event": "sdk.events",
    "FLOW_PARAMETERS": "authoring.cache_policies",
    "Edge": "prefect1.wiring",
    "Failed": "states.state",
    "FileSystemLockManager": "authoring.lock_managers",
    "FilterTask": "prefect1.control_flow",
    "Flow": "authoring.flows",
    "FlowPauseTimeout": "errors",
    "FlowRun": "authoring.views",
    "FlowRunContext": "sdk.run_context",
    "FlowdeckError": "errors",
    "Future": "running.calls.futures",
    "INPUTS": "authoring.cache_policies",
    "InputError": "errors",
    "Interval": "schedules.schedule",
    "IsolationLevel": "authoring.cache_policies",
    "MappingLengthMismatch": "errors",
    "MappingMissingIterable": "errors",
    "MemoryLockManager": "authoring.lock_managers",
    "MissingContextError": "errors",
    "NONE": "authoring.cache_policies",
    "NO_CACHE": "authoring.cache_policies",
    "Parameter": "prefect1.parameters",
    "PauseTimedOut": "errors",
    "Paused": "states.state",
    "Pending": "states.state",
    "PrefectFuture": "running.calls.futures",
    "ProcessPoolTaskRunner": "authoring.task_runners",
    "RRule": "schedules.rules",
    "RUN_ID": "authoring.cache_policies",
    "RunInput": "sdk.run_inputs",
    "Running": "states.state",
    "Scheduled": "states.state",
    "Secret": "secrets.secret",
    "ShResult": "sdk.sh",
    "State": "states.state",
    "TASK_SOURCE": "authoring.cache_policies",
    "Task": "authoring.tasks",
    "TaskRun": "authoring.views",
    "TaskRunContext": "sdk.run_context",
    "ThreadPoolTaskRunner": "authoring.task_runners",
    "Transaction": "authoring.transaction",
    "TransactionState": "authoring.transaction",
    "Variable": "sdk.variables",
    "allow_failure": "authoring.annotations",
    "apply_map": "prefect1.control_flow",
    "as_completed": "running.calls.futures",
    "async_sh": "sdk.sh",
    "case": "prefect1.control_flow",
    "concurrency": "sdk.concurrency",
    "context": "prefect1.context",
    "create_concurrency_limit": "sdk.concurrency",
    "create_image_artifact": "sdk.artifacts",
    "create_link_artifact": "sdk.artifacts",
    "create_markdown_artifact": "sdk.artifacts",
    "create_progress_artifact": "sdk.artifacts",
    "create_table_artifact": "sdk.artifacts",
    "delete_concurrency_limit_by_tag": "sdk.concurrency",
    "delete_global_concurrency_limit_by_name": "sdk.concurrency",
    "disable_run_logger": "sdk.logs",
    "emit_event": "sdk.events",
    "exponential_backoff": "authoring.retries",
    "flatten": "prefect1.wiring",
    "flow": "authoring.flows",
    "flow_run_logger": "sdk.logs",
    "flowdeck_test_harness": "sdk.harness",
    "get_run_context": "sdk.run_context",
    "get_run_logger": "sdk.logs",
    "get_transaction": "running.transactions.parts",
    "ifelse": "prefect1.control_flow",
    "mapped": "prefect1.wiring",
    "merge": "prefect1.control_flow",
    "metric": "sdk.metrics",
    "opaque": "authoring.annotations",
    "pause_flow_run": "sdk.pausing",
    "pause_task": "prefect1.signals",
    "prefect_test_harness": "sdk.harness",
    "quote": "authoring.annotations",
    "rate_limit": "sdk.concurrency",
    "read_global_concurrency_limit_by_name": "sdk.concurrency",
    "receive_input": "sdk.run_inputs",
    "resolve_futures_to_states": "running.calls.futures",
    "resource_manager": "prefect1.resources",
    "resume_flow_run": "sdk.pausing",
    "run_deployment": "sdk.run_deployment",
    "runtime": "sdk.runtime",
    "send_input": "sdk.run_inputs",
    "serve": "sdk.serving",
    "sh": "sdk.sh",
    "sleep": "sdk.sleeping",
    "sleep_until": "sdk.sleeping",
    "suspend_flow_run": "sdk.pausing",
    "switch": "prefect1.control_flow",
    "tags": "authoring.tags",
    "task": "authoring.tasks",
    "task_input_hash": "authoring.cache_policies",
    "task_run_logger": "sdk.logs",
    "transaction": "authoring.transaction",
    "unmapped": "authoring.annotations",
    "update_progress_artifact": "sdk.artifacts",
    "upsert_global_concurrency_limit_by_name": "sdk.concurrency",
    "wait": "running.calls.futures",
    "with_context": "sdk.with_context",
}
_STORED = {
    "Annotation": "authoring.annotations",
    "CompoundCachePolicy": "authoring.cache_policies",
    "FlowFileError": "errors",
    "FlowParameters": "authoring.cache_policies",
    "FlowRunView": "authoring.views",
    "Inputs": "authoring.cache_policies",
    "NoCache": "authoring.cache_policies",
    "NotAllowed": "errors",
    "NotFound": "errors",
    "OptionError": "errors",
    "ParameterError": "errors",
    "Recording": "states.state",
    "ResultRecord": "authoring.transaction",
    "ResultUnreadable": "errors",
    "RunCrashed": "errors",
    "RunFailed": "errors",
    "RunId": "authoring.cache_policies",
    "RunTimedOut": "errors",
    "ScheduleError": "errors",
    "SecretExists": "errors",
    "StaleState": "errors",
    "StorageKeyPolicy": "authoring.cache_policies",
    "StoreCorrupt": "errors",
    "StoreError": "errors",
    "StoreFull": "errors",
    "StoreLocked": "errors",
    "StoreMissing": "errors",
    "StoreNewer": "errors",
    "StoreReadOnly": "errors",
    "StoreUnsupported": "errors",
    "StoreUntrusted": "errors",
    "StoredState": "encoding.stored_state",
    "TaskRunView": "authoring.views",
    "TaskSource": "authoring.cache_policies",
    "UpstreamFailed": "errors",
    "UsageError": "errors",
    "VariableExists": "errors",
    "WorkerDied": "errors",
    "_UNSET": "states.state",
    "_of_flow_file": "encoding.flow_file_objects",
    "_remade": "prefect1.signals",
    "_retry": "prefect1.signals",
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

if "FLOWDECK_CODE_HOME" in os.environ:  # a process that a run's code started
    from flowdeck.engine.system.code_home import find_in_child

    find_in_child()


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _BESIDE or name in _MODULES:
        return import_module(f".{name}", __name__)
    home = _HOME.get(name) or _STORED.get(name)
    if home is None:
        raise AttributeError(f"module 'flowdeck' has no attribute {name!r}")
    module = import_module(f".engine.{home}", __name__)
    value: object = getattr(module, name)
    if isinstance(value, FunctionType):
        value.__module__ = __name__  # what is stored names it here, wherever it stands
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, *_BESIDE, "__version__"]
