"""Where what older versions named in stored values stands now: a store once made stays readable.

New values name the public modules only (``flowdeck.ShResult``, ``flowdeck.CommandFailed``). Versions before them
named the files of the engine, which have moved since. Entries are added when a file moves and never
removed.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

_PACKAGE: Final = __name__.partition(".")[0]
_ENGINE: Final = f"{_PACKAGE}.engine"
FORMER: Final[dict[str, tuple[str, ...]]] = {
    "allowed": ("states.allowed",),
    "annotations": ("authoring.annotations",),
    "answering": ("control.answering",),
    "artifacts": ("sdk.artifacts",),
    "asking": ("running.lifecycle.asking", "control.questions"),
    "attempts": ("running.lifecycle.attempts",),
    "authored": ("authoring.authored",),
    "awaiting": ("system.awaiting",),
    "borders": ("running.effects.borders",),
    "cache_policies": ("authoring.cache_policies",),
    "caching": ("running.transactions.caching",),
    "calls": ("running.lifecycle.calling",),
    "capture": ("running.output.capture",),
    "classic": ("prefect1.flow", "prefect1.flow_function", "prefect1.parameters", "prefect1.wiring"),
    "classic_again": ("running.lifecycle.repeats",),
    "classic_caching": ("prefect1.caching",),
    "classic_context": ("prefect1.context",),
    "classic_control": ("prefect1.control_flow",),
    "classic_executors": ("prefect1.executors",),
    "classic_graph": ("prefect1.graph", "prefect1.parameters", "prefect1.wiring"),
    "classic_operators": ("authoring.drawable", "prefect1.computing"),
    "classic_resources": ("prefect1.resources",),
    "classic_runs": ("prefect1.on_schedule",),
    "classic_schedules": ("prefect1.schedules",),
    "classic_signals": ("prefect1.signals",),
    "classic_states": ("prefect1.states",),
    "classic_tasks": ("prefect1.tasks", "prefect1.rules", "prefect1.state_handlers"),
    "classic_triggers": ("prefect1.triggers",),
    "classic_visualize": ("prefect1.visualize",),
    "classic_walk": ("prefect1.walk",),
    "clock": ("system.clock",),
    "code_hash": ("encoding.code_hash",),
    "code_host": ("running.run_process.code_host",),
    "codec": ("encoding.codec",),
    "concurrency": ("sdk.concurrency",),
    "context": ("authoring.tags",),
    "control": ("control.control",),
    "crash_hooks": ("running.run_process.crash_hooks",),
    "daemon": ("daemon.daemon",),
    "deaths": ("states.exits",),
    "decisions": ("control.decisions",),
    "defaults": ("settings",),
    "dependencies": ("running.calls.dependencies",),
    "dispatcher": ("daemon.dispatcher",),
    "drawing": ("prefect1.drawing",),
    "echo": ("running.output.echo",),
    "effects": ("running.effects.effects",),
    "errors": ("states.state",),
    "explain": ("running.calls.replay",),
    "fingerprint": ("encoding.fingerprint",),
    "flow_files": ("daemon.flow_files",),
    "flow_limits": ("daemon.flow_limits",),
    "flow_run": ("running.calls.flow_run",),
    "flows": ("authoring.flows",),
    "futures": ("running.calls.futures",),
    "garbage": ("running.runners.garbage",),
    "gate": ("running.effects.gate",),
    "generators": ("running.lifecycle.generators",),
    "harness": ("sdk.harness",),
    "hooks": ("authoring.views", "running.calls.hooks"),
    "hosts": ("daemon.hosts",),
    "inotify": ("system.inotify",),
    "interrupts": ("running.effects.interrupts",),
    "journal": ("running.calls.journal",),
    "json_schema": ("encoding.json_schema",),
    "leaving": ("running.run_process.suspending",),
    "lineage": ("running.calls.lineage",),
    "loader": ("authoring.loader", "system.flow_files"),
    "lock_managers": ("authoring.lock_managers",),
    "logs": ("sdk.logs",),
    "loop": ("system.loop",),
    "machine": ("states.machine",),
    "masked_output": ("running.output.masked_output",),
    "masking": ("secrets.masking",),
    "metrics": ("sdk.metrics",),
    "node_cancel": ("running.run_process.node_requests",),
    "node_control": ("control.nodes",),
    "outstanding": ("running.calls.outstanding",),
    "own_filters": ("running.run_process.schedule_filters",),
    "own_processes": ("sdk.with_context",),
    "parameters": ("authoring.parameters",),
    "parcels": ("running.runners.payloads",),
    "pausing": ("sdk.pausing",),
    "placing": ("sdk.placing",),
    "processes": ("system.processes",),
    "reaping": ("control.reaping",),
    "registration": ("daemon.registration", "schedules.ticks"),
    "retries": ("authoring.retries",),
    "retry_plan": ("control.retry_plan",),
    "retrying": ("control.retrying",),
    "rollback": ("running.transactions.rollback",),
    "run_context": ("sdk.run_context",),
    "run_deployment": ("sdk.run_deployment",),
    "run_inputs": ("sdk.run_inputs",),
    "run_process": (
        "running.run_process.entry", "system.actors", "running.run_process.answers", "running.run_process.claiming",
    ),
    "run_types": ("authoring.views",),
    "runners": ("authoring.task_runners", "running.runners.threads"),
    "runtime": ("sdk.runtime",),
    "schedule_adjustments": ("schedules.adjustments",),
    "schedule_clocks": ("schedules.clocks",),
    "schedule_filters": ("schedules.filters",),
    "schedule_kinds": ("schedules.composite", "schedules.kinds", "schedules.rules"),
    "scheduler": ("daemon.scheduler",),
    "schedules": ("schedules.schedule", "schedules.kinds", "schedules.options"),
    "secrets": ("secrets.secret",),
    "serializers": ("encoding.serializers",),
    "serving": ("sdk.serving", "control.deployable"),
    "session": ("running.run_process.session",),
    "sh": ("sdk.sh",),
    "sh_output": ("sdk.sh_output",),
    "sleeping": ("sdk.sleeping",),
    "slot_knots": ("running.slots.deadlocks",),
    "slot_request": ("running.slots.requests",),
    "slot_steps": ("running.slots.steps",),
    "slot_words": ("running.slots.causes",),
    "slots": ("running.slots.queue",),
    "stable_hash": ("encoding.stable_hash",),
    "states": ("states.state",),
    "stored_state": ("encoding.stored_state",),
    "subflow_call": ("running.calls.subflow_call",),
    "subflows": ("running.lifecycle.subflows",),
    "supervisor": ("daemon.supervisor",),
    "task_call": ("running.calls.task_call",),
    "task_run": ("running.lifecycle.task_steps",),
    "tasks": ("authoring.tasks",),
    "time_zones": ("schedules.time_zones",),
    "timeouts": ("running.run_process.timeouts",),
    "transaction_keys": ("running.transactions.keys",),
    "transaction_parts": ("running.transactions.parts", "running.transactions.hooks", "running.transactions.kept"),
    "transaction_steps": ("running.transactions.steps",),
    "transactions": ("authoring.transaction", "running.transactions.parts"),
    "user_events": ("sdk.events",),
    "variables": ("sdk.variables", "control.variables"),
    "watchers": ("daemon.watchers",),
    "worker": ("running.runners.worker_main",),
    "worker_host": ("running.runners.fork_server",),
    "worker_line": ("running.runners.worker",),
    "worker_server": ("running.runners.fork_client",),
    "workers": ("running.runners.processes",),
}
"""A module's former name, below the engine, and the modules that hold now what it held."""

