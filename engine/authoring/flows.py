"""``@flow``: a function whose runs are recorded, can be scheduled and controlled, and continue after a crash.

Option names, defaults and meanings are Prefect 3's. ``Flow("name")`` with a text opens a Prefect 1 style block.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, ParamSpec, TypeVar, cast, overload

from .. import context
from .. import settings as defaults
from ..errors import UsageError
from ..states.state import storable
from . import engine
from .authored import Authored, Hook, option_names
from .options import check_options
from .parameters import Parameters
from .retries import Delay, RetryPolicy

if TYPE_CHECKING:
    from ..control.deployable import Deployment
    from .prefect1 import GraphFlow

P = ParamSpec("P")
R = TypeVar("R")
CRASH_RETRIES = 3
"""How often the daemon resumes a crashed run unless the flow says otherwise."""


class FunctionFlow(Authored, Generic[P, R]):
    """What a flow made of a function is and does; ``Flow`` is the name users have for it."""

    WORD = "flow"
    HOOK_OF_TYPE: ClassVar[dict[str, str]] = {
        "COMPLETED": "on_completion", "FAILED": "on_failure", "CANCELLED": "on_cancellation", "CRASHED": "on_crashed",
    }  # fmt: skip
    HOOKS = frozenset({"on_completion", "on_failure", "on_cancellation", "on_crashed", "on_running"})
    fn: Callable[P, R]

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        name: str | None = None,
        description: str | None = None,
        version: str | None = None,
        flow_run_name: str | Callable[[], str] | None = None,
        tags: Iterable[str] | None = None,
        retries: Any = None,
        retry_delay_seconds: Delay = None,
        retry_jitter_factor: float | None = None,
        retry_condition_fn: Any = None,
        on_exhausted: str | None = None,
        crash_retries: int = CRASH_RETRIES,
        task_runner: Any = None,
        timeout_seconds: float | None = None,
        validate_parameters: bool = True,
        persist_result: bool | None = None,
        cache_result_in_memory: bool = True,
        log_prints: bool | None = None,
        schedule: Any = None,
        schedules: Any = None,
        concurrency_limit: int | None = None,
        collision_strategy: str | None = None,
        on_completion: Iterable[Hook] = (),
        on_failure: Iterable[Hook] = (),
        on_cancellation: Iterable[Hook] = (),
        on_crashed: Iterable[Hook] = (),
        on_running: Iterable[Hook] = (),
    ) -> None:
        super().__init__(fn, locals())
        self.flow_run_name = self.checked_run_name("flow_run_name", flow_run_name)
        self.tags = sorted(map(storable, tags or ()))
        self.retry_policy = RetryPolicy(
            defaults.retries("FLOWS", retries), defaults.retry_delay_seconds("FLOWS", retry_delay_seconds),
            retry_jitter_factor, retry_condition_fn, what=f"flow {self.name!r}", crash_retries=crash_retries,
            on_exhausted=on_exhausted,
        )
        self.crash_retries = crash_retries
        self.task_runner = task_runner
        if task_runner is not None:
            from .task_runners import task_runner as made_runner

            self.task_runner = made_runner(task_runner)
        self.validates = validate_parameters
        self.persist_result = persist_result
        self.keeps_value = cache_result_in_memory is not False
        self.parameters = Parameters(self.fn, self.name)
        self.schedules = _schedules(self.name, schedule, schedules)
        if concurrency_limit is not None or collision_strategy is not None:
            from .collision import check_collision

            check_collision(self.name, concurrency_limit, collision_strategy)
        self.concurrency_limit = concurrency_limit
        self.collision_strategy = collision_strategy

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """A flow defined in a class is a method."""
        bound = self.bound_function(instance, owner)
        return self if bound is None else Flow(bound, **self.options_for_copy({}))

    def with_options(self, **options: Any) -> Flow[P, R]:
        """A copy with some options changed."""
        copied: Flow[P, R] = Flow(self.fn, **self.options_for_copy(options))
        copied.binds_to = self.binds_to
        return copied

    def on_completion(self, hook: Hook) -> Hook:
        """Decorator: call ``hook(flow, run, state)`` when a run completes."""
        return self._add_hook("on_completion", hook)

    def on_failure(self, hook: Hook) -> Hook:
        """Decorator: call ``hook(flow, run, state)`` when a run has failed for good."""
        return self._add_hook("on_failure", hook)

    def on_cancellation(self, hook: Hook) -> Hook:
        """Decorator: call ``hook(flow, run, state)`` when a run was cancelled."""
        return self._add_hook("on_cancellation", hook)

    def on_crashed(self, hook: Hook) -> Hook:
        """Decorator: call ``hook(flow, run, state)`` when a run ends as Crashed while its process still can."""
        return self._add_hook("on_crashed", hook)

    def on_running(self, hook: Hook) -> Hook:
        """Decorator: call ``hook(flow, run, state)`` when an attempt of a run begins."""
        return self._add_hook("on_running", hook)

    # -- parameters ----------------------------------------------------------------------------------------------

    def parameters_schema(self) -> dict[str, Any]:
        """JSON schema of the parameters."""
        return self.parameters.schema()

    def validate_parameters(self, values: dict[str, Any]) -> dict[str, Any]:
        """Bound, completed and coerced values; raises ParameterError naming what is wrong."""
        self.parameters.check_names(values)
        bound = self.parameters.bind((), values)
        return self.parameters.validate(bound) if self.validates else bound

    def run_name(self, parameters: dict[str, Any]) -> str:
        """The name of a run, empty for the store's default."""
        template = self.flow_run_name
        if template is None:
            return ""
        try:
            if callable(template):
                return self.run_name_by(template, parameters)
            return storable(template.format(**parameters))
        except Exception as error:
            raise UsageError(f"flow {self.name!r}: flow_run_name cannot be made: {error}") from error

    def to_deployment(self, name: str | None = None, **options: Any) -> Deployment:
        """This flow under a name of its own, for ``serve``; see ``sdk.serving.to_deployment`` for the options."""
        from .serving import serving

        player = serving()
        self._check_serving("to_deployment", options, player.to_deployment)
        return player.to_deployment(self, name, **options)

    def serve(self, name: str | None = None, *, limit: int | None = None, **options: Any) -> None:
        """Be a daemon for this flow until SIGINT or SIGTERM: schedules, submitted runs, resumed crashes.

        Options as of ``to_deployment``; at most ``limit`` runs at once. Does nothing while a run loads the file.
        """
        if context.is_loading():
            return
        from .serving import serving

        player = serving()
        self._check_serving("serve", options, player.to_deployment)
        player.serve(player.to_deployment(self, name, **options), limit=limit)

    def deploy(self, *_args: Any, **_options: Any) -> NoReturn:
        """Prefect's work pools; the error says what to use."""
        raise UsageError(
            f"{self.name}.deploy(): there are no work pools; run `flowdeck daemon FILE`, or {self.name}.serve() in a "
            "script"
        )

    def _check_serving(self, method: str, options: dict[str, Any], takes: Callable[..., Any]) -> None:
        known = set(inspect.signature(takes).parameters) - {"flow", "name"}
        check_options(f"{self.name}.{method}()", options, known)

    def visualize(self, *_args: Any, **_options: Any) -> Any:
        """Only a flow that was drawn has a figure before it runs: what a function calls is known once it did."""
        raise UsageError(
            f"flow {self.name!r} has no picture before it runs, since its code decides what it calls: run it and look "
            "at its graph in the console, or have its text drawn by flow.generate_mermaid_graph()"
        )

    def generate_mermaid_graph(self, *args: Any, **kwargs: Any) -> str:
        """The figure in mermaid's words. No task runs; the code between them does, with these parameters."""
        from .prefect1 import drawing

        return drawing().mermaid_of(self, args, kwargs)

    # -- calling -------------------------------------------------------------------------------------------------

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    def __call__(self, *args: Any, **kwargs: Any) -> R: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run here and now: a run of its own, or within another run a subflow."""
        graph = context.current_graph.get()
        if graph is not None and graph.draws_flows:
            return graph.add_flow(self, args, kwargs)
        if context.is_loading():
            if self.is_generator:
                return _no_items() if self.is_async else iter(())
            return _nothing() if self.is_async else None
        return_state, wait_for = kwargs.pop("return_state", False), kwargs.pop("wait_for", None)
        frame, flow = context.frame_here(), cast("Flow[P, R]", self)
        if frame is not None:
            calls = engine.calls_of(frame)
            if self.is_generator and not return_state:
                return calls.iterate_flow(frame, flow, args, kwargs, wait_for)
            if self.is_async:
                return calls.call_flow_async(frame, flow, args, kwargs, return_state, wait_for)
            return calls.call_flow(frame, flow, args, kwargs, return_state, wait_for)
        bound, runs = self.parameters.bind(args, kwargs), engine.runs()
        if self.is_generator and not return_state:
            return (runs.iterate_here_async if self.is_async else runs.iterate_here)(flow, bound)
        if self.is_async:
            return runs.run_here_async(flow, bound, return_state)
        return runs.run_here(flow, bound, return_state)


class Flow(FunctionFlow[P, R]):
    """A flow: of a function by ``@flow``, or a Prefect 1 style graph by ``Flow("name")``."""

    __module__ = "flowdeck"

    @overload
    def __new__(cls, fn: str, *args: Any, **options: Any) -> GraphFlow: ...

    @overload
    def __new__(cls, fn: Callable[P, R], *args: Any, **options: Any) -> Flow[P, R]: ...

    def __new__(cls, fn: Any = None, *_args: Any, **options: Any) -> Any:
        """``Flow("name")`` opens a Prefect 1 style flow."""
        if cls is Flow and (isinstance(fn, str) or (fn is None and isinstance(options.get("name"), str))):
            from .prefect1 import graph_flow

            return object.__new__(graph_flow())
        return object.__new__(cls)


async def _nothing() -> None:
    """What an async flow called while its file is being loaded awaits to."""


async def _no_items() -> AsyncIterator[Any]:
    """As ``_nothing``, for an async flow that yields."""
    nothing: tuple[Any, ...] = ()
    for item in nothing:
        yield item


def _schedules(name: str, schedule: Any, schedules: Any) -> list[Any]:
    if schedule is None and schedules is None:
        return []
    from ..schedules.kinds import parse

    if schedule is not None and schedules is not None:
        raise UsageError(f"flow {name!r}: give schedule or schedules, not both")
    return list(parse(schedule if schedule is not None else schedules))


@overload
def flow(__fn: Callable[P, R], /) -> Flow[P, R]: ...


@overload
def flow(**options: Any) -> Callable[[Callable[P, R]], Flow[P, R]]: ...


def flow(__fn: Any = None, /, **options: Any) -> Any:
    """Make a flow of a function: ``@flow`` or ``@flow(retries=1, schedule="0 6 * * *")``; see ``Flow``."""
    check_options("@flow", options, option_names(FunctionFlow))
    if __fn is not None:
        return Flow(__fn, **options)
    return lambda fn: Flow(fn, **options)

