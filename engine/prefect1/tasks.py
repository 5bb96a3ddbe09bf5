"""Prefect 1's options of a task, said in the engine's own, and the rules that go beyond those.

``max_retries``, ``retry_delay``, ``timeout`` and the like are other words for options the engine has. ``trigger``,
``skip_on_upstream_skip`` and ``state_handlers`` are ``Rules``: the engine asks them whether a call may start, and has
them stand around the user's function.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_origin

from ..authoring.options import check_options
from ..errors import RunTimedOut
from ..running.calls.dependencies import replace_futures
from ..running.calls.futures import Future, FutureList
from ..running.effects.effects import Steps
from ..running.lifecycle.repeats import pause_steps
from ..states.state import State, describe_exception
from . import states as classic_states
from .context import context
from .signals import Signal
from .states import FlowState, from_engine
from .triggers import all_successful
from .wiring import Edge

if TYPE_CHECKING:
    from ..authoring.tasks import Task
    from ..running.calls.task_call import TaskCall

Handler = Callable[[Any, FlowState, FlowState], Any]
_IGNORED = ("result", "target", "checkpoint_handler", "storage", "run_config")
_CACHING = ("cache_for", "cache_validator", "cache_key")


class Upstream(list[Any]):
    """What a call drawn in a graph waits for, and the edges through which all of it reaches the call."""

    __slots__ = ("edges", "refusal")

    def __init__(self, waits_for: Iterable[Any], edges: Callable[[], dict[Edge, Any]]) -> None:
        super().__init__(waits_for)
        self.edges = edges
        self.refusal: State | None = None
        """Why the call does not start, when that is known before."""


class Rules(NamedTuple):
    """Whether a call may start, and what stands around its function."""

    trigger: Callable[[dict[Any, FlowState]], Any] = all_successful
    skip_on_upstream_skip: bool = True
    state_handlers: tuple[Handler, ...] = ()

    def admission(self, call: TaskCall) -> Steps:
        """Steps to (arguments, None), or to (arguments, the state in which the call ends without having begun)."""
        upstream = call.wait_for
        while True:
            if call.run.session.gate.is_cancelled:
                return call.resolve_inputs()
            refused = upstream.refusal if isinstance(upstream, Upstream) else None
            if refused is None:
                refused = self._refusal(call)
            if refused is None or not refused.is_paused():
                break
            yield from pause_steps(call, refused.message or "")
        values, _ = replace_futures(call.parameters, call.wait_for, forgiving=True)
        if refused is not None and self.state_handlers:
            refused = _refused_after_handlers(call.task, self.state_handlers, from_engine(refused)).plain()
        return values, refused

    def admits_at_once(self, call: TaskCall) -> bool:
        """Whether ``admission`` would let it start and do nothing else: usual rules, and all before it completed."""
        refusal = call.wait_for.refusal if isinstance(call.wait_for, Upstream) else None
        return refusal is None and not call.run.session.gate.is_cancelled and self._is_plainly_met(call)

    def _is_plainly_met(self, call: TaskCall) -> bool:
        return self.trigger is all_successful and not self.state_handlers and _all_completed(call)

    def _refusal(self, call: TaskCall) -> State | None:
        if self._is_plainly_met(call):
            return None
        states = {edge: _shown(outcome) for edge, outcome in _edges_of(call).items()}
        if self.skip_on_upstream_skip:
            skipped = next((edge for edge, state in states.items() if _has_skipped(state)), None)
            if skipped is not None:
                name = getattr(skipped.upstream_task, "name", "a task")
                text = f"Upstream task was skipped: {name} (with skip_on_upstream_skip=False it would run)"
                return State("CANCELLED", "Skipped", text, data=None)
        return self.verdict(call, states)

    def verdict(self, call: TaskCall | None, states: dict[Any, FlowState]) -> State | None:
        """What the trigger says of these states: None to run."""
        resumed = call is not None and call.again is not None and call.again.resumed
        try:
            with context(**({"resume": True} if resumed else {})):
                met = self.trigger(states)
        except Signal as signal:
            _, state = signal.flowdeck_ending()
            if state.error is None and state.type == "FAILED":
                state.error = signal
            return state
        except Exception as error:  # noqa: BLE001 - the user's trigger
            text = f"Unexpected error while checking task trigger: {describe_exception(error)}"
            return State("FAILED", "TriggerFailed", text, error=error)
        if met:
            return None
        name = getattr(self.trigger, "__name__", repr(self.trigger))
        return State("FAILED", "TriggerFailed", f'Trigger "{name}" was not met')

    def around(self, fn: Callable[..., Any], call: TaskCall) -> Callable[..., Any]:
        """The function with its state handlers around it; itself when there are none."""
        if not self.state_handlers:
            return fn
        wrap = _handled_async if call.task.is_async else _handled
        return wrap(fn, call.task, call.attempt, self.state_handlers)


def _edges_of(call: TaskCall) -> dict[Any, Any]:
    """Everything before a call, by edge; outside a graph the futures among its arguments stand for edges."""
    if isinstance(call.wait_for, Upstream):
        return call.wait_for.edges()
    found: dict[Any, Any] = {}
    for key, value in [*call.parameters.items(), (None, call.wait_for)]:
        for future in _futures_in(value):
            found[Edge(future.call.task if future.call is not None else None, call.task, key, False)] = future
    return found


def _futures_in(value: Any, depth: int = 0) -> Iterator[Future[Any]]:
    if isinstance(value, Future):
        yield value
    elif isinstance(value, (list, tuple, set, frozenset, dict)) and depth < 6:
        for item in value.values() if isinstance(value, dict) else value:
            yield from _futures_in(item, depth + 1)


def _all_completed(call: TaskCall) -> bool:
    """The common case, seen without making a state for each edge."""
    outcomes = call.wait_for.edges().values() if isinstance(call.wait_for, Upstream) else _edges_of(call).values()
    for outcome in outcomes:
        for future in outcome if isinstance(outcome, FutureList) else (outcome,):
            if isinstance(future, Future) and not future.has_completed:
                return False
    return True


@lru_cache(maxsize=1)
def _success() -> FlowState:
    return classic_states.Success()


def _shown(outcome: Any) -> FlowState:
    """What a trigger sees of a future, a mapped group, or a value that was given."""
    if isinstance(outcome, FutureList):
        return classic_states.of_group([_shown(future) for future in outcome])
    if isinstance(outcome, Future):
        outcome.handled = True
        return from_engine(outcome.outcome) if outcome.outcome is not None else classic_states.Pending()
    return _success() if outcome is None else classic_states.Success(result=outcome)


def _has_skipped(state: FlowState) -> bool:
    return state.is_skipped() or any(one.is_skipped() for one in state.map_states or ())


# -- state handlers ----------------------------------------------------------------------------------------------------


def _refused_after_handlers(task: Task[..., Any], handlers: Iterable[Handler], new: FlowState) -> FlowState:
    """What the handlers make of a task's not beginning; what one of them raises fails it."""
    try:
        return handled(task, handlers, classic_states.Pending(), new)
    except Signal as signal:
        return signal.state
    except Exception as error:  # noqa: BLE001 - the user's state handler
        text = f"Exception raised while calling state handlers: {describe_exception(error)}"
        return classic_states.Failed(text, error)