_PUBLIC: Final = {
    "prefect1.executors": "executors", "prefect1.schedules": "schedules", "prefect1.signals": "signals",
    "prefect1.states": "state", "authoring.task_runners": "executors", "schedules.clocks": "schedules",
    "schedules.composite": "schedules",
}  # fmt: skip
"""Whose classes are named by which public module (all others by the package itself)."""

_FIRST: Final = {
    "engine.annotations": "Annotation allow_failure opaque quote unmapped",
    "engine.artifacts": "Artifact",
    "engine.cache_policies": "CacheKeyFnPolicy CachePolicy CompoundCachePolicy FlowParameters Inputs IsolationLevel "
                             "NoCache RunId StorageKeyPolicy TaskSource",
    "engine.classic_executors": "DaskExecutor LocalDaskExecutor",
    "engine.classic_schedules": "Schedule",
    "engine.classic_signals": "_remade _retry",
    "engine.errors": "AcquireConcurrencySlotTimeoutError Cancelled CommandFailed CommandTimedOut "
                     "ConcurrencySlotAcquisitionError FlowFileError InputError MappingLengthMismatch "
                     "MappingMissingIterable MissingContextError NotAllowed NotFound OptionError ParameterError "
                     "PauseTimedOut ResultUnreadable RunCrashed RunFailed RunTimedOut ScheduleError SecretExists "
                     "UpstreamFailed UsageError VariableExists WorkerDied",
    "engine.hooks": "FlowRunView TaskRunView",
    "engine.lock_managers": "FileSystemLockManager MemoryLockManager",
    "engine.run_inputs": "RunInput",
    "engine.runners": "ConcurrentTaskRunner LocalExecutor ProcessPoolTaskRunner ThreadPoolTaskRunner",
    "engine.schedule_clocks": "Clock ClockEvent CronClock DatesClock IntervalClock RRuleClock",
    "engine.schedule_kinds": "Composite Dates RRule",
    "engine.schedules": "Cron Interval",
    "engine.secrets": "Secret",
    "engine.sh": "ShResult",
    "engine.states": "Completed Crashed Failed Paused Pending Recording Running Scheduled State _UNSET",
    "engine.transactions": "CommitMode ResultRecord TransactionState",
    "engine.user_events": "Event",
    "engine.variables": "Variable",
    "store.errors": "FlowdeckError StaleState StoreCorrupt StoreError StoreFull StoreLocked StoreMissing StoreNewer "
                    "StoreReadOnly StoreUnsupported",
}  # fmt: skip
"""Where the classes of ours that inputs may hold stood first. Keys of the cache name them so; this never changes."""
_FIRST_OF_NAME: Final = {name: f"{_PACKAGE}.{place}" for place, names in _FIRST.items() for name in names.split()}
_FIRST_OF_MODULE: Final = {
    f"{_PACKAGE}.state": f"{_ENGINE}.classic_states", f"{_PACKAGE}.signals": f"{_ENGINE}.classic_signals",
}  # fmt: skip


