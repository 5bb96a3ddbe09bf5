"""Prefect 1's options of a task, said in the engine's own.

``max_retries``, ``retry_delay``, ``timeout`` and the like are other words for options the engine has. ``trigger``,
``skip_on_upstream_skip`` and ``state_handlers`` are ``Rules``: the engine asks them whether a call may start, and has
them stand around the user's function.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, get_args, get_origin

from ..authoring.options import check_options
from ..context import current_tags
from ..states.state import State
from .rules import Rules, rules_of_task
from .state_handlers import on_failure_handler
from .triggers import all_successful

if TYPE_CHECKING:
    from ..authoring.tasks import Task

_IGNORED = ("result", "target", "checkpoint_handler", "storage", "run_config")
_CACHING = ("cache_for", "cache_validator", "cache_key")
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
    if type(task) is not Task and (around := current_tags.get()):
        options["tags"] = {*(options["tags"] or ()), *around}
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