def handled(subject: Any, handlers: Iterable[Handler], old: FlowState, new: FlowState) -> FlowState:
    """Each handler in turn is told of the change, and may put another state in the place of the new one."""
    for handler in handlers:
        changed = handler(subject, old, new)
        if changed is None:
            continue
        if not isinstance(changed, State):
            name = getattr(handler, "__name__", repr(handler))
            raise TypeError(f"state handler {name} returned {changed!r}, which is no state: return the new state")
        new = changed if isinstance(changed, FlowState) else from_engine(changed)
    return new


def on_failure_handler(on_failure: Callable[[Any, FlowState], Any]) -> Handler:
    """Prefect 1's ``on_failure``: called with the task or flow and the state, at each failure."""

    def handler(subject: Any, _old: FlowState, new: FlowState) -> None:
        if new.is_failed():
            on_failure(subject, new)

    return handler


def _handled(
    fn: Callable[..., Any], task: Task[..., Any], attempt: int, handlers: tuple[Handler, ...]
) -> Callable[..., Any]:
    """The function between its handlers; it knows nothing of the run, so that it can be sent to a worker process."""

    def function(*args: Any, **kwargs: Any) -> Any:
        running = _started(task, attempt, handlers)
        if not running.is_running():
            return running.plain()
        try:
            value = fn(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - handlers are told of it, then it goes on
            return _ended(task, attempt, handlers, running, *_state_of_error(error), error)
        return _ended(task, attempt, handlers, running, *_state_of_value(value), None)

    return function


def _handled_async(
    fn: Callable[..., Any], task: Task[..., Any], attempt: int, handlers: tuple[Handler, ...]
) -> Callable[..., Any]:
    async def function(*args: Any, **kwargs: Any) -> Any:
        running = _started(task, attempt, handlers)
        if not running.is_running():
            return running.plain()
        try:
            value = await fn(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - handlers are told of it, then it goes on
            return _ended(task, attempt, handlers, running, *_state_of_error(error), error)
        return _ended(task, attempt, handlers, running, *_state_of_value(value), None)

    return function


def _started(task: Task[..., Any], attempt: int, handlers: tuple[Handler, ...]) -> FlowState:
    """Running, or what a handler put in its place: the function is then not called."""
    old = classic_states.Pending() if attempt <= 1 else classic_states.Retrying()
    return handled(task, handlers, old, classic_states.Running("Starting task run."))


def _state_of_value(value: Any) -> tuple[FlowState, Any]:
    if isinstance(value, State):
        return (value if isinstance(value, FlowState) else from_engine(value)), value.plain()
    return classic_states.Success("Task run succeeded.", value), value


def _state_of_error(error: BaseException) -> tuple[FlowState, Any]:
    if isinstance(error, Signal):
        return error.state, None
    if isinstance(error, RunTimedOut):
        return classic_states.TimedOut(str(error), error), None
    if isinstance(error, Exception):
        return classic_states.Failed(describe_exception(error), error), None
    return classic_states.Cancelled(str(error) or type(error).__name__, error), None


def _ended(
    task: Task[..., Any], attempt: int, handlers: tuple[Handler, ...], running: FlowState, new: FlowState,
    outcome: Any, error: BaseException | None,
) -> Any:
    """Tell the handlers how the function ended; what they leave unchanged stays the value or exception it was."""
    changed = handled(task, handlers, running, new)
    if changed is new:
        if new.is_failed() and attempt <= task.retry_policy.retries:
            again = handled(task, handlers, new, classic_states.Retrying(new.message))
            if again.is_finished():
                return again.plain()
        if error is not None:
            raise error
        return outcome
    if error is not None and not isinstance(error, Exception):
        raise error  # told to end: no handler changes that
    return changed.plain()


# -- options -----------------------------------------------------------------------------------------------------------


_OTHER_WORDS = {
    "max_retries": "retries", "retry_delay": "retry_delay_seconds", "retry_on": "retry_condition_fn",
    "timeout": "timeout_seconds", "log_stdout": "log_prints", "checkpoint": "persist_result",
}
"""Options that are other words for one of the engine's."""


def make_task(task: Task[..., Any], fn: Callable[..., Any] | None, given: dict[str, Any]) -> None:
    """Construct a task that is given options of Prefect 1, or whose function is its class's ``run``."""
    from ..authoring.authored import option_names
    from ..authoring.tasks import CLASSIC_OPTIONS, Task

    if fn is None:
        fn = task.run
        given["name"] = given["name"] or type(task).__name__
    what = f"task {given['name'] or getattr(fn, '__name__', fn)!r}"
    ours = option_names(Task)
    options = {option: value for option, value in given.items() if option in ours}
    classic = {option: value for option, value in given["classic"].items() if value is not None}
    check_options(what, classic, {*ours, *CLASSIC_OPTIONS})
    options |= _in_engine_words(what, classic, options)
    outputs_of(fn, classic.get("nout"))
    if any(option in classic for option in _CACHING):
        from .caching import caching_options

        options |= caching_options(what, classic)
    on_failure = options["on_failure"]
    rules = rules_of(what, classic, on_failure if callable(on_failure) else None)
    if callable(on_failure):
        options["on_failure"] = ()
    Task.__init__(task, fn, **options)
    task.rules = rules
    kept = {option: value for option, value in classic.items() if option not in _OTHER_WORDS}
    if rules is not None:
        kept["state_handlers"] = list(rules.state_handlers)
    task._options |= kept


def changed_copy(task: Task[..., Any], changed: dict[str, Any]) -> Task[..., Any]:
    """A copy with some options changed, also those of Prefect 1; what a subclass keeps of its own stays."""
    from ..authoring.tasks import CLASSIC_OPTIONS, Task

    check_options(f"task {task.name!r}", changed, {*task._options, *CLASSIC_OPTIONS})
    options = {**task._options, **task.hooks, "name": task.name, **changed}
    for option, ours in _OTHER_WORDS.items():
        if option in changed:
            options.pop(ours, None)
    if any(option in changed for option in _CACHING):
        options.pop("cache_policy", None)
    made = copy.copy(task)
    made.__dict__.pop("flowdeck_node", None)
    Task.__init__(made, None if task.fn == task.run else task.fn, **options)
    made.binds_to = task.binds_to
    return made


def _in_engine_words(what: str, classic: dict[str, Any], engine: dict[str, Any]) -> dict[str, Any]:
    """The engine's options that these of Prefect 1 stand for."""
    said: dict[str, Any] = {}
    for option, ours in _OTHER_WORDS.items():
        if option not in classic:
            continue
        if engine.get(ours) is not None and not (ours == "persist_result" and engine[ours] is True):
            raise ValueError(f"{what}: {option} and {ours} say the same; give one of them")
        value = classic[option]
        said[ours] = value.total_seconds() if isinstance(value, timedelta) else value
    if "retry_delay_seconds" in said and not said.get("retries") and not engine.get("retries"):
        raise ValueError(f"{what}: retry_delay needs max_retries, how often to try again")
    if "retry_condition_fn" in said:
        said["retry_condition_fn"] = _retry_on(what, said["retry_condition_fn"])
    for flag in {"log_prints", "persist_result"} & said.keys():
        said[flag] = bool(said[flag])
    return said


def _retry_on(what: str, kinds: Any) -> Callable[[Any, Any, State], bool]:
    listed = tuple(kinds) if isinstance(kinds, Iterable) else (kinds,)
    for kind in listed:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"{what}: retry_on takes exception classes, not {kind!r}")
    return lambda _task, _run, state: isinstance(state.error, listed)


def rules_of(what: str, classic: dict[str, Any], on_failure: Any) -> Rules | None:
    """The rules among Prefect 1's options; None when none of them is given. Warns of what means nothing here."""
    warn_of_ignored(what, classic)
    handlers = list(classic.get("state_handlers") or ())
    for handler in handlers:
        if not callable(handler):
            raise TypeError(f"{what}: state_handlers takes a list of functions, and {handler!r} is none")
    if on_failure is not None:
        handlers.append(on_failure_handler(on_failure))
    trigger = classic.get("trigger")
    if trigger is not None and not callable(trigger):
        raise TypeError(f"{what}: trigger is a function of the upstream states, not {trigger!r}")
    skips = classic.get("skip_on_upstream_skip")
    if trigger is None and skips is None and not handlers:
        return None
    return Rules(trigger or all_successful, True if skips is None else bool(skips), tuple(handlers))


def rules_of_task(task: Task[..., Any]) -> Rules:
    """A task's rules; Prefect 1's usual ones for a task that has none."""
    return task.rules if isinstance(task.rules, Rules) else Rules()


_warned: set[str] = set()


def warn_of_ignored(what: str, options: dict[str, Any]) -> None:
    """Say once in a process which options of Prefect 1 mean nothing here, and why nothing is lost."""
    given = sorted(name for name in _IGNORED if options.get(name) is not None and name not in _warned)
    if given:
        _warned.update(given)
        warnings.warn(
            f"{what}: {', '.join(given)} of Prefect 1 means nothing here and is ignored: every result is kept in the "
            "store, and runs are processes of this machine",
            UserWarning, stacklevel=5,
        )


def outputs_of(fn: Callable[..., Any], nout: int | None) -> int | None:
    """How many values a task gives: as said, or as its return annotation ``tuple[int, str]`` says."""
    if nout is not None:
        if isinstance(nout, bool) or not isinstance(nout, int) or nout < 0:
            raise ValueError(f"nout is how many values the task returns, not {nout!r}")
        return nout
    hint = getattr(fn, "__annotations__", {}).get("return")
    if isinstance(hint, str):
        if not hint.lower().startswith(("tuple[", "typing.tuple[")):
            return None
        try:
            hint = inspect.get_annotations(inspect.unwrap(fn), eval_str=True).get("return")
        except Exception:  # noqa: BLE001 - the user's annotation: what cannot be read says nothing
            return None
    if get_origin(hint) is not tuple:
        return None
    parts = get_args(hint)
    return None if not parts or Ellipsis in parts else len(parts)


def classic_value(task: Task[..., Any], name: str) -> Any:
    """An option of a task under Prefect 1's name of it."""
    options: dict[str, Any] = task.__dict__.get("_options", {})
    rules = rules_of_task(task)
    if name in ("trigger", "skip_on_upstream_skip"):
        return getattr(rules, name)
    if name == "state_handlers":
        return list(rules.state_handlers)
    if name == "max_retries":
        return task.retry_policy.retries
    if name == "retry_delay":
        delay = options.get("retry_delay_seconds")
        return timedelta(seconds=delay) if isinstance(delay, (int, float)) else options.get("retry_delay")
    if name == "timeout":
        return task.timeout_seconds
    if name == "log_stdout":
        return bool(task.log_prints)
    if name == "checkpoint":
        return bool(task.persist_result)
    if name == "nout":
        return outputs_of(task.fn, options.get("nout"))
    return options.get(name)
