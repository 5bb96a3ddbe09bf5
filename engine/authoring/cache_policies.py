"""Cache policies: what makes two calls of a task the same call. Names and meanings are Prefect 3's.

``INPUTS + RUN_ID`` adds parts, ``INPUTS - "name"`` leaves an argument out. A key of the policies here holds the task's
name, so that two tasks never share a result by accident; a key that the user's own function or template made is used
as it is. Nothing here reads or writes the store.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from ..encoding.code_hash import code_hash
from ..encoding.stable_hash import CacheKeyError, stable_hash
from ..errors import UsageError

if TYPE_CHECKING:
    from .authored import Authored
    from .views import TaskRunView

KeyFunction = Callable[[Any, dict[str, Any]], str | None]


class IsolationLevel(Enum):
    """What a second caller of the same key does while the first one computes."""

    __module__ = "flowdeck"

    READ_COMMITTED = "READ_COMMITTED"
    """It computes as well."""
    SERIALIZABLE = "SERIALIZABLE"
    """It waits for the first one's result, also across processes."""


class RunOfCall(Protocol):
    """The flow run, as a cache key function sees it."""

    @property
    def id(self) -> int:
        """Its number."""

    @property
    def name(self) -> str:
        """What people read."""

    @property
    def parameters(self) -> dict[str, Any]:
        """The flow's parameters."""


class CacheContext(NamedTuple):
    """What a cache key function is given: the task, this run of it, the flow run, and the arguments."""

    task: Authored
    task_run: TaskRunView
    flow_run: RunOfCall
    parameters: dict[str, Any]


class CachePolicy:
    """What a cache key is made of. Subclasses say how in ``compute_key``; None means: do not cache this call."""

    __module__ = "flowdeck"

    isolation_level: IsolationLevel | None = None
    key_storage: str | None = None
    lock_manager: Any = None
    holds_task = False
    """Whether the engine adds the task's name to the key."""

    @classmethod
    def from_cache_key_fn(cls, cache_key_fn: KeyFunction) -> CacheKeyFnPolicy:
        """A policy of a function ``(context, parameters) -> key``."""
        return CacheKeyFnPolicy(cache_key_fn)

    def configure(
        self,
        key_storage: str | Path | None = None,
        lock_manager: Any = None,
        isolation_level: IsolationLevel | str | None = None,
    ) -> Self:
        """A copy with other settings.

        Entries and locks are kept in the store: ``key_storage`` names a set of keys apart from the others, and any
        ``lock_manager`` is taken as it is, since the store's own lock holds across processes.
        """
        made = copy.copy(self)
        if key_storage is not None:
            if not isinstance(key_storage, (str, Path)):
                raise UsageError(f"key_storage must be a text or a path, not {key_storage!r}: entries are in the store")
            made.key_storage = str(key_storage)
        if lock_manager is not None:
            made.lock_manager = lock_manager
        if isolation_level is not None:
            made.isolation_level = as_isolation_level(isolation_level)
        return made

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any]
    ) -> str | None:
        """The key of a call, or None."""
        raise NotImplementedError(f"{type(self).__name__} has no compute_key()")

    def __add__(self, other: CachePolicy) -> CachePolicy:
        if not isinstance(other, CachePolicy):
            return NotImplemented
        if isinstance(other, NoCache):
            return self
        return CompoundCachePolicy(self, other)

    def __sub__(self, argument: str) -> CachePolicy:
        if not isinstance(argument, str):
            raise TypeError(f"only the name of an argument can be taken from a cache policy, not {argument!r}")
        return CompoundCachePolicy(self, Inputs(frozenset({argument})))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return _WORDS.get(type(self), type(self).__name__)


class CacheKeyFnPolicy(CachePolicy):
    """The key is what a function of the user's says."""

    __module__ = "flowdeck"

    def __init__(self, cache_key_fn: KeyFunction) -> None:
        if not callable(cache_key_fn):
            raise UsageError(f"cache_key_fn must be a function of (context, parameters), not {cache_key_fn!r}")
        self.cache_key_fn = cache_key_fn

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any]
    ) -> str | None:
        """What the function returns."""
        return self.cache_key_fn(task_ctx, inputs)


