"""``@task``: a function whose calls inside a run are recorded, retried and journalled.

Option names, defaults and meanings are Prefect 3's; Prefect 1's are taken too, as are its subclasses with ``run()``
(``prefect1/tasks.py`` says what they mean). A call returns only after its record is durable.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, ParamSpec, TypeVar, cast, overload

from .. import context
from .. import settings as defaults
from ..errors import UsageError
from ..states.state import storable
from . import engine
from .authored import Authored, Hook, option_names
from .drawable import Drawable
from .options import check_options
from .retries import Delay, RetryPolicy

if TYPE_CHECKING:
    from datetime import timedelta

    from ..encoding.serializers import Serializer
    from .cache_policies import CacheOptions
    from .rules import CallOfTask, CallRules

P = ParamSpec("P")
R = TypeVar("R")
_UNSET: Any = object()
_RESERVED = ("return_state", "wait_for")
CLASSIC_OPTIONS = frozenset({
    "cache_for", "cache_key", "cache_validator", "checkpoint", "log_stdout", "max_retries", "nout", "result",
    "retry_delay", "retry_on", "skip_on_upstream_skip", "slug", "state_handlers", "target", "timeout", "trigger",
})
"""What Prefect 1 knows besides."""


class Task(Authored, Drawable, Generic[P, R]):
    """A task made of a function by ``@task``, or a subclass of Prefect 1's with its function as ``run``."""

    __module__ = "flowdeck"

    rules: CallRules | None = None
    """Whether a call may start, where Prefect 1's options say more than the engine's own."""

    WORD = "task"
    HOOK_OF_TYPE: ClassVar[dict[str, str]] = {
        "COMPLETED": "on_completion", "FAILED": "on_failure", "CRASHED": "on_failure",
    }  # fmt: skip
    HOOKS = frozenset({"on_completion", "on_failure", "on_running", "on_rollback", "on_commit"})
    fn: Callable[P, R]

    def __init__(
        self,
        fn: Callable[P, R] | None = None,
        *,
        name: str | None = None,
        description: str | None = None,
        tags: Iterable[str] | None = None,
        version: str | None = None,
        task_run_name: str | Callable[[], str] | None = None,
        retries: Any = None,
        retry_delay_seconds: Delay = None,
        retry_jitter_factor: float | None = None,
        retry_condition_fn: Any = None,
        crash_retries: int = 0,
        isolation: str | None = None,
        on_exhausted: str | None = None,
        persist_result: bool | None = None,
        cache_policy: Any = _UNSET,
        cache_key_fn: Callable[[Any, dict[str, Any]], str | None] | None = None,
        cache_expiration: timedelta | None = None,
        refresh_cache: bool | None = None,
        result_storage_key: str | None = None,
        result_storage: Any = None,
        result_serializer: Any = None,
        cache_result_in_memory: bool = True,
        timeout_seconds: float | None = None,
        log_prints: bool | None = None,
        on_completion: Iterable[Hook] = (),
        on_failure: Iterable[Hook] = (),
        on_running: Iterable[Hook] = (),
        on_rollback: Iterable[Callable[[Any], Any]] = (),
        on_commit: Iterable[Callable[[Any], Any]] = (),
        **classic: Any,
    ) -> None:
        if fn is None or classic or callable(on_failure):
            from .prefect1 import task_options

            task_options().make_task(self, fn, {**locals(), **classic})
            return
        super().__init__(fn, locals())
        self.key = self.name
        self.tags = frozenset(map(storable, tags or ()))
        self.task_run_name = self.checked_run_name("task_run_name", task_run_name)
        self.retry_policy = RetryPolicy(
            defaults.retries("TASKS", retries), defaults.retry_delay_seconds("TASKS", retry_delay_seconds),
            retry_jitter_factor, retry_condition_fn, what=f"task {self.name!r}", crash_retries=crash_retries,
            on_exhausted=on_exhausted,
        )
        if isolation not in (None, "thread", "process"):
            raise UsageError(f"task {self.name!r}: isolation must be 'process' or 'thread', not {isolation!r}")
        self.isolation = isolation if isolation == "process" else None
        self.persist_result = persist_result is not False
        self.caching = self._cache_options(cache_policy, persist_result)
        self.serializer = self._serializer(result_serializer, result_storage)
        self.keeps_value = cache_result_in_memory is not False
        self._take_signature()

    def _take_signature(self) -> None:
        """Look at the function's parameters once: binding the arguments of each call is the hot path."""
        self.signature = inspect.signature(self.fn)
        self._names = [
            p.name for p in self.signature.parameters.values() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ]
        self._is_plain = len(self._names) == len(self.signature.parameters)
        self._required = {
            p.name for p in self.signature.parameters.values() if p.default is inspect.Parameter.empty
        }
        for reserved in _RESERVED:
            if reserved in self.signature.parameters:
                raise UsageError(f"task {self.name!r}: {reserved!r} is a word of the engine; rename that parameter")

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """A task defined in a class is a method."""
        fn = self.bound_function(instance, owner)
        if fn is None:
            return self
        bound = self.with_options()
        bound.fn = fn
        bound.signature = inspect.signature(bound.fn)
        bound._names = self._names[1:]
        bound._required = self._required - set(self._names[:1])
        bound.name = bound.key = self.name
        return bound

    def with_options(self, **options: Any) -> Task[P, R]:
        """A copy with some options changed."""
        if type(self) is not Task or not options.keys() <= self._options.keys():
            from .prefect1 import task_options

            return cast("Task[P, R]", task_options().changed_copy(self, options))
        copied = Task(self.fn, **self.options_for_copy(options))
        copied.binds_to = self.binds_to
        return copied

    def copy(self, **task_args: Any) -> Task[P, R]:
        """Prefect 1's name of ``with_options``."""
        return self.with_options(**task_args)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """The function itself, called in place and not recorded; what a subclass of Prefect 1's defines."""
        return None if self.fn == self.run else self.fn(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Options as they were given, also Prefect 1's under their own names."""
        if name in CLASSIC_OPTIONS:
            from .prefect1 import task_options

            return task_options().classic_value(self, name)
        if name == "logger":
            from .prefect1 import run_logger

            return run_logger()
        return super().__getattr__(name)

    # -- hooks ---------------------------------------------------------------------------------------------------

    def on_completion(self, hook: Hook) -> Hook:
        """Decorator: call ``hook(task, run, state)`` when a run of this task completes."""
        return self._add_hook("on_completion", hook)

    def on_failure(self, hook: Hook) -> Hook:
        """Decorator: call ``hook(task, run, state)`` when a run of this task has failed for good."""
        return self._add_hook("on_failure", hook)

    def on_running(self, hook: Hook) -> Hook:
        """Decorator: call ``hook(task, run, state)`` when an attempt of a run of this task begins."""
        return self._add_hook("on_running", hook)

    def on_rollback(self, hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Decorator: call ``hook(transaction)`` when a transaction that a run of this task is part of is undone."""
        self._add_hook("on_rollback", cast("Hook", hook))
        return hook

    def on_commit(self, hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Decorator: call ``hook(transaction)`` when a run of this task is committed: alone at its end."""
        self._add_hook("on_commit", cast("Hook", hook))
        return hook

    def transaction_hooks(self, event: str) -> list[Callable[[Any], Any]]:
        """The hooks of ``on_rollback`` or ``on_commit``, which take the transaction alone."""
        return cast("list[Callable[[Any], Any]]", self.hooks[event])

    # -- caching -------------------------------------------------------------------------------------------------

    @cached_property
    def code_hash(self) -> str | None:
        """Names the code of the task's function, if that is the user's."""
        from ..encoding.code_hash import recorded_code_hash

        return recorded_code_hash(self.fn)

    def _cache_options(self, policy: Any, persist_result: bool | None) -> CacheOptions | None:
        """How calls are cached: not at all unless an option asks for it."""
        options = [self._options[name] for name in ("cache_key_fn", "result_storage_key", "cache_expiration")]
        if policy is _UNSET and not persist_result and not any(option is not None for option in options):
            return None
        from .cache_policies import task_cache_options

        given = None if policy is _UNSET else policy
        return task_cache_options(self, given, is_given=policy is not _UNSET, persist_result=persist_result)

    def _serializer(self, given: Any, storage: Any) -> Serializer | None:
        if storage is not None:
            raise UsageError(f"task {self.name!r}: leave result_storage out; results are kept in Flowdeck's own store")
        if given is None:
            return None
        from ..encoding.serializers import parse_serializer

        return parse_serializer(f"task {self.name!r}", given)

    # -- calling -------------------------------------------------------------------------------------------------

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Name → value as given (defaults are the function's own business); TypeError as Python would."""
        names = self._names
        if self._is_plain and len(args) <= len(names):
            if not kwargs and len(args) == len(names):
                return dict(zip(names, args, strict=True))
            values = dict(zip(names, args, strict=False))
            if not kwargs:
                if self._required <= values.keys():
                    return values
            elif not (kwargs.keys() & values.keys()) and kwargs.keys() <= set(names):
                values.update(kwargs)
                if self._required <= values.keys():
                    return values
        try:
            return dict(self.signature.bind(*args, **kwargs).arguments)
        except TypeError as error:
            # Python 3.13 and newer ask nothing of what a classmethod wraps: only calling it knows the class.
            remedy = "; write @task above @classmethod" if next(iter(self._names), None) == "cls" else ""
            raise TypeError(f"task {self.name!r}: {error}; its parameters are {self.signature}{remedy}") from None

    def call_arguments(self, values: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments for the function."""
        if self._is_plain:
            return (), values
        bound = self.signature.bind_partial()
        bound.arguments.update(values)
        return bound.args, bound.kwargs

    def run_name(self, call: CallOfTask, parameters: dict[str, Any]) -> str:
        """What people read: the template's text, else ``extract`` and ``extract[3]``."""
        template = self.task_run_name
        if template is not None:
            try:
                if callable(template):
                    return self.run_name_by(template, self.with_defaults(parameters))
                return storable(template.format(**self.receiver, **self.with_defaults(parameters)))
            except Exception as error:
                raise UsageError(f"task {self.name!r}: task_run_name cannot be made: {error!r}") from error
        return self.default_name(call)

    def with_defaults(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Also what the function itself gives to parameters that a call left out."""
        defaults = {p.name: p.default for p in self.signature.parameters.values() if p.default is not p.empty}
        return {**defaults, **parameters}

    @property
    def receiver(self) -> dict[str, Any]:
        """Of a method what it was reached through, under the name it has there: ``{"self": adder}``; else nothing."""
        fn: Any = self.fn
        if not inspect.ismethod(fn):
            return {}
        first = next(iter(inspect.signature(fn.__func__).parameters.values()), None)
        return {} if first is None or first.kind is first.VAR_POSITIONAL else {first.name: fn.__self__}

    def default_name(self, call: CallOfTask) -> str:
        """``extract`` for the first call, ``extract[3]`` for later and mapped ones."""
        if call.map_index is not None or call.call_index:
            return f"{self.name}[{call.call_index}]"
        return self.name

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    def __call__(self, *args: Any, **kwargs: Any) -> R: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run now; returns the function's value once its record is durable."""
        graph = context.current_graph.get()
        if graph is not None:
            return graph.add_call(self, args, kwargs)
        return_state, wait_for = False, None
        if kwargs:
            return_state, wait_for = kwargs.pop("return_state", False), kwargs.pop("wait_for", None)
        frame = context.frame_here()
        if frame is None:
            return self._run_alone(args, kwargs, return_state)
        calls = engine.calls_of(frame)
        if self.is_generator and not return_state:
            return calls.iterate(frame, self, args, kwargs, wait_for)
        if self.is_async:
            return calls.call_async(frame, self, args, kwargs, return_state, wait_for)
        return calls.call(frame, self, args, kwargs, return_state, wait_for)

    def _run_alone(self, args: tuple[Any, ...], kwargs: dict[str, Any], return_state: bool) -> Any:
        """Outside a flow a task is a run of its own, named after it."""
        if "flow" in kwargs and hasattr(kwargs["flow"], "graph"):
            return kwargs["flow"].graph.add_call(self, args, kwargs)
        if context.current_transaction.get() is not None:
            raise UsageError(
                f"{self.name}() in a transaction needs a flow around both: outside a flow a task is a run of its own, "
                "which has ended when the block would roll it back"
            )
        from .flows import Flow

        alone: Any = _caller_of(self, iterates=self.is_generator and not return_state)
        alone.__signature__ = self.signature
        alone.__module__ = None
        return Flow(alone, name=self.name, validate_parameters=False)(*args, return_state=return_state, **kwargs)

    def bind(self, *args: Any, **kwargs: Any) -> Task[P, R]:
        """In a Prefect 1 flow: give this very task its arguments, where a call would draw a copy of it."""
        from .drawable import graph_for

        graph_for(self, flow=kwargs.pop("flow", None)).bind(self, args, kwargs)
        return self

    def submit(self, *args: Any, wait_for: Any = None, return_state: bool = False, **kwargs: Any) -> Any:
        """Start as soon as everything it needs has ended; returns a future at once."""
        graph = context.current_graph.get()
        if graph is not None:
            return graph.add_call(self, args, {**kwargs, **({"upstream_tasks": wait_for} if wait_for else {})})
        frame = context.require_frame(f"{self.name}.submit()")
        return engine.calls_of(frame).submit(frame, self, args, kwargs, return_state, wait_for)

    def delay(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Prefect's task workers: there are none here; the error says what to use."""
        self._no_workers("delay")

    def apply_async(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """As ``delay``."""
        self._no_workers("apply_async")

    def serve(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """As ``delay``."""
        self._no_workers("serve")

    def _no_workers(self, method: str) -> NoReturn:
        raise UsageError(
            f"{self.name}.{method}(): there are no task workers; within a run call {self.name}.submit(), or make it a "
            "@flow and queue runs of it for the daemon with run_deployment() or `flowdeck submit`"
        )

    def map(self, *args: Any, wait_for: Any = None, return_state: bool = False, **kwargs: Any) -> Any:
        """One call per element of the iterable arguments, concurrently; returns a list of futures in order.

        All iterables must have the same length; ``unmapped(value)``, strings and non-iterables go to every call.
        """
        graph = context.current_graph.get()
        if graph is not None:
            return graph.add_map(self, args, {**kwargs, **({"upstream_tasks": wait_for} if wait_for else {})})
        frame = context.require_frame(f"{self.name}.map()")
        return engine.calls_of(frame).map_over(frame, self, args, kwargs, return_state, wait_for)


def _caller_of(task: Any, *, iterates: bool) -> Any:
    """A function of the task's kind that calls it."""
    if iterates and task.is_async:

        async def items_async(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            async for item in task(*args, **kwargs):
                yield item

        return items_async
    if iterates:

        def items(*args: Any, **kwargs: Any) -> Iterator[Any]:
            yield from task(*args, **kwargs)

        return items
    if task.is_async:

        async def call_async(*args: Any, **kwargs: Any) -> Any:
            return (await task(*args, return_state=True, **kwargs)).result()

        return call_async

    def call(*args: Any, **kwargs: Any) -> Any:
        return task(*args, return_state=True, **kwargs).result()

    return call


@overload
def task(__fn: Callable[P, R], /) -> Task[P, R]: ...


@overload
def task(**options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def task(__fn: Any = None, /, **options: Any) -> Any:
    """Make a task of a function: ``@task`` or ``@task(retries=3, …)``; see ``Task`` for the options."""
    check_options("@task", options, option_names(Task) | CLASSIC_OPTIONS)
    if __fn is not None:
        return Task(__fn, **options)
    return lambda fn: Task(fn, **options)

