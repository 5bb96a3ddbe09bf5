"""What flows and tasks have in common: a user's function, the options given with it, and the hooks on its endings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from .. import context
from ..errors import OptionError
from ..secrets.secret import know_from_the_first
from ..states.state import State, storable
from .options import check_options, own_doc

Hook = Callable[[Any, Any, State], Any]
_BINDINGS: dict[type, str] = {classmethod: "class", staticmethod: "nothing"}
_NOT_OPTIONS = frozenset({"self", "fn", "classic", "__class__"})


class Authored:
    """Base of ``Flow`` and ``Task``. ``_options`` holds what was given, for copies with other options."""

    WORD: ClassVar[str]
    """What messages call it."""
    HOOK_OF_TYPE: ClassVar[dict[str, str]]
    """State type → the hooks to call when a run ends so."""
    HOOKS: ClassVar[frozenset[str]]
    """The options that hold hooks."""

    def __init__(self, fn: Any, given: dict[str, Any]) -> None:
        """``given``: the ``locals()`` of the subclass's constructor, whose parameters are the options."""
        know_from_the_first()
        self.binds_to = _BINDINGS.get(type(fn), "instance")
        """What a call through a class or an instance passes first: ``instance``, ``class`` or ``nothing``."""
        if isinstance(fn, (staticmethod, classmethod)):
            fn = fn.__func__
        if not callable(fn):
            raise OptionError(f"@{self.WORD} needs a function, not {fn!r}")
        self.fn = fn
        self._options = {option: value for option, value in given.items() if option not in _NOT_OPTIONS}
        name = given["name"]
        if name is not None and not isinstance(name, str):
            raise OptionError(f"@{self.WORD} on {_name_of(fn)!r}: name must be a text, not {name!r}")
        self.name = storable(name or _name_of(fn))
        described = given["description"] or own_doc(fn)
        self.description: str | None = storable(described) if described is not None else None
        self.version: str | None = given["version"]
        self.timeout_seconds = self._checked_timeout(given["timeout_seconds"])
        self.log_prints: bool | None = given["log_prints"]
        self.hooks: dict[str, list[Hook]] = {
            option: self._checked_hooks(option, value)
            for option, value in self._options.items()
            if option in self.HOOKS
        }
        self.is_async = _is_async(fn)
        self.is_generator = inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn)
        self.__name__ = _name_of(fn)
        self.__qualname__ = getattr(fn, "__qualname__", self.__name__)
        self.__doc__ = fn.__doc__
        self.__module__ = getattr(fn, "__module__", type(fn).__module__)
        self.__wrapped__ = fn

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def __getattr__(self, name: str) -> Any:
        """An option as it was given, under its name."""
        options = self.__dict__.get("_options", {})
        if name not in options:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return options[name]

    def checked_run_name(self, option: str, template: Any) -> str | Callable[..., str] | None:
        """A template or a function for the names of runs."""
        if template is not None and not isinstance(template, str) and not callable(template):
            raise OptionError(
                f"{self.WORD} {self.name!r}: {option} must be a text with {{parameters}} or a function that makes one, "
                f"not {template!r}"
            )
        named: str | Callable[..., str] | None = template
        return named

    def run_name_by(self, template: Callable[..., str], parameters: dict[str, Any]) -> str:
        """What a naming function says; it may have a parameter of the name ``parameters``, or ask ``runtime``."""
        taken = inspect.signature(template).parameters
        wants = "parameters" in taken
        takes_all = any(one.kind is one.VAR_KEYWORD for one in taken.values())  # Prefect 1's
        known = {f"{self.WORD}_name": self.name, "parameters": dict(parameters)}
        token = context.naming.set((f"{self.WORD}_run", known))
        try:
            given = {"parameters": dict(parameters)} if wants else parameters if takes_all else {}
            return storable(template(**given))
        finally:
            context.naming.reset(token)

    def _checked_timeout(self, seconds: Any) -> float | None:
        if seconds is None:
            return None
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
            raise OptionError(f"{self.WORD} {self.name!r}: timeout_seconds must be more than 0, not {seconds!r}")
        return float(seconds)

    def _checked_hooks(self, event: str, hooks: Any) -> list[Hook]:
        if hooks is None:
            return []
        if callable(hooks) or not isinstance(hooks, Iterable):
            raise OptionError(f"{self.WORD} {self.name!r}: {event} takes a list of functions, not {hooks!r}")
        listed = list(hooks)
        for hook in listed:
            if not callable(hook):
                raise OptionError(
                    f"{self.WORD} {self.name!r}: each of {event} must be a function (subject, run, state), not {hook!r}"
                )
        return listed

    def bound_function(self, instance: Any, owner: type | None) -> Any:
        """The function as a method of what it was reached through; None when nothing is passed first."""
        if self.binds_to == "nothing" or not hasattr(self.fn, "__get__"):
            return None
        if self.binds_to == "class":
            return self.fn.__get__(owner if owner is not None else type(instance))
        return self.fn.__get__(instance, owner) if instance is not None else None

    @property
    def has_hooks(self) -> bool:
        """Whether anything is called at an ending."""
        return any(self.hooks.values())

    def hooks_for(self, state: State) -> list[Hook]:
        """What to call when a run ended so."""
        event = self.HOOK_OF_TYPE.get(state.type)
        return self.hooks[event] if event is not None else []

    def options_for_copy(self, changed: dict[str, Any]) -> dict[str, Any]:
        """All options for a copy with some of them changed; raises ``UsageError`` for one that there is not."""
        check_options(f"{self.WORD} {self.name!r}", changed, self._options)
        return {**self._options, **self.hooks, "name": self.name, **changed}

    def _add_hook(self, event: str, hook: Hook) -> Hook:
        self.hooks[event] += self._checked_hooks(event, [hook])
        return hook


def option_names(kind: type) -> frozenset[str]:
    """The options that the class takes beside the function."""
    return frozenset(inspect.signature(vars(kind)["__init__"]).parameters) - _NOT_OPTIONS


def _name_of(fn: Any) -> str:
    """The function's name; of a partial, its function's; of an object that can be called, its class's."""
    name = getattr(fn, "__name__", None)
    if not isinstance(name, str) and (inner := getattr(fn, "func", None)) is not None:
        return _name_of(inner)
    return name if isinstance(name, str) else type(fn).__name__


def _is_async(fn: Any) -> bool:
    """Whether calling it gives something to await or to iterate asynchronously."""
    if inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn):
        return True
    call = getattr(type(fn), "__call__", None)  # noqa: B004 - the class's own, of an object that can be called
    return not inspect.isroutine(fn) and (inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call))