class StorageKeyPolicy(CachePolicy):
    """The key is a template: ``"x-{parameters[name]}"``; also ``{task_run.…}`` and ``{flow_run.…}``."""

    __module__ = "flowdeck"

    def __init__(self, template: str) -> None:
        self.template = template

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any]
    ) -> str | None:
        """The template's text."""
        runs = {name: getattr(task_ctx, name, None) for name in ("task_run", "flow_run")}
        try:
            return self.template.format(parameters=inputs, **runs)
        except (LookupError, AttributeError, ValueError) as error:
            raise CacheKeyError(f"result_storage_key {self.template!r} cannot be made: {error!r}") from error


def _agreed(what: str, values: list[Any]) -> Any:
    given = [value for value in values if value is not None]
    if any(value != given[0] for value in given):
        raise ValueError(f"cache policies with different {what} cannot be added: {given[0]!r} and {given[1]!r}")
    return given[0] if given else None


class CompoundCachePolicy(CachePolicy):
    """Parts that make one key together; a part without a key counts as nothing."""

    __module__ = "flowdeck"

    def __init__(self, *policies: CachePolicy) -> None:
        parts: list[CachePolicy] = []
        for policy in policies:
            parts += policy.policies if isinstance(policy, CompoundCachePolicy) else [policy]
        left_out = frozenset[str]().union(*(part.exclude for part in parts if isinstance(part, Inputs)))
        # One look at the inputs, without everything that any part leaves out.
        self.policies: list[CachePolicy] = [part for part in parts if not isinstance(part, Inputs)]
        if len(self.policies) < len(parts):
            self.policies.append(Inputs(left_out))
        self.holds_task = all(part.holds_task for part in self.policies)
        self.isolation_level = _agreed("isolation levels", [policy.isolation_level for policy in policies])
        self.key_storage = _agreed("key storages", [policy.key_storage for policy in policies])
        self.lock_manager = _agreed("lock managers", [policy.lock_manager for policy in policies])

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any]
    ) -> str | None:
        """The keys of the parts, hashed together; None when none has one."""
        keys = [policy.compute_key(task_ctx, inputs, flow_parameters) for policy in self.policies]
        made = [key for key in keys if key is not None]
        return stable_hash(*made) if made else None

    def __repr__(self) -> str:
        parts = [policy for policy in self.policies if not isinstance(policy, Inputs)]
        inputs = [policy for policy in self.policies if isinstance(policy, Inputs)]
        return " + ".join(map(repr, [*parts, *inputs]))


class Inputs(CachePolicy):
    """The arguments, by value, but those left out."""

    __module__ = "flowdeck"

    holds_task = True

    def __init__(self, exclude: frozenset[str] = frozenset()) -> None:
        self.exclude = exclude

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any]
    ) -> str | None:
        """A hash of the arguments; None without any."""
        if not inputs:
            return None
        return stable_hash(hashable_parts(inputs, self.exclude))

    def __sub__(self, argument: str) -> CachePolicy:
        if not isinstance(argument, str):
            raise TypeError(f"only the name of an argument can be taken from a cache policy, not {argument!r}")
        made = copy.copy(self)
        made.exclude = self.exclude | {argument}
        return made

    def __repr__(self) -> str:
        return "".join(["INPUTS", *(f" - {name!r}" for name in sorted(self.exclude))])


class TaskSource(CachePolicy):
    """The code of the task's function; not what it calls."""

    __module__ = "flowdeck"

    holds_task = True

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any]
    ) -> str | None:
        """A hash of the code."""
        return None if task_ctx is None else stable_hash(code_hash(task_ctx.task.fn))


class FlowParameters(CachePolicy):
    """The parameters of the flow around the task."""

    __module__ = "flowdeck"

    holds_task = True

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any]
    ) -> str | None:
        """A hash of the flow's parameters; None without any."""
        return stable_hash(hashable_parts(flow_parameters)) if flow_parameters else None


class RunId(CachePolicy):
    """The run: nothing is shared between runs."""

    __module__ = "flowdeck"

    holds_task = True

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any]
    ) -> str | None:
        """The run's number."""
        return None if task_ctx is None else f"run {task_ctx.task_run.flow_run_id}"