def make_findable() -> None:
    """Before something is pickled: cloudpickle names a class only by a module that is loaded."""
    for home, public in _PUBLIC.items():
        if f"{_ENGINE}.{home}" in sys.modules and f"{_PACKAGE}.{public}" not in sys.modules:
            import_module(f"{_PACKAGE}.{public}")


def find(module: str, name: str) -> Any:
    """The class or function that a stored value names; raises AttributeError or ImportError when there is none."""
    head, _, former = module.rpartition(".")
    first, *rest = name.split(".")
    try:
        if head != _ENGINE or former not in FORMER:
            raise AttributeError(first)
        found = _moved(former, first)
    except AttributeError:
        found = getattr(import_module(module), first)
    for part in rest:
        found = getattr(found, part)
    return found


def first_module(module: str, name: str) -> str:
    """The module that values named first for what they name by this one now."""
    return _FIRST_OF_MODULE.get(module) or _FIRST_OF_NAME.get(name, module)


def make_importable() -> None:
    """Before something is unpickled: code in a value, and a serializer of the user's own, import what it names."""
    if _FINDER in sys.meta_path:
        return
    from pkgutil import iter_modules

    for one in iter_modules(import_module(_ENGINE).__path__):  # rooms and files that have a name of before
        if one.name in FORMER:
            module = import_module(f"{_ENGINE}.{one.name}")
            files = {file.name for file in iter_modules(getattr(module, "__path__", ()))}
            vars(module)["__getattr__"] = partial(_moved, one.name, files=files)
    sys.meta_path.append(_FINDER)


def _moved(former: str, name: str, files: Collection[str] = ()) -> Any:
    """What a module of before held under a name, where it stands now.

    What tools ask any module for, and ``files`` of a room that are not loaded yet, are no such names.
    """
    if name in files or (name.startswith("__") and name.endswith("__")):
        raise AttributeError(f"module {f'{_ENGINE}.{former}'!r} has no attribute {name!r}")
    for place in FORMER[former]:
        module = import_module(f"{_ENGINE}.{place}")
        if hasattr(module, name):
            return getattr(module, name)
    raise AttributeError(f"module {f'{_ENGINE}.{former}'!r} has no attribute {name!r}")


class _Finder:
    """Finds a module of before when nothing stands under its name any more: an empty one that knows where to look."""

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """For the import system."""
        head, _, former = name.rpartition(".")
        return ModuleSpec(name, self) if head == _ENGINE and former in FORMER else None  # type: ignore[arg-type]  # by shape

    def create_module(self, _spec: ModuleSpec) -> None:
        """A module as any other."""

    def exec_module(self, module: ModuleType) -> None:
        """It holds nothing itself."""
        vars(module)["__getattr__"] = partial(_moved, module.__name__.rpartition(".")[2])


_FINDER: Final[Any] = _Finder()