class NoCache(CachePolicy):
    """Never cached."""

    __module__ = "flowdeck"

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any]
    ) -> str | None:
        """None."""
        return None

    def __add__(self, other: CachePolicy) -> CachePolicy:
        return other if isinstance(other, CachePolicy) else NotImplemented

    def __sub__(self, argument: str) -> CachePolicy:
        return self


_WORDS: dict[type, str] = {
    TaskSource: "TASK_SOURCE", FlowParameters: "FLOW_PARAMETERS", RunId: "RUN_ID", NoCache: "NO_CACHE",
}  # fmt: skip

INPUTS = Inputs()
TASK_SOURCE = TaskSource()
FLOW_PARAMETERS = FlowParameters()
RUN_ID = RunId()
NO_CACHE = NONE = NoCache()
DEFAULT = INPUTS + TASK_SOURCE + RUN_ID


def task_input_hash(context: Any, arguments: dict[str, Any]) -> str | None:
    """A ``cache_key_fn`` of the task, its code and its arguments."""
    return stable_hash(context.task.key, code_hash(context.task.fn), hashable_parts(arguments))


def hashable_parts(values: Mapping[str, Any], exclude: frozenset[str] = frozenset()) -> list[str]:
    """Name and hash of each value; raises ``CacheKeyError`` naming the argument that has none, and the remedy."""
    parts = []
    for name in sorted(values):
        if name in exclude:
            continue
        try:
            parts.append(f"{name}={stable_hash(values[name])}")
        except (CacheKeyError, RecursionError) as error:
            raise CacheKeyError(
                f"its argument {name!r} cannot be hashed ({error}); leave it out with cache_policy=INPUTS - {name!r}, "
                "or make the key yourself with cache_key_fn"
            ) from error
    return parts


def as_isolation_level(value: IsolationLevel | str) -> IsolationLevel:
    """The level, also by its name."""
    try:
        return value if isinstance(value, IsolationLevel) else IsolationLevel(str(value).upper())
    except ValueError:
        names = " or ".join(level.name for level in IsolationLevel)
        raise UsageError(f"there is no isolation level {value!r}; it is {names}") from None


class CacheOptions(NamedTuple):
    """How a task's calls are cached."""

    policy: CachePolicy
    expiration_us: int | None
    refresh: bool | None


def task_cache_options(
    task: Authored, policy: CachePolicy | None, *, is_given: bool, persist_result: bool | None
) -> CacheOptions | None:
    """The options of a task as the engine takes them, by Prefect's rules; None when its calls are not cached."""
    what = f"task {task.name!r}"
    expiration = task.cache_expiration
    if expiration is not None and not isinstance(expiration, timedelta):
        raise UsageError(f"{what}: cache_expiration must be a timedelta, not {expiration!r}")
    if policy is not None and not isinstance(policy, CachePolicy):
        raise UsageError(
            f"{what}: cache_policy must be a policy such as INPUTS or DEFAULT, not {policy!r}; "
            "a function that makes keys is cache_key_fn"
        )
    if task.cache_key_fn is not None:
        if policy is not None:
            _warn(f"{what} has a cache_policy and a cache_key_fn: the function decides")
        policy = CacheKeyFnPolicy(task.cache_key_fn)
    elif task.result_storage_key is not None:
        policy = StorageKeyPolicy(task.result_storage_key)
    elif persist_result and not is_given and not is_set("FLOWDECK_TASKS_DEFAULT_NO_CACHE"):
        policy = DEFAULT
    if policy is None or isinstance(policy, NoCache):
        return None
    if persist_result is False:
        _warn(f"{what} is not cached: persist_result=False keeps no result")
        return None
    return CacheOptions(
        policy, None if expiration is None else expiration // timedelta(microseconds=1), task.refresh_cache
    )


def is_set(name: str) -> bool:
    """Whether an environment setting of caching is on."""
    return os.environ.get(name, "").lower() in ("1", "true", "yes", "on")


def _warn(text: str) -> None:
    import logging

    logging.getLogger("flowdeck.engine").warning("%s", text)
